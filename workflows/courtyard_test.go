package workflows

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/testsuite"

	"hutong/activities"
	"hutong/bfia"
	"hutong/fateflow"
)

// courtyard is what a PartyJob sees of the world: its own rows, its hosts with their containers, and its scheduler.
// Like [federation] it checks the rules as it goes.
type courtyard struct {
	t   testingT
	env *testsuite.TestWorkflowEnvironment
	in  PartyJobInput

	runs   map[string]container // by "task guest.0"; without an entry it exits with 0 after a second
	claims func(task string) error
	errors map[string]error // by activity name

	mu     sync.Mutex
	over   bool
	began  time.Time
	broken []string

	log       []string // what happened, in order: "run a guest.0", "report a guest.0 SUCCESS", "stop a guest.0", "release", ...
	times     map[string]time.Duration
	job       bfia.JobState
	jobReason string
	rows      map[string]bfia.TaskState // by "task guest.0"; empty when the job is forgotten
	reasons   map[string]string
	ids       map[string]string          // by task: the scheduler's id
	running   map[string][]byte          // containers that are there, with the token of their run
	tried     map[string]int             // looks for a host
	requested map[string]bool            // stops that the rows ask for
	down      func(activity string) bool // what it needs is away just now; nil: nothing is
	admits    func() bfia.Grant          // how the party's rows answer an application; nil: there is room
	seated    bool
	copies    map[string]int // by task: in which copy of the room it ran
	hints     []string       // who was told that room got free
	waiters   []activities.Waiting
	answers   []error
	asked     int            // for approvals and rejections
	audits    []error        // what those were told who approved or rejected
	versions  map[string]int // of FATE-Flow's tasks, by name, from 0
}

// container is how a container behaves.
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
		Message: strings.TrimPrefix(how.reason, fmt.Sprintf("exit code %d: ", how.exit)), Log: []string{"its last line"}}}
}

func newCourtyard(t testingT, p bfia.Plan) *courtyard {
	c := &courtyard{t: t, env: newEnv(), in: PartyJobInput{Plan: p, Node: nodeA, Scheduler: nodeB, Roles: []string{"guest.0"}, Settings: settings},
		runs: map[string]container{}, claims: func(string) error { return nil }, errors: map[string]error{}, times: map[string]time.Duration{},
		rows: map[string]bfia.TaskState{}, reasons: map[string]string{}, ids: map[string]string{}, running: map[string][]byte{},
		tried: map[string]int{}, versions: map[string]int{}, copies: map[string]int{}, requested: map[string]bool{}}
	for name, fn := range map[string]any{
		activities.RecordJobName: c.recordJob, activities.RecordJobStateName: c.recordState, activities.ClaimTaskName: c.claim,
		activities.RecordTaskEndName: c.recordEnd, activities.RequestStopName: c.requestStop, activities.ForgetJobName: c.forget,
		activities.SendCallbackName: c.report, activities.SendFateReportName: c.fateReport, activities.ReopenJobName: c.reopen, activities.ReleaseSessionName: c.release,
		activities.ReserveName: c.admit, activities.ReleaseReservationName: c.giveBack, activities.SendCapacityHintName: c.sendFree,
		activities.SendAuditName: c.sendAudit, activities.ReuseTaskName: c.reuse, activities.RunTaskName: c.run, activities.StopTaskName: c.stopRun,
	} {
		c.env.RegisterActivityWithOptions(fn, activity.RegisterOptions{Name: name})
	}
	return c
}

func (c *courtyard) play() (Result, error) {
	c.began = c.env.Now()
	c.at(0, func() {
		c.env.UpdateWorkflow(UpdateCreate, UpdateCreate, &testsuite.TestUpdateCallback{
			OnAccept: func() {}, OnReject: func(err error) { c.breaks("create was rejected: %v", err) },
			OnComplete: func(_ any, err error) { c.answers = append(c.answers, err) },
		})
	})
	c.env.ExecuteWorkflow(PartyJob, c.in)
	require.True(c.t, c.env.IsWorkflowCompleted())
	c.mu.Lock()
	c.over = true
	c.mu.Unlock()
	require.Empty(c.t, c.broken)
	if err := c.env.GetWorkflowError(); err != nil {
		return Result{}, err
	}
	var r Result
	require.NoError(c.t, c.env.GetWorkflowResult(&r))
	c.checkEnd(r)
	return r, nil
}

