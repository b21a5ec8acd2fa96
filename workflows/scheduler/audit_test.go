package scheduler

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/workflows"
	"hutong/workflows/internal/flowtest"
)

// TestJobWaitsForApprovals checks that a job starts once all parties that must approve it have, and not
// before.
func TestJobWaitsForApprovals(t *testing.T) {
	f := newFakeParties(
		t,
		flowtest.Plan([]bfia.Part{flowtest.GuestA, flowtest.HostB, {Role: "arbiter", NodeID: "C"}}, "a",
			"b<a"),
	)
	f.accepted["B"] = bfia.JobAccepted{State: bfia.JobPending}
	f.accepted["C"] = bfia.JobAccepted{State: bfia.JobPending}
	const days = 24 * time.Hour
	f.at(time.Minute,
		func() { assert.Equal(t, []error{nil}, f.answers, "who submits does not wait for approvals") })
	f.at(1*days, f.audit("C", bfia.JobReady, ""))
	f.at(2*days, f.audit("C", bfia.JobReady, "")) // repeated
	f.at(3*days, f.audit("X", bfia.JobRejected, "who?"))
	f.at(4*days, func() { assert.Equal(t, bfia.JobPending, f.job) })
	f.at(5*days, f.audit("B", bfia.JobReady, ""))
	f.at(5*days+time.Second/2, f.audit("B", bfia.JobRejected, "too late"))
	r, err := f.run()
	require.NoError(t, err)
	assert.Equal(t, workflows.Result{State: bfia.JobFinished, Outcome: workflows.OutcomeSuccess}, r)
	assert.GreaterOrEqual(t, f.times["start A"], 5*days)
}

// TestJobApprovedAtOnce checks that an approval may come before the answer to the creation.
func TestJobApprovedAtOnce(t *testing.T) {
	f := newFakeParties(t, flowtest.Plan(flowtest.TwoNodes, "a"))
	f.accepted["B"] = bfia.JobAccepted{State: bfia.JobPending}
	f.onSend = func(command string, _ int) {
		if command == "create B" {
			f.audit("B", bfia.JobReady, "")()
		}
	}
	r, err := f.run()
	require.NoError(t, err)
	assert.Equal(t, workflows.OutcomeSuccess, r.Outcome)
}

func TestJobRejected(t *testing.T) {
	f := newFakeParties(t, flowtest.Plan(flowtest.TwoNodes, "a", "b<a"))
	f.accepted["A"] = bfia.JobAccepted{State: bfia.JobPending}
	f.accepted["B"] = bfia.JobAccepted{State: bfia.JobPending}
	f.at(time.Minute, f.audit("A", bfia.JobReady, ""))
	f.at(time.Hour, f.audit("B", bfia.JobRejected, "not with our customers"))
	f.at(time.Hour, f.audit("B", bfia.JobReady, ""))
	r, err := f.run()
	require.NoError(t, err)
	assert.Equal(
		t,
		workflows.Result{
			State:   bfia.JobRejected,
			Outcome: workflows.OutcomeRejected,
			Reason:  "rejected by B: not with our customers",
		},
		r,
	)
	assert.False(t,
		slices.ContainsFunc(f.sent, func(s string) bool { return s == "start A" || s == "start B" }), f.sent)
	for _, ref := range f.stops {
		assert.Equal(t, "rejected by B: not with our customers", ref.Reason)
	}
	assert.Len(t, f.stops, 2)
}

// TestJobStoppedWhileItWaits checks that a job that waits for approvals can be stopped.
func TestJobStoppedWhileItWaits(t *testing.T) {
	f := newFakeParties(t, flowtest.Plan(flowtest.TwoNodes, "a"))
	f.accepted["B"] = bfia.JobAccepted{State: bfia.JobPending}
	f.at(time.Hour, f.stop(""))
	r, err := f.run()
	require.NoError(t, err)
	assert.Equal(
		t,
		workflows.Result{
			State:   bfia.JobFinished,
			Outcome: workflows.OutcomeStopped,
			Reason:  "stopped by someone",
		},
		r,
	)
}
