package scheduler

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/testsuite"

	"hutong/activities/scheduler"
	"hutong/bfia"
	"hutong/workflows"
	"hutong/workflows/internal/flowtest"
)

// fakeParties fakes the activities of a job at its scheduler: its parties, whose tasks run in mocked time,
// and its own rows. It checks the rules of the protocol: the test fails if a state moves backwards, or if
// anything starts twice or too early.
type fakeParties struct {
	t   flowtest.T
	env *testsuite.TestWorkflowEnvironment
	in  workflows.SchedulerJobInput
	// create is the update that creates the job. asks makes the parties reserve as they create it.
	create string
	asks   bool
	plans  flowtest.Timetable
	news   int // how often the workflow has continued as new

	// How the parties behave. Keys are as in sent: "create A", "start A", "start task A".
	errors   map[string]error
	accepted map[string]bfia.JobAccepted // answers to the creation, by node
	// ends holds the ends of parts by "task guest.0". A part without an entry succeeds after a second.
	ends map[string]end
	// later holds the same in the second attempt, by "task guest.0", and in the third, by "task guest.0 3".
	later  map[string]end
	onSend func(command string, attempt int) // is called for each try

	mu      sync.Mutex
	over    bool
	sent    []string // commands that arrived, in order
	times   map[string]time.Duration
	began   time.Time
	parts   map[string]bfia.TaskState // at the parties, by "task guest.0"
	reasons map[string]string
	polls   []poll
	polled  []scheduler.PollTaskInput
	inFlght map[string]bool
	attempt map[string]int                     // that the party runs, by "task node"
	written map[string]int                     // attempts in the rows, by task
	lost    map[string][]scheduler.LostAttempt // what became of the attempts before those, by task
	most    int                                // tasks that ran at once
	broken  []string

	known    bool // the job has rows
	forgot   bool
	job      bfia.JobState
	reason   string
	rows     map[string]bfia.TaskState // by task
	whys     map[string]string
	partRows map[string]bfia.TaskState // by "task guest.0"
	partWhys map[string]string

	turn        func() scheduler.QueueState             // its state in the queue; nil: it may reserve
	grant       func(node string, round int) bfia.Grant // the answer to a request; nil: granted
	creates     func(node string) *bfia.Grant           // to one with the creation; nil: granted
	queue       []string                                // requests and their answers
	unreachable func(node string) bool                  // whether a request is lost
	granted     map[string]int                          // generations of the reservations held, by node
	waitsAt     map[string]bool                         // nodes in whose queue the job is

	reused  []string       // tasks that are reused, with their nodes
	waits   []bfia.Waiting // in the row
	waited  []bfia.Waiting // that were in the row, in order
	stops   []bfia.JobRef  // sent to the parties at the end
	answers []error        // to the callers of the create update
}

// end is the end of a part at its party.
type end struct {
	state  bfia.TaskState // empty: only when it is stopped
	after  time.Duration
	reason string
	silent bool             // it sends no callback, also not after a stop
	kind   bfia.FailureKind // of a failure; empty: the party reports only the reason
}

type poll struct {
	token []byte
	req   scheduler.PollTaskInput
}

func newFakeParties(t flowtest.T, p bfia.Plan) *fakeParties {
	f := &fakeParties{
		t:        t,
		env:      flowtest.NewEnv(),
		create:   workflows.UpdateCreateMerged,
		in:       workflows.SchedulerJobInput{Plan: p, Node: flowtest.NodeA, Settings: flowtest.Settings},
		errors:   map[string]error{},
		accepted: map[string]bfia.JobAccepted{},
		ends:     map[string]end{},
		later:    map[string]end{},
		attempt:  map[string]int{},
		written:  map[string]int{},
		lost:     map[string][]scheduler.LostAttempt{},
		times:    map[string]time.Duration{},
		granted:  map[string]int{},
		waitsAt:  map[string]bool{},
		parts:    map[string]bfia.TaskState{},
		reasons:  map[string]string{},
		inFlght:  map[string]bool{},
		rows:     map[string]bfia.TaskState{},
		whys:     map[string]string{},
		partRows: map[string]bfia.TaskState{},
		partWhys: map[string]string{},
	}
	for _, task := range p.Tasks {
		f.in.Nodes = append(f.in.Nodes, task.Nodes()...)
		for _, part := range task.Parts {
			f.parts[flowtest.PartKey(task.Name, part)] = bfia.TaskReady
		}
	}
	slices.Sort(f.in.Nodes)
	f.in.Nodes = slices.Compact(f.in.Nodes)
	f.register()
	return f
}

