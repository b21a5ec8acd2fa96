package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	"hutong/bfia"
	"hutong/internal/identity"
)

type projectRow struct {
	bun.BaseModel `bun:"table:t_project,alias:pr"`

	Name      string     `bun:"name,pk"`
	Settings  string     `bun:"settings"`
	CreatedBy string     `bun:"created_by"`
	CreatedAt time.Time  `bun:"created_at"`
	RemovedAt *time.Time `bun:"removed_at"`
}

func (r projectRow) project() (bfia.Project, error) {
	normalizeTimes(&r.CreatedAt, r.RemovedAt)
	p := bfia.Project{Name: r.Name, CreatedBy: r.CreatedBy, CreatedAt: &r.CreatedAt}
	if err := json.Unmarshal([]byte(r.Settings), &p.ProjectSettings); err != nil {
		return p, fmt.Errorf("store: failed to decode the settings of project %s: %w", r.Name, err)
	}
	return p, nil
}

// jobProjectRow is the project of a job at this party.
type jobProjectRow struct {
	bun.BaseModel `bun:"table:t_job_project,alias:jp"`

	JobID     string    `bun:"job_id,pk"`
	Project   string    `bun:"project"`
	CreatedAt time.Time `bun:"created_at"`
}

// CreateProject records a new project. It returns CodeConflict if the name is in use, or was.
func (s *Store) CreateProject(ctx context.Context, name string, settings bfia.ProjectSettings, by string,
) (bfia.Project, error) {
	row := projectRow{Name: name, Settings: encode(settings), CreatedBy: by,
		CreatedAt: normalizeTime(time.Now())}
	if err := checkText("name", name, "description", settings.Description, "created_by", by); err != nil {
		return bfia.Project{}, err
	}
	if name == identity.DefaultProject {
		return bfia.Project{}, bfia.Errorf(bfia.CodeConflict, "name: each party has the project %s", name)
	}
	err := s.actTx(ctx, func(ctx context.Context, tx bun.Tx) error {
		n, err := affected(tx.NewInsert().Model(&row).On("CONFLICT (name) DO NOTHING").Exec(ctx))
		if err != nil || n == 1 {
			return err
		}
		var kept projectRow
		if err := selectOne(ctx, tx.NewSelect().Where("name = ?", name), &kept, "name: project %q",
			name); err != nil {
			return err
		}
		if kept.RemovedAt != nil {
			return bfia.Errorf(bfia.CodeConflict, "name: the project %s was removed on %s, and its name is not "+
				"used again; choose another one", name, kept.RemovedAt.Format(time.DateOnly))
		}
		return bfia.Errorf(bfia.CodeConflict, "name: the project %s exists already", name)
	})
	if err != nil {
		return bfia.Project{}, wrap(err, "create project %s", name)
	}
	return row.project()
}

// SetProject changes the settings of a project. It returns CodeNotFound for an unknown one.
func (s *Store) SetProject(ctx context.Context, change bfia.SetProject) (project bfia.Project, err error) {
	err = s.actTx(ctx, func(ctx context.Context, tx bun.Tx) error {
		row, err := s.lockProject(ctx, tx, change.Name)
		if err != nil {
			return err
		}
		if project, err = row.project(); err != nil {
			return err
		}
		project.ProjectSettings = change.Apply(project.ProjectSettings)
		if err := project.Check(); err != nil {
			return err
		}
		if err := checkText("description", project.Description); err != nil {
			return err
		}
		_, err = tx.NewUpdate().Model(&row).Set("settings = ?", encode(project.ProjectSettings)).WherePK().
			Exec(ctx)
		return err
	})
	return project, wrap(err, "change project %s", change.Name)
}

// lockProject returns the row of a project, which stays locked until the transaction ends.
func (s *Store) lockProject(ctx context.Context, tx bun.Tx, name string) (row projectRow, err error) {
	if err := checkText("name", name); err != nil {
		return row, err
	}
	q := tx.NewSelect().Where("name = ? AND removed_at IS NULL", name)
	if s.pg { // SQLite has one writer at a time
		q.For("UPDATE")
	}
	return row, selectOne(ctx, q, &row, "name: project %q", name)
}

