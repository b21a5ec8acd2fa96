package metrics

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/bfia/client"
	"hutong/store"
	"hutong/transport"
	"hutong/transport/queue"
)

// TestGolden compares the metrics, with their labels and the allowed values, with a file. A dashboard or an
// alert of an operator may depend on each of them, so a change must be deliberate.
func TestGolden(t *testing.T) {
	var lines []string
	for _, d := range Definitions() {
		lines = append(lines, d.String())
		require.Regexp(t, "^hutong_[a-z_]+$", d.Name)
		require.Equal(t, d.Kind == Counter, strings.HasSuffix(d.Name, "_total"), d.Name)
		require.NotEmpty(t, d.Help, d.Name)
		require.Equal(t, d.Kind == Histogram, len(d.Buckets) > 0, d.Name)
		for _, l := range d.Labels {
			require.NotContains(t, []string{"job", "job_id", "task", "task_id", "instance", "path"}, l.Name,
				d.Name)
			require.NotEqual(t, len(l.Values) > 0, l.Source != "", "%s %s", d.Name, l.Name)
		}
	}
	got := strings.Join(lines, "\n") + "\n"
	const file = "testdata/metrics.golden"
	if os.Getenv("HUTONG_UPDATE_GOLDEN") != "" {
		require.NoError(t, os.WriteFile(file, []byte(got), 0o600))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), got, "HUTONG_UPDATE_GOLDEN=1 writes %s", file)
}

// scrape returns what a scrape reads, by name.
func scrape(t *testing.T, m *Metrics) map[string]*dto.MetricFamily {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/metrics", nil))
	require.Equal(t, 200, w.Code, w.Body.String())
	var parser expfmt.TextParser
	families, err := parser.TextToMetricFamilies(w.Body)
	require.NoError(t, err)
	return families
}

// value returns the value of a series, whose labels are given as name, value.
func value(t *testing.T, families map[string]*dto.MetricFamily, name string, labels ...string) float64 {
	t.Helper()
	want := map[string]string{}
	for i := 0; i < len(labels); i += 2 {
		want[labels[i]] = labels[i+1]
	}
	require.Contains(t, families, name)
	for _, m := range families[name].GetMetric() {
		got := map[string]string{}
		for _, l := range m.GetLabel() {
			got[l.GetName()] = l.GetValue()
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			continue
		}
		switch {
		case m.Counter != nil:
			return m.GetCounter().GetValue()
		case m.Gauge != nil:
			return m.GetGauge().GetValue()
		}
		return float64(m.GetHistogram().GetSampleCount())
	}
	require.Failf(t, "no such series", "%s %v in %v", name, labels, families[name])
	return 0
}

func newTest() *Metrics {
	return New(Options{Node: "A", Version: "v1", Processes: []string{"api", "control"},
		Routes:       []string{"/v2/job/show", "/healthz"},
		KnownPartner: func(node string) bool { return node == "B" }})
}

