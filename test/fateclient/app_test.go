package fateclient

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/api"
	"hutong/bfia"
	"hutong/internal/clients"
	"hutong/internal/identity"
	"hutong/store/storetest"
)

// TestFlowWithApp runs flow against a party whose clients must prove who they are: with an app, with a wrong
// token, without a role, and after the app is revoked.
func TestFlowWithApp(t *testing.T) {
	venv := os.Getenv("HUTONG_FATE_CLIENT")
	if venv == "" {
		t.Skip("HUTONG_FATE_CLIENT is not set; make fate-client installs FATE's client and sets it")
	}
	db := storetest.Open(t, storetest.SQLite(t))
	server := api.New(api.Config{Node: guestNode, Scheduler: guestNode, MaxDocumentBytes: 1 << 20,
		ClientTimeout: time.Minute, Clients: api.ClientsBy(clients.New(clients.Config{}, db))},
		api.Dependencies{Store: db, Logger: slog.New(slog.DiscardHandler)})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go func() { _ = server.ServeClients(l) }() // until the shutdown
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		assert.NoError(t, server.Shutdown(ctx))
	})
	token, app, err := clients.NewApp(t.Context(), db, "flow", []identity.Role{identity.Viewer}, "test", nil)
	require.NoError(t, err)
	require.NoError(t, db.CreateToken(t.Context(), app))

	e := &environment{t: t, venv: venv, dir: t.TempDir()}
	ip, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	do := func(code bfia.Code, text string, args ...string) {
		t.Helper()
		a := e.flow(args...)
		for strings.Contains(a.text, "was used before") { // flow has chosen a nonce twice in one second
			a = e.flow(args...)
		}
		require.NotNil(t, a.Code, a.text)
		require.Equal(t, int(code), *a.Code, a.text)
		require.Contains(t, a.text, text)
	}
	// flow keeps its settings in its package. 'flow init --reset' breaks them, so they are restored here.
	found, err := filepath.Glob(filepath.Join(venv, "lib", "python3*", "site-packages", "fate_client",
		"settings.yaml"))
	require.NoError(t, err)
	require.Len(t, found, 1)
	settings, err := os.ReadFile(found[0])
	require.NoError(t, err)
	restore := func() { assert.NoError(t, os.WriteFile(found[0], settings, 0o600)) }
	t.Cleanup(restore)
	configure := func(args ...string) {
		t.Helper()
		restore()
		do(0, "initialized", append([]string{"init", "--ip", ip, "--port", port}, args...)...)
	}

	configure()
	do(bfia.CodeUnauthenticated, "requires credentials", "server", "info")
	configure("--app-id", app.TokenID, "--app-token", token)
	do(0, "success", "server", "info")
	do(0, guestNode, "site", "query")
	do(bfia.CodeForbidden, "flow lacks the role operator", "job", "stop", "-j", "none")
	configure("--app-id", app.TokenID, "--app-token", token[1:]+"a")
	do(bfia.CodeUnauthenticated, "verify failed", "server", "info")
	configure("--app-id", "admin", "--app-token", "fate_flow_admin")
	do(bfia.CodeUnauthenticated, "no found appid", "server", "info")

	require.NoError(t, db.RevokeToken(t.Context(), app.TokenID, time.Now()))
	configure("--app-id", app.TokenID, "--app-token", token)
	do(bfia.CodeUnauthenticated, "was revoked", "server", "info")
}
