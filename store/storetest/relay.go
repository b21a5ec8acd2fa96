package storetest

import (
	"io"
	"net"
	"sync"
	"testing"
)

// Relay is one address before several servers, as a virtual IP or a proxy is.
type Relay struct {
	listener net.Listener
	mu       sync.Mutex
	socket   string // where new connections lead
}

// NewRelay returns a relay whose connections lead to a server.
func NewRelay(t testing.TB, server *Server) *Relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	r := &Relay{listener: l, socket: server.Socket()}
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

func (r *Relay) forward(client net.Conn) {
	defer func() { _ = client.Close() }()
	r.mu.Lock()
	socket := r.socket
	r.mu.Unlock()
	server, err := net.Dial("unix", socket)
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

// Address returns the host:port of the relay.
func (r *Relay) Address() string { return r.listener.Addr().String() }

// Lead makes new connections lead to another server.
func (r *Relay) Lead(server *Server) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.socket = server.Socket()
}
