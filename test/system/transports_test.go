package system

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"

	"hutong/bfia"
	"hutong/internal/party"
	"hutong/store/storetest"
	"hutong/test/testenv"
)

// TestPartyWithTwoTransports runs jobs whose containers exchange messages between two parties. The guest has
// two transports: one in the process of its runner, and another one, where the host's messages arrive. Each
// of them holds the sessions of some jobs.
func TestPartyWithTwoTransports(t *testing.T) {
	t.Parallel()
	program, err := os.Executable()
	require.NoError(t, err)
	messages := testenv.FreeAddress(t)
	pair := newPartyPair(t, func(cfg *party.Config) {
		cfg.Runner.Process.Allow = append(cfg.Runner.Process.Allow, program)
		if cfg.NodeID == guestNode {
			cfg.Database.URL = party.Secret(storetest.Postgres(t))
			cfg.Transport.Several, cfg.Transport.Name = true, "one"
			return
		}
		route := cfg.Routes[guestNode]
		route.TransportURL = "https://" + messages
		cfg.Routes[guestNode] = route
	})
	cfg := pair.guest.cfg
	file := filepath.Join(t.TempDir(), "party.yaml")
	document, err := yaml.Marshal(map[string]any{"node_id": cfg.NodeID, "data_dir": t.TempDir(),
		"database": map[string]any{"url": cfg.Database.URL.Reveal()},
		"partners": map[string]any{"tls": map[string]any{"cert_file": cfg.Partners.TLS.CertFile,
			"key_file": cfg.Partners.TLS.KeyFile, "ca_file": cfg.Partners.TLS.CAFile}},
		"transport": map[string]any{"listen": testenv.FreeAddress(t), "partner_listen": messages,
			"several": true, "name": "two"},
		"routes": map[string]any{hostNode: map[string]any{"url": cfg.Routes[hostNode].URL}},
	})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, document, 0o600))
	startHutong(t, nil, "transport", "--config", file).awaitOutput("is ready")
	for _, n := range []*testParty{pair.guest, pair.host} {
		n.start()
		n.exchangeProvider(bfia.SessionPerTask)
	}

	// A job's transport follows from its id, so that soon both have held one.
	db := pair.guest.database()
	held := map[string]string{}
	for i := 0; len(held) < 2; i++ {
		require.Less(t, i, 20, "jobs, all at one transport")
		job := pair.guest.submit(exchangeJob(t))
		requireSuccess(t, pair.guest.awaitJob(job, 3*time.Minute, isFinished))
		volume, err := db.Placement(t.Context(), bfia.SessionID(job))
		require.NoError(t, err)
		require.NotEmpty(t, volume)
		held[volume] = job
	}
	// The control worker ends the sessions of both, with the bytes that they have exchanged with the host.
	for _, job := range held {
		require.Eventually(t, func() bool {
			transfers, complete, err := db.Transfers(t.Context(), job)
			return err == nil && complete && len(transfers) > 0 && transfers[0].NodeID == hostNode &&
				transfers[0].SentMessages > 0 && transfers[0].ReceivedMessages > 0
		}, time.Minute, 50*time.Millisecond, "the transfers of job %s", job)
	}
}
