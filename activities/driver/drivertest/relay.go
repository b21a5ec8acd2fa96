package drivertest

import (
	"io"
	"net"
	"sync"
	"testing"
)

// Relay forwards connections to another socket until they are cut.
type Relay struct {
	Network, Address, Target string

	// Request is called with the client's bytes before they are forwarded. It may be nil.
	Request func(b []byte)

	mu       sync.Mutex
	listener net.Listener
	conns    []net.Conn
}

// Listen starts to accept connections, also after Cut.
func (r *Relay) Listen(t *testing.T) {
	listener, err := net.Listen(r.Network, r.Address)
	if err != nil {
		t.Error(err)
		return
	}
	r.Address = listener.Addr().String()
	r.mu.Lock()
	r.listener = listener
	r.mu.Unlock()
	go func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial(r.Network, r.Target)
			if err != nil {
				_ = near.Close()
				continue
			}
			r.mu.Lock()
			r.conns = append(r.conns, near, far)
			r.mu.Unlock()
			go func() { _, _ = io.Copy(observedWriter{far, r.Request}, near); _ = far.Close() }()
			go func() { _, _ = io.Copy(near, far); _ = near.Close() }()
		}
	}()
}

// Cut closes all connections and the listener.
func (r *Relay) Cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = r.listener.Close()
	for _, c := range r.conns {
		_ = c.Close()
	}
	r.conns = nil
}

type observedWriter struct {
	io.Writer
	observe func(b []byte)
}

func (w observedWriter) Write(b []byte) (int, error) {
	if w.observe != nil {
		w.observe(b)
	}
	return w.Writer.Write(b)
}