// TestObserve checks what each function counts.
func TestObserve(t *testing.T) {
	m := newTest()
	m.Request("clients", "GET", "/v2/job/show", 200, bfia.CodeOK, time.Second)
	m.Request("partners", "POST", "", 429, bfia.CodeTooMany, 0)
	m.Command("B", bfia.PathCreate, time.Second, nil)
	m.Command("A", bfia.PathStart, 0, &client.Error{Outcome: client.Refused})
	m.Command("B", bfia.PathStatusAll+"?job_id=j", 0, &client.Error{Outcome: client.NotDelivered})
	m.Callback("container", nil)
	m.Callback("partner", bfia.Errorf(bfia.CodeNotFound, "x"))
	m.Callback("container", errors.New("x"))
	m.Transfer("B", true, 10)
	m.Transfer("B", true, 5)
	m.Transfer("C", false, 1)
	m.ForwardFailure("B")
	m.LimitedMessage("B", "served")
	m.LimitedMessage("B", "served")
	m.LimitedMessage("C", "refused")
	m.Removed("containers", 3)
	m.Storage("put", time.Second, errors.New("disk"))
	m.Storage("get", time.Second, bfia.Errorf(bfia.CodeNotFound, "x"))
	o := m.Observer()
	o.Query("select", time.Millisecond, false)
	o.Query("update", time.Millisecond, true)
	o.JobEnded(store.EndedJob{Side: store.SideScheduler, Outcome: bfia.OutcomeFailed, Took: time.Minute,
		Wait: time.Second, Started: true})
	o.PartEnded(bfia.TaskSuccess, nil)
	o.PartEnded(bfia.TaskFailed, &bfia.Failure{Kind: bfia.FailedMemory})
	o.PartEnded(bfia.TaskFailed, &bfia.Failure{Kind: "invented"})
	o.AttemptStarted(&bfia.Failure{Kind: bfia.FailedKilled})
	o.AttemptStarted(nil)

	f := scrape(t, m)
	for _, want := range []struct {
		n      float64
		name   string
		labels []string
	}{
		{1, "hutong_build_info", []string{"version", "v1", "go_version", goVersion(f), "process", "api"}},
		{1, "hutong_http_requests_total", []string{"listener", "clients", "route", "/v2/job/show", "method",
			"GET", "code", "200"}},
		{1, "hutong_http_requests_total", []string{"listener", "partners", "route", "other", "method", "POST",
			"code", "429"}},
		{1, "hutong_http_refused_total", []string{"listener", "partners", "reason", "too_many"}},
		{0, "hutong_http_refused_total", []string{"listener", "clients", "reason", "forbidden"}},
		{1, "hutong_partner_requests_total", []string{"partner", "B", "command", "create", "outcome",
			"success"}},
		{1, "hutong_partner_requests_total", []string{"partner", "self", "command", "start", "outcome",
			"refused"}},
		{1, "hutong_partner_requests_total", []string{"partner", "B", "command", "status_all", "outcome",
			"not_delivered"}},
		{2, "hutong_partner_request_seconds", []string{"partner", "B"}},
		{1, "hutong_callbacks_total", []string{"source", "container", "outcome", "accepted"}},
		{1, "hutong_callbacks_total", []string{"source", "container", "outcome", "failed"}},
		{1, "hutong_callbacks_total", []string{"source", "partner", "outcome", "refused"}},
		{15, "hutong_transport_bytes_total", []string{"partner", "B", "direction", "sent"}},
		{2, "hutong_transport_messages_total", []string{"partner", "B", "direction", "sent"}},
		{1, "hutong_transport_bytes_total", []string{"partner", "other", "direction", "received"}},
		{1, "hutong_transport_forward_failures_total", []string{"partner", "B"}},
		{2, "hutong_transport_limited_total", []string{"partner", "B", "outcome", "served"}},
		{1, "hutong_transport_limited_total", []string{"partner", "other", "outcome", "refused"}},
		{3, "hutong_sweep_removed_total", []string{"what", "containers"}},
		{1, "hutong_storage_errors_total", []string{"operation", "put"}},
		{0, "hutong_storage_errors_total", []string{"operation", "get"}},
		{0, "hutong_database_errors_total", []string{"operation", "select"}},
		{1, "hutong_database_errors_total", []string{"operation", "update"}},
		{1, "hutong_jobs_ended_total", []string{"side", "scheduler", "outcome", "failed"}},
		{1, "hutong_job_seconds", []string{"side", "scheduler"}},
		{1, "hutong_job_wait_seconds", []string{"side", "scheduler"}},
		{1, "hutong_parts_ended_total", []string{"outcome", "success", "kind", "none"}},
		{1, "hutong_parts_ended_total", []string{"outcome", "failed", "kind", "out_of_memory"}},
		{1, "hutong_parts_ended_total", []string{"outcome", "failed", "kind", "unknown"}},
		{1, "hutong_task_attempts_total", []string{"cause", "killed"}},
		{1, "hutong_task_attempts_total", []string{"cause", "unknown"}},
	} {
		require.Equal(t, want.n, value(t, f, want.name, want.labels...), "%s %v", want.name, want.labels)
	}
	require.InDelta(t, float64(time.Now().Unix()), value(t, f,
		"hutong_partner_last_success_timestamp_seconds", "partner", "B"), 60)
	require.Contains(t, f, "go_goroutines")
	require.Contains(t, f, "go_gc_heap_live_bytes")
	require.Contains(t, f, "process_resident_memory_bytes")
}

// goVersion returns the label go_version of the build.
func goVersion(f map[string]*dto.MetricFamily) string {
	for _, l := range f["hutong_build_info"].GetMetric()[0].GetLabel() {
		if l.GetName() == "go_version" {
			return l.GetValue()
		}
	}
	return ""
}