func (f *fakeParties) register() {
	for name, fn := range map[string]any{
		"RecordScheduleJob": f.recordJob, "RecordProgress": f.recordProgress,
		"RecordScheduleWaits": f.recordWaits,
		"ForgetScheduleJob":   f.forget, "SendCreate": f.sendCreate,
		"SendStart": f.sendStart, "SendTaskStart": f.sendTaskStart,
		"Enqueue": f.enqueue, "Requeue": f.requeue, "SetPriority": f.setPriority,
		"SendReserve": f.sendReserve, "SendRelease": f.sendRelease,
		"SendStop": f.sendStop, "SendStopAgain": f.sendStopAgain, "PollTask": f.pollTask,
	} {
		f.env.RegisterActivityWithOptions(fn, activity.RegisterOptions{Name: name})
	}
}

// run runs the job to its end, with one caller of its create update.
func (f *fakeParties) run() (workflows.Result, error) {
	f.began = f.env.Now()
	f.at(0, f.callCreate)
	f.env.ExecuteWorkflow(Job, f.in)
	require.True(f.t, f.env.IsWorkflowCompleted())
	for {
		var in workflows.SchedulerJobInput
		next, again := f.plans.NextRun(f.t, f.env, workflows.QueuedSchedulerJobType, &in)
		if !again {
			break
		}
		f.news++
		f.env, f.in = next, in
		f.register()
		f.env.ExecuteWorkflow(Job, f.in)
		require.True(f.t, f.env.IsWorkflowCompleted())
	}
	f.mu.Lock()
	f.over = true
	f.mu.Unlock()
	require.Empty(f.t, f.broken)
	r, err := flowtest.Result(f.env)
	if err != nil {
		return workflows.Result{}, err
	}
	f.checkEnd(r)
	return r, nil
}

// at calls a function at a time after the start of the job. Keep the times seconds apart.
func (f *fakeParties) at(after time.Duration, do func()) { f.plans.At(f.env, after, do) }

// continues makes the workflow continue as new as soon as it can after some time, and a moment: the test
// environment loses a signal that is sent in the same instant. Temporal then asks the workflow again.
func (f *fakeParties) continues(after time.Duration) {
	f.at(after+time.Second/4, func() { f.env.SetContinueAsNewSuggested(true) })
}

func (f *fakeParties) callCreate() {
	var input []any
	if f.create == workflows.UpdateCreateMerged {
		input = append(input, workflows.CreateRequest{AsksToReserve: f.asks})
	}
	f.env.UpdateWorkflow(f.create, workflows.UpdateCreate, &testsuite.TestUpdateCallback{
		OnAccept: func() {}, OnReject: func(err error) { f.breaks("create was rejected: %v", err) },
		OnComplete: func(_ any, err error) { f.answers = append(f.answers, err) },
	}, input...)
}

func (f *fakeParties) stop(task string) func() {
	return func() { f.env.SignalWorkflow(workflows.SignalStop, workflows.Stop{Task: task, By: "someone"}) }
}

func (f *fakeParties) callback(node, task, role string, state bfia.TaskState, reason string) {
	f.signal(node, task, max(f.attempt[task+" "+node], 1), role, state, bfia.FailureOf(state, nil, reason))
}

func (f *fakeParties) signal(node, task string, attempt int, role string, state bfia.TaskState,
	failure *bfia.Failure) {
	f.env.SignalWorkflow(
		workflows.SignalCallback,
		workflows.Callback{
			Node:    node,
			TaskID:  f.taskID(task, attempt),
			Role:    role,
			State:   state,
			Failure: failure,
		},
	)
}

func (f *fakeParties) taskID(task string, attempt int) string {
	return bfia.AttemptID(f.in.Plan.JobID, task, attempt)
}

// end returns the end of a part in an attempt.
func (f *fakeParties) end(key string, attempt int) end {
	ends, name := f.ends, key
	if attempt > 1 {
		ends = f.later
	}
	if attempt > 2 {
		name = fmt.Sprintf("%s %d", key, attempt)
	}
	if e, ok := ends[name]; ok {
		return e
	}
	return end{state: bfia.TaskSuccess, after: time.Second}
}

// breaks records a broken rule. Activities run in goroutines, in which a test can't fail.
func (f *fakeParties) breaks(format string, args ...any) {
	f.broken = append(f.broken, fmt.Sprintf(format, args...))
}

// enter locks the fake for an activity, and ends activities that outlive the workflow.
func (f *fakeParties) enter() (leave func()) {
	f.mu.Lock()
	if f.over {
		f.mu.Unlock()
		runtime.Goexit()
	}
	return f.mu.Unlock
}

// arrives records a command, and returns its answer.
func (f *fakeParties) arrives(ctx context.Context, command string) error {
	if f.onSend != nil {
		f.onSend(command, int(activity.GetInfo(ctx).Attempt))
	}
	if err := f.errors[command]; err != nil {
		return err
	}
	f.sent = append(f.sent, command)
	f.times[command] = f.env.Now().Sub(f.began)
	return nil
}

