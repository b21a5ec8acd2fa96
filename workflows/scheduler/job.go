package scheduler

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/workflow"

	"hutong/activities/scheduler"
	"hutong/bfia"
	"hutong/workflows"
)

var act *scheduler.Activities

const (
	// createLimit bounds how long the submitter waits for parties that don't answer, after the first try.
	createLimit = 8 * time.Second
	// undoWait bounds how long the submitter waits for the undoing of a job that was not created everywhere.
	undoWait = 3 * time.Second
	// stopLimit bounds the retries of the job's end to a party. The party also asks on its own.
	stopLimit = 7 * 24 * time.Hour
)

// Job runs the scheduler's side of a job (BFIA part 2, 3). It creates the job at every party or at none,
// waits until all have approved it, and starts it. It starts each task as soon as its inputs exist, and ends
// the job at every party. If a task fails at one party, it stops the job at all of them.
func Job(ctx workflow.Context, in workflows.SchedulerJobInput) (workflows.Result, error) {
	j := newJob(ctx, in)
	ctx = workflows.Disconnect(ctx, func() {
		j.finish(workflows.OutcomeStopped, workflows.StoppedBy(workflows.Operator))
	})
	ctx = workflows.WithWaits(ctx, j.waits)
	if err := j.handleUpdates(ctx); err != nil {
		return workflows.Result{}, err
	}
	workflow.Go(ctx, j.recordProgress)
	workflow.Go(ctx, j.receiveCallbacks)
	workflow.Go(ctx, j.receiveTaskWaits)
	workflow.Go(ctx, j.receiveStops)
	workflow.Go(ctx, j.receiveAudits)
	workflow.Go(ctx, j.receiveQueueChanges)
	workflow.Go(ctx, j.watchSilence)
	workflow.Go(ctx, j.keepWaits)

	if in.Queued == nil {
		if err := j.create(ctx); err != nil {
			return workflows.Refused(ctx, err)
		}
		if !j.answeredAtCreation() {
			j.releaseFromCreation(ctx)
		}
		j.awaitApprovals(ctx)
	}
	if again := j.queue(ctx); again {
		return workflows.Result{}, j.continueAsNew(ctx)
	}
	j.start(ctx)
	j.walk(ctx)

	return j.end(ctx)
}

type job struct {
	workflows.SchedulerJobInput
	logger log.Logger

	compact     bool // see [workflows.UpdateCreateCompact]
	asks        bool // the parties to reserve as they create it: see [workflows.CreateRequest]
	created     bool // at every party, or the creation has failed
	createdAt   time.Time
	createError error

	state    bfia.JobState
	accepted map[string]bfia.JobAccepted // answers to the creation, by node
	audits   map[string]bfia.JobState    // decisions of approvers, by node
	tasks    []*task
	byID     map[string]*task // by the id of its attempt
	byName   map[string]*task
	changed  bool                // a waiting task may be able to start: see walk
	starts   map[string]int      // commands under way that start the job or a task, by node
	silentAt map[*task]time.Time // when a running task counts as silent, unless a report comes first
	failure  *bfia.Failure       // why the job ends before its tasks have; nil while it continues
	outcome  bfia.Outcome
	waits    *workflows.Waits

	runningSince time.Time

	queueing
	inFlight
	unwritten
}

func newJob(ctx workflow.Context, in workflows.SchedulerJobInput) *job {
	j := &job{
		SchedulerJobInput: in,
		logger:            log.With(workflow.GetLogger(ctx), "job_id", in.Plan.JobID, "node_id", in.Node),
		state:             bfia.JobPending,
		accepted:          map[string]bfia.JobAccepted{}, audits: map[string]bfia.JobState{},
		waits: workflows.NewWaits(in.Node),
		byID:  map[string]*task{}, byName: map[string]*task{},
		starts: map[string]int{}, silentAt: map[*task]time.Time{},
		queueing: queueing{parallelism: map[string]int{}, silentSince: map[string]time.Time{},
			polls: 1, pollWait: workflows.FirstPoll},
		inFlight:  inFlight{byNode: map[string]int{}},
		unwritten: newUnwritten(),
	}
	for i := range in.Plan.Tasks {
		t := newTask(&in.Plan, &in.Plan.Tasks[i])
		j.tasks = append(j.tasks, t)
		j.byID[t.id], j.byName[t.plan.Name] = t, t
	}
	if in.Queued != nil {
		j.restore(in.Queued)
	}

	return j
}

