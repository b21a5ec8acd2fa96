package party

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/httpclient"
	"hutong/internal/placement"
	"hutong/store"
	"hutong/store/storetest"
)

// startTransportAlone starts a transport of all sessions that needs no database, whose partner has a
// transport at an address.
func startTransportAlone(t *testing.T, node, partnerListen, partner, partnerAt string, limits LimitsConfig,
) *Party {
	t.Helper()
	config := limitedTransport(t, node, partnerListen, partner, partnerAt, limits)
	config.Transport.Sessions = SessionsAll
	return startLimited(t, config)
}

// limitedTransport returns the configuration of a transport whose partner has a transport at an address.
func limitedTransport(t *testing.T, node, partnerListen, partner, partnerAt string, limits LimitsConfig,
) *Config {
	t.Helper()
	config := Default()
	config.NodeID, config.DataDir = node, t.TempDir()
	config.Security.Mode = SecurityOpen
	config.Transport.Listen, config.Transport.PartnerPlainListen = freeAddress(t), partnerListen
	config.Routes = Routes{partner: {URL: "http://127.0.0.1:1", TransportURL: "http://" + partnerAt,
		Auth: "none", From: []string{"127.0.0.0/8"}}}
	config.Limits.Requests, config.Limits.Burst = limits.Requests, limits.Burst
	return config
}

func startLimited(t *testing.T, config *Config) *Party {
	t.Helper()
	require.NoError(t, config.Complete())
	require.NoError(t, config.Validate())
	p, err := Start(t.Context(), config, Roles{Transport: true}, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(func() { p.Stop(context.WithoutCancel(t.Context())) })
	return p
}

// limitedMessages returns the messages of a partner beyond its rate, by outcome.
func limitedMessages(t *testing.T, p *Party, outcome string) int {
	t.Helper()
	w := httptest.NewRecorder()
	p.metrics.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, pathMetrics, nil))
	series := regexp.MustCompile(`(?m)^hutong_transport_limited_total\{outcome="` + outcome +
		`",partner="A"[^}]*\} (\d+)$`)
	found := series.FindSubmatch(w.Body.Bytes())
	if found == nil {
		return 0
	}
	n, err := strconv.Atoi(string(found[1]))
	require.NoError(t, err)
	return n
}

// TestSessionsShareTheRate has 16 sessions push and pop messages between two parties as fast as they can,
// which is faster than the receiving party lets its partner send. All sessions get about the same, and no
// message is refused. The exact shares are proved by TestSharesAreEqual of the package limits.
func TestSessionsShareTheRate(t *testing.T) {
	const sessions, duration = 16, 6 * time.Second
	limits := LimitsConfig{Requests: 40, Burst: 1}
	atA, atB := freeAddress(t), freeAddress(t)
	a := startTransportAlone(t, "A", atA, "B", atB, limits)
	b := startTransportAlone(t, "B", atB, "A", atA, limits)

	pool := httpclient.Direct()
	t.Cleanup(pool.CloseIdleConnections)
	call := func(p *Party, op, session, target string) error {
		url := "http://" + p.cfg.Transport.Listen + "/v1/interconn/chan/" + op
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url,
			bytes.NewReader([]byte(`{"topic":"t","timeout":60000,"payload":"eA=="}`)))
		if err != nil {
			return err
		}
		for name, value := range map[string]string{"Content-Type": "application/json",
			"x-ptp-session-id": session, "x-ptp-target-node-id": target, "x-ptp-topic": "t",
			"x-ptp-tech-provider-code": "TEST", "x-ptp-trace-id": "trace", "x-ptp-token": "token"} {
			r.Header.Set(name, value)
		}
		answer, err := pool.RoundTrip(r)
		if err != nil {
			return err
		}
		defer func() { _ = answer.Body.Close() }()
		text, err := io.ReadAll(answer.Body)
		if err == nil && (answer.StatusCode != http.StatusOK ||
			!bytes.Contains(text, []byte("E0000000000"))) {
			err = fmt.Errorf("%s of %s: %d %.200s", op, session, answer.StatusCode, text)
		}
		return err
	}
	var counts [sessions]int
	var over atomic.Bool
	timer := time.AfterFunc(duration, func() { over.Store(true) })
	defer timer.Stop()
	var group sync.WaitGroup
	for i := range sessions {
		group.Go(func() {
			session := fmt.Sprintf("session_%d", i)
			for !over.Load() {
				if !assert.NoError(t, call(a, "push", session, "B")) ||
					!assert.NoError(t, call(b, "pop", session, "")) {
					return
				}
				counts[i]++
			}
		})
	}
	group.Wait()
	total := 0
	for _, n := range counts {
		total += n
	}
	mean := float64(total) / sessions
	waited := limitedMessages(t, b, "served")
	t.Logf("%d messages, of which %d waited; slowest %.2f, fastest %.2f of the mean", total, waited,
		float64(slices.Min(counts[:]))/mean, float64(slices.Max(counts[:]))/mean)
	assert.InDelta(t, mean, slices.Min(counts[:]), 0.5*mean)
	assert.InDelta(t, mean, slices.Max(counts[:]), 0.5*mean)
	assert.Greater(t, waited, total/2, "the limit must count")
	assert.Zero(t, limitedMessages(t, b, "refused"))
	assert.Zero(t, limitedMessages(t, b, "cancelled"))
}

