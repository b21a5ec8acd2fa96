package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"hutong/bfia"
	"hutong/internal/identity"
)

// jobProjectRow is the project of a job at this party.
type jobProjectRow struct {
	bun.BaseModel `bun:"table:t_job_project,alias:jp"`

	JobID     string     `bun:"job_id,pk"`
	Project   string     `bun:"project"`
	CreatedAt time.Time  `bun:"created_at"`
	RemovedAt *time.Time `bun:"removed_at"` // the job, see [Store.JobRemovedAt]
}

// JobProject returns the project of a job. recorded is false for a job that this party does not know yet:
// only those who know all projects may learn of it.
func (s *Store) JobProject(ctx context.Context, jobID string) (project string, recorded bool, err error) {
	project, recorded, err = jobProject(ctx, s.r, jobID)
	return project, recorded, wrap(err, "read the project of job %s", jobID)
}

func jobProject(ctx context.Context, db bun.IDB, jobID string) (project string, recorded bool, err error) {
	var row jobProjectRow
	err = db.NewSelect().Model(&row).Where("job_id = ?", jobID).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return identity.DefaultProject, false, nil
	}
	return row.Project, err == nil, err
}

// JobProjects returns the projects of jobs that are not of default, by job id.
func (s *Store) JobProjects(ctx context.Context, jobIDs []string) (map[string]string, error) {
	projects, err := jobProjects(ctx, s.r, jobIDs)
	return projects, wrap(err, "read the projects of jobs")
}

func jobProjects(ctx context.Context, db bun.IDB, jobIDs []string) (map[string]string, error) {
	projects := map[string]string{}
	if len(jobIDs) == 0 {
		return projects, nil
	}
	var rows []jobProjectRow
	err := db.NewSelect().Model(&rows).Where("job_id IN (?) AND project <> ?", bun.List(jobIDs),
		identity.DefaultProject).Scan(ctx)
	for _, r := range rows {
		projects[r.JobID] = r.Project
	}
	return projects, err
}

// JobRemovedAt returns when a job was removed from this party, or nil. Nobody may create it again: a recorded
// creation that is sent again would run it twice.
func (s *Store) JobRemovedAt(ctx context.Context, jobID string) (*time.Time, error) {
	var row jobProjectRow
	err := s.w.NewSelect().Model(&row).Where("job_id = ?", jobID).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	normalizeTimes(&row.CreatedAt, row.RemovedAt)
	return row.RemovedAt, wrap(err, "read when job %s was removed", jobID)
}

// KnowsJob reports whether a context knows a job.
func (s *Store) KnowsJob(ctx context.Context, jobID string) (bool, error) {
	err := checkJobProject(ctx, s.r, jobID)
	if bfia.CodeOf(err) == bfia.CodeNotFound {
		return false, nil
	}
	return err == nil, wrap(err, "read the project of job %s", jobID)
}

// assignJob records to which project a new job belongs, as of at. It returns CodeConflict if the job exists
// in another one, which it does not name, or if the job's session could be one of a job of another project.
func (s *Store) assignJob(ctx context.Context, tx bun.Tx, jobID, project string, at time.Time) error {
	if err := s.holdProject(ctx, tx, project); err != nil {
		return err
	}
	row := jobProjectRow{JobID: jobID, Project: project, CreatedAt: normalizeTime(at)}
	exists := bfia.Errorf(bfia.CodeConflict, "job_id: job %q already exists with other content", jobID)
	for {
		n, err := affected(tx.NewInsert().Model(&row).On("CONFLICT (job_id) DO NOTHING").Exec(ctx))
		if err != nil {
			return err
		}
		if n == 1 {
			break
		}
		// The insert has not locked the row: a transaction that undoes the job's creation may delete it.
		kept, found, err := s.lockJobProject(ctx, tx, jobID)
		if err != nil {
			return err
		}
		if found && kept != project {
			return exists
		}
		if found {
			return nil
		}
	}
	if err := checkSessionOwner(ctx, tx, jobID, project); err != nil ||
		project == identity.DefaultProject {
		return err
	}
	// A process of a version without projects has recorded it. It belongs to default.
	for _, model := range []any{(*document)(nil), (*Job)(nil), (*ScheduleJob)(nil), (*submission)(nil),
		(*Model)(nil), (*Usage)(nil)} {
		older, err := tx.NewSelect().Model(model).Where("job_id = ?", jobID).Exists(ctx)
		if err != nil {
			return err
		}
		if older {
			return exists
		}
	}
	return nil
}

// lockJobProject reads the project of a job as recorded, and keeps the row from being deleted until the
// transaction ends. A transaction that deletes the record of a job takes this lock first, as one that creates
// the job does: so the two wait for each other in one order.
func (s *Store) lockJobProject(ctx context.Context, tx bun.Tx, jobID string) (project string, found bool,
	err error) {
	var row jobProjectRow
	q := tx.NewSelect().Model(&row).Where("job_id = ?", jobID)
	if s.pg { // SQLite has one writer at a time
		q.For("UPDATE")
	}
	err = q.Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return "", false, nil
	}
	return row.Project, err == nil, err
}

