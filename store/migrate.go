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

// The SQL in migrations/ uses what both databases accept: TEXT, BIGINT, INTEGER, BOOLEAN, BYTEA and
// TIMESTAMPTZ (SQLite accepts any name of a type), statements split by "--bun:split". A released file never
// changes.
//
//go:embed migrations/*.sql
var migrationFiles embed.FS

// The key of the advisory lock that lets one process at a time migrate a PostgreSQL database.
const migrationLock = 0x6875746f6e67 // "hutong"

func migrations() (*migrate.Migrations, error) {
	files, err := fs.Sub(migrationFiles, "migrations")
	if err != nil {
		return nil, err
	}
	all := migrate.NewMigrations()
	return all, all.Discover(files)
}

// Migrate brings the database to this binary's schema: it runs all missing migrations in one transaction, or
// none. Several processes may call it at once: one migrates, the others wait and find nothing to do. It fails
// if a newer binary has migrated the database.
//
// The lock and the transaction are the database's own, around bun's migrator. bun's lock table would stay
// locked when a process dies.
func (s *Store) Migrate(ctx context.Context) (err error) {
	defer func() { err = wrap(err, "migrate") }()
	all, err := migrations()
	if err != nil {
		return err
	}
	// bun's migrator needs a database, not a transaction: it gets a database with one connection, which is in
	// a transaction.
	conn, err := s.openConn()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }() // rolls back if not committed
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
	// Poll: a call that blocks in the server would run into the driver's read timeout.
	for {
		var got bool
		if err := conn.QueryRowContext(ctx, fmt.Sprintf("SELECT pg_try_advisory_xact_lock(%d)",
			migrationLock)).Scan(&got); err != nil {
			return err
		}
		if got {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("another process still migrates: %w", ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// CheckSchema fails if the database lacks a migration of this binary. Processes that do not migrate call it.
// The database may have newer migrations, as in a rolling update: migrations only add, so an older binary
// works next to a newer one.
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
		return fmt.Errorf("store: the database lacks migration %s of this binary: run migrate",
			missing[0].Name)
	}
	return nil
}

// checkNewer fails if the database has migrations that this binary does not know.
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
			return fmt.Errorf(
				"the database is newer than this binary: it has migration %s, the binary knows them up to "+
					"%s; use the newer binary",
				mig.Name,
				newest,
			)
		}
	}
	return nil
}
