package store

import (
	"context"

	"github.com/google/uuid"
	"github.com/uptrace/bun"
)

type deployment struct {
	bun.BaseModel `bun:"table:t_deployment,alias:d"`

	Singleton int    `bun:"singleton,pk"`
	ID        string `bun:"id"`
}

// DeploymentID returns the id of the deployment that owns this database. It lives as long as the database.
// Two deployments of one party, such as test and production, have different ids.
func (s *Store) DeploymentID(ctx context.Context) (string, error) {
	row := deployment{Singleton: 1, ID: uuid.NewString()}
	if _, err := s.w.NewInsert().Model(&row).On("CONFLICT (singleton) DO NOTHING").Exec(ctx); err != nil {
		return "", wrap(err, "create the deployment's id")
	}
	var kept deployment
	err := selectOne(ctx, s.w.NewSelect().Where("singleton = 1"), &kept, "the deployment's id")
	return kept.ID, err
}
