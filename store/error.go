package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/uptrace/bun/driver/pgdriver"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"hutong/bfia"
)

// wrap adds to an error which operation failed; nil stays nil. A [bfia.Error] keeps its code and message, a
// database that is busy, full, read-only or unreachable becomes CodeUnavailable, any other error is internal.
func wrap(err error, doing string, args ...any) error {
	if err == nil {
		return nil
	}
	what := "store: failed to " + fmt.Sprintf(doing, args...)
	var known *bfia.Error
	switch {
	case errors.As(err, &known):
		return err
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: %w", what, err)
	case diskFull(err):
		return bfia.Unavailable(bfia.WaitsForDatabase, fmt.Errorf("%s: %w", what, err),
			"the database has no space left on its disk")
	case isReadOnly(err):
		return bfia.Unavailable(bfia.WaitsForDatabase, fmt.Errorf("%s: %w", what, err),
			"the database accepts no writes now")
	case isBusy(err) || isUnreachable(err):
		return bfia.Unavailable(bfia.WaitsForDatabase, fmt.Errorf("%s: %w", what, err),
			"the database does not answer")
	case isNotText(err):
		return bfia.Wrap(bfia.CodeBadRequest, fmt.Errorf("%s: %w", what, err),
			"a name or id is not UTF-8 text without NUL")
	}
	return fmt.Errorf("%s: %w", what, err)
}

// isUnreachable reports whether the connection, or the server behind it, is gone.
func isUnreachable(err error) bool {
	if lostConnection(err) || isServerAway(err) {
		return true
	}
	var perr pgdriver.Error
	// 53: out of connections, memory or disk.
	return errors.As(err, &perr) && strings.HasPrefix(perr.Field('C'), "53")
}

// isNotText reports whether PostgreSQL refused a text in a query. Writes are checked before, see checkText.
func isNotText(err error) bool {
	var perr pgdriver.Error
	return errors.As(err, &perr) && perr.Field('C') == "22021"
}

// isBusy reports whether the transaction was aborted in favour of another one; a retry may succeed.
func isBusy(err error) bool {
	var perr pgdriver.Error
	if errors.As(err, &perr) {
		code := perr.Field('C')
		return code == "40001" || code == "40P01" // serialization failure, deadlock
	}
	var serr *sqlite.Error
	return errors.As(err, &serr) && serr.Code()&0xff == sqlite3.SQLITE_BUSY
}

// diskFull reports whether the disk is full. The same write succeeds once it is not.
func diskFull(err error) bool {
	var perr pgdriver.Error
	if errors.As(err, &perr) {
		return perr.Field('C') == "53100"
	}
	var serr *sqlite.Error
	if !errors.As(err, &serr) {
		return false
	}
	switch serr.Code() {
	case sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_WRITE:
		return true
	}
	return false
}

// isDuplicate reports whether a unique index refused the row.
func isDuplicate(err error) bool {
	var perr pgdriver.Error
	if errors.As(err, &perr) {
		return perr.Field('C') == "23505"
	}
	var serr *sqlite.Error
	return errors.As(err, &serr) &&
		(serr.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE ||
			serr.Code() == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY)
}

// isMissingParent reports whether a foreign key refers to no row.
func isMissingParent(err error) bool {
	var perr pgdriver.Error
	if errors.As(err, &perr) {
		return perr.Field('C') == "23503"
	}
	var serr *sqlite.Error
	return errors.As(err, &serr) && serr.Code() == sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY
}

// retryBusy runs f until it does not fail as busy, at most for as long as a process waits for a busy SQLite
// file.
func retryBusy(ctx context.Context, f func() error) error {
	deadline := time.Now().Add(sqliteBusyTimeout)
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		err := f()
		if err == nil || !isBusy(err) || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}
