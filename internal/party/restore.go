package party

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"go.temporal.io/sdk/client"

	"hutong/internal/restore"
	"hutong/store"
	"hutong/store/blob"
)

// OpenServices opens the services that hold the party's state, to compare them or to finish a restore. The
// caller must close them.
func OpenServices(ctx context.Context, cfg *Config, logger *slog.Logger) (_ *restore.Services, _ func(),
	err error) {
	var closers []func()
	closeAll := func() {
		for i := len(closers) - 1; i >= 0; i-- {
			closers[i]()
		}
	}
	defer func() {
		if err != nil {
			closeAll()
		}
	}()
	db, err := cfg.OpenDatabase(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("failed to open the database of party %s: %w", cfg.NodeID, err)
	}
	closers = append(closers, func() { _ = db.Close() })
	if err := db.CheckSchema(ctx); err != nil {
		return nil, nil, fmt.Errorf("failed to use the database of party %s: %w", cfg.NodeID, err)
	}
	blobs, err := cfg.OpenStorage(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("failed to open the storage of party %s: %w", cfg.NodeID, err)
	}
	options, err := TemporalOptions(cfg, logger)
	if err != nil {
		return nil, nil, err
	}
	temporal, err := client.DialContext(ctx, options)
	if err != nil {
		return nil, nil, fmt.Errorf("failed to connect party %s to Temporal at %s: %w", cfg.NodeID,
			cfg.Temporal.Address, err)
	}
	closers = append(closers, temporal.Close)
	return &restore.Services{Node: cfg.NodeID, Store: db, Blobs: blobs, Temporal: temporal,
		Namespace: cfg.Temporal.Namespace, Converter: options.DataConverter,
		Several: cfg.Transport.Several, Transport: cfg.TransportAddress(), Logger: logger}, closeAll, nil
}

// checkRestored refuses the start if a service of the party was restored from a backup and 'hutong restore
// finish' has not run since. With security.mode open, as in development, the control worker finishes the
// restore itself.
func (p *Party) checkRestored(ctx context.Context, roles Roles, db *store.Store, blobs blob.Store,
	temporal client.Client) error {
	options, err := p.temporalOptions()
	if err != nil {
		return err
	}
	services := &restore.Services{Node: p.cfg.NodeID, Store: db, Blobs: blobs, Temporal: temporal,
		Namespace: p.cfg.Temporal.Namespace, Converter: options.DataConverter, Logger: p.logger}
	marks, err := services.Marks(ctx)
	if err != nil {
		return fmt.Errorf("failed to check whether a service of party %s was restored: %w", p.cfg.NodeID, err)
	}
	problems := marks.Problems()
	switch {
	case len(problems) == 0:
		return nil
	case p.cfg.Security.Mode == SecurityStrict:
		return fmt.Errorf("failed to start party %s: it was restored from a backup: %s; stop all its processes, "+
			"then run 'hutong restore check' and 'hutong restore finish'", p.cfg.NodeID,
			strings.Join(problems, "; "))
	case !roles.Control:
		p.logger.Warn("the party was restored from a backup; its control worker finishes that", "problems", problems)
		return nil
	}
	plan, err := services.Finish(ctx)
	if err != nil {
		return fmt.Errorf("failed to finish the restore of party %s: %w", p.cfg.NodeID, err)
	}
	p.logger.Warn("finished a restore from a backup", "problems", problems, "ended_jobs", len(plan.Jobs),
		"lost_objects", len(plan.Lost))
	return nil
}
