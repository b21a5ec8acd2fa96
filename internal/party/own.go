package party

import (
	"context"
	"net"
	"net/http"
	"sync"

	"hutong/internal/httpclient"
	"hutong/internal/identity"
)

// ownAPI is the host of this party's own API in URLs. Requests to it stay in the process.
const ownAPI = "own-party.invalid"

// partnerTransport returns the transport of commands. Those to this party itself are served in this process,
// so that no worker needs to know where an API of its party listens.
func (p *Party) partnerTransport() http.RoundTripper {
	own := httpclient.Direct()
	self := p.self()
	own.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return p.own.dial(ctx, self)
	}
	return &commandTransport{own: own, partners: p.partners.Transport(nil)}
}

// self returns this party as a caller of its own processes.
func (p *Party) self() identity.Principal {
	return identity.Principal{Kind: identity.KindPartner, Node: p.cfg.NodeID, Proof: identity.ByProcess}
}

// commandTransport sends the requests to this party over own, and all others over partners.
type commandTransport struct{ own, partners http.RoundTripper }

// RoundTrip implements [http.RoundTripper].
func (c *commandTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host == ownAPI {
		return c.own.RoundTrip(r)
	}
	return c.partners.RoundTrip(r)
}

// memoryListener accepts connections from this process.
type memoryListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newMemoryListener() *memoryListener {
	return &memoryListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

// dial connects to the listener as a caller.
func (l *memoryListener) dial(ctx context.Context, caller identity.Principal) (net.Conn, error) {
	client, server := net.Pipe()
	var err error
	select {
	case l.conns <- callerConn{server, identity.Address{Principal: caller}}:
		return client, nil
	case <-l.closed:
		err = net.ErrClosed
	case <-ctx.Done():
		err = ctx.Err()
	}
	_, _ = client.Close(), server.Close()
	return nil, &net.OpError{Op: "dial", Net: "memory", Addr: l.Addr(), Err: err}
}

// callerConn is a connection whose remote address names the caller.
type callerConn struct {
	net.Conn
	caller identity.Address
}

func (c callerConn) RemoteAddr() net.Addr { return c.caller }

// Accept implements [net.Listener].
func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements [net.Listener].
func (l *memoryListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr implements [net.Listener].
func (l *memoryListener) Addr() net.Addr { return memoryAddress{} }

type memoryAddress struct{}

func (memoryAddress) Network() string { return "memory" }
func (memoryAddress) String() string  { return ownAPI }
