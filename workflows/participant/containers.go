package participant

import (
	"errors"
	"fmt"
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
	// startWait is the first time that a runner gets to start a container, before another runner is claimed.
	// It doubles up to maxStartWait, since most often the runners are only busy.
	startWait    = 15 * time.Second
	maxStartWait = 10 * time.Minute
)

// taskPart is a part of a task in one attempt, which runs as one container.
type taskPart struct {
	part    bfia.Part
	task    string
	taskID  string // of its attempt
	attempt int
	state   bfia.TaskState
	failure *bfia.Failure
	waiting *bfia.Waiting // why its container does not run, as far as the workflow knows
	// keepsWaits says that its runner could not record a wait, so the workflow records what it waits for.
	keepsWaits, recordingWait bool
	claim                     participant.Claim
	reported                  bfia.TaskState // by the container's callbacks

	beginReport workflow.Future     // reports to FATE-Flow that it runs; nil for other schedulers
	run         workflow.Future     // of its RunTask; nil until that is started
	cancel      workflow.CancelFunc // cancels RunTask; nil while that does not run
	stopping    bool
}

// title names a part in Temporal, where several attempts may be running.
func (part *taskPart) title(t *task) string {
	if part.attempt > 1 {
		return fmt.Sprintf("%s %s (attempt %d)", t.plan.Name, part.part.Self(), part.attempt)
	}

	return t.plan.Name + " " + part.part.Self()
}

func (j *job) key(part *taskPart) activities.TaskKey {
	return activities.TaskKey{
		JobID: j.Plan.JobID, Task: part.task, Role: part.part.Role, Index: part.part.Index}
}

func (j *job) partRequest(part *taskPart) activities.PartRequest {
	return activities.PartRequest{
		Key: j.key(part), Part: part.part, TaskID: part.taskID, Attempt: part.attempt}
}

// runPart runs a container to its end. Its callback ends the part at once; without one, its exit does.
func (j *job) runPart(ctx workflow.Context, t *task, part *taskPart) {
	if part.state.Terminal() {
		return // another attempt has superseded it
	}

	runCtx, cancel := workflow.WithCancel(ctx)
	part.cancel = cancel
	defer func() { part.cancel = nil }()
	run := j.startContainer(runCtx, t, part)
	part.run = run
	_ = workflow.Await(ctx, func() bool {
		return run.IsReady() || part.reported.Terminal() || part.state.Terminal()
	})
	if part.reported == bfia.TaskFailed && !run.IsReady() {
		// A container that reports a failure exits soon, and its exit explains the failure.
		workflows.AwaitFor(ctx, exitWait, func() bool { return run.IsReady() || part.state.Terminal() })
	}

	if !part.state.Terminal() { // otherwise it was stopped
		state, failure := j.partResult(ctx, t, part, run)
		j.endPart(ctx, t, part, state, failure)
	}
	if err := run.Get(ctx, nil); err != nil && !temporal.IsCanceledError(err) {
		j.logger.Warn("failed to run a container", "task_id", part.taskID, "role", part.part.Self(),
			"reason", workflows.Reason(err))
	}
}

// partResult returns the end of a part whose container has reported its end, or has exited.
func (j *job) partResult(ctx workflow.Context, t *task, part *taskPart, run workflow.Future,
) (bfia.TaskState, *bfia.Failure) {
	if part.reported == bfia.TaskSuccess {
		return bfia.TaskSuccess, nil
	}
	if !run.IsReady() {
		return bfia.TaskFailed, &bfia.Failure{Kind: bfia.FailedReported}
	}

	var result activities.PartResult
	err := run.Get(ctx, &result)
	switch {
	case err != nil && (t.stopped != nil || j.stoppedBy != ""):
		return bfia.TaskFailed, j.stopFailure(t)
	case err != nil:
		return bfia.TaskFailed, &bfia.Failure{Kind: bfia.FailedInternal, Message: workflows.Reason(err)}
	case result.Failure != nil:
		return bfia.TaskFailed, result.Failure
	case part.reported == bfia.TaskFailed:
		return bfia.TaskFailed, &bfia.Failure{Kind: bfia.FailedReported}
	}

	return bfia.TaskSuccess, nil
}

