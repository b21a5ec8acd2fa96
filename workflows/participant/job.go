package participant

import (
	"fmt"
	"strings"
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

// Job is a participant's side of a job: from job/create on it waits for the scheduler's word, runs this node's parts
// of each task as containers, and reports their ends. It ends when job/stop says so, after its containers are gone.
func Job(ctx workflow.Context, in workflows.ParticipantJobInput) (workflows.Result, error) {
	p := newJob(ctx, in)
	ctx = workflows.Disconnect(ctx, func() { p.stop(workflows.Stop{By: workflows.Operator}) })
	var createError error
	if err := workflow.SetUpdateHandler(ctx, workflows.UpdateCreate, func(ctx workflow.Context) error {
		ctx = workflows.Disconnect(ctx, nil)
		_ = workflow.Await(ctx, func() bool { return p.created })
		workflows.DrainSignals(ctx) // the engine's SDK runs this before whoever reads signals
		if createError == nil && p.undone {
			// Whoever creates it anew must not have it stopped by the undoing of what was before.
			return workflows.Refuse(bfia.CodeUnavailable, "an earlier creation of the job is being undone: submit it again")
		}
		return createError
	}); err != nil {
		return workflows.Result{}, err
	}
	if err := workflow.SetUpdateHandler(ctx, workflows.UpdateAudit, func(ctx workflow.Context, a workflows.Audit) error {
		return p.audit(workflows.Disconnect(ctx, nil), a)
	}); err != nil {
		return workflows.Result{}, err
	}
	if err := workflow.SetUpdateHandler(ctx, workflows.UpdateReserve, func(ctx workflow.Context, a bfia.ReserveRequest) (bfia.Grant, error) {
		return p.apply(workflows.Disconnect(ctx, nil), a)
	}); err != nil {
		return workflows.Result{}, err
	}
	if err := workflow.SetUpdateHandler(ctx, workflows.UpdateRelease, func(ctx workflow.Context, back bfia.ReleaseRequest) error {
		return p.giveBack(workflows.Disconnect(ctx, nil), back)
	}); err != nil {
		return workflows.Result{}, err
	}
	p.createdAt = workflow.Now(ctx)
	workflow.Go(ctx, p.receiveStops) // what comes before the job is recorded counts
	if in.Before == nil {
		createError = workflows.Record(ctx, "record the job", act.RecordJob, participant.RecordJobInput{
			Plan: in.Plan, Roles: in.Roles, Scheduler: in.Scheduler, State: p.state, At: p.createdAt}).Get(ctx, nil)
	} else {
		createError = workflows.Record(ctx, "reopen the job", act.ReopenJob, participant.ReopenJobInput{JobID: in.Plan.JobID}).Get(ctx, nil)
	}
	p.created = true
	if createError != nil {
		return workflows.Result{}, workflows.AwaitHandlers(ctx, createError)
	}
	p.describe(ctx)

	workflow.Go(ctx, p.receiveStart)
	workflow.Go(ctx, p.receiveTaskStarts)
	workflow.Go(ctx, p.receiveCallbacks)
	workflow.Go(ctx, p.receiveFree)
	workflow.Go(ctx, p.tellAudit)
	_ = workflow.Await(ctx, func() bool { return p.stopped != "" })
	if p.undone {
		return workflows.Result{}, p.undo(ctx)
	}
	return p.end(ctx)
}

type job struct {
	workflows.ParticipantJobInput
	logger  log.Logger
	created bool
	// createdAt is when the job came here.
	createdAt time.Time
	room      room
	state     bfia.JobState
	stopped   string        // by whom the job was ended
	failure   *bfia.Failure // why, where that was told
	undone    bool          // it was not created everywhere: nothing of it is kept
	tasks     map[string]*task
	// sessions are those of further attempts, beside the job's own.
	sessions []string

	decision workflows.Audit // what someone of this party decided of the job
	decided  bool            // it is recorded

	active int // what still goes on: tasks that look for a host, containers that are not yet gone, and their stops
}

// partyTask is a task as a participant sees it: its own parts of it.
type task struct {
	plan    *bfia.PlannedTask
	id      string // of the attempt; empty until task/start
	attempt int    // from 1; 0 until task/start
	parts   []*taskPart
	copy    int           // of the job's room, in which the attempt runs
	stopped *bfia.Failure // why it must not start, or must end
	only    bool          // that is of this attempt only
}

// partyPart is one container: a part of a task in one attempt.
type taskPart struct {
	part    bfia.Part
	taskID  string // of its attempt
	attempt int
	state   bfia.TaskState
	failure *bfia.Failure
	claim   participant.Claim
	told    bfia.TaskState // what the container itself said

	begun    workflow.Future     // the report that it runs; nil where none is sent
	cancel   workflow.CancelFunc // ends its run; nil while there is none
	stopping bool
}

func newJob(ctx workflow.Context, in workflows.ParticipantJobInput) *job {
	p := &job{
		ParticipantJobInput: in,
		logger:              log.With(workflow.GetLogger(ctx), "job_id", in.Plan.JobID, "node_id", in.Node),
		state:               bfia.JobReady, tasks: map[string]*task{}, room: room{mutex: workflow.NewMutex(ctx), telling: map[participant.Waiting]bool{}},
	}
	if in.Approval && in.Before == nil {
		p.state = bfia.JobPending
	}
	for i := range in.Plan.Tasks {
		t := &task{plan: &in.Plan.Tasks[i]}
		for _, part := range t.plan.Parts {
			t.parts = append(t.parts, &taskPart{part: part, state: bfia.TaskReady})
		}
		p.tasks[t.plan.Name] = t
	}
	for _, b := range in.Before {
		p.resume(b)
	}
	return p
}

// receiveStart takes job/start. What waits for an approval does not start, whoever says so.
func (p *job) receiveStart(ctx workflow.Context) {
	for workflow.GetSignalChannel(ctx, workflows.SignalStart).Receive(ctx, nil) {
		if p.state != bfia.JobPending {
			p.running(ctx)
		}
	}
}

// running moves the job to RUNNING; a task that starts implies it, should job/start be late.
func (p *job) running(ctx workflow.Context) {
	if p.state.Next(bfia.JobRunning) == p.state {
		return
	}
	p.state = bfia.JobRunning
	_ = workflow.UpsertTypedSearchAttributes(ctx, workflows.AttributeState.ValueSet(string(p.state)))
	if !p.room.granted {
		workflow.Go(ctx, p.admitSelf)
	}
	p.describe(ctx)
	p.recordState(ctx)
}

// recordEnd writes a state of the job, and why it ended early, if it did.
func (p *job) recordEnd(ctx workflow.Context, state bfia.JobState, failure *bfia.Failure) {
	in := participant.RecordJobStateInput{JobID: p.Plan.JobID, State: state, Failure: failure, At: workflow.Now(ctx)}
	if err := workflows.Record(ctx, "record "+string(state), act.RecordJobState, in).Get(ctx, nil); err != nil {
		p.logger.Error("failed to record the job's state", "error", err)
	}
}

func (p *job) recordState(ctx workflow.Context) {
	p.recordEnd(ctx, p.state, nil)
}

// receiveTaskStarts takes task/start. The same task again starts nothing.
func (p *job) receiveTaskStarts(ctx workflow.Context) {
	ch := workflow.GetSignalChannel(ctx, workflows.SignalTaskStart)
	for {
		var ref bfia.TaskRef
		if !ch.Receive(ctx, &ref) {
			return
		}
		t, ok := p.tasks[ref.TaskName]
		if !ok || t.attempt >= ref.AttemptNumber() || p.state == bfia.JobPending {
			p.logger.Info("task/start changes nothing", "task_id", ref.TaskID, "task_name", ref.TaskName, "known", ok)
			continue
		}
		if t.only {
			t.stopped, t.only = nil, false
		}
		if t.attempt > 0 && p.stopped == "" && t.stopped == nil {
			p.supersede(t)
			p.sessions = append(p.sessions, bfia.AttemptSessionID(p.Plan.JobID, ref.TaskID, ref.AttemptNumber()))
		}
		t.id, t.attempt = ref.TaskID, ref.AttemptNumber()
		if p.stopped != "" || t.stopped != nil {
			p.logger.Info("task/start after stop", "task_id", ref.TaskID)
			continue
		}
		workflow.Go(ctx, func(ctx workflow.Context) {
			if ref.Reuse {
				p.reuseTask(ctx, t, ref)
			} else {
				p.runTask(ctx, t)
			}
		})
	}
}

// outdate gives up an attempt of a task, since the scheduler begins another: what still runs of it ends, and its end is told
// to nobody. What nobody watches just now is ended by its host's sweep: its row names another attempt.
func (p *job) supersede(t *task) {
	for i, part := range t.parts {
		if !part.state.Terminal() {
			part.state = bfia.TaskFailed
		}
		if part.cancel != nil {
			part.cancel()
		}
		t.parts[i] = &taskPart{part: part.part, state: bfia.TaskReady}
	}
}

// receiveCallbacks takes what containers say of themselves (part 2, 4.1). What has no container can say nothing.
func (p *job) receiveCallbacks(ctx workflow.Context) {
	ch := workflow.GetSignalChannel(ctx, workflows.SignalTaskCallback)
	for {
		var r bfia.TaskReport
		if !ch.Receive(ctx, &r) {
			return
		}
		for _, planned := range p.Plan.Tasks {
			t := p.tasks[planned.Name]
			if t.id != r.TaskID {
				continue
			}
			for _, part := range t.parts {
				if part.cancel != nil && (r.Role == part.part.Role || r.Role == part.part.Self()) {
					part.told = part.told.Next(r.Status)
				}
			}
		}
	}
}

// receiveStops takes job/stop: of a task and what follows it, or of the whole job. For what has ended it changes nothing.
func (p *job) receiveStops(ctx workflow.Context) {
	ch := workflow.GetSignalChannel(ctx, workflows.SignalStop)
	for {
		var s workflows.Stop
		if !ch.Receive(ctx, &s) {
			return
		}
		if s.Task == "" {
			p.stop(s)
			continue
		}
		t, ok := p.tasks[s.Task]
		if !ok || s.Attempt > 0 && t.attempt != s.Attempt {
			continue
		}
		if len(t.parts) > 0 && t.ended() {
			workflow.Go(ctx, func(ctx workflow.Context) { p.cleanUp(ctx, t) })
			continue
		}
		if s.Attempt > 0 {
			if t.stopped == nil {
				t.stopped, t.only = workflows.StoppedBy(s.By), true
				p.stopTask(ctx, t, false)
			}
			continue
		}
		for _, name := range p.Plan.WithDependents(s.Task) {
			if t := p.tasks[name]; !t.ended() && t.stopped == nil {
				t.stopped = workflows.StoppedBy(s.By)
				p.stopTask(ctx, t, false)
			}
		}
	}
}

// cleanUp sees to it that a task that has ended leaves no container: FATE-Flow asks for it after every task. One that
// has told its end has a while to leave by itself.
func (p *job) cleanUp(ctx workflow.Context, t *task) {
	gone := func() bool {
		for _, part := range t.parts {
			if part.cancel != nil && !part.stopping {
				return false
			}
		}
		return true
	}
	if !workflows.AwaitFor(ctx, exitWait, gone) {
		p.stopTask(ctx, t, true)
	}
}

// stop ends the job, once.
func (p *job) stop(s workflows.Stop) {
	if p.stopped == "" {
		begun := p.state == bfia.JobRunning
		p.stopped, p.undone = s.By, s.Undo && !begun
		p.failure = s.Failure
		if s.Rejected && !begun {
			p.state = bfia.JobRejected
			if p.failure == nil {
				p.failure = &bfia.Failure{Kind: bfia.FailedRejected, Message: s.Reason}
			}
		}
	}
}

// ended tells whether all parts of the task have reached their end.
func (t *task) ended() bool {
	for _, part := range t.parts {
		if !part.state.Terminal() {
			return false
		}
	}
	return true
}

// stopTask ends the containers of a task. Those whose part has ended leave by themselves, but for the stubborn.
func (p *job) stopTask(ctx workflow.Context, t *task, stubborn bool) {
	for _, part := range t.parts {
		if part.cancel != nil && !part.stopping && (stubborn || !part.state.Terminal()) {
			part.stopping = true
			p.active++
			cancel := part.cancel
			workflow.Go(ctx, func(ctx workflow.Context) { p.stopPart(ctx, t, part, cancel) })
		}
	}
}

// undo removes the job's rows. The workflow ends as failed, so that the same job may be created anew.
func (p *job) undo(ctx workflow.Context) error {
	if err := workflows.Record(ctx, "forget the job", act.ForgetJob, participant.ForgetJobInput{JobID: p.Plan.JobID}).Get(ctx, nil); err != nil {
		return workflows.AwaitHandlers(ctx, err)
	}
	return workflows.AwaitHandlers(ctx, workflows.Refuse(bfia.CodeRefused, "the job was not created everywhere, so "+p.stopped+" had it undone"))
}

// end ends what still runs, waits for the containers to be gone, and gives back what the job held.
func (p *job) end(ctx workflow.Context) (workflows.Result, error) {
	workflow.SetCurrentDetails(ctx, "Ending the job, as "+p.stopped+" asked\n\n"+p.table())
	if p.state == bfia.JobRejected {
		return p.endRejected(ctx)
	}
	outcome, failure := workflows.OutcomeSuccess, (*bfia.Failure)(nil)
	for _, planned := range p.Plan.Tasks {
		t := p.tasks[planned.Name]
		if !t.ended() {
			t.stopped = p.stopReason(t)
			p.stopTask(ctx, t, false)
		}
		if t.stopped != nil && outcome == workflows.OutcomeSuccess {
			outcome, failure = workflows.OutcomeStopped, t.stopped
		}
		for _, part := range t.parts {
			if part.state == bfia.TaskFailed && part.failure.Kind != bfia.FailedStopped && outcome != workflows.OutcomeFailed {
				outcome, failure = workflows.OutcomeFailed, part.failure
			}
		}
	}
	// What failed elsewhere explains a stop here; what failed here, this party knows best.
	if p.failure != nil && outcome == workflows.OutcomeStopped {
		if failure = p.failure; failure.Kind != bfia.FailedStopped {
			outcome = workflows.OutcomeFailed
		}
	}
	reason := failure.String()
	p.state = bfia.JobFinished
	_ = workflow.UpsertTypedSearchAttributes(ctx, workflows.AttributeState.ValueSet(outcome))
	p.recordEnd(ctx, p.state, failure)
	workflows.SetFailureMemo(ctx, failure)
	if !workflows.AwaitFor(ctx, exitWait, func() bool { return p.active == 0 }) {
		for _, planned := range p.Plan.Tasks {
			p.stopTask(ctx, p.tasks[planned.Name], true)
		}
	}
	_ = workflow.Await(ctx, func() bool { return p.active == 0 })
	p.releaseRoom(ctx, reason)
	p.releaseSessions(ctx)
	_ = workflow.Await(ctx, func() bool { return p.active == 0 })
	workflow.SetCurrentDetails(ctx, workflows.EndDetails(outcome, failure, p.Node, p.Plan.JobID)+p.table())
	return workflows.Result{State: p.state, Outcome: outcome, Reason: reason}, workflows.AwaitHandlers(ctx, nil)
}

// releaseSessions gives back what the job holds at the party's transport.
func (p *job) releaseSessions(ctx workflow.Context) {
	var released []workflow.Future
	for i, session := range append([]string{bfia.SessionID(p.Plan.JobID)}, p.sessions...) {
		id := "release the session"
		if i > 0 {
			id += fmt.Sprintf(" (%d)", i+1)
		}
		released = append(released, workflows.SendLocalFirst(ctx, id, time.Minute, act.ReleaseSession,
			participant.ReleaseSessionInput{Session: session}))
	}
	for _, f := range released {
		if err := f.Get(ctx, nil); err != nil {
			p.logger.Warn("session not released; it goes when it has been idle for long", "reason", workflows.Reason(err))
		}
	}
}

// describe tells an operator in Temporal's UI what the job does here and waits for.
func (p *job) describe(ctx workflow.Context) { workflow.SetCurrentDetails(ctx, p.table()) }

func (p *job) table() string {
	var b strings.Builder
	if p.state == bfia.JobPending {
		fmt.Fprintf(&b, "Waiting for someone here: hutong job approve %s, or hutong job reject %[1]s\n\n", p.Plan.JobID)
	}
	if p.state == bfia.JobRunning && !p.room.granted && p.room.denied != "" {
		fmt.Fprintf(&b, "Its tasks wait for room: %s\n\n", p.room.denied)
	}
	fmt.Fprintf(&b, "Job %s, scheduled by %s, is %s here\n\n| task | part | state | host |\n| --- | --- | --- | --- |\n", p.Plan.JobID, p.Scheduler, p.state)
	for i, planned := range p.Plan.Tasks {
		if i == 50 {
			fmt.Fprintf(&b, "| … %d more | | | |\n", len(p.Plan.Tasks)-i)
			break
		}
		for _, part := range p.tasks[planned.Name].parts {
			text := string(part.state)
			if part.attempt > 1 {
				text += fmt.Sprintf(" in attempt %d", part.attempt)
			}
			if why := part.failure.Text(); why != "" {
				text += " (" + workflows.Cell(why) + ")"
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", planned.Name, part.part.Self(), text, part.claim.RunnerID)
		}
	}
	return b.String()
}
