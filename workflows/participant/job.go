package participant

import (
	"slices"
	"time"

	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/workflow"

	"hutong/activities/participant"
	"hutong/activities/runner"
	"hutong/bfia"
	"hutong/workflows"
)

var (
	act       *participant.Activities
	runnerAct *runner.Activities
)

// Job runs a participant's side of a job. From job/create on, it takes the scheduler's commands, runs this
// party's parts of each task as containers, and reports their ends. It ends after job/stop, once its
// containers are gone.
func Job(ctx workflow.Context, in workflows.ParticipantJobInput) (workflows.Result, error) {
	j := newJob(ctx, in)
	ctx = workflows.Disconnect(ctx, func() { j.stop(workflows.Stop{By: workflows.Operator}) })
	ctx = workflows.WithWaits(ctx, j.waits)
	if err := j.handleUpdates(ctx); err != nil {
		return workflows.Result{}, err
	}

	if in.Ready == nil {
		j.createdAt = workflow.Now(ctx)
		j.readySince = j.createdAt
	}
	workflow.Go(ctx, j.receiveStops) // also those that come before the job is recorded
	workflow.Go(ctx, j.keepWaits)
	if in.Ready == nil {
		j.create(ctx)
	}
	if j.createError != nil {
		return workflows.Refused(ctx, j.createError)
	}
	j.describe(ctx)

	workflow.Go(ctx, j.receiveStart)
	workflow.Go(ctx, j.receiveTaskStarts)
	workflow.Go(ctx, j.receiveCallbacks)
	workflow.Go(ctx, j.receiveTaskWaits)
	workflow.Go(ctx, j.receiveCapacityHints)
	if in.Ready == nil {
		workflow.Go(ctx, j.reportDecision)
	}
	workflow.Go(ctx, j.watchScheduler)
	if again := j.awaitStop(ctx); again {
		return workflows.Result{}, j.continueAsNew(ctx)
	}
	if j.undone {
		return j.undo(ctx)
	}

	return j.end(ctx)
}

type job struct {
	workflows.ParticipantJobInput
	logger log.Logger

	compact     bool // see [workflows.UpdateCreateCompact]
	merged      bool // see [workflows.UpdateCreateMerged]
	created     bool // or the creation has failed
	createdAt   time.Time
	createError error

	state       bfia.JobState
	readySince  time.Time
	stoppedBy   string
	failure     *bfia.Failure // why the job was stopped, if that is known
	undone      bool          // the job was not created at every party, and is removed here
	waits       *workflows.Waits
	reservation reservation
	silence     silence // of the scheduler
	tasks       map[string]*task
	sessions    []string // of further attempts of tasks; the job has one more

	claimStartsJob bool // the next claim of runners records that the job is RUNNING

	decision         workflows.Audit // of an approver of this party
	decisionRecorded bool

	// active counts what must end before the job does: tasks that wait for a runner, containers, their stops,
	// and signals to other jobs.
	active int
}

func newJob(ctx workflow.Context, in workflows.ParticipantJobInput) *job {
	j := &job{
		ParticipantJobInput: in,
		logger:              log.With(workflow.GetLogger(ctx), "job_id", in.Plan.JobID, "node_id", in.Node),
		state:               bfia.JobReady,
		tasks:               map[string]*task{},
		waits:               workflows.NewWaits(in.Node),
		reservation:         newReservation(ctx),
		silence:             silence{asks: 1, ask: firstAsk},
	}
	if in.Approval && in.Before == nil {
		j.state = bfia.JobPending
	}

	for i := range in.Plan.Tasks {
		t := &task{plan: &in.Plan.Tasks[i]}
		for _, part := range t.plan.Parts {
			t.parts = append(t.parts, &taskPart{part: part, task: t.plan.Name, state: bfia.TaskReady})
		}
		j.tasks[t.plan.Name] = t
	}
	for _, b := range in.Before {
		j.restorePart(b)
	}
	if in.Ready != nil {
		j.restore(in.Ready)
	}

	return j
}

