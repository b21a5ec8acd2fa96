package system

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	temporal "go.temporal.io/sdk/client"

	"hutong/bfia"
	"hutong/internal/party"
	"hutong/store"
	"hutong/workflows"
)

func seconds(n any) map[string]any { return map[string]any{"seconds": n} }

// TestStop stops a whole job while its first task runs.
func TestStop(t *testing.T) {
	t.Parallel()
	pair := startSleepPair(t, nil)
	jobID := pair.guest.submit(sleepJob(t, 2, map[string]any{"s1": seconds(60), "s2": seconds(0)}, nil))
	pair.guest.awaitJob(jobID, time.Minute, isTaskRunning("s1"))
	pair.guest.mustRequest(http.MethodPost, bfia.PathPlatformStopAll, []byte(`{"job_id":"`+jobID+`"}`), nil)
	s := pair.guest.awaitJob(jobID, time.Minute, isFinished)
	require.Contains(t, s.Reason, "stopped by "+guestNode)
	require.Equal(t, bfia.TaskFailed, s.Tasks[0].State, "the running task is FAILED")
	require.Equal(t, bfia.TaskReady, s.Tasks[1].State, "the task that had not started stays READY")
	for _, n := range []*testParty{pair.guest, pair.host} {
		n.awaitJob(jobID, time.Minute, isFinished)
		requireNoContainers(t, n, jobID, bfia.DeviceProcess)
	}
	// Stopping it again after its end changes nothing.
	s = pair.guest.status(jobID) // with what was recorded after the end
	pair.guest.mustRequest(http.MethodPost, bfia.PathPlatformStopAll, []byte(`{"job_id":"`+jobID+`"}`), nil)
	require.Equal(t, s, pair.guest.status(jobID))
}

// TestFailure has a task fail at the host. The job ends at both parties, and the initiator reads the reason.
func TestFailure(t *testing.T) {
	t.Parallel()
	pair := startSleepPair(t, nil)
	jobID := pair.guest.submit(sleepJob(t, 2, map[string]any{"s1": seconds(60), "s2": seconds(0)},
		map[string]map[string]any{"host": {"s1": map[string]any{"seconds": 1, "exit_code": 3}}}))
	s := pair.guest.awaitJob(jobID, time.Minute, isFinished)
	for _, word := range []string{"s1", hostNode, "host.0", "exit code 3"} {
		require.Contains(t, s.Reason, word)
	}
	// The initiator reads only what the host shares of its failure; the host's own users read all of it.
	require.Equal(
		t,
		&bfia.Failure{Kind: bfia.FailedExit, NodeID: hostNode, Role: "host.0", Task: "s1", ExitCode: 3,
			Hint: "ask " + hostNode + " for its log of the task"},
		s.Failure,
	)
	at := pair.host.awaitJob(jobID, time.Minute, isFinished)
	require.Equal(t, s.Reason, at.Reason)
	require.Equal(t, "hutong job logs "+jobID+" --task s1 --role host.0",
		strings.TrimPrefix(at.Failure.Hint, "read its log: "))
	require.NotEmpty(t, at.Failure.Log)
	require.Equal(t, at.Failure, at.Tasks[0].Parties[0].Failure)
	requireMemo(t, pair.guest, workflows.SchedulerJobID(jobID), s.Reason)
	requireMemo(t, pair.host, workflows.ParticipantJobID(jobID), s.Reason)
	require.Equal(t, bfia.TaskFailed, s.Tasks[0].State)
	require.Equal(t, bfia.TaskReady, s.Tasks[1].State)
	for _, p := range s.Tasks[0].Parties {
		require.Equal(t, bfia.TaskFailed, p.State, "the part at %s ran and was stopped", p.NodeID)
	}
	requireNoContainers(t, pair.guest, jobID, bfia.DeviceProcess)
}

