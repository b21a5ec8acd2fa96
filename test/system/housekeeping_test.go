package system

import (
	"context"
	"crypto/rand"
	"database/sql"
	"net/http"
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

// temporalClient returns a client for the party's namespace.
func (n *testParty) temporalClient() temporal.Client {
	n.t.Helper()
	c, err := temporal.Dial(
		temporal.Options{HostPort: n.cfg.Temporal.Address, Namespace: n.cfg.Temporal.Namespace},
	)
	require.NoError(n.t, err)
	n.t.Cleanup(c.Close)
	return c
}

// runHousekeeping runs the party's housekeeping now, and returns its result.
func (n *testParty) runHousekeeping() housekeeping.Result {
	n.t.Helper()
	options := temporal.StartWorkflowOptions{ID: "housekeeping-now", TaskQueue: activities.ControlQueue}
	run, err := n.temporalClient().ExecuteWorkflow(n.t.Context(), options, workflows.HousekeepingType)
	require.NoError(n.t, err)
	var done housekeeping.Result
	require.NoError(n.t, run.Get(n.t.Context(), &done))
	return done
}

// backdate moves a time in a job's rows some hours into the past.
func (n *testParty) backdate(jobID, column string, hours int) {
	n.t.Helper()
	path := strings.TrimPrefix(n.cfg.Database.URL.Reveal(), "sqlite://")
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(10000)")
	require.NoError(n.t, err)
	defer func() { require.NoError(n.t, db.Close()) }()
	then := time.Now().Add(-time.Duration(hours) * time.Hour).UTC().Format("2006-01-02 15:04:05.999999-07:00")
	for _, table := range []string{"t_job", "t_schedule_job"} {
		_, err := db.Exec(
			"UPDATE "+table+" SET "+column+" = ? WHERE job_id = ? AND "+column+" IS NOT NULL", then,
			jobID)
		require.NoError(n.t, err)
	}
}

// countStoredObjects counts the objects in a party's storage that are outputs or logs of a job.
func (n *testParty) countStoredObjects(jobID string) (count int) {
	n.t.Helper()
	blobs, err := blob.Open(n.t.Context(), n.cfg.Storage.URL.Reveal())
	require.NoError(n.t, err)
	objects, err := blobs.List(n.t.Context(), "")
	require.NoError(n.t, err)
	for _, o := range objects {
		ids := []string{jobID, bfia.TaskID(jobID, "s1"), bfia.TaskID(jobID, "intersect_rsa_1")}
		for _, id := range ids {
			if strings.Contains(o.Key, id) {
				count++
				break
			}
		}
	}
	return count
}

// intersectionJob returns the reference job without its training, at two parties.
func intersectionJob(t *testing.T, old string) []byte {
	return editJSON(t, referenceJob(t, true), func(f map[string]any) {
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

// TestRetention checks that housekeeping removes a job from a party when its retention has passed, without a
// trace. Outputs that another job reuses stay as long as that job. Everything else stays.
func TestRetention(t *testing.T) {
	t.Parallel()
	pair := newPartyPair(t, nil)
	pair.guest.cfg.Jobs.Retention = time.Hour
	pair.guest.start()
	pair.host.start()
	for _, n := range []*testParty{pair.guest, pair.host} {
		n.register(sleepProvider(t), bfia.DeviceProcess)
		n.register(readVector(t, "provider_register.request.json"), bfia.DeviceProcess)
	}
	pair.guest.upload("guest.csv", "testspace", "test_guest")
	pair.host.upload("host.csv", "testspace", "test_host")
	long := pair.guest.submit(sleepJob(t, 1, map[string]any{"s1": seconds(300)}, nil))
	first, second := pair.guest.submit(intersectionJob(t, "")), pair.guest.submit(intersectionJob(t, ""))
	requireSuccess(t, pair.guest.awaitJob(first, 3*time.Minute, isFinished))
	requireSuccess(t, pair.guest.awaitJob(second, 3*time.Minute, isFinished))
	heir := pair.guest.submit(intersectionJob(t, first))
	requireSuccess(t, pair.guest.awaitJob(heir, 3*time.Minute, isFinished))
	const table = "intersect_rsa_1 guest.0 train_data"
	require.Contains(t, pair.guest.outputs(first), table)
	require.Equal(t, bfia.TaskID(first, "intersect_rsa_1"), pair.guest.outputs(heir)[table].Name)
	rows := pair.guest.download(pair.guest.outputs(heir)[table])
	pair.guest.awaitJob(long, time.Minute, isTaskRunning("s1"))
	task := pair.guest.status(second).Tasks[0].TaskID
	require.Positive(t, pair.guest.countStoredObjects(second))

	require.Zero(t, pair.guest.runHousekeeping().Removed.Jobs, "all jobs ended less than an hour ago")
	remove := func(jobs ...string) {
		t.Helper()
		for _, id := range jobs {
			pair.guest.backdate(id, "ended_at", 2)
		}
		removed := 0
		require.Eventually(t, func() bool { // its workflow may still be releasing reservations
			removed += pair.guest.runHousekeeping().Removed.Jobs
			return removed == len(jobs)
		}, time.Minute, 100*time.Millisecond)
		require.Zero(t, pair.guest.runHousekeeping().Removed.Jobs, "the second housekeeping removes nothing")
		for _, id := range jobs {
			requireNoRows(t, pair.guest, id)
			for _, path := range []string{bfia.PathPlatformStatusAll, bfia.PathJobOutputs} {
				env, status := pair.guest.request(http.MethodGet, path+"?job_id="+id, nil)
				require.Equal(t, http.StatusNotFound, status, "%s: %s", path, env.Text())
			}
			env, status := pair.guest.request(http.MethodPost, bfia.PathPlatformCreateAll,
				intersectionJob(t, id))
			require.Equal(t, http.StatusNotFound, status, env.Text())
		}
	}
	pair.guest.backdate(long, "created_at", 2)
	remove(first, second)
	require.Zero(t, pair.guest.countStoredObjects(second))
	env, status := pair.guest.request(http.MethodGet, bfia.PathPlatformLogLines+"?task_id="+task, nil)
	require.Equal(t, http.StatusNotFound, status, env.Text())
	require.Equal(t, rows, pair.guest.download(pair.guest.outputs(heir)[table]))
	// The other party has a longer retention, and still has the job.
	require.Zero(t, pair.host.runHousekeeping().Removed.Jobs)
	requireSuccess(t, pair.host.awaitJob(second, time.Minute, isFinished))
	require.NotEmpty(t, pair.host.download(pair.host.outputs(second)["intersect_rsa_1 host.0 train_data"]))

	remove(heir)
	require.Zero(t, pair.guest.countStoredObjects(first),
		"reused outputs are removed with the last job that has them")
	require.NotEmpty(t, pair.guest.download(bfia.Output{Namespace: "testspace", Name: "test_guest"}),
		"uploaded datasets stay")
	require.True(t, isTaskRunning("s1")(pair.guest.status(long)), "a running job stays")
	require.Positive(t, pair.guest.countStoredObjects(long))
	page, err := pair.guest.database().Jobs(t.Context(), store.JobFilter{})
	require.NoError(t, err)
	require.Len(t, page.Jobs, 1)
	pair.guest.mustRequest(http.MethodPost, bfia.PathPlatformStopAll, []byte(`{"job_id":"`+long+`"}`), nil)
	pair.guest.awaitJob(long, time.Minute, isFinished)
}

// TestHousekeepingStartsOnce checks that a party has one housekeeping workflow, however many control workers
// it starts.
func TestHousekeepingStartsOnce(t *testing.T) {
	t.Parallel()
	pair := newPartyPair(t, nil)
	for range 2 {
		pair.guest.startAs(party.Roles{Control: true})
	}
	described, err := pair.guest.temporalClient().
		DescribeWorkflowExecution(t.Context(), workflows.HousekeepingID, "")
	require.NoError(t, err)
	require.Equal(t, workflows.HousekeepingType, described.WorkflowExecutionInfo.Type.Name)
	require.Equal(t, "Running", described.WorkflowExecutionInfo.Status.String())
}

// TestOrphans terminates a job's workflow while the runner is stopped, and adds containers of other owners.
// When the runner starts, it removes the containers that it owns and that no job owns, and no others.
// Housekeeping then fails the job's rows, and the other party ends its job too.
func TestOrphans(t *testing.T) {
	t.Parallel()
	cli := dockerClient(t)
	pair := newPartyPair(t, nil)
	useContainers(pair.host.cfg)
	pair.guest.start()
	pair.guest.register(sleepProvider(t), bfia.DeviceProcess)
	pair.host.startAs(party.Roles{API: true, Control: true, Transport: true})
	pair.host.register(editJSON(t, sleepProvider(t), func(f map[string]any) { f["device"] = "docker" }),
		bfia.DeviceDocker)
	stop := pair.host.startAs(party.Roles{Runner: true})
	jobID := pair.guest.submit(sleepJob(t, 1, map[string]any{"s1": seconds(300)}, nil))
	db := pair.host.database()
	var row store.Task
	require.Eventually(t, func() bool {
		tasks, err := db.Tasks(t.Context(), jobID)
		require.NoError(t, err)
		row = tasks[0]
		return row.ContainerID != "" && containerState(t, cli, row.ContainerID) == container.StateRunning
	}, time.Minute, 50*time.Millisecond)
	stop()
	require.NoError(
		t,
		pair.host.temporalClient().
			TerminateWorkflow(t.Context(), workflows.ParticipantJobID(jobID), "",
				"terminated by an operator"),
	)

	deployment, err := db.DeploymentID(t.Context())
	require.NoError(t, err)
	made := map[string]string{}
	for _, c := range []struct {
		what   string
		labels map[string]string
	}{
		{"this deployment's, of an unknown job", ownerLabels(hostNode, deployment)},
		{"without labels", nil},
		{"another party's", ownerLabels(guestNode, deployment)},
		{"another deployment's of this party", ownerLabels(hostNode, "other")},
		{"this party's, without a deployment", map[string]string{"hutong.node_id": hostNode}},
	} {
		name := "hutong-orphans-" + rand.Text()
		labels := map[string]string{}
		for label, value := range c.labels {
			labels[label] = value
			labels["hutong.container"], labels["hutong.job_id"] = name, "202609010000009999999"
			labels["hutong.task"], labels["hutong.role"], labels["hutong.attempt"] = "s1", "host.0", "1"
		}
		created, err := cli.ContainerCreate(t.Context(),
			&container.Config{Image: referenceImage, Labels: labels},
			&container.HostConfig{NetworkMode: "none"}, nil, nil, name)
		require.NoError(t, err)
		made[c.what] = created.ID
		t.Cleanup(func() {
			_ = cli.ContainerRemove(context.WithoutCancel(t.Context()), created.ID,
				container.RemoveOptions{Force: true})
		})
	}
	pair.host.startAs(party.Roles{Runner: true})
	require.Eventually(t, func() bool {
		return containerState(t, cli, row.ContainerID) == "" &&
			containerState(t, cli, made["this deployment's, of an unknown job"]) == ""
	}, time.Minute, 100*time.Millisecond)
	for what, id := range made {
		if what != "this deployment's, of an unknown job" {
			require.Equal(t, container.StateCreated, containerState(t, cli, id), what)
		}
	}

	require.Empty(t, pair.host.runHousekeeping().Lost, "a new job is not considered lost")
	pair.host.backdate(jobID, "created_at", 1)
	require.Equal(t, []string{jobID}, pair.host.runHousekeeping().Lost)
	s := pair.host.status(jobID)
	require.Contains(t, s.Reason, "its workflow was terminated")
	require.Equal(t, bfia.TaskFailed, s.Tasks[0].State)
	require.Empty(t, pair.host.runHousekeeping().Lost)
	s = pair.guest.awaitJob(jobID, time.Minute, isFinished)
	require.Equal(t, bfia.TaskFailed, s.Tasks[0].State)
	requireNoContainers(t, pair.guest, jobID, bfia.DeviceProcess)
}

// ownerLabels returns the labels that name the owner of a container.
func ownerLabels(node, deployment string) map[string]string {
	return map[string]string{"hutong.node_id": node, "hutong.deployment": deployment}
}

// containerState returns a container's state, or "" when the container does not exist.
func containerState(t *testing.T, cli *client.Client, id string) container.ContainerState {
	t.Helper()
	c, err := cli.ContainerInspect(t.Context(), id)
	if cerrdefs.IsNotFound(err) {
		return ""
	}
	require.NoError(t, err)
	return c.State.Status
}

// TestSchedulerLost terminates a job's scheduler workflow. Housekeeping fails the job there, and it ends at
// every party.
func TestSchedulerLost(t *testing.T) {
	t.Parallel()
	pair := startSleepPair(t, nil)
	jobID := pair.guest.submit(sleepJob(t, 2, map[string]any{"s1": seconds(300), "s2": seconds(0)}, nil))
	for _, n := range []*testParty{pair.guest, pair.host} {
		db := n.database()
		require.Eventually(t, func() bool {
			tasks, err := db.Tasks(t.Context(), jobID)
			return err == nil && len(tasks) == 2 && tasks[0].ContainerID != ""
		}, time.Minute, 50*time.Millisecond)
	}
	require.NoError(
		t,
		pair.guest.temporalClient().
			TerminateWorkflow(t.Context(), workflows.SchedulerJobID(jobID), "", "terminated by an operator"),
	)
	pair.guest.backdate(jobID, "created_at", 1)
	require.Equal(t, []string{jobID}, pair.guest.runHousekeeping().Lost)
	s := pair.guest.status(jobID)
	require.Equal(t, bfia.JobFinished, s.State)
	require.Contains(t, s.Reason, "its workflow was terminated")
	require.Equal(t, []bfia.TaskState{bfia.TaskFailed, bfia.TaskReady},
		[]bfia.TaskState{s.Tasks[0].State, s.Tasks[1].State})
	for _, n := range []*testParty{pair.guest, pair.host} {
		require.Eventually(t, func() bool {
			job, err := n.database().Job(t.Context(), jobID)
			require.NoError(t, err)
			return job.State == bfia.JobFinished
		}, time.Minute, 100*time.Millisecond)
		requireNoContainers(t, n, jobID, bfia.DeviceProcess)
	}
}