func (f *fakeParties) sendCreate(ctx context.Context,
	in scheduler.SendCreateInput) (bfia.JobAccepted, error) {
	defer f.enter()()
	if err := f.arrives(ctx, "create "+in.Node); err != nil {
		return bfia.JobAccepted{}, err
	}
	accepted := f.accepted[in.Node]
	if accepted.Grant == nil { // otherwise it was not asked for
		accepted.Grant = f.reserveAtCreation(in)
	}
	return accepted, nil
}

// audit is a party's approval or rejection.
func (f *fakeParties) audit(node string, status bfia.JobState, reason string) func() {
	return func() {
		f.env.SignalWorkflow(workflows.SignalAudit,
			workflows.Audit{Node: node, Status: status, Reason: reason})
	}
}

func (f *fakeParties) sendStart(ctx context.Context, in scheduler.SendStartInput) error {
	defer f.enter()()
	return f.arrives(ctx, "start "+in.Node)
}

func (f *fakeParties) sendTaskStart(ctx context.Context, in scheduler.SendTaskStartInput) error {
	node, ref := in.Node, in.Task
	defer f.enter()()
	task, ok := f.in.Plan.Task(ref.TaskName)
	if !ok || ref.TaskID != f.taskID(ref.TaskName, ref.AttemptNumber()) || ref.JobID != f.in.Plan.JobID {
		f.breaks("task/start of %v", ref)
		return nil
	}
	for _, dep := range task.DependsOn {
		up, _ := f.in.Plan.Task(dep)
		for _, part := range up.Parts {
			if s := f.parts[flowtest.PartKey(dep, part)]; s != bfia.TaskSuccess {
				f.breaks("%s started at %s while %s is %s", ref.TaskName, node, flowtest.PartKey(dep, part),
					s)
			}
		}
	}
	command := "start " + ref.TaskName + " " + node
	if ref.Attempt > 1 {
		command += fmt.Sprintf(" (attempt %d)", ref.Attempt)
		if !f.accepted[node].Attempts || f.written[ref.TaskName] != ref.Attempt {
			f.breaks("%s, while the rows have attempt %d", command, f.written[ref.TaskName])
		}
		if lost := f.lost[ref.TaskName]; ref.Lost == nil || len(lost) < ref.Attempt-1 ||
			ref.Lost.Kind != lost[ref.Attempt-2].Failure.Kind {
			f.breaks("%s with the failure %v of the attempt before", command, ref.Lost)
		}
	}
	if slices.Contains(f.sent, command) {
		f.breaks("%s came twice", command)
	}
	if f.accepted[node].Reservations && f.granted[node] == 0 {
		f.breaks("%s came to a party that holds no reservation", command)
	}
	if !f.accepted[node].Reservations && !slices.Contains(f.sent, "start "+node) {
		f.breaks("%s came before the job's start", command)
	}
	if slices.Contains(f.sent, "stop "+node) {
		// Temporal waits for a cancelled try to end before the stop. The test environment does not.
		return flowtest.RefusedBy(bfia.CodeConflict, "the job has ended")
	}
	if err := f.arrives(ctx, command); err != nil {
		return err
	}
	if ref.Reuse {
		f.reused = append(f.reused, ref.TaskName+" "+node)
	}
	if attempt := f.attempt[ref.TaskName+" "+node]; attempt >= ref.AttemptNumber() {
		f.breaks("%s after attempt %d", command, attempt)
	}
	f.attempt[ref.TaskName+" "+node] = ref.AttemptNumber()
	f.inFlght[ref.TaskName] = true
	f.most = max(f.most, len(f.inFlght))
	for _, part := range task.PartsOf(node) {
		key := flowtest.PartKey(ref.TaskName, part)
		f.parts[key] = bfia.TaskRunning
		if e := f.end(key, ref.AttemptNumber()); e.state != "" {
			f.at(e.after, func() {
				defer f.enter()()
				// Otherwise its container is gone.
				if f.attempt[ref.TaskName+" "+node] == ref.AttemptNumber() {
					f.endPart(task, part, e.state, e.reason)
				}
			})
		}
	}
	return nil
}

