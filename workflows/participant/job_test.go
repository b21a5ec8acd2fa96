package participant

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/testsuite"

	"hutong/bfia"
	"hutong/workflows"
	"hutong/workflows/internal/flowtest"
)

var onlyGuest = []bfia.Part{flowtest.GuestA}

func (c *fakeBackend) before(t *testing.T, first, second string) {
	t.Helper()
	i, k := slices.Index(c.log, first), slices.Index(c.log, second)
	require.True(t, i >= 0 && k > i, "%q before %q in %q", first, second, c.log)
}

func TestParticipantSucceeds(t *testing.T) {
	c := newFakeBackend(t, flowtest.Plan([]bfia.Part{flowtest.GuestA, flowtest.HostA}, "a", "b<a"))
	c.at(time.Second, func() { c.start() })
	c.at(2*time.Second, func() { c.startTask("a") })
	c.at(5*time.Second, func() { c.startTask("b") })
	c.at(10*time.Second, func() { c.stop("") })
	r, err := c.play()
	require.NoError(t, err)
	assert.Equal(t, workflows.Result{State: bfia.JobFinished, Outcome: workflows.OutcomeSuccess}, r)
	assert.Equal(t, []error{nil}, c.answers)
	for _, part := range []string{"a guest.0", "a host.0", "b guest.0", "b host.0"} {
		c.before(t, "RUNNING", "run "+part)
		c.before(t, "run "+part, "exit "+part)
		c.before(t, "exit "+part, "report "+part+" SUCCESS")
		assert.Equal(t, bfia.TaskSuccess, c.rows[part])
	}
	assert.NotContains(t, c.log, "stop b guest.0")
	assert.InDelta(t, 10, c.times["release"].Seconds(), 0.9, "nothing is waited for")
}

// callbacks are the callbacks of a container, by time after its start.
type callbacks map[time.Duration]bfia.TaskState

// TestParticipantContainerEnds checks how a part ends: by its callback, by its exit, or by both in any order.
func TestParticipantContainerEnds(t *testing.T) {
	for _, c := range []struct {
		name   string
		how    container
		sends  callbacks
		as     string // role in its callback
		state  bfia.TaskState
		reason string
		after  float64 // seconds from its start to the report
	}{
		{"exit 0", container{after: 4 * time.Second}, nil, "", bfia.TaskSuccess, "", 4},
		{"exit 1", container{after: 4 * time.Second, exit: 1, reason: "exit code 1: it hurts"},
			nil, "", bfia.TaskFailed, "exit code 1: it hurts", 4},
		{"SUCCESS, then exit 0", container{after: 4 * time.Second},
			callbacks{2 * time.Second: bfia.TaskSuccess}, "guest", bfia.TaskSuccess, "", 2},
		{"SUCCESS under its full role", container{after: 4 * time.Second},
			callbacks{2 * time.Second: bfia.TaskSuccess}, "guest.0", bfia.TaskSuccess, "", 2},
		{"SUCCESS, then exit 1", container{after: 4 * time.Second, exit: 1, reason: "late"},
			callbacks{2 * time.Second: bfia.TaskSuccess}, "guest", bfia.TaskSuccess, "", 2},
		{"FAILED, then exit with a reason",
			container{after: 4 * time.Second, exit: 2, reason: "exit code 2: no such column"},
			callbacks{2 * time.Second: bfia.TaskFailed},
			"guest", bfia.TaskFailed, "exit code 2: no such column", 4},
		{"FAILED, then exit 0", container{after: 4 * time.Second},
			callbacks{2 * time.Second: bfia.TaskFailed},
			"guest", bfia.TaskFailed, "the component reported that it failed", 4},
		{"FAILED, then no exit for long", container{after: 25 * time.Second},
			callbacks{2 * time.Second: bfia.TaskFailed},
			"guest", bfia.TaskFailed, "the component reported that it failed", 12},
		{"RUNNING, RUNNING, exit 0", container{after: 4 * time.Second},
			callbacks{time.Second: bfia.TaskRunning, 2 * time.Second: bfia.TaskRunning},
			"guest", bfia.TaskSuccess, "", 4},
		{"nonsense, exit 0", container{after: 4 * time.Second},
			callbacks{time.Second: "DONE", 2 * time.Second: ""}, "guest", bfia.TaskSuccess, "", 4},
		{"SUCCESS, then FAILED", container{after: 8 * time.Second},
			callbacks{2 * time.Second: bfia.TaskSuccess, 5 * time.Second: bfia.TaskFailed},
			"guest", bfia.TaskSuccess, "", 2},
		{"FAILED, then SUCCESS", container{after: 8 * time.Second, exit: 3, reason: "three"},
			callbacks{2 * time.Second: bfia.TaskFailed, 5 * time.Second: bfia.TaskSuccess},
			"guest", bfia.TaskFailed, "exit code 3: three", 8},
		{"callback of another role", container{after: 4 * time.Second},
			callbacks{2 * time.Second: bfia.TaskFailed}, "host", bfia.TaskSuccess, "", 4},
		{"callback of another index", container{after: 4 * time.Second},
			callbacks{2 * time.Second: bfia.TaskFailed}, "guest.1", bfia.TaskSuccess, "", 4},
		{"callback without role", container{after: 4 * time.Second},
			callbacks{2 * time.Second: bfia.TaskFailed}, "", bfia.TaskSuccess, "", 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			y := newFakeBackend(t, flowtest.Plan(onlyGuest, "a"))
			y.runs["a guest.0"] = c.how
			y.at(time.Second, func() { y.start("a") })
			for after, state := range c.sends {
				y.at(time.Second+after, func() { y.callback("a", c.as, state) })
			}
			y.at(time.Minute, func() { y.stop("") })
			r, err := y.play()
			require.NoError(t, err)
			assert.Equal(t, c.state, y.rows["a guest.0"])
			assert.Equal(t, c.reason, y.reasons["a guest.0"])
			assert.Equal(t, c.state == bfia.TaskSuccess, r.Outcome == workflows.OutcomeSuccess)
			assert.InDelta(t, 1+c.after, y.times["report a guest.0 "+string(c.state)].Seconds(), 0.9)
			assert.NotContains(t, y.log, "stop a guest.0", "it exited on its own")
		})
	}
}

