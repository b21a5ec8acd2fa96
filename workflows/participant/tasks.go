package participant

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"hutong/activities"
	"hutong/activities/participant"
	"hutong/activities/runner"
	"hutong/bfia"
	"hutong/workflows"
)

const (
	// hostWait is how long a task waits before it looks again for a host that can run it; each time twice as long, up to
	// maxHostWait, so that days of waiting fit in a history.
	hostWait    = 5 * time.Second
	maxHostWait = time.Minute
	// takeUpWait is how long a host may leave a run that is meant for it before another one is looked for; each time twice
	// as long, up to maxTakeUpWait: most often the hosts are only busy.
	takeUpWait    = 15 * time.Second
	maxTakeUpWait = 10 * time.Minute
	// exitWait is how long a container that has told its end may take to leave.
	exitWait = 10 * time.Second
)

// runTask runs this node's parts of an attempt of a task: a host for each, the container there, its end, the report to the
// scheduler.
func (p *job) runTask(ctx workflow.Context, t *task) {
	p.active++
	defer func() { p.active-- }()
	p.running(ctx)
	parts := p.begin(t)
	p.tellBegin(ctx, t, parts)
	failAll := func(f *bfia.Failure) {
		for _, part := range parts {
			p.endPart(ctx, t, part, bfia.TaskFailed, f)
		}
	}
	var claims []participant.Claim
	ref := p.ref(t)
	over := func() bool { return t.stopped != nil || p.stopped != "" || t.attempt != ref.AttemptNumber() }
	copy, release := p.takeCopy(ctx, over)
	t.copy = copy
	for wait := hostWait; ; wait = min(2*wait, maxHostWait) {
		if over() {
			break
		}
		err := workflows.Record(ctx, "claim a runner for "+t.plan.Name, act.ClaimTask,
			participant.ClaimTaskInput{Task: ref, Parts: t.plan.Parts, ParallelIndex: copy, At: workflow.Now(ctx)}).Get(ctx, &claims)
		if err == nil || over() {
			break
		}
		if code, reason, refused := workflows.RefusalCode(err); refused && code != bfia.CodeUnavailable {
			failAll(&bfia.Failure{Kind: bfia.FailedStart, Message: reason})
			release()
			return
		}
		// No host that can run it is there now: the task waits for one.
		workflow.SetCurrentDetails(ctx, "Task "+t.plan.Name+" waits: "+workflows.Reason(err)+"\n\n"+p.table())
		if workflows.AwaitFor(ctx, wait, over) {
			break
		}
	}
	switch {
	case t.attempt != ref.AttemptNumber():
		release()
		return // another attempt has followed
	case over():
		release()
		t.stopped = p.stopReason(t)
		failAll(t.stopped)
		return
	}
	for i, part := range parts {
		part.claim = claims[i]
		p.active++
		workflow.Go(ctx, func(ctx workflow.Context) {
			defer func() { p.active-- }()
			p.runPart(ctx, t, part)
		})
	}
	p.describe(ctx)
	// What has told its end leaves the room to the task that follows, though it may take a moment to go.
	_ = workflow.Await(ctx, func() bool {
		return !slices.ContainsFunc(parts, func(part *taskPart) bool { return !part.state.Terminal() })
	})
	release()
}

// begin makes the parts of the task's attempt RUNNING. They stay that attempt's when the next takes their place.
func (p *job) begin(t *task) []*taskPart {
	for _, part := range t.parts {
		part.state, part.taskID, part.attempt = bfia.TaskRunning, t.id, t.attempt
	}
	return slices.Clone(t.parts)
}

// ref names the task's attempt to activities.
func (p *job) ref(t *task) bfia.TaskRef {
	ref := bfia.TaskRef{JobID: p.Plan.JobID, TaskID: t.id, TaskName: t.plan.Name}
	if t.attempt > 1 {
		ref.Attempt = t.attempt
	}
	return ref
}

// reuseTask ends a task at once: the outputs of the job's old_job_id stand for its own.
func (p *job) reuseTask(ctx workflow.Context, t *task, ref bfia.TaskRef) {
	p.active++
	defer func() { p.active-- }()
	p.running(ctx)
	parts := p.begin(t)
	state, failure := bfia.TaskSuccess, (*bfia.Failure)(nil)
	if err := workflows.Record(ctx, "reuse "+t.plan.Name, act.ReuseTask,
		participant.ReuseTaskInput{Task: ref, Plan: p.Plan, At: workflow.Now(ctx)}).Get(ctx, nil); err != nil {
		state, failure = bfia.TaskFailed, &bfia.Failure{Kind: bfia.FailedInput, Message: workflows.Reason(err)}
	}
	if state == bfia.TaskSuccess && t.stopped != nil {
		state, failure = bfia.TaskFailed, t.stopped
	}
	for _, part := range parts {
		p.endPart(ctx, t, part, state, failure)
	}
}

