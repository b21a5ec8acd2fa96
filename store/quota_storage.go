package store

import (
	"context"
	"fmt"

	"github.com/uptrace/bun"

	"hutong/bfia"
	"hutong/internal/identity"
)

// CheckStorage returns CodeConflict if what a project stores has reached its quota.
func (s *Store) CheckStorage(ctx context.Context, project string) error {
	quota, err := s.ProjectQuota(ctx, project)
	if err != nil || quota.Storage == 0 {
		return err
	}
	stored, err := storedBytes(ctx, s.r, project)
	if err == nil && stored >= quota.Storage {
		return storageUsedUp(stored, quota.Storage)
	}
	return wrap(err, "add up what project %s stores", project)
}

// holdStorage returns CodeConflict if a project stores more than its quota, with what the transaction has
// added. Others that add to the project wait until the transaction ends, so that they exceed no quota
// together.
func (s *Store) holdStorage(ctx context.Context, tx bun.Tx, project string) error {
	if project == identity.DefaultProject {
		return nil
	}
	row, err := s.lockProject(ctx, tx, project, "NO KEY UPDATE")
	if err != nil {
		return err
	}
	settings, err := row.project()
	if err != nil || settings.Quota.Storage == 0 {
		return err
	}
	stored, err := storedBytes(ctx, tx, project)
	if err == nil && stored > settings.Quota.Storage {
		return storageUsedUp(stored, settings.Quota.Storage)
	}
	return err
}

// storageUsedUp names no project, since partners get it.
func storageUsedUp(stored, quota int64) error {
	const gibi = 1 << 30
	return bfia.Errorf(bfia.CodeConflict, "the quota of storage at this party is used up: the datasets, "+
		"models and outputs of the project have %s of %s GiB; delete some",
		fmt.Sprintf("%.3f", float64(stored)/gibi), fmt.Sprintf("%.3f", float64(quota)/gibi))
}

// storedBytes returns the bytes of a project's datasets, of the outputs of its jobs, and of its models that
// are no output of a job which this party has.
func storedBytes(ctx context.Context, db bun.IDB, project string) (stored int64, err error) {
	// Sums of BIGINT are NUMERIC in PostgreSQL.
	err = db.NewRaw(`SELECT CAST(COALESCE(SUM(bytes), 0) AS BIGINT) FROM (
		SELECT bytes FROM t_data_table WHERE project = ?0
		UNION ALL SELECT o.bytes FROM t_job AS j JOIN t_task_output AS o ON o.job_id = j.job_id
			WHERE j.project = ?0
		UNION ALL SELECT m.bytes FROM t_model AS m
			WHERE EXISTS (SELECT 1 FROM t_job_project AS jp WHERE jp.job_id = m.job_id AND jp.project = ?0)
			AND NOT EXISTS (SELECT 1 FROM t_task_output AS o WHERE o.job_id = m.job_id
				AND o.namespace = m.namespace AND o.name = m.name)) AS stored`, project).Scan(ctx, &stored)
	return stored, err
}
