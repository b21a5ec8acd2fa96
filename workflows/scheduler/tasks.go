package scheduler

import (
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/workflow"

	"hutong/activities"
	"hutong/activities/scheduler"
	"hutong/bfia"
	"hutong/workflows"
)

// task is a task at its scheduler.
type task struct {
	plan       *bfia.PlannedTask
	nodes      []string // at which it runs
	id         string   // of its attempt
	attempt    int      // from 1
	state      bfia.TaskState
	endedAt    time.Time
	parts      []bfia.TaskState
	failures   []*bfia.Failure // of parts that FAILED
	failure    *bfia.Failure   // of the part whose failure is the cause, as far as known
	stopReason string          // why it must not start, or must end
	stoppedBy  string
	polled     bool // a poll runs
	// waits are what it waits for, by party, as that poll knows them.
	waits   map[string]*bfia.Waiting
	reports int                    // counts reports, to detect silence
	lost    *bfia.Failure          // the retryable failure of its attempt; nil while that runs
	cause   *bfia.Failure          // the failure of the attempt before; nil in the first one
	begun   time.Time              // when its attempt started
	before  *scheduler.LostAttempt // the attempt before, until it is recorded
}

func newTask(plan *bfia.Plan, p *bfia.PlannedTask) *task {
	t := &task{plan: p, nodes: p.Nodes(),
		id: bfia.TaskID(plan.JobID, p.Name), attempt: 1, state: bfia.TaskReady,
		waits: map[string]*bfia.Waiting{}, parts: make([]bfia.TaskState, len(p.Parts)),
		failures: make([]*bfia.Failure, len(p.Parts))}
	for k := range t.parts {
		t.parts[k] = bfia.TaskReady
	}

	return t
}

// reason returns where and why the task failed, if it has.
func (t *task) reason() string {
	if t.failure == nil {
		return ""
	}

	return fmt.Sprintf("%s (%s): %s", t.failure.NodeID, t.failure.Role, t.failure.Text())
}

// failedAt reports whether a part at the node has failed.
func (t *task) failedAt(node string) bool {
	for k, p := range t.plan.Parts {
		if p.NodeID == node && t.parts[k] == bfia.TaskFailed {
			return true
		}
	}

	return false
}

// runTask runs a task at its parties, in one or more attempts.
func (j *job) runTask(ctx workflow.Context, t *task) {
	j.runAttempt(ctx, t)
	for t.lost != nil && j.wants(t) {
		if j.startNextAttempt(ctx, t) {
			j.runAttempt(ctx, t)
		}
	}
	t.lost = nil
	j.awaitCause(ctx, t)

	// The stop that follows fails the parts that run. Those that have not begun stay READY.
	why := t.stopReason
	switch {
	case why != "":
	case j.ending():
		why = "the job was stopped: " + j.failure.String()
	default:
		why = "stopped, since the task failed at " + t.reason()
	}
	if t.state != bfia.TaskSuccess {
		for k := range t.parts {
			if t.parts[k] == bfia.TaskRunning {
				j.report(t, k, bfia.TaskFailed, &bfia.Failure{Kind: bfia.FailedStopped, Message: why})
			}
		}
	}
	if t.state == bfia.TaskFailed && t.stopReason == "" {
		j.finish(workflows.OutcomeFailed, t.failure)
	}
}

// causeWait bounds how long a task that failed since a part lost its partner waits for the partner's failure.
// A component notifies its partners before it exits, so the other part ends within seconds.
const causeWait = 15 * time.Second

// changeCause is the version of workflows that wait for the cause of a failure.
const changeCause = "cause-of-failure"

// awaitCause waits for the failure of another part if the known one only follows from it. The stop that ends
// the task would end the other part first, and its failure would be lost.
func (j *job) awaitCause(ctx workflow.Context, t *task) {
	if t.state != bfia.TaskFailed || !t.failure.IsConsequence() || j.ending() || t.stopReason != "" ||
		workflow.GetVersion(ctx, changeCause, workflow.DefaultVersion, 1) == workflow.DefaultVersion {
		return
	}

	timerCtx, cancel := workflow.WithCancel(ctx)
	defer cancel()
	timer := workflow.NewTimer(timerCtx, causeWait)
	over := func() bool {
		running := slices.ContainsFunc(t.parts, func(s bfia.TaskState) bool { return !s.Terminal() })

		return timer.IsReady() || !running || !t.failure.IsConsequence() || j.ending() || t.stopReason != ""
	}
	for reports := -1; !over() && t.reports != reports; {
		reports = t.reports
		j.poll(ctx, t, over)
	}
	_ = workflow.Await(ctx, over)
}

