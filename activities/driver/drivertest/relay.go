package drivertest

import (
	"io"
	"net"
	"sync"
	"testing"
)

// A Relay is a socket in front of another that can be cut.
type Relay struct {
	Network, Address, Target string
	// Request sees what the client sends before the Engine does; nil is nothing.
	Request func(b []byte)

	mu       sync.Mutex
	listener net.Listener
	conns    []net.Conn
}

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
			go func() { _, _ = io.Copy(watched{far, r.Request}, near); _ = far.Close() }()
			go func() { _, _ = io.Copy(near, far); _ = near.Close() }()
		}
	}()
}

func (r *Relay) Cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = r.listener.Close()
	for _, c := range r.conns {
		_ = c.Close()
	}
	r.conns = nil
}

type watched struct {
	io.Writer
	see func(b []byte)
}

func (w watched) Write(b []byte) (int, error) {
	if w.see != nil {
		w.see(b)
	}
	return w.Writer.Write(b)
}
