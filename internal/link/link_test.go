package link

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/internal/httpclient"
	"hutong/internal/httpguard"
)

// partnerNode is the party that can only dial out.
const partnerNode = "P"

// relayedTCP passes connections to a server on, and can break or freeze them.
type relayedTCP struct {
	net.Listener
	target string

	mu     sync.Mutex
	conns  []net.Conn
	frozen chan struct{} // closed while bytes pass
}

func newRelayedTCP(t *testing.T, target string) *relayedTCP {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	r := &relayedTCP{Listener: l, target: target, frozen: make(chan struct{})}
	close(r.frozen)
	t.Cleanup(func() { _ = l.Close(); r.cut() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", r.target)
			if err != nil {
				_ = in.Close()
				continue
			}
			r.mu.Lock()
			r.conns = append(r.conns, in, out)
			r.mu.Unlock()
			go r.pass(out, in)
			go r.pass(in, out)
		}
	}()
	return r
}

func (r *relayedTCP) pass(to, from net.Conn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		r.mu.Lock()
		frozen := r.frozen
		r.mu.Unlock()
		<-frozen
		if n > 0 {
			_, _ = to.Write(buffer[:n])
		}
		if err != nil {
			_ = to.Close()
			return
		}
	}
}

// cut breaks all connections.
func (r *relayedTCP) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.conns {
		_ = c.Close()
	}
	r.conns = nil
}

// freeze stops all bytes, without closing a connection, until the function is called that it returns.
func (r *relayedTCP) freeze() (thaw func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.frozen = make(chan struct{})
	return sync.OnceFunc(func() { close(r.frozen) })
}

// holding is a process that holds links, with the address of its listeners.
type holding struct {
	*Holder
	url      string
	refuse   atomic.Bool
	accepted chan struct{}
}

func newHolding(t *testing.T) *holding {
	t.Helper()
	h := &holding{Holder: NewHolder(slog.New(slog.DiscardHandler)), accepted: make(chan struct{}, 200)}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case IsPath(r.URL.Path):
			h.ServeHTTP(w, r)
		case h.refuse.Load():
			http.Error(w, "routes.P of party Q must have link inbound for a link", http.StatusForbidden)
		default:
			h.Accept(w, r, r.Header.Get("x-source-node-id"))
			if r.Header.Get(headerID) != "" {
				h.accepted <- struct{}{}
			}
		}
	}))
	srv.Listener = httpguard.Listener(srv.Listener, true)
	srv.Start()
	h.url = srv.URL
	t.Cleanup(func() { h.Close(); srv.Close() })
	return h
}

func (h *holding) awaitLink(t *testing.T) {
	t.Helper()
	select {
	case <-h.accepted:
	case <-time.After(time.Minute):
		t.Fatal("no link was made")
	}
}

// asNode sends requests as a node.
type asNode struct {
	http.RoundTripper
	node string
}

func (a asNode) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("x-source-node-id", a.node)
	return a.RoundTripper.RoundTrip(r)
}

// serveEcho serves connections that echo what they read, until the test ends.
func serveEcho(t *testing.T) *Listener {
	t.Helper()
	l := NewListener()
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(c, c)
				_ = c.Close()
			}()
		}
	}()
	return l
}

func keep(t *testing.T, url string, services map[Service]*Listener) *Keeper {
	t.Helper()
	k := Keep(KeeperConfig{Node: "Q", URL: url, Services: services, firstPause: 10 * time.Millisecond,
		Outgoing: asNode{httpclient.Direct(), partnerNode}, Logger: slog.New(slog.DiscardHandler)})
	t.Cleanup(k.Close)
	return k
}

func requireEcho(t *testing.T, conn net.Conn, size int) {
	t.Helper()
	sent := make([]byte, size)
	_, _ = rand.Read(sent)
	go func() { _, _ = conn.Write(sent) }()
	got := make([]byte, size)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
	_, err := io.ReadFull(conn, got)
	require.NoError(t, err)
	require.True(t, bytes.Equal(sent, got))
}

