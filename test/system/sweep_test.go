package system

import (
	"database/sql"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"
	"github.com/stretchr/testify/require"
	temporal "go.temporal.io/sdk/client"

	"hutong/activities"
	"hutong/bfia"
	"hutong/internal/party"
	"hutong/store"
	"hutong/store/blob"
	"hutong/workflows"
	"hutong/workflows/housekeeping"
)

// engine connects to a party's namespace.
func (n *node) engine() temporal.Client {
	n.t.Helper()
	c, err := temporal.Dial(temporal.Options{HostPort: n.cfg.Temporal.Address, Namespace: n.cfg.Temporal.Namespace})
	require.NoError(n.t, err)
	n.t.Cleanup(c.Close)
	return c
}

// keepHouse runs a party's housekeeping now, and tells what it did.
func (n *node) keepHouse() housekeeping.Result {
	n.t.Helper()
	run, err := n.engine().ExecuteWorkflow(n.t.Context(), temporal.StartWorkflowOptions{ID: "housekeeping-now", TaskQueue: activities.ControlQueue},
		workflows.HousekeepingType)
	require.NoError(n.t, err)
	var done housekeeping.Result
	require.NoError(n.t, run.Get(n.t.Context(), &done))
	return done
}

// setBack makes a time of a job's rows lie some hours back.
func (n *node) setBack(jobID, column string, hours int) {
	n.t.Helper()
	path := strings.TrimPrefix(n.cfg.Database.URL.Reveal(), "sqlite://")
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(10000)")
	require.NoError(n.t, err)
	defer func() { require.NoError(n.t, db.Close()) }()
	then := time.Now().Add(-time.Duration(hours) * time.Hour).UTC().Format("2006-01-02 15:04:05.999999-07:00")
	for _, table := range []string{"t_job", "t_schedule_job"} {
		_, err := db.Exec("UPDATE "+table+" SET "+column+" = ? WHERE job_id = ? AND "+column+" IS NOT NULL", then, jobID)
		require.NoError(n.t, err)
	}
}

// stored is how many objects of a party's storage are outputs or logs of a job.
func (n *node) stored(jobID string) (count int) {
	n.t.Helper()
	blobs, err := blob.Open(n.t.Context(), n.cfg.Storage.URL.Reveal())
	require.NoError(n.t, err)
	objects, err := blobs.List(n.t.Context(), "")
	require.NoError(n.t, err)
	for _, o := range objects {
		for _, sign := range []string{jobID, bfia.TaskID(jobID, "s1"), bfia.TaskID(jobID, "intersect_rsa_1")} {
			if strings.Contains(o.Key, sign) {
				count++
				break
			}
		}
	}
	return count
}

// intersection is the seed's job without its training, at two nodes.
func intersection(t *testing.T, old string) []byte {
	return edit(t, seedJob(t, true), func(f map[string]any) {
		dag := f["dag"].(map[string]any)
		dag["components"] = dag["components"].([]any)[:1]
		params := f["config"].(map[string]any)["task_params"].(map[string]any)
		for role, values := range params {
			if role == "common" {
				delete(values.(map[string]any), "hetero_secureboost_1")
				continue
			}
			for _, own := range values.(map[string]any) {
				delete(own.(map[string]any), "hetero_secureboost_1")
			}
		}
		if old != "" {
			f["old_job_id"] = old
		}
	})
}