// runPart runs one container to its end. The container's own word ends the task at once; without one, its exit does.
func (p *job) runPart(ctx workflow.Context, t *task, part *taskPart) {
	if part.state.Terminal() {
		return // another attempt has followed already
	}
	runCtx, cancel := workflow.WithCancel(ctx)
	part.cancel = cancel
	defer func() { part.cancel = nil }()
	run := p.startRun(runCtx, t, part)
	_ = workflow.Await(ctx, func() bool { return run.IsReady() || part.told.Terminal() || part.state.Terminal() })
	if part.told == bfia.TaskFailed && !run.IsReady() {
		// A container that says it failed ends soon, and its end says why.
		workflows.AwaitFor(ctx, exitWait, func() bool { return run.IsReady() || part.state.Terminal() })
	}
	switch {
	case part.state.Terminal(): // it was stopped
	case part.told == bfia.TaskSuccess:
		p.endPart(ctx, t, part, bfia.TaskSuccess, nil)
	case run.IsReady():
		var result activities.PartResult
		err := run.Get(ctx, &result)
		switch {
		case err != nil && (t.stopped != nil || p.stopped != ""):
			p.endPart(ctx, t, part, bfia.TaskFailed, p.stopReason(t))
		case err != nil:
			p.endPart(ctx, t, part, bfia.TaskFailed, &bfia.Failure{Kind: bfia.FailedInternal, Message: workflows.Reason(err)})
		case result.Failure != nil:
			p.endPart(ctx, t, part, bfia.TaskFailed, result.Failure)
		case part.told == bfia.TaskFailed:
			p.endPart(ctx, t, part, bfia.TaskFailed, &bfia.Failure{Kind: bfia.FailedReported})
		default:
			p.endPart(ctx, t, part, bfia.TaskSuccess, nil)
		}
	default:
		p.endPart(ctx, t, part, bfia.TaskFailed, &bfia.Failure{Kind: bfia.FailedReported})
	}
	if err := run.Get(ctx, nil); err != nil && !temporal.IsCanceledError(err) {
		p.logger.Warn("run ended badly", "task_id", part.taskID, "role", part.part.Self(), "reason", workflows.Reason(err))
	}
}

// startRun begins a part's RunTask on its host, and on another one when that does not take it up. A run that has begun
// stays where it is, until nothing has been heard of its host for too long and another host is there.
func (p *job) startRun(ctx workflow.Context, t *task, part *taskPart) workflow.Future {
	run, end := workflow.NewFuture(ctx)
	ref, name := p.ref(t), part.title(t)
	workflow.Go(ctx, func(ctx workflow.Context) {
		var silent time.Time // since when the host has not taken it up
		for wait := takeUpWait; ; wait = min(2*wait, maxTakeUpWait) {
			tried := workflow.Now(ctx)
			var result activities.PartResult
			err := workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
				ActivityID: "run " + name, TaskQueue: activities.TaskQueueOfRunner(part.claim.RunnerID),
				Summary:                fmt.Sprintf("run %s (%s) on %s", name, t.plan.Component, part.claim.RunnerID),
				ScheduleToStartTimeout: wait, StartToCloseTimeout: workflows.RunLimit, HeartbeatTimeout: workflows.HeartbeatTimeout, WaitForCancellation: true,
				RetryPolicy: &temporal.RetryPolicy{InitialInterval: time.Second, BackoffCoefficient: 2, MaximumInterval: 15 * time.Second},
			}), runnerAct.RunTask, activities.PartRequest{
				Key:  activities.TaskKey{JobID: p.Plan.JobID, Task: t.plan.Name, Role: part.part.Role, Index: part.part.Index},
				Part: part.part, TaskID: part.taskID, Attempt: part.attempt}).Get(ctx, &result)
			var late *temporal.TimeoutError
			if !errors.As(err, &late) || late.TimeoutType() != enums.TIMEOUT_TYPE_SCHEDULE_TO_START || ctx.Err() != nil {
				end.Set(result, err)
				return
			}
			if silent.IsZero() {
				silent = latest(tried, workflow.Now(ctx).Add(-wait))
			}
			p.claimAgain(ctx, ref, part, t.copy)
			if part.claim.Ended != nil {
				end.Set(*part.claim.Ended, nil)
				return
			}
			if part.claim.ContainerCreated && part.claim.OtherRunnerOnline {
				heard := latest(silent, part.claim.HeartbeatAt)
				lost := workflow.Now(ctx).Sub(heard)
				if lost >= p.Settings.RunnerLostAfter {
					end.Set(activities.PartResult{Failure: &bfia.Failure{Kind: bfia.FailedRunnerLost,
						Message: fmt.Sprintf("nothing was heard for %s of the host that it ran on, %s", lost.Round(time.Second), part.claim.RunnerID)}}, nil)
					return
				}
				wait = min(wait, max((p.Settings.RunnerLostAfter-lost)/2, time.Second)) // it is doubled
			}
		}
	})
	return run
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// title is how a part's run is called in the engine, where runs of several attempts may be under way.
func (part *taskPart) title(t *task) string {
	if part.attempt > 1 {
		return fmt.Sprintf("%s %s (attempt %d)", t.plan.Name, part.part.Self(), part.attempt)
	}
	return t.plan.Name + " " + part.part.Self()
}

