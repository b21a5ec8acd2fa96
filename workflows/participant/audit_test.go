package participant

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/workflows"
	"hutong/workflows/internal/flowtest"
)

// newUnapproved returns the fake of a job that waits for its approval.
func newUnapproved(t *testing.T) *fakeBackend {
	c := newFakeBackend(t, flowtest.Plan(onlyGuest, "a"))
	c.in.Approval = true
	return c
}

// TestParticipantApproved checks that nothing starts before the approval, and that the scheduler learns of
// it.
func TestParticipantApproved(t *testing.T) {
	c := newUnapproved(t)
	c.errors["SendAudit"] = flowtest.ErrAway
	c.at(time.Second, func() { c.start("a") }) // by a scheduler that ignores approvals
	c.at(time.Minute, func() {
		assert.Equal(t, bfia.JobPending, c.job)
		c.audit(bfia.JobReady, "")
	})
	c.at(time.Minute+30*time.Second, func() {
		assert.Equal(t, bfia.JobReady, c.job)
		c.audit(bfia.JobReady, "")
		c.audit(bfia.JobRejected, "no")
		c.mu.Lock()
		delete(c.errors, "SendAudit")
		c.mu.Unlock()
	})
	c.at(time.Hour, func() { c.start("a") })
	c.at(2*time.Hour, func() { c.stop("") })
	r, err := c.play()
	require.NoError(t, err)
	assert.Equal(t, workflows.OutcomeSuccess, r.Outcome)
	assert.Equal(t, bfia.TaskSuccess, c.rows["a guest.0"])
	assert.GreaterOrEqual(t, c.times["run a guest.0"], time.Hour)
	c.before(t, "audit READY ", "run a guest.0")
	require.Len(t, c.audits, 3)
	assert.NoError(t, c.audits[0])
	assert.NoError(t, c.audits[1])
	code, _, _ := workflows.RefusalCode(c.audits[2])
	assert.Equal(t, bfia.CodeConflict, code)
}

func TestParticipantRejected(t *testing.T) {
	c := newUnapproved(t)
	c.at(time.Minute, func() {
		c.audit(bfia.JobRejected, "no budget")
		c.audit(bfia.JobRejected, "no budget")
		c.audit(bfia.JobReady, "")
	})
	r, err := c.play()
	require.NoError(t, err)
	assert.Equal(
		t,
		workflows.Result{
			State:   bfia.JobRejected,
			Outcome: workflows.OutcomeRejected,
			Reason:  "rejected by A: no budget",
		},
		r,
	)
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

// TestParticipantRejectedElsewhere checks that a rejection at another party ends the job here, whether or not
// it was approved here.
func TestParticipantRejectedElsewhere(t *testing.T) {
	for _, approve := range []bool{true, false} {
		c := newUnapproved(t)
		if approve {
			c.at(time.Minute, func() { c.audit(bfia.JobReady, "") })
		}
		c.at(time.Hour, func() {
			c.env.SignalWorkflow(workflows.SignalStop,
				workflows.Stop{By: flowtest.NodeB, Rejected: true, Reason: "rejected by C: no"})
		})
		r, err := c.play()
		require.NoError(t, err)
		assert.Equal(
			t,
			workflows.Result{
				State:   bfia.JobRejected,
				Outcome: workflows.OutcomeRejected,
				Reason:  "rejected by C: no",
			},
			r,
		)
	}
}

// TestParticipantStoppedWhileItWaits checks that a job that waits for its approval can be stopped and undone.
func TestParticipantStoppedWhileItWaits(t *testing.T) {
	c := newUnapproved(t)
	c.at(time.Hour, func() { c.stop("") })
	r, err := c.play()
	require.NoError(t, err)
	assert.Equal(t,
		workflows.Result{State: bfia.JobFinished, Outcome: workflows.OutcomeStopped, Reason: "stopped by B"},
		r)

	c = newUnapproved(t)
	c.at(time.Hour,
		func() { c.env.SignalWorkflow(workflows.SignalStop, workflows.Stop{By: flowtest.NodeB, Undo: true}) })
	_, err = c.play()
	require.Error(t, err)
	assert.Empty(t, c.rows)
}
