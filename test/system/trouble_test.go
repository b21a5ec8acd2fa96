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

// sleepers starts a guest and a host with the Sleep component.
func sleepers(t *testing.T) *world {
	w := newWorld(t, nil)
	w.guest.start()
	w.host.start()
	for _, n := range []*node{w.guest, w.host} {
		n.register(sleepProvider(t), bfia.DeviceProcess)
	}
	return w
}

func seconds(n any) map[string]any { return map[string]any{"seconds": n} }

// TestStop stops a whole job while its first task runs.
func TestStop(t *testing.T) {
	t.Parallel()
	w := sleepers(t)
	jobID := w.guest.submit(sleepJob(t, 2, map[string]any{"s1": seconds(60), "s2": seconds(0)}, nil))
	w.guest.await(jobID, 20*time.Second, running("s1"))
	w.guest.good(http.MethodPost, bfia.PathPlatformStopAll, []byte(`{"job_id":"`+jobID+`"}`), nil)
	s := w.guest.await(jobID, 20*time.Second, finished)
	require.Contains(t, s.Reason, "stopped by "+guestNode)
	require.Equal(t, bfia.TaskFailed, s.Tasks[0].State, "what ran is FAILED")
	require.Equal(t, bfia.TaskReady, s.Tasks[1].State, "what had not begun stays READY")
	for _, n := range []*node{w.guest, w.host} {
		n.await(jobID, 20*time.Second, finished)
		checkNothingLeft(t, n, jobID, bfia.DeviceProcess)
	}
	// Once more, after the end, changes nothing.
	w.guest.good(http.MethodPost, bfia.PathPlatformStopAll, []byte(`{"job_id":"`+jobID+`"}`), nil)
	require.Equal(t, s, w.guest.status(jobID))
}

// TestFailure lets a task fail at the host: the job ends everywhere, and the initiator reads why.
func TestFailure(t *testing.T) {
	t.Parallel()
	w := sleepers(t)
	jobID := w.guest.submit(sleepJob(t, 2, map[string]any{"s1": seconds(60), "s2": seconds(0)},
		map[string]map[string]any{"host": {"s1": map[string]any{"seconds": 1, "exit_code": 3}}}))
	s := w.guest.await(jobID, 30*time.Second, finished)
	for _, word := range []string{"s1", hostNode, "host.0", "exit code 3"} {
		require.Contains(t, s.Reason, word)
	}
	// The initiator learns of the host's part what the host lets out; the host's own users all that is known.
	require.Equal(t, &bfia.Failure{Kind: bfia.FailedExit, NodeID: hostNode, Role: "host.0", Task: "s1", ExitCode: 3,
		Hint: "ask " + hostNode + ", whose log of the task tells more"}, s.Failure)
	at := w.host.await(jobID, 30*time.Second, finished)
	require.Equal(t, s.Reason, at.Reason)
	require.Equal(t, "hutong job logs "+jobID+" --task s1 --role host.0", strings.TrimPrefix(at.Failure.Hint, "read its log: "))
	require.NotEmpty(t, at.Failure.Log)
	require.Equal(t, at.Failure, at.Tasks[0].Parties[0].Failure)
	checkExplained(t, w.guest, workflows.SchedulerJobID(jobID), s.Reason)
	checkExplained(t, w.host, workflows.ParticipantJobID(jobID), s.Reason)
	require.Equal(t, bfia.TaskFailed, s.Tasks[0].State)
	require.Equal(t, bfia.TaskReady, s.Tasks[1].State)
	for _, p := range s.Tasks[0].Parties {
		require.Equal(t, bfia.TaskFailed, p.State, "the part at %s ran and was stopped", p.NodeID)
	}
	checkNothingLeft(t, w.guest, jobID, bfia.DeviceProcess)
}

// TestTerminated lets an operator terminate a party's workflow by the engine's own means while a container runs: the run
// ends, since nothing owns it any more.
func TestTerminated(t *testing.T) {
	t.Parallel()
	w := sleepers(t)
	jobID := w.guest.submit(sleepJob(t, 1, map[string]any{"s1": seconds(300)}, nil))
	db := w.host.database()
	require.Eventually(t, func() bool { // RUNNING comes before there is a run
		tasks, err := db.Tasks(t.Context(), jobID)
		return err == nil && tasks[0].ContainerID != ""
	}, time.Minute, 50*time.Millisecond)
	c, err := temporal.Dial(temporal.Options{HostPort: w.host.cfg.Temporal.Address, Namespace: w.host.cfg.Temporal.Namespace})
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.TerminateWorkflow(t.Context(), workflows.ParticipantJobID(jobID), "", "an operator had enough"))
	require.Eventually(t, func() bool {
		tasks, err := db.Tasks(t.Context(), jobID)
		return err == nil && tasks[0].ExitCode != nil
	}, time.Minute, 100*time.Millisecond)
	checkNothingLeft(t, w.host, jobID, bfia.DeviceProcess)
	w.guest.good(http.MethodPost, bfia.PathPlatformStopAll, []byte(`{"job_id":"`+jobID+`"}`), nil)
	w.guest.await(jobID, 30*time.Second, finished)
}