func (j *job) handleUpdates(ctx workflow.Context) error {
	create := func(ctx workflow.Context) error {
		ctx = workflows.Disconnect(ctx, nil)
		_ = workflow.Await(ctx, func() bool { return j.created })

		return j.createError
	}
	if err := workflow.SetUpdateHandler(ctx, workflows.UpdateCreate, create); err != nil {
		return err
	}
	createCompact := func(ctx workflow.Context) error {
		j.compact = true

		return create(ctx)
	}
	if err := workflow.SetUpdateHandler(ctx, workflows.UpdateCreateCompact, createCompact); err != nil {
		return err
	}

	createMerged := func(ctx workflow.Context, in workflows.CreateRequest) (workflows.CreateResult, error) {
		j.compact, j.asks = true, j.asks || in.AsksToReserve

		return workflows.CreateResult{}, create(ctx)
	}
	if err := workflow.SetUpdateHandler(ctx, workflows.UpdateCreateMerged, createMerged); err != nil {
		return err
	}

	return workflow.SetUpdateHandler(ctx, workflows.UpdatePriority, j.setPriority)
}

// create records the job and creates it at every party. If a party does not accept the job, create undoes it
// at those that did and removes its rows. The submitter gets an error with that party and its reason.
func (j *job) create(ctx workflow.Context) error {
	answer := func(err error) error {
		j.created, j.createError = true, err

		return err
	}

	workflow.SetCurrentDetails(ctx, "Creating the job at "+strings.Join(j.Nodes, ", "))
	j.createdAt = workflow.Now(ctx)
	in := scheduler.RecordScheduleJobInput{Plan: j.Plan, Nodes: j.Nodes, At: j.createdAt}
	if err := workflows.Record(ctx, "record the job", act.RecordScheduleJob, in).Get(ctx, nil); err != nil {
		return answer(err)
	}
	j.waits.SetRecorded(nil)

	undo, refusal := j.createAtParties(workflows.WithoutWaits(ctx))
	if refusal == nil {
		return answer(nil)
	}

	workflow.SetCurrentDetails(ctx, refusal.Error()+"\n\nUndoing it at "+strings.Join(undo, ", "))
	j.logger.Warn("failed to create a job", "reason", refusal.Error())
	undone := make([]workflow.Future, len(undo))
	for i, node := range undo {
		undone[i] = workflows.SendCommand(workflows.WithoutWaits(ctx), "undo at "+node,
			j.Settings.GiveUpAfter, act.SendStop,
			scheduler.SendStopInput{Node: node, Job: bfia.JobRef{JobID: j.Plan.JobID, Undo: true}})
	}

	// The submitter waits for what can be undone now. An unreachable party gets the command once it is back.
	workflows.AwaitFor(ctx, undoWait, func() bool {
		return !slices.ContainsFunc(undone, func(f workflow.Future) bool { return !f.IsReady() })
	})
	j.waits.Finish(ctx)
	j.waits.Forget()
	if err := workflows.Record(ctx, "forget the job", act.ForgetScheduleJob,
		scheduler.ForgetScheduleJobInput{JobID: j.Plan.JobID}).Get(ctx, nil); err != nil {
		return answer(err)
	}
	_ = answer(refusal)
	for _, f := range undone {
		_ = f.Get(ctx, nil)
	}

	return refusal
}

// createAtParties creates the job at every party. If one does not accept it, it returns a refusal, and the
// parties at which the job must be undone.
func (j *job) createAtParties(ctx workflow.Context) (undo []string, refusal error) {
	send := workflows.SendCommand
	if j.compact {
		send = workflows.SendLocalFirst
	}
	var reserve *bfia.ReserveRequest
	if j.asks {
		j.generation++
		reserve = j.reserveRequest()
	}
	futures := make([]workflow.Future, len(j.Nodes))
	for i, node := range j.Nodes {
		futures[i] = send(ctx, "create at "+node, createLimit, act.SendCreate,
			scheduler.SendCreateInput{Node: node, JobID: j.Plan.JobID, Reserve: reserve})
	}

	var reasons []string
	var code bfia.Code
	for i, f := range futures {
		node := j.Nodes[i]
		var accepted bfia.JobAccepted
		err := f.Get(ctx, &accepted)
		if err == nil {
			if reserve == nil || !accepted.Reservations {
				accepted.Grant = nil // nobody has asked for it
			}
			j.accepted[node] = accepted
			undo = append(undo, node)

			continue
		}

		reasons = append(reasons, fmt.Sprintf("%s: %s", node, workflows.Reason(err)))
		if c, _, ok := workflows.RefusalCode(err); ok {
			code = max(code, c)
		} else {
			code = max(code, bfia.CodePartnerDown)
			undo = append(undo, node) // the party may have created the job after all
		}
	}
	if len(reasons) > 0 {
		refusal = workflows.Refuse(code, "the job was not created: "+strings.Join(reasons, "; "))
	}

	return undo, refusal
}

