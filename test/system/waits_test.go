package system

import (
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.temporal.io/api/enums/v1"
	sdk "go.temporal.io/api/sdk/v1"
	temporal "go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"

	"hutong/bfia"
	"hutong/internal/party"
	"hutong/store"
	"hutong/workflows"
)

// expectedWait is a wait that every view of a job must show.
type expectedWait struct {
	kind  bfia.WaitingKind
	node  string // for which, or at which, it waits
	words string
	// workflow is the id of the workflow that shows it in its details, and memo whether lists of Temporal
	// have it. Nothing does if it is empty.
	workflow string
	memo     bool
	unlisted bool // the job proceeds all the same, or has ended
}

// TestEveryWaitHasAReason puts real jobs into everything for which a job can wait. The status as JSON, the
// drawing of the status, the list and Temporal's UI say why, and since when. None of them does once the wait
// has ended.
func TestEveryWaitHasAReason(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]func(*testing.T){
		"approval": testWaitForApproval, "queue": testWaitInQueue, "drained runner": testWaitForDrainedRunner,
		"absent runner": testWaitForAbsentRunner, "partner at the start": testWaitForPartnerAtStart,
		"partner during a task": testWaitForPartnerInTask, "slot": testWaitForSlot, "retry": testWaitForRetry,
		"database of a runner": testWaitForDatabaseOfRunner,
		"database of a party":  testWaitForDatabaseOfParty,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t)
		})
	}
}

func testWaitForApproval(t *testing.T) {
	pair := startSleepPair(t, func(c *party.Config) {
		if c.NodeID == hostNode {
			c.Jobs.Approval = party.ApprovalManual
		}
	})
	jobID := pair.guest.submit(sleepFor(t, time.Hour, nil))
	w := expectedWait{kind: bfia.WaitsForApproval, node: hostNode, memo: true,
		words: "waits for the approval of " + hostNode + ": a person there runs 'hutong job approve " + jobID}
	for _, n := range []*testParty{pair.guest, pair.host} {
		w.workflow = workflows.ParticipantJobID(jobID)
		if n == pair.guest {
			w.workflow = workflows.SchedulerJobID(jobID)
		}
		n.requireShownWait(jobID, w)
	}
	env, _ := pair.host.audit(jobID, bfia.JobReady, "")
	require.True(t, env.OK(), env.Text())
	pair.guest.requireNoWait(jobID, w, isTaskRunning("s1"))
	w.workflow = workflows.ParticipantJobID(jobID)
	pair.host.requireNoWait(jobID, w, isTaskRunning("s1"))
	pair.endJob(jobID)
}

func testWaitInQueue(t *testing.T) {
	pair := startSleepPair(t, func(c *party.Config) {
		if c.NodeID == guestNode {
			c.Jobs.MaxJobs = 1
		}
	})
	first := pair.guest.submit(sleepFor(t, time.Hour, nil))
	pair.guest.awaitJob(first, time.Minute, isTaskRunning("s1"))
	second := pair.guest.submit(sleepFor(t, time.Hour, nil))
	w := expectedWait{kind: bfia.WaitsForQueue, workflow: workflows.SchedulerJobID(second), memo: true,
		words: "in the queue"}
	pair.guest.requireShownWait(second, w)
	pair.host.requireShownWait(second, expectedWait{kind: bfia.WaitsForScheduler, node: guestNode,
		words: "waits for its scheduler " + guestNode, workflow: workflows.ParticipantJobID(second)})
	pair.guest.stopJob(first)
	pair.guest.requireNoWait(second, w, isTaskRunning("s1"))
	pair.endJob(second)
}