// wants reports whether a task has neither ended nor been stopped.
func (j *job) wants(t *task) bool {
	return !t.state.Terminal() && !j.ending() && t.stopReason == ""
}

// runAttempt starts a task at its parties and waits for its end, by callbacks, and by polling after a
// silence.
func (j *job) runAttempt(ctx workflow.Context, t *task) {
	if t.begun.IsZero() {
		t.begun = workflow.Now(ctx)
	}
	for k := range t.parts {
		j.report(t, k, bfia.TaskRunning, nil)
	}
	j.describe(ctx)

	// A start that a party has not accepted yet is cancelled when the attempt is over.
	startCtx, cancel := workflow.WithCancel(ctx)
	defer cancel()
	for _, node := range t.plan.Nodes() {
		j.startTask(ctx, startCtx, t, node)
	}

	over := func() bool { return t.lost != nil || !j.wants(t) }
	defer delete(j.silentAt, t)
	for !over() {
		reports, silentAt := t.reports, workflow.Now(ctx).Add(j.pollDelay(t))
		j.silentAt[t] = silentAt
		if err := workflow.Await(ctx, func() bool {
			return over() || t.reports != reports || !workflow.Now(ctx).Before(silentAt)
		}); err != nil {
			return // the workflow was cancelled
		}
		if !over() && t.reports == reports {
			delete(j.silentAt, t)
			j.poll(ctx, t, over)
		}
	}
}

// startTask starts the attempt of a task at a party. A failure to do so is the failure of the task's parts
// there.
func (j *job) startTask(ctx, startCtx workflow.Context, t *task, node string) {
	attempt := t.attempt
	ref := bfia.TaskRef{JobID: j.Plan.JobID, TaskID: t.id, TaskName: t.plan.Name, Reuse: j.reuses(t)}
	id := fmt.Sprintf("start %s at %s", t.plan.Name, node)
	if attempt > 1 {
		ref.Attempt, ref.Lost = attempt, t.cause
		id += fmt.Sprintf(" (attempt %d)", attempt)
	}

	send := workflows.SendLocalFirst
	if !j.accepted[node].Callbacks {
		// A party of another implementation may run a task twice if the command is repeated. SendTaskStart
		// asks before it starts a task again, but cannot know of a first try as a local activity.
		send = workflows.SendCommand
	}
	f := send(startCtx, id, j.Settings.GiveUpAfter, act.SendTaskStart,
		scheduler.SendTaskStartInput{Node: node, Task: ref})
	j.starts[node]++
	workflow.Go(ctx, func(ctx workflow.Context) {
		err := f.Get(ctx, nil)
		j.starts[node]--
		if err != nil && t.attempt == attempt && t.lost == nil {
			j.reportNode(t, node, "", bfia.TaskFailed, workflows.CommandFailure(node, "did not start", err))
		}
	})
}

// startNextAttempt records the next attempt of a task before its parties learn of it, since their reports
// must find it. It returns false if the task or the job is stopped meanwhile.
func (j *job) startNextAttempt(ctx workflow.Context, t *task) bool {
	j.logger.Warn("retrying a task", "task_id", t.id, "task_name", t.plan.Name, "attempt", t.attempt+1,
		"reason", t.lost.String())

	delete(j.byID, t.id)
	now := workflow.Now(ctx)
	t.before = &scheduler.LostAttempt{StartedAt: t.begun, EndedAt: now, Failure: t.lost}
	t.begun, t.cause = now, t.lost
	t.attempt++
	t.id, t.lost = bfia.AttemptID(j.Plan.JobID, t.plan.Name, t.attempt), nil
	j.byID[t.id] = t
	for k := range t.parts {
		t.parts[k], t.failures[k] = bfia.TaskRunning, nil
		j.markDirty(t, k)
	}
	t.reports++
	j.describe(ctx)
	_ = workflow.Await(ctx, func() bool { return !j.wants(t) || !j.writing && j.dirty[t] == nil })

	return j.wants(t)
}

// shouldRetry reports whether a part's failure leads to another attempt of its task. All parties must support
// attempts, and all restart their parts: the messages between the containers of the lost attempt cannot be
// sent again.
func (j *job) shouldRetry(t *task, failure *bfia.Failure) bool {
	if !failure.Retryable() || t.attempt >= j.Settings.Attempts || !j.wants(t) {
		return false
	}

	unsupported := func(p bfia.Part) bool { return !j.accepted[p.NodeID].Attempts }

	return !slices.ContainsFunc(t.plan.Parts, unsupported)
}

