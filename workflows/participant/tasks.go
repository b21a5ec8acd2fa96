package participant

import (
	"slices"
	"time"

	"go.temporal.io/sdk/workflow"

	"hutong/activities"
	"hutong/activities/participant"
	"hutong/bfia"
	"hutong/workflows"
)

const (
	// claimRetry is the first interval at which a task without a runner looks for one. It doubles up to
	// maxClaimRetry, so that days of waiting fit in a history.
	claimRetry    = 5 * time.Second
	maxClaimRetry = time.Minute
	// exitWait is how long a container may keep running after it has reported its end.
	exitWait = 10 * time.Second
)

// task is a task at a participant, with this party's parts.
type task struct {
	plan            *bfia.PlannedTask
	id              string        // of the attempt; empty until task/start
	attempt         int           // from 1; 0 until task/start
	lost            *bfia.Failure // why the attempt before ended, as the scheduler reports it
	parts           []*taskPart
	parallelIndex   int           // of the job's reservation, in which the attempt runs
	stopped         *bfia.Failure // why it must not start, or must end
	thisAttemptOnly bool          // stopped concerns the current attempt only: another attempt may follow
}

// ended reports whether all parts of the task have ended.
func (t *task) ended() bool {
	return !slices.ContainsFunc(t.parts, func(p *taskPart) bool { return !p.state.Terminal() })
}

// ref names the task's attempt.
func (j *job) ref(t *task) bfia.TaskRef {
	ref := bfia.TaskRef{JobID: j.Plan.JobID, TaskID: t.id, TaskName: t.plan.Name}
	if t.attempt > 1 {
		ref.Attempt = t.attempt
	}

	return ref
}

// stopFailure returns why a task is stopped.
func (j *job) stopFailure(t *task) *bfia.Failure {
	if t.stopped != nil {
		return t.stopped
	}

	return workflows.StoppedBy(j.stoppedBy)
}

// receiveTaskStarts receives task/start. The start of an attempt that was started before has no effect.
func (j *job) receiveTaskStarts(ctx workflow.Context) {
	ch := workflow.GetSignalChannel(ctx, workflows.SignalTaskStart)
	for {
		var ref bfia.TaskRef
		if !ch.Receive(ctx, &ref) {
			return
		}

		j.silence.heard++
		t, ok := j.tasks[ref.TaskName]
		if !ok || t.attempt >= ref.AttemptNumber() || j.state == bfia.JobPending {
			j.logger.Info("ignored task/start", "task_id", ref.TaskID, "task_name", ref.TaskName, "known", ok)

			continue
		}
		j.startAttempt(ctx, t, ref)
	}
}

// startAttempt starts an attempt of a task.
func (j *job) startAttempt(ctx workflow.Context, t *task, ref bfia.TaskRef) {
	if t.thisAttemptOnly {
		t.stopped, t.thisAttemptOnly = nil, false
	}
	if t.attempt > 0 && j.stoppedBy == "" && t.stopped == nil {
		t.supersede()
		id := bfia.AttemptSessionID(j.Plan.JobID, ref.TaskID, ref.AttemptNumber(), bfia.SessionPerJob)
		j.sessions = append(j.sessions, id)
	}
	t.id, t.attempt, t.lost = ref.TaskID, ref.AttemptNumber(), ref.Lost
	if j.stoppedBy != "" || t.stopped != nil {
		j.logger.Info("ignored task/start after a stop", "task_id", ref.TaskID)

		return
	}

	workflow.Go(ctx, func(ctx workflow.Context) {
		j.active++
		defer func() { j.active-- }()
		j.moveToRunning(ctx, !ref.Reuse)
		if ref.Reuse {
			j.reuseTask(ctx, t, ref)
		} else {
			j.runTask(ctx, t)
		}
	})
}

// supersede gives up an attempt of a task, since the scheduler starts another. Its containers are stopped,
// and their ends are not reported. A container that nobody watches just now is stopped by its runner's sweep,
// since its row names the other attempt.
func (t *task) supersede() {
	for i, part := range t.parts {
		if !part.state.Terminal() {
			part.state = bfia.TaskFailed
		}
		if part.cancel != nil {
			part.cancel()
		}
		t.parts[i] = &taskPart{part: part.part, task: part.task, state: bfia.TaskReady}
	}
}

// begin makes the parts of the task's attempt RUNNING. It returns a copy, since the next attempt replaces
// them.
func (t *task) begin() []*taskPart {
	for _, part := range t.parts {
		part.state, part.taskID, part.attempt = bfia.TaskRunning, t.id, t.attempt
	}

	return slices.Clone(t.parts)
}