func testWaitForDrainedRunner(t *testing.T) {
	pair := startSleepPair(t, nil)
	runners, err := pair.host.database().Runners(t.Context(), time.Minute)
	require.NoError(t, err)
	drain := func(draining bool) {
		body, err := json.Marshal(map[string]any{"runner_id": runners[0].RunnerID, "draining": draining})
		require.NoError(t, err)
		pair.host.mustRequest(http.MethodPost, "/v2/runner/drain", body, nil)
	}
	drain(true)
	jobID := pair.guest.submit(sleepFor(t, time.Hour, nil))
	w := expectedWait{kind: bfia.WaitsForQueue, node: hostNode, memo: true, words: "is draining",
		workflow: workflows.SchedulerJobID(jobID)}
	pair.guest.requireShownWait(jobID, w)
	atHost := expectedWait{kind: bfia.WaitsForResources, node: hostNode, words: "is draining",
		workflow: workflows.ParticipantJobID(jobID)}
	pair.host.requireShownWait(jobID, atHost)
	drain(false)
	pair.guest.requireNoWait(jobID, w, isTaskRunning("s1"))
	pair.host.requireNoWait(jobID, atHost, isTaskRunning("s1"))
	pair.endJob(jobID)
}

// A task is claimed by a runner that does not start it.
func testWaitForAbsentRunner(t *testing.T) {
	pair := newPartyPair(t, nil)
	pair.guest.start()
	pair.host.startAs(party.Roles{API: true, Control: true, Transport: true})
	for _, n := range []*testParty{pair.guest, pair.host} {
		n.register(sleepProvider(t), bfia.DeviceProcess)
	}
	require.NoError(t, pair.host.database().PutRunner(t.Context(), store.Runner{RunnerID: "gone",
		NodeID: hostNode, Devices: []string{"process"}, TaskQueue: "host/gone", Slots: 2}))
	jobID := pair.guest.submit(sleepFor(t, time.Hour, nil))
	atHost := expectedWait{kind: bfia.WaitsForRunner, node: hostNode,
		words:    "waits for a runner: gone has not started its container",
		workflow: workflows.ParticipantJobID(jobID)}
	pair.host.requireShownWait(jobID, atHost)
	// The scheduler learns of it by polling, without the host's message, which names a runner.
	atGuest := atHost
	atGuest.words, atGuest.workflow = "waits for a runner", workflows.SchedulerJobID(jobID)
	pair.guest.requireShownWait(jobID, atGuest)

	pair.host.startAs(party.Roles{Runner: true})
	pair.host.requireNoWait(jobID, atHost, isTaskRunning("s1"))
	pair.guest.requireNoWait(jobID, atGuest, isTaskRunning("s1"))
	pair.endJob(jobID)
}

// The host is away when the job's turn comes.
func testWaitForPartnerAtStart(t *testing.T) {
	pair := newPartyPair(t, func(c *party.Config) {
		if c.NodeID == guestNode {
			c.Jobs.MaxJobs = 1
		}
	})
	pair.guest.start()
	stopHost := pair.host.start()
	for _, n := range []*testParty{pair.guest, pair.host} {
		n.register(sleepProvider(t), bfia.DeviceProcess)
	}
	first := pair.guest.submit(sleepFor(t, time.Hour, nil))
	pair.guest.awaitJob(first, time.Minute, isTaskRunning("s1"))
	second := pair.guest.submit(sleepFor(t, time.Hour, nil))
	pair.guest.awaitJob(second, time.Minute, isWaiting(bfia.WaitsForQueue))
	stopHost()
	pair.guest.stopJob(first)
	queued := expectedWait{kind: bfia.WaitsForQueue, node: hostNode, memo: true,
		words: hostNode + ": does not answer: ", workflow: workflows.SchedulerJobID(second)}
	pair.guest.requireShownWait(second, queued)
	// The first job has ended, and the host does not know that yet.
	stopping := expectedWait{kind: bfia.WaitsForPartner, node: hostNode, memo: true, unlisted: true,
		words: "tries again to stop at " + hostNode, workflow: workflows.SchedulerJobID(first)}
	pair.guest.requireShownWait(first, stopping)
	pair.host.start()
	pair.guest.requireNoWait(first, stopping, isFinished)
	pair.guest.requireNoWait(second, queued, isTaskRunning("s1"))
	pair.endJob(second)
}