// RemoveProject removes a project that has no datasets, models and jobs. It returns CodeNotFound for an
// unknown one, and CodeConflict, with what it has, for one that is not empty.
func (s *Store) RemoveProject(ctx context.Context, name string) error {
	return wrap(s.actTx(ctx, func(ctx context.Context, tx bun.Tx) error {
		row, err := s.lockProject(ctx, tx, name)
		if err != nil {
			return err
		}
		counted := bfia.Project{Name: name}
		if err := countProject(ctx, tx, &counted); err != nil {
			return err
		}
		if counted.Datasets+counted.Models+counted.Jobs > 0 {
			return bfia.Errorf(bfia.CodeConflict, "name: the project %s has %d datasets, %d models and %d jobs; "+
				"delete them first", name, counted.Datasets, counted.Models, counted.Jobs)
		}
		_, err = tx.NewUpdate().Model(&row).Set("removed_at = ?", normalizeTime(time.Now())).WherePK().
			Exec(ctx)
		return err
	}), "remove project %s", name)
}

// Projects returns the projects that the context knows, default first, with what they have.
func (s *Store) Projects(ctx context.Context) ([]bfia.Project, error) {
	var rows []projectRow
	if err := rowsOf(ctx, "pr.name").of(s.r.NewSelect().Model(&rows).Where("removed_at IS NULL")).
		Order("name").Scan(ctx); err != nil {
		return nil, wrap(err, "list projects")
	}
	projects := []bfia.Project{}
	if InProject(ctx, identity.DefaultProject) {
		projects = append(projects, bfia.Project{Name: identity.DefaultProject})
	}
	for _, r := range rows {
		p, err := r.project()
		if err != nil {
			return nil, err
		}
		projects = append(projects, p)
	}
	for i := range projects {
		if err := countProject(ctx, s.r, &projects[i]); err != nil {
			return nil, wrap(err, "count what project %s has", projects[i].Name)
		}
	}
	return projects, nil
}

// countProject counts what a project has.
func countProject(ctx context.Context, db bun.IDB, p *bfia.Project) (err error) {
	ctx = WithProjects(ctx, p.Name)
	if p.Datasets, err = rowsOf(ctx, "d.project").of(db.NewSelect().Model((*dataTableRow)(nil))).
		Count(ctx); err != nil {
		return err
	}
	if p.Models, err = rowsOf(ctx, "m.project").of(db.NewSelect().Model((*Model)(nil))).
		Count(ctx); err != nil {
		return err
	}
	if p.Jobs, err = jobsOf(ctx, "j.job_id").of(db.NewSelect().Model((*Job)(nil))).Count(ctx); err != nil {
		return err
	}
	scheduledOnly, err := jobsOf(ctx, "j.job_id").of(db.NewSelect().Model((*ScheduleJob)(nil))).
		Where("NOT EXISTS (SELECT 1 FROM t_job AS own WHERE own.job_id = j.job_id)").Count(ctx)
	p.Jobs += scheduledOnly
	return err
}

// CheckProject returns CodeNotFound for a project that does not exist, or that the context does not know.
func (s *Store) CheckProject(ctx context.Context, name string) error {
	return checkProject(ctx, s.w, name)
}

func checkProject(ctx context.Context, db bun.IDB, name string) error {
	unknown := bfia.Errorf(bfia.CodeNotFound, "project: %.100q is not known; 'hutong project list' lists them",
		name)
	if identity.CheckProjectName(name) != nil || !InProject(ctx, name) {
		return unknown
	}
	if name == identity.DefaultProject {
		return nil
	}
	found, err := db.NewSelect().Model((*projectRow)(nil)).Where("name = ? AND removed_at IS NULL", name).
		Exists(ctx)
	if err == nil && !found {
		return unknown
	}
	return wrap(err, "read project %s", name)
}

// holdProject does the same, and keeps the project from being removed until the transaction ends.
func (s *Store) holdProject(ctx context.Context, tx bun.Tx, name string) error {
	if name == identity.DefaultProject {
		return nil
	}
	if err := checkProject(ctx, tx, name); err != nil || !s.pg { // SQLite has one writer at a time
		return err
	}
	var held projectRow
	return selectOne(ctx, tx.NewSelect().Where("name = ? AND removed_at IS NULL", name).For("SHARE"), &held,
		"project: %q", name)
}

// JobProject returns the project of a job. recorded is false for a job that this party does not know yet, or
// that is older than its projects.
func (s *Store) JobProject(ctx context.Context, jobID string) (project string, recorded bool, err error) {
	var row jobProjectRow
	err = s.w.NewSelect().Model(&row).Where("job_id = ?", jobID).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return identity.DefaultProject, false, nil
	}
	return row.Project, err == nil, wrap(err, "read the project of job %s", jobID)
}

