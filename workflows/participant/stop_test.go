package participant

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

func TestParticipantStopped(t *testing.T) {
	for _, c := range []struct {
		name   string
		how    container
		prep   func(c *fakeBackend)
		at     time.Duration
		stop   func(c *fakeBackend)
		state  bfia.TaskState
		reason string
		result workflows.Result
	}{
		{"while it runs", container{stays: true}, nil, 20 * time.Second, func(c *fakeBackend) { c.stop("") },
			bfia.TaskFailed, "stopped by B",
			workflows.Result{State: bfia.JobFinished, Outcome: workflows.OutcomeStopped,
				Reason: "stopped by B"}},
		{"while it runs, twice", container{stays: true}, nil, 20 * time.Second,
			func(c *fakeBackend) { c.stop("a"); c.stop(""); c.stop("") }, bfia.TaskFailed, "stopped by B",
			workflows.Result{State: bfia.JobFinished, Outcome: workflows.OutcomeStopped,
				Reason: "stopped by B"}},
		{"while it waits for a runner", container{}, func(c *fakeBackend) {
			c.claims = func(string) error { return flowtest.RefusedBy(bfia.CodeUnavailable, "none") }
		}, 20 * time.Second, func(c *fakeBackend) { c.stop("") }, bfia.TaskFailed, "stopped by B",
			workflows.Result{State: bfia.JobFinished, Outcome: workflows.OutcomeStopped,
				Reason: "stopped by B"}},
		{"after it failed", container{exit: 1, reason: "exit code 1: x", after: time.Second}, nil,
			20 * time.Second, func(c *fakeBackend) { c.stop("") }, bfia.TaskFailed, "exit code 1: x",
			workflows.Result{State: bfia.JobFinished, Outcome: workflows.OutcomeFailed,
				Reason: "task a failed at A (guest.0): exit code 1: x"}},
		{"by a cancellation of the workflow", container{stays: true}, nil, 20 * time.Second,
			func(c *fakeBackend) { c.env.CancelWorkflow() },
			bfia.TaskFailed, "stopped by an operator of Temporal",
			workflows.Result{State: bfia.JobFinished, Outcome: workflows.OutcomeStopped,
				Reason: "stopped by an operator of Temporal"}},
		{"with undo, too late for one", container{stays: true}, nil, 20 * time.Second, func(c *fakeBackend) {
			c.env.SignalWorkflow(workflows.SignalStop, workflows.Stop{By: flowtest.NodeB, Undo: true})
		}, bfia.TaskFailed, "stopped by B",
			workflows.Result{State: bfia.JobFinished,
				Outcome: workflows.OutcomeStopped, Reason: "stopped by B"}},
		{"while its container reports FAILED", container{stays: true}, func(c *fakeBackend) {
			c.at(17*time.Second, func() { c.callback("a", "guest", bfia.TaskFailed) })
		}, 20 * time.Second, func(c *fakeBackend) { c.stop("") }, bfia.TaskFailed, "stopped by B",
			workflows.Result{State: bfia.JobFinished, Outcome: workflows.OutcomeStopped,
				Reason: "stopped by B"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			y := newFakeBackend(t, flowtest.Plan(onlyGuest, "a", "b<a"))
			y.runs["a guest.0"] = c.how
			if c.prep != nil {
				c.prep(y)
			}
			y.at(time.Second, func() { y.start("a") })
			y.at(c.at, func() { c.stop(y) })
			r, err := y.play()
			require.NoError(t, err)
			assert.Equal(t, c.result, r)
			assert.Equal(t, c.state, y.rows["a guest.0"])
			assert.Equal(t, c.reason, y.reasons["a guest.0"])
			assert.Equal(t, bfia.TaskReady, y.rows["b guest.0"])
			assert.Equal(t, c.how.stays, slices.Contains(y.log, "stop a guest.0"), y.log)
		})
	}
}

// TestParticipantStoppedBeforeStart checks that a stop before job/start ends the job.
func TestParticipantStoppedBeforeStart(t *testing.T) {
	c := newFakeBackend(t, flowtest.Plan(onlyGuest, "a"))
	c.at(time.Second, func() { c.stop("") })
	r, err := c.play()
	require.NoError(t, err)
	assert.Equal(t,
		workflows.Result{State: bfia.JobFinished, Outcome: workflows.OutcomeStopped, Reason: "stopped by B"},
		r)
	assert.Equal(t, bfia.TaskReady, c.rows["a guest.0"])
}

// TestParticipantStopOfTasks checks that stopping a task that has ended, as FATE-Flow does with every task,
// ends neither the job nor the dependents.
func TestParticipantStopOfTasks(t *testing.T) {
	c := newFakeBackend(t, flowtest.Plan(onlyGuest, "a", "b<a", "c<a", "d<c"))
	c.runs["b guest.0"], c.runs["c guest.0"] = container{stays: true}, container{after: 20 * time.Second}
	c.at(time.Second, func() { c.start("a") })
	c.at(5*time.Second, func() { c.stop("a"); c.stop("what"); c.start("b", "c") })
	c.at(10*time.Second, func() { c.stop("b") })
	c.at(40*time.Second, func() { c.stop("c"); c.startTask("d") })
	c.at(time.Minute, func() { c.stop("") })
	r, err := c.play()
	require.NoError(t, err)
	assert.Equal(t, map[string]bfia.TaskState{"a guest.0": bfia.TaskSuccess, "b guest.0": bfia.TaskFailed,
		"c guest.0": bfia.TaskSuccess, "d guest.0": bfia.TaskSuccess}, c.rows)
	assert.Equal(t,
		workflows.Result{State: bfia.JobFinished, Outcome: workflows.OutcomeStopped, Reason: "stopped by B"},
		r)
	assert.Equal(t, 10*time.Second, c.times["stop b guest.0"].Truncate(time.Second))
}

// TestParticipantStopOfForeignTask checks that the stop of a task without a part here stops its dependents.
func TestParticipantStopOfForeignTask(t *testing.T) {
	p := flowtest.Plan(onlyGuest, "a", "elsewhere<a", "b<elsewhere")
	p.Tasks[1].Parts = nil
	c := newFakeBackend(t, p)
	c.at(time.Second, func() { c.start("a") })
	c.at(5*time.Second, func() { c.stop("elsewhere"); c.startTask("b") })
	c.at(time.Minute, func() { c.stop("") })
	_, err := c.play()
	require.NoError(t, err)
	assert.Equal(t, map[string]bfia.TaskState{"a guest.0": bfia.TaskSuccess, "b guest.0": bfia.TaskReady},
		c.rows)
}

// TestParticipantContainerDoesNotExit checks that a container which has reported its end and does not exit is
// stopped when the job ends, and does not keep the job open.
func TestParticipantContainerDoesNotExit(t *testing.T) {
	for _, reported := range []bfia.TaskState{bfia.TaskSuccess, bfia.TaskFailed} {
		t.Run(string(reported), func(t *testing.T) {
			c := newFakeBackend(t, flowtest.Plan(onlyGuest, "a"))
			c.runs["a guest.0"] = container{stays: true}
			c.at(time.Second, func() { c.start("a") })
			c.at(5*time.Second, func() { c.callback("a", "guest", reported) })
			c.at(time.Minute, func() { c.stop("") })
			_, err := c.play()
			require.NoError(t, err)
			assert.Equal(t, reported, c.rows["a guest.0"])
			assert.InDelta(t, 70, c.times["stop a guest.0"].Seconds(), 0.9)
			assert.InDelta(t, 70, c.times["release"].Seconds(), 0.9)
		})
	}
}
