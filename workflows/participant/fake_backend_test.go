package participant

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
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/testsuite"

	"hutong/activities"
	"hutong/activities/participant"
	"hutong/bfia"
	"hutong/fateflow"
	"hutong/workflows"
	"hutong/workflows/internal/flowtest"
)

// fakeBackend fakes the activities of a job at a participant: its rows, its runners with their containers,
// and its scheduler. It checks the rules of the protocol.
type fakeBackend struct {
	t   flowtest.T
	env *testsuite.TestWorkflowEnvironment
	in  workflows.ParticipantJobInput
	// create is the update that creates the job, reserve the reservation request in it.
	create  string
	reserve *bfia.ReserveRequest
	grants  []*bfia.Grant // answers to it

	plans flowtest.Timetable
	news  int // how often the workflow has continued as new

	runs   map[string]container // by "task guest.0"; without an entry it exits with 0 after a second
	claims func(task string) error
	errors map[string]error // by activity name
	// missingImage are the reports of runners that lack the image of a part, by "task guest.0".
	missingImage map[string]string

	mu     sync.Mutex
	over   bool
	began  time.Time
	broken []string

	called []string // activities, in order
	// log holds what happened, in order: "run a guest.0", "report a guest.0 SUCCESS", "stop a guest.0".
	log           []string
	times         map[string]time.Duration
	job           bfia.JobState
	jobReason     string
	rows          map[string]bfia.TaskState // by "task guest.0"; empty when the job is forgotten
	reasons       map[string]string
	ids           map[string]string          // of tasks, from the scheduler
	running       map[string][]byte          // containers, with their task tokens
	tried         map[string]int             // claims, by task
	requested     map[string]bool            // stops, in the rows
	down          func(activity string) bool // whether an activity fails; nil: none
	admits        func() bfia.Grant          // answers a reservation request; nil: granted
	reserved      bool
	parallelIndex map[string]int // parallel indexes, by task
	hints         []string       // capacity hints sent
	waiters       []participant.Waiting
	waits         []bfia.Waiting           // in the job's row
	partWaits     map[string]*bfia.Waiting // in the parts' rows
	waited        []bfia.Waiting           // that were in any row, in order
	answers       []error
	asked         int            // counts approvals and rejections
	audits        []error        // answers to approvals and rejections
	versions      map[string]int // of FATE-Flow's tasks, by name, from 0
	asks          []time.Duration
	scheduler     func() (participant.SchedulerAnswer, error) // answers a question; nil: the job runs
}

// container is the behaviour of a container.
type container struct {
	exit   int
	after  time.Duration
	reason string
	stays  bool // until it is stopped
}

func (how container) result() activities.PartResult {
	if how.exit == 0 {
		return activities.PartResult{}
	}
	return activities.PartResult{Failure: &bfia.Failure{Kind: bfia.FailedExit, ExitCode: how.exit,
		Message: strings.TrimPrefix(how.reason,
			fmt.Sprintf("exit code %d: ", how.exit)), Log: []string{"its last line"}}}
}

func newFakeBackend(t flowtest.T, p bfia.Plan) *fakeBackend {
	c := &fakeBackend{
		t:   t,
		env: flowtest.NewEnv(), create: workflows.UpdateCreateMerged,
		in: workflows.ParticipantJobInput{
			Plan:      p,
			Node:      flowtest.NodeA,
			Scheduler: flowtest.NodeB,
			Roles:     []string{"guest.0"},
			Settings:  flowtest.Settings,
		},
		runs:          map[string]container{},
		claims:        func(string) error { return nil },
		errors:        map[string]error{},
		times:         map[string]time.Duration{},
		rows:          map[string]bfia.TaskState{},
		reasons:       map[string]string{},
		ids:           map[string]string{},
		running:       map[string][]byte{},
		tried:         map[string]int{},
		versions:      map[string]int{},
		parallelIndex: map[string]int{},
		requested:     map[string]bool{},
		partWaits:     map[string]*bfia.Waiting{},
	}
	c.register()
	return c
}