// streamTo sends messages of a session of A to a transport of B in one call. It returns how many were
// accepted, and how long that took.
func streamTo(t *testing.T, at, session string, messages int) (accepted int, took time.Duration) {
	t.Helper()
	body := strings.Repeat(`{"topic":"t","payload":"eA=="}`+"\n", messages)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost,
		"http://"+at+"/v1/interconn/chan/transport", strings.NewReader(body))
	require.NoError(t, err)
	for name, value := range map[string]string{"Content-Type": "application/x-ndjson", "x-ptp-version": "1",
		"x-ptp-uri": "/v1/interconn/chan/push", "x-ptp-source-node-id": "A", "x-ptp-target-node-id": "B",
		"x-ptp-session-id": session, "x-ptp-tech-provider-code": "TEST", "x-ptp-trace-id": "trace",
		"x-ptp-token": "token"} {
		r.Header.Set(name, value)
	}
	pool := httpclient.Direct()
	defer pool.CloseIdleConnections()
	began := time.Now()
	answer, err := pool.RoundTrip(r)
	require.NoError(t, err)
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return bytes.Count(text, []byte("E0000000000")), time.Since(began)
}

// TestStreamIsLimited sends messages in one call. Each counts.
func TestStreamIsLimited(t *testing.T) {
	const messages, rate = 5, 4
	at, nobody := freeAddress(t), freeAddress(t)
	b := startTransportAlone(t, "B", at, "A", nobody, LimitsConfig{Requests: rate, Burst: 1})
	accepted, took := streamTo(t, at, "s", messages)
	require.Equal(t, messages, accepted)
	assert.GreaterOrEqual(t, took, (messages-1)*time.Second/rate)
	assert.Positive(t, limitedMessages(t, b, "served"))
}

// TestRelayedStreamIsLimited sends messages in one call to each of a party's transports. Each message counts,
// also those that are relayed to the transport which holds their session.
func TestRelayedStreamIsLimited(t *testing.T) {
	const messages, rate = 5, 4
	database := storetest.SQLite(t)
	db := storetest.Open(t, database)
	const job = "J"
	require.NoError(t, db.CreateJob(t.Context(), store.Job{JobID: job, CreatedAt: time.Now(),
		PartyNodes: []string{"A", "B"}}, nil))
	nobody := freeAddress(t)
	var transports []*Party
	for _, name := range []string{"one", "two"} {
		config := limitedTransport(t, "B", freeAddress(t), "A", nobody,
			LimitsConfig{Requests: rate, Burst: 1})
		config.Database.URL = Secret(database)
		config.Transport.Several, config.Transport.Name = true, name
		transports = append(transports, startLimited(t, config))
	}
	directory := placement.New(db, quietLog)
	var holder store.Transport
	require.Eventually(t, func() (found bool) {
		var err error
		holder, err = directory.Find(t.Context(), bfia.SessionID(job))
		return err == nil
	}, time.Minute, 50*time.Millisecond)
	relayed := 0
	for _, p := range transports {
		var took time.Duration
		require.Eventually(t, func() bool { // one whose heartbeat is late refuses
			var accepted int
			accepted, took = streamTo(t, p.cfg.Transport.PartnerPlainListen, bfia.SessionID(job), messages)
			return accepted == messages
		}, time.Minute, 50*time.Millisecond)
		least := messages - 1
		if p.channel.VolumeID() != holder.VolumeID {
			relayed++
			least-- // the first counts where it arrives, the others at the holder
		}
		assert.GreaterOrEqual(t, took, time.Duration(least)*time.Second/rate, "by %s",
			p.cfg.Transport.Name)
	}
	require.Equal(t, 1, relayed)
}
