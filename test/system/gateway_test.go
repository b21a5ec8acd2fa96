package system

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/party"
	"hutong/store"
)

// gateway is a proxy in front of a party. It answers some requests with a page of its own, as if its backend
// were gone.
type gateway struct {
	url   string
	mu    sync.Mutex
	block func(path, body string) bool
	pages int // answered by the gateway itself
}

func (g *gateway) set(block func(path, body string) bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.block, g.pages = block, 0
}

func (g *gateway) answered() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.pages
}

// startGateway starts a gateway before an address.
func startGateway(t *testing.T, backend string) *gateway {
	t.Helper()
	target, err := url.Parse(backend)
	require.NoError(t, err)
	proxy := httputil.NewSingleHostReverseProxy(target)
	g := &gateway{block: func(string, string) bool { return false }}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		g.mu.Lock()
		blocked := g.block(r.URL.Path, string(body))
		if blocked {
			g.pages++
		}
		g.mu.Unlock()
		if !blocked {
			proxy.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, "<html><h1>404 Not Found</h1>nginx</html>")
	}))
	t.Cleanup(server.Close)
	g.url = server.URL
	return g
}

// newGatewayPair starts a guest and a host with a gateway before the host.
func newGatewayPair(t *testing.T, giveUpAfter time.Duration) (*partyPair, *gateway) {
	t.Helper()
	pair := newPartyPair(t, func(cfg *party.Config) {
		cfg.Remote.Timeout, cfg.Remote.GiveUpAfter = 5*time.Second, giveUpAfter
	})
	toHost := pair.host.plainRoute()
	g := startGateway(t, toHost.URL)
	toHost.TransportURL = toHost.URL
	toHost.URL = g.url
	pair.guest.cfg.Routes[hostNode] = toHost
	pair.host.cfg.Routes[guestNode] = pair.guest.plainRoute()
	for _, n := range []*testParty{pair.guest, pair.host} {
		n.start()
		n.register(sleepProvider(t), bfia.DeviceProcess)
	}
	return pair, g
}

func (n *testParty) jobHere(jobID string) store.Job {
	n.t.Helper()
	job, err := n.database().Job(n.t.Context(), jobID)
	require.NoError(n.t, err)
	return job
}

// requireEnded waits until a party has ended its part of a job and holds nothing for it.
func (n *testParty) requireEnded(jobID string, within time.Duration) {
	n.t.Helper()
	db := n.database()
	require.Eventually(n.t, func() bool {
		job, err := db.Job(n.t.Context(), jobID)
		require.NoError(n.t, err)
		held, err := db.EndedJobsWithReservation(n.t.Context(), time.Now().Add(time.Hour))
		require.NoError(n.t, err)
		return job.State == bfia.JobFinished && len(held) == 0
	}, within, 100*time.Millisecond)
}

// TestGatewayBeforePartner checks that the page of a gateway never counts as the partner's refusal, at no
// command of a job.
func TestGatewayBeforePartner(t *testing.T) {
	t.Parallel()
	pair, g := newGatewayPair(t, time.Minute)
	seen := map[string]int{}
	g.set(func(path, _ string) bool { // the first two tries of each command
		seen[path]++
		return seen[path] <= 2
	})
	jobID := pair.guest.submit(sleepJob(t, 1, map[string]any{"s1": map[string]any{"seconds": 0.1}}, nil))
	requireSuccess(t, pair.guest.awaitJob(jobID, time.Minute, isFinished))
	pair.host.requireEnded(jobID, time.Minute)
	g.set(func(string, string) bool { return false }) // from here on, nothing counts
	// A task starts at once at the partner, which implies job/start.
	for _, path := range []string{bfia.PathCreate, bfia.PathReserve, bfia.PathTaskStart, bfia.PathStop} {
		require.Greater(t, seen[path], 2, path)
	}
}

// TestJobStopIsLost checks that a job ends at every participant although job/stop is answered by a gateway
// for longer than any other command is retried, or for ever.
func TestJobStopIsLost(t *testing.T) {
	t.Parallel()
	pair, g := newGatewayPair(t, 6*time.Second)
	run := func(block func(path, body string) bool) (jobID string) {
		g.set(block)
		jobID = pair.guest.submit(sleepJob(t, 1, map[string]any{"s1": map[string]any{"seconds": 0.1}}, nil))
		requireSuccess(t, pair.guest.awaitJob(jobID, time.Minute, isFinished))
		require.Eventually(t, func() bool { return g.answered() > 0 }, time.Minute, 10*time.Millisecond)
		require.Equal(t, bfia.JobRunning, pair.host.jobHere(jobID).State)
		return jobID
	}
	stops := func(path, _ string) bool { return path == bfia.PathStop }

	t.Run("for a while", func(t *testing.T) {
		const while = 12 * time.Second // longer than a command is retried
		var began time.Time            // of the first stop, however long the job before it takes
		jobID := run(func(path, _ string) bool {
			if path == bfia.PathStop && began.IsZero() {
				began = time.Now()
			}
			return path == bfia.PathStop && time.Since(began) < while
		})
		pair.host.requireEnded(jobID, 50*time.Second) // the participant asks later
		g.set(func(string, string) bool { return false })
		require.Greater(t, time.Since(began), while)
	})

	t.Run("stopped at the participant", func(t *testing.T) {
		jobID := run(stops)
		pair.host.mustRequest(http.MethodPost, bfia.PathPlatformStopAll, []byte(`{"job_id":"`+jobID+`"}`),
			nil)
		pair.host.requireEnded(jobID, 50*time.Second)
	})

	t.Run("stopped at the scheduler", func(t *testing.T) {
		jobID := run(stops)
		body := []byte(`{"job_id":"` + jobID + `"}`)
		env, status := pair.guest.request(http.MethodPost, bfia.PathPlatformStopAll, body)
		require.Equal(t, http.StatusBadGateway, status)
		require.Contains(t, env.Text(), hostNode+" did not take the end of the job")
		require.Contains(t, env.Text(),
			"answered by something that is not the partner's API: HTTP 404 Not Found, text/html")
		g.set(func(string, string) bool { return false })
		pair.guest.mustRequest(http.MethodPost, bfia.PathPlatformStopAll, body, nil)
		pair.host.requireEnded(jobID, 50*time.Second)
	})

	t.Run("for ever", func(t *testing.T) {
		jobID := run(stops)
		pair.host.requireEnded(jobID, 3*time.Minute) // it asks after a minute of silence
		requireSuccess(t, pair.host.awaitJob(jobID, time.Minute, isFinished))
	})

	t.Run("while it runs at the participant", func(t *testing.T) {
		g.set(stops)
		jobID := pair.guest.submit(sleepJob(t, 1, nil, map[string]map[string]any{
			"guest": {"s1": map[string]any{"seconds": 0.1, "exit_code": 3}},
			"host":  {"s1": map[string]any{"seconds": 600}}}))
		pair.guest.awaitJob(jobID, time.Minute, isFinished)
		pair.host.requireEnded(jobID, 3*time.Minute)
		job := pair.host.jobHere(jobID)
		require.Contains(t, job.Reason, "exit code 3")
	})
}
