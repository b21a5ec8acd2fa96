package workflows

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"hutong/bfia"
)

// federationParts are what tasks of random jobs are made of: four roles on three nodes.
var federationParts = []bfia.Part{guestA, hostB, {Role: "host", Index: 1, NodeID: "C"}, {Role: "arbiter", NodeID: "C"}}

func drawSeconds(t *rapid.T, label string, from, to int) time.Duration {
	return time.Duration(rapid.IntRange(from, to).Draw(t, label)) * time.Second
}

func drawPlan(t *rapid.T, parts []bfia.Part, least, most int) bfia.Plan {
	p := plan(nil)
	for i := range rapid.IntRange(least, most).Draw(t, "tasks") {
		task := bfia.PlannedTask{Name: fmt.Sprintf("t%d", i), Component: "CallbackOnly", Provider: "p", Version: "1"}
		if i > 0 {
			for _, k := range rapid.SliceOfNDistinct(rapid.IntRange(0, i-1), 0, min(i, 4), rapid.ID[int]).Draw(t, "depends") {
				task.DependsOn = append(task.DependsOn, fmt.Sprintf("t%d", k))
			}
		}
		task.Parts = rapid.SliceOfNDistinct(rapid.SampledFrom(parts), 1, len(parts), bfia.Part.Self).Draw(t, "parts")
		p.Tasks = append(p.Tasks, task)
	}
	return p
}

// Whatever the DAG, and whatever fails, is stopped, is silent or is said twice: a job ends, its rows follow the table
// of states, nothing starts before its inputs are there or twice, and no party is left with what runs. See
// [federation] for the rules.
func TestJobProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		least, most := 1, 30
		if rapid.IntRange(0, 9).Draw(t, "large") == 9 {
			least, most = 100, 200
		}
		f := newFederation(t, drawPlan(t, federationParts, least, most))
		f.in.Settings.TasksInFlight = rapid.IntRange(1, 10).Draw(t, "in flight")
		trouble := rapid.IntRange(0, 3).Draw(t, "trouble") // how much of it: 0 is none
		some := func(label string) bool { return trouble > 0 && rapid.IntRange(0, 40/trouble).Draw(t, label) == 0 }
		fails, attempts := false, rapid.Bool().Draw(t, "attempts")
		f.in.Settings.Attempts = 2
		for _, task := range f.in.Plan.Tasks {
			for _, part := range task.Parts {
				e := end{state: bfia.TaskSuccess, after: drawSeconds(t, "after", 1, 40), silent: rapid.IntRange(0, 5).Draw(t, "silent") == 0}
				if some("fails") {
					e.state, e.reason, fails = bfia.TaskFailed, "it failed", true
				}
				if e.state == bfia.TaskSuccess && some("is lost") {
					e.state, e.reason, e.kind = bfia.TaskFailed, "it failed, lost", bfia.FailedRunnerLost
					fails = fails || !attempts
				}
				f.ends[partKey(task.Name, part)] = e
				if some("refuses") {
					f.errors["start "+task.Name+" "+part.NodeID] = refusedBy(bfia.CodeRefused, "no")
					fails = true
				}
			}
		}
		for _, node := range f.in.Nodes { // some approve by hand, or reject, once or twice
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
				f.at(drawSeconds(t, "decides at", 0, 300), f.audit(node, word, "so be it"))
			}
		}
		f.in.Plan.SyncType = rapid.SampledFrom([]string{"", bfia.SyncPoll, bfia.SyncCallback}).Draw(t, "sync_type")
		stopped := false
		if some("stop") {
			f.at(drawSeconds(t, "stop at", 0, 200), f.stop(""))
			stopped = true
		}
		for some("stop a task") {
			f.at(drawSeconds(t, "stop a task at", 0, 200), f.stop(rapid.SampledFrom(f.in.Plan.Tasks).Draw(t, "stopped").Name))
			stopped = true
		}
		for range rapid.IntRange(0, 20).Draw(t, "noises") { // what has been said already, or makes no sense
			task := rapid.SampledFrom(f.in.Plan.Tasks).Draw(t, "noisy")
			part := rapid.SampledFrom(task.Parts).Draw(t, "noisy part")
			role := rapid.SampledFrom([]string{part.Role, part.Self(), "nobody"}).Draw(t, "as")
			f.at(drawSeconds(t, "noise at", 0, 200), func() {
				state := f.parts[partKey(task.Name, part)]
				if f.ends[partKey(task.Name, part)].silent && state.Terminal() {
					state = bfia.TaskRunning // still silent
				}
				f.callback(part.NodeID, task.Name, role, state, "noise")
				f.callback(part.NodeID, task.Name, role, bfia.TaskReady, "noise")
			})
		}
		r, err := f.run()
		require.NoError(t, err)
		if !stopped {
			require.NotEqual(t, OutcomeStopped, r.Outcome)
			if !fails {
				require.Equal(t, OutcomeSuccess, r.Outcome)
			}
		}
		failed := slices.ContainsFunc(f.in.Plan.Tasks, func(task bfia.PlannedTask) bool {
			return strings.Contains(f.whys[task.Name], "it failed") || strings.Contains(f.whys[task.Name], "did not start")
		})
		require.False(t, r.Outcome == OutcomeSuccess && failed)
		require.Equal(t, r.Outcome == OutcomeRejected, r.State == bfia.JobRejected)
		require.False(t, r.Outcome == OutcomeFailed && !failed, "%+v", r)
	})
}

