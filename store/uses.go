package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"hutong/bfia"
)

// JobUse is a job that uses a dataset or a provider.
type JobUse struct {
	JobID     string        `bun:"job_id" json:"job_id"`
	FlowID    string        `bun:"flow_id" json:"flow_id"`
	State     bfia.JobState `bun:"state" json:"state"`
	CreatedAt time.Time     `bun:"created_at" json:"created_at"`
	EndedAt   *time.Time    `bun:"ended_at" json:"ended_at,omitempty"`
}

// maxUses bounds the jobs that a list of uses names. Unfinished ones come first, then newer ones.
const maxUses = 20

// DescribeUses lists jobs for a message.
func DescribeUses(uses []JobUse) string {
	var ids []string
	for _, u := range uses[:min(len(uses), 5)] {
		ids = append(ids, fmt.Sprintf("%s (%s)", u.JobID, u.State))
	}
	text := "job " + strings.Join(ids, ", ")
	switch {
	case len(uses) >= maxUses:
		text += " and more"
	case len(uses) > len(ids):
		text += fmt.Sprintf(" and %d more", len(uses)-len(ids))
	}
	return text
}

// describeUses lists jobs for a message to somebody who may not know all of their projects.
func describeUses(ctx context.Context, db bun.IDB, uses []JobUse) (string, error) {
	if _, all := ProjectsOf(ctx); all {
		return DescribeUses(uses), nil
	}
	var ids, known []string
	for _, u := range uses {
		ids = append(ids, u.JobID)
	}
	if err := jobsOf(ctx, "u.job_id").addTo(db.NewSelect().TableExpr("t_job_project AS u")).
		Column("u.job_id").Where("u.job_id IN (?)", bun.List(ids)).Scan(ctx, &known); err != nil {
		return "", err
	}
	shown := slices.DeleteFunc(slices.Clone(uses),
		func(u JobUse) bool { return !slices.Contains(known, u.JobID) })
	switch {
	case len(shown) == 0:
		return "jobs that you can't see", nil
	case len(shown) < len(uses):
		return DescribeUses(shown) + " and jobs that you can't see", nil
	}
	return DescribeUses(shown), nil
}

// JobsWithDataset returns the jobs that read any generation of a dataset: the unfinished and recent ones.
func (s *Store) JobsWithDataset(ctx context.Context, namespace, name string) ([]JobUse, error) {
	if err := checkText("namespace", namespace, "name", name); err != nil {
		return nil, err
	}
	uses, err := jobsWithDataset(ctx, s.r, namespace, name, false)
	return uses, wrap(err, "find the jobs that read dataset %s#%s", namespace, name)
}

func jobsWithDataset(ctx context.Context, db bun.IDB, namespace, name string, unfinished bool) ([]JobUse,
	error) {
	return jobUses(ctx, db, "t_job", unfinished,
		"EXISTS (SELECT 1 FROM t_task AS t WHERE t.job_id = j.job_id AND t.dataset = ?)",
		bfia.Address{Namespace: namespace, Name: name}.String())
}

// JobsWithProvider returns the jobs, scheduled here or run here, that use a provider which the filter
// matches: the unfinished and recent ones. A job uses its provider's version on any device.
func (s *Store) JobsWithProvider(ctx context.Context, f ProviderFilter) ([]JobUse, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	uses, err := jobsWithProvider(ctx, s.r, f, false)
	return uses, wrap(err, "find the jobs that use provider %s", f.Name)
}

func jobsWithProvider(ctx context.Context, db bun.IDB, f ProviderFilter, unfinished bool) ([]JobUse, error) {
	all := []JobUse{}
	for _, tables := range [][2]string{{"t_job", "t_task"}, {"t_schedule_job", "t_schedule_task"}} {
		where, args := "EXISTS (SELECT 1 FROM "+tables[1]+" AS t WHERE t.job_id = j.job_id", []any{}
		if f.Name != "" {
			where, args = where+" AND t.provider = ?", append(args, f.Name)
		}
		if f.Version != "" {
			where, args = where+" AND t.version = ?", append(args, f.Version)
		}
		uses, err := jobUses(ctx, db, tables[0], unfinished, where+")", args...)
		if err != nil {
			return nil, err
		}
		for _, u := range uses {
			if !slices.ContainsFunc(all, func(known JobUse) bool { return known.JobID == u.JobID }) {
				all = append(all, u)
			}
		}
	}
	slices.SortFunc(all, func(a, b JobUse) int {
		if a.State.Terminal() != b.State.Terminal() {
			if b.State.Terminal() {
				return -1
			}
			return 1
		}
		return b.CreatedAt.Compare(a.CreatedAt)
	})
	return all[:min(len(all), maxUses)], nil
}

// jobUses returns the jobs of a table that a condition selects, unfinished ones first and then newer ones.
// The table has the alias j.
func jobUses(ctx context.Context, db bun.IDB, table string, unfinished bool, where string, args ...any,
) ([]JobUse, error) {
	uses := []JobUse{}
	// Nearly all jobs have ended, so the index by state must not select these: an expression keeps it out.
	for _, of := range []struct {
		state string
		in    []bfia.JobState
	}{{"j.state", openJobs}, {"j.state || ''", terminalJobs}} {
		if len(uses) >= maxUses {
			break
		}
		var found []JobUse
		if err := ofJobRows(ctx, db.NewSelect().TableExpr("? AS j", bun.Ident(table))).
			ColumnExpr("j.job_id, j.flow_id, j.state, j.created_at, j.ended_at").
			Where(where, args...).Where(of.state+" IN (?)", bun.List(of.in)).
			OrderExpr("j.created_at DESC, j.job_id DESC").Limit(maxUses-len(uses)).
			Scan(ctx, &found); err != nil {
			return nil, err
		}
		uses = append(uses, found...)
		if unfinished {
			break
		}
	}
	for i := range uses {
		normalizeTimes(&uses[i].CreatedAt, uses[i].EndedAt)
	}
	return uses, nil
}
