package store

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/uptrace/bun"

	"hutong/bfia"
	"hutong/internal/identity"
)

// PeriodicJob is the row of a periodic job. Its workflow writes it.
type PeriodicJob struct {
	bun.BaseModel `bun:"table:t_periodic_job,alias:pj" json:"-"`

	PeriodicID string             `bun:"periodic_id,pk"`
	Name       string             `bun:"name"`
	Project    string             `bun:"project"` // of its jobs; it never changes
	Revision   int                `bun:"revision"`
	Recurrence bfia.Recurrence    `bun:"recurrence"`
	State      bfia.PeriodicState `bun:"state"`
	Reason     string             `bun:"reason"`
	// Version orders the writes: a later one has a greater version.
	Version   int64      `bun:"version"`
	AfterAt   time.Time  `bun:"after_at"`
	NextAt    *time.Time `bun:"next_at"`
	Submitted int        `bun:"submitted"`
	Failures  int        `bun:"failures"`
	CreatedAt time.Time  `bun:"created_at"`
	UpdatedAt time.Time  `bun:"updated_at"`
}

// PeriodicOwner is the client in whose name a periodic job submits its jobs.
type PeriodicOwner struct {
	Name       string          `json:"name"`
	Proof      identity.Proof  `json:"proof"`
	Credential string          `json:"credential"`
	Roles      []identity.Role `json:"roles"`
}

// PeriodicDocument is a revision of what a periodic job submits.
type PeriodicDocument struct {
	bun.BaseModel `bun:"table:t_periodic_document,alias:pd" json:"-"`

	PeriodicID string        `bun:"periodic_id,pk"`
	Revision   int           `bun:"revision,pk"`
	Document   []byte        `bun:"document"`
	Owner      PeriodicOwner `bun:"owner"`
	ProvedAt   time.Time     `bun:"proved_at"`
	CreatedAt  time.Time     `bun:"created_at"`
}

// PeriodicRun is the row of a run of a periodic job.
type PeriodicRun struct {
	bun.BaseModel `bun:"table:t_periodic_run,alias:pr" json:"-"`

	PeriodicID  string               `bun:"periodic_id,pk"`
	ScheduledAt time.Time            `bun:"scheduled_at,pk"`
	Manual      bool                 `bun:"manual,pk"`
	Revision    int                  `bun:"revision"`
	JobID       string               `bun:"job_id"`
	Accepted    bool                 `bun:"accepted"`
	Outcome     bfia.PeriodicOutcome `bun:"outcome"`
	Reason      string               `bun:"reason"`
	Count       int                  `bun:"count"`
	EndedAt     *time.Time           `bun:"ended_at"`
}

var (
	_ bun.AfterScanRowHook = (*PeriodicJob)(nil)
	_ bun.AfterScanRowHook = (*PeriodicDocument)(nil)
	_ bun.AfterScanRowHook = (*PeriodicRun)(nil)
)

// AfterScanRow normalizes the times.
func (j *PeriodicJob) AfterScanRow(context.Context) error {
	normalizeTimes(&j.AfterAt, j.NextAt, &j.CreatedAt, &j.UpdatedAt, j.Recurrence.EndsAt)
	return nil
}

// AfterScanRow normalizes the times.
func (d *PeriodicDocument) AfterScanRow(context.Context) error {
	normalizeTimes(&d.ProvedAt, &d.CreatedAt)
	return nil
}

// AfterScanRow normalizes the times.
func (r *PeriodicRun) AfterScanRow(context.Context) error {
	normalizeTimes(&r.ScheduledAt, r.EndedAt)
	return nil
}

// keepPeriodicRuns is how many runs of a periodic job are kept.
const keepPeriodicRuns = 1000

// AddPeriodicJob records a new periodic job with its document, and the entry of the pending act. It returns
// CodeConflict if the name exists.
func (s *Store) AddPeriodicJob(ctx context.Context, job PeriodicJob, doc PeriodicDocument) error {
	if err := checkText("name", job.Name); err != nil {
		return err
	}
	job.CreatedAt = timeOrNow(job.CreatedAt)
	job.Revision, job.Version, job.UpdatedAt = 1, 0, job.CreatedAt
	job.AfterAt, job.NextAt = timeOrNow(job.AfterAt), normalized(job.NextAt)
	if job.State == "" {
		job.State = bfia.PeriodicActive
	}
	job.Project = cmp.Or(job.Project, identity.DefaultProject)
	doc.PeriodicID, doc.Revision = job.PeriodicID, 1
	doc.CreatedAt, doc.ProvedAt = job.CreatedAt, timeOrNow(doc.ProvedAt)
	err := s.actTx(ctx, func(ctx context.Context, tx bun.Tx) error {
		if err := s.holdProject(ctx, tx, job.Project); err != nil {
			return err
		}
		if _, err := tx.NewInsert().Model(&job).Exec(ctx); err != nil {
			return err
		}
		_, err := tx.NewInsert().Model(&doc).Exec(ctx)
		return err
	})
	if isDuplicate(err) {
		err = bfia.Wrap(bfia.CodeConflict, err, "name: the periodic job %q exists already; change it, or "+
			"choose another name", job.Name)
	}
	return wrap(err, "add the periodic job %s", job.Name)
}

