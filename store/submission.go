package store

import (
	"context"
	"time"

	"github.com/uptrace/bun"
)

// submission is a job that a client of this party has submitted.
type submission struct {
	bun.BaseModel `bun:"table:t_submission,alias:s"`

	JobID     string    `bun:"job_id,pk"`
	Digest    string    `bun:"digest,pk"` // [bfia.Document.SubmissionDigest]
	CreatedAt time.Time `bun:"created_at"`
}

// AddSubmission records what a client of this party submits, before the job leaves it, and to which project
// the job belongs. added is false if it is recorded already. It returns CodeConflict if the job exists in
// another project.
func (s *Store) AddSubmission(ctx context.Context, jobID, digest, project string) (added bool, err error) {
	if err := checkText("job_id", jobID, "digest", digest, "project", project); err != nil {
		return false, err
	}
	row := submission{JobID: jobID, Digest: digest, CreatedAt: normalizeTime(time.Now())}
	err = s.tx(ctx, func(ctx context.Context, tx bun.Tx) error {
		if err := s.assignJob(ctx, tx, jobID, project, row.CreatedAt); err != nil {
			return err
		}
		n, err := affected(tx.NewInsert().Model(&row).On("CONFLICT (job_id, digest) DO NOTHING").Exec(ctx))
		added = n > 0
		return err
	})
	return added && err == nil, wrap(err, "record the submission of job %s", jobID)
}

// IsSubmission reports whether a client of this party has submitted a job with this content.
func (s *Store) IsSubmission(ctx context.Context, jobID, digest string) (bool, error) {
	if err := checkText("job_id", jobID, "digest", digest); err != nil {
		return false, err
	}
	found, err := s.w.NewSelect().Model((*submission)(nil)).
		Where("job_id = ? AND digest = ?", jobID, digest).Exists(ctx)
	return found, wrap(err, "read the submission of job %s", jobID)
}

// DeleteSubmission deletes the record of a submission that was refused, and the project of a job that was
// not created.
func (s *Store) DeleteSubmission(ctx context.Context, jobID, digest string) error {
	return wrap(s.tx(ctx, func(ctx context.Context, tx bun.Tx) error {
		if _, _, err := s.lockJobProject(ctx, tx, jobID); err != nil {
			return err
		}
		var found []submission
		if err := tx.NewSelect().Model(&found).Where("job_id = ? AND digest = ?", jobID, digest).
			Scan(ctx); err != nil || len(found) == 0 {
			return err
		}
		if _, err := tx.NewDelete().Model(&found[0]).WherePK().Exec(ctx); err != nil {
			return err
		}
		return unassignUnusedJob(ctx, tx, jobID, found[0].CreatedAt)
	}), "delete the submission of job %s", jobID)
}

// RemoveUnusedSubmissions deletes the records of submissions before a time whose jobs were not created, and
// returns how many.
func (s *Store) RemoveUnusedSubmissions(ctx context.Context, before time.Time) (int, error) {
	const unused = `NOT EXISTS (SELECT 1 FROM t_job AS j WHERE j.job_id = s.job_id)
		AND NOT EXISTS (SELECT 1 FROM t_schedule_job AS j WHERE j.job_id = s.job_id)`
	var rows []submission
	if err := s.r.NewSelect().Model(&rows).Where("created_at < ?", normalizeTime(before)).Where(unused).
		Scan(ctx); err != nil {
		return 0, wrap(err, "list the submissions of jobs that were not created")
	}
	removed := 0
	for i := range rows { // one by one, with the projects of their jobs
		n := 0
		err := s.tx(ctx, func(ctx context.Context, tx bun.Tx) (err error) {
			if _, _, err := s.lockJobProject(ctx, tx, rows[i].JobID); err != nil {
				return err
			}
			n, err = affected(tx.NewDelete().Model(&rows[i]).WherePK().Where(unused).Exec(ctx))
			if err != nil || n == 0 {
				return err
			}
			return unassignUnusedJob(ctx, tx, rows[i].JobID, rows[i].CreatedAt)
		})
		if err != nil {
			return removed, wrap(err, "remove the submission of job %s", rows[i].JobID)
		}
		removed += n
	}
	return removed, nil
}
