package restore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"

	"hutong/activities/housekeeping"
	"hutong/store"
	"hutong/store/blob"
	"hutong/workflows"
)

// Services are what a party stores its state in.
type Services struct {
	Node     string
	Store    *store.Store
	Blobs    blob.Store
	Temporal client.Client
	// Namespace is the party's namespace in Temporal.
	Namespace string
	// Converter decodes what the party stores in Temporal; nil for the default.
	Converter converter.DataConverter
	// Several is set if the party may have several transports. Transport is the host:port of the only one
	// otherwise. At the end of a restore none may run.
	Several   bool
	Transport string
	Logger    *slog.Logger
}

// Marks are the restore marks of a party's services.
type Marks struct {
	Database   store.RestoreMark
	Deployment string // the id of the database
	Storage    housekeeping.StorageMark
	Temporal   workflows.RestoreMark
	// InTemporal reports whether Temporal has a mark at all.
	InTemporal bool
}

// Highest returns the highest mark.
func (m Marks) Highest() int64 { return max(m.Database.Number, m.Storage.Number, m.Temporal.Number) }

// Problems returns which services were restored, or nil if the marks agree.
func (m Marks) Problems() []string {
	var found []string
	add := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	d := m.Database.Number
	when := ""
	if d > 0 {
		when = " of " + m.Database.MarkedAt.Format(time.RFC3339)
	}
	switch t := m.Temporal.Number; {
	case !m.InTemporal && d > 0:
		add("Temporal has lost the party's workflows: the database has mark %d%s, Temporal has none", d, when)
	case !m.InTemporal:
	case m.Temporal.Deployment != m.Deployment:
		add("the database is not the one that the workflows in Temporal belong to: its id is %s, theirs is %s",
			m.Deployment, m.Temporal.Deployment)
	case t < d:
		add("Temporal is older than the database: it has mark %d, the database has %d%s", t, d, when)
	case t > d+1:
		add("the database is older than Temporal: it has mark %d%s, Temporal has %d", d, when, t)
	}
	switch s := m.Storage.Number; {
	case s == 0 && d > 1:
		add("the storage was lost: it has no mark, the database has %d%s", d, when)
	case s < d:
		add("the storage is older than the database: it has mark %d, the database has %d%s", s, d, when)
	case s > d+1:
		add("the database is older than the storage: it has mark %d%s, the storage has %d of %s", d, when, s,
			m.Storage.MarkedAt.UTC().Format(time.RFC3339))
	}
	return found
}

// readTries bounds the tries to read marks that do not change meanwhile.
const readTries = 5

// Marks reads the restore marks. The party may run and count meanwhile.
func (s *Services) Marks(ctx context.Context) (m Marks, err error) {
	if m.Deployment, err = s.Store.DeploymentID(ctx); err != nil {
		return m, err
	}
	for range readTries {
		if m.Database, err = s.Store.RestoreMark(ctx); err != nil {
			return m, err
		}
		if m.Temporal, m.InTemporal, err = s.temporalMark(ctx); err != nil {
			return m, err
		}
		if m.Storage, err = housekeeping.ReadStorageMark(ctx, s.Blobs, m.Deployment); err != nil {
			return m, err
		}
		after, err := s.Store.RestoreMark(ctx)
		if err != nil {
			return m, err
		}
		if after.Number == m.Database.Number {
			return m, nil
		}
	}
	return m, errors.New("failed to compare the restore marks: they change all the time; try again")
}

// temporalMark returns the mark in Temporal, and whether there is one.
func (s *Services) temporalMark(ctx context.Context) (mark workflows.RestoreMark, found bool, err error) {
	described, err := s.Temporal.DescribeWorkflowExecution(ctx, workflows.RestoreMarkID, "")
	var missing *serviceerror.NotFound
	if errors.As(err, &missing) {
		return mark, false, nil
	}
	if err != nil {
		return mark, false, fmt.Errorf("failed to read the restore mark in Temporal: %w", err)
	}
	field := described.GetWorkflowExecutionInfo().GetMemo().GetFields()[workflows.RestoreMarkMemo]
	if field == nil {
		return mark, false, fmt.Errorf("failed to read the restore mark in Temporal: the memo of workflow %s "+
			"lacks the field %s", workflows.RestoreMarkID, workflows.RestoreMarkMemo)
	}
	if err := s.converter().FromPayload(field, &mark); err != nil {
		return mark, false, fmt.Errorf("failed to read the restore mark in Temporal: %w", err)
	}
	return mark, true, nil
}

func (s *Services) converter() converter.DataConverter {
	if s.Converter != nil {
		return s.Converter
	}
	return converter.GetDefaultDataConverter()
}
