package workflows

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/activities"
	"hutong/bfia"
)

// A job starts when all have approved it that must, however long that takes, and not before.
func TestJobWaitsForApprovals(t *testing.T) {
	f := newFederation(t, plan([]bfia.Part{guestA, hostB, {Role: "arbiter", NodeID: "C"}}, "a", "b<a"))
	f.accepted["B"] = bfia.JobAccepted{State: bfia.JobPending}
	f.accepted["C"] = bfia.JobAccepted{State: bfia.JobPending}
	const days = 24 * time.Hour
	f.at(time.Minute, func() { assert.Equal(t, []error{nil}, f.answers, "who submits does not wait for approvals") })
	f.at(1*days, f.audit("C", bfia.JobReady, ""))
	f.at(2*days, f.audit("C", bfia.JobReady, "")) // again
	f.at(3*days, f.audit("X", bfia.JobRejected, "who?"))
	f.at(4*days, func() { assert.Equal(t, bfia.JobPending, f.job) })
	f.at(5*days, f.audit("B", bfia.JobReady, ""))
	f.at(5*days+time.Second/2, f.audit("B", bfia.JobRejected, "too late"))
	r, err := f.run()
	require.NoError(t, err)
	assert.Equal(t, Result{State: bfia.JobFinished, Outcome: OutcomeSuccess}, r)
	assert.GreaterOrEqual(t, f.times["start A"], 5*days)
}

// An approval may come before the answer to the creation is heard.
func TestJobApprovedAtOnce(t *testing.T) {
	f := newFederation(t, plan(twoNodes, "a"))
	f.accepted["B"] = bfia.JobAccepted{State: bfia.JobPending}
	f.onSend = func(command string, _ int) {
		if command == "create B" {
			f.audit("B", bfia.JobReady, "")()
		}
	}
	r, err := f.run()
	require.NoError(t, err)
	assert.Equal(t, OutcomeSuccess, r.Outcome)
}

func TestJobRejected(t *testing.T) {
	f := newFederation(t, plan(twoNodes, "a", "b<a"))
	f.accepted["A"] = bfia.JobAccepted{State: bfia.JobPending}
	f.accepted["B"] = bfia.JobAccepted{State: bfia.JobPending}
	f.at(time.Minute, f.audit("A", bfia.JobReady, ""))
	f.at(time.Hour, f.audit("B", bfia.JobRejected, "not with our customers"))
	f.at(time.Hour, f.audit("B", bfia.JobReady, ""))
	r, err := f.run()
	require.NoError(t, err)
	assert.Equal(t, Result{State: bfia.JobRejected, Outcome: OutcomeRejected, Reason: "rejected by B: not with our customers"}, r)
	assert.False(t, slices.ContainsFunc(f.sent, func(s string) bool { return s == "start A" || s == "start B" }), f.sent)
	for _, ref := range f.stops {
		assert.Equal(t, "rejected by B: not with our customers", ref.Reason)
	}
	assert.Len(t, f.stops, 2)
}

// A job that waits can be stopped.
func TestJobStoppedWhileItWaits(t *testing.T) {
	f := newFederation(t, plan(twoNodes, "a"))
	f.accepted["B"] = bfia.JobAccepted{State: bfia.JobPending}
	f.at(time.Hour, f.stop(""))
	r, err := f.run()
	require.NoError(t, err)
	assert.Equal(t, Result{State: bfia.JobFinished, Outcome: OutcomeStopped, Reason: "stopped by someone"}, r)
}

func waiting(t *testing.T) *courtyard {
	c := newCourtyard(t, plan(onlyGuest, "a"))
	c.in.Approval = true
	return c
}

// Nothing starts that was not approved, and the scheduler hears of the approval.
func TestPartyJobApproved(t *testing.T) {
	c := waiting(t)
	c.errors[activities.SendAuditName] = errAway
	c.at(time.Second, func() { c.start("a") }) // by a scheduler that asks nobody
	c.at(time.Minute, func() {
		assert.Equal(t, bfia.JobPending, c.job)
		c.audit(bfia.JobReady, "")
	})
	c.at(time.Minute+30*time.Second, func() {
		assert.Equal(t, bfia.JobReady, c.job)
		c.audit(bfia.JobReady, "")
		c.audit(bfia.JobRejected, "no")
		c.mu.Lock()
		delete(c.errors, activities.SendAuditName)
		c.mu.Unlock()
	})
	c.at(time.Hour, func() { c.start("a") })
	c.at(2*time.Hour, func() { c.stop("") })
	r, err := c.play()
	require.NoError(t, err)
	assert.Equal(t, OutcomeSuccess, r.Outcome)
	assert.Equal(t, bfia.TaskSuccess, c.rows["a guest.0"])
	assert.GreaterOrEqual(t, c.times["run a guest.0"], time.Hour)
	c.before(t, "audit READY ", "run a guest.0")
	require.Len(t, c.audits, 3)
	assert.NoError(t, c.audits[0])
	assert.NoError(t, c.audits[1])
	code, _, _ := RefusalCode(c.audits[2])
	assert.Equal(t, bfia.CodeConflict, code)
}

func TestPartyJobRejected(t *testing.T) {
	c := waiting(t)
	c.at(time.Minute, func() {
		c.audit(bfia.JobRejected, "no budget")
		c.audit(bfia.JobRejected, "no budget")
		c.audit(bfia.JobReady, "")
	})
	r, err := c.play()
	require.NoError(t, err)
	assert.Equal(t, Result{State: bfia.JobRejected, Outcome: OutcomeRejected, Reason: "rejected by A: no budget"}, r)
	assert.Contains(t, c.log, "audit REJECTED no budget")
	require.Len(t, c.audits, 3)
	errs := 0
	for _, err := range c.audits {
		if err != nil {
			errs++
		}
	}
	assert.Equal(t, 1, errs, "the first word counts")
}

// A rejection elsewhere ends the job here, whether it was approved here or not.
func TestPartyJobRejectedElsewhere(t *testing.T) {
	for _, approve := range []bool{true, false} {
		c := waiting(t)
		if approve {
			c.at(time.Minute, func() { c.audit(bfia.JobReady, "") })
		}
		c.at(time.Hour, func() {
			c.env.SignalWorkflow(SignalStop, Stop{By: nodeB, Rejected: true, Reason: "rejected by C: no"})
		})
		r, err := c.play()
		require.NoError(t, err)
		assert.Equal(t, Result{State: bfia.JobRejected, Outcome: OutcomeRejected, Reason: "rejected by C: no"}, r)
	}
}

// What waits may be stopped, and undone.
func TestPartyJobStoppedWhileItWaits(t *testing.T) {
	c := waiting(t)
	c.at(time.Hour, func() { c.stop("") })
	r, err := c.play()
	require.NoError(t, err)
	assert.Equal(t, Result{State: bfia.JobFinished, Outcome: OutcomeStopped, Reason: "stopped by B"}, r)

	c = waiting(t)
	c.at(time.Hour, func() { c.env.SignalWorkflow(SignalStop, Stop{By: nodeB, Undo: true}) })
	_, err = c.play()
	require.Error(t, err)
	assert.Empty(t, c.rows)
}
