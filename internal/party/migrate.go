package party

import (
	"context"
	"fmt"
	"os"

	"hutong/store"
)

// Migrate creates or upgrades the schema of the party's database. It is idempotent and may run concurrently.
func Migrate(ctx context.Context, cfg *Config) error {
	if err := os.MkdirAll(cfg.DataDir, 0o750); err != nil {
		return fmt.Errorf("failed to create the data folder of party %s: %w", cfg.NodeID, err)
	}
	db, err := store.Open(ctx, cfg.Database.URL.Reveal())
	if err != nil {
		return fmt.Errorf("failed to open the database of party %s: %w", cfg.NodeID, err)
	}
	defer func() { _ = db.Close() }()
	if err := db.Migrate(ctx); err != nil {
		return fmt.Errorf("failed to migrate the database of party %s: %w", cfg.NodeID, err)
	}
	return nil
}
