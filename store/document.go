package store

import (
	"bytes"
	"context"
	"time"

	"github.com/uptrace/bun"

	"hutong/bfia"
)

type document struct {
	bun.BaseModel `bun:"table:t_job_document,alias:d"`

	JobID     string    `bun:"job_id,pk"`
	Document  []byte    `bun:"document"`
	CreatedAt time.Time `bun:"created_at"`
}

// PutDocument stores the document of a job (its DAG and configuration), byte for byte. A document
// never changes: PutDocument ignores the same bytes, and returns CodeConflict for others.
func (s *Store) PutDocument(ctx context.Context, jobID string, doc []byte) error {
	if err := checkText("job_id", jobID); err != nil {
		return err
	}
	if doc == nil {
		doc = []byte{}
	}
	row := document{JobID: jobID, Document: doc, CreatedAt: normalizeTime(time.Now())}
	return wrap(s.tx(ctx, func(ctx context.Context, tx bun.Tx) error {
		n, err := affected(tx.NewInsert().Model(&row).On("CONFLICT (job_id) DO NOTHING").Exec(ctx))
		if err != nil || n == 1 {
			return err
		}
		var kept document
		if err := selectOne(ctx, tx.NewSelect().
			Where("job_id = ?", jobID), &kept, "job_id: the document of job %q", jobID); err != nil {
			return err
		}
		if !bytes.Equal(kept.Document, doc) {
			return bfia.Errorf(bfia.CodeConflict, "job_id: job %q already exists with another document",
				jobID)
		}
		return nil
	}), "store the document of job %s", jobID)
}

// Document returns the document of a job, byte for byte, or CodeNotFound if there is none.
func (s *Store) Document(ctx context.Context, jobID string) ([]byte, error) {
	var row document
	err := selectOne(ctx, s.r.NewSelect().Where("job_id = ?", jobID), &row, "job_id: the document of job %q",
		jobID)
	return row.Document, err
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
