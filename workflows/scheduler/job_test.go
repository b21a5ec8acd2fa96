package scheduler

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"

	"hutong/bfia"
	"hutong/workflows"
	"hutong/workflows/internal/flowtest"
)

// referenceDAG is the DAG of the reference job.
var referenceDAG = []string{"intersect_rsa_1", "hetero_secureboost_1<intersect_rsa_1"}

func (f *fakeParties) before(t *testing.T, first, second string) {
	t.Helper()
	i, k := slices.Index(f.sent, first), slices.Index(f.sent, second)
	require.True(t, i >= 0 && k > i, "%q before %q in %v", first, second, f.sent)
}

func TestJobSucceeds(t *testing.T) {
	for name, parts := range map[string][]bfia.Part{"two nodes": flowtest.TwoNodes,
		"both roles on one node": {flowtest.GuestA, flowtest.HostA},
		"three roles": {flowtest.GuestA, flowtest.HostB, {Role: "host", Index: 1, NodeID: "C"},
			{Role: "arbiter", NodeID: "C"}}} {
		t.Run(name, func(t *testing.T) {
			f := newFakeParties(t, flowtest.Plan(parts, referenceDAG...))
			r, err := f.run()
			require.NoError(t, err)
			assert.Equal(t, workflows.Result{State: bfia.JobFinished, Outcome: workflows.OutcomeSuccess}, r)
			assert.Equal(t, []error{nil}, f.answers)
			assert.Empty(t, f.polled)
			for _, node := range f.in.Nodes {
				f.before(t, "create "+node, "start "+node)
				f.before(t, "start "+node, "start intersect_rsa_1 "+node)
				f.before(t, "start intersect_rsa_1 "+node, "start hetero_secureboost_1 "+node)
				f.before(t, "start hetero_secureboost_1 "+node, "stop "+node)
			}
			assert.Len(t, f.sent, 5*len(f.in.Nodes), "one command of each kind for each node")
		})
	}
}

// TestJobWalksDAG checks that a task starts as soon as its inputs exist, not level by level.
func TestJobWalksDAG(t *testing.T) {
	f := newFakeParties(t, flowtest.Plan(flowtest.TwoNodes, "a", "b<a", "c<a", "slow<a", "d<b,c", "e<d,slow"))
	f.ends["slow host.0"] = end{state: bfia.TaskSuccess, after: 5 * time.Second}
	r, err := f.run()
	require.NoError(t, err)
	assert.Equal(t, workflows.OutcomeSuccess, r.Outcome)
	for _, node := range f.in.Nodes {
		for task, second := range map[string]int{"a": 0, "b": 1, "c": 1, "slow": 1, "d": 2, "e": 6} {
			assert.InDelta(t, float64(second), f.times["start "+task+" "+node].Seconds(), 0.9,
				"start of %s at %s", task, node)
		}
	}
	assert.Equal(t, 3, f.most)
}

func TestJobBoundsTasksInFlight(t *testing.T) {
	var tasks []string
	for i := range 30 {
		tasks = append(tasks, fmt.Sprintf("t%d", i))
	}
	f := newFakeParties(t,
		flowtest.Plan(flowtest.TwoNodes, append(tasks, "last<"+strings.Join(tasks, ","))...))
	f.in.Settings.TasksInFlight = 7
	r, err := f.run()
	require.NoError(t, err)
	assert.Equal(t, workflows.OutcomeSuccess, r.Outcome)
	assert.Equal(t, 7, f.most)
	assert.InDelta(t, 5, f.times["start last A"].Seconds(), 0.9, "30 tasks of a second, 7 at once")
}

