package party

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestAlive checks that a process finds out whether it answers at its own ops.listen, also where that is all
// addresses of the machine.
func TestAlive(t *testing.T) {
	config := Default()
	config.NodeID, config.DataDir = "A", t.TempDir()
	config.Security.Mode, config.Transport.Sessions = SecurityOpen, SessionsAll
	config.Transport.Listen = "127.0.0.1:0"
	config.Routes = Routes{"B": {URL: "http://127.0.0.1:1", TransportURL: "http://127.0.0.1:2",
		Auth: "none", From: []string{"127.0.0.0/8"}}}
	config.Ops.Listen = freeAddress(t)
	require.NoError(t, config.Complete())
	require.NoError(t, config.Validate())
	p, err := Start(t.Context(), config, Roles{Transport: true}, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	require.NoError(t, p.Alive(t.Context()))
	p.Stop(t.Context())
	require.ErrorContains(t, p.Alive(t.Context()), "failed to ask ops.listen")

	config.Ops.Listen = ":" + config.Ops.Listen[strings.LastIndexByte(config.Ops.Listen, ':')+1:]
	p, err = Start(t.Context(), config, Roles{Transport: true}, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	require.NoError(t, p.Alive(t.Context()))
	p.Stop(t.Context())

	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and never answers
	require.NoError(t, err)
	defer func() { require.NoError(t, silent.Close()) }()
	config.Ops.Listen = silent.Addr().String()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, (&Party{cfg: config}).Alive(ctx), context.DeadlineExceeded)
	config.Ops.Listen = ""
	require.NoError(t, (&Party{cfg: config}).Alive(t.Context()))
}
