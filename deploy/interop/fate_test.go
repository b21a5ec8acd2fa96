package interop

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/deploy/testenv"
)

// fateParty is a FATE-Flow with a database, settings and a home of its own, and a Hutong transport for its containers.
type fateParty struct {
	endpoint
	world     *world
	home      string // .../fate_flow, where it keeps its database and its logs
	address   string
	storage   string
	transport string // the Hutong transport that its containers use
	process   *process
}

// newFate lays out a home. The package is copied, since settings and routes are files in it.
func newFate(t *testing.T, w *world, address, storage string) *fateParty {
	f := &fateParty{endpoint: endpoint{url: "http://" + address}, world: w, home: filepath.Join(w.dir, "fate", "fate_flow"),
		address: address, storage: storage, transport: testenv.FreeAddress(t)}
	require.NoError(t, os.MkdirAll(f.home, 0o750))
	python := filepath.Join(f.home, "python")
	out, err := exec.Command("cp", "-a", filepath.Join(w.cache, "fate_flow", "python"), python).CombinedOutput()
	require.NoError(t, err, "%s", out)
	pkg := filepath.Join(python, "fate_flow")
	require.NoError(t, os.CopyFS(filepath.Join(f.home, "conf"), os.DirFS(filepath.Join(pkg, "conf"))))
	version, err := os.ReadFile(filepath.Join(pkg, "fateflow.env"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(f.home, "fateflow.env"), version, 0o600))

	host, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	httpPort, err := strconv.Atoi(port)
	require.NoError(t, err)
	_, grpcPort, err := net.SplitHostPort(testenv.FreeAddress(t))
	require.NoError(t, err)
	grpc, err := strconv.Atoi(grpcPort)
	require.NoError(t, err)
	// What stands in local.service_conf.yaml goes before service_conf.yaml.
	writeYAML(t, filepath.Join(f.home, "conf", "local.service_conf.yaml"), map[string]any{
		"party_id": fateNode,
		"fateflow": map[string]any{"host": host, "http_port": httpPort, "grpc_port": grpc, "proxy_name": "osx"},
	})
	routes := map[string]any{}
	for node, to := range map[string]string{fateNode: address, hutongNode: w.toUs.address} {
		host, port, err := net.SplitHostPort(to)
		require.NoError(t, err)
		n, err := strconv.Atoi(port)
		require.NoError(t, err)
		routes[node] = map[string]any{"host": host, "port": n}
	}
	adapter := filepath.Join(pkg, "adapter", "bfia")
	writeYAML(t, filepath.Join(adapter, "conf", "route_table.yaml"), routes)
	settings, err := os.OpenFile(filepath.Join(adapter, "settings.py"), os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	defer func() { _ = settings.Close() }()
	_, err = fmt.Fprintf(settings, "\nSTORAGE_ADDRESS = %q\nTRANSPORT = %q\nCALLBACK_ADDRESS = %q\nCALLBACK = CALLBACK_ADDRESS + %q\n",
		storage, f.transport, f.url, bfia.PathPlatformCallback)
	require.NoError(t, err)
	return f
}

// startTransport starts the Hutong transport through which FATE-Flow's containers talk.
func (f *fateParty) startTransport(t *testing.T, w *world) {
	config := filepath.Join(f.home, "transport.yaml")
	writeYAML(t, config, map[string]any{
		"node_id": fateNode, "listen": testenv.FreeAddress(t), "data_dir": filepath.Join(f.home, "transport"),
		"transport": map[string]any{"listen": f.transport},
		"routes":    map[string]any{hutongNode: map[string]any{"url": w.hutong.url, "transport_url": "http://" + w.hutong.transport}},
		"runner":    map[string]any{"docker": map[string]any{"enabled": "false"}},
	})
	p := launch(t, w.dir, "fate-transport", nil, testenv.Binary(t, "hutong"), "transport", "--config", config)
	p.await(t, time.Minute, func() bool { return listening(f.transport) })
}

func (f *fateParty) start(t *testing.T) {
	f.process = launch(t, f.world.dir, "fateflow", []string{"PYTHONPATH=" + filepath.Join(f.home, "python"), "PYTHONUNBUFFERED=1"},
		filepath.Join(f.world.cache, "venv", "bin", "python"), filepath.Join(f.home, "python", "fate_flow", "fate_flow_server.py"))
}

// ready waits until FATE-Flow answers BFIA's endpoints.
func (f *fateParty) ready(t *testing.T) {
	f.process.await(t, 2*time.Minute, func() bool {
		resp, err := http.Post(f.url+bfia.PathTaskPoll, "application/json", strings.NewReader(`{"task_id":"none","role":""}`))
		if err != nil {
			return false
		}
		defer func() { _ = resp.Body.Close() }()
		var env bfia.Envelope
		require.NoError(t, json.NewDecoder(resp.Body).Decode(&env))
		require.Contains(t, env.Text(), "No found task", "FATE-Flow's BFIA adapter did not load:\n%s", f.process.tail())
		return true
	})
}

// writeAhead puts FATE-Flow's database into a mode in which readers and a writer don't lock each other out: its scheduler's
// thread ends for good at the first "database is locked", which its own threads alone can bring about.
func (f *fateParty) writeAhead(t *testing.T) {
	db, err := sql.Open("sqlite", "file:"+f.database()+"?_pragma=busy_timeout(30000)")
	require.NoError(t, err)
	defer func() { _ = db.Close() }()
	var mode string
	require.NoError(t, db.QueryRowContext(t.Context(), "pragma journal_mode = wal").Scan(&mode))
	require.Equal(t, "wal", mode)
}

func (f *fateParty) database() string { return filepath.Join(f.home, "fate_flow_sqlite.db") }

func (f *fateParty) kill()     { f.process.kill() }
func (f *fateParty) freeze()   { f.process.signal(syscall.SIGSTOP) }
func (f *fateParty) unfreeze() { f.process.signal(syscall.SIGCONT) }

func (f *fateParty) restart(t *testing.T) {
	f.start(t)
	f.ready(t)
}

// forget removes a job that FATE-Flow was left with, and would try to schedule for ever.
func (f *fateParty) forget(t *testing.T, jobID string) {
	db, err := sql.Open("sqlite", "file:"+f.database()+"?_pragma=busy_timeout(30000)")
	require.NoError(t, err)
	defer func() { _ = db.Close() }()
	for _, table := range []string{"t_schedule_job", "t_job"} {
		_, err := db.ExecContext(t.Context(), "delete from "+table+" where f_job_id = ?", jobID)
		require.NoError(t, err)
	}
}

var fateContainer = regexp.MustCompile(`^/?[a-z]+-` + fateNode + `-`)

func isFateContainer(name string) bool { return fateContainer.MatchString(name) }

// rows reads FATE-Flow's own database: strings, one for each column.
func (f *fateParty) rows(t *testing.T, query string, args ...any) [][]string {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+f.database()+"?mode=ro&_pragma=busy_timeout(20000)")
	require.NoError(t, err)
	defer func() { _ = db.Close() }()
	rows, err := db.QueryContext(context.WithoutCancel(t.Context()), query, args...)
	require.NoError(t, err)
	defer func() { _ = rows.Close() }()
	columns, err := rows.Columns()
	require.NoError(t, err)
	var all [][]string
	for rows.Next() {
		values, into := make([]sql.NullString, len(columns)), make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		require.NoError(t, rows.Scan(into...))
		row := make([]string, len(columns))
		for i, v := range values {
			row[i] = v.String
		}
		all = append(all, row)
	}
	require.NoError(t, rows.Err())
	return all
}

