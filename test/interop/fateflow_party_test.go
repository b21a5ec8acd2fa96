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

// fateFlowParty is a FATE-Flow server, with a transport of Hutong for its containers.
type fateFlowParty struct {
	endpoint
	fateflow.Server
	env       *environment
	storage   string
	transport string // the Hutong transport that its containers use
	messages  string // where the transports of partners reach that transport
	process   *process
}

func newFateFlow(t *testing.T, env *environment, address, storage string) *fateFlowParty {
	transport := testenv.FreeAddress(t)
	_, grpcPort, err := net.SplitHostPort(testenv.FreeAddress(t))
	require.NoError(t, err)
	grpc, err := strconv.Atoi(grpcPort)
	require.NoError(t, err)
	f := &fateFlowParty{
		endpoint:  endpoint{url: "http://" + address},
		env:       env,
		storage:   storage,
		transport: transport,
		messages:  testenv.FreeAddress(t),
		Server: fateflow.Server{
			Dir:       filepath.Join(env.dir, "fate", "fate_flow"),
			Cache:     env.cache,
			Node:      fateFlowNode,
			Address:   address,
			GRPCPort:  grpc,
			Storage:   storage,
			Transport: transport,
			Routes:    map[string]string{fateFlowNode: address, hutongNode: env.toHutong.address},
			Proxy: newRouter(t,
				map[string]string{fateFlowNode: address, hutongNode: env.toHutong.address}),
		},
	}
	require.NoError(t, f.Install())
	return f
}

// startTransport starts the Hutong transport through which FATE-Flow's containers exchange messages.
func (f *fateFlowParty) startTransport(t *testing.T, env *environment) {
	config, err := f.TransportConfig(testenv.FreeAddress(t), f.messages, map[string]fateflow.Partner{
		hutongNode: {URL: env.hutong.url, TransportURL: "http://" + env.hutong.messages}})
	require.NoError(t, err)
	p := launch(t, env.dir, "fate-transport", nil, testenv.Binary(t, "hutong"), "transport", "--config",
		config)
	p.await(t, time.Minute, func() bool { return isListening(f.transport) })
}

func (f *fateFlowParty) start(t *testing.T) {
	program, args, env := f.Command()
	f.process = launch(t, f.env.dir, "fateflow", env, program, args...)
}

// awaitReady waits until FATE-Flow answers BFIA's endpoints.
func (f *fateFlowParty) awaitReady(t *testing.T) {
	f.process.await(t, 2*time.Minute, func() bool {
		answers, err := f.IsReady()
		require.NoError(t, err, "%s", f.process.tail())
		return answers
	})
}

func (f *fateFlowParty) kill()     { f.process.kill() }
func (f *fateFlowParty) freeze()   { f.process.signal(syscall.SIGSTOP) }
func (f *fateFlowParty) unfreeze() { f.process.signal(syscall.SIGCONT) }

func (f *fateFlowParty) restart(t *testing.T) {
	f.start(t)
	f.awaitReady(t)
}

// deleteJob deletes a job that FATE-Flow would otherwise try to schedule forever.
func (f *fateFlowParty) deleteJob(t *testing.T, jobID string) {
	db, err := sql.Open("sqlite", "file:"+f.Database()+"?_pragma=busy_timeout(30000)")
	require.NoError(t, err)
	defer func() { _ = db.Close() }()
	for _, table := range []string{"t_schedule_job", "t_job"} {
		_, err := db.ExecContext(t.Context(), "delete from "+table+" where f_job_id = ?", jobID)
		require.NoError(t, err)
	}
}

var fateFlowContainer = regexp.MustCompile(`^/?[a-z]+-` + fateFlowNode + `-`)

func isFateFlowContainer(name string) bool { return fateFlowContainer.MatchString(name) }

// query reads rows of FATE-Flow's database, with a string for each column.
func (f *fateFlowParty) query(t *testing.T, query string, args ...any) [][]string {
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

// jobState returns a job's state at FATE-Flow as participant, or "" for an unknown job.
func (f *fateFlowParty) jobState(t *testing.T, jobID string) bfia.JobState {
	return bfia.JobState(f.queryOne(t, "select f_status from t_job where f_job_id = ?", jobID))
}

// scheduledState returns a job's state at FATE-Flow as scheduler, or "" for an unknown job.
func (f *fateFlowParty) scheduledState(t *testing.T, jobID string) bfia.JobState {
	return bfia.JobState(f.queryOne(t, "select f_status from t_schedule_job where f_job_id = ?", jobID))
}

func (f *fateFlowParty) queryOne(t *testing.T, query string, args ...any) string {
	t.Helper()
	if rows := f.query(t, query, args...); len(rows) > 0 {
		return rows[0][0]
	}
	return ""
}

// tasks returns the states of FATE-Flow's own parts of a job, by task name.
func (f *fateFlowParty) tasks(t *testing.T, jobID string) map[string]bfia.TaskState {
	return states(f.query(t, "select f_task_name, f_party_status from t_task where f_job_id = ?", jobID))
}

// scheduledTasks returns the states of a job's tasks at FATE-Flow as scheduler, by task name.
func (f *fateFlowParty) scheduledTasks(t *testing.T, jobID string) map[string]bfia.TaskState {
	return states(
		f.query(t, "select f_task_name, f_status from t_schedule_task_status where f_job_id = ?", jobID),
	)
}

func states(rows [][]string) map[string]bfia.TaskState {
	by := map[string]bfia.TaskState{}
	for _, r := range rows {
		by[r[0]] = bfia.TaskState(r[1])
	}
	return by
}

// taskIDs returns the ids of a job's tasks at FATE-Flow, by task name.
func (f *fateFlowParty) taskIDs(t *testing.T, jobID string) map[string]string {
	by := map[string]string{}
	for _, r := range f.query(t, "select f_task_name, f_task_id from t_task where f_job_id = ?", jobID) {
		by[r[0]] = r[1]
	}
	return by
}