// TestFailureNamesTheCause checks that the lists and states of a job at both parties name the part that
// failed, also if the part that lost its partner ends and is reported first.
func TestFailureNamesTheCause(t *testing.T) {
	t.Parallel()
	pair := startSleepPair(t, nil)
	jobID := pair.guest.submit(sleepJob(t, 1, map[string]any{"s1": seconds(60)}, map[string]map[string]any{
		"guest": {"s1": map[string]any{"seconds": 0.5, "exit_code": 69}},
		"host":  {"s1": map[string]any{"seconds": 4, "exit_code": 3}}}))
	for _, n := range []*testParty{pair.guest, pair.host} {
		s := n.awaitJob(jobID, time.Minute, isFinished)
		require.True(t, strings.HasPrefix(s.Reason, "task s1 failed at "+hostNode+" (host.0): exit code 3"),
			s.Reason)
		require.Equal(t, bfia.FailedExit, s.Failure.Kind)
		require.Equal(t, hostNode, s.Failure.NodeID)
		for _, p := range s.Tasks[0].Parties {
			if p.NodeID == guestNode {
				require.Equal(t, bfia.FailedPartner, p.Failure.Kind, "at %s", n.cfg.NodeID)
			}
		}
		var list bfia.JobList
		require.Eventually(t, func() bool { // the party's own row ends after the scheduler's
			n.mustRequest(http.MethodGet, bfia.PathPlatformJobList, nil, &list)
			return len(list.Jobs) == 1 && list.Jobs[0].Outcome == bfia.OutcomeFailed
		}, time.Minute, 50*time.Millisecond)
		require.Equal(t, hostNode, list.Jobs[0].Failure.NodeID, "the list at %s", n.cfg.NodeID)
		require.Equal(t, bfia.FailedExit, list.Jobs[0].Failure.Kind)
		require.Contains(t, list.Jobs[0].Reason, "failed at "+hostNode)
		var overview bfia.Overview
		n.mustRequest(http.MethodGet, bfia.PathOverview, nil, &overview)
		require.Len(t, overview.Failed, 1)
		require.Equal(t, hostNode, overview.Failed[0].NodeID, "the overview at %s", n.cfg.NodeID)
	}
}

// TestWorkflowTerminated terminates a participant's workflow in Temporal while a container runs. The
// container is ended, since no workflow owns it any more.
func TestWorkflowTerminated(t *testing.T) {
	t.Parallel()
	pair := startSleepPair(t, nil)
	jobID := pair.guest.submit(sleepJob(t, 1, map[string]any{"s1": seconds(300)}, nil))
	db := pair.host.database()
	require.Eventually(t, func() bool { // a task is RUNNING before its container exists
		tasks, err := db.Tasks(t.Context(), jobID)
		return err == nil && tasks[0].ContainerID != ""
	}, time.Minute, 50*time.Millisecond)
	c, err := temporal.Dial(
		temporal.Options{HostPort: pair.host.cfg.Temporal.Address,
			Namespace: pair.host.cfg.Temporal.Namespace},
	)
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t,
		c.TerminateWorkflow(t.Context(), workflows.ParticipantJobID(jobID), "", "terminated by an operator"))
	require.Eventually(t, func() bool {
		tasks, err := db.Tasks(t.Context(), jobID)
		return err == nil && tasks[0].ExitCode != nil
	}, time.Minute, 100*time.Millisecond)
	requireNoContainers(t, pair.host, jobID, bfia.DeviceProcess)
	pair.guest.mustRequest(http.MethodPost, bfia.PathPlatformStopAll, []byte(`{"job_id":"`+jobID+`"}`), nil)
	pair.guest.awaitJob(jobID, time.Minute, isFinished)
}

// TestRunnerGone assigns a task to a runner that was online a moment ago and does not take it. Another runner
// runs it.
func TestRunnerGone(t *testing.T) {
	t.Parallel()
	pair := newPartyPair(t, nil)
	pair.guest.start()
	pair.host.startAs(party.Roles{API: true, Control: true, Transport: true})
	for _, n := range []*testParty{pair.guest, pair.host} {
		n.register(sleepProvider(t), bfia.DeviceProcess)
	}
	db := pair.host.database()
	require.NoError(
		t,
		db.PutRunner(
			t.Context(),
			store.Runner{RunnerID: "gone", NodeID: hostNode, Devices: []string{"process"},
				TaskQueue: "host/gone", Slots: 2},
		),
	)
	jobID := pair.guest.submit(sleepJob(t, 1, map[string]any{"s1": seconds(0)}, nil))
	pair.host.awaitJob(jobID, time.Minute, isTaskRunning("s1"))
	stop := pair.host.startAs(party.Roles{Runner: true})
	s := pair.guest.awaitJob(jobID, 2*time.Minute, isFinished)
	require.Equal(t, bfia.TaskSuccess, s.Tasks[0].State)
	hosts, err := db.Runners(t.Context(), time.Hour)
	require.NoError(t, err)
	require.Len(t, hosts, 2)
	stop()
	hosts, err = db.Runners(t.Context(), time.Hour)
	require.NoError(t, err)
	require.Len(t, hosts, 1, "a host that stops in order says so")
}

