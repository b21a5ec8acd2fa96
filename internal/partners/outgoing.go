package partners

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"

	"hutong/internal/certs"
	"hutong/internal/link"
)

// Outgoing sends requests to partners, each over connections of its own that prove both sides. A request
// names its target in the header x-target-node-id or x-ptp-target-node-id. It implements [http.RoundTripper].
type Outgoing struct {
	d    *Directory
	tune func(*http.Transport)

	mu      sync.Mutex
	clients map[string]*client
	retired []*client // replaced after a rotation, while requests are in progress
}

// Transport returns a transport for requests to partners. tune changes the settings of its connection pools;
// nil changes nothing.
func (d *Directory) Transport(tune func(*http.Transport)) *Outgoing {
	o := &Outgoing{d: d, tune: tune, clients: map[string]*client{}}
	d.mu.Lock()
	d.outgoing = append(d.outgoing, o)
	d.mu.Unlock()
	return o
}

// RoundTrip sends a request to the partner that its headers name.
func (o *Outgoing) RoundTrip(r *http.Request) (*http.Response, error) {
	node := r.Header.Get("x-target-node-id")
	if node == "" {
		node = r.Header.Get("x-ptp-target-node-id")
	}
	p, found := o.d.Lookup(node)
	if !found {
		closeBody(r)
		return nil, fmt.Errorf("node %.128q is not a partner of this party", node)
	}
	if p.Auth.UsesTLS() && r.URL.Scheme != "https" {
		closeBody(r)
		return nil, fmt.Errorf("the URL of node %s must be https, because its auth is %s", node, p.Auth)
	}
	c, err := o.client(p)
	if err != nil {
		closeBody(r)
		return nil, err
	}
	if method := o.d.cfg.Methods[p.Auth]; method != nil {
		return c.proveAndSend(r, method)
	}
	return c.transport.RoundTrip(r)
}

// proveAndSend sends a request with a proof. The proof of a request that arrived is used up, so [net/http]
// must not repeat the request on another connection, as it does with reads; it is repeated here, with a new
// proof.
func (c *client) proveAndSend(r *http.Request, method Method) (*http.Response, error) {
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead
	for repeated := false; ; repeated = true {
		proved := r.Clone(r.Context())
		if repeated && r.GetBody != nil {
			body, err := r.GetBody()
			if err != nil {
				return nil, fmt.Errorf("failed to read the body of the request: %w", err)
			}
			proved.Body = body
		}
		if err := method.Prove(proved, c.partner); err != nil {
			closeBody(proved)
			return nil, fmt.Errorf("failed to prove this party to node %s: %w", c.partner.Node, err)
		}
		if reads {
			proved.GetBody = nil
			if proved.Body == nil || proved.Body == http.NoBody {
				proved.Body = io.NopCloser(strings.NewReader("")) // net/http repeats requests without a body
			}
		}
		resp, err := c.transport.RoundTrip(proved)
		withBody := r.Body != nil && r.Body != http.NoBody
		if err == nil || !reads || repeated || withBody && r.GetBody == nil || r.Context().Err() != nil {
			return resp, err
		}
	}
}

func closeBody(r *http.Request) {
	if r.Body != nil {
		_ = r.Body.Close()
	}
}

// CloseIdleConnections closes the connections that no request uses.
func (o *Outgoing) CloseIdleConnections() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, c := range o.clients {
		c.transport.CloseIdleConnections()
	}
}

// client is the pool of connections to a partner.
type client struct {
	partner    Partner
	generation uint64 // of the certificates that the connections use
	transport  *http.Transport

	mu      sync.Mutex
	conns   map[net.Conn]struct{}
	aborted bool
}

// client returns the pool of a partner. A change of this party's certificate makes another one; requests in
// progress finish on the former.
func (o *Outgoing) client(p Partner) (*client, error) {
	generation := o.generation(p)
	o.mu.Lock()
	defer o.mu.Unlock()
	c := o.clients[p.Node]
	if c != nil && samePartner(c.partner, p) && c.generation == generation {
		return c, nil
	}
	if c != nil {
		c.transport.CloseIdleConnections() // also those that become idle
		o.retired = append(slices.DeleteFunc(o.retired, (*client).idle), c)
	}
	made, err := o.newClient(p, generation)
	if err != nil {
		return nil, err
	}
	o.clients[p.Node] = made
	return made, nil
}