// TestRetention: a job that ended longer ago than a party keeps results is gone from that party, as if it had never been.
// What another job took over of it stays as long as that one, and all else stays.
func TestRetention(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.guest.cfg.Jobs.KeepResults = time.Hour
	w.guest.start()
	w.host.start()
	for _, n := range []*node{w.guest, w.host} {
		n.register(sleepProvider(t), bfia.DeviceProcess)
		n.register(vector(t, "provider_register.request.json"), bfia.DeviceProcess)
	}
	w.guest.upload("guest.csv", "testspace", "test_guest")
	w.host.upload("host.csv", "testspace", "test_host")
	long := w.guest.submit(sleepJob(t, 1, map[string]any{"s1": seconds(300)}, nil))
	first, second := w.guest.submit(intersection(t, "")), w.guest.submit(intersection(t, ""))
	requireSuccess(t, w.guest.await(first, 3*time.Minute, finished))
	requireSuccess(t, w.guest.await(second, 3*time.Minute, finished))
	heir := w.guest.submit(intersection(t, first))
	requireSuccess(t, w.guest.await(heir, 3*time.Minute, finished))
	const table = "intersect_rsa_1 guest.0 train_data"
	require.Contains(t, w.guest.outputs(first), table)
	require.Equal(t, bfia.TaskID(first, "intersect_rsa_1"), w.guest.outputs(heir)[table].Name)
	rows := w.guest.download(w.guest.outputs(heir)[table])
	w.guest.await(long, time.Minute, running("s1"))
	task := w.guest.status(second).Tasks[0].TaskID
	require.Positive(t, w.guest.stored(second))

	require.Zero(t, w.guest.keepHouse().Removed.Jobs, "all is younger than an hour")
	remove := func(jobs ...string) {
		t.Helper()
		for _, id := range jobs {
			w.guest.setBack(id, "ended_at", 2)
		}
		removed := 0
		require.Eventually(t, func() bool { // its workflow may still be giving back what it held
			removed += w.guest.keepHouse().Removed.Jobs
			return removed == len(jobs)
		}, time.Minute, 100*time.Millisecond)
		require.Zero(t, w.guest.keepHouse().Removed.Jobs, "again it finds nothing")
		for _, id := range jobs {
			requireForgotten(t, w.guest, id)
			for _, path := range []string{bfia.PathPlatformStatusAll, bfia.PathJobOutputs} {
				env, status := w.guest.ask(http.MethodGet, path+"?job_id="+id, nil)
				require.Equal(t, http.StatusNotFound, status, "%s: %s", path, env.Text())
			}
			env, status := w.guest.ask(http.MethodPost, bfia.PathPlatformCreateAll, intersection(t, id))
			require.Equal(t, http.StatusNotFound, status, env.Text())
		}
	}
	w.guest.setBack(long, "created_at", 2)
	remove(first, second)
	require.Zero(t, w.guest.stored(second))
	env, status := w.guest.ask(http.MethodGet, bfia.PathPlatformLogLines+"?task_id="+task, nil)
	require.Equal(t, http.StatusNotFound, status, env.Text())
	require.Equal(t, rows, w.guest.download(w.guest.outputs(heir)[table]))
	// The other party keeps it for longer, and still tells of it.
	require.Zero(t, w.host.keepHouse().Removed.Jobs)
	requireSuccess(t, w.host.await(second, time.Minute, finished))
	require.NotEmpty(t, w.host.download(w.host.outputs(second)["intersect_rsa_1 host.0 train_data"]))

	remove(heir)
	require.Zero(t, w.guest.stored(first), "with its last holder it goes")
	require.NotEmpty(t, w.guest.download(bfia.Output{Namespace: "testspace", Name: "test_guest"}), "what someone uploaded stays")
	require.True(t, running("s1")(w.guest.status(long)), "what runs stays")
	require.Positive(t, w.guest.stored(long))
	jobs, err := w.guest.database().Jobs(t.Context(), store.JobFilter{})
	require.NoError(t, err)
	require.Len(t, jobs, 1)
	w.guest.good(http.MethodPost, bfia.PathPlatformStopAll, []byte(`{"job_id":"`+long+`"}`), nil)
	w.guest.await(long, time.Minute, finished)
}

// TestHousekeepingBegins: each party has one, however many control workers it starts.
func TestHousekeepingBegins(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	for range 2 {
		w.guest.startAs(party.Roles{Control: true})
	}
	described, err := w.guest.engine().DescribeWorkflowExecution(t.Context(), workflows.HousekeepingID, "")
	require.NoError(t, err)
	require.Equal(t, workflows.HousekeepingType, described.WorkflowExecutionInfo.Type.Name)
	require.Equal(t, "Running", described.WorkflowExecutionInfo.Status.String())
}