func (c *fakeBackend) register() {
	called := func(info *activity.Info) { c.called = append(c.called, info.ActivityType.Name) }
	c.env.SetOnActivityStartedListener(
		func(info *activity.Info, _ context.Context, _ converter.EncodedValues) { called(info) })
	c.env.SetOnLocalActivityStartedListener(
		func(info *activity.Info, _ context.Context, _ []any) { called(info) })
	for name, fn := range map[string]any{
		"RecordJob": c.recordJob, "RecordJobState": c.recordState, "ClaimTask": c.claim,
		"RecordWaits": c.recordWaits, "RecordTaskWait": c.recordTaskWait,
		"RecordTaskEnd": c.recordEnd, "RequestStop": c.requestStop, "ForgetJob": c.forget,
		"SendCallback": c.report, "SendFateReport": c.fateReport, "ReopenJob": c.reopen,
		"ReleaseSession": c.release, "EndPart": c.endPart, "EndJob": c.endJob,
		"Reserve": c.admit, "ReleaseReservation": c.giveBack, "SendCapacityHint": c.sendHint,
		"AskScheduler": c.ask,
		"SendAudit":    c.sendAudit, "ReuseTask": c.reuse, "RunTask": c.run, "StopTask": c.stopRun,
	} {
		c.env.RegisterActivityWithOptions(fn, activity.RegisterOptions{Name: name})
	}
}

func (c *fakeBackend) play() (workflows.Result, error) {
	c.began = c.env.Now()
	c.at(0, func() { c.callCreate(workflows.UpdateCreate) })
	c.env.ExecuteWorkflow(Job, c.in)
	require.True(c.t, c.env.IsWorkflowCompleted())
	for {
		var in workflows.ParticipantJobInput
		next, again := c.plans.NextRun(c.t, c.env, workflows.ReadyParticipantJobType, &in)
		if !again {
			break
		}
		c.news++
		c.env, c.in = next, in
		c.register()
		c.env.ExecuteWorkflow(Job, c.in)
		require.True(c.t, c.env.IsWorkflowCompleted())
	}
	c.mu.Lock()
	c.over = true
	c.mu.Unlock()
	require.Empty(c.t, c.broken)
	r, err := flowtest.Result(c.env)
	if err != nil {
		return workflows.Result{}, err
	}
	c.checkEnd(r)
	return r, nil
}

// callCreate calls the create update under an id.
func (c *fakeBackend) callCreate(id string) {
	var input []any
	if c.create == workflows.UpdateCreateMerged {
		input = append(input, workflows.CreateRequest{Reserve: c.reserve})
	}
	c.env.UpdateWorkflow(c.create, id, &testsuite.TestUpdateCallback{
		OnAccept: func() {}, OnReject: func(err error) { c.breaks("create was rejected: %v", err) },
		OnComplete: func(v any, err error) {
			c.answers = append(c.answers, err)
			if created, merged := v.(workflows.CreateResult); merged {
				c.grants = append(c.grants, created.Grant)
			}
		},
	}, input...)
}

func (c *fakeBackend) at(after time.Duration, do func()) { c.plans.At(c.env, after, do) }

// continues makes the workflow continue as new as soon as it can after some time, and a moment: the test
// environment loses a signal that is sent in the same instant. Temporal then asks the workflow again.
func (c *fakeBackend) continues(after time.Duration) {
	c.at(after+time.Second/4, func() { c.env.SetContinueAsNewSuggested(true) })
}

func (c *fakeBackend) start(tasks ...string) {
	c.env.SignalWorkflow(workflows.SignalStart, nil)
	for _, name := range tasks {
		c.startTask(name)
	}
}

func (c *fakeBackend) startTask(name string) {
	c.env.SignalWorkflow(workflows.SignalTaskStart,
		bfia.TaskRef{JobID: c.in.Plan.JobID, TaskID: c.taskID(name), TaskName: name})
}

func (c *fakeBackend) taskID(name string) string {
	if c.in.FateFlow {
		return fateflow.Attempt(c.in.Plan.JobID, name, c.versions[name]).TaskID
	}
	return bfia.TaskID(c.in.Plan.JobID, name)
}

func (c *fakeBackend) stop(task string) {
	c.env.SignalWorkflow(workflows.SignalStop, workflows.Stop{Task: task, By: flowtest.NodeB})
}

func (c *fakeBackend) reuse(_ context.Context, in participant.ReuseTaskInput) error {
	ref := in.Task
	defer c.enter()()
	if err := c.errors["ReuseTask"]; err != nil {
		return err
	}
	task, _ := in.Plan.Task(ref.TaskName)
	for _, part := range task.Parts {
		c.move(flowtest.PartKey(ref.TaskName, part), bfia.TaskRunning, "")
	}
	c.ids[ref.TaskName] = ref.TaskID
	c.happens("reuse " + ref.TaskName)
	return nil
}