// generation returns a number that grows with changes of the certificates for a partner's connections.
func (o *Outgoing) generation(p Partner) uint64 {
	var sum uint64
	if o.d.cfg.KeyPair != nil {
		sum = o.d.cfg.KeyPair.Generation()
	}
	if p.Peer.Authorities != nil {
		sum += p.Peer.Authorities.Generation()
	}
	return sum
}

func (o *Outgoing) newClient(p Partner, generation uint64) (*client, error) {
	c := &client{partner: p, generation: generation, conns: map[net.Conn]struct{}{},
		transport: o.d.proxy.Transport()}
	t := c.transport
	// HTTP/1 has a connection for each request in progress, so that a large message delays no other one.
	t.ForceAttemptHTTP2 = false
	if p.Auth.UsesTLS() {
		if o.d.cfg.KeyPair == nil {
			return nil, errors.New("this party has no certificate: set partners.tls.cert_file and key_file")
		}
		t.TLSClientConfig = certs.ClientConfig(p.Peer, o.d.cfg.KeyPair, o.d.cfg.AllowTLS12)
	} else {
		t.TLSClientConfig = certs.HostConfig(p.Peer.Authorities, p.Peer.Pins, nil)
	}
	if p.Link == Inbound {
		t.Proxy = nil // the partner has dialled
		t.DialContext = func(ctx context.Context, _, address string) (net.Conn, error) {
			return o.d.dialLink(ctx, p.Node, address)
		}
	}
	dial := t.DialContext
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return c.track(conn)
	}
	if o.tune != nil {
		o.tune(t)
	}
	return c, nil
}

// dialLink opens a connection to the service of a partner at an address, over a link of that partner.
func (d *Directory) dialLink(ctx context.Context, node, address string) (net.Conn, error) {
	service, err := link.ServiceAt(address)
	if err == nil && d.cfg.DialLink == nil {
		err = errors.New("this process does not use the links of partners")
	}
	if err != nil {
		return nil, fmt.Errorf("failed to connect to node %s: %w", node, err)
	}
	return d.cfg.DialLink(ctx, node, service)
}

// sweep closes the connections to nodes that are no longer partners, or have changed.
func (o *Outgoing) sweep() {
	o.mu.Lock()
	condemn := func(c *client) bool {
		p, found := o.d.Lookup(c.partner.Node)
		return !found || !samePartner(p, c.partner)
	}
	var condemned []*client
	for node, c := range o.clients {
		if condemn(c) {
			condemned = append(condemned, c)
			delete(o.clients, node)
		}
	}
	o.retired = slices.DeleteFunc(o.retired, func(c *client) bool {
		if condemn(c) {
			condemned = append(condemned, c)
			return true
		}
		return c.idle()
	})
	o.mu.Unlock()
	for _, c := range condemned {
		c.abort()
	}
}

// clientConn is a connection to a partner.
type clientConn struct {
	net.Conn
	c *client
}

func (c *client) track(conn net.Conn) (net.Conn, error) {
	tracked := &clientConn{conn, c}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.aborted {
		_ = conn.Close()
		return nil, fmt.Errorf("node %s is no longer a partner, or has changed", c.partner.Node)
	}
	c.conns[tracked] = struct{}{}
	return tracked, nil
}

// idle reports whether a pool has no connections.
func (c *client) idle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.conns) == 0
}

// Close closes the connection.
func (c *clientConn) Close() error {
	c.c.mu.Lock()
	delete(c.c.conns, c)
	c.c.mu.Unlock()
	return c.Conn.Close()
}

// abort closes all connections at once, in the middle of requests.
func (c *client) abort() {
	c.mu.Lock()
	c.aborted = true
	conns := c.conns
	c.conns = nil
	c.mu.Unlock()
	for conn := range conns {
		_ = conn.(*clientConn).Conn.Close()
	}
	c.transport.CloseIdleConnections()
}

// Once returns a transport for a few requests to a node that need not be a partner, and must prove to be the
// given one. It keeps no connections.
func (d *Directory) Once(p Partner) (http.RoundTripper, error) {
	if err := d.cfg.CheckPartner(p); err != nil {
		return nil, err
	}
	t := d.proxy.Transport()
	t.ForceAttemptHTTP2, t.DisableKeepAlives = false, true
	t.TLSClientConfig = certs.ClientConfig(p.Peer, d.cfg.KeyPair, d.cfg.AllowTLS12)
	return t, nil
}
