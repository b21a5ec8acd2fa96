package participant

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/activities/participant"
	"hutong/bfia"
	"hutong/workflows"
	"hutong/workflows/internal/flowtest"
)

// TestParticipantStopLost checks that a job whose scheduler has ended it ends although job/stop is lost, in
// every state that it can have here.
func TestParticipantStopLost(t *testing.T) {
	failed := &bfia.Failure{Kind: bfia.FailedExit, NodeID: flowtest.NodeB, ExitCode: 3}
	for name, test := range map[string]struct {
		begin   func(c *fakeBackend)
		answer  participant.SchedulerAnswer
		outcome bfia.Outcome
		within  time.Duration
	}{
		"succeeded": {begin: func(c *fakeBackend) { c.start("a") },
			answer: participant.SchedulerAnswer{State: bfia.JobFinished}, outcome: workflows.OutcomeSuccess,
			within: 3 * time.Minute},
		"runs while another party failed": {begin: func(c *fakeBackend) {
			c.runs["a guest.0"] = container{stays: true}
			c.start("a")
		}, answer: participant.SchedulerAnswer{State: bfia.JobFinished, Failure: failed},
			outcome: workflows.OutcomeFailed, within: 3 * time.Minute},
		"never started": {begin: func(*fakeBackend) {},
			answer: participant.SchedulerAnswer{State: bfia.JobFinished}, outcome: workflows.OutcomeStopped,
			within: 3 * time.Minute},
		"rejected elsewhere": {begin: func(c *fakeBackend) { c.in.Approval = true },
			answer: participant.SchedulerAnswer{State: bfia.JobRejected,
				Failure: &bfia.Failure{Kind: bfia.FailedRejected, Message: "rejected by C"}},
			outcome: workflows.OutcomeRejected, within: 3 * time.Minute},
		"unknown to its scheduler": {begin: func(c *fakeBackend) {
			c.runs["a guest.0"] = container{stays: true}
			c.start("a")
		}, answer: participant.SchedulerAnswer{Unknown: true}, outcome: workflows.OutcomeStopped,
			within: 3 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			c := newFakeBackend(t, flowtest.Plan(onlyGuest, "a"))
			c.scheduler = func() (participant.SchedulerAnswer, error) { return test.answer, nil }
			if name == "rejected elsewhere" {
				test.begin(c)
			} else {
				c.at(time.Second, func() { test.begin(c) })
			}
			r, err := c.play()
			require.NoError(t, err)
			assert.Equal(t, test.outcome, r.Outcome)
			require.Len(t, c.asks, 1)
			assert.Less(t, c.asks[0], test.within)
		})
	}
}

// TestParticipantUndoLost checks that a job that was not created at every party is removed although its undo
// is lost.
func TestParticipantUndoLost(t *testing.T) {
	c := newFakeBackend(t, flowtest.Plan(onlyGuest, "a"))
	c.scheduler = func() (participant.SchedulerAnswer, error) {
		return participant.SchedulerAnswer{Unknown: true}, nil
	}
	_, err := c.play()
	require.ErrorContains(t, err, "had it undone")
	assert.Equal(t, []string{"forget"}, c.log)
}

// TestParticipantAsksASilentScheduler checks when a job asks its scheduler: not while commands come, then at
// growing intervals, and also while the scheduler is unreachable.
func TestParticipantAsksASilentScheduler(t *testing.T) {
	c := newFakeBackend(t, flowtest.Plan(onlyGuest, "a", "b<a"))
	c.runs["b guest.0"] = container{after: 4 * time.Hour}
	for i := range 10 {
		c.at(time.Duration(i)*30*time.Second, func() { c.start() })
	}
	c.at(5*time.Minute, func() { c.start("a") })
	c.at(6*time.Minute, func() { c.startTask("b") })
	c.scheduler = func() (participant.SchedulerAnswer, error) {
		if len(c.asks) < 3 {
			return participant.SchedulerAnswer{}, flowtest.RefusedBy(bfia.CodeRefused, "not now")
		}
		return participant.SchedulerAnswer{State: bfia.JobRunning}, nil
	}
	c.at(5*time.Hour, func() { c.stop("") })
	r, err := c.play()
	require.NoError(t, err)
	assert.Equal(t, workflows.OutcomeSuccess, r.Outcome)
	require.Greater(t, len(c.asks), 20)
	assert.Less(t, len(c.asks), 40)
	assert.Greater(t, c.asks[0], 6*time.Minute)
	assert.Less(t, c.asks[0], 9*time.Minute)
	for i := 1; i < len(c.asks); i++ {
		assert.LessOrEqual(t, c.asks[i]-c.asks[i-1], maxAsk+firstAsk)
	}
}