// RecordMissingProjects records default for jobs of which processes of a version without projects recorded
// something since a time, while the party's processes were updated or after a rollback. It does the same for
// the project in the rows of jobs that such processes created. It returns for how many. A party without
// projects needs no records: it does nothing.
func (s *Store) RecordMissingProjects(ctx context.Context, since time.Time) (int, error) {
	if found, err := s.HasProjects(ctx); err != nil || !found {
		return 0, err
	}
	missing, err := s.recordMissingProjects(ctx, normalizeTime(since))
	if err != nil {
		return 0, wrap(err, "record the projects of jobs")
	}
	wrong, err := s.correctProjects(ctx, normalizeTime(since))
	return missing + wrong, wrap(err, "correct the projects in the rows of jobs")
}

// HasProjects reports whether the party has projects besides default, or has had some.
func (s *Store) HasProjects(ctx context.Context) (bool, error) {
	found, err := s.r.NewSelect().Model((*projectRow)(nil)).Exists(ctx)
	return found, wrap(err, "look for projects")
}

// correctProjects sets the column project of jobs as t_job_project has it.
func (s *Store) correctProjects(ctx context.Context, since time.Time) (corrected int, err error) {
	for _, table := range []string{"t_job", "t_schedule_job"} {
		const wrong = `j.created_at >= ? AND EXISTS
			(SELECT 1 FROM t_job_project AS jp WHERE jp.job_id = j.job_id AND jp.project <> j.project)`
		var ids []string
		if err := s.r.NewSelect().TableExpr("? AS j", bun.Ident(table)).Column("j.job_id").
			Where(wrong, since).Scan(ctx, &ids); err != nil {
			return corrected, err
		}
		for _, id := range ids { // there are hardly ever any
			if _, err := s.w.NewRaw(`UPDATE ?0 SET project = (SELECT jp.project FROM t_job_project AS jp
				WHERE jp.job_id = ?1) WHERE job_id = ?1`, bun.Ident(table), id).Exec(ctx); err != nil {
				return corrected, err
			}
			corrected++
		}
	}
	return corrected, nil
}

func (s *Store) recordMissingProjects(ctx context.Context, since time.Time) (int, error) {
	var selects []string
	var sinces []any
	for _, of := range [][2]string{{"t_job", "created_at"}, {"t_schedule_job", "created_at"},
		{"t_job_document", "created_at"}, {"t_submission", "created_at"}, {"t_model", "created_at"},
		{"t_usage", "recorded_at"}} {
		selects = append(selects, fmt.Sprintf(`SELECT job_id, %s AS created_at FROM %s AS j WHERE %[1]s >= ?
			AND NOT EXISTS (SELECT 1 FROM t_job_project AS jp WHERE jp.job_id = j.job_id)`, of[1], of[0]))
		sinces = append(sinces, since)
	}
	unrecorded := "(" + strings.Join(selects, " UNION ALL ") + ") AS unrecorded"
	// There are hardly ever any. An insert would keep all other writers of SQLite waiting while it looks.
	var found []string
	if err := s.r.NewRaw("SELECT job_id FROM "+unrecorded+" LIMIT 1", sinces...).
		Scan(ctx, &found); err != nil || len(found) == 0 {
		return 0, err
	}
	return affected(s.w.NewRaw(`INSERT INTO t_job_project (job_id, project, created_at)
		SELECT job_id, ?, MIN(created_at) FROM `+unrecorded+` GROUP BY job_id
		ON CONFLICT (job_id) DO NOTHING`, append([]any{identity.DefaultProject}, sinces...)...).Exec(ctx))
}

// checkSessionOwner refuses the id of a job whose session a job of another project may use as a derived one:
// session_risk_2026 is that of job risk_2026, and derived from that of job risk. A removed job uses none.
func checkSessionOwner(ctx context.Context, tx bun.Tx, jobID, project string) error {
	owners := slices.DeleteFunc(bfia.SessionJobs(bfia.SessionID(jobID)),
		func(id string) bool { return id == jobID })
	if len(owners) == 0 {
		return nil
	}
	taken, err := tx.NewSelect().Model((*jobProjectRow)(nil)).
		Where("job_id IN (?) AND project <> ? AND removed_at IS NULL", bun.List(owners), project).Exists(ctx)
	if err == nil && taken {
		return bfia.Errorf(bfia.CodeConflict,
			"job_id: %q can't be used at this party; choose one that begins otherwise", jobID)
	}
	return err
}

// unassignUnusedJob deletes the project of a job that was not created: the row that was made together with
// the record which is deleted now. A row that is older may be that of a job whose account is left. The caller
// holds the row's lock since before it deleted the record, see [Store.lockJobProject]. Otherwise a concurrent
// transaction could create the job in between, which then would have no project.
func unassignUnusedJob(ctx context.Context, tx bun.Tx, jobID string, since time.Time) error {
	q := tx.NewDelete().Model((*jobProjectRow)(nil)).
		Where("jp.job_id = ? AND jp.created_at >= ? AND jp.removed_at IS NULL", jobID, normalizeTime(since))
	for _, table := range []string{"t_job_document", "t_submission", "t_schedule_job", "t_job", "t_model",
		"t_usage"} {
		q.Where("NOT EXISTS (SELECT 1 FROM ? AS o WHERE o.job_id = jp.job_id)", bun.Ident(table))
	}
	_, err := q.Exec(ctx)
	return err
}
