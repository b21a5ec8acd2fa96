// Package relay gives tests one address before several servers, as a virtual IP or a proxy is.
package relay

import (
	"crypto/tls"
	"io"
	"net"
	"sync"
	"testing"
)

// Relay forwards TCP connections to a server.
type Relay struct {
	listener net.Listener

	mu               sync.Mutex
	network, address string // of the server to which new connections lead
	clients          map[net.Conn]bool
}

// New returns a relay that listens on a host, until the test ends, and leads to the server at an address of a
// network such as tcp or unix.
func New(t testing.TB, host, network, address string) *Relay {
	t.Helper()
	return start(t, host, network, address, func(l net.Listener) net.Listener { return l })
}

// NewTLS returns a relay that ends TLS before a server that speaks none.
func NewTLS(t testing.TB, host string, config *tls.Config, network, address string) *Relay {
	t.Helper()
	return start(t, host, network, address, func(l net.Listener) net.Listener {
		return tls.NewListener(l, config)
	})
}

func start(t testing.TB, host, network, address string, wrap func(net.Listener) net.Listener) *Relay {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	l = wrap(l)
	t.Cleanup(func() { _ = l.Close() })
	r := &Relay{listener: l, network: network, address: address, clients: map[net.Conn]bool{}}
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			go r.forward(client)
		}
	}()
	return r
}

// Address returns the host:port of the relay.
func (r *Relay) Address() string { return r.listener.Addr().String() }

// Lead makes new connections lead to another server. The others stay.
func (r *Relay) Lead(network, address string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.network, r.address = network, address
}

// Cut closes all connections, and new ones at once, until Lead names a server.
func (r *Relay) Cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.network, r.address = "", ""
	for client := range r.clients {
		_ = client.Close()
	}
}

func (r *Relay) forward(client net.Conn) {
	r.mu.Lock()
	network, address := r.network, r.address
	r.clients[client] = true
	r.mu.Unlock()
	defer func() {
		_ = client.Close()
		r.mu.Lock()
		delete(r.clients, client)
		r.mu.Unlock()
	}()
	if network == "" {
		return
	}
	server, err := net.Dial(network, address)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	go func() {
		_, _ = io.Copy(server, client)
		_ = server.Close()
	}()
	_, _ = io.Copy(client, server)
}
