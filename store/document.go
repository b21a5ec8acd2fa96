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
	Images    string    `bun:"images"`
	CreatedAt time.Time `bun:"created_at"`
}

// JobRecord holds what a party fixes of a job at the job's creation: its document, and what was registered
// of the document's components. Nothing that is registered later changes the job.
type JobRecord struct {
	Document *bfia.Document
	Registry *Registry
	// Images holds the ids of images that were not resolved at the job's creation, by reference and by the
	// runner that has resolved it since; see [Store.FixImage].
	Images map[string]map[string]string
}

// PutJobRecord stores the record of a job: its document, byte for byte, and the providers of its components.
// Only [Store.FixImage] changes a record. With the same document PutJobRecord does nothing, with another one
// it returns CodeConflict. If the job is recorded with other providers, which happens when they are
// registered again between two requests, it returns CodeUnavailable.
func (s *Store) PutJobRecord(ctx context.Context, jobID string, doc []byte, registry *Registry) error {
	row, err := newDocument(jobID, doc, registry)
	if err != nil {
		return err
	}
	return s.putRecord(ctx, s.tx, row, nil, nil)
}

// PutProjectJobRecord stores the record of a new job as [Store.PutJobRecord] does, and in the same
// transaction to which project the job belongs. It returns CodeConflict if the job exists in another one.
func (s *Store) PutProjectJobRecord(ctx context.Context, jobID string, doc []byte, registry *Registry,
	project string) error {
	row, err := newDocument(jobID, doc, registry)
	if err != nil {
		return err
	}
	return s.putRecord(ctx, s.tx, row, s.assignIn(jobID, project), nil)
}

// assignIn returns the part of a transaction that records the project of a job which a partner creates. The
// partner gets no project's name as the reason of a refusal.
func (s *Store) assignIn(jobID, project string) func(context.Context, bun.Tx) error {
	return func(ctx context.Context, tx bun.Tx) error {
		err := s.assignJob(ctx, tx, jobID, project, time.Now())
		if bfia.CodeOf(err) == bfia.CodeNotFound { // the project was removed meanwhile
			return bfia.Wrap(bfia.CodeUnavailable, err,
				"job_id: job %q can't be created now; try again later", jobID)
		}
		return err
	}
}

func newDocument(jobID string, doc []byte, registry *Registry) (document, error) {
	if doc == nil {
		doc = []byte{}
	}
	providers, err := json.Marshal(registry.providers)
	if err != nil {
		err = fmt.Errorf("store: failed to encode the providers of job %s: %w", jobID, err)
	}
	return document{JobID: jobID, Document: doc, Providers: providers}, err
}

// putRecord stores a record in a transaction that begin runs. first and claim, unless they are nil, run in it
// before and after the record is stored, and may refuse.
func (s *Store) putRecord(ctx context.Context, begin func(context.Context,
	func(context.Context, bun.Tx) error) error, row document, first, claim func(ctx context.Context,
	tx bun.Tx) error) error {
	if err := checkText("job_id", row.JobID); err != nil {
		return err
	}
	// Before the project of the job is recorded: see unassignUnusedJob.
	row.CreatedAt, row.Images = normalizeTime(time.Now()), "{}"
	return wrap(begin(ctx, func(ctx context.Context, tx bun.Tx) error {
		if first != nil {
			if err := first(ctx, tx); err != nil {
				return err
			}
		}
		if err := insertRecord(ctx, tx, row); err != nil || claim == nil {
			return err
		}
		return claim(ctx, tx)
	}), "store the document of job %s", row.JobID)
}

// insertRecord stores a record, or checks that the stored one is equal.
func insertRecord(ctx context.Context, tx bun.Tx, row document) error {
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
}

