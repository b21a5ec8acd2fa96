package system

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/metrics"
	"hutong/internal/party"
	"hutong/test/testenv"
	"hutong/test/testenv/relay"
)

// opsGet reads an endpoint of a process's ops.listen.
func opsGet(t *testing.T, address, path string) (body string, status int) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+path, http.NoBody)
	require.NoError(t, err)
	resp, err := http.DefaultTransport.RoundTrip(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return string(text), resp.StatusCode
}

// scraped holds the metrics of one or several processes: the sum of each series, by name and labels.
type scraped map[string]float64

// scrape reads the metrics of processes. It checks that each is one of the golden list, or not Hutong's own.
func scrape(t *testing.T, addresses ...string) scraped {
	t.Helper()
	var defined []string
	for _, d := range metrics.Definitions() {
		defined = append(defined, d.Name)
	}
	all := scraped{}
	for _, address := range addresses {
		text, status := opsGet(t, address, "/metrics")
		require.Equal(t, http.StatusOK, status, text)
		var parser expfmt.TextParser
		families, err := parser.TextToMetricFamilies(strings.NewReader(text))
		require.NoError(t, err)
		for name, family := range families {
			if strings.HasPrefix(name, "hutong_") {
				require.Contains(t, defined, name)
			}
			for _, m := range family.GetMetric() {
				all[seriesName(name, m)] += m.GetCounter().GetValue() + m.GetGauge().GetValue() +
					float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return all
}

// seriesName returns the name of a series as in name{a=x,b=y}.
func seriesName(name string, m *dto.Metric) string {
	var labels []string
	for _, l := range m.GetLabel() {
		labels = append(labels, l.GetName()+"="+l.GetValue())
	}
	slices.Sort(labels)
	return fmt.Sprintf("%s{%s}", name, strings.Join(labels, ","))
}

// sum returns the sum of all series whose names begin with prefix.
func (s scraped) sum(prefix string) (sum float64) {
	for name, n := range s {
		if strings.HasPrefix(name, prefix) {
			sum += n
		}
	}
	return sum
}

// TestMetrics runs the reference job between a party in one process, and one in four, and checks what the
// metrics of each process say of it, and the health and readiness of each.
func TestMetrics(t *testing.T) {
	t.Parallel()
	pair := newPartyPair(t, func(cfg *party.Config) { cfg.Ops.Listen = testenv.FreeAddress(t) })
	guestOps := pair.guest.cfg.Ops.Listen
	pair.host.cfg.Transport.PartnerListen = testenv.FreeAddress(t)
	pair.guest.cfg.Routes[hostNode] = party.Route{URL: "https://" + pair.host.cfg.Partners.Listen,
		TransportURL: "https://" + pair.host.cfg.Transport.PartnerListen}
	pair.host.cfg.Transport.Advertise = pair.host.cfg.Transport.Listen
	pair.guest.start()
	hostOps := map[string]string{}
	for _, process := range []struct {
		name  string
		roles party.Roles
	}{{"transport", party.Roles{Transport: true}}, {"control", party.Roles{Control: true}},
		{"runner", party.Roles{Runner: true}}, {"api", party.Roles{API: true}}} {
		cfg := *pair.host.cfg
		cfg.Ops.Listen = testenv.FreeAddress(t)
		hostOps[process.name] = cfg.Ops.Listen
		(&testParty{t: t, cfg: &cfg}).startAs(process.roles)
	}
	for name, address := range hostOps {
		for _, path := range []string{bfia.PathHealth, bfia.PathReady} {
			body, status := opsGet(t, address, path)
			require.Equal(t, http.StatusOK, status, "%s %s: %s", name, path, body)
			require.Contains(t, body, hostNode)
		}
		body, status := opsGet(t, address, "/v2/overview")
		require.Equal(t, http.StatusNotFound, status, body)
		s := scrape(t, address)
		require.InDelta(t, 1, s.sum("hutong_build_info{"), 0, name)
		require.InDelta(t, 1, s["hutong_dependency_up{dependency=database}"], 0, name)
		require.Positive(t, s["hutong_certificate_expiry_timestamp_seconds{use=partners}"], name)
		require.Positive(t, s["go_goroutines{}"], name)
		require.Positive(t, s["process_open_fds{}"], name)
		require.Positive(t, s.sum("go_sql_open_connections{"), name)
		if name != "transport" {
			require.Positive(t, s.sum("temporal_request_total{"), name)
		}
	}
	for _, listener := range []string{pair.guest.cfg.Listen, pair.guest.cfg.Transport.Listen,
		pair.guest.cfg.Containers.Listen} {
		body, status := opsGet(t, listener, "/metrics")
		require.NotEqual(t, http.StatusOK, status, listener)
		require.NotContains(t, body, "hutong_build_info", listener)
	}

	for _, n := range []*testParty{pair.guest, pair.host} {
		n.register(readVector(t, "provider_register.request.json"), bfia.DeviceProcess)
		n.upload("host.csv", "testspace", "test_host")
	}
	pair.guest.upload("guest.csv", "testspace", "test_guest")
	jobID := pair.guest.submit(referenceJob(t, true))
	requireSuccess(t, pair.guest.awaitJob(jobID, 3*time.Minute, isFinished))
	requireSuccess(t, pair.host.awaitJob(jobID, time.Minute, isFinished))

	var all []string
	for _, address := range hostOps {
		all = append(all, address)
	}
	var g, h scraped
	ended := float64(time.Now().Unix()) + 1
	require.Eventually(t, func() bool { // control workers read the rows at most every ten seconds
		g, h = scrape(t, guestOps), scrape(t, hostOps["control"])
		const read = "hutong_rows_read_timestamp_seconds{}"
		// A job may end by the callbacks of its containers, before these exit.
		const exits = "hutong_callbacks_total{outcome=accepted,source=exit}"
		return g[read] > ended && h[read] > ended && g[exits] == 2 && scrape(t, all...)[exits] == 2
	}, time.Minute, 200*time.Millisecond)
	h = scrape(t, all...)
	for name, value := range map[string]scraped{"hutong_jobs{side=scheduler,state=running}": g,
		"hutong_jobs{side=participant,state=running}": h} {
		require.Contains(t, value, name)
		require.InDelta(t, 0, value[name], 0, "the job has ended")
	}

	require.InDelta(t, 1, g["hutong_jobs_ended_total{outcome=success,side=scheduler}"], 0)
	require.InDelta(t, 1, g["hutong_jobs_ended_total{outcome=success,side=participant}"], 0)
	require.InDelta(t, 1, h["hutong_jobs_ended_total{outcome=success,side=participant}"], 0)
	require.InDelta(t, 0, h.sum("hutong_jobs_ended_total{outcome=success,side=scheduler"), 0)
	require.InDelta(t, 1, g["hutong_job_wait_seconds{side=scheduler}"], 0)
	for _, s := range []scraped{g, h} {
		require.InDelta(t, 2, s["hutong_parts_ended_total{kind=none,outcome=success}"], 0)
		require.InDelta(t, 2, s["hutong_callbacks_total{outcome=accepted,source=exit}"], 0)
		require.Positive(t, s["hutong_callbacks_total{outcome=accepted,source=container}"])
		require.Positive(t, s.sum("hutong_storage_seconds{operation=put"))
		require.Positive(t, s.sum("hutong_database_seconds{operation=update"))
		require.InDelta(t, 0, s.sum("hutong_database_errors_total{"), 0)
		require.Positive(t, s.sum("temporal_activity_execution_latency_seconds{"))
		require.Positive(t, s.sum("hutong_runner_capacity{"))
		require.InDelta(t, 1, s.sum("hutong_runner_state{"), 0)
		require.Positive(t, s["hutong_disk_free_bytes{folder=storage}"])
	}
	require.Positive(t, g["hutong_callbacks_total{outcome=accepted,source=partner}"])
	require.InDelta(t, 2,
		g["hutong_partner_requests_total{command=task_start,outcome=success,partner="+hostNode+"}"], 0)
	require.Positive(t, g["hutong_partner_last_success_timestamp_seconds{partner="+hostNode+"}"])
	require.Positive(t, h["hutong_partner_last_contact_timestamp_seconds{partner="+guestNode+"}"])
	require.Positive(t, h["hutong_http_requests_total{code=200,listener=partners,method=POST,route="+
		bfia.PathTaskStart+"}"])
	for _, unit := range []string{"bytes", "messages"} {
		sent := g[fmt.Sprintf("hutong_transport_%s_total{direction=sent,partner=%s}", unit, hostNode)]
		require.Positive(t, sent)
		require.InDelta(t, sent,
			h[fmt.Sprintf("hutong_transport_%s_total{direction=received,partner=%s}", unit, guestNode)], 0)
	}
	for name := range g {
		require.NotContains(t, name, jobID, "a label names the job")
	}
}

// TestReadiness checks that a process reports which service does not answer, and serves its metrics
// meanwhile.
func TestReadiness(t *testing.T) {
	t.Parallel()
	n := newTestParty(t, guestNode, testenv.Temporal(t), pairCount.Add(1))
	certify(t, n.cfg)
	n.cfg.Ops.Listen = testenv.FreeAddress(t)
	n.prepare()
	r := relay.New(t, "127.0.0.1", "tcp", n.cfg.Temporal.Address)
	n.cfg.Temporal.Address = r.Address()
	n.start()
	body, status := opsGet(t, n.cfg.Ops.Listen, bfia.PathReady)
	require.Equal(t, http.StatusOK, status, body)

	r.Cut()
	require.Eventually(t, func() bool {
		body, status = opsGet(t, n.cfg.Ops.Listen, bfia.PathReady)
		return status == http.StatusServiceUnavailable
	}, time.Minute, 100*time.Millisecond)
	require.Contains(t, body, "no answer from Temporal")
	s := scrape(t, n.cfg.Ops.Listen)
	require.InDelta(t, 0, s["hutong_dependency_up{dependency=temporal}"], 0)
	require.InDelta(t, 1, s["hutong_dependency_up{dependency=database}"], 0)
	_, status = opsGet(t, n.cfg.Ops.Listen, bfia.PathHealth)
	require.Equal(t, http.StatusOK, status)
}
