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

// TestJobNamesTheCause checks that a job's failure is the part's that failed on its own account, also if a
// part that only lost its partner is reported first.
func TestJobNamesTheCause(t *testing.T) {
	lostPartner := func(after time.Duration) end {
		return end{state: bfia.TaskFailed, after: after, reason: "guest.0 failed", kind: bfia.FailedPartner}
	}
	succeeds := func(after time.Duration) end { return end{state: bfia.TaskSuccess, after: after} }
	silent := func(e end) end { e.silent = true; return e }
	failed := func(after time.Duration) end {
		return end{state: bfia.TaskFailed, after: after, reason: "no column age", kind: bfia.FailedExit}
	}
	const guest, host = "task a failed at A (guest.0): exit code 0: no column age",
		"task a failed at B (host.0): guest.0 failed"
	for name, c := range map[string]struct {
		guest  end
		reason string
		// after is when the stop arrives.
		after time.Duration
	}{
		"the cause comes second":       {failed(4 * time.Second), guest, 4 * time.Second},
		"it comes without a callback":  {silent(failed(4 * time.Second)), guest, 4 * time.Second},
		"the cause never comes":        {end{}, host, causeWait + time.Second},
		"the partner succeeds":         {succeeds(3 * time.Second), host, 3 * time.Second},
		"the partner lost its own one": {lostPartner(3 * time.Second), host, 3 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeParties(t, flowtest.Plan(flowtest.TwoNodes, "a", "b<a"))
			for _, node := range f.in.Nodes {
				f.accepted[node] = bfia.JobAccepted{Callbacks: true}
			}
			f.ends["a host.0"], f.ends["a guest.0"] = lostPartner(time.Second), c.guest
			r, err := f.run()
			require.NoError(t, err)
			assert.Equal(t, workflows.Result{State: bfia.JobFinished, Outcome: workflows.OutcomeFailed,
				Reason: c.reason}, r)
			assert.InDelta(t, c.after.Seconds(), f.times["stop A"].Seconds(), 0.9)
			assert.Equal(t, "guest.0 failed", f.partWhys["a host.0"])
		})
	}
}

// TestJobStoppedAsItAwaitsTheCause checks that a stop of the job or the task ends the wait for a cause.
func TestJobStoppedAsItAwaitsTheCause(t *testing.T) {
	for _, task := range []string{"", "a"} {
		f := newFakeParties(t, flowtest.Plan(flowtest.TwoNodes, "a"))
		f.ends["a host.0"] = end{state: bfia.TaskFailed, after: time.Second, reason: "guest.0 failed",
			kind: bfia.FailedPartner}
		f.ends["a guest.0"] = end{}
		f.at(5*time.Second, f.stop(task))
		_, err := f.run()
		require.NoError(t, err)
		if task == "" {
			assert.InDelta(t, 5, f.times["stop A"].Seconds(), 0.9)
		}
		assert.Equal(t, bfia.TaskFailed, f.partRows["a guest.0"], "the part that ran is stopped")
	}
}
