package store

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	"hutong/bfia"
)

type document struct {
	bun.BaseModel `bun:"table:t_job_document,alias:d"`

	JobID     string    `bun:"job_id,pk"`
	Document  []byte    `bun:"document"`
	Providers []byte    `bun:"providers"`
	CreatedAt time.Time `bun:"created_at"`
}

// JobRecord holds what a party fixes of a job at the job's creation: its document, and what was registered
// of the document's components. Nothing that is registered later changes the job.
type JobRecord struct {
	Document *bfia.Document
	Registry *Registry
}

// PutJobRecord stores the record of a job: its document, byte for byte, and the providers of its components.
// A record never changes. With the same document PutJobRecord does nothing, with another one it returns
// CodeConflict. If the job is recorded with other providers, which happens when they are registered again
// between two requests, it returns CodeUnavailable.
func (s *Store) PutJobRecord(ctx context.Context, jobID string, doc []byte, registry *Registry) error {
	if doc == nil {
		doc = []byte{}
	}
	providers, err := json.Marshal(registry.providers)
	if err != nil {
		return fmt.Errorf("store: failed to encode the providers of job %s: %w", jobID, err)
	}
	return s.putRecord(ctx, document{JobID: jobID, Document: doc, Providers: providers})
}

func (s *Store) putRecord(ctx context.Context, row document) error {
	if err := checkText("job_id", row.JobID); err != nil {
		return err
	}
	row.CreatedAt = normalizeTime(time.Now())
	return wrap(s.tx(ctx, func(ctx context.Context, tx bun.Tx) error {
		n, err := affected(tx.NewInsert().Model(&row).On("CONFLICT (job_id) DO NOTHING").Exec(ctx))
		if err != nil || n == 1 {
			return err
		}
		var kept document
		if err := selectOne(ctx, tx.NewSelect().
			Where("job_id = ?", row.JobID), &kept, "job_id: the document of job %q", row.JobID); err != nil {
			return err
		}
		switch {
		case !bytes.Equal(kept.Document, row.Document):
			return bfia.Errorf(bfia.CodeConflict, "job_id: job %q already exists with another document",
				row.JobID)
		case !bytes.Equal(kept.Providers, row.Providers):
			return bfia.Errorf(bfia.CodeUnavailable,
				"job_id: the providers of job %q were registered again while it was created; try again",
				row.JobID)
		}
		return nil
	}), "store the document of job %s", row.JobID)
}

// Document returns the document of a job, byte for byte, or CodeNotFound if there is none.
func (s *Store) Document(ctx context.Context, jobID string) ([]byte, error) {
	row, err := s.documentRow(ctx, jobID)
	return row.Document, err
}

func (s *Store) documentRow(ctx context.Context, jobID string) (document, error) {
	var row document
	err := selectOne(ctx, s.r.NewSelect().Where("job_id = ?", jobID), &row, "job_id: the document of job %q",
		jobID)
	return row, err
}

// DeleteDocument deletes the document of a job; there may be none.
func (s *Store) DeleteDocument(ctx context.Context, jobID string) error {
	_, err := s.w.NewDelete().Model((*document)(nil)).Where("job_id = ?", jobID).Exec(ctx)
	return wrap(err, "delete the document of job %s", jobID)
}

// DeleteUnusedDocument deletes the document of a job that this party neither schedules nor takes part in.
func (s *Store) DeleteUnusedDocument(ctx context.Context, jobID string) error {
	_, err := s.w.NewDelete().Model((*document)(nil)).Where("job_id = ?", jobID).
		Where("NOT EXISTS (SELECT 1 FROM t_job WHERE job_id = ?)", jobID).
		Where("NOT EXISTS (SELECT 1 FROM t_schedule_job WHERE job_id = ?)", jobID).Exec(ctx)
	return wrap(err, "delete the unused document of job %s", jobID)
}