// TestHostIsGone: a task is meant for a host that was there a moment ago and does not take it up. Another one does.
func TestHostIsGone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.guest.start()
	w.host.startAs(party.Roles{API: true, Control: true, Transport: true})
	for _, n := range []*node{w.guest, w.host} {
		n.register(sleepProvider(t), bfia.DeviceProcess)
	}
	db := w.host.database()
	require.NoError(t, db.PutRunner(t.Context(), store.Runner{RunnerID: "gone", NodeID: hostNode, Devices: []string{"process"}, Queue: "host/gone", Slots: 2}))
	jobID := w.guest.submit(sleepJob(t, 1, map[string]any{"s1": seconds(0)}, nil))
	w.host.await(jobID, 20*time.Second, running("s1"))
	stop := w.host.startAs(party.Roles{Runner: true})
	s := w.guest.await(jobID, 2*time.Minute, finished)
	require.Equal(t, bfia.TaskSuccess, s.Tasks[0].State)
	hosts, err := db.Runners(t.Context(), time.Now().Add(-time.Hour))
	require.NoError(t, err)
	require.Len(t, hosts, 2)
	stop()
	hosts, err = db.Runners(t.Context(), time.Now().Add(-time.Hour))
	require.NoError(t, err)
	require.Len(t, hosts, 1, "a host that stops in order says so")
}

// TestPartnerDown submits while the host is away: a clear error soon, and nothing left at the guest.
func TestPartnerDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.guest.start()
	w.guest.register(sleepProvider(t), bfia.DeviceProcess)
	jobID := bfia.NewJobID(time.Now(), 1)
	document := edit(t, sleepJob(t, 1, map[string]any{"s1": seconds(0)}, nil), func(f map[string]any) { f["job_id"] = jobID })
	begun := time.Now()
	env, status := w.guest.ask(http.MethodPost, bfia.PathPlatformCreateAll, document)
	require.False(t, env.OK())
	require.Less(t, time.Since(begun), 25*time.Second)
	require.Equal(t, http.StatusBadGateway, status)
	require.Contains(t, env.Text(), hostNode)
	requireForgotten(t, w.guest, jobID)

	// When the partner is back, the same document is taken: the refusal of then is not the answer of now.
	w.host.start()
	w.host.register(sleepProvider(t), bfia.DeviceProcess)
	require.Eventually(t, func() bool {
		env, _ = w.guest.ask(http.MethodPost, bfia.PathPlatformCreateAll, document)
		return env.OK()
	}, time.Minute, 500*time.Millisecond, "%s", env.Text())
	requireSuccess(t, w.guest.await(jobID, time.Minute, finished))
}

// TestPartnerRefuses submits a job whose dataset the host does not have: its words reach the submitter.
func TestPartnerRefuses(t *testing.T) {
	t.Parallel()
	w := sleepers(t)
	jobID := bfia.NewJobID(time.Now(), 2)
	document := edit(t, sleepJob(t, 1, map[string]any{"s1": seconds(0)}, map[string]map[string]any{
		"host": {"s1": map[string]any{"dataset_id": "nowhere#nothing"}}}), func(f map[string]any) { f["job_id"] = jobID })
	env, status := w.guest.ask(http.MethodPost, bfia.PathPlatformCreateAll, document)
	require.Equal(t, http.StatusNotFound, status, env.Text())
	require.Contains(t, env.Text(), hostNode+` has no dataset "nowhere#nothing"`)
	requireForgotten(t, w.guest, jobID)
	requireForgotten(t, w.host, jobID)
}

// requireForgotten sees to it that nothing of a job is kept that was not created everywhere.
func requireForgotten(t *testing.T, n *node, jobID string) {
	t.Helper()
	db := n.database()
	require.Eventually(t, func() bool {
		_, jobErr := db.Job(t.Context(), jobID)
		_, scheduleErr := db.ScheduleJob(t.Context(), jobID)
		_, documentErr := db.Document(t.Context(), jobID)
		return bfia.CodeOf(jobErr) == bfia.CodeNotFound && bfia.CodeOf(scheduleErr) == bfia.CodeNotFound && bfia.CodeOf(documentErr) == bfia.CodeNotFound
	}, 20*time.Second, 100*time.Millisecond, "job %s is not forgotten at %s", jobID, n.cfg.NodeID)
}

// TestSameJobTwice submits one job several times at once: it is one job, and every answer is good.
func TestSameJobTwice(t *testing.T) {
	t.Parallel()
	w := sleepers(t)
	jobID := bfia.NewJobID(time.Now(), 3)
	document := edit(t, sleepJob(t, 1, map[string]any{"s1": seconds(1)}, nil), func(f map[string]any) { f["job_id"] = jobID })
	var group sync.WaitGroup
	answers := make([]string, 4)
	for i := range answers {
		group.Go(func() {
			env, _ := w.guest.ask(http.MethodPost, bfia.PathPlatformCreateAll, document)
			answers[i] = env.Text()
		})
	}
	group.Wait()
	require.Equal(t, []string{"success", "success", "success", "success"}, answers)
	requireSuccess(t, w.guest.await(jobID, 30*time.Second, finished))
	require.Equal(t, jobID, w.guest.submit(document), "again after its end")

	other := edit(t, document, func(f map[string]any) { f["flow_id"] = "another" })
	env, status := w.guest.ask(http.MethodPost, bfia.PathPlatformCreateAll, other)
	require.Equal(t, http.StatusConflict, status, env.Text())
}

// TestMany runs ten jobs at once.
func TestMany(t *testing.T) {
	t.Parallel()
	w := sleepers(t)
	var jobs []string
	for range 10 {
		jobs = append(jobs, w.guest.submit(sleepJob(t, 2, map[string]any{"s1": seconds(0), "s2": seconds(0)}, nil)))
	}
	for _, id := range jobs {
		requireSuccess(t, w.guest.await(id, time.Minute, finished))
	}
}