// The host is away while a task runs.
func testWaitForPartnerInTask(t *testing.T) {
	pair := newPartyPair(t, func(c *party.Config) {
		c.Jobs.PollAfter, c.Jobs.PollEvery = time.Second,
			time.Second
	})
	pair.guest.start()
	stopHost := pair.host.start()
	for _, n := range []*testParty{pair.guest, pair.host} {
		n.register(sleepProvider(t), bfia.DeviceProcess)
	}
	jobID := pair.guest.submit(sleepFor(t, time.Hour, nil))
	pair.guest.awaitJob(jobID, time.Minute, isTaskRunning("s1"))
	stopHost()
	w := expectedWait{kind: bfia.WaitsForPartner, node: hostNode,
		words: hostNode + " does not say what its part does: ", workflow: workflows.SchedulerJobID(jobID)}
	pair.guest.requireShownWait(jobID, w)
	pair.host.start()
	pair.guest.requireNoWait(jobID, w, isTaskRunning("s1"))
	pair.endJob(jobID)
}

// One slot runs one branch after the other.
func testWaitForSlot(t *testing.T) {
	pair := startSleepPair(t, func(c *party.Config) { c.Runner.Slots = 1 })
	jobID := pair.guest.submit(editJSON(t, sleepJob(t, 2, map[string]any{"s1": seconds(3600),
		"s2": seconds(3600)}, nil), func(f map[string]any) {
		f["dag"].(map[string]any)["components"].([]any)[1].(map[string]any)["input"] = []any{}
	}))
	w := expectedWait{kind: bfia.WaitsForSlot, node: guestNode, unlisted: true,
		words:    "waits for a slot: the reservation at " + guestNode + " runs 1 task of the job at a time",
		workflow: workflows.SchedulerJobID(jobID)}
	pair.guest.requireShownWait(jobID, w)
	pair.guest.stopJob(jobID)
	pair.guest.requireNoWait(jobID, w, isFinished)
	pair.endJob(jobID)
}

// The host's runner can't create containers for a while.
func testWaitForRetry(t *testing.T) {
	pair := startSleepPair(t, nil)
	runs := filepath.Join(pair.host.cfg.DataDir, "runs")
	require.NoError(t, os.Rename(runs, runs+".away"))
	require.NoError(t, os.WriteFile(runs, nil, 0o600))
	jobID := pair.guest.submit(sleepFor(t, time.Hour, nil))
	w := expectedWait{kind: bfia.WaitsForRetry, node: hostNode, words: "tries again: ",
		workflow: workflows.ParticipantJobID(jobID)}
	pair.host.requireShownWait(jobID, w)
	atGuest := w
	atGuest.words, atGuest.workflow = "waits for the next try", workflows.SchedulerJobID(jobID)
	pair.guest.requireShownWait(jobID, atGuest)
	require.NoError(t, os.Remove(runs))
	require.NoError(t, os.Rename(runs+".away", runs))
	pair.host.requireNoWait(jobID, w, isTaskRunning("s1"))
	pair.guest.requireNoWait(jobID, atGuest, isTaskRunning("s1"))
	pair.endJob(jobID)
}

func (n *testParty) stopJob(jobID string) {
	n.t.Helper()
	n.mustRequest(http.MethodPost, bfia.PathPlatformStopAll, []byte(`{"job_id":"`+jobID+`"}`), nil)
}

// endJob stops a job, and waits until its containers are gone at both parties.
func (pair *partyPair) endJob(jobID string) {
	pair.t.Helper()
	pair.guest.stopJob(jobID)
	for _, n := range []*testParty{pair.guest, pair.host} {
		n.requireWorkflowStatus(workflows.ParticipantJobID(jobID), enums.WORKFLOW_EXECUTION_STATUS_CANCELED,
			bfia.OutcomeStopped)
	}
}

// matches reports whether a wait is the expected one.
func (w expectedWait) matches(got *bfia.Waiting) bool {
	return got != nil && got.Kind == w.kind && (w.node == "" || got.NodeID == w.node) &&
		strings.Contains(got.Text(), w.words)
}