// claimAgain looks for another host for a part that its host has not taken up: it is busy, or gone. What has begun stays
// where it is, see [activities.Records.ClaimTask].
func (p *job) claimAgain(ctx workflow.Context, ref bfia.TaskRef, part *taskPart, copy int) {
	var claims []participant.Claim
	err := workflows.Record(ctx, "claim another runner for "+ref.TaskName, act.ClaimTask, participant.ClaimTaskInput{
		Task: ref, Parts: []bfia.Part{part.part}, ParallelIndex: copy, Avoid: part.claim.RunnerID, At: workflow.Now(ctx)}).Get(ctx, &claims)
	if err != nil {
		p.logger.Warn("no other host", "task_id", ref.TaskID, "role", part.part.Self(), "host_id", part.claim.RunnerID, "reason", workflows.Reason(err))
		return
	}
	part.claim = claims[0]
}

// endPart fixes a part's end: in the party's rows first, so that who polls reads the same, then at the scheduler.
func (p *job) endPart(ctx workflow.Context, t *task, part *taskPart, state bfia.TaskState, failure *bfia.Failure) {
	if part.state.Terminal() {
		return
	}
	if failure != nil {
		placed := *failure
		placed.NodeID, placed.Role, placed.Task = p.Node, part.part.Self(), t.plan.Name
		part.failure = &placed
	}
	part.state = state
	p.describe(ctx)
	key := activities.TaskKey{JobID: p.Plan.JobID, Task: t.plan.Name, Role: part.part.Role, Index: part.part.Index}
	if err := workflows.Record(ctx, fmt.Sprintf("record %s %s of %s", part.part.Self(), state, t.plan.Name), act.RecordTaskEnd,
		participant.RecordTaskEndInput{Key: key, Part: part.part, TaskID: part.taskID, State: state, Failure: part.failure, At: workflow.Now(ctx)}).Get(ctx, nil); err != nil {
		p.logger.Error("end of a task not recorded", "task_id", part.taskID, "role", part.part.Self(), "error", err)
	}
	p.report(ctx, t, part)
}

func (p *job) stopReason(t *task) *bfia.Failure {
	if t.stopped != nil {
		return t.stopped
	}
	return workflows.StoppedBy(p.stopped)
}

// stopPart ends a part's container. The row's mark comes first: a run that is about to begin reads it and doesn't. The
// job waits for it: when nobody watches the container just now, the run's end says nothing about it.
func (p *job) stopPart(ctx workflow.Context, t *task, part *taskPart, cancel workflow.CancelFunc) {
	defer func() { p.active-- }()
	key := activities.TaskKey{JobID: p.Plan.JobID, Task: t.plan.Name, Role: part.part.Role, Index: part.part.Index}
	if err := workflows.Record(ctx, "stop "+part.title(t), act.RequestStop,
		participant.RequestStopInput{Key: key, TaskID: part.taskID}).Get(ctx, nil); err != nil {
		p.logger.Error("stop not recorded", "task_id", part.taskID, "error", err)
	}
	cancel()
	stopped := workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		ActivityID: "stop " + part.title(t), TaskQueue: activities.StopQueueOfRunner(part.claim.RunnerID),
		Summary:             "stop " + part.title(t),
		StartToCloseTimeout: p.Settings.StopGrace + time.Minute, ScheduleToCloseTimeout: p.Settings.GiveUpAfter,
		RetryPolicy: &temporal.RetryPolicy{InitialInterval: time.Second, BackoffCoefficient: 2, MaximumInterval: 15 * time.Second},
	}), runnerAct.StopTask, runner.StopTaskInput{Grace: p.Settings.StopGrace,
		PartRequest: activities.PartRequest{Key: key, Part: part.part, TaskID: part.taskID, Attempt: part.attempt}})
	p.endPart(ctx, t, part, bfia.TaskFailed, p.stopReason(t))
	if err := stopped.Get(ctx, nil); err != nil {
		p.logger.Warn("stop ended badly", "task_id", part.taskID, "role", part.part.Self(), "reason", workflows.Reason(err))
	}
}