// jobState is a job's state at FATE-Flow as participant; empty when it has no such job.
func (f *fateParty) jobState(t *testing.T, jobID string) bfia.JobState {
	return bfia.JobState(f.one(t, "select f_status from t_job where f_job_id = ?", jobID))
}

// scheduledState is a job's state at FATE-Flow as scheduler; empty when it schedules no such job.
func (f *fateParty) scheduledState(t *testing.T, jobID string) bfia.JobState {
	return bfia.JobState(f.one(t, "select f_status from t_schedule_job where f_job_id = ?", jobID))
}

func (f *fateParty) one(t *testing.T, query string, args ...any) string {
	t.Helper()
	if rows := f.rows(t, query, args...); len(rows) > 0 {
		return rows[0][0]
	}
	return ""
}

// tasks are the states of FATE-Flow's own parts of a job, by task name.
func (f *fateParty) tasks(t *testing.T, jobID string) map[string]bfia.TaskState {
	return states(f.rows(t, "select f_task_name, f_party_status from t_task where f_job_id = ?", jobID))
}

// scheduledTasks are the states of a job's tasks as FATE-Flow, its scheduler, has them, by task name.
func (f *fateParty) scheduledTasks(t *testing.T, jobID string) map[string]bfia.TaskState {
	return states(f.rows(t, "select f_task_name, f_status from t_schedule_task_status where f_job_id = ?", jobID))
}

func states(rows [][]string) map[string]bfia.TaskState {
	by := map[string]bfia.TaskState{}
	for _, r := range rows {
		by[r[0]] = bfia.TaskState(r[1])
	}
	return by
}

// taskIDs are the ids of a job's tasks, as FATE-Flow has them, by task name.
func (f *fateParty) taskIDs(t *testing.T, jobID string) map[string]string {
	by := map[string]string{}
	for _, r := range f.rows(t, "select f_task_name, f_task_id from t_task where f_job_id = ?", jobID) {
		by[r[0]] = r[1]
	}
	return by
}