// reuses reports whether a task takes its outputs from an earlier job. The scheduler must know of their
// success, every party must hold its part of them, and the task's dependencies must be reused as well.
func (j *job) reuses(t *task) bool {
	if !slices.Contains(j.Reuse, t.plan.Name) {
		return false
	}
	for _, p := range t.plan.Parts {
		if !slices.Contains(j.accepted[p.NodeID].Reuses, t.plan.Name) {
			return false
		}
	}

	return !slices.ContainsFunc(t.plan.DependsOn, func(d string) bool { return !j.reuses(j.byName[d]) })
}

// reportNode applies a report to the parts that a node plays in a role; an empty role means all of them.
func (j *job) reportNode(t *task, node, role string, state bfia.TaskState, failure *bfia.Failure) {
	for k, p := range t.plan.Parts {
		if p.NodeID == node && (role == "" || role == p.Role || role == p.Self()) {
			j.report(t, k, state, failure)
		}
	}
}

// report moves a part's state forward, and the task's with it. A retryable failure moves neither: it ends the
// attempt.
func (j *job) report(t *task, k int, state bfia.TaskState, failure *bfia.Failure) {
	next := t.parts[k].Next(state)
	if next == t.parts[k] || t.lost != nil {
		return
	}

	p := t.plan.Parts[k]
	if next == bfia.TaskFailed {
		located := bfia.Failure{Kind: bfia.FailedUnknown}
		if failure != nil {
			located = *failure
		}
		// Whatever the party reports.
		located.NodeID, located.Role, located.Task = p.NodeID, p.Self(), t.plan.Name
		if j.shouldRetry(t, &located) {
			t.lost = &located
			t.reports++

			return
		}
		t.failures[k] = &located
	}
	t.parts[k] = next
	t.reports++

	if merged := t.state.Next(bfia.MergeTaskStates(t.parts...)); merged != t.state {
		t.state, j.changed = merged, true
	}
	if t.state == bfia.TaskFailed && t.failures[k].Causes(t.failure) {
		t.failure = t.failures[k]
	}
	j.markDirty(t, k)
}

// receiveCallbacks receives the states of parts from their parties.
func (j *job) receiveCallbacks(ctx workflow.Context) {
	ch := workflow.GetSignalChannel(ctx, workflows.SignalCallback)
	for {
		var c workflows.Callback
		if !ch.Receive(ctx, &c) {
			return
		}

		t, ok := j.byID[c.TaskID]
		if !ok || t.state == bfia.TaskReady {
			j.logger.Warn("ignored a callback for a task that does not run",
				"task_id", c.TaskID, "from", c.Node)

			continue
		}
		j.reportNode(t, c.Node, c.Role, c.State, c.Failure)
	}
}

// receiveTaskWaits receives what a task waits for at its parties, as a poll learns it, and shows it.
func (j *job) receiveTaskWaits(ctx workflow.Context) {
	ch := workflow.GetSignalChannel(ctx, workflows.SignalTaskWait)
	for {
		var w activities.PartWait
		if !ch.Receive(ctx, &w) {
			return
		}
		if t, ok := j.byID[w.TaskID]; ok && t.polled {
			t.waits[w.NodeID] = w.Waiting
			j.describe(ctx)
		}
	}
}

// receiveStops receives requests to stop the job, or a task and its dependents.
func (j *job) receiveStops(ctx workflow.Context) {
	ch := workflow.GetSignalChannel(ctx, workflows.SignalStop)
	for {
		var s workflows.Stop
		if !ch.Receive(ctx, &s) {
			return
		}
		if s.Task == "" {
			j.finish(workflows.OutcomeStopped, workflows.StoppedBy(s.By))
		} else {
			j.stopTask(ctx, s)
		}
	}
}

// stopTask stops a task that has not ended, and its dependents.
func (j *job) stopTask(ctx workflow.Context, s workflows.Stop) {
	first, ok := j.Plan.Task(s.Task)
	if !ok || j.byName[first.Name].state.Terminal() {
		return
	}

	var nodes []string
	for _, name := range j.Plan.WithDependents(s.Task) {
		t := j.byName[name]
		if !t.state.Terminal() && t.stopReason == "" {
			t.stopReason, t.stoppedBy, j.changed = "stopped by "+s.By, s.By, true
			nodes = append(nodes, t.plan.Nodes()...)
		}
	}
	slices.Sort(nodes)
	for _, node := range slices.Compact(nodes) {
		ref := bfia.JobRef{JobID: j.Plan.JobID, TaskName: s.Task}
		id := fmt.Sprintf("stop %s at %s", s.Task, node)
		workflows.SendCommand(ctx, id, j.Settings.GiveUpAfter, act.SendStop,
			scheduler.SendStopInput{Node: node, Job: ref})
	}
}