func TestJobNotCreated(t *testing.T) {
	for _, c := range []struct {
		name   string
		errors map[string]error
		code   bfia.Code
		words  string
		undone []string
	}{
		{"one refuses", map[string]error{"create B": flowtest.RefusedBy(bfia.CodeForbidden,
			"we don't work with A")},
			bfia.CodeForbidden, "the job was not created: B: we don't work with A", []string{"undo A"}},
		{"one is out of reach", map[string]error{"create B": errors.New("connection refused")},
			bfia.CodePartnerDown, "the job was not created: B: connection refused", []string{"undo A",
				"undo B"}},
		{"all refuse", map[string]error{"create A": flowtest.RefusedBy(bfia.CodeBadRequest, "no"),
			"create B": flowtest.RefusedBy(bfia.CodeBadRequest, "never")},
			bfia.CodeBadRequest, "the job was not created: A: no; B: never", nil},
		{"one refuses, one is not to be undone",
			map[string]error{"create B": flowtest.RefusedBy(bfia.CodeNotFound, "no such dataset"),
				"undo A": errors.New("away")},
			bfia.CodeNotFound, "the job was not created: B: no such dataset", nil},
		{"no row", map[string]error{"record": flowtest.RefusedBy(bfia.CodeConflict,
			"job_id: known with other content")},
			bfia.CodeConflict, "job_id: known with other content", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFakeParties(t, flowtest.Plan(flowtest.TwoNodes, referenceDAG...))
			f.errors = c.errors
			f.at(30*time.Minute, f.callCreate) // repeated while the undoing may still be under way
			_, err := f.run()
			require.EqualError(t, err, c.words)
			require.NotEmpty(t, f.answers)
			for _, answer := range f.answers {
				code, words, refused := workflows.RefusalCode(answer)
				assert.True(t, refused, "the caller must read the refusal, not the workflow's end: %v",
					answer)
				assert.Equal(t, c.code, code)
				assert.Equal(t, c.words, words)
			}
			var undone []string
			for _, command := range f.sent {
				if strings.HasPrefix(command, "undo ") {
					undone = append(undone, command)
				}
				assert.False(t, strings.HasPrefix(command, "start "), command)
			}
			slices.Sort(undone)
			assert.Equal(t, c.undone, undone)
			assert.False(t, f.known, "a job that was not created leaves no row")
			assert.Equal(t, c.errors["record"] == nil, f.forgot)
		})
	}
}

// TestJobNotCreatedAnswersBeforeAllIsUndone checks that the submitter does not wait for an unreachable party,
// which gets the undoing once it is back.
func TestJobNotCreatedAnswersBeforeAllIsUndone(t *testing.T) {
	f := newFakeParties(t, flowtest.Plan(flowtest.TwoNodes, referenceDAG...))
	f.errors["create B"], f.errors["undo B"] = errors.New("connection refused"), errors.New(
		"connection refused",
	)
	var answered time.Duration
	f.at(25*time.Second, func() {
		assert.Len(t, f.answers, 1, "after 15 s of trying and 5 s of undoing")
		answered = f.env.Now().Sub(f.began)
	})
	// The test environment retries ten times, fewer than Temporal does.
	f.at(40*time.Second, func() { f.mu.Lock(); delete(f.errors, "undo B"); f.mu.Unlock() })
	_, err := f.run()
	require.Error(t, err)
	assert.NotZero(t, answered)
	assert.Contains(t, f.sent, "undo B")
	assert.Greater(t, f.times["undo B"], 40*time.Second)
}

// TestJobOutlastsItsDatabase checks that a database that is unreachable for minutes delays a job, and loses
// nothing.
func TestJobOutlastsItsDatabase(t *testing.T) {
	f := newFakeParties(t, flowtest.Plan(flowtest.TwoNodes, referenceDAG...))
	f.errors["record"] = flowtest.ErrDatabase
	f.at(time.Minute, func() {
		f.mu.Lock()
		f.errors["record"], f.errors["progress"] = nil, flowtest.ErrDatabase
		f.mu.Unlock()
	})
	f.at(time.Hour, func() { f.mu.Lock(); delete(f.errors, "progress"); f.mu.Unlock() })
	r, err := f.run() // which checks the rows
	require.NoError(t, err)
	assert.Equal(t, workflows.OutcomeSuccess, r.Outcome)
	assert.Equal(t, []error{nil}, f.answers)
	assert.Less(t, f.times["stop A"], 2*time.Minute, "tasks don't wait for rows")
}

func TestJobNotStarted(t *testing.T) {
	f := newFakeParties(t, flowtest.Plan(flowtest.TwoNodes, referenceDAG...))
	f.errors["start B"] = flowtest.RefusedBy(bfia.CodeRefused, "out of business")
	f.errors["start A"] = errors.New("away") // must not delay the end
	r, err := f.run()
	require.NoError(t, err)
	assert.Equal(
		t,
		workflows.Result{
			State:   bfia.JobFinished,
			Outcome: workflows.OutcomeFailed,
			Reason:  "B: did not start the job: out of business",
		},
		r,
	)
	assert.Less(t, f.times["stop B"], time.Minute)
	assert.Equal(t, bfia.TaskReady, f.rows[referenceDAG[0]])
}