// TestParticipantUnreadableOutputs runs a container whose outputs the party can't read. They may become
// readable at its exit; otherwise the part fails with the path, although the component reported SUCCESS.
func TestParticipantUnreadableOutputs(t *testing.T) {
	for _, test := range []struct {
		name       string
		readableAt time.Duration
		state      bfia.TaskState
		end        float64
	}{
		{"until its exit", 5 * time.Second, bfia.TaskSuccess, 6},
		{"for ever", 50 * time.Second, bfia.TaskFailed, 6},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newFakeBackend(t, flowtest.Plan(onlyGuest, "a"))
			c.runs["a guest.0"] = container{after: 5 * time.Second}
			c.errors["RecordOutputs"] = workflows.Refuse(bfia.CodeRefused,
				"output out: open /data/private: permission denied")
			c.at(time.Second, func() { c.start("a") })
			c.at(3*time.Second, func() { c.callback("a", "guest", bfia.TaskSuccess) })
			c.at(test.readableAt, func() { delete(c.errors, "RecordOutputs") })
			c.at(time.Minute, func() { c.stop("") })
			r, err := c.play()
			require.NoError(t, err)
			assert.Equal(t, test.state, c.rows["a guest.0"])
			assert.InDelta(t, test.end, c.times["report a guest.0 "+string(test.state)].Seconds(), 0.9)
			if test.state == bfia.TaskFailed {
				assert.Contains(t, c.reasons["a guest.0"], "open /data/private: permission denied")
				assert.Equal(t, workflows.OutcomeFailed, r.Outcome)
			}
		})
	}
}

// TestParticipantMissingImage runs a part on a runner that lacks its image. Another runner is tried. If none
// has it, the failure names all.
func TestParticipantMissingImage(t *testing.T) {
	for name, others := range map[string]bool{"another runner": true, "no other runner": false} {
		t.Run(name, func(t *testing.T) {
			c := newFakeBackend(t, flowtest.Plan(onlyGuest, "a"))
			c.missingImage = map[string]string{"a guest.0": "the image p:1 is not on runner r1"}
			claims := 0
			c.claims = func(string) error {
				if claims++; claims == 2 && !others {
					return workflows.Refuse(bfia.CodeNotFound, "no other runner could have the image p:1")
				}
				if claims == 2 {
					return workflows.Refuse(bfia.CodeUnavailable, "runner r2 uses all its slots")
				}
				if claims == 3 {
					c.missingImage = nil
				}
				return nil
			}
			c.at(time.Second, func() { c.start("a") })
			c.at(time.Minute, func() { c.stop("") })
			r, err := c.play()
			require.NoError(t, err)
			if others {
				assert.Equal(t, workflows.OutcomeSuccess, r.Outcome)
				assert.Equal(t, 3, claims)
				assert.True(t, slices.ContainsFunc(c.waited, func(w bfia.Waiting) bool {
					return w.Kind == bfia.WaitsForImage && !w.Since.IsZero() &&
						strings.Contains(w.Message, "runner r2 uses all its slots")
				}), "%v", c.waited)
				assert.Nil(t, c.partWaits["a guest.0"])
			} else {
				assert.Equal(t, workflows.OutcomeFailed, r.Outcome)
				assert.Contains(t, r.Reason, "the image p:1 is not on runner r1")
			}
		})
	}
}