// start starts the job at every party. If the job ends meanwhile, the command is not repeated to those that
// have not answered. It does not wait for parties that have granted a reservation, since the start of a task
// implies the job's: those at which a task starts at once get no other command.
func (j *job) start(ctx workflow.Context) {
	if j.ending() {
		return
	}

	workflow.SetCurrentDetails(ctx, "Starting the job at "+strings.Join(j.Nodes, ", "))
	nodes := j.Nodes
	if implied := j.startsTaskAtOnce(); j.compact {
		nodes = slices.DeleteFunc(slices.Clone(j.Nodes), func(node string) bool { return implied[node] })
	}
	startCtx, cancel := workflow.WithCancel(ctx)
	required, all := 0, len(nodes)
	workflow.Go(ctx, func(ctx workflow.Context) {
		_ = workflow.Await(ctx, func() bool { return all == 0 || j.ending() })
		cancel()
	})

	for _, node := range nodes {
		f := workflows.SendLocalFirst(startCtx, "start at "+node, j.Settings.GiveUpAfter, act.SendStart,
			scheduler.SendStartInput{Node: node, JobID: j.Plan.JobID})
		j.starts[node]++
		reserved := j.accepted[node].Reservations
		if !reserved {
			required++
		}
		workflow.Go(ctx, func(ctx workflow.Context) {
			err := f.Get(ctx, nil)
			j.starts[node]--
			all--
			if err != nil {
				failure := workflows.CommandFailure(node, "did not start the job", err)
				j.finish(workflows.OutcomeFailed, failure)
			}
			if !reserved {
				required--
			}
		})
	}

	_ = workflow.Await(ctx, func() bool { return required == 0 || j.ending() })
	if !j.ending() {
		j.moveTo(bfia.JobRunning)
		j.runningSince = workflow.Now(ctx)
		j.progress.Parallelism = maps.Clone(j.parallelism)
		state := workflows.AttributeState.ValueSet(string(bfia.JobRunning))
		_ = workflow.UpsertTypedSearchAttributes(ctx, state)
	}
}

// startsTaskAtOnce returns the parties with reservations at which a task starts as soon as the job does.
func (j *job) startsTaskAtOnce() map[string]bool {
	nodes := map[string]bool{}
	var first []*task
	for _, t := range j.tasks {
		if begins, _ := j.readiness(t); !begins {
			continue
		}
		first = append(first, t)
		j.inFlight.add(t)
		for _, node := range t.nodes {
			if j.accepted[node].Reservations {
				nodes[node] = true
			}
		}
	}
	for _, t := range first {
		j.inFlight.remove(t)
	}

	return nodes
}

// walk starts every task as soon as all that it depends on has succeeded, within the limits on tasks in
// flight. It returns when nothing runs and nothing more can start. One coroutine looks at all waiting tasks:
// with a coroutine for each, every event would wake all of them.
func (j *job) walk(ctx workflow.Context) {
	waiting, running := slices.Clone(j.tasks), 0
	begin := func(t *task) {
		running++
		j.inFlight.add(t)
		workflow.Go(ctx, func(ctx workflow.Context) {
			j.runTask(ctx, t)
			t.endedAt = workflow.Now(ctx)
			j.inFlight.remove(t)
			running--
			j.changed = true
			j.describe(ctx)
		})
	}

	// It runs after the coroutines that receive signals and record progress, which were created before.
	workflow.Go(ctx, func(ctx workflow.Context) {
		for len(waiting) > 0 {
			j.changed = false
			waiting = slices.DeleteFunc(waiting, func(t *task) bool { // dependencies precede their dependents
				begins, never := j.readiness(t)
				if begins {
					begin(t)
				}

				return begins || never
			})
			_ = workflow.Await(ctx, func() bool { return j.changed || len(waiting) == 0 })
		}
	})
	_ = workflow.Await(ctx, func() bool { return len(waiting) == 0 && running == 0 })
}

// readiness reports whether a waiting task starts now, or never will. In the latter case it sets the reason.
func (j *job) readiness(t *task) (begins, never bool) {
	if j.ending() || t.stopReason != "" {
		return false, true
	}

	for _, d := range t.plan.DependsOn {
		switch up := j.byName[d]; {
		case up.state == bfia.TaskSuccess:
		case up.stopReason != "" || up.state == bfia.TaskFailed:
			t.stopReason, t.stoppedBy = "its input from "+d+" is missing", up.stoppedBy

			return false, true
		default:
			return false, false
		}
	}

	return j.fits(t), false
}