func TestJobTaskRefused(t *testing.T) {
	f := newFakeParties(t, flowtest.Plan(flowtest.TwoNodes, "a", "b<a"))
	f.errors["start a B"] = flowtest.RefusedBy(bfia.CodeRefused, "no such image")
	f.ends["a guest.0"] = end{} // waits for its peer
	r, err := f.run()
	require.NoError(t, err)
	assert.Equal(
		t,
		workflows.Result{
			State:   bfia.JobFinished,
			Outcome: workflows.OutcomeFailed,
			Reason:  "task a failed at B (host.0): did not start: no such image",
		},
		r,
	)
	assert.Equal(t, map[string]bfia.TaskState{"a": bfia.TaskFailed, "b": bfia.TaskReady}, f.rows)
	assert.Equal(t, "B (host.0): did not start: no such image", f.whys["a"])
	assert.Equal(t, "did not start: no such image", f.partWhys["a host.0"])
	assert.Equal(t, "stopped, since the task failed at B (host.0): did not start: no such image",
		f.partWhys["a guest.0"])
}

// TestJobPartFails checks that a failed part ends the job at all parties: running tasks are FAILED, and
// others stay READY.
func TestJobPartFails(t *testing.T) {
	f := newFakeParties(t, flowtest.Plan(flowtest.TwoNodes, "a", "b<a", "other<a", "c<b", "d<other"))
	f.ends["b host.0"] = end{
		state:  bfia.TaskFailed,
		after:  3 * time.Second,
		reason: "exit code 1: out of memory",
	}
	f.ends["b guest.0"], f.ends["other guest.0"] = end{}, end{}
	r, err := f.run()
	require.NoError(t, err)
	assert.Equal(
		t,
		workflows.Result{
			State:   bfia.JobFinished,
			Outcome: workflows.OutcomeFailed,
			Reason:  "task b failed at B (host.0): exit code 1: out of memory",
		},
		r,
	)
	assert.Equal(
		t,
		map[string]bfia.TaskState{"a": bfia.TaskSuccess, "b": bfia.TaskFailed, "other": bfia.TaskFailed,
			"c": bfia.TaskReady, "d": bfia.TaskReady},
		f.rows,
	)
	assert.Equal(t, "exit code 1: out of memory", f.partWhys["b host.0"])
	assert.Contains(t, f.partWhys["other guest.0"], "the job was stopped: task b failed at B")
	assert.Equal(t, bfia.TaskSuccess, f.partRows["other host.0"], "it had succeeded before")
	assert.InDelta(t, 4, f.times["stop B"].Seconds(), 0.9)
	assert.Equal(t, bfia.TaskFailed, f.parts["b guest.0"], "its party stopped it")
}

// TestJobCancelsStarts checks that a task that has ended is not started any more at a party that was
// unreachable.
func TestJobCancelsStarts(t *testing.T) {
	f := newFakeParties(t, flowtest.Plan(flowtest.TwoNodes, "a", "b<a"))
	f.errors["start a B"] = errors.New("connection refused")
	f.ends["a guest.0"] = end{state: bfia.TaskFailed, after: 3 * time.Second}
	var cancelled []string
	f.env.SetOnActivityCanceledListener(
		func(info *activity.Info) { cancelled = append(cancelled, info.ActivityID) },
	)
	r, err := f.run()
	require.NoError(t, err)
	assert.Equal(t, workflows.OutcomeFailed, r.Outcome)
	assert.Equal(t, []string{"start a at B"}, cancelled)
}