// audit approves or rejects the job here.
func (c *fakeBackend) audit(status bfia.JobState, reason string) {
	c.asked++
	c.env.UpdateWorkflow(
		workflows.UpdateAudit,
		fmt.Sprintf("audit %d", c.asked),
		&testsuite.TestUpdateCallback{
			OnAccept: func() {}, OnReject: func(err error) { c.breaks("audit was rejected: %v", err) },
			OnComplete: func(_ any, err error) { c.audits = append(c.audits, err) },
		},
		workflows.Audit{Node: flowtest.NodeA, Status: status, Reason: reason},
	)
}

func (c *fakeBackend) sendAudit(_ context.Context, in participant.SendAuditInput) error {
	node, a := in.Node, in.Audit
	defer c.enter()()
	if err := c.errors["SendAudit"]; err != nil {
		return err
	}
	if node != flowtest.NodeB || a.JobID != c.in.Plan.JobID || c.job != a.Status {
		c.breaks("%s got %v of a job that is %s", node, a, c.job)
	}
	c.happens("audit " + string(a.Status) + " " + a.Reason)
	return nil
}

// callback sends a container's callback.
func (c *fakeBackend) callback(task, role string, state bfia.TaskState) {
	c.env.SignalWorkflow(workflows.SignalTaskCallback,
		bfia.TaskReport{TaskID: c.taskID(task), Role: role, Status: state})
}

func (c *fakeBackend) breaks(format string, args ...any) {
	c.broken = append(c.broken, fmt.Sprintf(format, args...))
}

// enter locks the fake for an activity, and ends activities that outlive the workflow.
func (c *fakeBackend) enter() (leave func()) {
	c.mu.Lock()
	if c.over {
		c.mu.Unlock()
		runtime.Goexit()
	}
	return c.mu.Unlock
}

func (c *fakeBackend) happens(what string) {
	c.log = append(c.log, what)
	c.times[what] = c.env.Now().Sub(c.began)
}

func (c *fakeBackend) ask(_ context.Context, in participant.AskSchedulerInput) (
	participant.SchedulerAnswer, error) {
	defer c.enter()()
	if in.Node != flowtest.NodeB || in.JobID != c.in.Plan.JobID {
		c.breaks("%s is asked for %s", in.Node, in.JobID)
	}
	c.asks = append(c.asks, c.env.Now().Sub(c.began))
	if c.scheduler == nil {
		return participant.SchedulerAnswer{State: bfia.JobRunning}, nil
	}
	return c.scheduler()
}

func (c *fakeBackend) recordJob(_ context.Context, in participant.RecordJobInput) error {
	defer c.enter()()
	if err := c.errors["RecordJob"]; err != nil {
		return err
	}
	if !slices.Equal(in.Roles, c.in.Roles) || in.Scheduler != flowtest.NodeB {
		c.breaks("recorded as %v of %s", in.Roles, in.Scheduler)
	}
	c.waits = in.Waiting
	c.waited = append(c.waited, in.Waiting...)
	if c.job = in.State; in.State == bfia.JobPending != c.in.Approval {
		c.breaks("recorded as %s", in.State)
	}
	for _, t := range in.Plan.Tasks {
		for _, part := range t.Parts {
			c.rows[flowtest.PartKey(t.Name, part)] = bfia.TaskReady
		}
	}
	return nil
}

func (c *fakeBackend) recordWaits(_ context.Context, in participant.RecordWaitsInput) error {
	defer c.enter()()
	c.waits = in.Waiting
	c.waited = append(c.waited, in.Waiting...)
	return nil
}

func (c *fakeBackend) recordTaskWait(_ context.Context, in participant.RecordTaskWaitInput) error {
	defer c.enter()()
	if c.down != nil && c.down("RecordTaskWait") {
		return flowtest.ErrAway
	}
	key := flowtest.PartKey(in.Key.Task, bfia.Part{Role: in.Key.Role, Index: in.Key.Index})
	if c.partWaits[key] = in.Waiting; in.Waiting != nil {
		c.waited = append(c.waited, *in.Waiting)
	}
	return nil
}

func (c *fakeBackend) recordState(_ context.Context, in participant.RecordJobStateInput) error {
	defer c.enter()()
	// Two writes may be under way at once, and one may be late. The row only moves forward.
	if c.job = c.job.Next(in.State); in.Failure != nil {
		c.jobReason = in.Failure.String()
	}
	c.happens(string(in.State))
	return nil
}