// Whatever a scheduler, containers and hosts do at a participant: each container runs once, each part that began ends
// once and is reported once as its row says, and no container is left. See [courtyard] for the rules.
func TestPartyJobProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newCourtyard(t, drawPlan(t, []bfia.Part{guestA, hostA}, 1, 12))
		free := drawSeconds(t, "host there at", 0, 60)
		c.claims = func(string) error {
			if c.env.Now().Sub(c.began) < free {
				return refusedBy(bfia.CodeUnavailable, "no host")
			}
			return nil
		}
		end := drawSeconds(t, "end", 1, 300)
		expect := map[string]bfia.TaskState{}
		var cut []string // tasks that may be stopped early
		for _, task := range c.in.Plan.Tasks {
			starts := rapid.IntRange(0, 2).Draw(t, "starts")
			at := drawSeconds(t, "start at", 1, 100)
			for range starts {
				c.at(at, func() { c.startTask(task.Name) })
			}
			if rapid.IntRange(0, 6).Draw(t, "stop it") == 0 {
				own := drawSeconds(t, "stop it at", 0, 150)
				c.at(own, func() { c.stop(task.Name) })
				cut = append(cut, c.in.Plan.WithDependents(task.Name)...)
			}
			for _, part := range task.Parts {
				key := partKey(task.Name, part)
				how := container{after: drawSeconds(t, "runs for", 1, 60), exit: max(0, rapid.IntRange(-3, 2).Draw(t, "exit")), stays: rapid.IntRange(0, 9).Draw(t, "stays") == 0}
				c.runs[key] = how
				told, at2 := bfia.TaskState(""), at+drawSeconds(t, "tells after", 0, 60)+time.Second/2
				if rapid.Bool().Draw(t, "tells") {
					told = rapid.SampledFrom([]bfia.TaskState{bfia.TaskRunning, bfia.TaskSuccess, bfia.TaskFailed}).Draw(t, "told")
					role := rapid.SampledFrom([]string{part.Role, part.Self()}).Draw(t, "as")
					c.at(at2, func() { c.tells(task.Name, role, told) })
				}
				// What is to be expected where it began at once, was let alone, and did not speak beside its exit.
				if free == 0 && starts > 0 && !how.stays && end > at+how.after+20*time.Second && (told == "" || told == bfia.TaskRunning) {
					expect[key] = bfia.TaskSuccess
					if how.exit != 0 {
						expect[key] = bfia.TaskFailed
					}
				}
				if free == 0 && starts > 0 && told == bfia.TaskSuccess && end > at2+20*time.Second && at2 < at+how.after {
					expect[key] = bfia.TaskSuccess
				}
			}
		}
		c.at(end, func() { c.stop("") })
		_, err := c.play()
		require.NoError(t, err)
		for key, state := range expect {
			if name, _, _ := strings.Cut(key, " "); slices.Contains(cut, name) {
				continue
			}
			require.Equal(t, state, c.rows[key], key)
		}
	})
}
