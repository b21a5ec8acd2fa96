package system

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/party"
	"hutong/store/storetest"

	"hutong/test/testenv/relay"
)

// TestDatabaseFailsOver makes the host's PostgreSQL read-only while a job runs, as a fail-over does, and then
// promotes its standby behind the same address. Meanwhile the host asks its clients to try again later.
// The job succeeds without a restart of the party.
func TestDatabaseFailsOver(t *testing.T) {
	t.Parallel()
	primary := storetest.StartServer(t, nil)
	front := relay.New(t, "127.0.0.1", "unix", primary.Socket())
	pair := startSleepPair(t, func(cfg *party.Config) {
		if cfg.NodeID == hostNode {
			cfg.Database.URL = party.Secret("postgres://postgres@" + front.Address() +
				"/postgres?sslmode=disable")
		}
	})
	standby := storetest.StartServer(t, primary)
	jobID := pair.guest.submit(sleepJob(t, 2, map[string]any{"s1": seconds(10),
		"s2": map[string]any{"seconds": 0, "write_mib": 1}}, nil))
	pair.guest.awaitJob(jobID, time.Minute, isTaskRunning("s1"))

	primary.Exec(t, "ALTER SYSTEM SET default_transaction_read_only = on")
	primary.Exec(t, "SELECT pg_reload_conf()")
	front.Lead("unix", standby.Socket())
	require.Eventually(t, func() bool {
		a, err := pair.host.client.Send(t.Context(), http.MethodGet,
			pair.host.url+bfia.PathJobOutputs+"?job_id="+jobID, nil)
		require.NoError(t, err)
		if a.Status == http.StatusOK {
			return false
		}
		require.Equal(t, http.StatusServiceUnavailable, a.Status, a.Text())
		require.Contains(t, []string{"the database accepts no writes now",
			"the audit trail of this party can't be written, so nothing was done; try again later"}, a.Text())
		require.NotEmpty(t, a.Header.Get("Retry-After"))
		return true
	}, time.Minute, 20*time.Millisecond)
	// The guest's part ends, and the host can't record its own.
	pair.guest.awaitJob(jobID, time.Minute, func(s bfia.JobStatus) bool {
		for _, p := range s.Tasks[0].Parties {
			if p.NodeID == guestNode && p.State == bfia.TaskSuccess {
				return true
			}
		}
		return false
	})
	require.False(t, isFinished(pair.guest.status(jobID)))

	standby.Exec(t, "SELECT pg_promote()")
	requireSuccess(t, pair.guest.awaitJob(jobID, 2*time.Minute, isFinished))
	require.Contains(t, pair.host.outputs(jobID), "s2 host.0 out")
}