func (c *courtyard) at(after time.Duration, do func()) { c.env.RegisterDelayedCallback(do, after) }

func (c *courtyard) start(tasks ...string) {
	c.env.SignalWorkflow(SignalStart, nil)
	for _, name := range tasks {
		c.startTask(name)
	}
}

func (c *courtyard) startTask(name string) {
	c.env.SignalWorkflow(SignalTaskStart, bfia.TaskRef{JobID: c.in.Plan.JobID, TaskID: c.taskID(name), TaskName: name})
}

func (c *courtyard) taskID(name string) string {
	if c.in.FateFlow {
		return fateflow.Attempt(c.in.Plan.JobID, name, c.versions[name]).TaskID
	}
	return bfia.TaskID(c.in.Plan.JobID, name)
}

func (c *courtyard) stop(task string) { c.env.SignalWorkflow(SignalStop, Stop{Task: task, By: nodeB}) }

func (c *courtyard) reuse(_ context.Context, ref bfia.TaskRef, p bfia.Plan, _ time.Time) error {
	defer c.enter()()
	if err := c.errors[activities.ReuseTaskName]; err != nil {
		return err
	}
	task, _ := p.Task(ref.TaskName)
	for _, part := range task.Parts {
		c.move(partKey(ref.TaskName, part), bfia.TaskRunning, "")
	}
	c.ids[ref.TaskName] = ref.TaskID
	c.happens("reuse " + ref.TaskName)
	return nil
}

// audit is the word of someone of the party.
func (c *courtyard) audit(status bfia.JobState, reason string) {
	c.asked++
	c.env.UpdateWorkflow(UpdateAudit, fmt.Sprintf("audit %d", c.asked), &testsuite.TestUpdateCallback{
		OnAccept: func() {}, OnReject: func(err error) { c.breaks("audit was rejected: %v", err) },
		OnComplete: func(_ any, err error) { c.audits = append(c.audits, err) },
	}, Audit{Node: nodeA, Status: status, Reason: reason})
}

func (c *courtyard) sendAudit(_ context.Context, node string, a bfia.Audit) error {
	defer c.enter()()
	if err := c.errors[activities.SendAuditName]; err != nil {
		return err
	}
	if node != nodeB || a.JobID != c.in.Plan.JobID || c.job != a.Status {
		c.breaks("%s was told %v of a job that is %s", node, a, c.job)
	}
	c.happens("audit " + string(a.Status) + " " + a.Reason)
	return nil
}

// tells is a container's own word.
func (c *courtyard) tells(task, role string, state bfia.TaskState) {
	c.env.SignalWorkflow(SignalTaskCallback, bfia.TaskReport{TaskID: c.taskID(task), Role: role, Status: state})
}

func (c *courtyard) breaks(format string, args ...any) {
	c.broken = append(c.broken, fmt.Sprintf(format, args...))
}

// enter guards what activities touch; those that a workflow leaves behind at its end go no further.
func (c *courtyard) enter() (leave func()) {
	c.mu.Lock()
	if c.over {
		c.mu.Unlock()
		runtime.Goexit()
	}
	return c.mu.Unlock
}

func (c *courtyard) happens(what string) {
	c.log = append(c.log, what)
	c.times[what] = c.env.Now().Sub(c.began)
}

func (c *courtyard) recordJob(_ context.Context, p bfia.Plan, roles []string, scheduler string, state bfia.JobState, _ time.Time) error {
	defer c.enter()()
	if err := c.errors[activities.RecordJobName]; err != nil {
		return err
	}
	if !slices.Equal(roles, c.in.Roles) || scheduler != nodeB {
		c.breaks("recorded as %v of %s", roles, scheduler)
	}
	if c.job = state; state == bfia.JobPending != c.in.Approval {
		c.breaks("recorded as %s", state)
	}
	for _, t := range p.Tasks {
		for _, part := range t.Parts {
			c.rows[partKey(t.Name, part)] = bfia.TaskReady
		}
	}
	return nil
}