// TestParticipantCallbackOfNoTask checks that a callback for a task that is unknown, or has not started, is
// ignored.
func TestParticipantCallbackOfNoTask(t *testing.T) {
	c := newFakeBackend(t, flowtest.Plan(onlyGuest, "a", "b<a"))
	c.runs["b guest.0"] = container{after: 5 * time.Second}
	c.at(time.Second, func() {
		c.start("a")
		c.callback("b", "guest", bfia.TaskFailed)
		c.callback("what", "guest", bfia.TaskFailed)
	})
	c.at(2*time.Second, func() {
		c.env.SignalWorkflow(workflows.SignalTaskCallback,
			bfia.TaskReport{Role: "guest", Status: bfia.TaskFailed})
	})
	c.at(5*time.Second, func() { c.startTask("b") })
	c.at(time.Minute, func() { c.stop("") })
	r, err := c.play()
	require.NoError(t, err)
	assert.Equal(t, workflows.OutcomeSuccess, r.Outcome)
	assert.InDelta(t, 10, c.times["report b guest.0 SUCCESS"].Seconds(), 0.9)
}

func TestParticipantTaskStarts(t *testing.T) {
	for _, c := range []struct {
		name string
		act  func(c *fakeBackend)
		ran  bool
	}{
		{"twice", func(c *fakeBackend) { c.start("a", "a"); c.at(time.Second, func() { c.startTask("a") }) },
			true},
		{"again after its end", func(c *fakeBackend) {
			c.start("a")
			c.at(10*time.Second,
				func() { c.startTask("a") })
		}, true},
		{"again under another id", func(c *fakeBackend) {
			c.start("a")
			c.env.SignalWorkflow(workflows.SignalTaskStart,
				bfia.TaskRef{JobID: c.in.Plan.JobID, TaskID: "other", TaskName: "a"})
		}, true},
		{"before job/start", func(c *fakeBackend) {
			c.startTask("a")
			c.at(time.Second, func() { c.env.SignalWorkflow(workflows.SignalStart, nil) })
		}, true},
		{"without job/start", func(c *fakeBackend) { c.startTask("a") }, true},
		{"job/start twice", func(c *fakeBackend) {
			c.env.SignalWorkflow(workflows.SignalStart,
				nil)
			c.start("a")
		}, true},
		{"one that is not there", func(c *fakeBackend) { c.start("what") }, false},
		{"after the job's stop", func(c *fakeBackend) { c.stop(""); c.start("a") }, false},
		{"after its own stop", func(c *fakeBackend) { c.stop("a"); c.start("a") }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			y := newFakeBackend(t, flowtest.Plan(onlyGuest, "a"))
			y.at(time.Second, func() { c.act(y) })
			y.at(time.Minute, func() { y.stop("") })
			r, err := y.play() // fails if a container runs twice
			require.NoError(t, err)
			if c.ran {
				assert.Equal(t, workflows.OutcomeSuccess, r.Outcome)
				assert.Contains(t, y.log, "run a guest.0")
				return
			}
			assert.Equal(t, workflows.OutcomeStopped, r.Outcome)
			assert.Equal(t, bfia.TaskReady, y.rows["a guest.0"], "what has not begun stays READY")
			assert.NotContains(t, y.log, "run a guest.0")
		})
	}
}