// runTask runs this party's parts of an attempt of a task: it occupies slots of the reservation, claims a
// runner for each part, and runs the part's container there.
func (j *job) runTask(ctx workflow.Context, t *task) {
	parts := t.begin()
	j.reportBegin(ctx, t, parts)

	ref := j.ref(t)
	superseded := func() bool { return t.attempt != ref.AttemptNumber() }
	over := func() bool { return t.stopped != nil || j.stoppedBy != "" || superseded() }
	index, vacate := j.occupy(ctx, parts, over)
	t.parallelIndex = index

	claims, failure := j.claimRunners(ctx, t, parts, over)
	switch {
	case failure != nil:
	case superseded():
		vacate()

		return
	case over():
		t.stopped = j.stopFailure(t)
		failure = t.stopped
	}
	if failure != nil {
		vacate()
		for _, part := range parts {
			j.endPart(ctx, t, part, bfia.TaskFailed, failure)
		}

		return
	}

	for i, part := range parts {
		part.claim = claims[i]
		j.active++
		workflow.Go(ctx, func(ctx workflow.Context) {
			defer func() { j.active-- }()
			j.runPart(ctx, t, part)
		})
	}
	j.describe(ctx)

	// A part that has reported its end vacates its slot for the next task, though its container may still
	// exist.
	_ = workflow.Await(ctx, func() bool {
		return !slices.ContainsFunc(parts, func(part *taskPart) bool { return !part.state.Terminal() })
	})
	vacate()
}

// claimRunners claims a runner for each part of a task. If no runner can run it now, it waits for one, until
// over returns true. It returns a failure if none ever can.
func (j *job) claimRunners(ctx workflow.Context, t *task, parts []*taskPart, over func() bool,
) (claims []participant.Claim, failure *bfia.Failure) {
	ref := j.ref(t)
	ref.Lost = t.lost
	for wait := claimRetry; !over(); wait = min(2*wait, maxClaimRetry) {
		in := participant.ClaimTaskInput{
			Task: ref, Parts: t.plan.Parts, ParallelIndex: t.parallelIndex, StartsJob: j.claimStartsJob,
			At: workflow.Now(ctx)}
		j.claimStartsJob = false
		err := workflows.Record(ctx, "claim runners for "+t.plan.Name, act.ClaimTask, in).Get(ctx, &claims)
		if err == nil || over() {
			j.wait(ctx, parts, nil)

			break
		}
		ref.Lost = nil // the first claim has recorded it
		if code, reason, refused := workflows.RefusalCode(err); refused && code != bfia.CodeUnavailable {
			return nil, &bfia.Failure{Kind: bfia.FailedStart, Message: reason}
		}

		j.wait(ctx, parts, &bfia.Waiting{Kind: bfia.WaitsForRunner, NodeID: j.Node,
			Message: "waits for a runner: " + workflows.Reason(err)})
		if workflows.AwaitFor(ctx, wait, over) {
			break
		}
	}

	return claims, nil
}

// wait sets and records what parts wait for; nil if they no longer wait. A wait of the same kind keeps the
// time of its beginning.
func (j *job) wait(ctx workflow.Context, parts []*taskPart, w *bfia.Waiting) {
	changed := false
	for _, part := range parts {
		if part.state.Terminal() || part.waiting.Same(w) {
			continue
		}
		var now *bfia.Waiting
		if w != nil {
			kept := *w
			kept.Since = workflow.Now(ctx)
			if part.waiting != nil && part.waiting.Kind == w.Kind {
				kept.Since = part.waiting.Since
			}
			now = &kept
		}
		part.waiting, changed = now, true

		in := participant.RecordTaskWaitInput{Key: j.key(part), TaskID: part.taskID, Waiting: now}
		if err := workflows.Record(ctx, "record what "+part.part.Self()+" waits for", act.RecordTaskWait, in).
			Get(ctx, nil); err != nil {
			j.logger.Error("failed to record what a part waits for", "task_id", part.taskID,
				"role", part.part.Self(), "error", err)
		}
	}
	if changed {
		j.describe(ctx)
	}
}

// reuseTask ends a task at once: it takes its outputs from the job's old_job_id.
func (j *job) reuseTask(ctx workflow.Context, t *task, ref bfia.TaskRef) {
	parts := t.begin()
	state, failure := bfia.TaskSuccess, (*bfia.Failure)(nil)
	in := participant.ReuseTaskInput{Task: ref, Plan: j.Plan, At: workflow.Now(ctx)}
	if err := workflows.Record(ctx, "reuse "+t.plan.Name, act.ReuseTask, in).Get(ctx, nil); err != nil {
		state = bfia.TaskFailed
		failure = &bfia.Failure{Kind: bfia.FailedInput, Message: workflows.Reason(err)}
	}
	if state == bfia.TaskSuccess && t.stopped != nil {
		state, failure = bfia.TaskFailed, t.stopped
	}
	for _, part := range parts {
		j.endPart(ctx, t, part, state, failure)
	}
}

