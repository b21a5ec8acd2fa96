package party

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestBridgeFollowsNetwork creates the bridge network again with another address, as after "docker network
// prune". Containers then reach the party at the new address, and the old one is closed.
func TestBridgeFollowsNetwork(t *testing.T) {
	t.Parallel()
	_, port, err := net.SplitHostPort(freeAddress(t))
	require.NoError(t, err)

	var gateway netip.Addr
	var ensureErr error
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "party")
		}),
		ReadHeaderTimeout: time.Minute,
	}
	defer func() { _ = server.Close() }()
	b := &bridge{
		ensure: func(context.Context) (netip.Addr, error) { return gateway, ensureErr },
		port:   port,
		serve:  server.Serve,
		logger: slog.New(slog.DiscardHandler),
	}
	reach := func(host string) error {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet,
			"http://"+net.JoinHostPort(host, port), nil)
		require.NoError(t, err)
		request.Close = true
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		return answer.Body.Close()
	}

	ensureErr = errors.New("Docker Engine does not answer")
	b.update(t.Context())
	require.Nil(t, b.listener)

	gateway, ensureErr = netip.MustParseAddr("127.0.0.1"), nil
	b.update(t.Context())
	require.NoError(t, reach("127.0.0.1"))

	ensureErr = errors.New("Docker Engine does not answer")
	b.update(t.Context())
	require.NoError(t, reach("127.0.0.1"), "the last known address is served")

	gateway, ensureErr = netip.MustParseAddr("127.0.0.2"), nil
	b.update(t.Context())
	require.NoError(t, reach("127.0.0.2"))
	require.Error(t, reach("127.0.0.1"))

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	b.follow(ctx)
	require.Error(t, reach("127.0.0.2"))
}

// TestBridgeFails takes the port of a bridge network. The party stops after a while, once.
func TestBridgeFails(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = taken.Close() }()
	_, port, err := net.SplitHostPort(taken.Addr().String())
	require.NoError(t, err)
	var failures []error
	b := &bridge{
		ensure:   func(context.Context) (netip.Addr, error) { return netip.MustParseAddr("127.0.0.1"), nil },
		port:     port,
		serve:    func(net.Listener) error { return errors.New("must not be served") },
		logger:   slog.New(slog.DiscardHandler),
		giveUpAt: time.Now().Add(time.Hour),
		fail:     func(err error) { failures = append(failures, err) },
	}
	b.update(t.Context())
	require.Empty(t, failures, "it is too early")
	b.giveUpAt = time.Now()
	b.update(t.Context())
	b.update(t.Context())
	require.Len(t, failures, 1)
	require.ErrorContains(t, failures[0], "failed to serve containers at port "+port+" of the bridge network")
}
