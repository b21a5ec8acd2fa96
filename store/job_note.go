package store

import (
	"context"
	"time"

	"github.com/uptrace/bun"

	"hutong/bfia"
)

// jobNote is what a user of this party noted on a job.
type jobNote struct {
	bun.BaseModel `bun:"table:t_job_note,alias:n"`

	JobID     string    `bun:"job_id,pk"`
	Note      string    `bun:"note"`
	UpdatedAt time.Time `bun:"updated_at"`
}

// PutJobNote replaces the note on a job. It returns CodeNotFound if this party does not take part in the job.
func (s *Store) PutJobNote(ctx context.Context, jobID, note string) error {
	if err := checkText("job_id", jobID, "notes", note); err != nil {
		return err
	}
	row := jobNote{JobID: jobID, Note: note, UpdatedAt: normalizeTime(time.Now())}
	return wrap(s.actTx(ctx, func(ctx context.Context, tx bun.Tx) error {
		known, err := jobsOf(ctx, "j.job_id").addTo(tx.NewSelect().Model((*Job)(nil))).
			Where("job_id = ?", jobID).Exists(ctx)
		if err != nil {
			return err
		}
		if !known {
			return bfia.Errorf(bfia.CodeNotFound, "job_id: job %q is not known", jobID)
		}
		_, err = tx.NewInsert().Model(&row).On("CONFLICT (job_id) DO UPDATE").
			Set("note = EXCLUDED.note, updated_at = EXCLUDED.updated_at").Exec(ctx)
		return err
	}), "note something on job %s", jobID)
}

// JobNotes returns the notes on jobs, by job id.
func (s *Store) JobNotes(ctx context.Context, jobIDs []string) (map[string]string, error) {
	notes := map[string]string{}
	if len(jobIDs) == 0 {
		return notes, nil
	}
	var rows []jobNote
	if err := s.r.NewSelect().Model(&rows).Where("job_id IN (?)", bun.List(jobIDs)).Scan(ctx); err != nil {
		return nil, wrap(err, "read the notes on jobs")
	}
	for _, row := range rows {
		notes[row.JobID] = row.Note
	}
	return notes, nil
}