// TestBounded calls all functions with texts that a hostile partner or client could choose. The series stay
// those of the golden file: their number has a bound, and every value is an allowed one.
func TestBounded(t *testing.T) {
	m := newTest()
	m.CollectRows(fixedRows{snap: hostileSnapshot()}, func(store.RunnerUse, time.Time) string { return "x" },
		slog.New(slog.DiscardHandler))
	// text returns a different text each time, sometimes an allowed value.
	text := func(i int) string {
		return []string{fmt.Sprintf("/%d/../\xff\n\"%d", i, rand.Uint64()), "B", "GET", "clients", "A", "",
			"/v2/job/show", fmt.Sprintf("JG%014d", i)}[i%8]
	}
	series := 0
	for round := range 4 {
		for i := range 2000 {
			i += round * 2000
			m.Request(text(i), text(i+1), text(i+2), i-1000, bfia.Code(i), time.Duration(i))
			m.Command(text(i+3), text(i+4), time.Second, errors.New(text(i)))
			m.Callback(text(i), errors.New(text(i)))
			m.Transfer(text(i), i%2 == 0, int64(i))
			m.ForwardFailure(text(i + 1))
			m.Removed(text(i), 1)
			m.Storage(text(i), time.Second, errors.New(text(i)))
			o := m.Observer()
			o.Query(text(i), time.Second, true)
			o.JobEnded(store.EndedJob{Side: store.Side(text(i)), Outcome: bfia.Outcome(text(i + 1))})
			o.PartEnded(bfia.TaskFailed, &bfia.Failure{Kind: bfia.FailureKind(text(i))})
			o.AttemptStarted(&bfia.Failure{Kind: bfia.FailureKind(text(i))})
		}
		now := 0
		for name, family := range scrape(t, m) {
			if strings.HasPrefix(name, "hutong_") {
				now += len(family.GetMetric())
				requireAllowed(t, m, name, family)
			}
		}
		if round > 0 {
			require.Equal(t, series, now, "more texts made more series")
		}
		series = now
	}
	require.Less(t, series, 6000)
}

// requireAllowed checks the labels of a metric against its definition.
func requireAllowed(t *testing.T, m *Metrics, name string, family *dto.MetricFamily) {
	t.Helper()
	for _, d := range Definitions() {
		if d.Name != name {
			continue
		}
		require.Equal(t, string(d.Kind), strings.ToLower(family.GetType().String()), name)
		require.LessOrEqual(t, len(family.GetMetric()), 2500, name)
		for _, series := range family.GetMetric() {
			require.Len(t, series.GetLabel(), len(d.Labels), name)
			for _, got := range series.GetLabel() {
				for _, l := range d.Labels {
					v := got.GetValue()
					if l.Name == got.GetName() && v != "self" && v != other {
						require.Equal(t, v, m.allowedValue(l, v), "%s{%s}", name, l.Name)
					}
				}
			}
		}
		return
	}
	require.Failf(t, "not defined", "%s", name)
}

// hostileSnapshot returns rows with more runners and partners than have series.
func hostileSnapshot() store.Snapshot {
	snap := store.Snapshot{Time: time.Now(), Waiting: map[string]int{}, Contacts: map[string]time.Time{},
		Jobs: map[store.Side]map[bfia.JobState]int{store.SideScheduler: {"INVENTED": 3}}}
	for i := range 1000 {
		node := fmt.Sprintf("JG%014d", i)
		snap.Waiting[node], snap.Contacts[node] = i, time.Now()
		snap.Runners = append(snap.Runners, store.RunnerUse{Runner: store.Runner{RunnerID: node}})
	}
	return snap
}

// fixedRows are rows that do not change.
type fixedRows struct {
	snap  store.Snapshot
	err   error
	reads *int
}

func (r fixedRows) Snapshot(context.Context, string) (store.Snapshot, error) {
	if r.reads != nil {
		*r.reads++
	}
	return r.snap, r.err
}

