package party

import (
	"context"
	"fmt"
	"os"
	"time"

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

const (
	// leastHistoryRetention is the shortest retention that Temporal accepts.
	leastHistoryRetention = 24 * time.Hour
	// endlessHistoryRetention is for results that are kept forever, which Temporal has no value for.
	endlessHistoryRetention = 100 * 365 * 24 * time.Hour
)

// HistoryRetention returns how long Temporal must keep the histories of closed workflows: as long as the
// party keeps the results of their jobs.
func (c *Config) HistoryRetention() time.Duration {
	if c.Jobs.Retention == 0 {
		return endlessHistoryRetention
	}
	return max(c.Jobs.Retention, leastHistoryRetention)
}
