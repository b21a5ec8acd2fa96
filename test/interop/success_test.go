package interop

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/store/blob"
)

// jobTimeout is enough for a job on a slow, busy machine. pollInterval is the interval between checks of a
// condition.
const (
	jobTimeout   = 5 * time.Minute
	pollInterval = 200 * time.Millisecond
)

// TestHutongSchedules runs the reference job with Hutong as initiator, scheduler and guest, and FATE-Flow as
// host. It succeeds at both parties.
func TestHutongSchedules(t *testing.T) {
	env := sharedEnvironment(t)
	id := env.hutong.submit(t, referenceJob(t, hutongNode, fateFlowNode))
	env.awaitHutong(t, id, isFinished)
	env.requireSuccess(t, id, "intersect_rsa_1", "hetero_secureboost_1")
	env.requireResults(t, id, "hetero_secureboost_1", hutongSchedules)
	env.requireNoContainers(t, id)
	for _, task := range []string{"intersect_rsa_1", "hetero_secureboost_1"} {
		require.Len(t, env.toFateFlow.exchangesWith(bfia.PathTaskStart, task), 1,
			"a task must be started once, since FATE-Flow runs it at each start")
	}
}

// TestFateFlowSchedules runs the reference job with FATE-Flow as initiator, scheduler and guest, and Hutong
// as host. It succeeds at both parties.
func TestFateFlowSchedules(t *testing.T) {
	env := sharedEnvironment(t)
	id := env.fateFlow.submit(t, referenceJob(t, fateFlowNode, hutongNode))
	env.awaitFateFlow(t, id, bfia.JobFinished)
	env.requireSuccess(t, id, "intersect_rsa_1", "hetero_secureboost_1")
	require.Equal(
		t,
		map[string]bfia.TaskState{"intersect_rsa_1": bfia.TaskSuccess,
			"hetero_secureboost_1": bfia.TaskSuccess},
		env.fateFlow.scheduledTasks(t, id),
	)
	env.requireResults(t, id, "hetero_secureboost_1", fateFlowSchedules)
	env.requireNoContainers(t, id)
}

func isFinished(s bfia.JobStatus) bool { return s.State == bfia.JobFinished }