// stopTaskOnRequest stops a task that has not ended, and its dependents. Of a task that has ended, it stops
// the containers that remain.
func (j *job) stopTaskOnRequest(ctx workflow.Context, s workflows.Stop) {
	t, ok := j.tasks[s.Task]
	if !ok || s.Attempt > 0 && t.attempt != s.Attempt {
		return
	}

	switch {
	case len(t.parts) > 0 && t.ended():
		workflow.Go(ctx, func(ctx workflow.Context) { j.stopRemaining(ctx, t) })
	case s.Attempt > 0:
		if t.stopped == nil {
			t.stopped, t.thisAttemptOnly = workflows.StoppedBy(s.By), true
			j.stopContainers(ctx, t, false)
		}
	default:
		for _, name := range j.Plan.WithDependents(s.Task) {
			if t := j.tasks[name]; !t.ended() && t.stopped == nil {
				t.stopped = workflows.StoppedBy(s.By)
				j.stopContainers(ctx, t, false)
			}
		}
	}
}

// stopRemaining stops the containers that remain of a task that has ended. FATE-Flow requests it after every
// task. A container that has reported its end may exit on its own first.
func (j *job) stopRemaining(ctx workflow.Context, t *task) {
	gone := func() bool {
		return !slices.ContainsFunc(t.parts, func(p *taskPart) bool { return p.cancel != nil && !p.stopping })
	}
	if !workflows.AwaitFor(ctx, exitWait, gone) {
		j.stopContainers(ctx, t, true)
	}
}

// stopContainers stops the containers of a task. Unless forced, it leaves those whose part has ended: they
// exit on their own.
func (j *job) stopContainers(ctx workflow.Context, t *task, force bool) {
	for _, part := range t.parts {
		if part.cancel != nil && !part.stopping && (force || !part.state.Terminal()) {
			part.stopping = true
			j.active++
			cancel := part.cancel
			workflow.Go(ctx, func(ctx workflow.Context) {
				defer func() { j.active-- }()
				j.stopPart(ctx, t, part, cancel)
			})
		}
	}
}

// receiveCallbacks receives the callbacks of containers (BFIA part 2, 4.1). It ignores those of parts without
// a container.
func (j *job) receiveCallbacks(ctx workflow.Context) {
	ch := workflow.GetSignalChannel(ctx, workflows.SignalTaskCallback)
	for {
		var r bfia.TaskReport
		if !ch.Receive(ctx, &r) {
			return
		}
		for _, planned := range j.Plan.Tasks {
			t := j.tasks[planned.Name]
			if t.id != r.TaskID {
				continue
			}
			for _, part := range t.parts {
				if part.cancel != nil && (r.Role == part.part.Role || r.Role == part.part.Self()) {
					part.reported = part.reported.Next(r.Status)
				}
			}
		}
	}
}

// receiveTaskWaits receives what runners know of the waits of parts, and shows it. Their rows have it
// already, unless the runner could not reach the database.
func (j *job) receiveTaskWaits(ctx workflow.Context) {
	ch := workflow.GetSignalChannel(ctx, workflows.SignalTaskWait)
	for {
		var w activities.PartWait
		if !ch.Receive(ctx, &w) {
			return
		}
		for _, planned := range j.Plan.Tasks {
			t := j.tasks[planned.Name]
			for _, part := range t.parts {
				if t.id == w.TaskID && part.part.Self() == w.Part {
					part.waiting = w.Waiting
					j.describe(ctx)
					j.recordUnrecorded(ctx, part, w.Unrecorded)
				}
			}
		}
	}
}

// changeUnrecorded is the change of this workflow from which on it records what runners could not.
const changeUnrecorded = "record the waits that runners could not"

// recordUnrecorded records what a part waits for, if its runner could not. From then on the workflow records
// all that the runner reports of the part: an older wait that is still being written must not stay the last.
func (j *job) recordUnrecorded(ctx workflow.Context, part *taskPart, unrecorded bool) {
	if unrecorded && !part.keepsWaits {
		part.keepsWaits = workflow.GetVersion(ctx, changeUnrecorded, workflow.DefaultVersion, 1) == 1
	}
	if !part.keepsWaits || part.recordingWait {
		return
	}

	part.recordingWait = true
	workflow.Go(ctx, func(ctx workflow.Context) {
		defer func() { part.recordingWait = false }()
		for !part.state.Terminal() { // the row of a part that has ended keeps no wait
			now := part.waiting
			in := participant.RecordTaskWaitInput{Key: j.key(part), TaskID: part.taskID, Waiting: now}
			if err := workflows.Record(ctx, "record what "+part.part.Self()+" waits for", act.RecordTaskWait,
				in).Get(ctx, nil); err != nil {
				j.logger.Error("failed to record what a part waits for", "task_id", part.taskID,
					"role", part.part.Self(), "error", err)
			}
			if part.waiting.Same(now) {
				return
			}
		}
	})
}