// TestParticipantWaitsForRunner checks that a task waits for a runner that can run it, and fails if none ever
// will.
func TestParticipantWaitsForRunner(t *testing.T) {
	c := newFakeBackend(t, flowtest.Plan(onlyGuest, "a"))
	free := false
	c.claims = func(string) error {
		if !free {
			return flowtest.RefusedBy(bfia.CodeUnavailable, "no runner host is there")
		}
		return nil
	}
	c.at(time.Second, func() { c.start("a") })
	c.at(10*time.Minute, func() { c.mu.Lock(); free = true; c.mu.Unlock() })
	c.at(20*time.Minute, func() { c.stop("") })
	r, err := c.play()
	require.NoError(t, err)
	assert.Equal(t, workflows.OutcomeSuccess, r.Outcome)
	assert.InDelta(t, 10*60+30, c.times["run a guest.0"].Seconds(), 31, "started within a minute")
	assert.Less(t, c.tried["a"], 20, "each claim adds to the history")
}

// TestParticipantCallbackBeforeRun checks that a callback does not end a part that waits for its runner.
func TestParticipantCallbackBeforeRun(t *testing.T) {
	c := newFakeBackend(t, flowtest.Plan(onlyGuest, "a"))
	c.claims = func(string) error {
		if c.env.Now().Sub(c.began) < 10*time.Second {
			return flowtest.RefusedBy(bfia.CodeUnavailable, "no runner host is there")
		}
		return nil
	}
	c.runs["a guest.0"] = container{exit: 1, reason: "exit code 1", after: time.Second}
	c.at(time.Second, func() { c.start("a") })
	c.at(3*time.Second, func() { c.callback("a", "guest", bfia.TaskSuccess) })
	c.at(time.Minute, func() { c.stop("") })
	_, err := c.play()
	require.NoError(t, err)
	assert.Equal(t, bfia.TaskFailed, c.rows["a guest.0"])
}

func TestParticipantNoRunnerEver(t *testing.T) {
	c := newFakeBackend(t, flowtest.Plan([]bfia.Part{flowtest.GuestA, flowtest.HostA}, "a"))
	c.claims = func(string) error { return flowtest.RefusedBy(bfia.CodeConflict, "task a runs as another") }
	c.at(time.Second, func() { c.start("a") })
	c.at(time.Minute, func() { c.stop("") })
	r, err := c.play()
	require.NoError(t, err)
	assert.Equal(
		t,
		workflows.Result{
			State:   bfia.JobFinished,
			Outcome: workflows.OutcomeFailed,
			Reason:  "task a failed at A (guest.0): task a runs as another",
		},
		r,
	)
	assert.Equal(t, bfia.TaskFailed, c.rows["a host.0"])
}

// TestParticipantRunnerLost checks that a runner that does not answer does not keep a job open, and that the
// stop is retried until then.
func TestParticipantRunnerLost(t *testing.T) {
	c := newFakeBackend(t, flowtest.Plan(onlyGuest, "a"))
	c.runs["a guest.0"] = container{stays: true}
	c.errors["StopTask"] = flowtest.ErrAway
	c.at(time.Second, func() { c.start("a") })
	c.at(20*time.Second, func() { c.stop("") })
	c.at(45*time.Second, func() { c.mu.Lock(); delete(c.errors, "StopTask"); c.mu.Unlock() })
	_, err := c.play() // fails if the container remains
	require.NoError(t, err)
	assert.Equal(t, bfia.TaskFailed, c.rows["a guest.0"])
	assert.Greater(t, c.times["stop a guest.0"], 45*time.Second)
	c.before(t, "stop a guest.0", "release")
}

// TestParticipantSchedulerAway checks that a job does not wait for an unreachable scheduler, which polls once
// it is back.
func TestParticipantSchedulerAway(t *testing.T) {
	c := newFakeBackend(t, flowtest.Plan(onlyGuest, "a", "b<a"))
	c.errors["SendCallback"] = flowtest.ErrAway
	c.at(time.Second, func() { c.start("a") })
	c.at(5*time.Second, func() { c.startTask("b") })
	c.at(time.Minute, func() { c.stop("") })
	r, err := c.play()
	require.NoError(t, err)
	assert.Equal(t, workflows.OutcomeSuccess, r.Outcome)
	assert.Equal(t, map[string]bfia.TaskState{"a guest.0": bfia.TaskSuccess, "b guest.0": bfia.TaskSuccess},
		c.rows)
}

