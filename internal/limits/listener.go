package limits

import (
	"net"
	"sync"
)

// Listener returns a listener that closes at once what exceeds total connections, or perAddress from one
// host. 0 means no limit. It never waits for others to close, so a flood does not keep a new caller from
// being answered or refused. An address with a method Origin says itself which connections count together.
func Listener(l net.Listener, total, perAddress int) net.Listener {
	if total <= 0 && perAddress <= 0 {
		return l
	}
	return &listener{Listener: l, total: total, perAddress: perAddress, hosts: map[string]int{}}
}

type listener struct {
	net.Listener
	total, perAddress int

	mu    sync.Mutex
	open  int
	hosts map[string]int
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		host := originOf(c.RemoteAddr())
		if !l.enter(host) {
			_ = c.Close()
			continue
		}
		counted := &conn{Conn: c, leave: sync.OnceFunc(func() { l.leave(host) })}
		return counted, nil
	}
}

// originOf returns the host of an address, or what the address itself names as its origin.
func originOf(address net.Addr) string {
	if a, ok := address.(interface{ Origin() string }); ok {
		return a.Origin()
	}
	if host, _, err := net.SplitHostPort(address.String()); err == nil {
		return host
	}
	return address.String()
}

func (l *listener) enter(host string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.total > 0 && l.open >= l.total || l.perAddress > 0 && l.hosts[host] >= l.perAddress {
		return false
	}
	l.open++
	l.hosts[host]++
	return true
}

func (l *listener) leave(host string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	if l.hosts[host]--; l.hosts[host] == 0 {
		delete(l.hosts, host)
	}
}

// conn is a connection that is counted until it is closed.
type conn struct {
	net.Conn
	leave func()
}

func (c *conn) Close() error {
	defer c.leave()
	return c.Conn.Close()
}

// CloseWrite ends the sending side, so that an answer arrives although its request was not read.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