// FixImage fixes the ids of an image that nobody had resolved when a job was created, for the whole job: all
// its containers with this reference run them, whatever the reference names later. The first call records
// them, and all calls return them, by runner. They are the ids to which the provider has been resolved since,
// or else the given one, of which the provider then takes note too. An empty id records nothing.
func (s *Store) FixImage(ctx context.Context, jobID string, p Provider, ref, runnerID, id string,
) (map[string]string, error) {
	if err := checkText("image", ref, "runner_id", runnerID, "image id", id); err != nil {
		return nil, err
	}
	var fixed map[string]string
	err := s.tx(ctx, func(ctx context.Context, tx bun.Tx) error {
		// The update locks the row: runners resolve at the same time.
		if _, err := tx.NewUpdate().Model((*document)(nil)).Set("images = images").
			Where("job_id = ?", jobID).Exec(ctx); err != nil {
			return err
		}
		var row document
		if err := selectOne(ctx, tx.NewSelect().Where("job_id = ?", jobID), &row,
			"job_id: the document of job %q", jobID); err != nil {
			return err
		}
		images, err := row.images()
		if err != nil {
			return err
		}
		if fixed = images[ref]; len(fixed) > 0 {
			return nil
		}
		if fixed, err = resolveIfNobodyHas(ctx, tx, p, ref, runnerID, id); err != nil || len(fixed) == 0 {
			return err
		}
		images[ref] = fixed
		_, err = tx.NewUpdate().Model((*document)(nil)).Set("images = ?", encode(images)).
			Where("job_id = ?", jobID).Exec(ctx)
		return err
	})
	return fixed, wrap(err, "record the id of image %s in job %s", ref, jobID)
}

// resolveIfNobodyHas returns the ids of a provider's image, by runner. If it has none, it gets the given one.
func resolveIfNobodyHas(ctx context.Context, tx bun.Tx, p Provider, ref, runnerID, id string,
) (map[string]string, error) {
	row, found, err := lockProvider(ctx, tx, p)
	if err != nil {
		return nil, err
	}
	if ids := row.Images[ref]; len(ids) > 0 {
		return ids, nil
	}
	if id == "" {
		return nil, nil
	}
	if found {
		if err := row.resolve(ctx, tx, runnerID, map[string]string{ref: id}); err != nil {
			return nil, err
		}
	}
	return map[string]string{runnerID: id}, nil
}

// images decodes the column of that name.
func (d document) images() (map[string]map[string]string, error) {
	images := map[string]map[string]string{}
	if err := json.Unmarshal([]byte(d.Images), &images); err != nil {
		return nil, fmt.Errorf("store: failed to decode the images of job %s: %w", d.JobID, err)
	}
	return images, nil
}

// Document returns the document of a job, byte for byte, or CodeNotFound if there is none.
func (s *Store) Document(ctx context.Context, jobID string) ([]byte, error) {
	row, err := s.documentRow(ctx, jobID)
	return row.Document, err
}

func (s *Store) documentRow(ctx context.Context, jobID string) (document, error) {
	var row document
	err := selectOne(ctx, jobsOf(ctx, "d.job_id").addTo(s.r.NewSelect().Where("job_id = ?", jobID)), &row,
		"job_id: the document of job %q", jobID)
	return row, err
}

// DeleteDocument deletes the document of a job; there may be none.
func (s *Store) DeleteDocument(ctx context.Context, jobID string) error {
	_, err := s.w.NewDelete().Model((*document)(nil)).Where("job_id = ?", jobID).Exec(ctx)
	return wrap(err, "delete the document of job %s", jobID)
}

// DeleteUnusedDocument deletes the document of a job that this party neither schedules nor takes part in.
func (s *Store) DeleteUnusedDocument(ctx context.Context, jobID string) error {
	_, err := s.deleteUnusedDocument(ctx, jobID)
	return err
}

func (s *Store) deleteUnusedDocument(ctx context.Context, jobID string) (deleted bool, err error) {
	err = s.tx(ctx, func(ctx context.Context, tx bun.Tx) error {
		if _, _, err := s.lockJobProject(ctx, tx, jobID); err != nil {
			return err
		}
		var found []document
		if err := tx.NewSelect().Model(&found).Column("created_at").Where("job_id = ?", jobID).
			Scan(ctx); err != nil || len(found) == 0 {
			return err
		}
		n, err := affected(tx.NewDelete().Model((*document)(nil)).Where("job_id = ?", jobID).
			Where("NOT EXISTS (SELECT 1 FROM t_job WHERE job_id = ?)", jobID).
			Where("NOT EXISTS (SELECT 1 FROM t_schedule_job WHERE job_id = ?)", jobID).Exec(ctx))
		if deleted = n > 0; err != nil || !deleted {
			return err
		}
		return unassignUnusedJob(ctx, tx, jobID, found[0].CreatedAt)
	})
	return deleted && err == nil, wrap(err, "delete the unused document of job %s", jobID)
}