// AddPeriodicDocument records another revision of what a periodic job submits, and the entry of the pending
// act. It returns its number. Without a document it takes that of the job's current revision. The revision
// counts once [Store.WritePeriodicJob] names it.
func (s *Store) AddPeriodicDocument(ctx context.Context, doc PeriodicDocument) (revision int, err error) {
	doc.CreatedAt, doc.ProvedAt = normalizeTime(time.Now()), timeOrNow(doc.ProvedAt)
	err = s.actTx(ctx, func(ctx context.Context, tx bun.Tx) error {
		row := doc // an earlier try of the transaction
		job, err := lockPeriodicJob(ctx, tx, row.PeriodicID)
		if err != nil {
			return err
		}
		if len(row.Document) == 0 {
			var now PeriodicDocument
			if err := tx.NewSelect().Model(&now).Where("periodic_id = ? AND revision = ?", row.PeriodicID,
				job.Revision).Scan(ctx); err != nil {
				return err
			}
			row.Document = now.Document
		}
		if err := tx.NewSelect().Model((*PeriodicDocument)(nil)).ColumnExpr("max(revision) + 1").
			Where("periodic_id = ?", row.PeriodicID).Scan(ctx, &row.Revision); err != nil {
			return err
		}
		revision = row.Revision
		_, err = tx.NewInsert().Model(&row).Exec(ctx)
		return err
	})
	return revision, wrap(err, "record a change of the periodic job %s", doc.PeriodicID)
}

// lockPeriodicJob reads a periodic job, and locks its row until the transaction ends.
func lockPeriodicJob(ctx context.Context, tx bun.Tx, id string) (job PeriodicJob, err error) {
	if _, err := tx.NewUpdate().Model((*PeriodicJob)(nil)).Set("version = version").
		Where("periodic_id = ?", id).Exec(ctx); err != nil {
		return job, err
	}
	err = selectOne(ctx, tx.NewSelect().Where("periodic_id = ?", id), &job, "the periodic job %q", id)
	return job, err
}

// RenewPeriodicProof records that the owner of a periodic job has proved again who it is. It does nothing if
// another client has.
func (s *Store) RenewPeriodicProof(ctx context.Context, id string, owner PeriodicOwner, at time.Time) error {
	return wrap(s.tx(ctx, func(ctx context.Context, tx bun.Tx) error {
		job, err := lockPeriodicJob(ctx, tx, id)
		if err != nil {
			return err
		}
		var doc PeriodicDocument
		where := "periodic_id = ? AND revision = ?"
		if err := tx.NewSelect().Model(&doc).Where(where, id, job.Revision).Scan(ctx); err != nil {
			return err
		}
		if doc.Owner.Name != owner.Name || doc.Owner.Proof != owner.Proof {
			return nil
		}
		_, err = tx.NewUpdate().Model((*PeriodicDocument)(nil)).
			Set("owner = ?, proved_at = ?", encode(owner), normalizeTime(at)).
			Where(where, id, job.Revision).Exec(ctx)
		return err
	}), "renew the owner of the periodic job %s", id)
}

// PeriodicJobs returns the periodic jobs of the projects that the context knows, by name.
func (s *Store) PeriodicJobs(ctx context.Context) ([]PeriodicJob, error) {
	var jobs []PeriodicJob
	err := rowsOf(ctx, "pj.project").addTo(s.r.NewSelect().Model(&jobs)).Order("name").Scan(ctx)
	return jobs, wrap(err, "list the periodic jobs")
}

// PeriodicJobNamed returns a periodic job by its name, or CodeNotFound.
func (s *Store) PeriodicJobNamed(ctx context.Context, name string) (job PeriodicJob, err error) {
	if err := checkText("name", name); err != nil {
		return job, err
	}
	err = selectOne(ctx, rowsOf(ctx, "pj.project").addTo(s.w.NewSelect().Where("name = ?", name)), &job,
		"name: the periodic job %q", name)
	return job, err
}