// startContainer starts RunTask for a part on its runner. If that does not start it in time, it claims
// another runner. A container that was created stays on its runner, until that has been silent for too long
// and another one could run it.
func (j *job) startContainer(ctx workflow.Context, t *task, part *taskPart) workflow.Future {
	run, end := workflow.NewFuture(ctx)
	ref := j.ref(t)
	workflow.Go(ctx, func(ctx workflow.Context) {
		var silentSince time.Time
		var lacking lackingRunners
		for wait := startWait; ; wait = min(2*wait, maxStartWait) {
			tried := workflow.Now(ctx)
			result, err := j.runOnRunner(ctx, t, part, wait)
			if lacksImage(result) && j.claimRunnerWithImage(ctx, t, part, &lacking, result.Failure) {
				continue
			}
			if !isNotStarted(err) || ctx.Err() != nil {
				end.Set(result, err)

				return
			}

			if silentSince.IsZero() {
				silentSince = latest(tried, workflow.Now(ctx).Add(-wait))
			}
			j.wait(ctx, []*taskPart{part}, &bfia.Waiting{Kind: bfia.WaitsForRunner, NodeID: j.Node,
				Message: fmt.Sprintf("waits for a runner: %s has not started its container within %s",
					part.claim.RunnerID, wait)})
			j.claimAnotherRunner(ctx, ref, part, t.parallelIndex)
			if part.claim.Ended != nil {
				end.Set(*part.claim.Ended, nil)

				return
			}
			if part.claim.ContainerCreated && part.claim.OtherRunnerOnline {
				silence := workflow.Now(ctx).Sub(silentSince)
				if part.claim.SilentFor >= 0 { // by the database's clock; the runner's may differ
					silence = min(silence, part.claim.SilentFor)
				}
				if silence >= j.Settings.RunnerLostAfter {
					end.Set(activities.PartResult{Failure: &bfia.Failure{Kind: bfia.FailedRunnerLost,
						Message: fmt.Sprintf("its runner %s has been silent for %s",
							part.claim.RunnerID, silence.Round(time.Second))}}, nil)

					return
				}
				left := max((j.Settings.RunnerLostAfter-silence)/2, time.Second)
				wait = min(wait, left) // doubled by the loop
			}
		}
	})

	return run
}

// runOnRunner runs RunTask on a part's runner. It fails if the runner does not start it within wait.
func (j *job) runOnRunner(ctx workflow.Context, t *task, part *taskPart, wait time.Duration,
) (result activities.PartResult, err error) {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		ActivityID: "run " + part.title(t), TaskQueue: activities.TaskQueueOfRunner(part.claim.RunnerID),
		Summary: fmt.Sprintf("run %s (%s) on %s",
			part.title(t), t.plan.Component, part.claim.RunnerID),
		ScheduleToStartTimeout: wait, StartToCloseTimeout: workflows.RunLimit,
		HeartbeatTimeout: workflows.HeartbeatTimeout, WaitForCancellation: true,
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval: time.Second, BackoffCoefficient: 2, MaximumInterval: 15 * time.Second},
	})
	err = workflow.ExecuteActivity(ctx, runnerAct.RunTask, j.partRequest(part)).Get(ctx, &result)

	return result, err
}

// isNotStarted reports whether no worker has started an activity in time.
func isNotStarted(err error) bool {
	var timeout *temporal.TimeoutError

	return errors.As(err, &timeout) && timeout.TimeoutType() == enums.TIMEOUT_TYPE_SCHEDULE_TO_START
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}

	return b
}

// claimAnotherRunner claims another runner for a part that its runner has not started: it is busy, or lost. A
// part whose container was created keeps its runner, see [participant.Activities.ClaimTask].
func (j *job) claimAnotherRunner(ctx workflow.Context, ref bfia.TaskRef, part *taskPart, index int) {
	var claims []participant.Claim
	in := participant.ClaimTaskInput{Task: ref, Parts: []bfia.Part{part.part}, ParallelIndex: index,
		Avoid: part.claim.RunnerID, At: workflow.Now(ctx)}
	summary := "claim another runner for " + ref.TaskName
	if err := workflows.Record(ctx, summary, act.ClaimTask, in).Get(ctx, &claims); err != nil {
		j.logger.Warn("failed to claim another runner", "task_id", ref.TaskID, "role", part.part.Self(),
			"runner_id", part.claim.RunnerID, "reason", workflows.Reason(err))

		return
	}
	part.claim = claims[0]
	if reported := part.claim.Reported; reported != "" {
		part.reported = part.reported.Next(reported) // as if the runner had passed it on
	}
}

// stopPart stops a part's container. It marks the row first: a container that is about to start is not
// started then. The job waits for the stop activity: if no RunTask watches the container just now, its end
// does not mean that the container is gone.
func (j *job) stopPart(ctx workflow.Context, t *task, part *taskPart, cancel workflow.CancelFunc) {
	title := "stop " + part.title(t)
	in := participant.RequestStopInput{Key: j.key(part), TaskID: part.taskID}
	if err := workflows.Record(ctx, title, act.RequestStop, in).Get(ctx, nil); err != nil {
		j.logger.Error("failed to record a stop", "task_id", part.taskID, "error", err)
	}
	cancel()

	grace := j.Settings.StopGrace
	stopped := workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		ActivityID: title, TaskQueue: activities.StopQueueOfRunner(part.claim.RunnerID), Summary: title,
		StartToCloseTimeout: grace + time.Minute, ScheduleToCloseTimeout: j.Settings.GiveUpAfter,
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval: time.Second, BackoffCoefficient: 2, MaximumInterval: 15 * time.Second},
	}), runnerAct.StopTask, runner.StopTaskInput{PartRequest: j.partRequest(part), Grace: grace})
	j.endPart(ctx, t, part, bfia.TaskFailed, j.stopFailure(t))
	if err := stopped.Get(ctx, nil); err != nil {
		j.logger.Warn("failed to stop a container", "task_id", part.taskID, "role", part.part.Self(),
			"reason", workflows.Reason(err))
	}
}