func jobProject(ctx context.Context, db bun.IDB, jobID string) (string, error) {
	var row jobProjectRow
	err := db.NewSelect().Model(&row).Where("job_id = ?", jobID).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return identity.DefaultProject, nil
	}
	return row.Project, err
}

// JobProjects returns the projects of jobs that are not of default, by job id.
func (s *Store) JobProjects(ctx context.Context, jobIDs []string) (map[string]string, error) {
	projects := map[string]string{}
	if len(jobIDs) == 0 {
		return projects, nil
	}
	var rows []jobProjectRow
	err := s.r.NewSelect().Model(&rows).Where("job_id IN (?) AND project <> ?", bun.List(jobIDs),
		identity.DefaultProject).Scan(ctx)
	for _, r := range rows {
		projects[r.JobID] = r.Project
	}
	return projects, wrap(err, "read the projects of jobs")
}

// assignJob records to which project a new job belongs. It returns CodeConflict if the job exists in another
// one, which it does not name.
func (s *Store) assignJob(ctx context.Context, tx bun.Tx, jobID, project string) error {
	if err := s.holdProject(ctx, tx, project); err != nil {
		return err
	}
	row := jobProjectRow{JobID: jobID, Project: project, CreatedAt: normalizeTime(time.Now())}
	n, err := affected(tx.NewInsert().Model(&row).On("CONFLICT (job_id) DO NOTHING").Exec(ctx))
	if err != nil {
		return err
	}
	exists := bfia.Errorf(bfia.CodeConflict, "job_id: job %q already exists with other content", jobID)
	if n == 0 {
		kept, err := jobProject(ctx, tx, jobID)
		if err == nil && kept != project {
			return exists
		}
		return err
	}
	if project == identity.DefaultProject {
		return nil
	}
	// A job that is older than the projects has no row. It belongs to default.
	for _, model := range []any{(*document)(nil), (*Job)(nil), (*ScheduleJob)(nil)} {
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

// unassignUnusedJob deletes the project of a job that was not created.
func unassignUnusedJob(ctx context.Context, tx bun.Tx, jobID string) error {
	_, err := unusedJobProjects(tx.NewDelete()).Where("jp.job_id = ?", jobID).Exec(ctx)
	return err
}

// unusedJobProjects selects the projects of jobs of which nothing else is recorded.
func unusedJobProjects(q *bun.DeleteQuery) *bun.DeleteQuery {
	return q.Model((*jobProjectRow)(nil)).
		Where("NOT EXISTS (SELECT 1 FROM t_job_document AS d WHERE d.job_id = jp.job_id)").
		Where("NOT EXISTS (SELECT 1 FROM t_submission AS s WHERE s.job_id = jp.job_id)").
		Where("NOT EXISTS (SELECT 1 FROM t_schedule_job AS j WHERE j.job_id = jp.job_id)").
		Where("NOT EXISTS (SELECT 1 FROM t_job AS j WHERE j.job_id = jp.job_id)")
}

// forgetDefaultProject deletes the row of a removed job of default, which says nothing more. That of another
// project stays: the account of the job does too.
func forgetDefaultProject(ctx context.Context, tx bun.Tx, jobID string) error {
	_, err := tx.NewDelete().Model((*jobProjectRow)(nil)).
		Where("job_id = ? AND project = ?", jobID, identity.DefaultProject).Exec(ctx)
	return err
}

// KnowsData reports whether a context knows what is stored at an address: a dataset, an output of a job, or a
// model of one of its projects.
func (s *Store) KnowsData(ctx context.Context, at bfia.Address) (bool, error) {
	if _, all := ProjectsOf(ctx); all {
		return true, nil
	}
	if err := checkText("namespace", at.Namespace, "name", at.Name); err != nil {
		return false, err
	}
	const here = "namespace = ? AND name = ?"
	for _, q := range []*bun.SelectQuery{
		rowsOf(ctx, "d.project").of(s.r.NewSelect().Model((*dataTableRow)(nil))),
		jobsOf(ctx, "o.job_id").of(s.r.NewSelect().Model((*Output)(nil))),
		rowsOf(ctx, "m.project").of(s.r.NewSelect().Model((*Model)(nil)).Where("NOT m.removing")),
	} {
		known, err := q.Where(here, at.Namespace, at.Name).Exists(ctx)
		if err != nil || known {
			return known, wrap(err, "read the project of %s", at)
		}
	}
	return false, nil
}
