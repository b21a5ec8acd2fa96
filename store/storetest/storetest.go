package storetest

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/uptrace/bun/driver/pgdriver"

	"hutong/store"
)

// Each runs f as two subtests, with the address of an empty SQLite database and of an empty PostgreSQL
// database.
func Each(t *testing.T, f func(t *testing.T, address string)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { t.Parallel(); f(t, SQLite(t)) })
	t.Run("postgres", func(t *testing.T) { t.Parallel(); f(t, Postgres(t)) })
}

// Open opens and migrates the database at an address. It is closed at the end of the test.
func Open(t testing.TB, address string) *store.Store {
	t.Helper()
	s, err := store.Open(context.Background(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := s.Migrate(context.Background()); err != nil {
		t.Fatal(err)
	}
	return s
}

// Raw opens the database at an address for statements that the store does not offer. It is closed at the end
// of the test.
func Raw(t testing.TB, address string) *sql.DB {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	var db *sql.DB
	if u.Scheme == "sqlite" {
		if db, err = sql.Open("sqlite", "file:"+u.Path+"?_pragma=busy_timeout(10000)"); err != nil {
			t.Fatal(err)
		}
	} else {
		q := u.Query()
		if host := q.Get("host"); host != "" {
			q.Set("host", filepath.Join(host, ".s.PGSQL.5432"))
			u.RawQuery = q.Encode()
		}
		db = sql.OpenDB(pgdriver.NewConnector(pgdriver.WithDSN(u.String())))
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// SQLite returns the address of an empty SQLite database for this test.
func SQLite(t testing.TB) string {
	t.Helper()
	return "sqlite://" + filepath.ToSlash(filepath.Join(t.TempDir(), "test.db"))
}

// Postgres returns the address of an empty PostgreSQL database for this test, which is dropped at its end.
// The server is that at HUTONG_TEST_POSTGRES (a URL of a role that may create databases), or one that the
// test process starts from the installed binaries. Without either the test is skipped; it fails if
// HUTONG_REQUIRE_POSTGRES is 1.
func Postgres(t testing.TB) string {
	t.Helper()
	server := os.Getenv("HUTONG_TEST_POSTGRES")
	if server == "" {
		own, err := startShared()
		if err != nil {
			skipWithoutPostgres(t, err)
		}
		server = own
	}
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal("HUTONG_TEST_POSTGRES is not a URL")
	}
	name := "hutong_test_" + strings.ToLower(rand.Text())
	admin(t, u, fmt.Sprintf("CREATE DATABASE %s TEMPLATE template0", name))
	t.Cleanup(func() { admin(t, u, fmt.Sprintf("DROP DATABASE %s WITH (FORCE)", name)) })
	own := *u
	own.Path = "/" + name
	return own.String()
}

// skipWithoutPostgres skips a test that has no PostgreSQL, or fails it where PostgreSQL is required.
func skipWithoutPostgres(t testing.TB, err error) {
	t.Helper()
	if os.Getenv("HUTONG_REQUIRE_POSTGRES") == "1" {
		t.Fatalf("PostgreSQL is required: %v", err)
	}
	t.Skipf("no PostgreSQL: %v", err)
}

// admin runs a statement on the server's own database.
func admin(t testing.TB, server *url.URL, statement string) {
	t.Helper()
	dsn := *server
	if host := dsn.Query().Get("host"); strings.HasPrefix(host, "/") {
		q := dsn.Query()
		q.Set("host", filepath.Join(host, ".s.PGSQL.5432"))
		dsn.RawQuery = q.Encode()
	}

	connector := pgdriver.NewConnector(pgdriver.WithDSN(dsn.String()), pgdriver.WithTimeout(5*time.Minute))
	db := sql.OpenDB(connector)
	defer db.Close()
	if _, err := db.Exec(statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}