func (c *courtyard) recordState(_ context.Context, _ string, s bfia.JobState, reason string, failure *bfia.Failure, _ time.Time) error {
	if failure.String() != reason && failure.Text() != reason {
		c.breaks("recorded as %q, explained as %q", reason, failure)
	}
	defer c.enter()()
	// Two writes may be on their way at once, so one may come late; the row only moves forward.
	if c.job = c.job.Next(s); reason != "" {
		c.jobReason = reason
	}
	c.happens(string(s))
	return nil
}

func (c *courtyard) claim(_ context.Context, ref bfia.TaskRef, parts []bfia.Part, copy int, _ string, _ time.Time) ([]activities.Claim, error) {
	defer c.enter()()
	c.tried[ref.TaskName]++
	if !c.seated {
		c.breaks("%s looks for a host without room", ref.TaskName)
	}
	c.copies[ref.TaskName] = copy
	c.ids[ref.TaskName] = ref.TaskID
	if err := c.claims(ref.TaskName); err != nil {
		return nil, err
	}
	var claims []activities.Claim
	for _, part := range parts {
		c.move(partKey(ref.TaskName, part), bfia.TaskRunning, "")
		claims = append(claims, activities.Claim{Part: part, RunnerID: "host-" + part.Role, Attempt: 1})
	}
	return claims, nil
}

func (c *courtyard) move(key string, s bfia.TaskState, reason string) {
	if c.rows[key] != s && c.rows[key].Next(s) != s || c.rows[key].Terminal() {
		c.breaks("%s went from %s to %s", key, c.rows[key], s)
	}
	c.rows[key], c.reasons[key] = s, reason
}

func (c *courtyard) recordEnd(_ context.Context, key activities.TaskKey, part bfia.Part, taskID string, s bfia.TaskState, failure *bfia.Failure, _ time.Time) error {
	defer c.enter()()
	if err := c.errors[activities.RecordTaskEndName]; err != nil {
		return err
	}
	if taskID != c.taskID(key.Task) || key.Role != part.Role || key.Index != part.Index {
		c.breaks("the end of %v %v %s", key, part, taskID)
	}
	if failure != nil && (failure.NodeID != nodeA || failure.Role != part.Self() || failure.Task != key.Task) || (failure == nil) != (s == bfia.TaskSuccess) {
		c.breaks("%s of %v explained as %+v", s, key, failure)
	}
	c.move(partKey(key.Task, part), s, failure.Text())
	return nil
}

func (c *courtyard) report(_ context.Context, node string, r bfia.TaskReport) error {
	defer c.enter()()
	if err := c.errors[activities.SendCallbackName]; err != nil {
		return err
	}
	for _, t := range c.in.Plan.Tasks {
		for _, part := range t.Parts {
			if c.taskID(t.Name) != r.TaskID || part.Role != r.Role {
				continue
			}
			key := partKey(t.Name, part)
			if node != nodeB || c.rows[key] != r.Status || r.Reason != r.Failure.Text() {
				c.breaks("%s was told %s %s %q, its row says %s %q", node, key, r.Status, r.Reason, c.rows[key], c.reasons[key])
			}
			c.happens(fmt.Sprintf("report %s %s", key, r.Status))
		}
	}
	return nil
}

