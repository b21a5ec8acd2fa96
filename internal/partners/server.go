package partners

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"hutong/internal/certs"
	"hutong/internal/httpguard"
	"hutong/internal/link"
)

const (
	handshakeTimeout = 10 * time.Second
	// maxAge is how old a connection becomes before the answer to a request asks for another one. So new
	// certificates come into use.
	maxAge = time.Hour
	// expiryGrace is how long a connection may serve after its certificate has expired. The first answer
	// after the expiry asks for another connection.
	expiryGrace = 10 * time.Minute
	sweepEvery  = 5 * time.Second
	// A message that waits, for its sender's rate or for space in its session, holds what its stream's window
	// lets its sender send. 32 large ones that wait leave half of the connection to others, such as commands.
	// Larger windows would let a partner fill more of the memory with each of its connections; with smaller
	// ones a message would arrive slowly over a long way: one window in each round trip. A connection over a
	// link has the same.
	streamWindow     = 512 << 10
	connectionWindow = 64 * streamWindow
)

// Server is an HTTP server for partners. It requires a certificate of each connection, unless a partner has
// an [Auth] without one.
type Server struct {
	*http.Server
	d *Directory
}

// Server returns a server that passes requests of partners to a handler. maxHeader bounds the headers of a
// request, in bytes.
func (d *Directory) Server(handler http.Handler, maxHeader int) *Server {
	srv := &http.Server{
		Handler:           d.Require(handler),
		ReadHeaderTimeout: handshakeTimeout,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(d.logger.Handler(), slog.LevelWarn),
		Protocols:         new(http.Protocols),
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 10_000, MaxReceiveBufferPerStream: streamWindow,
			MaxReceiveBufferPerConnection: connectionWindow,
			SendPingTimeout:               30 * time.Second, PingTimeout: 15 * time.Second},
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if guarded, ok := c.(*httpguard.Conn); ok {
				c = guarded.Conn
			}
			return context.WithValue(ctx, connectionKey{}, c)
		},
	}
	// The server sees the plain text of the connections: TLS ends in front of httpguard. So HTTP/2, which the
	// handshake agrees on, is "unencrypted" for it.
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetUnencryptedHTTP2(true)
	return &Server{srv, d}
}

// ServeTLS serves mutual TLS on a listener until Shutdown.
func (s *Server) ServeTLS(l net.Listener) error {
	if s.d.cfg.KeyPair == nil {
		_ = l.Close()
		return errors.New(
			"partners.listen requires this party's certificate: set partners.tls.cert_file and key_file",
		)
	}
	return s.serve(&tlsListener{l, s.d})
}

// ServePlain serves a listener without TLS until Shutdown, for partners that can't use mutual TLS.
func (s *Server) ServePlain(l net.Listener) error { return s.serve(l) }

func (s *Server) serve(l net.Listener) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go s.d.sweepRegularly(ctx)
	return s.Serve(httpguard.Listener(l, true))
}

// sweepRegularly closes connections whose certificate or contract has expired, or whose authority was removed
// from its file.
func (d *Directory) sweepRegularly(ctx context.Context) {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			d.Sweep()
		}
	}
}

// TLSConfig returns the configuration of the listener for partners.
func (d *Directory) TLSConfig() *tls.Config {
	optional := false
	for _, p := range d.current.Load().partners {
		optional = optional || !p.Auth.UsesTLS()
	}
	return certs.ServerConfig(certs.ServerOptions{KeyPair: d.cfg.KeyPair, Check: d.checkClient,
		OptionalClientCertificate: optional, AllowTLS12: d.cfg.AllowTLS12})
}

// checkClient returns why a client may not connect with its certificates, or nil.
func (d *Directory) checkClient(chain []*x509.Certificate) error {
	if d.cfg.Gateways.isKey(chain[0]) {
		return d.cfg.Gateways.trust(chain, time.Now()) // each request names a partner
	}
	_, err := d.current.Load().identify(chain, time.Now())
	if err != nil && d.admitsStrangers() {
		return nil // what it may call is decided for each request
	}
	return err
}

type tlsListener struct {
	net.Listener
	d *Directory
}

func (l *tlsListener) Accept() (net.Conn, error) {
	raw, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &serverConn{Conn: tls.Server(raw, l.d.TLSConfig()), raw: raw, d: l.d, opened: time.Now()}
	if over, ok := raw.RemoteAddr().(link.Address); ok {
		c.only = over.Node
	}
	l.d.mu.Lock()
	l.d.servers[c] = struct{}{}
	l.d.mu.Unlock()
	return c, nil
}

// serverConn is a connection of a partner.
type serverConn struct {
	*tls.Conn
	raw    net.Conn
	d      *Directory
	opened time.Time
	// only is the partner that may use the connection, which came over a link with it. Empty: any.
	only string

	once  sync.Once
	err   error                               // of the handshake
	node  atomic.Pointer[string]              // that the certificate has proved; nil for a stranger
	state atomic.Pointer[tls.ConnectionState] // after the handshake
}

