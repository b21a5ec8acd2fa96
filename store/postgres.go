package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/uptrace/bun/driver/pgdriver"
)

// sessionCheck is how long a pooled session counts as writable without a check. It bounds how old the data
// are that a party reads from a server which has lost its role.
const sessionCheck = 5 * time.Second

// errReadOnly is the failure to use a PostgreSQL server that accepts no writes. After a fail-over that is the
// former primary, or a standby that is not promoted yet.
var errReadOnly = errors.New("the PostgreSQL server is read-only: it is a standby, or a fail-over is under way")

// writableConnector opens sessions that can write, as libpq does with target_session_attrs=read-write. When
// one session shows that the server is gone or has become read-only, none of the sessions that are open by
// then is used again: after a fail-over all of them lead to the former primary.
type writableConnector struct {
	*pgdriver.Connector
	// failovers counts the moments at which all open sessions became useless.
	failovers atomic.Int64
}

// Connect implements [driver.Connector].
func (c *writableConnector) Connect(ctx context.Context) (driver.Conn, error) {
	opened := c.failovers.Load()
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	s := &writableSession{Conn: conn.(*pgdriver.Conn), connector: c, opened: opened}
	if err := s.checkWritable(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// writableSession is a session that is dropped as soon as the server does not accept its writes.
type writableSession struct {
	*pgdriver.Conn
	connector *writableConnector
	opened    int64 // the connector's count of fail-overs when the session was opened
	checked   time.Time
}

var (
	_ driver.ExecerContext   = (*writableSession)(nil)
	_ driver.QueryerContext  = (*writableSession)(nil)
	_ driver.ConnBeginTx     = (*writableSession)(nil)
	_ driver.Pinger          = (*writableSession)(nil)
	_ driver.Validator       = (*writableSession)(nil)
	_ driver.SessionResetter = (*writableSession)(nil)
)

// ExecContext implements [driver.ExecerContext].
func (s *writableSession) ExecContext(ctx context.Context, query string,
	args []driver.NamedValue) (driver.Result, error) {
	result, err := s.Conn.ExecContext(ctx, query, args)
	return result, s.observe(ctx, err)
}

// QueryContext implements [driver.QueryerContext].
func (s *writableSession) QueryContext(ctx context.Context, query string,
	args []driver.NamedValue) (driver.Rows, error) {
	rows, err := s.Conn.QueryContext(ctx, query, args)
	return rows, s.observe(ctx, err)
}

// BeginTx implements [driver.ConnBeginTx].
func (s *writableSession) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	tx, err := s.Conn.BeginTx(ctx, opts)
	return tx, s.observe(ctx, err)
}

// Ping implements [driver.Pinger].
func (s *writableSession) Ping(ctx context.Context) error { return s.observe(ctx, s.Conn.Ping(ctx)) }

// IsValid implements [driver.Validator].
func (s *writableSession) IsValid() bool {
	return s.Conn.IsValid() && s.opened == s.connector.failovers.Load()
}

// ResetSession implements [driver.SessionResetter]. It is called before a pooled session is used again.
func (s *writableSession) ResetSession(ctx context.Context) error {
	if !s.IsValid() {
		return driver.ErrBadConn
	}
	if err := s.Conn.ResetSession(ctx); err != nil {
		return err
	}
	if time.Since(s.checked) < sessionCheck {
		return nil
	}
	if s.observe(ctx, s.checkWritable(ctx)) != nil {
		return driver.ErrBadConn // the pool opens another session, which reports the reason
	}
	return nil
}

// checkWritable returns errReadOnly if the server refuses writes of new transactions.
func (s *writableSession) checkWritable(ctx context.Context) error {
	rows, err := s.Conn.QueryContext(ctx, "SHOW transaction_read_only", nil)
	if err != nil {
		return err
	}
	value := make([]driver.Value, 1)
	err = rows.Next(value)
	if err = errors.Join(err, rows.Close()); err != nil {
		return err
	}
	readOnly := value[0]
	if text, isBytes := readOnly.([]byte); isBytes {
		readOnly = string(text)
	}
	if readOnly != "off" {
		return errReadOnly
	}
	s.checked = time.Now()
	return nil
}

// observe drops all open sessions if an error shows that the server is gone or read-only. It returns the
// error.
func (s *writableSession) observe(ctx context.Context, err error) error {
	if err != nil && ctx.Err() == nil && losesSessions(err) {
		// Several sessions report the same fail-over. Those that were opened after it stay.
		s.connector.failovers.CompareAndSwap(s.opened, s.opened+1)
	}
	return err
}

// losesSessions reports whether an error shows that the server of a session is gone or read-only.
func losesSessions(err error) bool {
	return lostConnection(err) || isServerAway(err) || isReadOnly(err)
}

// isReadOnly reports whether PostgreSQL refused a write since the server is read-only.
func isReadOnly(err error) bool {
	var perr pgdriver.Error
	return errors.Is(err, errReadOnly) || errors.As(err, &perr) && perr.Field('C') == "25006"
}

// isServerAway reports whether PostgreSQL answered that it does not serve now: 08 is a failed connection, 57P
// a server that stops, crashed or starts.
func isServerAway(err error) bool {
	var perr pgdriver.Error
	if !errors.As(err, &perr) {
		return false
	}
	code := perr.Field('C')
	return strings.HasPrefix(code, "08") || strings.HasPrefix(code, "57P")
}

// lostConnection reports whether the connection to a server failed.
func lostConnection(err error) bool {
	var nerr net.Error
	return errors.As(err, &nerr) || errors.Is(err, driver.ErrBadConn) || errors.Is(err, io.EOF) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed)
}
