package scheduler

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"hutong/activities"
	"hutong/activities/scheduler"
	"hutong/bfia"
	"hutong/workflows"
)

// runTask runs a task on its parties, in as many attempts as it takes and may.
func (j *job) runTask(ctx workflow.Context, t *scheduledTask) {
	j.runAttempt(ctx, t)
	for t.lost != nil && j.goesOn(t) {
		if j.startNextAttempt(ctx, t) {
			j.runAttempt(ctx, t)
		}
	}
	t.lost = nil // no further attempt
	// Parts that ran are failed by the stop that follows; what had not begun stays READY.
	why := t.stopped
	switch {
	case why != "":
	case j.ending():
		why = "the job was stopped: " + j.failure.String()
	default:
		why = "stopped, since the task failed at " + t.reason
	}
	if t.state != bfia.TaskSuccess {
		for k := range t.parts {
			if t.parts[k] == bfia.TaskRunning {
				j.report(t, k, bfia.TaskFailed, &bfia.Failure{Kind: bfia.FailedStopped, Message: why})
			}
		}
	}
	if t.state == bfia.TaskFailed && t.stopped == "" {
		j.finish(workflows.OutcomeFailed, t.failure)
	}
}

// goesOn tells whether a task is still to be brought to its end.
func (j *job) goesOn(t *scheduledTask) bool {
	return !t.state.Terminal() && !j.ending() && t.stopped == ""
}

