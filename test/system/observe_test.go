package system

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"

	"hutong/bfia"
	"hutong/internal/party"
	"hutong/test/testenv"
)

// observeDir holds what operators load into Prometheus and Grafana.
const observeDir = "../../deploy/observe"

// requirePrometheus skips the test if Prometheus is not installed, unless HUTONG_REQUIRE_PROMETHEUS is 1.
func requirePrometheus(t *testing.T) {
	t.Helper()
	for _, program := range []string{"prometheus", "promtool"} {
		if _, err := exec.LookPath(program); err != nil {
			if os.Getenv("HUTONG_REQUIRE_PROMETHEUS") == "1" {
				t.Fatal(err)
			}
			t.Skipf("%s is not installed", program)
		}
	}
}

// TestAlertRules tests the alert rules with promtool, and that the document for operators says what to do for
// each.
func TestAlertRules(t *testing.T) {
	t.Parallel()
	requirePrometheus(t)
	for _, args := range [][]string{{"test", "rules", "alerts_test.yml"},
		{"check", "config", "prometheus.yml"}} {
		cmd := exec.CommandContext(t.Context(), "promtool", args...)
		cmd.Dir = observeDir
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	document, err := os.ReadFile("../../docs/operators/monitoring.md")
	require.NoError(t, err)
	for _, rule := range readAlerts(t) {
		require.Contains(t, string(document), "| `"+rule.Alert+"` |")
		tests, err := os.ReadFile(filepath.Join(observeDir, "alerts_test.yml"))
		require.NoError(t, err)
		require.GreaterOrEqual(t, strings.Count(string(tests), "alertname: "+rule.Alert), 2,
			"%s is not tested both ways", rule.Alert)
	}
}

type alertRule struct {
	Alert string `yaml:"alert"`
	Expr  string `yaml:"expr"`
}

func readAlerts(t *testing.T) []alertRule {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(observeDir, "alerts.yml"))
	require.NoError(t, err)
	var file struct {
		Groups []struct{ Rules []alertRule }
	}
	require.NoError(t, yaml.Unmarshal(text, &file))
	require.Len(t, file.Groups, 1)
	require.NotEmpty(t, file.Groups[0].Rules)
	return file.Groups[0].Rules
}

// prometheusServer is a real Prometheus.
type prometheusServer struct {
	t   *testing.T
	url string
}

// startPrometheus starts Prometheus with the alert rules of the project, on the processes of some parties.
func startPrometheus(t *testing.T, targets map[string]string) *prometheusServer {
	t.Helper()
	dir := t.TempDir()
	rules, err := filepath.Abs(filepath.Join(observeDir, "alerts.yml"))
	require.NoError(t, err)
	config := fmt.Sprintf("global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: [%s]\n"+
		"scrape_configs:\n- job_name: hutong\n  static_configs:\n", rules)
	for node, address := range targets {
		config += fmt.Sprintf("  - {targets: [%q], labels: {party: %s}}\n", address, node)
	}
	file := filepath.Join(dir, "prometheus.yml")
	require.NoError(t, os.WriteFile(file, []byte(config), 0o600))
	listen := testenv.FreeAddress(t)
	cmd := exec.CommandContext(t.Context(), "prometheus", "--config.file="+file,
		"--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+listen, "--log.level=warn")
	cmd.Stderr = os.Stderr
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	p := &prometheusServer{t, "http://" + listen}
	require.Eventually(t, func() bool {
		resp, err := http.Get(p.url + "/-/ready") //nolint:noctx // the test's limit bounds it
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}, time.Minute, 100*time.Millisecond)
	return p
}

// get reads data of Prometheus' API.
func (p *prometheusServer) get(path string, query url.Values, data any) {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, p.url+path+"?"+query.Encode(),
		http.NoBody)
	require.NoError(p.t, err)
	resp, err := http.DefaultTransport.RoundTrip(req)
	require.NoError(p.t, err)
	defer func() { _ = resp.Body.Close() }()
	var answer struct {
		Status, Error string
		Data          json.RawMessage
	}
	require.NoError(p.t, json.NewDecoder(resp.Body).Decode(&answer))
	require.Equal(p.t, "success", answer.Status, "%s: %s", query.Get("query"), answer.Error)
	require.NoError(p.t, json.Unmarshal(answer.Data, data))
}

// vector is the result of a query.
type vector struct {
	ResultType string
	Result     []struct {
		Metric map[string]string
		Value  [2]any
	}
}

// query returns the values of a query by party.
func (p *prometheusServer) query(expr string) (v vector, numbers map[string]float64) {
	p.t.Helper()
	p.get("/api/v1/query", url.Values{"query": {expr}}, &v)
	require.Equal(p.t, "vector", v.ResultType, expr)
	numbers = map[string]float64{}
	for _, r := range v.Result {
		n, err := strconv.ParseFloat(r.Value[1].(string), 64)
		require.NoError(p.t, err)
		numbers[r.Metric["party"]] += n
	}
	return v, numbers
}

