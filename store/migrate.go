package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/migrate"
)

// The SQL in migrations/ keeps to what both databases accept: TEXT, BIGINT, INTEGER, BOOLEAN, BYTEA and TIMESTAMPTZ
// (SQLite takes any name for a type), statements split by "--bun:split". A file is never changed once it is released.
//
//go:embed migrations/*.sql
var migrationFiles embed.FS

// Any number that is ours: it keeps two processes from migrating one PostgreSQL database at once.
const migrationLock = 0x6875746f6e67 // "hutong"

func migrations() (*migrate.Migrations, error) {
	files, err := fs.Sub(migrationFiles, "migrations")
	if err != nil {
		return nil, err
	}
	all := migrate.NewMigrations()
	return all, all.Discover(files)
}

// Migrate brings the database to this binary's schema: all missing migrations in one transaction, or none. Several
// processes may do it at once: one works, the others wait and find nothing to do. It fails when the database has been
// migrated by a newer binary.
//
// The lock and the transaction are the database's own, around bun's migrator, and not bun's lock table: that one stays
// locked when a process dies.
func (s *Store) Migrate(ctx context.Context) (err error) {
	defer func() { err = wrap(err, "migrate") }()
	all, err := migrations()
	if err != nil {
		return err
	}
	// bun's migrator takes a database, not a transaction, so it gets a database of one connection that is in one.
	conn, err := s.openConn()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }() // rolls back what is not committed
	if err := s.beginMigration(ctx, conn); err != nil {
		return err
	}
	m := migrate.NewMigrator(bun.NewDB(conn, s.w.Dialect()), all)
	if err := m.Init(ctx); err != nil {
		return err
	}
	if err := checkNewer(ctx, m, all); err != nil {
		return err
	}
	if _, err := m.Migrate(ctx); err != nil {
		return err
	}
	_, err = conn.ExecContext(ctx, "COMMIT")
	return err
}

func (s *Store) beginMigration(ctx context.Context, conn *sql.DB) error {
	if !s.pg {
		return retryBusy(ctx, func() error {
			_, err := conn.ExecContext(ctx, "BEGIN IMMEDIATE")
			return err
		})
	}
	if _, err := conn.ExecContext(ctx, "BEGIN"); err != nil {
		return err
	}
	// Asked again and again: a call that waits in the server would run into the driver's time-out for an answer.
	for {
		var got bool
		if err := conn.QueryRowContext(ctx, fmt.Sprintf("SELECT pg_try_advisory_xact_lock(%d)", migrationLock)).Scan(&got); err != nil {
			return err
		}
		if got {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for another process that migrates: %w", ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// CheckSchema tells whether this binary can use the database, for processes that don't migrate themselves: it lacks none of
// the binary's migrations. It may have newer ones, as it has while the processes of a deployment are replaced one by one:
// migrations only add, so an older binary goes on beside a newer.
func (s *Store) CheckSchema(ctx context.Context) error {
	all, err := migrations()
	if err != nil {
		return wrap(err, "check the schema")
	}
	m := migrate.NewMigrator(s.r, all)
	status, err := m.MigrationsWithStatus(ctx)
	if err != nil {
		return wrap(err, "check the schema (run migrate first)")
	}
	if missing := status.Unapplied(); len(missing) > 0 {
		return fmt.Errorf("store: the database lacks migration %s of this binary: run migrate", missing[0].Name)
	}
	return nil
}

// checkNewer fails when the database has migrations that this binary doesn't know.
func checkNewer(ctx context.Context, m *migrate.Migrator, all *migrate.Migrations) error {
	known := make(map[string]bool)
	newest := ""
	for _, mig := range all.Sorted() {
		known[mig.Name] = true
		newest = mig.Name
	}
	applied, err := m.AppliedMigrations(ctx)
	if err != nil {
		return err
	}
	for _, mig := range applied {
		if !known[mig.Name] {
			return fmt.Errorf("the database has migration %s, this binary knows them up to %s: the database is newer, use the binary that migrated it", mig.Name, newest)
		}
	}
	return nil
}