// TestLink checks connections over a link, in the process that holds it and in another one: bytes,
// addresses, deadlines, and that the end of each side ends the other.
func TestLink(t *testing.T) {
	t.Parallel()
	h := newHolding(t)
	echo := serveEcho(t)
	k := keep(t, h.url, map[Service]*Listener{Commands: echo})
	h.awaitLink(t)
	other := &Dialer{Sender: httpclient.Direct(), Others: func(context.Context) ([]string, error) {
		return []string{h.url[len("http://"):]}, nil
	}}
	for name, dial := range map[string]func(context.Context, string, Service) (net.Conn, error){
		"own": h.Dial, "other": other.Dial} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			conn, err := dial(ctx, partnerNode, Commands)
			require.NoError(t, err)
			cancel() // it bounds the dial, not the connection
			requireEcho(t, conn, 3<<20)
			if name == "own" {
				address, ok := conn.RemoteAddr().(Address)
				require.True(t, ok)
				require.Equal(t, partnerNode, address.Node)
			}

			// A deadline that has passed does not end the connection.
			require.NoError(t, conn.SetReadDeadline(time.Now().Add(-time.Second)))
			_, err = conn.Read(make([]byte, 1))
			var timeout net.Error
			require.ErrorAs(t, err, &timeout)
			require.True(t, timeout.Timeout())
			requireEcho(t, conn, 10)
			require.NoError(t, conn.Close())
			require.Eventually(t, func() bool { return h.States()[0].Connections == 0 }, time.Minute,
				10*time.Millisecond)
			require.Eventually(t, func() bool {
				state, up, _ := k.State()
				return up && state.Connections == 0
			}, time.Minute, 10*time.Millisecond)

			_, err = dial(t.Context(), partnerNode, Messages)
			var operation *net.OpError
			require.ErrorAs(t, err, &operation)
			require.Equal(t, "dial", operation.Op, "nothing was sent")
			_, err = dial(t.Context(), "R", Commands)
			require.ErrorContains(t, err, errNoLink.Error())
		})
	}
	states, err := other.States(t.Context())
	require.NoError(t, err)
	require.Len(t, states, 1)
	require.Equal(t, []Service{Commands}, states[0].Services)
}