// dashboard is what a test reads of a dashboard of Grafana.
type dashboard struct {
	Title  string
	Panels []struct {
		Title   string
		Type    string
		Targets []struct{ Expr string }
	}
}

func readDashboard(t *testing.T, file string) (d dashboard) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(observeDir, "dashboards", file))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &d))
	return d
}

// TestObserve runs a job of two parties under a real Prometheus. Every query of the dashboards has data,
// every alert watches series that exist, and none fires.
func TestObserve(t *testing.T) {
	t.Parallel()
	requirePrometheus(t)
	pair := newPartyPair(t, func(cfg *party.Config) { cfg.Ops.Listen = testenv.FreeAddress(t) })
	pair.guest.start()
	pair.host.start()
	prometheus := startPrometheus(t, map[string]string{guestNode: pair.guest.cfg.Ops.Listen,
		hostNode: pair.host.cfg.Ops.Listen})
	for _, n := range []*testParty{pair.guest, pair.host} {
		n.register(readVector(t, "provider_register.request.json"), bfia.DeviceProcess)
		n.upload("host.csv", "testspace", "test_host")
	}
	pair.guest.upload("guest.csv", "testspace", "test_guest")
	require.Eventually(t, func() bool { // before the job: the rise of a counter needs its value before
		_, up := prometheus.query("sum by (party) (up)")
		return up[guestNode] == 1 && up[hostNode] == 1
	}, time.Minute, 200*time.Millisecond)
	for range 2 { // a series that the first job creates rises with the second
		jobID := pair.guest.submit(referenceJob(t, true))
		requireSuccess(t, pair.guest.awaitJob(jobID, 3*time.Minute, isFinished))
		requireSuccess(t, pair.host.awaitJob(jobID, time.Minute, isFinished))
	}
	require.Eventually(t, func() bool {
		_, ended := prometheus.query(`sum by (party) (hutong_jobs_ended_total{side="participant"})`)
		return ended[guestNode] == 2 && ended[hostNode] == 2
	}, time.Minute, 500*time.Millisecond)

	values := strings.NewReplacer("$__rate_interval", "10m", "$party", guestNode+"|"+hostNode)
	for _, file := range []string{"party.json", "transport.json"} {
		panels := 0
		for _, panel := range readDashboard(t, file).Panels {
			if panel.Type == "row" {
				continue
			}
			panels++
			require.NotEmpty(t, panel.Targets, panel.Title)
			for _, target := range panel.Targets {
				require.Contains(t, target.Expr, `party=~"$party"`, panel.Title)
				require.Eventually(t, func() bool { // a scrape that takes over a second fails
					v, _ := prometheus.query(values.Replace(target.Expr))
					for _, r := range v.Result {
						if r.Value[1] != "NaN" { // the quantile of a histogram that did not rise
							return true
						}
					}
					return false
				}, time.Minute, 100*time.Millisecond, "%s, panel %q has no data: %s", file, panel.Title,
					target.Expr)
			}
		}
		require.Greater(t, panels, 8, file)
	}
	_, ended := prometheus.query(values.Replace(
		`sum by (party) (increase(hutong_jobs_ended_total{outcome="success",side="participant"}[10m]))`))
	require.Positive(t, ended[guestNode])
	require.Positive(t, ended[hostNode])

	for _, rule := range readAlerts(t) {
		if rule.Alert != "HutongDiskFull" { // which depends on this machine
			require.Eventually(t, func() bool { // a rule waits for minutes before it fires
				v, _ := prometheus.query(rule.Expr)
				return len(v.Result) == 0
			}, time.Minute, 100*time.Millisecond, "%s would fire although all is well", rule.Alert)
		}
		left, _, _ := strings.Cut(rule.Expr, " and ")
		for _, comparison := range []string{" > ", " < ", " == "} {
			left, _, _ = strings.Cut(left, comparison)
		}
		if rule.Alert != "HutongSilentRunner" { // its state has no series unless a runner is silent
			require.Eventually(t, func() bool {
				v, _ := prometheus.query(left)
				return len(v.Result) > 0
			}, time.Minute, 100*time.Millisecond, "%s watches nothing: %s", rule.Alert, left)
		}
	}
	var loaded struct {
		Groups []struct {
			Rules []struct{ Name, Health, LastError string }
		}
	}
	require.Eventually(t, func() bool {
		prometheus.get("/api/v1/rules", nil, &loaded)
		return len(loaded.Groups) == 1 && len(loaded.Groups[0].Rules) == len(readAlerts(t)) &&
			loaded.Groups[0].Rules[0].Health == "ok"
	}, time.Minute, 200*time.Millisecond)
	for _, rule := range loaded.Groups[0].Rules {
		require.Equal(t, "ok", rule.Health, "%s: %s", rule.Name, rule.LastError)
	}
}
