package store_test

import (
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"hutong/store"
	"hutong/store/storetest"
)

// rawDB opens the database of a store, for statements that the store does not offer.
func rawDB(t *testing.T, address string) *sql.DB {
	t.Helper()
	return storetest.Raw(t, address)
}

func TestMigrateTwiceAndTogether(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx := t.Context()
		var all errgroup.Group
		for range 8 {
			all.Go(func() error {
				s, err := store.Open(ctx, address)
				if err != nil {
					return err
				}
				defer s.Close()
				if err := s.Migrate(ctx); err != nil {
					return err
				}
				return s.CheckSchema(ctx)
			})
		}
		require.NoError(t, all.Wait())
		s := storetest.Open(t, address)
		require.NoError(t, s.Migrate(ctx))
		var n int
		require.NoError(t, rawDB(t, address).QueryRow("SELECT count(*) FROM bun_migrations").Scan(&n))
		files, err := filepath.Glob(filepath.Join("migrations", "*.up.sql"))
		require.NoError(t, err)
		require.Equal(t, len(files), n, "each migration is recorded once")
	})
}

// A binary refuses to migrate a database that a newer one has migrated, but can use it.
func TestMigrateRefusesANewerDatabase(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx := t.Context()
		s := storetest.Open(t, address)
		_, err := rawDB(
			t,
			address,
		).Exec("INSERT INTO bun_migrations (name, group_id, migrated_at) VALUES ('9999', 2, '2026-01-01 " +
			"00:00:00')")
		require.NoError(t, err)
		require.ErrorContains(t, s.Migrate(ctx), "has migration 9999")
		require.NoError(t, s.CheckSchema(ctx), "an older binary can use it")
	})
}

// A database that has migration 0015 gets 0014, which was released after it, and keeps what it holds.
func TestMigrateAppliesAnEarlierNumber(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx := t.Context()
		s, db := storetest.Open(t, address), rawDB(t, address)
		require.NoError(t, s.CreateJob(ctx, store.Job{JobID: "J", CreatedAt: time.Now()}, nil))
		for _, statement := range []string{"DROP TABLE t_placement", "DROP TABLE t_transport",
			"DELETE FROM bun_migrations WHERE name = '0014'"} {
			_, err := db.ExecContext(ctx, statement)
			require.NoError(t, err)
		}
		require.ErrorContains(t, s.CheckSchema(ctx), "lacks migration 0014")
		_, err := s.Transports(ctx)
		require.Error(t, err, "the table is not there")

		require.NoError(t, s.Migrate(ctx))
		require.NoError(t, s.CheckSchema(ctx))
		registered, err := s.RegisterTransport(ctx, store.Transport{VolumeID: "v", Name: "n", Address: "a:1",
			Instance: "i", Epoch: 2}, 0)
		require.NoError(t, err)
		require.True(t, registered)
		require.NoError(t, s.ClaimUnfinishedJobs(ctx, "v"))
		volume, err := s.Placement(ctx, "session_J")
		require.NoError(t, err)
		require.Equal(t, "v", volume, "the job is still there")
		require.NoError(t, s.Migrate(ctx), "again")
	})
}

// Migrations only add, so that the previous version works while they run and after. Each statement after the
// first migration creates a table or an index, or adds a column that has a default or may be NULL.
func TestMigrationsOnlyAdd(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join("migrations", "*.up.sql"))
	require.NoError(t, err)
	additions := regexp.MustCompile(
		`(?is)^(CREATE TABLE|CREATE INDEX|ALTER TABLE \w+ ADD COLUMN \w+ \w+( NOT NULL DEFAULT [^,]+)?$)`,
	)
	comment := regexp.MustCompile(`(?m)^\s*--.*$`)
	require.Regexp(t, additions, "ALTER TABLE t_job ADD COLUMN x TEXT NOT NULL DEFAULT ''")
	require.Regexp(t, additions, "CREATE INDEX i_job_x ON t_job (x)")
	for _, bad := range []string{"DROP TABLE t_job", "ALTER TABLE t_job ADD COLUMN x TEXT NOT NULL",
		"ALTER TABLE t_job DROP COLUMN state"} {
		require.NotRegexp(t, additions, bad)
	}
	for _, file := range files[1:] {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for statement := range strings.SplitSeq(comment.ReplaceAllString(string(text), ""), ";") {
			if statement = strings.TrimSpace(statement); statement != "" {
				require.Regexp(t, additions, statement, "%s breaks the previous version", file)
			}
		}
	}
}

func TestCheckSchemaOfAnEmptyDatabase(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		s, err := store.Open(t.Context(), address)
		require.NoError(t, err)
		defer s.Close()
		require.NoError(t, s.Ping(t.Context()))
		require.ErrorContains(t, s.CheckSchema(t.Context()), "run migrate")
	})
}

// A migration that fails in the middle changes nothing, and can be repeated.
func TestMigrateIsAllOrNothing(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx := t.Context()
		s, err := store.Open(ctx, address)
		require.NoError(t, err)
		defer s.Close()
		db := rawDB(t, address)
		_, err = db.Exec("CREATE TABLE t_reservation (x INTEGER)") // conflicts with the last table
		require.NoError(t, err)
		require.Error(t, s.Migrate(ctx))
		_, err = db.Exec("SELECT * FROM t_job")
		require.Error(t, err, "the tables before it are rolled back")
		_, err = db.Exec("DROP TABLE t_reservation")
		require.NoError(t, err)
		require.NoError(t, s.Migrate(ctx))
		require.NoError(t, s.CheckSchema(ctx))
	})
}

func TestOpenRefusesAndKeepsThePassword(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"postgres://hutong:sEcret@127.0.0.1:1/db?sslmode=disable",
		"postgres://hutong:sEcret@127.0.0.1:1/db?sslmode=sometimes",
		"postgres://hutong:sEcret@127.0.0.1:1/db?sslmode=disable&connect_timeout=x",
		"postgres://hutong:sEcret@127.0.0.1:1/", "postgres://hutong:sEcret%zz@127.0.0.1:1/db",
		"postgres://hutong:sEcret@127.0.0.1:notaport/db", "mysql://hutong:sEcret@127.0.0.1/db",
		"sqlite://relative/sEcret.db", "sEcret", ""} {
		s, err := store.Open(context.Background(), address)
		require.Error(t, err, address)
		require.Nil(t, s)
		require.False(t, strings.Contains(err.Error(), "sEcret"), "%v", err)
	}
}
