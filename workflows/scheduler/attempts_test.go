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

// attempting is a federation whose parties all know of attempts.
func attempting(t flowtest.T, p bfia.Plan) *fakeParties {
	f := newFakeParties(t, p)
	f.in.Settings.Attempts = 3
	for _, node := range f.in.Nodes {
		f.accepted[node] = bfia.JobAccepted{Callbacks: true, Attempts: true}
	}
	return f
}

func lost(after time.Duration) end {
	return end{state: bfia.TaskFailed, after: after, reason: "its host is gone", kind: bfia.FailedRunnerLost}
}

// A task that lost a container begins again at all its parties, also at those that were through with it.
func TestJobBeginsLostTaskAgain(t *testing.T) {
	f := attempting(t, flowtest.Plan(flowtest.TwoNodes, "a", "b<a", "c<b"))
	f.ends["b host.0"] = lost(20 * time.Second)
	f.later["b host.0"] = end{state: bfia.TaskFailed, after: 5 * time.Second, reason: "exit code 137", kind: bfia.FailedKilled}
	f.later["b guest.0"] = end{} // waits for the other
	// What is said late of an attempt that was given up counts for nothing.
	f.at(30*time.Second, func() {
		f.signal(flowtest.NodeB, "b", 1, "host", bfia.TaskSuccess, nil)
		f.signal(flowtest.NodeA, "b", 2, "guest", bfia.TaskFailed, &bfia.Failure{Kind: bfia.FailedExit, ExitCode: 1})
	})
	f.later["b host.0 3"], f.later["b guest.0 3"] = end{state: bfia.TaskSuccess, after: 10 * time.Second}, end{state: bfia.TaskSuccess, after: 10 * time.Second}
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
}

// Attempts have an end, and the last one's failure is the job's.
func TestJobGivesUpAfterAttempts(t *testing.T) {
	f := attempting(t, flowtest.Plan(flowtest.TwoNodes, "a", "b<a"))
	f.in.Settings.Attempts = 2
	f.ends["a host.0"], f.later["a host.0"] = lost(time.Second), lost(2*time.Second)
	r, err := f.run()
	require.NoError(t, err)
	assert.Equal(t, workflows.Result{State: bfia.JobFinished, Outcome: workflows.OutcomeFailed, Reason: "task a failed at B (host.0): its host is gone"}, r)
	assert.NotContains(t, f.sent, "start a B (attempt 3)")
	assert.Equal(t, map[string]bfia.TaskState{"a": bfia.TaskFailed, "b": bfia.TaskReady}, f.rows)
}

// A failure of the component's own is none that another attempt would cure, and a partner that knows of no
// attempts can't begin again.
func TestJobDoesNotBeginAgain(t *testing.T) {
	for name, change := range map[string]func(*fakeParties){
		"its own failure": func(f *fakeParties) {
			f.ends["a host.0"] = end{state: bfia.TaskFailed, after: time.Second, reason: "its host is gone", kind: bfia.FailedExit}
		},
		"a foreign partner": func(f *fakeParties) { f.accepted[flowtest.NodeA] = bfia.JobAccepted{} },
		"switched off":      func(f *fakeParties) { f.in.Settings.Attempts = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			f := attempting(t, flowtest.Plan(flowtest.TwoNodes, "a"))
			f.ends["a host.0"] = lost(time.Second)
			change(f)
			r, err := f.run()
			require.NoError(t, err)
			assert.Equal(t, workflows.OutcomeFailed, r.Outcome)
			assert.Empty(t, f.written)
		})
	}
}

// A job, or a task, that is stopped just as a part is lost does not begin again, and nothing of it stays
// RUNNING.
func TestJobStoppedAsItLosesATask(t *testing.T) {
	for _, task := range []string{"", "a"} {
		for _, at := range []time.Duration{900, 1000, 1100} {
			f := attempting(t, flowtest.Plan(flowtest.TwoNodes, "a"))
			f.ends["a host.0"], f.ends["a guest.0"] = lost(time.Second), end{}
			f.later["a host.0"] = end{}
			f.errors["progress"] = flowtest.ErrDatabase // so that the further attempt is not yet known
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

// The loss is heard of by asking, where the callback was lost too.
func TestJobHearsOfALossByPolling(t *testing.T) {
	f := attempting(t, flowtest.Plan(flowtest.TwoNodes, "a"))
	e := lost(time.Second)
	e.silent = true
	f.ends["a host.0"] = e
	r, err := f.run()
	require.NoError(t, err)
	assert.Equal(t, workflows.OutcomeSuccess, r.Outcome)
	assert.Equal(t, map[string]int{"a": 2}, f.written)
}