// TestPartnerDown submits a job while the host is down. The answer is an early, clear error, and the guest
// keeps nothing.
func TestPartnerDown(t *testing.T) {
	t.Parallel()
	pair := newPartyPair(t, nil)
	pair.guest.start()
	pair.guest.register(sleepProvider(t), bfia.DeviceProcess)
	jobID := bfia.NewJobID(time.Now(), 1)
	document := editJSON(t, sleepJob(t, 1, map[string]any{"s1": seconds(0)}, nil),
		func(f map[string]any) { f["job_id"] = jobID })
	begun := time.Now()
	env, status := pair.guest.request(http.MethodPost, bfia.PathPlatformCreateAll, document)
	require.False(t, env.OK())
	require.Less(t, time.Since(begun), 50*time.Second)
	require.Equal(t, http.StatusBadGateway, status)
	require.Contains(t, env.Text(), hostNode)
	requireNoRows(t, pair.guest, jobID)

	// When the partner is up again, the same document is accepted: the earlier error is not remembered as the
	// answer.
	pair.host.start()
	pair.host.register(sleepProvider(t), bfia.DeviceProcess)
	require.Eventually(t, func() bool {
		env, _ = pair.guest.request(http.MethodPost, bfia.PathPlatformCreateAll, document)
		return env.OK()
	}, time.Minute, 500*time.Millisecond, "%s", env.Text())
	requireSuccess(t, pair.guest.awaitJob(jobID, time.Minute, isFinished))
}

// TestPartnerRefuses submits a job whose dataset the host does not have. The host's message reaches the
// submitter.
func TestPartnerRefuses(t *testing.T) {
	t.Parallel()
	pair := startSleepPair(t, nil)
	jobID := bfia.NewJobID(time.Now(), 2)
	document := editJSON(t, sleepJob(t, 1, map[string]any{"s1": seconds(0)}, map[string]map[string]any{
		"host": {
			"s1": map[string]any{"dataset_id": "nowhere#nothing"},
		}}), func(f map[string]any) { f["job_id"] = jobID })
	env, status := pair.guest.request(http.MethodPost, bfia.PathPlatformCreateAll, document)
	require.Equal(t, http.StatusNotFound, status, env.Text())
	require.Contains(t, env.Text(), hostNode+` has no dataset "nowhere#nothing"`)
	requireNoRows(t, pair.guest, jobID)
	requireNoRows(t, pair.host, jobID)
}

// requireNoRows waits until a party has no rows and no document of a job.
func requireNoRows(t *testing.T, n *testParty, jobID string) {
	t.Helper()
	db := n.database()
	require.Eventually(t, func() bool {
		_, jobErr := db.Job(t.Context(), jobID)
		_, scheduleErr := db.ScheduleJob(t.Context(), jobID)
		_, documentErr := db.Document(t.Context(), jobID)
		return bfia.CodeOf(jobErr) == bfia.CodeNotFound && bfia.CodeOf(scheduleErr) == bfia.CodeNotFound &&
			bfia.CodeOf(documentErr) == bfia.CodeNotFound
	}, time.Minute, 100*time.Millisecond, "rows of job %s are left at %s", jobID, n.cfg.NodeID)
}

// TestSameJobTwice submits one job several times at once: it is created once, and every request succeeds.
func TestSameJobTwice(t *testing.T) {
	t.Parallel()
	pair := startSleepPair(t, nil)
	jobID := bfia.NewJobID(time.Now(), 3)
	document := editJSON(t, sleepJob(t, 1, map[string]any{"s1": seconds(1)}, nil),
		func(f map[string]any) { f["job_id"] = jobID })
	var group sync.WaitGroup
	answers := make([]string, 4)
	for i := range answers {
		group.Go(func() {
			env, _ := pair.guest.request(http.MethodPost, bfia.PathPlatformCreateAll, document)
			answers[i] = env.Text()
		})
	}
	group.Wait()
	require.Equal(t, []string{"success", "success", "success", "success"}, answers)
	requireSuccess(t, pair.guest.awaitJob(jobID, time.Minute, isFinished))
	require.Equal(t, jobID, pair.guest.submit(document), "submitted again after its end")

	other := editJSON(t, document, func(f map[string]any) { f["flow_id"] = "another" })
	env, status := pair.guest.request(http.MethodPost, bfia.PathPlatformCreateAll, other)
	require.Equal(t, http.StatusConflict, status, env.Text())
}

// TestTenJobsAtOnce submits ten jobs at once, which all succeed.
func TestTenJobsAtOnce(t *testing.T) {
	t.Parallel()
	pair := startSleepPair(t, nil)
	var jobs []string
	for range 10 {
		jobs = append(jobs,
			pair.guest.submit(sleepJob(t, 2, map[string]any{"s1": seconds(0), "s2": seconds(0)}, nil)))
	}
	for _, id := range jobs {
		requireSuccess(t, pair.guest.awaitJob(id, time.Minute, isFinished))
	}
}