// runAttempt starts a task on its parties and waits for its end: callbacks first, questions after a silence.
func (j *job) runAttempt(ctx workflow.Context, t *scheduledTask) {
	for k := range t.parts {
		j.report(t, k, bfia.TaskRunning, nil)
	}
	// What has ended is not started any more where its start was not taken yet.
	startCtx, cancel := workflow.WithCancel(ctx)
	defer cancel()
	attempt := t.attempt
	for _, node := range t.plan.Nodes() {
		ref := bfia.TaskRef{JobID: j.Plan.JobID, TaskID: t.id, TaskName: t.plan.Name, Reuse: j.reuses(t)}
		id := fmt.Sprintf("start %s at %s", t.plan.Name, node)
		if attempt > 1 {
			ref.Attempt = attempt
			id += fmt.Sprintf(" (attempt %d)", attempt)
		}
		send := workflows.SendLocalFirst
		if !j.accepted[node].Callbacks {
			send = workflows.SendCommand // a foreign party may run a task twice that is started twice: a second try asks first
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
	over := func() bool { return t.lost != nil || !j.goesOn(t) }
	defer delete(j.silentAt, t)
	for !over() {
		heard, silentAt := t.heard, workflow.Now(ctx).Add(j.pollDelay(t))
		j.silentAt[t] = silentAt
		if err := workflow.Await(ctx, func() bool { return over() || t.heard != heard || !workflow.Now(ctx).Before(silentAt) }); err != nil {
			return // the workflow itself was cancelled
		}
		if !over() && t.heard == heard {
			delete(j.silentAt, t)
			j.poll(ctx, t, over)
		}
	}
}

// watchSilence wakes the tasks of which nothing is heard: one timer for all, since most tasks end before theirs would.
func (j *job) watchSilence(ctx workflow.Context) {
	for {
		// Those whose silence is over take note of it themselves.
		if err := workflow.Await(ctx, func() bool { return len(j.silentAt) > 0 && j.nextSilence().After(workflow.Now(ctx)) }); err != nil {
			return
		}
		wake := j.nextSilence()
		timerCtx, cancel := workflow.WithCancel(ctx)
		timer := workflow.NewTimer(timerCtx, wake.Sub(workflow.Now(ctx)))
		err := workflow.Await(ctx, func() bool { return timer.IsReady() || len(j.silentAt) > 0 && j.nextSilence().Before(wake) })
		cancel()
		if err != nil {
			return
		}
	}
}

// nextSilence is when the first of the tasks that run counts as silent.
func (j *job) nextSilence() (next time.Time) {
	for _, at := range j.silentAt {
		if next.IsZero() || at.Before(next) {
			next = at
		}
	}
	return next
}

// shouldRetry tells whether a part's failure is no end of its task: another attempt follows. All its parties must know of
// attempts, and start anew, since what the lost container has told the others is not told twice.
func (j *job) shouldRetry(t *scheduledTask, failure *bfia.Failure) bool {
	if !failure.Retryable() || t.attempt >= j.Settings.Attempts || !j.goesOn(t) {
		return false
	}
	for _, p := range t.plan.Parts {
		if !j.accepted[p.NodeID].Attempts {
			return false
		}
	}
	return true
}

// startNextAttempt makes a further attempt of a task known, before its parties are told: what they report of it must find it. It
// answers false when the job does not go on meanwhile.
func (j *job) startNextAttempt(ctx workflow.Context, t *scheduledTask) bool {
	j.logger.Warn("a task begins again", "task_id", t.id, "task_name", t.plan.Name, "attempt", t.attempt+1, "reason", t.lost.String())
	delete(j.byID, t.id)
	t.attempt++
	t.id, t.lost = bfia.AttemptID(j.Plan.JobID, t.plan.Name, t.attempt), nil
	j.byID[t.id] = t
	for k := range t.parts {
		t.parts[k], t.failures[k] = bfia.TaskRunning, nil
		j.markDirty(t, k)
	}
	t.heard++
	j.describe(ctx)
	_ = workflow.Await(ctx, func() bool { return !j.goesOn(t) || j.written && !j.dirty[t] })
	return j.goesOn(t)
}

// reuses tells whether an earlier job's outputs stand for a task's own: the scheduler knows of its success, every party
// holds its part, and the same is true of all that it depends on.
func (j *job) reuses(t *scheduledTask) bool {
	if !slices.Contains(j.Reuse, t.plan.Name) {
		return false
	}
	for _, p := range t.plan.Parts {
		if !slices.Contains(j.accepted[p.NodeID].Reuses, t.plan.Name) {
			return false
		}
	}
	for _, d := range t.plan.DependsOn {
		if !j.reuses(j.byName[d]) {
			return false
		}
	}
	return true
}

// patience is how long a task may be silent before its nodes are asked. A job of sync_type poll asks those soon that
// have not said at creation that they tell by themselves, as every Hutong does.
func (j *job) pollDelay(t *scheduledTask) time.Duration {
	if j.Plan.SyncType == bfia.SyncPoll {
		for k, p := range t.plan.Parts {
			if !t.parts[k].Terminal() && !j.accepted[p.NodeID].Callbacks {
				return min(j.Settings.PollEvery, j.Settings.PollAfter)
			}
		}
	}
	return j.Settings.PollAfter
}

// poll asks the nodes that are silent until one of them tells the task's end, or something else is heard.
func (j *job) poll(ctx workflow.Context, t *scheduledTask, over func() bool) {
	var nodes []string
	for k, p := range t.plan.Parts {
		if !t.parts[k].Terminal() && !slices.Contains(nodes, p.NodeID) {
			nodes = append(nodes, p.NodeID)
		}
	}
	ctx, cancel := workflow.WithCancel(ctx)
	defer cancel()
	f := workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		ActivityID: fmt.Sprintf("poll %s (%d)", t.plan.Name, t.heard), TaskQueue: activities.ControlQueue,
		Summary:             "ask " + strings.Join(nodes, ", ") + " for " + t.plan.Name,
		StartToCloseTimeout: workflows.RunLimit, HeartbeatTimeout: workflows.HeartbeatTimeout,
		RetryPolicy: &temporal.RetryPolicy{InitialInterval: j.Settings.PollEvery, BackoffCoefficient: 1},
	}), act.PollTask, scheduler.PollTaskInput{
		JobID: j.Plan.JobID, TaskID: t.id, Nodes: nodes, Every: j.Settings.PollEvery, GiveUpAfter: j.Settings.GiveUpAfter})
	heard := t.heard
	_ = workflow.Await(ctx, func() bool { return f.IsReady() || over() || t.heard != heard })
	if !f.IsReady() {
		return
	}
	var ended []scheduler.PollTaskResult
	if err := f.Get(ctx, &ended); err != nil {
		j.logger.Warn("polling ended", "task_id", t.id, "reason", workflows.Reason(err))
		return
	}
	for _, r := range ended {
		j.reportNode(t, r.Node, "", r.State, r.Failure)
	}
}

// reportNode takes a report about the parts that a node plays in a role; an empty role means all of them.
func (j *job) reportNode(t *scheduledTask, node, role string, state bfia.TaskState, failure *bfia.Failure) {
	for k, p := range t.plan.Parts {
		if p.NodeID == node && (role == "" || role == p.Role || role == p.Self()) {
			j.report(t, k, state, failure)
		}
	}
}