// TestLinkBreaks checks that the connections over a link that breaks end with an error in the middle of what
// they carry, and that another link is made.
func TestLinkBreaks(t *testing.T) {
	t.Parallel()
	h := newHolding(t)
	between := newRelayedTCP(t, h.url[len("http://"):])
	silent := NewListener() // reads nothing
	accepted := make(chan net.Conn, 1)
	go func() {
		for {
			c, err := silent.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	t.Cleanup(func() { _ = silent.Close() })
	k := keep(t, "http://"+between.Addr().String(), map[Service]*Listener{Messages: silent})
	h.awaitLink(t)
	conn, err := h.Dial(t.Context(), partnerNode, Messages)
	require.NoError(t, err)
	served := <-accepted

	written := make(chan error, 1)
	go func() {
		_, err := conn.Write(make([]byte, 10<<20)) // more than fits into the windows
		written <- err
	}()
	_, err = io.ReadFull(served, make([]byte, 1<<20))
	require.NoError(t, err)
	between.cut()
	require.Error(t, <-written)
	_, err = io.Copy(io.Discard, served)
	require.NoError(t, err) // the end: TLS knows that it is not the one that was meant
	h.awaitLink(t)
	conn, err = h.Dial(t.Context(), partnerNode, Messages)
	require.NoError(t, err)
	_ = conn.Close()
	_, _, connects := k.State()
	require.EqualValues(t, 2, connects)
	require.EqualValues(t, 2, h.Connects()[partnerNode])
}

// TestFrozenLink checks that both sides close a link over which nothing arrives any more, although no side
// has closed it, and that another one is made.
func TestFrozenLink(t *testing.T) {
	t.Parallel()
	h := newHolding(t)
	between := newRelayedTCP(t, h.url[len("http://"):])
	keep(t, "http://"+between.Addr().String(), map[Service]*Listener{Commands: serveEcho(t)})
	h.awaitLink(t)
	conn, err := h.Dial(t.Context(), partnerNode, Commands)
	require.NoError(t, err)
	requireEcho(t, conn, 100)
	thaw := between.freeze()
	defer thaw()
	began := time.Now()
	_, err = conn.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	require.Less(t, time.Since(began), 2*(pingAfter+pingTimeout))
	thaw() // the network is back
	h.awaitLink(t)
	conn, err = h.Dial(t.Context(), partnerNode, Commands)
	require.NoError(t, err)
	requireEcho(t, conn, 100)
}

// TestPartnerDownAtFirst checks that a keeper makes its link when the partner starts later or accepts it
// later.
func TestPartnerDownAtFirst(t *testing.T) {
	t.Parallel()
	h := newHolding(t)
	h.refuse.Store(true)
	var tries atomic.Int32
	down := make(chan struct{})
	outgoing := roundTripper(func(r *http.Request) (*http.Response, error) {
		switch tries.Add(1) {
		case 1, 2:
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
		case 3:
			defer close(down)
		}
		return asNode{httpclient.Direct(), partnerNode}.RoundTrip(r)
	})
	k := Keep(KeeperConfig{Node: "Q", URL: h.url, Services: map[Service]*Listener{Commands: serveEcho(t)},
		firstPause: 10 * time.Millisecond, Outgoing: outgoing, Logger: slog.New(slog.DiscardHandler)})
	t.Cleanup(k.Close)
	<-down
	require.Empty(t, h.States())
	h.refuse.Store(false)
	h.awaitLink(t)
	conn, err := h.Dial(t.Context(), partnerNode, Commands)
	require.NoError(t, err)
	requireEcho(t, conn, 10)
	k.Close()
	_, err = conn.Read(make([]byte, 1))
	require.Error(t, err)
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestTwoLinks checks that connections are balanced over the links of a partner, that the other one serves
// when one ends, and that a link replaces its former self.
func TestTwoLinks(t *testing.T) {
	t.Parallel()
	h := newHolding(t)
	first := keep(t, h.url, map[Service]*Listener{Commands: serveEcho(t)})
	h.awaitLink(t)
	second := keep(t, h.url, map[Service]*Listener{Commands: serveEcho(t), Messages: serveEcho(t)})
	h.awaitLink(t)
	for range 10 {
		conn, err := h.Dial(t.Context(), partnerNode, Commands)
		require.NoError(t, err)
		defer func() { _ = conn.Close() }()
		requireEcho(t, conn, 10)
	}
	for _, s := range h.States() {
		require.Equal(t, 5, s.Connections)
	}
	conn, err := h.Dial(t.Context(), partnerNode, Messages)
	require.NoError(t, err)
	requireEcho(t, conn, 10)

	first.Close()
	conn, err = h.Dial(t.Context(), partnerNode, Commands)
	require.NoError(t, err)
	requireEcho(t, conn, 10)

	// The same process makes its link again, while this one holds the former.
	header := http.Header{headerID: {second.id}, headerServices: {"commands, quantum"}}
	over := asNode{httpclient.Direct(), partnerNode}
	again, err := askUpgrade(t.Context(), over, h.url, upgradeLink, header)
	require.NoError(t, err)
	defer func() { _ = again.Close() }()
	h.awaitLink(t)
	require.Eventually(t, func() bool {
		states := h.States()
		return len(states) == 1 && len(states[0].Services) == 1 && states[0].Services[0] == Commands
	}, time.Minute, 10*time.Millisecond)
	_, err = conn.Read(make([]byte, 1))
	require.Error(t, err, "the former link has ended, with its connections")
}

// TestLimits checks what a holder refuses, and that a partner can't have any number of links.
func TestLimits(t *testing.T) {
	t.Parallel()
	h := newHolding(t)
	over := asNode{httpclient.Direct(), partnerNode}
	for text, header := range map[string]http.Header{
		"X-Hutong-Link-Services: must name": {headerID: {"1"}, headerServices: {"secrets"}},
		"X-Hutong-Link-Id: must have":       {headerServices: {"commands"}},
	} {
		_, err := askUpgrade(t.Context(), over, h.url, upgradeLink, header)
		require.ErrorContains(t, err, "HTTP 400")
		require.ErrorContains(t, err, text)
	}
	for i := range maxLinks + 1 {
		conn, err := askUpgrade(t.Context(), over, h.url, upgradeLink, http.Header{headerID: {rand.Text()},
			headerServices: {"commands"}})
		if i == maxLinks {
			require.ErrorContains(t, err, "already has 32 links")
			break
		}
		require.NoError(t, err)
		defer func() { _ = conn.Close() }()
		<-h.accepted
	}
	// A peer that does not answer holds no dial for longer than the caller waits.
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := h.Dial(ctx, partnerNode, Commands)
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

// TestHolderStops checks that a dialer finds a link at another holder when the one that it used has stopped.
func TestHolderStops(t *testing.T) {
	t.Parallel()
	a, b, empty := newHolding(t), newHolding(t), newHolding(t)
	for _, h := range []*holding{a, b} {
		keep(t, h.url, map[Service]*Listener{Commands: serveEcho(t)})
		h.awaitLink(t)
	}
	d := &Dialer{Own: empty.Holder, Sender: httpclient.Direct(),
		Others: func(context.Context) ([]string, error) {
			return []string{"127.0.0.1:1", empty.url[7:], a.url[7:], b.url[7:]}, errors.New("the list is old")
		}}
	conn, err := d.Dial(t.Context(), partnerNode, Commands)
	require.NoError(t, err)
	requireEcho(t, conn, 10)
	require.Equal(t, a.url[7:], d.last[partnerNode+"/commands"])
	a.Close()
	_, err = conn.Read(make([]byte, 1))
	require.Error(t, err)
	conn, err = d.Dial(t.Context(), partnerNode, Commands)
	require.NoError(t, err)
	requireEcho(t, conn, 10)
	require.Equal(t, b.url[7:], d.last[partnerNode+"/commands"])
	b.Close()
	_, err = d.Dial(t.Context(), partnerNode, Commands)
	require.ErrorContains(t, err, "the list is old")
	require.ErrorContains(t, err, "no link with the partner is up")
}
