package system

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"

	"hutong/bfia"
	"hutong/internal/party"
)

// periodic returns a periodic job of the party.
func (n *testParty) periodic(name string) bfia.Periodic {
	n.t.Helper()
	var list []bfia.Periodic
	n.mustRequest(http.MethodGet, bfia.PathPeriodicQuery+"?name="+name, nil, &list)
	require.Len(n.t, list, 1)
	return list[0]
}

// awaitRuns waits until a periodic job's runs have the property, and returns them, latest first.
func (n *testParty) awaitRuns(name string, has func([]bfia.PeriodicRun) bool) []bfia.PeriodicRun {
	n.t.Helper()
	var runs []bfia.PeriodicRun
	require.Eventually(n.t, func() bool {
		runs = n.periodic(name).LastRuns
		return has(runs)
	}, 2*time.Minute, 200*time.Millisecond, "%s: %+v", name, &runs)
	return runs
}

// runs reports whether a job is RUNNING. A run has its job's id before the job is created.
func (n *testParty) runs(jobID string) bool {
	n.t.Helper()
	env, _ := n.request(http.MethodGet, bfia.PathPlatformStatusAll+"?job_id="+jobID, nil)
	if env.Code == bfia.CodeNotFound {
		return false
	}
	require.True(n.t, env.OK(), env.Text())
	var status bfia.JobStatus
	require.NoError(n.t, json.Unmarshal(env.Data, &status))
	return status.State == bfia.JobRunning
}

func countRuns(runs []bfia.PeriodicRun, outcome bfia.PeriodicOutcome) (n int) {
	for _, r := range runs {
		if r.Outcome == outcome {
			n++
		}
	}
	return n
}

// addPeriodic adds a periodic job that runs the document each ten seconds.
func (n *testParty) addPeriodic(name string, document []byte) {
	n.t.Helper()
	body, err := json.Marshal(bfia.AddPeriodic{Name: name, Document: document,
		Recurrence: bfia.Recurrence{Cron: "@every 10s"}})
	require.NoError(n.t, err)
	n.mustRequest(http.MethodPost, bfia.PathPeriodicAdd, body, nil)
}

// controlProcess starts a control worker of the party as a process.
func (n *testParty) controlProcess() *program {
	n.t.Helper()
	cfg := n.cfg
	routes := map[string]any{}
	for node, route := range cfg.Routes {
		routes[node] = map[string]any{"url": route.URL}
	}
	document, err := yaml.Marshal(map[string]any{"node_id": cfg.NodeID, "listen": cfg.Listen,
		"data_dir":   cfg.DataDir,
		"containers": map[string]any{"listen": cfg.Containers.Listen},
		"partners": map[string]any{"listen": cfg.Partners.Listen, "tls": map[string]any{
			"cert_file": cfg.Partners.TLS.CertFile, "key_file": cfg.Partners.TLS.KeyFile,
			"ca_file": cfg.Partners.TLS.CAFile}},
		"transport": map[string]any{"listen": cfg.Transport.Listen},
		"temporal":  map[string]any{"address": cfg.Temporal.Address, "namespace": cfg.Temporal.Namespace},
		"runner":    map[string]any{"docker": map[string]any{"enabled": "false"}}, "routes": routes})
	require.NoError(n.t, err)
	file := filepath.Join(n.t.TempDir(), "party.yaml")
	require.NoError(n.t, os.WriteFile(file, document, 0o600))
	p := startHutong(n.t, []string{"HUTONG_DATABASE_URL=" + cfg.Database.URL.Reveal(),
		"HUTONG_STORAGE_URL=" + cfg.Storage.URL.Reveal()}, "worker", "--only", "control", "--config", file)
	p.awaitOutput("is ready")
	return p
}

// TestPeriodic runs a periodic job of two parties, whose control worker is killed while a job runs: the job
// succeeds, and the next one follows. A paused one submits nothing, and one whose owner lost the token is
// refused.
func TestPeriodic(t *testing.T) {
	t.Parallel()
	pair := newPartyPair(t, nil)
	pair.guest.startAs(party.Roles{API: true, Runner: true, Transport: true})
	control := pair.guest.controlProcess()
	pair.host.start()
	for _, n := range []*testParty{pair.guest, pair.host} {
		n.register(sleepProvider(t), bfia.DeviceProcess)
	}
	n, document := pair.guest, sleepJob(t, 1, map[string]any{"s1": seconds(3)}, nil)
	n.addPeriodic("often", document)
	n.addPeriodic("paused", document)
	body, err := json.Marshal(bfia.PausePeriodic{Name: "paused", Reason: "holidays"})
	require.NoError(t, err)
	n.mustRequest(http.MethodPost, bfia.PathPeriodicPause, body, nil)

	killed := ""
	n.awaitRuns("often", func(runs []bfia.PeriodicRun) bool { // the first one, or a later one if it is slow
		for _, r := range runs {
			if r.JobID != "" && n.runs(r.JobID) {
				killed = r.JobID
				return true
			}
		}
		return false
	})
	control.kill(syscall.SIGKILL)
	n.controlProcess()
	requireSuccess(t, n.awaitJob(killed, time.Minute, isFinished))
	runs := n.awaitRuns("often", func(runs []bfia.PeriodicRun) bool {
		return countRuns(runs, "SUCCESS") >= 2
	})
	jobs := map[string]bool{}
	for _, r := range runs {
		require.False(t, r.JobID != "" && jobs[r.JobID], "%s was submitted twice", r.JobID)
		jobs[r.JobID] = true
	}
	require.True(t, jobs[killed])
	requireSuccess(t, pair.host.awaitJob(killed, time.Minute, isFinished))
	var shown bfia.JobView
	n.mustRequest(http.MethodGet, bfia.PathJobShow+"?job_id="+killed, nil, &shown)
	require.Equal(t, "often", shown.Periodic)
	require.Equal(t, []string{"admin"}, shown.SubmittedBy)

	// The owner must still be allowed to submit jobs.
	var me bfia.WhoAmI
	n.mustRequest(http.MethodGet, bfia.PathWhoAmI, nil, &me)
	other := n.as("other")
	require.NoError(t, n.database().RevokeToken(t.Context(), me.Credential, time.Now()))
	runs = other.awaitRuns("often", func(runs []bfia.PeriodicRun) bool {
		return countRuns(runs, bfia.RunRefused) > 0
	})
	for _, r := range runs {
		if r.Outcome == bfia.RunRefused {
			require.Contains(t, r.Reason, "was revoked")
		}
	}

	paused := other.periodic("paused")
	require.Equal(t, bfia.PeriodicPaused, paused.State)
	require.Equal(t, "admin: holidays", paused.Reason)
	require.Empty(t, paused.LastRuns)
	for _, name := range []string{"often", "paused"} {
		body, err := json.Marshal(bfia.PeriodicRef{Name: name})
		require.NoError(t, err)
		other.mustRequest(http.MethodPost, bfia.PathPeriodicDelete, body, nil)
	}
	var list []bfia.Periodic
	other.mustRequest(http.MethodGet, bfia.PathPeriodicQuery, nil, &list)
	require.Empty(t, list)
	replayHistories(t, n.cfg)
}