// awaitHutong waits until a job's status at Hutong satisfies a condition, and returns that status.
func (env *environment) awaitHutong(t *testing.T, id string,
	wanted func(bfia.JobStatus) bool) bfia.JobStatus {
	t.Helper()
	deadline := time.Now().Add(jobTimeout)
	for {
		status := env.hutong.status(t, id)
		if wanted(status) {
			return status
		}
		if time.Now().After(deadline) {
			t.Fatalf("job %s did not reach the expected status at Hutong within %s: %s", id, jobTimeout,
				marshal(t, status))
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// awaitFateFlow waits until a job that FATE-Flow schedules reaches a state there.
func (env *environment) awaitFateFlow(t *testing.T, id string, state bfia.JobState) {
	t.Helper()
	require.Eventually(t, func() bool { return env.fateFlow.scheduledState(t, id) == state }, jobTimeout,
		200*time.Millisecond, "job %s did not become %s at FATE-Flow", id, state)
}

// requireSuccess checks in both parties' APIs and databases that a job and its tasks succeeded.
func (env *environment) requireSuccess(t *testing.T, id string, tasks ...string) {
	t.Helper()
	want := map[string]bfia.TaskState{}
	for _, name := range tasks {
		want[name] = bfia.TaskSuccess
	}
	// The scheduler ends a job when it has notified both parties, which end it a moment later.
	env.requireEnded(t, hutongSchedules, id)
	require.Equal(t, want, env.hutongTasks(t, id))
	require.Equal(t, want, env.fateFlow.tasks(t, id))
	status := env.hutong.status(t, id)
	require.Empty(t, status.Reason)
}

// requireEnded waits until a job is FINISHED at both parties, in their databases and their APIs. FATE-Flow
// 2.2.0 as scheduler may leave its own part of a failed job RUNNING for good, since it notifies itself of the
// failed task before it ends it. Then its state as scheduler counts.
func (env *environment) requireEnded(t *testing.T, d direction, id string) {
	t.Helper()
	db := env.hutong.database(t)
	var ours, theirs bfia.JobState
	require.Eventually(t, func() bool {
		if job, err := db.Job(t.Context(), id); err == nil {
			ours = job.State
		}
		theirs = env.fateFlow.jobState(t, id)
		if d == fateFlowSchedules {
			theirs = env.fateFlow.scheduledState(t, id)
		}
		return ours == bfia.JobFinished && theirs == bfia.JobFinished
	}, time.Minute, pollInterval, "job %s is not FINISHED at both: %s, %s", id, &ours, &theirs)
	require.Equal(t, bfia.JobFinished, env.hutong.status(t, id).State)
	// FATE-Flow's own API reports tasks by id.
	byName := env.fateFlow.tasks(t, id)
	ids := env.fateFlow.taskIDs(t, id)
	reported := env.fateFlow.request(t, http.MethodGet, bfia.PathPlatformStatusAll,
		bfia.JobRef{JobID: id}).Status
	for name, taskID := range ids {
		require.Equal(t, byName[name], reported[taskID], name)
	}
}

// hutongTasks returns the states of Hutong's own parts of a job, by task name. Tasks that never started are
// left out, as FATE-Flow has no rows for them.
func (env *environment) hutongTasks(t *testing.T, id string) map[string]bfia.TaskState {
	t.Helper()
	tasks, err := env.hutong.database(t).Tasks(t.Context(), id)
	require.NoError(t, err)
	by := map[string]bfia.TaskState{}
	for _, task := range tasks {
		if task.TaskID != "" {
			by[task.Name] = task.State
		}
	}
	return by
}

// containersOf returns the names of a job's containers at both parties, in a state unless it is "".
// FATE-Flow's containers are named by task, and those of Hutong carry the job's id.
func (env *environment) containersOf(t *testing.T, id string, state string) []string {
	t.Helper()
	ids := env.fateFlow.taskIDs(t, id)
	names, err := env.containers(context.WithoutCancel(t.Context()), func(c container.Summary) bool {
		if state != "" && string(c.State) != state {
			return false
		}
		for _, taskID := range ids {
			if strings.Contains(c.Names[0], taskID) {
				return true
			}
		}
		return strings.Contains(fmt.Sprint(c.Names, c.Labels), id)
	})
	require.NoError(t, err)
	return names
}

// requireNoContainers waits until no container of a job is left at either party.
func (env *environment) requireNoContainers(t *testing.T, id string) {
	t.Helper()
	var left []string
	require.Eventually(t, func() bool {
		left = env.containersOf(t, id, "")
		return len(left) == 0
	}, time.Minute, 200*time.Millisecond, "containers of job %s are left: %v", id, &left)
}

// awaitContainers waits until a job's containers run at both parties, and returns their names.
func (env *environment) awaitContainers(t *testing.T, id string) (names []string) {
	t.Helper()
	require.Eventually(t, func() bool {
		names = env.containersOf(t, id, "running")
		return len(names) == 2 && (isFateFlowContainer(names[0]) != isFateFlowContainer(names[1]))
	}, jobTimeout, pollInterval, "job %s's containers do not run at both", id)
	return names
}

// requireResults checks the outputs of an intersection and a training in both parties' storage, and returns
// the scores that the guest predicts.
func (env *environment) requireResults(t *testing.T, id, task string, d direction) (scores []string) {
	t.Helper()
	ours, theirs := env.hutong.outputs(t, id), env.fateFlow.outputs(t, id)
	storage := map[string]blob.Store{hutongNode: openStorage(t, env.hutong.storage),
		fateFlowNode: openStorage(t, env.fateFlow.storage)}
	find := func(role, node, ourWord, theirWord string) []byte {
		t.Helper()
		a, found := theirs[role+" "+theirWord]
		if node == hutongNode {
			a, found = ours[role+".0 "+ourWord]
		}
		require.True(t, found, "%s of %s", ourWord, role)
		return readOutput(t, storage[node], a.Namespace, a.Name)
	}
	// Both parties have the same rows in the same order.
	common := readColumn(t,
		find("guest", d.guest, "intersect_rsa_1 train_data", "intersect_rsa_1 dataset train_data"), "id")
	require.Len(t, common, 509)
	require.Equal(
		t,
		common,
		readColumn(t,
			find("host", d.host, "intersect_rsa_1 train_data", "intersect_rsa_1 dataset train_data"),
			"id"),
	)

	// Each party has a model and the last report, which is all that FATE-Flow keeps. The guest has a
	// prediction for each row.
	for role, node := range map[string]string{"guest": d.guest, "host": d.host} {
		var model map[string]any
		require.NoError(t, json.Unmarshal(find(role, node, task+" model", task+" model model0"), &model),
			"%s's model", role)
		require.NotEmpty(t, model)
		require.NotEmpty(t, find(role, node, task+" train-ks", task+" report report2"))
	}
	predicted := find("guest", d.guest, task+" train_data", task+" dataset data0")
	require.Equal(t, common, readColumn(t, predicted, "id"))
	scores = readColumn(t, predicted, "predict_score")
	require.Len(t, scores, 509)
	return scores
}

// address locates an output.
type address struct{ Name, Namespace string }

// outputs returns the outputs of a job that FATE-Flow recorded, by role, task, type and key.
func (f *fateFlowParty) outputs(t *testing.T, id string) map[string]address {
	t.Helper()
	by := map[string]address{}
	const outputs = `select f_role, f_task_name, f_type, f_key, f_address from t_bfia_component_output
		where f_job_id = ?`
	for _, r := range f.query(t, outputs, id) {
		var a address
		require.NoError(t, json.Unmarshal([]byte(r[4]), &a))
		by[strings.Join(r[:4], " ")] = a
	}
	return by
}

func openStorage(t *testing.T, url string) blob.Store {
	t.Helper()
	s, err := blob.Open(t.Context(), url)
	require.NoError(t, err)
	return s
}

// readOutput reads the data of an output.
func readOutput(t *testing.T, s blob.Store, namespace, name string) []byte {
	t.Helper()
	r, err := s.Get(t.Context(), namespace+"/"+name+"/data_0")
	require.NoError(t, err)
	defer func() { _ = r.Close() }()
	b, err := io.ReadAll(r)
	require.NoError(t, err)
	return b
}

func readColumn(t *testing.T, data []byte, name string) []string {
	t.Helper()
	records, err := csv.NewReader(bytes.NewReader(data)).ReadAll()
	require.NoError(t, err)
	require.NotEmpty(t, records)
	for i, n := range records[0] {
		if n == name {
			var values []string
			for _, r := range records[1:] {
				values = append(values, r[i])
			}
			return values
		}
	}
	t.Fatalf("no column %q in %v", name, records[0])
	return nil
}
