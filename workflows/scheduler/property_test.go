package scheduler

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"hutong/bfia"
	"hutong/workflows"
	"hutong/workflows/internal/flowtest"
)

// randomParts are the parts of tasks of random jobs: four roles at three nodes.
var randomParts = []bfia.Part{
	flowtest.GuestA,
	flowtest.HostB,
	{Role: "host", Index: 1, NodeID: "C"},
	{Role: "arbiter", NodeID: "C"},
}

// TestJobProperties checks that a job ends, its rows follow the table of states, nothing starts twice or
// before its inputs exist, and nothing is left running, whatever the DAG, and whatever fails, is stopped, is
// silent or is repeated. See [fakeParties] for the rules.
func TestJobProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		least, most := 1, 30
		if rapid.IntRange(0, 9).Draw(t, "large") == 9 {
			least, most = 100, 200
		}
		f := newFakeParties(t, flowtest.DrawPlan(t, randomParts, least, most))
		f.create = rapid.SampledFrom([]string{workflows.UpdateCreate, workflows.UpdateCreateCompact,
			workflows.UpdateCreateMerged}).Draw(t, "create")
		f.in.Settings.TasksInFlight = rapid.IntRange(1, 10).Draw(t, "in flight")
		trouble := rapid.IntRange(0, 3).Draw(t, "trouble") // 0 is none
		some := func(label string) bool {
			return trouble > 0 && rapid.IntRange(0, 40/trouble).Draw(t,
				label) == 0
		}
		fails, attempts := false, rapid.Bool().Draw(t, "attempts")
		f.in.Settings.Attempts = 2
		for _, task := range f.in.Plan.Tasks {
			for _, part := range task.Parts {
				e := end{
					state:  bfia.TaskSuccess,
					after:  flowtest.DrawSeconds(t, "after", 1, 40),
					silent: rapid.IntRange(0, 5).Draw(t, "silent") == 0,
				}
				if some("fails") {
					e.state, e.reason, fails = bfia.TaskFailed, "it failed", true
				}
				if e.state == bfia.TaskSuccess && some("is lost") {
					e.state, e.reason, e.kind = bfia.TaskFailed, "it failed, lost", bfia.FailedRunnerLost
					fails = fails || !attempts
				}
				f.ends[flowtest.PartKey(task.Name, part)] = e
				if some("refuses") {
					f.errors["start "+task.Name+" "+part.NodeID] = flowtest.RefusedBy(bfia.CodeRefused, "no")
					fails = true
				}
			}
		}
		for _, node := range f.in.Nodes { // some are approved or rejected, once or twice
			f.accepted[node] = bfia.JobAccepted{Callbacks: rapid.Bool().Draw(t, "pushes"), Attempts: attempts}
			if rapid.IntRange(0, 3).Draw(t, "asks someone") > 0 {
				continue
			}
			f.accepted[node] = bfia.JobAccepted{State: bfia.JobPending, Attempts: attempts}
			word := bfia.JobReady
			if some("rejects") {
				word, fails = bfia.JobRejected, true
			}
			for range rapid.IntRange(1, 2).Draw(t, "says it") {
				f.at(flowtest.DrawSeconds(t, "decides at", 0, 300), f.audit(node, word, "so be it"))
			}
		}
		f.in.Plan.SyncType = rapid.SampledFrom([]string{"", bfia.SyncPoll, bfia.SyncCallback}).
			Draw(t, "sync_type")
		stopped := false
		if some("stop") {
			f.at(flowtest.DrawSeconds(t, "stop at", 0, 200), f.stop(""))
			stopped = true
		}
		for some("stop a task") {
			f.at(flowtest.DrawSeconds(t, "stop a task at", 0, 200),
				f.stop(rapid.SampledFrom(f.in.Plan.Tasks).Draw(t, "stopped").Name))
			stopped = true
		}
		for range rapid.IntRange(0, 20).Draw(t, "noises") { // repeated or meaningless callbacks
			task := rapid.SampledFrom(f.in.Plan.Tasks).Draw(t, "noisy")
			part := rapid.SampledFrom(task.Parts).Draw(t, "noisy part")
			role := rapid.SampledFrom([]string{part.Role, part.Self(), "nobody"}).Draw(t, "as")
			f.at(flowtest.DrawSeconds(t, "noise at", 0, 200), func() {
				state := f.parts[flowtest.PartKey(task.Name, part)]
				if f.ends[flowtest.PartKey(task.Name, part)].silent && state.Terminal() {
					state = bfia.TaskRunning // still silent
				}
				f.callback(part.NodeID, task.Name, role, state, "noise")
				f.callback(part.NodeID, task.Name, role, bfia.TaskReady, "noise")
			})
		}
		if rapid.Bool().Draw(t, "continues") { // as new, if it still waits for approvals
			f.continues(flowtest.DrawSeconds(t, "continues at", 0, 300))
		}
		r, err := f.run()
		require.NoError(t, err)
		if !stopped {
			require.NotEqual(t, workflows.OutcomeStopped, r.Outcome)
			if !fails {
				require.Equal(t, workflows.OutcomeSuccess, r.Outcome)
			}
		}
		failed := slices.ContainsFunc(f.in.Plan.Tasks, func(task bfia.PlannedTask) bool {
			return strings.Contains(f.whys[task.Name], "it failed") ||
				strings.Contains(f.whys[task.Name], "did not start")
		})
		require.False(t, r.Outcome == workflows.OutcomeSuccess && failed)
		require.Equal(t, r.Outcome == workflows.OutcomeRejected, r.State == bfia.JobRejected)
		require.False(t, r.Outcome == workflows.OutcomeFailed && !failed, "%+v", r)
	})
}