// TestRows checks the metrics from the rows, that they are read once for several scrapes, and that a failure
// shows no old values.
func TestRows(t *testing.T) {
	now, reads := time.Now(), 0
	m := newTest()
	rows := &fixedRows{reads: &reads, snap: store.Snapshot{Time: now, Queued: 2,
		QueuedSince: now.Add(-time.Minute), Approvals: 1, ApprovalSince: now.Add(-time.Hour),
		Jobs:    map[store.Side]map[bfia.JobState]int{store.SideParticipant: {bfia.JobRunning: 3}},
		Waiting: map[string]int{"B": 4}, Contacts: map[string]time.Time{"B": now},
		Runners: []store.RunnerUse{{Runner: store.Runner{RunnerID: "r", Slots: 2, CPUMilli: 1500,
			HeartbeatAt: now.Add(-30 * time.Second)}, UsedSlots: 1, RunningParts: 1}}}}
	m.CollectRows(rows, func(store.RunnerUse, time.Time) string { return "online" },
		slog.New(slog.DiscardHandler))
	f := scrape(t, m)
	require.InDelta(t, 2, value(t, f, "hutong_queue_length"), 0)
	require.InDelta(t, 60, value(t, f, "hutong_queue_oldest_seconds"), 0.1)
	require.InDelta(t, 1, value(t, f, "hutong_approvals_waiting"), 0)
	require.InDelta(t, 3600, value(t, f, "hutong_approval_oldest_seconds"), 0.1)
	require.InDelta(t, 3, value(t, f, "hutong_jobs", "side", "participant", "state", "running"), 0)
	require.InDelta(t, 0, value(t, f, "hutong_jobs", "side", "scheduler", "state", "running"), 0)
	require.InDelta(t, 4, value(t, f, "hutong_partner_waiting_jobs", "partner", "B"), 0)
	require.InDelta(t, float64(now.Unix()),
		value(t, f, "hutong_partner_last_contact_timestamp_seconds", "partner", "B"), 1)
	require.InDelta(t, 1, value(t, f, "hutong_runner_state", "runner", "r", "state", "online"), 0)
	require.InDelta(t, 30, value(t, f, "hutong_runner_heartbeat_age_seconds", "runner", "r"), 0.1)
	require.InDelta(t, 1.5, value(t, f, "hutong_runner_capacity", "runner", "r", "resource", "cpu_cores"), 0)
	require.InDelta(t, 1, value(t, f, "hutong_runner_reserved", "runner", "r", "resource", "slots"), 0)
	require.InDelta(t, 1, value(t, f, "hutong_runner_containers", "runner", "r"), 0)
	scrape(t, m)
	require.Equal(t, 1, reads, "a scrape soon after another one must not read the rows again")

	m = newTest()
	m.CollectRows(fixedRows{err: errors.New("the database is down")}, nil, slog.New(slog.DiscardHandler))
	f = scrape(t, m)
	require.InDelta(t, 1, value(t, f, "hutong_rows_read_failures_total"), 0)
	require.NotContains(t, f, "hutong_queue_length")
}

// TestGauges checks what is read of the process itself.
func TestGauges(t *testing.T) {
	m := newTest()
	expires := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	m.CollectCertificates(func() map[string][]*x509.Certificate {
		return map[string][]*x509.Certificate{"partners": nil,
			"listen": {{NotAfter: expires.Add(time.Hour)}, {NotAfter: expires}}}
	})
	m.CollectDisks(map[string]string{"data": t.TempDir(), "spool": "/nonexistent"})
	m.CollectTransport(func() transport.Stats {
		return transport.Stats{Stats: queue.Stats{Sessions: 1, Queues: 2, Messages: 3, Bytes: 4, Readers: 5,
			Writers: 6}, Relayed: 7}
	}, 100)
	asked := 0
	var d Dependencies
	d.Add("database", func(context.Context) error { asked++; return nil })
	d.Add("temporal", func(ctx context.Context) error {
		_, bounded := ctx.Deadline()
		require.True(t, bounded)
		return errors.New("down")
	})
	m.CollectDependencies(&d)
	f := scrape(t, m)
	require.InDelta(t, float64(expires.Unix()),
		value(t, f, "hutong_certificate_expiry_timestamp_seconds", "use", "listen"), 0)
	require.Len(t, f["hutong_certificate_expiry_timestamp_seconds"].GetMetric(), 1)
	require.Positive(t, value(t, f, "hutong_disk_free_bytes", "folder", "data"))
	require.Len(t, f["hutong_disk_size_bytes"].GetMetric(), 1)
	require.InDelta(t, 4, value(t, f, "hutong_transport_spool_bytes"), 0)
	require.InDelta(t, 100, value(t, f, "hutong_transport_spool_limit_bytes"), 0)
	require.InDelta(t, 6, value(t, f, "hutong_transport_waiting", "call", "push"), 0)
	require.InDelta(t, 7, value(t, f, "hutong_transport_relayed_total"), 0)
	require.InDelta(t, 1, value(t, f, "hutong_dependency_up", "dependency", "database"), 0)
	require.InDelta(t, 0, value(t, f, "hutong_dependency_up", "dependency", "temporal"), 0)
	scrape(t, m)
	require.Equal(t, 1, asked, "scrapes must not flood the database")
}

// TestTemporal checks that the metrics of Temporal's SDK are exported.
func TestTemporal(t *testing.T) {
	m := newTest()
	handler, stop, err := m.Temporal(slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	tagged := handler.WithTags(map[string]string{"namespace": "n"})
	tagged.Counter("temporal_request").Inc(2)
	tagged.Timer("temporal_request_latency").Record(time.Second)
	tagged.Gauge("temporal_worker_task_slots_available").Update(7)
	f := scrape(t, m)
	require.InDelta(t, 2, value(t, f, "temporal_request_total", "namespace", "n"), 0)
	require.InDelta(t, 1, value(t, f, "temporal_request_latency_seconds", "namespace", "n"), 0)
	require.InDelta(t, 7, value(t, f, "temporal_worker_task_slots_available", "namespace", "n"), 0)
	require.NotContains(t, f, "target_info")
	require.NoError(t, stop(t.Context()))
}
