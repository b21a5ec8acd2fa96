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

	"hutong/bfia"
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
// first migration creates a table or an index, or adds a column that has a default or may be NULL, or fills a
// table that the migration creates.
func TestMigrationsOnlyAdd(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join("migrations", "*.up.sql"))
	require.NoError(t, err)
	additions := regexp.MustCompile(
		`(?is)^(CREATE TABLE|CREATE INDEX|ALTER TABLE \w+ ADD COLUMN \w+ \w+( NOT NULL DEFAULT [^,]+)?$)`,
	)
	fills := regexp.MustCompile(`(?is)^INSERT INTO (\w+) .*SELECT`)
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
			statement = strings.TrimSpace(statement)
			if filled := fills.FindStringSubmatch(statement); filled != nil {
				require.Contains(t, string(text), "CREATE TABLE "+filled[1]+" ",
					"%s fills an older table", file)
				continue
			}
			if statement != "" {
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

// TestMigrateToProjects migrates a database of the version before projects, with jobs, datasets, models and
// periodic jobs: all belong to default then, and are found by lists of default only. The database has the
// migrations with higher numbers already, which were released first.
func TestMigrateToProjects(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), storetest.Open(t, address)
		endedJob(t, s, "ended", at)
		scheduledJob(t, s, "scheduled")
		require.NoError(t, s.PutModels(ctx, []store.Model{trainedModel("ended", "m")}))
		require.NoError(t, s.CreateGeneration(ctx, "n", "x", "g", at))
		require.NoError(t, s.PutDataTable(ctx, store.DataTable{Namespace: "n", Name: "x", Generation: "g"}))
		require.NoError(t, s.AddPeriodicJob(ctx, store.PeriodicJob{PeriodicID: "p", Name: "nightly"},
			store.PeriodicDocument{Document: []byte("{}")}))
		db := rawDB(t, address)
		for _, statement := range []string{
			"DROP INDEX i_job_project",
			"DROP INDEX i_job_project_ended",
			"DROP INDEX i_job_project_state",
			"DROP INDEX i_schedule_job_project_ended",
			"DROP INDEX i_schedule_job_project_state",
			"ALTER TABLE t_job DROP COLUMN project",
			"ALTER TABLE t_schedule_job DROP COLUMN project",
			"ALTER TABLE t_schedule_job DROP COLUMN wait_quota",
			"ALTER TABLE t_data_table DROP COLUMN project",
			"ALTER TABLE t_approval_rule DROP COLUMN project",
			"ALTER TABLE t_periodic_job DROP COLUMN project",
			"DROP TABLE t_project",
			"DROP TABLE t_job_project",
			"DELETE FROM bun_migrations WHERE name LIKE '0013%'",
		} {
			_, err := db.Exec(statement)
			require.NoError(t, err, statement)
		}

		s, err := store.Open(ctx, address)
		require.NoError(t, err)
		defer s.Close()
		require.ErrorContains(t, s.CheckSchema(ctx), "lacks migration 0013")
		require.Equal(t, []string{"0014", "0015", "0016", "0017"}, appliedAfter(t, db, "0013"))
		require.NoError(t, s.Migrate(ctx))
		require.Equal(t, []string{"0013", "0014", "0015", "0016", "0017"}, appliedAfter(t, db, "0012"))
		require.NoError(t, s.CheckSchema(ctx))
		for project, want := range map[string]int{"default": 1, "a": 0} {
			in := store.WithProjects(ctx, project)
			page, err := s.Jobs(in, store.JobFilter{})
			require.NoError(t, err)
			require.Len(t, page.Jobs, want)
			models, err := s.Models(in, "")
			require.NoError(t, err)
			require.Len(t, models, want)
			periodic, err := s.PeriodicJobs(in)
			require.NoError(t, err)
			require.Len(t, periodic, want)
			known, err := s.KnowsData(in, bfia.Address{Namespace: "n", Name: "x"})
			require.NoError(t, err)
			require.Equal(t, want == 1, known)
			known, err = s.KnowsJob(in, "scheduled")
			require.NoError(t, err)
			require.Equal(t, want == 1, known)
		}
	})
}

// appliedAfter returns the names of the applied migrations with higher numbers, in their order.
func appliedAfter(t *testing.T, db *sql.DB, name string) []string {
	t.Helper()
	query := "SELECT name FROM bun_migrations WHERE name > '" + name + "' ORDER BY name"
	rows, err := db.QueryContext(t.Context(), query)
	require.NoError(t, err)
	defer rows.Close()
	var applied []string
	for rows.Next() {
		var next string
		require.NoError(t, rows.Scan(&next))
		applied = append(applied, next)
	}
	require.NoError(t, rows.Err())
	return applied
}