// find returns the expected wait of a job, of one of its tasks, or of one of their parts.
func (w expectedWait) find(s bfia.JobStatus) *bfia.Waiting {
	for i := range s.Waiting {
		if w.matches(&s.Waiting[i]) {
			return &s.Waiting[i]
		}
	}
	for _, t := range s.Tasks {
		if w.matches(t.Waiting) {
			return t.Waiting
		}
		for _, p := range t.Parties {
			if w.matches(p.Waiting) {
				return p.Waiting
			}
		}
	}
	return nil
}

// requireShownWait waits until the status of a job has a wait, and checks that all views show it, with a
// time.
func (n *testParty) requireShownWait(jobID string, w expectedWait) {
	n.t.Helper()
	begun := time.Now()
	s := n.awaitJob(jobID, 2*time.Minute, func(s bfia.JobStatus) bool { return w.find(s) != nil })
	since := w.find(s).Since
	require.WithinDuration(n.t, begun, since, 2*time.Minute)

	flat := func(text string) string { return strings.Join(strings.Fields(text), " ") }
	text, _ := n.hutong("job", "status", jobID)
	require.Contains(n.t, flat(text), w.words)
	require.Regexp(n.t, `, for [0-9]`, text, "the drawing says since when")
	listed := n.listed(jobID, url.Values{}).Waiting
	if !w.unlisted {
		require.True(n.t, slices.ContainsFunc(listed, func(got bfia.Waiting) bool { return w.matches(&got) }),
			"%+v", listed)
		text, err := n.hutong("job", "list")
		require.NoError(n.t, err, text)
		require.Contains(n.t, flat(text), w.words)
	}
	n.requireWaitInTemporal(w)
}

// requireWaitInTemporal checks that Temporal's UI shows a wait, and since when.
func (n *testParty) requireWaitInTemporal(w expectedWait) {
	n.t.Helper()
	require.EventuallyWithT(n.t, func(c *assert.CollectT) {
		details, memo := n.temporalViews(w.workflow)
		line := lineWith(details, w.words)
		require.Contains(c, line, "(since ", details)
		if w.memo {
			require.Contains(c, memo, " since ")
		}
	}, 90*time.Second, 200*time.Millisecond)
}

// requireNoWait waits until a job has a status, and until no view shows a wait that has ended.
func (n *testParty) requireNoWait(jobID string, w expectedWait, status func(bfia.JobStatus) bool) {
	n.t.Helper()
	n.awaitJob(jobID, 2*time.Minute, func(s bfia.JobStatus) bool { return status(s) && w.find(s) == nil })
	require.EventuallyWithT(n.t, func(c *assert.CollectT) {
		details, memo := n.temporalViews(w.workflow)
		require.NotContains(c, details, w.words)
		require.Empty(c, memo)
		text, _ := n.hutong("job", "list")
		require.NotContains(c, lineWith(text, jobID), w.words)
	}, 90*time.Second, 200*time.Millisecond)
}

func lineWith(text, words string) string {
	for line := range strings.Lines(text) {
		if strings.Contains(line, words) {
			return line
		}
	}
	return ""
}

// temporalViews returns the details of a workflow and the wait that lists of Temporal show.
func (n *testParty) temporalViews(workflowID string) (details, memo string) {
	n.t.Helper()
	c, err := temporal.Dial(
		temporal.Options{HostPort: n.cfg.Temporal.Address, Namespace: n.cfg.Temporal.Namespace})
	require.NoError(n.t, err)
	defer c.Close()
	value, err := c.QueryWorkflow(n.t.Context(), workflowID, "", "__temporal_workflow_metadata")
	if err != nil {
		return "failed to ask " + workflowID + ": " + err.Error(), "unknown"
	}
	var metadata sdk.WorkflowMetadata
	require.NoError(n.t, value.Get(&metadata))
	described, err := c.DescribeWorkflowExecution(n.t.Context(), workflowID, "")
	require.NoError(n.t, err)
	if payload, ok := described.WorkflowExecutionInfo.GetMemo().GetFields()["waiting"]; ok {
		require.NoError(n.t, converter.GetDefaultDataConverter().FromPayload(payload, &memo))
	}
	return metadata.CurrentDetails, memo
}