func (c *courtyard) run(ctx context.Context, req activities.PartRequest) (activities.PartResult, error) {
	defer c.enter()()
	key := partKey(req.Key.Task, req.Part)
	if queue := activity.GetInfo(ctx).TaskQueue; queue != activities.TaskQueueOfRunner("host-"+req.Part.Role) || req.Attempt != 1+c.versions[req.Key.Task] || req.TaskID != c.taskID(req.Key.Task) {
		c.breaks("run %v on %s", req, queue)
	}
	if slices.Contains(c.log, "run "+key) && c.versions[req.Key.Task] == 0 {
		c.breaks("%s runs twice", key)
	}
	if c.rows[key] != bfia.TaskRunning && !c.requested[key] {
		c.breaks("%s runs while its row is %s", key, c.rows[key])
	}
	if c.requested[key] { // as the activity does
		return activities.PartResult{Failure: stoppedBy("its row")}, nil
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

func (c *courtyard) exits(key string, r activities.PartResult) {
	if token, there := c.running[key]; there {
		delete(c.running, key)
		c.happens("exit " + key)
		_ = c.env.CompleteActivity(token, r, nil)
	}
}

func (c *courtyard) requestStop(_ context.Context, key activities.TaskKey, _ string) error {
	defer c.enter()()
	c.requested[partKey(key.Task, bfia.Part{Role: key.Role, Index: key.Index})] = true
	return nil
}

func (c *courtyard) stopRun(ctx context.Context, req activities.PartRequest, grace time.Duration) error {
	defer c.enter()()
	key := partKey(req.Key.Task, req.Part)
	if err := c.errors[activities.StopTaskName]; err != nil {
		return err
	}
	if queue := activity.GetInfo(ctx).TaskQueue; queue != activities.StopQueueOfRunner("host-"+req.Part.Role) || grace != settings.StopGrace || !c.requested[key] {
		c.breaks("stop %v on %s within %s, asked for in its row: %v", req, queue, grace, c.requested[key])
	}
	c.happens("stop " + key)
	c.exits(key, container{exit: 143}.result())
	return nil
}

func (c *courtyard) release(_ context.Context, session string) error {
	defer c.enter()()
	known := session == bfia.SessionID(c.in.Plan.JobID)
	for task, version := range c.versions {
		known = known || version > 0 && session == bfia.AttemptSessionID(c.in.Plan.JobID, c.taskID(task), version+1)
	}
	if len(c.running) > 0 || !known {
		c.breaks("session %s released while %d containers are there", session, len(c.running))
	}
	c.happens("release")
	return nil
}

func (c *courtyard) forget(context.Context, string) error {
	defer c.enter()()
	clear(c.rows)
	c.happens("forget")
	return nil
}

// checkEnd holds the world against the rules for a job that has ended.
func (c *courtyard) checkEnd(r Result) {
	if r.Outcome == OutcomeRejected {
		require.Equal(c.t, bfia.JobRejected, r.State)
		for key, state := range c.rows {
			require.Equal(c.t, bfia.TaskReady, state, "%s of a rejected job", key)
		}
	} else {
		require.Equal(c.t, bfia.JobFinished, r.State)
	}
	require.Equal(c.t, r.State, c.job)
	require.Equal(c.t, r.Reason, c.jobReason)
	require.Empty(c.t, c.running, "containers are left")
	require.False(c.t, c.seated, "room is held")
	require.Equal(c.t, "release", c.log[len(c.log)-1])
	for key, state := range c.rows {
		require.NotEqual(c.t, bfia.TaskRunning, state, "%s of an ended job", key)
		if c.errors[activities.SendCallbackName] != nil || c.in.FateFlow { // it is told in other words
			continue
		}
		reports := 0
		for _, what := range c.log {
			if strings.HasPrefix(what, "report "+key+" ") {
				reports++
				require.Equal(c.t, "report "+key+" "+string(state), what)
			}
		}
		require.Equal(c.t, state.Terminal(), reports == 1, "%s is %s, and %d reports went out", key, state, reports)
	}
}

var errAway = errors.New("away")

func (c *courtyard) admit(_ context.Context, req activities.ReserveRequest) (activities.ReserveResult, error) {
	defer c.enter()()
	grant := bfia.Grant{Granted: true, Parallelism: 100}
	if c.admits != nil && !c.seated {
		grant = c.admits()
	}
	c.happens(fmt.Sprintf("admit %q %v", req.Scheduler, grant.Granted))
	c.seated = c.seated || grant.Granted
	return activities.ReserveResult{Grant: grant}, nil
}

func (c *courtyard) giveBack(_ context.Context, _ string, _ time.Time, _ string) ([]activities.Waiting, error) {
	defer c.enter()()
	if c.down != nil && c.down(activities.ReleaseReservationName) {
		return nil, errAway
	}
	if len(c.running) > 0 {
		c.breaks("room given back while %d containers are there", len(c.running))
	}
	c.seated = false
	c.happens("give back")
	return c.waiters, nil
}

func (c *courtyard) sendFree(_ context.Context, node, jobID string) error {
	defer c.enter()()
	if c.down != nil && c.down(activities.SendCapacityHintName) {
		return errAway
	}
	c.hints = append(c.hints, node+" "+jobID)
	return nil
}
