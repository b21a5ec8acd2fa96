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

// DeploymentID names the deployment that this database is of, the same for as long as the database is kept. Two deployments
// of one party, such as a test beside the real one, have different ones.
func (s *Store) DeploymentID(ctx context.Context) (string, error) {
	row := deployment{Singleton: 1, ID: uuid.NewString()}
	if _, err := s.w.NewInsert().Model(&row).On("CONFLICT (singleton) DO NOTHING").Exec(ctx); err != nil {
		return "", wrap(err, "name the deployment")
	}
	var kept deployment
	err := selectOne(ctx, s.w.NewSelect().Where("singleton = 1"), &kept, "the deployment's name")
	return kept.ID, err
}
