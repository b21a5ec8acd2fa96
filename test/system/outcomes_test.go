package system

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/enums/v1"
	temporal "go.temporal.io/sdk/client"

	"hutong/bfia"
	"hutong/workflows"
)

// TestOutcomes has jobs that succeed, fail, are stopped and are refused. The list shows the outcomes and
// reasons, its filters select them, and Temporal's statuses say the same at both parties.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	pair := startSleepPair(t, nil)
	good := pair.guest.submit(sleepJob(t, 1, map[string]any{"s1": seconds(0)}, nil))
	failed := pair.guest.submit(sleepJob(t, 2, map[string]any{"s1": seconds(0), "s2": seconds(1)},
		map[string]map[string]any{"host": {"s2": map[string]any{"seconds": 0, "exit_code": 3}}}))
	stopped := pair.guest.submit(sleepJob(t, 1, map[string]any{"s1": seconds(60)}, nil))
	pair.guest.awaitJob(stopped, time.Minute, isTaskRunning("s1"))
	pair.guest.mustRequest(http.MethodPost, bfia.PathPlatformStopAll, []byte(`{"job_id":"`+stopped+`"}`), nil)

	for _, c := range []struct {
		job     string
		outcome bfia.Outcome
		reason  string
		status  enums.WorkflowExecutionStatus
	}{
		{good, bfia.OutcomeSuccess, "", enums.WORKFLOW_EXECUTION_STATUS_COMPLETED},
		{failed, bfia.OutcomeFailed, "task s2 failed at " + hostNode + " (host.0): exit code 3",
			enums.WORKFLOW_EXECUTION_STATUS_FAILED},
		{stopped, bfia.OutcomeStopped, "stopped by " + guestNode, enums.WORKFLOW_EXECUTION_STATUS_CANCELED},
	} {
		for _, n := range []*testParty{pair.guest, pair.host} {
			s := n.awaitJob(c.job, time.Minute, isFinished)
			require.Equal(t, c.outcome, s.Outcome)
			// The list has the party's own rows, which may end after the scheduler's.
			n.requireWorkflowStatus(workflows.ParticipantJobID(c.job), c.status, c.outcome)
			row := n.listed(c.job, url.Values{})
			require.Equal(t, c.outcome, row.Outcome, "at %s", n.cfg.NodeID)
			require.Equal(t, c.reason, row.Reason, "at %s", n.cfg.NodeID)
			require.Equal(t, c.outcome == bfia.OutcomeSuccess, row.Failure == nil)
			require.ElementsMatch(t, []string{guestNode, hostNode}, row.Parties)
		}
		pair.guest.requireWorkflowStatus(workflows.SchedulerJobID(c.job), c.status, c.outcome)
		require.Equal(t, []string{c.job},
			pair.guest.listedIDs(url.Values{"outcome": {string(c.outcome)}, "job_status": {"FINISHED"}}))
	}
	require.Empty(t, pair.guest.listedIDs(url.Values{"job_status": {"PENDING,READY,RUNNING"}}))
	require.Equal(t, []string{stopped, failed},
		pair.guest.listedIDs(url.Values{"outcome": {"failed,stopped"}}))
	require.Len(t, pair.guest.listedIDs(url.Values{"partner": {hostNode}}), 3)
	require.Empty(t, pair.guest.listedIDs(url.Values{"partner": {"JG9999999999999999"}}))
	now := time.Now().Add(2 * time.Second).UTC().Format(time.RFC3339) // in whole seconds
	require.Empty(t, pair.guest.listedIDs(url.Values{"since": {now}}))
	require.Len(t, pair.guest.listedIDs(url.Values{"until": {now}}), 3)
	env, _ := pair.guest.request(http.MethodGet, bfia.PathPlatformJobList+"?outcome=lost", nil)
	require.Contains(t, env.Text(), `outcome: "LOST" is none of SUCCESS, FAILED, STOPPED, REJECTED`)
}