// report moves one part's state forward, and the task's with it.
func (j *job) report(t *scheduledTask, k int, state bfia.TaskState, failure *bfia.Failure) {
	next := t.parts[k].Next(state)
	if next == t.parts[k] {
		return
	}
	p := t.plan.Parts[k]
	if t.lost != nil {
		return // whatever becomes of the attempt's other parts
	}
	if next == bfia.TaskFailed {
		told := bfia.Failure{Kind: bfia.FailedUnknown}
		if failure != nil {
			told = *failure
		}
		told.NodeID, told.Role, told.Task = p.NodeID, p.Self(), t.plan.Name // whatever the party says
		if j.shouldRetry(t, &told) {
			t.lost = &told
			t.heard++
			return
		}
		t.failures[k] = &told
	}
	t.parts[k] = next
	t.heard++
	if merged := t.state.Next(bfia.MergeTaskStates(t.parts...)); merged != t.state {
		t.state, j.moved = merged, true
		if merged == bfia.TaskFailed {
			t.failure = t.failures[k]
			t.reason = fmt.Sprintf("%s (%s): %s", p.NodeID, p.Self(), t.failure.Text())
		}
	}
	j.markDirty(t, k)
}

// touch has a part's state written.
func (j *job) markDirty(t *scheduledTask, k int) {
	if !j.dirty[t] {
		j.dirty[t] = true
		j.dirtyOrder = append(j.dirtyOrder, t)
		j.dirtyParts[t] = map[int]bool{}
	}
	j.dirtyParts[t][k] = true
}

// receiveCallbacks takes what parties tell of their parts.
func (j *job) receiveCallbacks(ctx workflow.Context) {
	ch := workflow.GetSignalChannel(ctx, workflows.SignalCallback)
	for {
		var c workflows.Callback
		if !ch.Receive(ctx, &c) {
			return
		}
		t, ok := j.byID[c.TaskID]
		if !ok || t.state == bfia.TaskReady {
			j.logger.Warn("callback for a task that does not run", "task_id", c.TaskID, "from", c.Node)
			continue
		}
		j.reportNode(t, c.Node, c.Role, c.State, c.Failure)
	}
}

// receiveStops takes the wish to end the job, or a task and what follows it.
func (j *job) receiveStops(ctx workflow.Context) {
	ch := workflow.GetSignalChannel(ctx, workflows.SignalStop)
	for {
		var s workflows.Stop
		if !ch.Receive(ctx, &s) {
			return
		}
		if s.Task == "" {
			j.finish(workflows.OutcomeStopped, workflows.StoppedBy(s.By))
			continue
		}
		var nodes []string
		first, ok := j.Plan.Task(s.Task)
		if !ok || j.byName[first.Name].state.Terminal() {
			continue
		}
		for _, name := range j.Plan.WithDependents(s.Task) {
			t := j.byName[name]
			if !t.state.Terminal() && t.stopped == "" {
				t.stopped, t.stoppedBy, j.moved = "stopped by "+s.By, s.By, true
				nodes = append(nodes, t.plan.Nodes()...)
			}
		}
		slices.Sort(nodes)
		for _, node := range slices.Compact(nodes) {
			workflows.SendCommand(ctx, fmt.Sprintf("stop %s at %s", s.Task, node), j.Settings.GiveUpAfter, act.SendStop,
				scheduler.SendStopInput{Node: node, Job: bfia.JobRef{JobID: j.Plan.JobID, TaskName: s.Task}})
		}
	}
}

// recordProgress writes what changed to the rows that users read, all that came together in one write.
func (j *job) recordProgress(ctx workflow.Context) {
	for {
		if err := workflow.Await(ctx, func() bool { return j.created && (len(j.dirty) > 0 || j.unwritten.State != "") }); err != nil {
			return
		}
		p := j.unwritten
		p.JobID, p.At = j.Plan.JobID, workflow.Now(ctx)
		for _, t := range j.dirtyOrder {
			tp := scheduler.TaskProgress{TaskID: t.id, State: t.state, Reason: t.reason}
			if t.attempt > 1 {
				tp.Name, tp.Attempt = t.plan.Name, t.attempt
			}
			for k := range t.parts {
				if j.dirtyParts[t][k] {
					tp.Parts = append(tp.Parts, scheduler.PartProgress{Part: t.plan.Parts[k], State: t.parts[k], Failure: t.failures[k]})
				}
			}
			p.Tasks = append(p.Tasks, tp)
		}
		j.unwritten = scheduler.Progress{}
		j.dirty, j.dirtyOrder, j.dirtyParts = map[*scheduledTask]bool{}, nil, map[*scheduledTask]map[int]bool{}
		j.written = false
		var next []string
		if err := workflows.Record(ctx, "record progress", act.RecordProgress, p).Get(ctx, &next); err != nil {
			j.logger.Error("progress not recorded", "error", err)
		}
		j.wake(ctx, next)
		j.written = true
	}
}
