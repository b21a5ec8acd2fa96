package scheduler

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"

	"hutong/activities/scheduler"
	"hutong/bfia"
	"hutong/workflows"
	"hutong/workflows/internal/flowtest"
)

// TestJobCallbacks checks that callbacks that are repeated, late, out of order or for unknown tasks have no
// effect.
func TestJobCallbacks(t *testing.T) {
	for _, c := range []struct {
		name  string
		parts []bfia.Part
		after func(f *fakeParties) // 5 s after the job began; task a runs since 0 s and ends after 20 s
	}{
		{"RUNNING again", flowtest.TwoNodes, func(f *fakeParties) {
			f.callback(flowtest.NodeB, "a", "host",
				bfia.TaskRunning, "")
		}},
		{"backwards", flowtest.TwoNodes, func(f *fakeParties) {
			f.callback(flowtest.NodeB, "a", "host", bfia.TaskReady, "")
			f.callback(flowtest.NodeB, "a", "host", bfia.TaskPending, "")
			f.callback(flowtest.NodeB, "a", "host", "NONSENSE", "")
		}},
		{"an unknown task", flowtest.TwoNodes,
			func(f *fakeParties) { f.callback(flowtest.NodeB, "what", "host", bfia.TaskFailed, "") }},
		{"a task that has not begun", flowtest.TwoNodes, func(f *fakeParties) {
			f.callback(flowtest.NodeB, "b", "host", bfia.TaskFailed, "")
			f.callback(flowtest.NodeB, "b", "host", bfia.TaskSuccess, "")
		}},
		{"a role that the sender doesn't play", flowtest.TwoNodes, func(f *fakeParties) {
			f.callback(flowtest.NodeB, "a", "guest", bfia.TaskFailed, "")
			f.callback(flowtest.NodeB, "a", "guest.0", bfia.TaskFailed, "")
			f.callback(flowtest.NodeB, "a", "host.1", bfia.TaskFailed, "")
			f.callback("C", "a", "", bfia.TaskFailed, "")
		}},
		{"the other way round after the end", flowtest.TwoNodes, func(f *fakeParties) {
			f.at(17*time.Second, func() {
				f.callback(flowtest.NodeB, "a", "host", bfia.TaskFailed,
					"too late")
			})
			f.at(17*time.Second, func() { f.callback(flowtest.NodeB, "a", "host", bfia.TaskSuccess, "") })
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFakeParties(t, flowtest.Plan(c.parts, "a", "b<a"))
			f.ends["a guest.0"] = end{state: bfia.TaskSuccess, after: 20 * time.Second}
			f.ends["a host.0"] = f.ends["a guest.0"]
			f.ends["b host.0"] = end{state: bfia.TaskSuccess, after: 20 * time.Second}
			f.at(5*time.Second, func() { c.after(f) })
			r, err := f.run()
			require.NoError(t, err)
			assert.Equal(t, workflows.Result{State: bfia.JobFinished, Outcome: workflows.OutcomeSuccess}, r)
			assert.InDelta(t, 40, f.times["stop A"].Seconds(), 1.9)
		})
	}
}

// TestJobCallbackRoles checks that a party may send its role in short, in full, or not at all.
func TestJobCallbackRoles(t *testing.T) {
	for _, c := range []struct {
		role  string
		ended []string
	}{
		{"guest", []string{"a guest.0"}},
		{"guest.0", []string{"a guest.0"}},
		{"host.0", []string{"a host.0"}},
		{"", []string{"a guest.0", "a host.0"}},
		{"guest.1", nil},
	} {
		t.Run(c.role, func(t *testing.T) {
			f := newFakeParties(t, flowtest.Plan([]bfia.Part{flowtest.GuestA, flowtest.HostA}, "a"))
			f.ends["a guest.0"], f.ends["a host.0"] = end{silent: true}, end{silent: true}
			f.at(time.Second, func() { f.callback(flowtest.NodeA, "a", c.role, bfia.TaskFailed, "it says") })
			f.at(5*time.Second, f.stop(""))
			_, err := f.run()
			require.NoError(t, err)
			var ended []string
			for _, key := range []string{"a guest.0", "a host.0"} {
				if f.partWhys[key] == "it says" {
					ended = append(ended, key)
				}
			}
			assert.Equal(t, c.ended, ended)
		})
	}
}

// TestJobPolls checks that after a silence the parties that have not reported their end are polled, in one
// activity, until a report comes.
func TestJobPolls(t *testing.T) {
	f := newFakeParties(t, flowtest.Plan(flowtest.TwoNodes, "a", "b<a"))
	f.ends["a guest.0"] = end{state: bfia.TaskSuccess, after: 4 * time.Second}
	f.ends["a host.0"] = end{state: bfia.TaskSuccess, after: time.Hour, silent: true}
	f.ends["b guest.0"] = end{
		state: bfia.TaskSuccess,
		after: 11 * time.Second,
	} // its callback comes while it is polled
	f.ends["b host.0"] = end{state: bfia.TaskSuccess, after: 15 * time.Second}
	var cancelled []string
	f.env.SetOnActivityCanceledListener(
		func(info *activity.Info) { cancelled = append(cancelled, info.ActivityID) },
	)
	r, err := f.run()
	require.NoError(t, err)
	assert.Equal(t, workflows.OutcomeSuccess, r.Outcome)
	require.Len(t, f.polled, 2)
	assert.Equal(
		t,
		scheduler.PollTaskInput{
			JobID:       f.in.Plan.JobID,
			TaskID:      bfia.TaskID(f.in.Plan.JobID, "a"),
			Nodes:       []string{flowtest.NodeB},
			Every:       flowtest.Settings.PollEvery,
			GiveUpAfter: flowtest.Settings.GiveUpAfter,
		},
		f.polled[0],
	)
	assert.InDelta(t, 14, f.times["poll 1"].Seconds(), 0.9, "10 s after the last report")
	assert.InDelta(t, 3600, f.times["start b A"].Seconds(), 1.9, "the answer ends the task")
	assert.Equal(t, []string{flowtest.NodeA, flowtest.NodeB}, f.polled[1].Nodes)
	assert.Len(t, cancelled, 1, "the second was ended by a callback")
	assert.InDelta(t, 3615, f.times["stop A"].Seconds(), 1.9)
}

// TestJobPollFindsFailure checks that a poll may find a failure.
func TestJobPollFindsFailure(t *testing.T) {
	f := newFakeParties(t, flowtest.Plan(flowtest.TwoNodes, "a", "b<a"))
	f.ends["a guest.0"] = end{silent: true}
	f.ends["a host.0"] = end{
		state:  bfia.TaskFailed,
		after:  30 * time.Second,
		reason: "exit code 3",
		silent: true,
	}
	r, err := f.run()
	require.NoError(t, err)
	assert.Equal(
		t,
		workflows.Result{
			State:   bfia.JobFinished,
			Outcome: workflows.OutcomeFailed,
			Reason:  "task a failed at B (host.0): exit code 3",
		},
		r,
	)
	assert.Len(t, f.polled, 1)
}