// TestRefusedSubmission checks that a job which a party refuses is no failed workflow at any party, that the
// same id can be submitted again, and that an id that had a job is answered as before.
func TestRefusedSubmission(t *testing.T) {
	t.Parallel()
	pair := newPartyPair(t, nil)
	pair.guest.start()
	stopHost := pair.host.start()
	pair.guest.register(sleepProvider(t), bfia.DeviceProcess) // and not at the host, which therefore refuses
	id := bfia.NewJobID(time.Now(), 0)
	document := append([]byte(`{"job_id":"`+id+`",`), sleepJob(t, 1,
		map[string]any{"s1": map[string]any{"seconds": 0, "exit_code": 3}}, nil)[1:]...)

	env, _ := pair.guest.request(http.MethodPost, bfia.PathPlatformCreateAll, document)
	require.False(t, env.OK())
	pair.guest.requireWorkflowStatus(workflows.SchedulerJobID(id), enums.WORKFLOW_EXECUTION_STATUS_COMPLETED,
		bfia.OutcomeRefused)
	pair.guest.requireWorkflowStatus(workflows.ParticipantJobID(id),
		enums.WORKFLOW_EXECUTION_STATUS_COMPLETED,
		bfia.OutcomeRefused)
	require.Empty(t, pair.guest.listedIDs(url.Values{}))

	pair.host.register(sleepProvider(t), bfia.DeviceProcess)
	require.Equal(t, id, pair.guest.submit(document))
	first := pair.guest.awaitJob(id, time.Minute, isFinished)
	require.Equal(t, bfia.OutcomeFailed, first.Outcome)
	pair.guest.requireWorkflowStatus(workflows.SchedulerJobID(id), enums.WORKFLOW_EXECUTION_STATUS_FAILED,
		bfia.OutcomeFailed)
	pair.guest.requireWorkflowStatus(workflows.ParticipantJobID(id), enums.WORKFLOW_EXECUTION_STATUS_FAILED,
		bfia.OutcomeFailed)
	first = pair.guest.status(id) // with what was recorded after the end

	stopHost() // a repeated submission starts nothing, and needs no partner
	require.Equal(t, id, pair.guest.submit(document))
	require.Equal(t, first, pair.guest.status(id))
}

// listed returns a job's row of the list.
func (n *testParty) listed(jobID string, filter url.Values) bfia.JobSummary {
	n.t.Helper()
	for _, row := range n.jobs(filter) {
		if row.JobID == jobID {
			return row
		}
	}
	n.t.Fatalf("%s does not list job %s", n.cfg.NodeID, jobID)
	return bfia.JobSummary{}
}

func (n *testParty) jobs(filter url.Values) []bfia.JobSummary {
	n.t.Helper()
	var list bfia.JobList
	n.mustRequest(http.MethodGet, bfia.PathPlatformJobList+"?"+filter.Encode(), nil, &list)
	return list.Jobs
}

func (n *testParty) listedIDs(filter url.Values) (ids []string) {
	for _, row := range n.jobs(filter) {
		ids = append(ids, row.JobID)
	}
	return ids
}

// requireWorkflowStatus checks the status and the state with which a workflow closed.
func (n *testParty) requireWorkflowStatus(id string, status enums.WorkflowExecutionStatus,
	outcome bfia.Outcome,
) {
	n.t.Helper()
	c, err := temporal.Dial(
		temporal.Options{HostPort: n.cfg.Temporal.Address, Namespace: n.cfg.Temporal.Namespace})
	require.NoError(n.t, err)
	defer c.Close()
	_ = c.GetWorkflow(n.t.Context(), id, "").Get(n.t.Context(), nil) // rows have the end before it closes
	described, err := c.DescribeWorkflow(n.t.Context(), id, "")
	require.NoError(n.t, err)
	require.Equal(n.t, status, described.Status, "%s at %s", id, n.cfg.NodeID)
	state, _ := described.TypedSearchAttributes.GetKeyword(workflows.AttributeState)
	require.Equal(n.t, string(outcome), state)
}
