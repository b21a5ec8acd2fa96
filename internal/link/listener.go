package link

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// Listener accepts the connections that partners open over the links of this process. The remote address of a
// connection is an [Address].
type Listener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

// NewListener returns a listener for a service.
func NewListener() *Listener {
	return &Listener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

// Accept implements [net.Listener].
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements [net.Listener].
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr implements [net.Listener].
func (l *Listener) Addr() net.Addr { return Address{} }

// serveStream makes a connection of a stream, and returns when that has ended.
func (l *Listener) serveStream(w http.ResponseWriter, r *http.Request, local net.Addr, remote Address) {
	// A stream can't have deadlines that pass without ending it, which servers need. A pipe can.
	outer, inner := net.Pipe()
	defer func() { _ = inner.Close() }()
	select {
	case l.conns <- &streamConn{outer, local, remote}:
	case <-l.closed:
		http.Error(w, "the service is stopping", http.StatusServiceUnavailable)
		return
	case <-r.Context().Done():
		return
	}
	control := http.NewResponseController(w)
	if control.Flush() != nil {
		return
	}
	go func() {
		_, _ = io.Copy(inner, r.Body)
		_ = inner.Close()
	}()
	_, _ = io.Copy(&flushing{w, control}, inner)
}

// flushing sends each write at once.
type flushing struct {
	w       io.Writer
	control *http.ResponseController
}

// Write implements [io.Writer].
func (f *flushing) Write(b []byte) (int, error) {
	n, err := f.w.Write(b)
	if err == nil {
		err = f.control.Flush()
	}
	return n, err
}

// streamConn is a connection over a link.
type streamConn struct {
	net.Conn
	local, remote net.Addr
}

// LocalAddr returns the address of this end of the link.
func (c *streamConn) LocalAddr() net.Addr { return c.local }

// RemoteAddr returns the address of the other end of the link.
func (c *streamConn) RemoteAddr() net.Addr { return c.remote }

// openStream returns the connection of a stream that roundTrip opens with a body. When it is closed, the
// stream ends soon, also if the partner does not end it.
func openStream(ctx context.Context, local net.Addr, remote Address,
	roundTrip func(ctx context.Context, body io.ReadCloser) (*http.Response, error)) (net.Conn, error) {
	// The context of a request is that of its stream. The values of ctx are those of the request for which
	// the connection is opened.
	streaming, cancel := context.WithCancel(context.Background())
	stop := context.AfterFunc(ctx, cancel)
	outer, inner := net.Pipe()
	resp, err := roundTrip(streaming, inner)
	if !stop() {
		if err == nil {
			_ = resp.Body.Close()
		}
		err = context.Cause(ctx)
	}
	if err != nil {
		cancel()
		_, _ = inner.Close(), outer.Close()
		return nil, err
	}
	go func() {
		defer cancel()
		_, _ = io.Copy(inner, resp.Body)
		_, _ = inner.Close(), resp.Body.Close()
	}()
	return &onClose{Conn: &streamConn{outer, local, remote},
		closed: sync.OnceFunc(func() { time.AfterFunc(closeGrace, cancel) })}, nil
}
