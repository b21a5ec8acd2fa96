package store

import (
	"context"

	"github.com/uptrace/bun"

	"hutong/admission"
	"hutong/bfia"
	"hutong/internal/identity"
)

// readProjects returns all projects but default, by name, with their settings.
func readProjects(ctx context.Context, db bun.IDB) ([]bfia.Project, error) {
	var rows []projectRow
	if err := db.NewSelect().Model(&rows).Where("removed_at IS NULL").Order("name").Scan(ctx); err != nil {
		return nil, err
	}
	projects := make([]bfia.Project, len(rows))
	for i, r := range rows {
		var err error
		if projects[i], err = r.project(); err != nil {
			return nil, err
		}
	}
	return projects, nil
}

// ProjectSettings returns all projects but default, by name, without what they have.
func (s *Store) ProjectSettings(ctx context.Context) ([]bfia.Project, error) {
	projects, err := readProjects(ctx, s.r)
	return projects, wrap(err, "read the projects")
}

// ProjectQuota returns the quota of a project. That of default has no limits.
func (s *Store) ProjectQuota(ctx context.Context, name string) (bfia.ProjectQuota, error) {
	if name == identity.DefaultProject {
		return bfia.ProjectQuota{}, nil
	}
	projects, err := s.ProjectSettings(ctx)
	for _, p := range projects {
		if p.Name == name {
			return p.Quota, nil
		}
	}
	return bfia.ProjectQuota{}, err
}

// addQuotas adds the quotas of projects to the input of a decision on a job's request, with what the other
// jobs of the projects hold, and the projects of the requests. Most parties have no quotas, and pay one read.
func (v *ReservationView) addQuotas(ctx context.Context, db bun.IDB, jobID string) error {
	projects, err := readProjects(ctx, db)
	if err != nil {
		return err
	}
	v.Quotas = map[string]bfia.ProjectQuota{}
	for _, p := range projects {
		if p.Quota != (bfia.ProjectQuota{}) {
			v.Quotas[p.Name] = p.Quota
		}
	}
	if len(v.Quotas) == 0 {
		return nil
	}
	if v.Held, err = readHeld(ctx, db, jobID); err != nil {
		return err
	}
	ids := []string{jobID}
	for _, w := range v.Waiting {
		ids = append(ids, w.JobID)
	}
	of, err := jobProjects(ctx, db, ids)
	if err != nil {
		return err
	}
	v.Project = of[jobID]
	for i := range v.Waiting {
		v.Waiting[i].Project = of[v.Waiting[i].JobID]
	}
	return nil
}

// readHeld returns what the jobs of projects hold, except one job, by project.
func readHeld(ctx context.Context, db bun.IDB, except string) (map[string]admission.Held, error) {
	var rows []struct {
		Project    string `bun:"project"`
		Jobs       int    `bun:"jobs"`
		Containers int    `bun:"containers"`
		CPUMilli   int64  `bun:"cpu_milli"`
		Memory     int64  `bun:"memory"`
	}
	err := db.NewSelect().Model((*ReservedSlot)(nil)).
		Join("JOIN t_job_project AS jp ON jp.job_id = s.job_id").
		ColumnExpr("jp.project, COUNT(DISTINCT s.job_id) AS jobs, COUNT(*) AS containers").
		// Sums of BIGINT are NUMERIC in PostgreSQL.
		ColumnExpr("CAST(SUM(s.cpu_milli) AS BIGINT) AS cpu_milli, CAST(SUM(s.memory) AS BIGINT) AS memory").
		Where("s.job_id <> ?", except).Group("jp.project").Scan(ctx, &rows)
	held := map[string]admission.Held{}
	for _, r := range rows {
		held[r.Project] = admission.Held{Jobs: r.Jobs, Containers: r.Containers, CPUMilli: r.CPUMilli,
			Memory: r.Memory}
	}
	return held, err
}
