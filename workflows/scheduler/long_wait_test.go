package scheduler

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"hutong/activities/scheduler"
	"hutong/bfia"
	"hutong/workflows"
	"hutong/workflows/internal/flowtest"
)

// TestJobWaitsForWeeks checks that a job whose history has become long continues as new in the queue, again
// and again, and then runs: with its place, its generation and its times, and without another creation.
func TestJobWaitsForMonths(t *testing.T) {
	const wait = 20 * 24 * time.Hour
	f := newFakeParties(t, flowtest.Plan(flowtest.TwoNodes, "a"))
	f.accepted = hutongParties()
	f.accepted[flowtest.NodeB] = bfia.JobAccepted{State: bfia.JobPending, Reservations: true, Callbacks: true}
	f.at(time.Minute, f.audit(flowtest.NodeB, bfia.JobReady, ""))
	f.grant = func(node string, _ int) bfia.Grant {
		if node == flowtest.NodeB && f.env.Now().Sub(f.began) < wait {
			return bfia.Grant{State: bfia.JobReady, Reason: "it is full", Position: 2, Total: 3}
		}
		return bfia.Grant{Granted: true, State: bfia.JobReady, Parallelism: 1}
	}
	for days := range 4 {
		f.continues(time.Duration(days+1) * 4 * 24 * time.Hour)
	}
	r, err := f.run()
	require.NoError(t, err)
	assert.Equal(t, workflows.OutcomeSuccess, r.Outcome)
	assert.Equal(t, 4, f.news)
	assert.GreaterOrEqual(t, f.times["start a A"], wait)
	assert.Less(t, f.times["start a A"], wait+11*time.Minute, "it keeps its polling interval")
	creations := 0
	for _, command := range f.sent {
		if strings.HasPrefix(command, "create ") {
			creations++
		}
	}
	assert.Equal(t, 2, creations, "%v", f.sent)
	assert.Equal(t, []error{nil}, f.answers)
	since := f.in.Queued.Waits.Waits[queueWait].Since.Sub(f.began)
	assert.Equal(t, time.Minute, since.Truncate(time.Minute), "its wait is as old as it was")
}

// TestJobStopsAfterItContinued checks that a stop, a new priority and a hint reach a job that has continued
// as new.
func TestJobStopsAfterItContinued(t *testing.T) {
	f := newFakeParties(t, flowtest.Plan(flowtest.TwoNodes, "a"))
	f.accepted = hutongParties()
	f.turn = func() scheduler.QueueState { return scheduler.QueueState{Reason: "3 jobs are before it"} }
	setPriority := func(priority int) {
		f.env.UpdateWorkflow(workflows.UpdatePriority, "", &testsuite.TestUpdateCallback{OnAccept: func() {},
			OnReject:   func(err error) { f.breaks("priority was rejected: %v", err) },
			OnComplete: func(_ any, err error) { assert.NoError(t, err) }}, priority)
	}
	f.at(time.Minute, func() { setPriority(5) })
	f.continues(time.Hour)
	f.at(3*time.Hour, func() {
		require.Equal(t, 1, f.news)
		setPriority(7)
	})
	f.at(4*time.Hour, func() {
		assert.Contains(t, f.queue, "priority 7")
		f.queue = nil
		f.env.SignalWorkflow(workflows.SignalQueueChanged, nil)
	})
	f.at(4*time.Hour+time.Second, func() { assert.Len(t, f.queue, 1, "it looks at the queue at once") })
	f.at(5*time.Hour, f.stop(""))
	r, err := f.run()
	require.NoError(t, err)
	assert.Equal(t, workflows.OutcomeStopped, r.Outcome)
	assert.Equal(t, 5, f.in.Plan.Priority, "the priority at which the job continued")
}

// TestOldJobDoesNotContinue checks that a job keeps its history if an older worker ignored the suggestion. It
// would not replay otherwise.
func TestOldJobDoesNotContinue(t *testing.T) {
	f := newFakeParties(t, flowtest.Plan(flowtest.TwoNodes, "a"))
	f.accepted = hutongParties()
	f.turn = func() scheduler.QueueState {
		return scheduler.QueueState{MayReserve: f.env.Now().Sub(f.began) > time.Hour}
	}
	f.continues(time.Minute)
	f.env.OnGetVersion("continue-as-new", workflow.DefaultVersion, workflow.Version(1)).
		Return(workflow.DefaultVersion)
	r, err := f.run()
	require.NoError(t, err)
	assert.Equal(t, workflows.OutcomeSuccess, r.Outcome)
	assert.Zero(t, f.news)
}
