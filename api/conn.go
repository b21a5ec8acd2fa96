package api

import (
	"crypto/tls"
	"errors"
	"hash"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"hutong/internal/httpguard"
)

// Limits for slow clients, besides [Config.ClientTimeout].
const (
	// leastBytesPerSecond is the least average rate of a body after the first ClientTimeout. Without it, a
	// client that sends a byte now and then would hold the connection for ever.
	leastBytesPerSecond = 4 << 10
	// writePiece is the number of bytes of an answer that a client must read within each ClientTimeout.
	writePiece = 64 << 10
	// A connection that is closed before its request was read drains a little of it for drainTime. Otherwise
	// the client's TCP stack would discard the answer that gives the reason. It drains slowly, so that a
	// client that only writes stops soon.
	drainTime     = 2 * time.Second
	drainInterval = 5 * time.Millisecond
	drainBytes    = 32 << 10
)

// listener wraps the connections it accepts in a [conn].
type listener struct {
	net.Listener
	timeout time.Duration
}

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	own := &conn{Conn: c, timeout: l.timeout}
	inner := c
	if guarded, ok := c.(*httpguard.Conn); ok {
		inner = guarded.Conn
	}
	if secure, ok := inner.(*tls.Conn); ok {
		return &tlsConn{own, secure}, nil
	}
	return own, nil
}

// tlsConn is a connection with TLS. The HTTP server shows handlers its state, with the client's certificate.
type tlsConn struct {
	*conn
	secure *tls.Conn
}

// Handshake agrees on TLS.
func (c *tlsConn) Handshake() error { return c.secure.Handshake() }

// ConnectionState returns the result of the handshake.
func (c *tlsConn) ConnectionState() tls.ConnectionState { return c.secure.ConnectionState() }

// ownConn returns the [conn] in a connection of this server, or nil.
func ownConn(c net.Conn) *conn {
	switch c := c.(type) {
	case *conn:
		return c
	case *tlsConn:
		return c.conn
	}
	return nil
}

// Close ignores a listener that is closed already: its owner may have closed it, and a server may shut down
// while it starts.
func (l listener) Close() error {
	if err := l.Listener.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// conn bounds the time in which a client must read each piece of an answer. The HTTP server and [body] bound
// reading.
type conn struct {
	net.Conn
	timeout time.Duration
	unread  atomic.Bool // a request was not read to its end
}

// forbidden returns why a connection's last request is refused as HTTP, or nil.
func forbidden(c net.Conn) *httpguard.Error {
	if own := ownConn(c); own != nil {
		c = own.Conn
	}
	if guarded, ok := c.(*httpguard.Conn); ok {
		return guarded.Fault()
	}
	return nil
}

func (c *conn) Write(b []byte) (int, error) {
	written := 0
	for {
		if c.timeout > 0 {
			if err := c.SetWriteDeadline(time.Now().Add(c.timeout)); err != nil {
				return written, err
			}
		}
		n, err := c.Conn.Write(b[:min(len(b), writePiece)])
		written += n
		b = b[n:]
		if err != nil || len(b) == 0 {
			return written, err
		}
	}
}

func (c *conn) Close() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok && c.unread.Load() &&
		half.CloseWrite() == nil {
		end := time.Now().Add(drainTime)
		_ = c.SetReadDeadline(end)
		for time.Now().Before(end) {
			if _, err := io.CopyN(io.Discard, c.Conn, drainBytes); err != nil {
				break
			}
			time.Sleep(drainInterval)
		}
	}
	return c.Conn.Close()
}

// body is a request's body as it arrives. A client may send a long body, but must not pause longer than the
// timeout, and must keep the least average rate.
type body struct {
	r       io.Reader
	conn    net.Conn
	timeout time.Duration
	began   time.Time
	n       int64
	digest  hash.Hash // of what was read; nil without a body
	ended   bool      // it was read to its end
	err     error     // why it ended too early
}

func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if b.timeout > 0 {
		now := time.Now()
		end := b.began.Add(b.timeout + time.Duration(b.n)*time.Second/leastBytesPerSecond)
		if next := now.Add(b.timeout); next.Before(end) {
			end = next
		}
		if err := b.conn.SetReadDeadline(end); err != nil {
			return 0, err
		}
	}
	n, err := b.r.Read(p)
	b.n += int64(n)
	if b.digest != nil {
		b.digest.Write(p[:n]) // never fails
	}
	switch {
	case errors.Is(err, io.EOF):
		b.ended = true
	case err != nil:
		if fault := forbidden(b.conn); fault != nil {
			err = fault // the HTTP server hides it
		}
		b.err = err
	}
	return n, err
}

// timedOut reports whether an error means that a deadline has passed.
func timedOut(err error) bool {
	var netErr net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &netErr) && netErr.Timeout()
}
