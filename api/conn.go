package api

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// How much patience a client gets, beside [Config.ClientTimeout].
const (
	// leastBytesPerSecond is how fast a body must come on average, once ClientTimeout is over: each piece in time is
	// not enough, since a byte now and then would hold the connection for ever.
	leastBytesPerSecond = 4 << 10
	// writePiece is what a client must take of an answer within ClientTimeout.
	writePiece = 64 << 10
	// A connection that is closed with a request half read still takes a little of it now and then for this long. Otherwise
	// the client's system throws the answer away that tells why. No faster: a client that is only writing needs time to read.
	lingerTime  = 2 * time.Second
	lingerEvery = 5 * time.Millisecond
	lingerBytes = 32 << 10
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
	return &conn{Conn: c, timeout: l.timeout}, nil
}

// Close may find it closed: its owner may have taken it away, and a server is shut down while it begins to serve.
func (l listener) Close() error {
	if err := l.Listener.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// conn bounds how long a client may take over each piece of an answer. Reading is bounded by the HTTP server, and by
// [body].
type conn struct {
	net.Conn
	timeout time.Duration
	unread  atomic.Bool // a request was not read to its end
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
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok && c.unread.Load() && half.CloseWrite() == nil {
		end := time.Now().Add(lingerTime)
		_ = c.SetReadDeadline(end)
		for time.Now().Before(end) {
			if _, err := io.CopyN(io.Discard, c.Conn, lingerBytes); err != nil {
				break
			}
			time.Sleep(lingerEvery)
		}
	}
	return c.Conn.Close()
}

// body is a request's body as it arrives. A client may take long over all of it, but neither over a piece nor on average.
type body struct {
	r       io.Reader
	conn    net.Conn
	timeout time.Duration
	began   time.Time
	n       int64
	ended   bool  // it was read to its end
	err     error // why it ended too early
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
	switch {
	case errors.Is(err, io.EOF):
		b.ended = true
	case err != nil:
		b.err = err
	}
	return n, err
}

// timedOut tells whether an error is that a deadline is over.
func timedOut(err error) bool {
	var netErr net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &netErr) && netErr.Timeout()
}