// restorePart sets the state that a part had before its scheduler reran the job.
func (j *job) restorePart(b workflows.PartBefore) {
	t, ok := j.tasks[b.Task]
	if !ok || b.Attempt == 0 {
		return
	}

	t.id, t.attempt = b.TaskID, b.Attempt
	for _, part := range t.parts {
		if part.part.Self() == b.Part {
			part.state, part.taskID, part.attempt, part.failure = b.State, b.TaskID, b.Attempt, b.Failure
		}
	}
}

func (j *job) handleUpdates(ctx workflow.Context) error {
	if err := workflow.SetUpdateHandler(ctx, workflows.UpdateCreate, j.handleCreate); err != nil {
		return err
	}
	createCompact := func(ctx workflow.Context) error {
		j.compact = true

		return j.handleCreate(ctx)
	}
	if err := workflow.SetUpdateHandler(ctx, workflows.UpdateCreateCompact, createCompact); err != nil {
		return err
	}
	createMerged := func(ctx workflow.Context, in workflows.CreateRequest) (workflows.CreateResult, error) {
		j.compact, j.merged = true, true
		if err := j.handleCreate(ctx); err != nil {
			return workflows.CreateResult{}, err
		}

		return workflows.CreateResult{Grant: j.reserveAtCreation(ctx, in.Reserve)}, nil
	}
	if err := workflow.SetUpdateHandler(ctx, workflows.UpdateCreateMerged, createMerged); err != nil {
		return err
	}
	if err := workflow.SetUpdateHandler(ctx, workflows.UpdateAudit, j.audit); err != nil {
		return err
	}
	if err := workflow.SetUpdateHandler(ctx, workflows.UpdateReserve, j.reserve); err != nil {
		return err
	}

	return workflow.SetUpdateHandler(ctx, workflows.UpdateRelease, j.release)
}

// handleCreate returns once the job is created here, or with the reason why it isn't.
func (j *job) handleCreate(ctx workflow.Context) error {
	ctx = workflows.Disconnect(ctx, nil)
	_ = workflow.Await(ctx, func() bool { return j.created })

	workflows.DrainSignals(ctx) // the SDK runs update handlers before the coroutines that receive signals
	if j.createError == nil && j.undone {
		// The undoing of an earlier creation must not stop the job that is created now.
		return workflows.Refuse(bfia.CodeUnavailable,
			"an earlier creation of the job is being undone; submit the job again")
	}

	return j.createError
}

// create records the job, or reopens it if its scheduler reruns it.
func (j *job) create(ctx workflow.Context) {
	if j.state == bfia.JobPending {
		j.waits.Begin(ctx, approvalWait, bfia.WaitForApproval(j.Plan.JobID, j.Node, j.createdAt))
	}
	waiting := j.waits.List()
	if j.Before == nil {
		in := participant.RecordJobInput{Plan: j.Plan, Roles: j.Roles, Scheduler: j.Scheduler,
			Nodes: j.Nodes, State: j.state, Waiting: waiting, At: j.createdAt}
		j.createError = workflows.Record(ctx, "record the job", act.RecordJob, in).Get(ctx, nil)
	} else {
		j.createError = workflows.Record(ctx, "reopen the job", act.ReopenJob,
			participant.ReopenJobInput{JobID: j.Plan.JobID}).Get(ctx, nil)
	}
	if j.createError == nil {
		j.waits.SetRecorded(waiting)
	}
	j.created = true
}

// approvalWait is the key of the wait for an approval here.
const approvalWait = "approval"

// keepWaits shows and records what the job waits for.
func (j *job) keepWaits(ctx workflow.Context) {
	j.waits.Keep(ctx, func() { j.describe(ctx) }, func(ctx workflow.Context, now []bfia.Waiting) {
		in := participant.RecordWaitsInput{JobID: j.Plan.JobID, Waiting: now}
		if err := workflows.Record(ctx, "record what it waits for", act.RecordWaits, in).
			Get(ctx, nil); err != nil {
			j.logger.Error("failed to record what the job waits for", "error", err)
		}
	})
}