// Read reads from the connection, after the handshake.
func (c *serverConn) Read(b []byte) (int, error) {
	c.once.Do(c.handshake)
	if c.err != nil {
		return 0, c.err
	}
	return c.Conn.Read(b)
}

func (c *serverConn) handshake() {
	ctx, cancel := context.WithTimeout(context.Background(), handshakeTimeout)
	defer cancel()
	if err := c.HandshakeContext(ctx); err != nil {
		c.refuse(err)
		c.err = fmt.Errorf("failed to agree on TLS: %w", err)
		return
	}
	state := c.ConnectionState()
	if len(state.PeerCertificates) > 0 && !c.d.cfg.Gateways.isKey(state.PeerCertificates[0]) {
		if p, err := c.d.current.Load().identify(state.PeerCertificates, time.Now()); err == nil {
			c.node.Store(&p.Node)
		}
	}
	c.state.Store(&state)
	// The directory may have changed during the handshake.
	if err := c.d.checkOpen(c); err != nil {
		c.refuse(err)
		c.err = err
		c.abort()
	}
}

// refuse logs and records why the handshake of the connection has failed.
func (c *serverConn) refuse(err error) {
	if c.d.refused.allow() {
		c.d.logger.Warn("refused a connection of a partner", "address", c.RemoteAddr().String(), "error", err)
	}
	if c.d.cfg.OnRefusedConnection != nil && !peerLeft(err) {
		c.d.cfg.OnRefusedConnection(c.RemoteAddr(), err)
	}
}

// peerLeft reports whether a handshake has ended because the peer hung up, refused this party or said
// nothing, as a probe of the port does. Then this party has refused nothing.
func peerLeft(err error) bool {
	var operation *net.OpError
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed),
		errors.Is(err, context.DeadlineExceeded):
		return true
	case errors.As(err, &operation):
		return operation.Op == "read" || operation.Op == "write" || operation.Op == "remote error"
	}
	return false
}

// Close closes the connection.
func (c *serverConn) Close() error {
	c.d.mu.Lock()
	delete(c.d.servers, c)
	c.d.mu.Unlock()
	return c.Conn.Close()
}

// abort closes the connection at once, in the middle of requests and without a farewell.
func (c *serverConn) abort() { _ = c.raw.Close() }

// shouldClose reports whether the answers should ask for another connection.
func (c *serverConn) shouldClose() bool {
	state := c.state.Load()
	now := time.Now()
	return now.Sub(c.opened) > maxAge || state != nil && len(state.PeerCertificates) > 0 &&
		now.After(state.PeerCertificates[0].NotAfter)
}

// checkOpen returns why a connection must be closed, or nil.
func (d *Directory) checkOpen(c *serverConn) error {
	state := c.state.Load()
	if node := c.node.Load(); state != nil && c.only != "" && (node == nil || *node != c.only) {
		return fmt.Errorf("only node %s may connect over its link", c.only)
	}
	if state == nil || len(state.PeerCertificates) == 0 || c.node.Load() == nil && d.admitsStrangers() {
		return nil // each request is examined
	}
	if gateways := d.cfg.Gateways; gateways.isKey(state.PeerCertificates[0]) {
		return gateways.trust(state.PeerCertificates, withGrace(state.PeerCertificates[0], time.Now()))
	}
	p, err := d.current.Load().
		identify(state.PeerCertificates, withGrace(state.PeerCertificates[0], time.Now()))
	if node := c.node.Load(); err == nil && node != nil && *node != p.Node {
		return fmt.Errorf("its key is now that of node %s, not of %s", p.Node, *node)
	}
	return err
}

// withGrace returns the time at which a certificate of an open connection is verified. It was valid at the
// handshake, so its expiry alone breaks off nothing that is in progress.
func withGrace(leaf *x509.Certificate, now time.Time) time.Time {
	if now.After(leaf.NotAfter) && now.Before(leaf.NotAfter.Add(expiryGrace)) {
		return leaf.NotAfter
	}
	return now
}

type connectionKey struct{}

func connectionOf(r *http.Request) *serverConn {
	c, _ := r.Context().Value(connectionKey{}).(*serverConn)
	return c
}

// connectionState returns the state of the TLS connection of a request, or nil.
func connectionState(r *http.Request) *tls.ConnectionState {
	if c := connectionOf(r); c != nil {
		return c.state.Load()
	}
	return r.TLS
}

// logLimit bounds the log lines that strangers cause, to one in a second.
type logLimit struct{ last atomic.Int64 }

func (l *logLimit) allow() bool {
	now, last := time.Now().UnixNano(), l.last.Load()
	return now-last > int64(time.Second) && l.last.CompareAndSwap(last, now)
}