// TestOrphans: while a host's worker is away, an operator terminates a job's workflow, and others leave containers. When it
// is back it ends what is its own and nobody's, and touches nothing else. Then the rows are ended too, and the other party
// learns of it.
func TestOrphans(t *testing.T) {
	t.Parallel()
	cli := docker(t)
	w := newWorld(t, nil)
	w.host.cfg.Runner.Docker.Enabled, w.host.cfg.Runner.Docker.HostNetwork, w.host.cfg.Runner.Process.Allow = party.SwitchOn, true, nil
	w.guest.start()
	w.guest.register(sleepProvider(t), bfia.DeviceProcess)
	w.host.startAs(party.Roles{API: true, Control: true, Transport: true})
	w.host.register(edit(t, sleepProvider(t), func(f map[string]any) { f["device"] = "docker" }), bfia.DeviceDocker)
	stop := w.host.startAs(party.Roles{Runner: true})
	jobID := w.guest.submit(sleepJob(t, 1, map[string]any{"s1": seconds(300)}, nil))
	db := w.host.database()
	var row store.Task
	require.Eventually(t, func() bool {
		tasks, err := db.Tasks(t.Context(), jobID)
		require.NoError(t, err)
		row = tasks[0]
		return row.ContainerID != "" && there(t, cli, row.ContainerID) == container.StateRunning
	}, time.Minute, 50*time.Millisecond)
	stop()
	require.NoError(t, w.host.engine().TerminateWorkflow(t.Context(), workflows.ParticipantJobID(jobID), "", "an operator had enough"))

	deployment, err := db.DeploymentID(t.Context())
	require.NoError(t, err)
	made := map[string]string{}
	for i, c := range []struct {
		what   string
		labels map[string]string
	}{
		{"ours, of an unknown job", map[string]string{"hutong.node_id": hostNode, "hutong.deployment": deployment}},
		{"without labels", nil},
		{"another party's", map[string]string{"hutong.node_id": guestNode, "hutong.deployment": deployment}},
		{"another deployment's of this party", map[string]string{"hutong.node_id": hostNode, "hutong.deployment": "other"}},
		{"of this party, which does not say of which deployment", map[string]string{"hutong.node_id": hostNode}},
	} {
		name := fmt.Sprintf("hutong-orphans-%d-%d", os.Getpid(), i)
		labels := map[string]string{}
		for label, value := range c.labels {
			labels[label] = value
			labels["hutong.run"], labels["hutong.job_id"], labels["hutong.task"] = name, "202609010000009999999", "s1"
			labels["hutong.role"], labels["hutong.attempt"] = "host.0", "1"
		}
		created, err := cli.ContainerCreate(t.Context(), &container.Config{Image: seedImage, Labels: labels}, &container.HostConfig{NetworkMode: "none"}, nil, nil, name)
		require.NoError(t, err)
		made[c.what] = created.ID
		t.Cleanup(func() {
			_ = cli.ContainerRemove(t.Context(), created.ID, container.RemoveOptions{Force: true})
		})
	}
	w.host.startAs(party.Roles{Runner: true})
	require.Eventually(t, func() bool {
		return there(t, cli, row.ContainerID) == "" && there(t, cli, made["ours, of an unknown job"]) == ""
	}, time.Minute, 100*time.Millisecond)
	for what, id := range made {
		if what != "ours, of an unknown job" {
			require.Equal(t, container.StateCreated, there(t, cli, id), what)
		}
	}

	require.Empty(t, w.host.keepHouse().Lost, "it is too young to be taken for lost")
	w.host.setBack(jobID, "created_at", 1)
	require.Equal(t, []string{jobID}, w.host.keepHouse().Lost)
	s := w.host.status(jobID)
	require.Contains(t, s.Reason, "its workflow was terminated")
	require.Equal(t, bfia.TaskFailed, s.Tasks[0].State)
	require.Empty(t, w.host.keepHouse().Lost)
	s = w.guest.await(jobID, time.Minute, finished)
	require.Equal(t, bfia.TaskFailed, s.Tasks[0].State)
	checkNothingLeft(t, w.guest, jobID, bfia.DeviceProcess)
}

// there is a container's state, or nothing when there is none.
func there(t *testing.T, cli *client.Client, id string) container.ContainerState {
	t.Helper()
	c, err := cli.ContainerInspect(t.Context(), id)
	if cerrdefs.IsNotFound(err) {
		return ""
	}
	require.NoError(t, err)
	return c.State.Status
}

// TestSchedulerLost: an operator terminates the scheduler's workflow of a job. The job ends there all the same, and at every
// party.
func TestSchedulerLost(t *testing.T) {
	t.Parallel()
	w := sleepers(t)
	jobID := w.guest.submit(sleepJob(t, 2, map[string]any{"s1": seconds(300), "s2": seconds(0)}, nil))
	for _, n := range []*node{w.guest, w.host} {
		db := n.database()
		require.Eventually(t, func() bool {
			tasks, err := db.Tasks(t.Context(), jobID)
			return err == nil && len(tasks) == 2 && tasks[0].ContainerID != ""
		}, time.Minute, 50*time.Millisecond)
	}
	require.NoError(t, w.guest.engine().TerminateWorkflow(t.Context(), workflows.SchedulerJobID(jobID), "", "an operator had enough"))
	w.guest.setBack(jobID, "created_at", 1)
	require.Equal(t, []string{jobID}, w.guest.keepHouse().Lost)
	s := w.guest.status(jobID)
	require.Equal(t, bfia.JobFinished, s.State)
	require.Contains(t, s.Reason, "its workflow was terminated")
	require.Equal(t, []bfia.TaskState{bfia.TaskFailed, bfia.TaskReady}, []bfia.TaskState{s.Tasks[0].State, s.Tasks[1].State})
	for _, n := range []*node{w.guest, w.host} {
		require.Eventually(t, func() bool {
			job, err := n.database().Job(t.Context(), jobID)
			require.NoError(t, err)
			return job.State == bfia.JobFinished
		}, time.Minute, 100*time.Millisecond)
		checkNothingLeft(t, n, jobID, bfia.DeviceProcess)
	}
}