// receiveStart receives job/start. A job that waits for its approval ignores it.
func (j *job) receiveStart(ctx workflow.Context) {
	for workflow.GetSignalChannel(ctx, workflows.SignalStart).Receive(ctx, nil) {
		j.silence.heard++
		if j.state != bfia.JobPending {
			j.moveToRunning(ctx, false)
		}
	}
}

// moveToRunning makes the job RUNNING. The start of a task implies the job's: job/start may be late, or left
// out. If the caller claims runners next, that also records the state.
func (j *job) moveToRunning(ctx workflow.Context, claims bool) {
	if j.state.Next(bfia.JobRunning) == j.state {
		return
	}

	j.state = bfia.JobRunning
	if !j.compact {
		_ = workflow.UpsertTypedSearchAttributes(ctx, workflows.AttributeState.ValueSet(string(j.state)))
	}
	if !j.reservation.granted {
		workflow.Go(ctx, j.reserveUnasked)
	}
	j.describe(ctx)
	if j.compact && claims && slices.Contains(j.reservation.busy, false) {
		j.claimStartsJob = true

		return
	}
	j.recordState(ctx, j.state, "", nil)
}

// recordState writes a state of the job, and how and why the job ended, if it did.
func (j *job) recordState(ctx workflow.Context, state bfia.JobState, outcome bfia.Outcome,
	failure *bfia.Failure,
) {
	in := participant.RecordJobStateInput{
		JobID: j.Plan.JobID, State: state, Outcome: outcome, Failure: failure, At: workflow.Now(ctx)}
	err := workflows.Record(ctx, "record "+string(state), act.RecordJobState, in).Get(ctx, nil)
	if err != nil {
		j.logger.Error("failed to record the job's state", "state", state, "error", err)
	}
}

// receiveStops receives job/stop: of a task and its dependents, or of the whole job.
func (j *job) receiveStops(ctx workflow.Context) {
	ch := workflow.GetSignalChannel(ctx, workflows.SignalStop)
	for {
		var s workflows.Stop
		if !ch.Receive(ctx, &s) {
			return
		}
		if s.Task == "" {
			j.stop(s)
		} else {
			j.stopTaskOnRequest(ctx, s)
		}
	}
}

// stop stops the job. Further stops have no effect.
func (j *job) stop(s workflows.Stop) {
	if j.stoppedBy != "" {
		return
	}

	started := j.state == bfia.JobRunning
	j.stoppedBy, j.undone = s.By, s.Undo && !started
	j.failure = s.Failure
	if s.Rejected && !started {
		j.state = bfia.JobRejected
		if j.failure == nil {
			j.failure = &bfia.Failure{Kind: bfia.FailedRejected, Message: s.Reason}
		}
	}
}

// undo removes the job's rows, and what it has reserved. The same job may be created again.
func (j *job) undo(ctx workflow.Context) (workflows.Result, error) {
	j.waits.Finish(ctx)
	j.waits.Forget()
	if j.merged { // its creation may be reserving
		j.reservation.lock(ctx)
		defer j.reservation.mutex.Unlock()
	}
	var waiting []participant.Waiting
	in := participant.ForgetJobInput{JobID: j.Plan.JobID, At: workflow.Now(ctx)}
	if err := workflows.Record(ctx, "forget the job", act.ForgetJob, in).Get(ctx, &waiting); err != nil {
		return workflows.Result{}, workflows.AwaitHandlers(ctx, err)
	}
	if len(waiting) > 0 {
		j.sendHints(ctx, waiting)
		_ = workflow.Await(ctx, func() bool { return j.active == 0 })
	}

	return workflows.Refused(ctx, workflows.Refuse(bfia.CodeRefused,
		"the job was not created at every party, so "+j.stoppedBy+" had it undone"))
}

