package interop

import (
	"context"
	"database/sql"
	"net"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/test/interop/fateflow"
	"hutong/test/testenv"
)

// fateParty is a FATE-Flow with a database, settings and a home of its own, and a Hutong transport for its containers.
type fateParty struct {
	endpoint
	fateflow.Home
	world     *world
	storage   string
	transport string // the Hutong transport that its containers use
	process   *process
}

func newFate(t *testing.T, w *world, address, storage string) *fateParty {
	transport := testenv.FreeAddress(t)
	_, grpcPort, err := net.SplitHostPort(testenv.FreeAddress(t))
	require.NoError(t, err)
	grpc, err := strconv.Atoi(grpcPort)
	require.NoError(t, err)
	f := &fateParty{endpoint: endpoint{url: "http://" + address}, world: w, storage: storage, transport: transport,
		Home: fateflow.Home{Dir: filepath.Join(w.dir, "fate", "fate_flow"), Cache: w.cache, Node: fateNode, Address: address, GRPCPort: grpc,
			Storage: storage, Transport: transport, Routes: map[string]string{fateNode: address, hutongNode: w.toUs.address},
			Proxy: newRouter(t, map[string]string{fateNode: address, hutongNode: w.toUs.address})}}
	require.NoError(t, f.LayOut())
	return f
}

// startTransport starts the Hutong transport through which FATE-Flow's containers talk.
func (f *fateParty) startTransport(t *testing.T, w *world) {
	config, err := f.TransportConfig(testenv.FreeAddress(t), map[string]fateflow.Partner{
		hutongNode: {URL: w.hutong.url, TransportURL: "http://" + w.hutong.transport}})
	require.NoError(t, err)
	p := launch(t, w.dir, "fate-transport", nil, testenv.Binary(t, "hutong"), "transport", "--config", config)
	p.await(t, time.Minute, func() bool { return listening(f.transport) })
}

func (f *fateParty) start(t *testing.T) {
	program, args, env := f.Command()
	f.process = launch(t, f.world.dir, "fateflow", env, program, args...)
}

// ready waits until FATE-Flow answers BFIA's endpoints.
func (f *fateParty) ready(t *testing.T) {
	f.process.await(t, 2*time.Minute, func() bool {
		answers, err := f.Answers()
		require.NoError(t, err, "%s", f.process.tail())
		return answers
	})
}

func (f *fateParty) kill()     { f.process.kill() }
func (f *fateParty) freeze()   { f.process.signal(syscall.SIGSTOP) }
func (f *fateParty) unfreeze() { f.process.signal(syscall.SIGCONT) }

func (f *fateParty) restart(t *testing.T) {
	f.start(t)
	f.ready(t)
}

// forget removes a job that FATE-Flow was left with, and would try to schedule for ever.
func (f *fateParty) forget(t *testing.T, jobID string) {
	db, err := sql.Open("sqlite", "file:"+f.Database()+"?_pragma=busy_timeout(30000)")
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
	db, err := sql.Open("sqlite", "file:"+f.Database()+"?mode=ro&_pragma=busy_timeout(20000)")
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
