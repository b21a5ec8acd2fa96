package channel_test

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"hutong/providers/reference/channel"
	"hutong/transport"
)

// served is a party's real transport that can be restarted at one address and on one spool.
type served struct {
	t              *testing.T
	spool, address string
	transport      *transport.Transport
	server         *http.Server
}

func (s *served) start() {
	tr, err := transport.New(transport.Config{NodeID: "node", Spool: s.spool, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(s.t, err)
	l, err := net.Listen("tcp", s.address)
	require.NoError(s.t, err)
	s.transport, s.server, s.address = tr, tr.Server(), l.Addr().String()
	go func() { _ = s.server.Serve(l) }()
}

// stop breaks all connections, whatever is on them.
func (s *served) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	_ = s.server.Close()
	require.NoError(s.t, s.transport.Close(ctx))
}

// A transport that goes down and comes back again and again in the middle of a conversation is not noticed.
func TestTransportRestarts(t *testing.T) {
	s := &served{t: t, spool: t.TempDir(), address: "127.0.0.1:0"}
	s.start()
	defer func() { s.stop() }()
	open := func(self, partner string) (*channel.Link, context.Context) {
		link, ctx, err := channel.Open(t.Context(), channel.Config{
			Transport: s.address, SessionID: "session", TaskID: "task", TraceID: "trace", Token: "token",
			Self: self, SelfNode: "node", Partner: partner, OtherNode: "node",
		})
		require.NoError(t, err)
		return link, ctx
	}
	var e ends
	e.guest, e.guestCtx = open("guest.0", "host.0")
	e.host, e.hostCtx = open("host.0", "guest.0")
	var g errgroup.Group
	g.Go(func() error { e.talk(t, 1); return nil })
	done := make(chan error, 1)
	go func() { done <- g.Wait() }()
	for restarts := 0; restarts < 4; restarts++ {
		// Something passed since the last start, or all is over.
		require.Eventually(t, func() bool { return s.transport.Stats().Pushed > 0 || len(done) > 0 }, 30*time.Second, time.Millisecond)
		s.stop()
		s.start()
		if len(done) > 0 {
			break
		}
	}
	require.NoError(t, <-done)
	e.guest.Close()
	e.host.Close()
	require.Zero(t, s.transport.Stats().Messages)
}
