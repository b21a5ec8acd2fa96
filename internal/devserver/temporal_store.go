//go:build !slim

package devserver

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/persistence/sql/sqlplugin"
	sqliteplugin "go.temporal.io/server/common/persistence/sql/sqlplugin/sqlite"
	sqliteschema "go.temporal.io/server/schema/sqlite"
	"google.golang.org/protobuf/types/known/durationpb"
	_ "modernc.org/sqlite" // the driver "sqlite", which the server uses too

	"hutong/internal/temporalns"
)

const clusterName = "active"

// temporalStore is the folder of a Temporal server, with its database and a lock file. The lock excludes a
// second server: SQLite would let two servers write alternately, and each would believe that it owns the
// histories.
type temporalStore struct {
	file string
	lock *os.File
}

func openTemporalStore(dir string) (*temporalStore, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "temporal.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close()
		return nil,
			fmt.Errorf("data folder %s: another Temporal server uses it: stop that server, or choose "+
				"another folder with --data-dir",
				dir)
	}
	return &temporalStore{file: filepath.Join(dir, "temporal.db"), lock: lock}, nil
}

func (s *temporalStore) close() { _ = s.lock.Close() }

// config returns the connection settings of the server. WAL with synchronous NORMAL loses nothing if a
// process dies. A power failure can lose the last transactions, but does not corrupt the file. SQLite has one
// writer, so one connection suffices.
func (s *temporalStore) config() *config.SQL {
	return &config.SQL{
		PluginName:   sqliteplugin.PluginName,
		DatabaseName: s.file,
		ConnectAttributes: map[string]string{
			"mode": "rwc", "journal_mode": "wal", "synchronous": "1", "busy_timeout": "10000",
			"cache_size": "-65536",
			"temp_store": "2", "mmap_size": "268435456",
		},
	}
}

// prepare creates the tables of an empty database in one transaction, and missing namespaces.
func (s *temporalStore) prepare(ctx context.Context, namespaces []string, retention time.Duration) error {
	db, err := s.open()
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	if err := createTables(ctx, db); err != nil {
		return fmt.Errorf("failed to prepare database %s: %w", s.file, err)
	}
	var configs []*sqliteschema.NamespaceConfig
	for _, name := range namespaces {
		c, err := sqliteschema.NewNamespaceConfig(clusterName, name, false, temporalns.SearchAttributes())
		if err != nil {
			return fmt.Errorf("failed to configure namespace %s: %w", name, err)
		}
		c.Detail.Config.Retention = durationpb.New(retention)
		configs = append(configs, c)
	}
	if err := sqliteschema.CreateNamespaces(s.config(), configs...); err != nil {
		return fmt.Errorf("failed to prepare database %s: %w", s.file, err)
	}
	return nil
}

// checkpoint moves the content of the write-ahead log into the database. The server keeps its connection open
// until the process ends, so SQLite would not do it.
func (s *temporalStore) checkpoint(ctx context.Context) error {
	db, err := s.open()
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	_, err = db.ExecContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)")
	return err
}

func (s *temporalStore) open() (*sql.DB, error) {
	address := url.URL{Scheme: "file", Opaque: (&url.URL{Path: s.file}).EscapedPath(),
		RawQuery: url.Values{"_pragma": {"busy_timeout=10000", "journal_mode=wal"}}.Encode()}
	db, err := sql.Open("sqlite", address.String())
	if err != nil {
		return nil, fmt.Errorf("failed to prepare database %s: %w", s.file, err)
	}
	return db, nil
}

func createTables(ctx context.Context, db *sql.DB) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	var tables int
	if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_master").Scan(&tables); err != nil {
		return err
	}
	if tables > 0 {
		return nil
	}
	if err := sqliteschema.SetupSchemaOnDB(schemaTx{ctx: ctx, tx: tx}); err != nil {
		return fmt.Errorf("failed to create the tables: %w", err)
	}
	return tx.Commit()
}

// schemaTx runs the server's statements in one transaction. A killed process must not leave a partial schema,
// because nothing could repair it. Creating the tables needs only the method Exec of AdminDB.
type schemaTx struct {
	sqlplugin.AdminDB
	ctx context.Context
	tx  *sql.Tx
}

func (s schemaTx) Exec(statement string, args ...any) error {
	_, err := s.tx.ExecContext(s.ctx, statement, args...)
	return err
}
