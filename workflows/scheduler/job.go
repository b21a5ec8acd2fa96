package scheduler

import (
	"fmt"
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

// Job is the scheduler's side of a job (the seed's execution chapter): it creates the job on every party, or nowhere;
// waits until all have approved it; starts it; walks the DAG, each task as soon as its inputs are there; and ends it on every party. When a task fails at
// one party it stops the job at all of them.
func Job(ctx workflow.Context, in workflows.SchedulerJobInput) (workflows.Result, error) {
	j := newJob(ctx, in)
	ctx = workflows.Disconnect(ctx, func() { j.finish(workflows.OutcomeStopped, workflows.StoppedBy(workflows.Operator)) })
	if err := workflow.SetUpdateHandler(ctx, workflows.UpdateCreate, func(ctx workflow.Context) error {
		ctx = workflows.Disconnect(ctx, nil)
		_ = workflow.Await(ctx, func() bool { return j.created })
		return j.createError
	}); err != nil {
		return workflows.Result{}, err
	}
	if err := workflow.SetUpdateHandler(ctx, workflows.UpdatePriority, func(ctx workflow.Context, priority int) error {
		return j.prioritise(workflows.Disconnect(ctx, nil), priority)
	}); err != nil {
		return workflows.Result{}, err
	}
	workflow.Go(ctx, j.recordProgress)
	workflow.Go(ctx, j.receiveCallbacks)
	workflow.Go(ctx, j.receiveStops)
	workflow.Go(ctx, j.receiveAudits)
	workflow.Go(ctx, j.receiveTurns)
	workflow.Go(ctx, j.watchSilence)

	if err := j.create(ctx); err != nil {
		return workflows.Result{}, workflows.AwaitHandlers(ctx, err)
	}
	j.awaitApprovals(ctx)
	j.queue(ctx)
	j.start(ctx)
	j.walk(ctx)
	return j.end(ctx), workflows.AwaitHandlers(ctx, nil)
}

type job struct {
	workflows.SchedulerJobInput
	logger log.Logger

	created     bool
	createdAt   time.Time
	createError error
	queued

	state    bfia.JobState
	accepted map[string]bfia.JobAccepted // what parties told at creation
	audits   map[string]bfia.JobState    // what parties told of their approval
	tasks    []*scheduledTask
	byID     map[string]*scheduledTask // by the id of its attempt
	byName   map[string]*scheduledTask
	running  int
	moved    bool                         // something has changed for tasks that wait: see walk
	inFlight map[string]int               // tasks, by node
	starts   map[string]int               // commands to start the job or a task that are under way, by node
	silentAt map[*scheduledTask]time.Time // when a task that runs counts as silent, unless something is heard before
	failure  *bfia.Failure                // why the job ends before its tasks have; nil while it continues
	outcome  string

	// What is known but not yet written; see recordProgress.
	unwritten  scheduler.Progress
	dirty      map[*scheduledTask]bool
	dirtyOrder []*scheduledTask
	dirtyParts map[*scheduledTask]map[int]bool
	written    bool // nothing is being written
}

// scheduledTask is a task as its scheduler sees it.
type scheduledTask struct {
	plan      *bfia.PlannedTask
	nodes     []string // at which it runs
	id        string
	state     bfia.TaskState
	reason    string
	parts     []bfia.TaskState
	failures  []*bfia.Failure
	failure   *bfia.Failure // of the part whose failure made the task FAILED
	stoppedBy string
	stopped   string        // why it must not start, or must end
	heard     int           // how many reports came: silence is when none does
	attempt   int           // from 1; each has an id of its own
	lost      *bfia.Failure // why the attempt is given up and another follows; nil while it goes on
}

func newJob(ctx workflow.Context, in workflows.SchedulerJobInput) *job {
	j := &job{
		SchedulerJobInput: in,
		logger:            log.With(workflow.GetLogger(ctx), "job_id", in.Plan.JobID, "node_id", in.Node),
		state:             bfia.JobPending, accepted: map[string]bfia.JobAccepted{}, audits: map[string]bfia.JobState{},
		byID: map[string]*scheduledTask{}, byName: map[string]*scheduledTask{}, starts: map[string]int{}, written: true,
		inFlight: map[string]int{}, silentAt: map[*scheduledTask]time.Time{}, queued: queued{copies: map[string]int{}, silent: map[string]time.Time{}},
		dirty: map[*scheduledTask]bool{}, dirtyParts: map[*scheduledTask]map[int]bool{},
	}
	for i := range in.Plan.Tasks {
		p := &in.Plan.Tasks[i]
		t := &scheduledTask{plan: p, nodes: p.Nodes(), id: bfia.TaskID(in.Plan.JobID, p.Name), state: bfia.TaskReady, attempt: 1,
			parts: make([]bfia.TaskState, len(p.Parts)), failures: make([]*bfia.Failure, len(p.Parts))}
		for k := range t.parts {
			t.parts[k] = bfia.TaskReady
		}
		j.tasks = append(j.tasks, t)
		j.byID[t.id], j.byName[p.Name] = t, t
	}
	return j
}

// create records the job and creates it on every party. When one does not take it, those that did are told to stop,
// the record goes, and the caller learns who refused and with what words.
func (j *job) create(ctx workflow.Context) error {
	answer := func(err error) error {
		j.created, j.createError = true, err
		return err
	}
	workflow.SetCurrentDetails(ctx, "Creating the job at "+strings.Join(j.Nodes, ", "))
	j.createdAt = workflow.Now(ctx)
	if err := workflows.Record(ctx, "record the job", act.RecordScheduleJob,
		scheduler.RecordScheduleJobInput{Plan: j.Plan, Nodes: j.Nodes, At: j.createdAt}).Get(ctx, nil); err != nil {
		return answer(err)
	}
	futures := make([]workflow.Future, len(j.Nodes))
	for i, node := range j.Nodes {
		futures[i] = workflows.SendCommand(ctx, "create at "+node, createLimit, act.SendCreate,
			scheduler.SendCreateInput{Node: node, JobID: j.Plan.JobID})
	}
	var refused []string
	var code bfia.Code
	var undo []string
	for i, f := range futures {
		var accepted bfia.JobAccepted
		err := f.Get(ctx, &accepted)
		if err == nil {
			j.accepted[j.Nodes[i]] = accepted
			undo = append(undo, j.Nodes[i])
			continue
		}
		refused = append(refused, fmt.Sprintf("%s: %s", j.Nodes[i], workflows.Reason(err)))
		if c, _, ok := workflows.RefusalCode(err); ok {
			code = max(code, c)
		} else {
			code = max(code, bfia.CodePartnerDown)
			undo = append(undo, j.Nodes[i]) // it may have taken it after all
		}
	}
	if len(refused) == 0 {
		return answer(nil)
	}
	failure := workflows.Refuse(code, "the job was not created: "+strings.Join(refused, "; "))
	workflow.SetCurrentDetails(ctx, failure.Error()+"\n\nUndoing it at "+strings.Join(undo, ", "))
	j.logger.Warn("job not created", "reason", failure.Error())
	undone := make([]workflow.Future, len(undo))
	for i, node := range undo {
		undone[i] = workflows.SendCommand(ctx, "undo at "+node, j.Settings.GiveUpAfter, act.SendStop,
			scheduler.SendStopInput{Node: node, Job: bfia.JobRef{JobID: j.Plan.JobID, Undo: true}})
	}
	// The caller waits for what can be undone now; a party that is out of reach is told when it is back.
	workflows.AwaitFor(ctx, undoWait, func() bool {
		for _, f := range undone {
			if !f.IsReady() {
				return false
			}
		}
		return true
	})
	if err := workflows.Record(ctx, "forget the job", act.ForgetScheduleJob,
		scheduler.ForgetScheduleJobInput{JobID: j.Plan.JobID}).Get(ctx, nil); err != nil {
		return answer(err)
	}
	_ = answer(failure)
	for _, f := range undone {
		_ = f.Get(ctx, nil)
	}
	return failure
}

const (
	// createLimit bounds how long the caller of create_all waits for parties that don't answer.
	createLimit = 8 * time.Second
	undoWait    = 3 * time.Second
)

// start starts the job on every party. When the job ends meanwhile, those that have not answered are not asked again. Those
// that have granted it room are not waited for: a task's start implies the job's.
func (j *job) start(ctx workflow.Context) {
	if j.ending() {
		return
	}
	workflow.SetCurrentDetails(ctx, "Starting the job at "+strings.Join(j.Nodes, ", "))
	startCtx, cancel := workflow.WithCancel(ctx)
	left, all := 0, len(j.Nodes)
	workflow.Go(ctx, func(ctx workflow.Context) {
		_ = workflow.Await(ctx, func() bool { return all == 0 || j.ending() })
		cancel()
	})
	for _, node := range j.Nodes {
		f := workflows.SendLocalFirst(startCtx, "start at "+node, j.Settings.GiveUpAfter, act.SendStart,
			scheduler.SendStartInput{Node: node, JobID: j.Plan.JobID})
		j.starts[node]++
		granted := j.accepted[node].Reservations
		if !granted {
			left++
		}
		workflow.Go(ctx, func(ctx workflow.Context) {
			err := f.Get(ctx, nil)
			j.starts[node]--
			all--
			if err != nil {
				j.finish(workflows.OutcomeFailed, workflows.CommandFailure(node, "did not start the job", err))
			}
			if !granted {
				left--
			}
		})
	}
	_ = workflow.Await(ctx, func() bool { return left == 0 || j.ending() })
	if !j.ending() {
		j.moveTo(bfia.JobRunning)
		_ = workflow.UpsertTypedSearchAttributes(ctx, workflows.AttributeState.ValueSet(string(bfia.JobRunning)))
	}
}

// walk runs every task as soon as what it depends on has succeeded, as many at once as fit, until nothing can run. One
// coroutine looks at those that wait, when something has moved: one for each would be woken by every event.
func (j *job) walk(ctx workflow.Context) {
	waiting, running := slices.Clone(j.tasks), 0
	begin := func(t *scheduledTask) {
		running++
		release := j.hold(t)
		workflow.Go(ctx, func(ctx workflow.Context) {
			j.describe(ctx)
			j.runTask(ctx, t)
			release()
			running--
			j.moved = true
			j.describe(ctx)
		})
	}
	workflow.Go(ctx, func(ctx workflow.Context) { // after those that take what is told and write it down
		for len(waiting) > 0 {
			j.moved = false
			waiting = slices.DeleteFunc(waiting, func(t *scheduledTask) bool { // dependencies stand before dependants
				begins, over := j.ready(t)
				if begins {
					begin(t)
				}
				return begins || over
			})
			_ = workflow.Await(ctx, func() bool { return j.moved || len(waiting) == 0 })
		}
	})
	_ = workflow.Await(ctx, func() bool { return len(waiting) == 0 && running == 0 })
}

// ready tells whether a task that waits begins now, or never will; then it notes why.
func (j *job) ready(t *scheduledTask) (begins, over bool) {
	if j.ending() || t.stopped != "" {
		return false, true
	}
	for _, d := range t.plan.DependsOn {
		switch up := j.byName[d]; {
		case up.state == bfia.TaskSuccess:
		case up.stopped != "" || up.state == bfia.TaskFailed:
			t.stopped, t.stoppedBy = "its input from "+d+" is missing", up.stoppedBy
			return false, true
		default:
			return false, false
		}
	}
	return j.fits(t), false
}

// end ends the job on every party and says how it went.
func (j *job) end(ctx workflow.Context) workflows.Result {
	if !j.ending() {
		j.outcome = workflows.OutcomeSuccess
		for _, t := range j.tasks {
			if t.state != bfia.TaskSuccess {
				j.outcome, j.failure = workflows.OutcomeStopped, &bfia.Failure{Kind: bfia.FailedStopped, Task: t.plan.Name, By: t.stoppedBy, Message: t.stopped}
				break
			}
		}
	}
	j.unwritten.Failure = j.failure
	stop := bfia.JobRef{JobID: j.Plan.JobID, Failure: j.failure}
	if j.outcome == workflows.OutcomeRejected {
		j.moveTo(bfia.JobRejected)
		stop.State, stop.Reason = bfia.JobRejected, j.failure.String()
	}
	j.moveTo(bfia.JobFinished)
	_ = workflow.UpsertTypedSearchAttributes(ctx, workflows.AttributeState.ValueSet(j.outcome))
	workflow.SetCurrentDetails(ctx, "Ending the job at "+strings.Join(j.Nodes, ", ")+"\n\n"+j.table())
	workflows.SetFailureMemo(ctx, j.failure)
	left := len(j.Nodes)
	for _, node := range j.Nodes {
		workflow.Go(ctx, func(ctx workflow.Context) {
			defer func() { left-- }()
			// A start that came after the stop would run with nobody to stop it.
			_ = workflow.Await(ctx, func() bool { return j.starts[node] == 0 })
			if err := workflows.SendLocalFirst(ctx, "stop at "+node, j.Settings.GiveUpAfter, act.SendStop,
				scheduler.SendStopInput{Node: node, Job: stop}).Get(ctx, nil); err != nil {
				j.logger.Warn("party was not told the job's end", "party", node, "reason", workflows.Reason(err))
				return
			}
			j.stopAgain(ctx, node, stop)
		})
	}
	_ = workflow.Await(ctx, func() bool {
		return left == 0 && j.written && len(j.dirty) == 0 && j.unwritten.State == "" && j.signals == 0
	})
	workflow.SetCurrentDetails(ctx, workflows.EndDetails(j.outcome, j.failure, j.Node, j.Plan.JobID)+j.table())
	return workflows.Result{State: j.state, Outcome: j.outcome, Reason: j.failure.String()}
}

// stopAgain tells a party that is no Hutong the job's end once more, when the tasks that failed there have ended there too.
// FATE-Flow fails what it stops, and what it could not start, only while it takes job/stop; it has looked for failed
// tasks before, found none, and would keep the job RUNNING.
func (j *job) stopAgain(ctx workflow.Context, node string, stop bfia.JobRef) {
	if j.accepted[node].Callbacks {
		return
	}
	var failed []string
	for _, t := range j.tasks {
		if j.failedAt(t, node) {
			failed = append(failed, t.id)
		}
	}
	if len(failed) == 0 {
		return
	}
	if err := workflows.SendCommand(ctx, "stop again at "+node, j.Settings.GiveUpAfter, act.SendStopAgain,
		scheduler.SendStopAgainInput{Node: node, Job: stop, TaskIDs: failed}).Get(ctx, nil); err != nil {
		j.logger.Warn("party was not told the job's end again", "party", node, "reason", workflows.Reason(err))
	}
}

func (j *job) failedAt(t *scheduledTask, node string) bool {
	for k, p := range t.plan.Parts {
		if p.NodeID == node && t.parts[k] == bfia.TaskFailed {
			return true
		}
	}
	return false
}

// finish makes the job end: no further task starts, and those that run are not waited for. A job that ends anyway goes
// on to the end that it has.
func (j *job) finish(outcome string, failure *bfia.Failure) {
	if !j.ending() && !j.state.Terminal() {
		j.outcome, j.failure, j.moved = outcome, failure, true
		j.logger.Info("job ends early", "outcome", outcome, "reason", failure.String())
	}
}

// ending reports whether the job ends before its tasks have.
func (j *job) ending() bool { return j.failure != nil }

func (j *job) moveTo(s bfia.JobState) {
	j.state = j.state.Next(s)
	j.unwritten.State = j.state
}

// describe tells an operator in Temporal's UI what the job does and waits for.
func (j *job) describe(ctx workflow.Context) { workflow.SetCurrentDetails(ctx, j.table()) }

func (j *job) table() string {
	var b strings.Builder
	b.WriteString(j.waiting())
	fmt.Fprintf(&b, "Job %s is %s\n\n| task | state | after | parts |\n| --- | --- | --- | --- |\n", j.Plan.JobID, j.state)
	for i, t := range j.tasks {
		if i == 50 {
			fmt.Fprintf(&b, "| … %d more | | | |\n", len(j.tasks)-i)
			break
		}
		var parts []string
		for k, p := range t.plan.Parts {
			text := fmt.Sprintf("%s at %s: %s", p.Self(), p.NodeID, t.parts[k])
			if why := t.failures[k].Text(); why != "" {
				text += " (" + why + ")"
			}
			parts = append(parts, workflows.Cell(text))
		}
		state := string(t.state)
		if t.attempt > 1 {
			state += fmt.Sprintf(" (attempt %d)", t.attempt)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", t.plan.Name, state, strings.Join(t.plan.DependsOn, ", "), strings.Join(parts, "; "))
	}
	return b.String()
}