// end ends the job at every party and returns its result.
func (j *job) end(ctx workflow.Context) (workflows.Result, error) {
	if !j.ending() {
		j.conclude()
	}

	j.progress.Outcome, j.progress.Failure = j.outcome, j.failure
	stop := bfia.JobRef{JobID: j.Plan.JobID, Failure: j.failure}
	if j.outcome == workflows.OutcomeRejected {
		j.moveTo(bfia.JobRejected)
		stop.State, stop.Reason = bfia.JobRejected, j.failure.String()
	}
	j.moveTo(bfia.JobFinished)

	_ = workflow.UpsertTypedSearchAttributes(ctx, workflows.AttributeState.ValueSet(string(j.outcome)))
	j.describe(ctx)
	workflows.SetFailureMemo(ctx, j.failure)

	left := slices.Clone(j.Nodes)
	for _, node := range j.Nodes {
		workflow.Go(ctx, func(ctx workflow.Context) {
			j.stopAt(ctx, node, stop)
			left = slices.DeleteFunc(left, func(n string) bool { return n == node })
		})
	}
	_ = workflow.Await(ctx, func() bool {
		return len(left) == 0 && j.unwritten.empty() && j.notifying == 0
	})
	j.waits.Finish(ctx)
	details := workflows.EndDetails(j.outcome, j.failure, j.Node, j.Plan.JobID)
	workflow.SetCurrentDetails(ctx, details+j.table())

	return workflows.Close(ctx,
		workflows.Result{State: j.state, Outcome: j.outcome, Reason: j.failure.String()})
}

// conclude sets the outcome of a job whose tasks have all ended, or will never start.
func (j *job) conclude() {
	j.outcome = workflows.OutcomeSuccess
	for _, t := range j.tasks {
		if t.state != bfia.TaskSuccess {
			j.outcome = workflows.OutcomeStopped
			j.failure = &bfia.Failure{
				Kind: bfia.FailedStopped, Task: t.plan.Name, By: t.stoppedBy, Message: t.stopReason}

			return
		}
	}
}

// stopAt ends the job at a party.
func (j *job) stopAt(ctx workflow.Context, node string, stop bfia.JobRef) {
	// What a start that arrived after the stop began, nobody would stop.
	_ = workflow.Await(ctx, func() bool { return j.starts[node] == 0 })

	if err := workflows.SendLocalFirst(ctx, "stop at "+node, stopLimit, act.SendStop,
		scheduler.SendStopInput{Node: node, Job: stop}).Get(ctx, nil); err != nil {
		j.logger.Warn("failed to notify a party of the job's end",
			"party", node, "reason", workflows.Reason(err))

		return
	}
	j.stopAgain(ctx, node, stop)
}

// stopAgain repeats job/stop to a FATE-Flow at which tasks have failed, once they have ended there. FATE-Flow
// marks stopped tasks FAILED only while it handles job/stop, and after it has looked for failed tasks. It
// finds none at the first job/stop, and would keep the job RUNNING.
func (j *job) stopAgain(ctx workflow.Context, node string, stop bfia.JobRef) {
	if j.accepted[node].Callbacks {
		return // not a FATE-Flow
	}

	var failed []string
	for _, t := range j.tasks {
		if t.failedAt(node) {
			failed = append(failed, t.id)
		}
	}
	if len(failed) == 0 {
		return
	}

	if err := workflows.SendCommand(ctx, "stop again at "+node, j.Settings.GiveUpAfter, act.SendStopAgain,
		scheduler.SendStopAgainInput{Node: node, Job: stop, TaskIDs: failed}).Get(ctx, nil); err != nil {
		j.logger.Warn("failed to repeat the job's end to a party",
			"party", node, "reason", workflows.Reason(err))
	}
}

// finish ends the job early: no further task starts, and those that run are not waited for. It has no effect
// on a job that is ending already.
func (j *job) finish(outcome bfia.Outcome, failure *bfia.Failure) {
	if !j.ending() && !j.state.Terminal() {
		j.outcome, j.failure, j.changed = outcome, failure, true
		j.logger.Info("job ends early", "outcome", outcome, "reason", failure.String())
	}
}

// ending reports whether the job ends before its tasks have.
func (j *job) ending() bool { return j.failure != nil }

func (j *job) moveTo(s bfia.JobState) {
	j.state = j.state.Next(s)
	j.progress.State = j.state
}