// PeriodicJob returns a periodic job by its id, or CodeNotFound.
func (s *Store) PeriodicJob(ctx context.Context, id string) (job PeriodicJob, err error) {
	err = selectOne(ctx, s.w.NewSelect().Where("periodic_id = ?", id), &job, "the periodic job %q", id)
	return job, err
}

// PeriodicDocument returns a revision of what a periodic job submits, or CodeNotFound.
func (s *Store) PeriodicDocument(ctx context.Context, id string, revision int) (doc PeriodicDocument,
	err error) {
	err = selectOne(ctx, s.w.NewSelect().Where("periodic_id = ? AND revision = ?", id, revision), &doc,
		"the document of the periodic job %q", id)
	return doc, err
}

// WritePeriodicJob writes the state of a periodic job and new runs, as its workflow has them. It does nothing
// if a later version is written, and returns CodeNotFound if the periodic job is deleted. A run that has
// ended stays as it is.
func (s *Store) WritePeriodicJob(ctx context.Context, job PeriodicJob, runs []PeriodicRun) error {
	job.UpdatedAt, job.AfterAt = normalizeTime(time.Now()), normalizeTime(job.AfterAt)
	job.NextAt, job.Reason = normalized(job.NextAt), cleanReason(job.Reason)
	return wrap(s.tx(ctx, func(ctx context.Context, tx bun.Tx) error {
		kept, err := lockPeriodicJob(ctx, tx, job.PeriodicID)
		if err != nil || kept.Version >= job.Version {
			return err
		}
		if _, err := tx.NewUpdate().Model(&job).Column("revision", "recurrence", "state", "reason", "version",
			"after_at", "next_at", "submitted", "failures", "updated_at").WherePK().Exec(ctx); err != nil {
			return err
		}
		for _, r := range runs {
			r.PeriodicID, r.ScheduledAt = job.PeriodicID, normalizeTime(r.ScheduledAt)
			r.EndedAt, r.Reason = normalized(r.EndedAt), cleanReason(r.Reason)
			if _, err := tx.NewInsert().Model(&r).
				On("CONFLICT (periodic_id, scheduled_at, manual) DO UPDATE").
				Set("outcome = EXCLUDED.outcome, reason = EXCLUDED.reason, ended_at = EXCLUDED.ended_at").
				Where("pr.ended_at IS NULL").Exec(ctx); err != nil {
				return err
			}
		}
		return trimPeriodicRuns(ctx, tx, job.PeriodicID)
	}), "write the periodic job %s", job.PeriodicID)
}

// trimPeriodicRuns deletes the oldest runs of a periodic job that have ended.
func trimPeriodicRuns(ctx context.Context, tx bun.Tx, id string) error {
	var oldest []time.Time
	if err := tx.NewSelect().Model((*PeriodicRun)(nil)).Column("scheduled_at").Where("periodic_id = ?", id).
		Order("scheduled_at DESC").Offset(keepPeriodicRuns).Limit(1).Scan(ctx, &oldest); err != nil ||
		len(oldest) == 0 {
		return err
	}
	_, err := tx.NewDelete().Model((*PeriodicRun)(nil)).
		Where("periodic_id = ? AND scheduled_at <= ? AND ended_at IS NOT NULL", id, oldest[0]).Exec(ctx)
	return err
}

// ClaimPeriodicRun gives a run the id of its job, before that is submitted. A run that has one keeps it. Of
// the candidates it takes the first that no job of this party has. It returns CodeNotFound for a run that is
// not recorded, as after the deletion of its periodic job.
func (s *Store) ClaimPeriodicRun(ctx context.Context, run PeriodicRun, candidates []string) (PeriodicRun,
	error) {
	at := normalizeTime(run.ScheduledAt)
	const key = "periodic_id = ? AND scheduled_at = ? AND manual = ?"
	var row PeriodicRun
	err := s.tx(ctx, func(ctx context.Context, tx bun.Tx) error {
		if _, err := lockPeriodicJob(ctx, tx, run.PeriodicID); err != nil {
			return err
		}
		if err := selectOne(ctx, tx.NewSelect().Where(key, run.PeriodicID, at, run.Manual), &row,
			"the run at %s", at.Format(time.RFC3339)); err != nil || row.JobID != "" {
			return err
		}
		for _, id := range candidates {
			taken, err := jobIDTaken(ctx, tx, id)
			if err != nil {
				return err
			}
			if taken {
				continue
			}
			row.JobID = id
			_, err = tx.NewUpdate().Model((*PeriodicRun)(nil)).Set("job_id = ?", id).
				Where(key, run.PeriodicID, at, run.Manual).Exec(ctx)
			return err
		}
		return errors.New("all ids for its job are taken")
	})
	return row, wrap(err, "choose the job id of a run of the periodic job %s", run.PeriodicID)
}

