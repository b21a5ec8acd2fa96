package store

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
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
	if p.PartnerJobs == nil {
		p.PartnerJobs = []bfia.PartnerJobs{}
	}
	return p, nil
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
		if err := checkPartnerJobs(ctx, tx, name, settings); err != nil {
			return err
		}
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
		row, err := s.lockProject(ctx, tx, change.Name, "NO KEY UPDATE")
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
		if err := checkPartnerJobs(ctx, tx, change.Name, project.ProjectSettings); err != nil {
			return err
		}
		_, err = tx.NewUpdate().Model(&row).Set("settings = ?", encode(project.ProjectSettings)).WherePK().
			Exec(ctx)
		return err
	})
	return project, wrap(err, "change project %s", change.Name)
}

// checkPartnerJobs refuses settings that select the same jobs of a partner as another project. Until the
// transaction ends, no other one changes what projects select or reserve.
func checkPartnerJobs(ctx context.Context, tx bun.Tx, name string, settings bfia.ProjectSettings) error {
	if err := lockAdmission(ctx, tx); err != nil {
		return err
	}
	projects, err := readProjects(ctx, tx)
	if err != nil {
		return err
	}
	for i, own := range settings.PartnerJobs {
		for _, p := range projects {
			if p.Name != name && slices.Contains(p.PartnerJobs, own) {
				return bfia.Errorf(bfia.CodeConflict, "partner_jobs[%d]: these jobs belong to the project %s",
					i, p.Name)
			}
		}
	}
	return nil
}

// lockProject returns the row of a project, which stays locked until the transaction ends. With UPDATE as the
// lock of PostgreSQL, no job or dataset is added to the project until then; with NO KEY UPDATE they are.
func (s *Store) lockProject(ctx context.Context, tx bun.Tx, name, lock string) (row projectRow, err error) {
	if err := checkText("name", name); err != nil {
		return row, err
	}
	q := tx.NewSelect().Where("name = ? AND removed_at IS NULL", name)
	if s.pg { // SQLite has one writer at a time
		q.For(lock)
	}
	return row, selectOne(ctx, q, &row, "name: project %q", name)
}

// RemoveProject removes a project that has no datasets, models and jobs. It returns CodeNotFound for an
// unknown one, and CodeConflict, with what it has, for one that is not empty.
func (s *Store) RemoveProject(ctx context.Context, name string) error {
	return wrap(s.actTx(ctx, func(ctx context.Context, tx bun.Tx) error {
		row, err := s.lockProject(ctx, tx, name, "UPDATE")
		if err != nil {
			return err
		}
		counted := bfia.Project{Name: name}
		if err := countProject(ctx, tx, &counted); err != nil {
			return err
		}
		if counted.Jobs == 0 {
			if counted.Jobs, err = countJobsInCreation(ctx, tx, name); err != nil {
				return err
			}
		}
		if counted.Datasets+counted.Models+counted.Jobs+counted.Periodic > 0 {
			return bfia.Errorf(bfia.CodeConflict, "name: the project %s has %d datasets, %d models, %d jobs and "+
				"%d periodic jobs; delete them first", name, counted.Datasets, counted.Models, counted.Jobs,
				counted.Periodic)
		}
		_, err = tx.NewUpdate().Model(&row).Set("removed_at = ?", normalizeTime(time.Now())).WherePK().
			Exec(ctx)
		return err
	}), "remove project %s", name)
}

// Projects returns the projects that the context knows, default first, with what they have.
func (s *Store) Projects(ctx context.Context) ([]bfia.Project, error) {
	var rows []projectRow
	if err := rowsOf(ctx, "pr.name").addTo(s.r.NewSelect().Model(&rows).Where("removed_at IS NULL")).
		Order("name").Scan(ctx); err != nil {
		return nil, wrap(err, "list projects")
	}
	projects := []bfia.Project{}
	if InProject(ctx, identity.DefaultProject) {
		projects = append(projects, bfia.Project{Name: identity.DefaultProject,
			ProjectSettings: bfia.SetProject{}.Apply(bfia.ProjectSettings{})})
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

// projectNames returns the names of all projects, also of default and of removed ones.
func (s *Store) projectNames(ctx context.Context) ([]string, error) {
	names := []string{identity.DefaultProject}
	var more []string
	err := s.r.NewSelect().Model((*projectRow)(nil)).Column("name").Order("name").Scan(ctx, &more)
	return append(names, more...), err
}

// countProject counts what a project has.
func countProject(ctx context.Context, db bun.IDB, p *bfia.Project) (err error) {
	ctx = WithProjects(ctx, p.Name)
	if p.Datasets, err = rowsOf(ctx, "d.project").addTo(db.NewSelect().Model((*dataTableRow)(nil))).
		Count(ctx); err != nil {
		return err
	}
	if p.Models, err = jobsOf(ctx, "m.job_id").addTo(db.NewSelect().Model((*Model)(nil))).
		Count(ctx); err != nil {
		return err
	}
	if p.Periodic, err = rowsOf(ctx, "pj.project").addTo(db.NewSelect().Model((*PeriodicJob)(nil))).
		Count(ctx); err != nil {
		return err
	}
	if p.Quota.Storage > 0 {
		if p.StoredBytes, err = storedBytes(ctx, db, p.Name); err != nil {
			return err
		}
	}
	accepted, err := db.NewSelect().Model((*Job)(nil)).Where("j.project = ?", p.Name).Count(ctx)
	if err != nil {
		return err
	}
	scheduled, err := db.NewSelect().Model((*ScheduleJob)(nil)).Where("j.project = ?", p.Name).
		Where("NOT EXISTS (SELECT 1 FROM t_job AS o WHERE o.job_id = j.job_id)").Count(ctx)
	p.Jobs = accepted + scheduled
	return err
}

// countJobsInCreation counts the jobs of a project of which only the submission or the document exists yet.
// It reads those of all projects.
func countJobsInCreation(ctx context.Context, db bun.IDB, project string) (n int, err error) {
	return n, db.NewRaw(`SELECT COUNT(*) FROM (
		SELECT job_id FROM t_submission UNION SELECT job_id FROM t_job_document) AS o
		WHERE EXISTS (SELECT 1 FROM t_job_project AS jp WHERE jp.job_id = o.job_id AND jp.project = ?)
		AND NOT EXISTS (SELECT 1 FROM t_job AS j WHERE j.job_id = o.job_id)
		AND NOT EXISTS (SELECT 1 FROM t_schedule_job AS j WHERE j.job_id = o.job_id)`, project).Scan(ctx, &n)
}

// CheckProject returns CodeNotFound for a project that does not exist, or that the context does not know.
func (s *Store) CheckProject(ctx context.Context, name string) error {
	return checkProject(ctx, s.r, name)
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
	found, err := db.NewSelect().Model((*projectRow)(nil)).
		Where("name = ? AND removed_at IS NULL", name).Exists(ctx)
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
	return selectOne(ctx, tx.NewSelect().Where("name = ? AND removed_at IS NULL", name).For("KEY SHARE"),
		&held, "project: %q", name)
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
		rowsOf(ctx, "d.project").addTo(s.r.NewSelect().Model((*dataTableRow)(nil))),
		jobsOf(ctx, "o.job_id").addTo(s.r.NewSelect().Model((*Output)(nil))),
		jobsOf(ctx, "m.job_id").addTo(s.r.NewSelect().Model((*Model)(nil)).Where("NOT m.removing")),
	} {
		known, err := q.Where(here, at.Namespace, at.Name).Exists(ctx)
		if err != nil || known {
			return known, wrap(err, "read the project of %s", at)
		}
	}
	return false, nil
}