// end stops what still runs, waits until the containers are gone, and releases what the job held.
func (j *job) end(ctx workflow.Context) (workflows.Result, error) {
	j.waits.End(approvalWait)
	j.waits.End(schedulerWait)
	workflow.SetCurrentDetails(ctx, "Ending the job, as "+j.stoppedBy+" asked\n\n"+j.table())
	if j.state == bfia.JobRejected {
		return j.endRejected(ctx)
	}

	outcome, failure := j.stopTasks(ctx)
	j.state = bfia.JobFinished
	_ = workflow.UpsertTypedSearchAttributes(ctx, workflows.AttributeState.ValueSet(string(outcome)))
	if !j.endAtOnce(ctx, outcome, failure, failure.String()) {
		j.endInSteps(ctx, outcome, failure)
	}
	j.waits.Finish(ctx)
	workflow.SetCurrentDetails(ctx, workflows.EndDetails(outcome, failure, j.Node, j.Plan.JobID)+j.table())

	return workflows.Close(ctx,
		workflows.Result{State: j.state, Outcome: outcome, Reason: failure.String()})
}

// endInSteps records the job's end, waits until its containers are gone, and releases what it held.
func (j *job) endInSteps(ctx workflow.Context, outcome bfia.Outcome, failure *bfia.Failure) {
	j.recordState(ctx, j.state, outcome, failure)
	workflows.SetFailureMemo(ctx, failure)

	if !workflows.AwaitFor(ctx, exitWait, func() bool { return j.active == 0 }) {
		for _, planned := range j.Plan.Tasks {
			j.stopContainers(ctx, j.tasks[planned.Name], true)
		}
	}
	_ = workflow.Await(ctx, func() bool { return j.active == 0 })
	j.releaseAtEnd(ctx, failure.String())
	j.releaseSessions(ctx, j.allSessions(), workflows.SendLocalFirst)
	_ = workflow.Await(ctx, func() bool { return j.active == 0 })
}

// stopTasks stops the tasks that have not ended, and returns the job's outcome here, with its failure.
func (j *job) stopTasks(ctx workflow.Context) (outcome bfia.Outcome, failure *bfia.Failure) {
	outcome = workflows.OutcomeSuccess
	for _, planned := range j.Plan.Tasks {
		t := j.tasks[planned.Name]
		if !t.ended() {
			t.stopped = j.stopFailure(t)
			j.stopContainers(ctx, t, false)
		}
		if t.stopped != nil && outcome == workflows.OutcomeSuccess {
			outcome, failure = workflows.OutcomeStopped, t.stopped
		}
		for _, part := range t.parts {
			failed := part.state == bfia.TaskFailed && part.failure.Kind != bfia.FailedStopped
			if failed && (outcome != workflows.OutcomeFailed || part.failure.Causes(failure)) {
				outcome, failure = workflows.OutcomeFailed, part.failure
			}
		}
	}

	// This party knows best what failed here, and the scheduler what failed elsewhere and how the job ended,
	// also if all tasks succeeded here.
	if failure.IsConsequence() && j.failure.Causes(failure) {
		return outcome, j.failure
	}
	if j.failure != nil && outcome != workflows.OutcomeFailed {
		outcome, failure = workflows.OutcomeFailed, j.failure
		if failure.Kind == bfia.FailedStopped {
			outcome = workflows.OutcomeStopped
		}
	}

	return outcome, failure
}

// endRejected ends a job that was rejected here or elsewhere. No part of it has run.
func (j *job) endRejected(ctx workflow.Context) (workflows.Result, error) {
	outcome := workflows.OutcomeRejected
	_ = workflow.UpsertTypedSearchAttributes(ctx, workflows.AttributeState.ValueSet(string(outcome)))
	if !j.endAtOnce(ctx, outcome, j.failure, "") {
		j.recordState(ctx, j.state, outcome, j.failure)
		workflows.SetFailureMemo(ctx, j.failure)
		_ = workflow.Await(ctx, func() bool { return j.active == 0 })
		if j.merged { // it may have reserved as it was created, while another party had to approve it
			j.releaseAtEnd(ctx, "")
		}
		j.releaseSessions(ctx, j.allSessions(), workflows.SendLocalFirst)
		_ = workflow.Await(ctx, func() bool { return j.active == 0 })
	}
	j.waits.Finish(ctx)
	workflow.SetCurrentDetails(ctx, workflows.EndDetails(outcome, j.failure, j.Node, j.Plan.JobID))

	return workflows.Close(ctx,
		workflows.Result{State: j.state, Outcome: outcome, Reason: j.failure.String()})
}
