package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	"github.com/uptrace/bun/dialect/sqlitedialect"
	"github.com/uptrace/bun/driver/pgdriver"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"hutong/bfia"
)

const (
	// How long a process waits for another one's write to a SQLite file.
	sqliteBusyTimeout = 10 * time.Second
	sqliteReaders     = 4
	postgresConns     = 16
)

// Store is an open database. It is safe for concurrent use, also by several processes on one database.
type Store struct {
	// w writes and r reads. SQLite allows one writer at a time. With one connection for writes, writers queue
	// here, in order, and do not collide in the file; readers never wait for them. With PostgreSQL both are
	// the same pool.
	w, r *bun.DB
	// openConn opens another connection to the same database, for migrations.
	openConn func() (*sql.DB, error)
	pg       bool

	documents   *documentCache
	observer    Observer
	queueLength queueLength
}

// Open opens a database by its address: "sqlite:///abs/path.db" (created if missing, with its folder), or
// "postgres://user:password@host:port/database?sslmode=disable", with "host=/folder" among the parameters for
// a Unix socket. It fails if the database does not answer. No error contains the password.
func Open(ctx context.Context, address string) (*Store, error) {
	u, err := url.Parse(address)
	if err != nil {
		// url.Parse quotes the whole address, with the password in it.
		return nil, errors.New(
			"open database: the address is not a URL; write sqlite:///path.db or postgres://user:password@host/database",
		)
	}
	var s *Store
	switch u.Scheme {
	case "sqlite":
		s, err = openSQLite(ctx, u)
	case "postgres", "postgresql":
		s, err = openPostgres(u)
	default:
		return nil, fmt.Errorf(
			"open database: unknown scheme %q; write sqlite:///path.db or postgres://user:password@host/database",
			u.Scheme,
		)
	}
	if err != nil {
		return nil, err
	}
	if err := s.Ping(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open database %s: %w", u.Redacted(), err), s.Close())
	}
	return s, nil
}

func openSQLite(ctx context.Context, u *url.URL) (*Store, error) {
	path := u.Path
	if u.Host != "" || !filepath.IsAbs(path) || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New(
			"open database: a SQLite address is sqlite:// and an absolute path, such as sqlite:///var/lib/hutong/hutong.db",
		)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	pragmas := url.Values{
		"_txlock": {"immediate"},
		"_pragma": {
			fmt.Sprintf("busy_timeout(%d)", sqliteBusyTimeout.Milliseconds()),
			"journal_mode(WAL)", "synchronous(NORMAL)", "foreign_keys(1)",
		},
	}
	dsn := (&url.URL{Scheme: "file", Path: path, RawQuery: pragmas.Encode()}).String()
	open := func(conns int) (*sql.DB, error) {
		db, err := sql.Open("sqlite", dsn)
		if err != nil {
			return nil, fmt.Errorf("open database: %w", err)
		}
		db.SetMaxOpenConns(conns)
		db.SetMaxIdleConns(conns)
		return db, nil
	}
	w, err := open(1)
	if err != nil {
		return nil, err
	}
	// Switching a new file to WAL needs exclusive access and does not wait for it. Several processes that
	// start at once get "busy" here.
	err = retryBusy(ctx, func() error { return w.PingContext(ctx) })
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open database %s: %w", path, err), w.Close())
	}
	r, err := open(sqliteReaders)
	if err != nil {
		return nil, errors.Join(err, w.Close())
	}
	dialect := sqlitedialect.New()
	return &Store{
		w: bun.NewDB(w, dialect), r: bun.NewDB(r, dialect),
		openConn:  func() (*sql.DB, error) { return open(1) },
		documents: &documentCache{},
	}, nil
}

func openPostgres(u *url.URL) (_ *Store, err error) {
	// pgdriver panics at parameters that it does not know, with the address in the message.
	defer func() {
		if p := recover(); p != nil {
			err = errors.New(
				"open database: the parameters of the PostgreSQL address are not understood (sslmode, " +
					"sslrootcert, connect_timeout, host)",
			)
		}
	}()
	if u.User.Username() == "" || len(u.Path) < 2 {
		return nil, errors.New(
			"open database: a PostgreSQL address names a user and a database: postgres://user:password@host:5432/database",
		)
	}
	dsn := *u
	if host := u.Query().Get("host"); strings.HasPrefix(host, "/") &&
		!strings.Contains(filepath.Base(host), ".s.PGSQL.") {
		// As in libpq, host is the socket's folder; pgdriver wants the socket.
		port := u.Query().Get("port")
		if port == "" {
			port = "5432"
		}
		q := u.Query()
		q.Set("host", filepath.Join(host, ".s.PGSQL."+port))
		q.Del("port")
		dsn.RawQuery = q.Encode()
	}
	connector := &writableConnector{Connector: pgdriver.NewConnector(
		pgdriver.WithApplicationName("hutong"), pgdriver.WithTracing(false), pgdriver.WithDSN(dsn.String()))}
	open := func(conns int) *sql.DB {
		db := sql.OpenDB(connector)
		db.SetMaxOpenConns(conns)
		db.SetMaxIdleConns(conns)
		db.SetConnMaxIdleTime(5 * time.Minute)
		return db
	}
	db := bun.NewDB(open(postgresConns), pgdialect.New())
	return &Store{
		w:         db,
		r:         db,
		pg:        true,
		documents: &documentCache{},
		openConn:  func() (*sql.DB, error) { return open(1), nil },
	}, nil
}

// Ping fails if the database does not answer.
func (s *Store) Ping(ctx context.Context) error {
	return wrap(s.w.PingContext(ctx), "ping")
}

// Close closes all connections.
func (s *Store) Close() error {
	if s.r == s.w {
		return s.w.Close()
	}
	return errors.Join(s.r.Close(), s.w.Close())
}

// tx runs f in a transaction. If the database aborts it in favour of another transaction, tx runs f again: f
// must not change anything but the database.
func (s *Store) tx(ctx context.Context, f func(ctx context.Context, tx bun.Tx) error) error {
	return retryBusy(ctx, func() error { return s.w.RunInTx(ctx, nil, f) })
}

// withinDeadline runs writes of f outside a transaction. If another process has locked SQLite, they fail at
// ctx's deadline. Its driver would wait for sqliteBusyTimeout and notice the deadline only then.
func (s *Store) withinDeadline(ctx context.Context, f func(db bun.IDB) error) (err error) {
	deadline, ok := ctx.Deadline()
	if s.pg || !ok {
		return f(s.w)
	}
	conn, err := s.w.Conn(ctx)
	if err != nil {
		return wrap(err, "wait for a connection")
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	wait := func(d time.Duration) error {
		_, err := conn.ExecContext(context.WithoutCancel(ctx), fmt.Sprintf("PRAGMA busy_timeout = %d",
			d.Milliseconds()))
		return err
	}
	if err := wait(min(max(time.Until(deadline), 0), sqliteBusyTimeout)); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, wait(sqliteBusyTimeout)) }()
	return f(conn)
}

// affected returns how many rows a statement changed.
func affected(res sql.Result, err error) (int, error) {
	if err != nil {
		return 0, err
	}
	n, err := res.RowsAffected()
	return int(n), err
}

// selectOne reads a single row. what names the row in errors.
func selectOne[T any](ctx context.Context, q *bun.SelectQuery, row *T, what string, args ...any) error {
	err := q.Model(row).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return bfia.Errorf(bfia.CodeNotFound, "%s is not known", fmt.Sprintf(what, args...))
	}
	return wrap(err, "read "+what, args...)
}