// jobIDTaken reports whether a job of this party, or a run, has an id.
func jobIDTaken(ctx context.Context, tx bun.Tx, id string) (bool, error) {
	for _, model := range []any{(*document)(nil), (*Job)(nil), (*ScheduleJob)(nil), (*PeriodicRun)(nil),
		(*jobProjectRow)(nil)} {
		taken, err := tx.NewSelect().Model(model).Where("job_id = ?", id).Exists(ctx)
		if err != nil || taken {
			return taken, err
		}
	}
	return false, nil
}

// AcceptPeriodicRun records that the job of a run was created.
func (s *Store) AcceptPeriodicRun(ctx context.Context, run PeriodicRun) error {
	_, err := s.w.NewUpdate().Model((*PeriodicRun)(nil)).Set("accepted = TRUE").
		Where("periodic_id = ? AND scheduled_at = ? AND manual = ?", run.PeriodicID,
			normalizeTime(run.ScheduledAt), run.Manual).Exec(ctx)
	return wrap(err, "record the job of a run of the periodic job %s", run.PeriodicID)
}

// EndPeriodicRun records the outcome of a run. A run that has ended stays as it is.
func (s *Store) EndPeriodicRun(ctx context.Context, run PeriodicRun) error {
	_, err := s.w.NewUpdate().Model((*PeriodicRun)(nil)).
		Set("outcome = ?, reason = ?, ended_at = ?", run.Outcome, cleanReason(run.Reason),
			normalizeTime(time.Now())).
		Where("periodic_id = ? AND scheduled_at = ? AND manual = ? AND ended_at IS NULL", run.PeriodicID,
			normalizeTime(run.ScheduledAt), run.Manual).Exec(ctx)
	return wrap(err, "record the end of a run of the periodic job %s", run.PeriodicID)
}

// OpenPeriodicRuns returns the runs of a periodic job that have not ended, earliest first.
func (s *Store) OpenPeriodicRuns(ctx context.Context, id string) ([]PeriodicRun, error) {
	var runs []PeriodicRun
	err := s.w.NewSelect().Model(&runs).Where("periodic_id = ? AND ended_at IS NULL", id).
		Order("scheduled_at", "manual").Scan(ctx)
	return runs, wrap(err, "read the open runs of the periodic job %s", id)
}

// LastPeriodicRuns returns the last runs of each periodic job, or of one if id is not empty, latest first, at
// most limit of each.
func (s *Store) LastPeriodicRuns(ctx context.Context, id string, limit int) (map[string][]PeriodicRun,
	error) {
	var runs []PeriodicRun
	ranked := s.r.NewSelect().Model((*PeriodicRun)(nil)).ColumnExpr("pr.*").
		ColumnExpr("row_number() OVER (PARTITION BY periodic_id ORDER BY scheduled_at DESC, manual) AS rank")
	if id != "" {
		ranked = ranked.Where("periodic_id = ?", id)
	}
	err := s.r.NewSelect().ModelTableExpr("(?) AS pr", ranked).Model(&runs).
		Column("periodic_id", "scheduled_at", "manual", "revision", "job_id", "accepted", "outcome", "reason",
			"count", "ended_at").
		Where("rank <= ?", limit).Order("scheduled_at DESC", "manual").Scan(ctx)
	last := map[string][]PeriodicRun{}
	for _, r := range runs {
		last[r.PeriodicID] = append(last[r.PeriodicID], r)
	}
	return last, wrap(err, "read the last runs of periodic jobs")
}

// PeriodicJobOf returns the name of the periodic job that has submitted a job, or "".
func (s *Store) PeriodicJobOf(ctx context.Context, jobID string) (string, error) {
	var names []string
	err := s.r.NewSelect().Model((*PeriodicJob)(nil)).Column("pj.name").
		Join("JOIN t_periodic_run AS pr ON pr.periodic_id = pj.periodic_id").
		Where("pr.job_id = ?", jobID).Limit(1).Scan(ctx, &names)
	if err != nil || len(names) == 0 {
		return "", wrap(err, "read the periodic job of job %s", jobID)
	}
	return names[0], nil
}

// DeletePeriodicJob deletes a periodic job with its documents and runs; there may be none. Its jobs stay.
func (s *Store) DeletePeriodicJob(ctx context.Context, id string) error {
	_, err := s.w.NewDelete().Model((*PeriodicJob)(nil)).Where("periodic_id = ?", id).Exec(ctx)
	return wrap(err, "delete the periodic job %s", id)
}