// TestParticipantOutlastsItsDatabase checks that a database that is unreachable for an hour delays reports,
// and loses none.
func TestParticipantOutlastsItsDatabase(t *testing.T) {
	c := newFakeBackend(t, flowtest.Plan(onlyGuest, "a"))
	c.errors["RecordTaskEnd"] = flowtest.ErrDatabase
	c.at(time.Second, func() { c.start("a") })
	c.at(time.Hour, func() { c.mu.Lock(); delete(c.errors, "RecordTaskEnd"); c.mu.Unlock() })
	c.at(2*time.Hour, func() { c.stop("") })
	_, err := c.play()
	require.NoError(t, err)
	assert.Equal(t, bfia.TaskSuccess, c.rows["a guest.0"])
	assert.Greater(t, c.times["report a guest.0 SUCCESS"], time.Hour)
}

// TestParticipantUndone checks that a job that was not created at every party leaves no row, and that its
// workflow is Completed, and not Failed.
func TestParticipantUndone(t *testing.T) {
	c := newFakeBackend(t, flowtest.Plan(onlyGuest, "a"))
	c.at(time.Second,
		func() { c.env.SignalWorkflow(workflows.SignalStop, workflows.Stop{By: flowtest.NodeB, Undo: true}) })
	_, err := c.play()
	require.EqualError(t, err, "the job was not created at every party, so B had it undone")
	assert.Equal(t, []string{"forget"}, c.log)
	assert.Empty(t, c.rows)
	assert.Equal(t, []error{nil}, c.answers)
}

// TestParticipantNotRecorded checks that the creator of a job that cannot be recorded learns why.
func TestParticipantNotRecorded(t *testing.T) {
	c := newFakeBackend(t, flowtest.Plan(onlyGuest, "a"))
	c.errors["RecordJob"] = flowtest.RefusedBy(bfia.CodeConflict, "job_id: known with other content")
	_, err := c.play()
	require.Error(t, err)
	require.Len(t, c.answers, 1)
	code, words, refused := workflows.RefusalCode(c.answers[0])
	assert.True(t, refused)
	assert.Equal(t, bfia.CodeConflict, code)
	assert.Equal(t, "job_id: known with other content", words)
}

// TestParticipantCreatedAsItIsUndone checks that a creation is refused while the job is being undone. Here,
// the undoing and the update come in the same workflow task.
func TestParticipantCreatedAsItIsUndone(t *testing.T) {
	c := newFakeBackend(t, flowtest.Plan(onlyGuest, "a"))
	c.at(time.Minute, func() {
		c.env.SignalWorkflow(workflows.SignalStop, workflows.Stop{By: flowtest.NodeB, Undo: true})
		c.env.UpdateWorkflow(workflows.UpdateCreate, "again", &testsuite.TestUpdateCallback{
			OnAccept: func() {}, OnReject: func(err error) { c.breaks("create was rejected: %v", err) },
			OnComplete: func(_ any, err error) { c.answers = append(c.answers, err) },
		})
	})
	_, err := c.play()
	require.ErrorContains(t, err, "had it undone")
	require.Len(t, c.answers, 2)
	require.NoError(t, c.answers[0])
	_, _, refused := workflows.RefusalCode(c.answers[1])
	assert.True(t, refused, "%v", c.answers[1])
}

// TestParticipantUndoneBeforeItIsRecorded checks that a job that is undone before it is recorded, since its
// scheduler has given up, is not reported as created. Otherwise the undoing would end a job that is created
// again.
func TestParticipantUndoneBeforeItIsRecorded(t *testing.T) {
	c := newFakeBackend(t, flowtest.Plan(onlyGuest, "a"))
	c.errors["RecordJob"] = flowtest.ErrAway
	c.at(time.Second,
		func() { c.env.SignalWorkflow(workflows.SignalStop, workflows.Stop{By: flowtest.NodeB, Undo: true}) })
	c.at(2*time.Second, func() {
		c.env.UpdateWorkflow(workflows.UpdateCreate, "again", &testsuite.TestUpdateCallback{
			OnAccept: func() {}, OnReject: func(err error) { c.breaks("create was rejected: %v", err) },
			OnComplete: func(_ any, err error) { c.answers = append(c.answers, err) },
		})
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.errors, "RecordJob")
	})
	_, err := c.play()
	require.ErrorContains(t, err, "had it undone")
	assert.Empty(t, c.rows)
	require.Len(t, c.answers, 2)
	for _, answer := range c.answers {
		code, _, refused := workflows.RefusalCode(answer)
		assert.True(t, refused, "%v", answer)
		assert.Equal(t, bfia.CodeUnavailable, code)
	}
}