// endPart ends a part at its party, which sends a callback and answers polls.
func (f *fakeParties) endPart(task *bfia.PlannedTask, part bfia.Part, state bfia.TaskState, reason string) {
	key := flowtest.PartKey(task.Name, part)
	if f.parts[key] != bfia.TaskRunning {
		return
	}
	f.parts[key], f.reasons[key] = state, reason
	running := false
	for _, p := range task.Parts {
		running = running || f.parts[flowtest.PartKey(task.Name, p)] == bfia.TaskRunning
	}
	if !running {
		delete(f.inFlght, task.Name)
	}
	attempt := f.attempt[task.Name+" "+part.NodeID]
	if e := f.end(key, attempt); !e.silent {
		failure := bfia.FailureOf(state, nil, reason)
		if failure != nil && e.kind != "" && e.reason == reason {
			failure.Kind = e.kind
		}
		f.signal(part.NodeID, task.Name, attempt, part.Role, state, failure)
	}
	f.polls = slices.DeleteFunc(f.polls, func(p poll) bool {
		ended := f.ended(p.req)
		if len(ended) > 0 {
			_ = f.env.CompleteActivity(p.token, ended, nil)
		}
		return len(ended) > 0
	})
}

func (f *fakeParties) sendStop(ctx context.Context, in scheduler.SendStopInput) error {
	node, ref := in.Node, in.Job
	defer f.enter()()
	command, names := "stop "+node, []string(nil)
	switch {
	case ref.Undo:
		command = "undo " + node
	case ref.TaskName != "":
		command = "stop " + ref.TaskName + " " + node
		names = f.in.Plan.WithDependents(ref.TaskName)
	default:
		for _, t := range f.in.Plan.Tasks {
			names = append(names, t.Name)
		}
	}
	if slices.Contains(f.sent, command) {
		f.breaks("%s came twice", command)
	}
	if err := f.arrives(ctx, command); err != nil {
		return err
	}
	if command == "stop "+node {
		f.stops = append(f.stops, ref)
	}
	for _, name := range names {
		task, _ := f.in.Plan.Task(name)
		for _, part := range task.PartsOf(node) {
			f.endPart(task, part, bfia.TaskFailed, "stopped by "+flowtest.NodeA)
		}
	}
	return nil
}

// sendStopAgain checks that it is sent at most once, to a FATE-Flow, after the stop, and for tasks that
// failed there only.
func (f *fakeParties) sendStopAgain(ctx context.Context, in scheduler.SendStopAgainInput) error {
	node, ref, tasks := in.Node, in.Job, in.TaskIDs
	defer f.enter()()
	command := "stop again " + node
	if slices.Contains(f.sent, command) || !slices.Contains(f.sent, "stop "+node) ||
		f.accepted[node].Callbacks ||
		ref.JobID != f.in.Plan.JobID {
		f.breaks("%s: %v", command, ref)
	}
	if len(tasks) == 0 {
		f.breaks("%s for nothing", command)
	}
	for _, t := range f.in.Plan.Tasks {
		succeeded := !slices.ContainsFunc(t.PartsOf(node),
			func(p bfia.Part) bool { return f.partRows[flowtest.PartKey(t.Name, p)] != bfia.TaskSuccess })
		if succeeded && slices.Contains(tasks, f.taskID(t.Name, max(f.written[t.Name], 1))) {
			f.breaks("%s for %s, which succeeded", command, t.Name)
		}
	}
	return f.arrives(ctx, command)
}

func (f *fakeParties) pollTask(ctx context.Context,
	req scheduler.PollTaskInput) ([]scheduler.PollTaskResult, error) {
	defer f.enter()()
	f.polled = append(f.polled, req)
	f.times[fmt.Sprintf("poll %d", len(f.polled))] = f.env.Now().Sub(f.began)
	if ended := f.ended(req); len(ended) > 0 {
		return ended, nil
	}
	f.polls = append(f.polls, poll{activity.GetInfo(ctx).TaskToken, req})
	return nil, activity.ErrResultPending
}

// ended returns the ends that a poll finds.
func (f *fakeParties) ended(req scheduler.PollTaskInput) []scheduler.PollTaskResult {
	var ended []scheduler.PollTaskResult
	for _, task := range f.in.Plan.Tasks {
		for _, node := range req.Nodes {
			if f.taskID(task.Name, max(f.attempt[task.Name+" "+node], 1)) != req.TaskID {
				continue
			}
			var states []bfia.TaskState
			var reasons []string
			var kind bfia.FailureKind
			for _, part := range task.PartsOf(node) {
				if e := f.end(flowtest.PartKey(task.Name, part),
					f.attempt[task.Name+" "+node]); e.kind != "" &&
					f.reasons[flowtest.PartKey(task.Name, part)] == e.reason {
					kind = e.kind
				}
				states = append(states, f.parts[flowtest.PartKey(task.Name, part)])
				if r := f.reasons[flowtest.PartKey(task.Name, part)]; r != "" {
					reasons = append(reasons, r)
				}
			}
			if s := bfia.MergeTaskStates(states...); s.Terminal() {
				failure := bfia.FailureOf(s, nil, strings.Join(reasons, "; "))
				if failure != nil && kind != "" {
					failure.Kind = kind
				}
				ended = append(ended, scheduler.PollTaskResult{Node: node, State: s, Failure: failure})
			}
		}
	}
	return ended
}