func TestJobStopped(t *testing.T) {
	for _, c := range []struct {
		name   string
		errors map[string]error
		stop   func(f *fakeParties) // when and how
		rows   map[string]bfia.TaskState
		reason string
	}{
		{"while it is created", map[string]error{"create B": nil}, func(f *fakeParties) {
			f.errors["create B"] = errors.New("late")
			f.at(2*time.Second, f.stop(""))
			f.at(5*time.Second, func() { f.mu.Lock(); delete(f.errors, "create B"); f.mu.Unlock() })
		}, map[string]bfia.TaskState{"a": bfia.TaskReady, "b": bfia.TaskReady}, "stopped by someone"},
		{"while it starts", map[string]error{"start B": errors.New("away")},
			func(f *fakeParties) { f.at(20*time.Second, f.stop("")) },
			map[string]bfia.TaskState{"a": bfia.TaskReady, "b": bfia.TaskReady}, "stopped by someone"},
		{"while a task runs", nil, func(f *fakeParties) {
			f.ends["a guest.0"] = end{}
			f.at(20*time.Second, f.stop(""))
			f.at(21*time.Second, f.stop(""))
		}, map[string]bfia.TaskState{"a": bfia.TaskFailed, "b": bfia.TaskReady}, "stopped by someone"},
		{"by a cancellation of the workflow", nil, func(f *fakeParties) {
			f.ends["b host.0"] = end{}
			f.at(20*time.Second, func() { f.env.CancelWorkflow() })
		}, map[string]bfia.TaskState{"a": bfia.TaskSuccess, "b": bfia.TaskFailed},
			"stopped by an operator of Temporal"},
		{"one party is away", map[string]error{"stop B": errors.New("away")}, func(f *fakeParties) {
			f.ends["a guest.0"] = end{}
			f.at(20*time.Second, f.stop(""))
		}, map[string]bfia.TaskState{"a": bfia.TaskFailed, "b": bfia.TaskReady}, "stopped by someone"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFakeParties(t, flowtest.Plan(flowtest.TwoNodes, "a", "b<a"))
			if c.errors != nil {
				f.errors = c.errors
			}
			c.stop(f)
			r, err := f.run()
			require.NoError(t, err)
			assert.Equal(
				t,
				workflows.Result{
					State:   bfia.JobFinished,
					Outcome: workflows.OutcomeStopped,
					Reason:  c.reason,
				},
				r,
			)
			assert.Equal(t, c.rows, f.rows)
			assert.Equal(t, []error{nil}, f.answers)
			assert.Less(t, f.times["stop A"], 30*time.Second)
		})
	}
}

// TestJobStoppedAtItsEnd checks that a job that has succeeded stays so if someone stops it while its parties
// are being notified.
func TestJobStoppedAtItsEnd(t *testing.T) {
	f := newFakeParties(t, flowtest.Plan(flowtest.TwoNodes, "a"))
	f.errors["stop B"] = errors.New("away")
	f.at(5*time.Second, f.stop(""))
	f.at(6*time.Second, f.stop("a"))
	f.at(7*time.Second, func() { f.callback(flowtest.NodeB, "a", "host", bfia.TaskFailed, "") })
	r, err := f.run()
	require.NoError(t, err)
	assert.Equal(t, workflows.Result{State: bfia.JobFinished, Outcome: workflows.OutcomeSuccess}, r)
}

// TestJobTaskStopped checks that stopping a task stops its dependents, and that other branches continue.
func TestJobTaskStopped(t *testing.T) {
	tasks := []string{"a", "b<a", "c<b", "x<a", "y<x", "z<c,y"}
	for _, c := range []struct {
		name, task string
		at         time.Duration
		rows       string // of the tasks in order: S, F, R
		sent       []string
	}{
		{"one that runs", "b", 3 * time.Second, "SFRSSR", []string{"stop b A", "stop b B"}},
		{"one that has not begun", "c", 3 * time.Second, "SSRSSR", []string{"stop c A", "stop c B"}},
		{"one before the job runs", "a", 0, "RRRRRR", nil},
		{"one that has ended", "a", 3 * time.Second, "SSSSSS", nil},
		{"one that is not there", "nothing", 3 * time.Second, "SSSSSS", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFakeParties(t, flowtest.Plan(flowtest.TwoNodes, tasks...))
			f.ends["b host.0"] = end{state: bfia.TaskSuccess, after: 20 * time.Second}
			f.ends["x host.0"] = f.ends["b host.0"]
			f.at(c.at, f.stop(c.task))
			f.at(c.at+time.Second, f.stop(c.task)) // repeated
			r, err := f.run()
			require.NoError(t, err)
			got := ""
			for _, task := range f.in.Plan.Tasks {
				got += string(f.rows[task.Name][0])
			}
			assert.Equal(t, c.rows, got)
			var stops []string
			for _, command := range f.sent {
				if strings.HasPrefix(command, "stop ") && !strings.HasPrefix(command, "stop again ") &&
					strings.Count(command, " ") == 2 {
					stops = append(stops, command)
				}
			}
			slices.Sort(stops)
			if c.at > 0 { // else the job ends at once, and its own stop may overtake the task's
				assert.Equal(t, c.sent, stops)
			}
			if c.rows != "SSSSSS" {
				assert.Equal(
					t,
					workflows.Result{
						State:   bfia.JobFinished,
						Outcome: workflows.OutcomeStopped,
						Reason:  "task " + c.task + " was stopped: stopped by someone",
					},
					r,
				)
			}
		})
	}
}