func (c *fakeBackend) claim(_ context.Context, in participant.ClaimTaskInput) ([]participant.Claim, error) {
	ref := in.Task
	defer c.enter()()
	c.tried[ref.TaskName]++
	if !c.reserved {
		c.breaks("%s claims a runner without a reservation", ref.TaskName)
	}
	c.parallelIndex[ref.TaskName] = in.ParallelIndex
	if in.StartsJob {
		c.job = c.job.Next(bfia.JobRunning)
		c.happens(string(bfia.JobRunning))
	}
	c.ids[ref.TaskName] = ref.TaskID
	if err := c.claims(ref.TaskName); err != nil {
		return nil, err
	}
	var claims []participant.Claim
	for _, part := range in.Parts {
		c.move(flowtest.PartKey(ref.TaskName, part), bfia.TaskRunning, "")
		claims = append(claims, participant.Claim{Part: part, RunnerID: "runner-" + part.Role, Attempt: 1})
	}
	return claims, nil
}

func (c *fakeBackend) move(key string, s bfia.TaskState, reason string) {
	if c.rows[key] != s && c.rows[key].Next(s) != s || c.rows[key].Terminal() {
		c.breaks("%s went from %s to %s", key, c.rows[key], s)
	}
	c.rows[key], c.reasons[key] = s, reason
}

func (c *fakeBackend) recordEnd(_ context.Context, in participant.RecordTaskEndInput) error {
	key, part, taskID, s, failure := in.Key, in.Part, in.TaskID, in.State, in.Failure
	defer c.enter()()
	if err := c.errors["RecordTaskEnd"]; err != nil {
		return err
	}
	if err := c.errors["RecordOutputs"]; err != nil && s == bfia.TaskSuccess {
		return err
	}
	if taskID != c.taskID(key.Task) || key.Role != part.Role || key.Index != part.Index {
		c.breaks("the end of %v %v %s", key, part, taskID)
	}
	if failure != nil &&
		(failure.NodeID != flowtest.NodeA || failure.Role != part.Self() || failure.Task != key.Task) ||
		(failure == nil) != (s == bfia.TaskSuccess) {
		c.breaks("%s of %v explained as %+v", s, key, failure)
	}
	c.move(flowtest.PartKey(key.Task, part), s, failure.Text())
	return nil
}

func (c *fakeBackend) report(_ context.Context, in participant.SendCallbackInput) error {
	node, r := in.Node, in.Report
	defer c.enter()()
	if err := c.errors["SendCallback"]; err != nil {
		return err
	}
	for _, t := range c.in.Plan.Tasks {
		for _, part := range t.Parts {
			if c.taskID(t.Name) != r.TaskID || part.Role != r.Role {
				continue
			}
			key := flowtest.PartKey(t.Name, part)
			if node != flowtest.NodeB || c.rows[key] != r.Status || r.Reason != r.Failure.Text() {
				c.breaks("%s got %s %s %q, its row has %s %q", node, key, r.Status, r.Reason, c.rows[key],
					c.reasons[key])
			}
			c.happens(fmt.Sprintf("report %s %s", key, r.Status))
		}
	}
	return nil
}

func (c *fakeBackend) run(ctx context.Context, req activities.PartRequest) (activities.PartResult, error) {
	defer c.enter()()
	key := flowtest.PartKey(req.Key.Task, req.Part)
	if queue := activity.GetInfo(ctx).TaskQueue; queue != activities.TaskQueueOfRunner(
		"runner-"+req.Part.Role,
	) ||
		req.Attempt != 1+c.versions[req.Key.Task] ||
		req.TaskID != c.taskID(req.Key.Task) {
		c.breaks("run %v on %s", req, queue)
	}
	if slices.Contains(c.log, "run "+key) && c.versions[req.Key.Task] == 0 {
		c.breaks("%s runs twice", key)
	}
	if c.rows[key] != bfia.TaskRunning && !c.requested[key] {
		c.breaks("%s runs while its row is %s", key, c.rows[key])
	}
	if c.requested[key] { // as the activity does
		return activities.PartResult{Failure: workflows.StoppedBy("its row")}, nil
	}
	if report := c.missingImage[key]; report != "" {
		return activities.PartResult{Failure: &bfia.Failure{Kind: bfia.FailedImage, Message: report}}, nil
	}
	c.happens("run " + key)
	c.running[key] = activity.GetInfo(ctx).TaskToken
	how, ok := c.runs[key]
	if !ok {
		how = container{after: time.Second}
	}
	if !how.stays {
		c.at(how.after, func() {
			defer c.enter()()
			c.exits(key, how.result())
		})
	}
	return activities.PartResult{}, activity.ErrResultPending
}

func (c *fakeBackend) exits(key string, r activities.PartResult) {
	if token, there := c.running[key]; there {
		delete(c.running, key)
		c.happens("exit " + key)
		_ = c.env.CompleteActivity(token, r, nil)
	}
}
