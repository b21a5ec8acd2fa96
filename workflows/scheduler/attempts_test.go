package scheduler

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/workflows"
	"hutong/workflows/internal/flowtest"
)

// newRetryingParties returns fake parties that all support attempts.
func newRetryingParties(t flowtest.T, p bfia.Plan) *fakeParties {
	f := newFakeParties(t, p)
	f.in.Settings.Attempts = 3
	for _, node := range f.in.Nodes {
		f.accepted[node] = bfia.JobAccepted{Callbacks: true, Attempts: true}
	}
	return f
}

func lost(after time.Duration) end {
	return end{
		state:  bfia.TaskFailed,
		after:  after,
		reason: "its runner is lost",
		kind:   bfia.FailedRunnerLost,
	}
}

// TestJobRetriesLostTask checks that a task that lost a container restarts at all its parties, also where its
// part had succeeded.
func TestJobRetriesLostTask(t *testing.T) {
	f := newRetryingParties(t, flowtest.Plan(flowtest.TwoNodes, "a", "b<a", "c<b"))
	f.ends["b host.0"] = lost(20 * time.Second)
	f.later["b host.0"] = end{
		state:  bfia.TaskFailed,
		after:  5 * time.Second,
		reason: "exit code 137",
		kind:   bfia.FailedKilled,
	}
	f.later["b guest.0"] = end{} // waits for its peer
	// Late reports of a lost attempt are ignored.
	f.at(30*time.Second, func() {
		f.signal(flowtest.NodeB, "b", 1, "host", bfia.TaskSuccess, nil)
		f.signal(flowtest.NodeA, "b", 2, "guest", bfia.TaskFailed,
			&bfia.Failure{Kind: bfia.FailedExit, ExitCode: 1})
	})
	f.later["b host.0 3"], f.later["b guest.0 3"] = end{
		state: bfia.TaskSuccess,
		after: 10 * time.Second,
	}, end{
		state: bfia.TaskSuccess,
		after: 10 * time.Second,
	}
	r, err := f.run()
	require.NoError(t, err)
	assert.Equal(t, workflows.Result{State: bfia.JobFinished, Outcome: workflows.OutcomeSuccess}, r)
	for _, node := range f.in.Nodes {
		assert.InDelta(t, 21, f.times["start b "+node+" (attempt 2)"].Seconds(), 0.9)
		assert.InDelta(t, 26, f.times["start b "+node+" (attempt 3)"].Seconds(), 0.9)
		assert.InDelta(t, 36, f.times["start c "+node].Seconds(), 0.9)
	}
	assert.Empty(t, f.whys["b"])
	assert.Equal(t, map[string]int{"b": 3}, f.written)
	require.Len(t, f.lost["b"], 2)
	for i, want := range []struct {
		kind bfia.FailureKind
		took float64
	}{{bfia.FailedRunnerLost, 20}, {bfia.FailedKilled, 5}} {
		before := f.lost["b"][i]
		assert.Equal(t, want.kind, before.Failure.Kind)
		assert.Equal(t, flowtest.NodeB, before.Failure.NodeID)
		assert.Equal(t, "host.0", before.Failure.Role)
		assert.InDelta(t, want.took, before.EndedAt.Sub(before.StartedAt).Seconds(), 0.9)
	}
}

// TestJobGivesUpAfterAttempts checks that attempts are bounded, and that the last one's failure is the job's.
func TestJobGivesUpAfterAttempts(t *testing.T) {
	f := newRetryingParties(t, flowtest.Plan(flowtest.TwoNodes, "a", "b<a"))
	f.in.Settings.Attempts = 2
	f.ends["a host.0"], f.later["a host.0"] = lost(time.Second), lost(2*time.Second)
	r, err := f.run()
	require.NoError(t, err)
	assert.Equal(
		t,
		workflows.Result{
			State:   bfia.JobFinished,
			Outcome: workflows.OutcomeFailed,
			Reason:  "task a failed at B (host.0): its runner is lost",
		},
		r,
	)
	assert.NotContains(t, f.sent, "start a B (attempt 3)")
	assert.Equal(t, map[string]bfia.TaskState{"a": bfia.TaskFailed, "b": bfia.TaskReady}, f.rows)
}

// TestJobDoesNotRetry checks that a failure of the component itself is not retried, and that no task is
// retried if a partner does not support attempts.
func TestJobDoesNotRetry(t *testing.T) {
	for name, change := range map[string]func(*fakeParties){
		"its own failure": func(f *fakeParties) {
			f.ends["a host.0"] = end{state: bfia.TaskFailed, after: time.Second,
				reason: "its runner is lost", kind: bfia.FailedExit}
		},
		"a foreign partner": func(f *fakeParties) { f.accepted[flowtest.NodeA] = bfia.JobAccepted{} },
		"switched off":      func(f *fakeParties) { f.in.Settings.Attempts = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			f := newRetryingParties(t, flowtest.Plan(flowtest.TwoNodes, "a"))
			f.ends["a host.0"] = lost(time.Second)
			change(f)
			r, err := f.run()
			require.NoError(t, err)
			assert.Equal(t, workflows.OutcomeFailed, r.Outcome)
			assert.Empty(t, f.written)
		})
	}
}

// TestJobStoppedAsItLosesATask checks that a task that is stopped just as a part is lost is not retried, and
// does not stay RUNNING.
func TestJobStoppedAsItLosesATask(t *testing.T) {
	for _, task := range []string{"", "a"} {
		for _, at := range []time.Duration{900, 1000, 1100} {
			f := newRetryingParties(t, flowtest.Plan(flowtest.TwoNodes, "a"))
			f.ends["a host.0"], f.ends["a guest.0"] = lost(time.Second), end{}
			f.later["a host.0"] = end{}
			f.errors["progress"] = flowtest.ErrDatabase // so that the next attempt is not recorded yet
			f.at(at*time.Millisecond, f.stop(task))
			f.at(10*time.Second, func() { f.mu.Lock(); delete(f.errors, "progress"); f.mu.Unlock() })
			r, err := f.run()
			require.NoError(t, err)
			assert.Equal(t, workflows.OutcomeStopped, r.Outcome)
			assert.Equal(t, bfia.TaskFailed, f.rows["a"])
			assert.NotContains(t, f.sent, "start a B (attempt 2)")
		}
	}
}

// TestJobFindsLossByPolling checks that a lost part is found by polling if its callback was lost too.
func TestJobFindsLossByPolling(t *testing.T) {
	f := newRetryingParties(t, flowtest.Plan(flowtest.TwoNodes, "a"))
	e := lost(time.Second)
	e.silent = true
	f.ends["a host.0"] = e
	r, err := f.run()
	require.NoError(t, err)
	assert.Equal(t, workflows.OutcomeSuccess, r.Outcome)
	assert.Equal(t, map[string]int{"a": 2}, f.written)
}
