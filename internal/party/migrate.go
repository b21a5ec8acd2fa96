package party

import (
	"context"
	"fmt"
	"os"

	"hutong/store"
)

// Migrate brings the party's database to what this binary needs. Running it again, or at several places at once, is
// harmless.
func Migrate(ctx context.Context, cfg *Config) error {
	if err := os.MkdirAll(cfg.DataDir, 0o750); err != nil {
		return fmt.Errorf("making the folder of party %s: %w", cfg.NodeID, err)
	}
	db, err := store.Open(ctx, cfg.Database.URL.Reveal())
	if err != nil {
		return fmt.Errorf("opening the database of party %s: %w", cfg.NodeID, err)
	}
	defer func() { _ = db.Close() }()
	if err := db.Migrate(ctx); err != nil {
		return fmt.Errorf("migrating the database of party %s: %w", cfg.NodeID, err)
	}
	return nil
}
