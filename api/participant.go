package api

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"
	temporal "go.temporal.io/sdk/client"

	"hutong/activities/participant"
	"hutong/bfia"
	"hutong/bfia/client"
	"hutong/internal/audit"
	"hutong/store"
	"hutong/workflows"
)

// createJob creates a job at this participant (part 2, 3.2). From then on the sender is its scheduler.
func (s *Server) createJob(c *fiber.Ctx) error {
	doc, err := s.readDocument(c)
	if err != nil {
		return err
	}
	if err := bfia.CheckID("job_id", doc.JobID); err != nil {
		return err
	}
	scheduler := s.sender(c)
	if scheduler == "" {
		scheduler = doc.Config.Initiator.NodeID
	}
	answer, err := s.acceptJob(c.UserContext(), doc, scheduler, false)
	if err != nil {
		return err
	}
	return ok(c, answer)
}

// acceptJob creates a job at this party, for a BFIA scheduler or for one that speaks FATE-Flow's own
// protocol.
func (s *Server) acceptJob(ctx context.Context, doc *bfia.Document, scheduler string,
	fateFlow bool) (bfia.JobAccepted, error) {
	var refused bfia.JobAccepted
	on(ctx, audit.Job, doc.JobID)
	own := doc.Config.PartsOf(s.Node)
	if len(own) == 0 {
		return refused, bfia.Errorf(bfia.CodeBadRequest, "config.role: %s has no role in job %s",
			s.Node, doc.JobID)
	}

	record, err := s.record(ctx, doc)
	if err != nil {
		return refused, err
	}
	plan, err := s.plan(ctx, record, s.Node)
	if err != nil {
		return refused, err
	}
	if err := s.checkRoutesBack(plan, scheduler); err != nil {
		return refused, err
	}
	warnings, err := s.checkParameters(record, plan, s.Node)
	if err != nil {
		return refused, err
	}
	for _, w := range warnings {
		s.logger.Info("a parameter contradicts its description", "job_id", doc.JobID,
			"task", w.Task, "role", w.Role, "parameter", w.Parameter, "warning", w.Message)
	}

	if err := participant.CheckFeasible(ctx, s.store, s.Node, s.Limits, record, plan); err != nil {
		return refused, err
	}
	if err := s.recordAct(ctx); err != nil {
		return refused, err
	}
	if err := s.store.PutJobRecord(ctx, doc.JobID, doc.Bytes(), record.Registry.Of(doc)); err != nil {
		return refused, err
	}
	reuses, err := s.reusable(ctx, doc, plan)
	if err != nil {
		return refused, err
	}

	job, err := s.store.Job(ctx, doc.JobID)
	recorded := err == nil
	switch {
	case recorded && (job.State == bfia.JobRunning || job.State.Terminal()):
		return accepted(job.State, reuses), nil // a repeated request; PutJobRecord refuses another document
	case !recorded && bfia.CodeOf(err) != bfia.CodeNotFound:
		return refused, err
	}

	// The scheduler may at the same time undo the creation of a job that has not started. Only the job's
	// workflow can order the two, so this starts it, or finds it, also for a recorded job.
	in := workflows.ParticipantJobInput{Plan: ownPlan(plan, s.Node), Node: s.Node, Scheduler: scheduler,
		Nodes: doc.Config.Nodes(), Settings: s.Settings, Approval: s.Approval, FateFlow: fateFlow}
	for _, part := range own {
		in.Roles = append(in.Roles, part.Self())
	}
	if err := s.create(ctx, workflows.ParticipantJobID(doc.JobID), workflows.ParticipantJobType, in,
		temporal.StartWorkflowOptions{
			TypedSearchAttributes: in.SearchAttributes(),
			StaticSummary:         fmt.Sprintf("%s in job %s", strings.Join(in.Roles, ", "), doc.JobID),
		}); err != nil {
		return refused, err
	}

	switch {
	case recorded:
		return accepted(job.State, reuses), nil
	case s.Approval:
		return accepted(bfia.JobPending, reuses), nil
	}
	return accepted(bfia.JobReady, reuses), nil
}

// checkRoutesBack refuses a job for which this party lacks a route to its scheduler, or to a party with
// another role in one of its tasks: it could not report, and its containers could not send. Parties of one
// role, such as several hosts, may be unknown to each other, since the usual algorithms send between roles
// only.
func (s *Server) checkRoutesBack(plan *bfia.Plan, scheduler string) error {
	if _, ok := s.remote.Route(scheduler); !ok {
		return bfia.PrefixPlace("the job's scheduler", client.NoRoute(scheduler, s.Node))
	}
	for i := range plan.Tasks {
		t := &plan.Tasks[i]
		for _, node := range peers(t, s.Node) {
			if _, ok := s.remote.Route(node); !ok {
				return bfia.PrefixPlace("config.role: task "+t.Name+" runs at "+node+" too, and "+s.Node+
					" can't send to it", client.NoRoute(node, s.Node))
			}
		}
	}
	return nil
}

// peers returns the nodes of a task's parts with another role than one of the given node's parts.
func peers(t *bfia.PlannedTask, node string) []string {
	own := t.PartsOf(node)
	var nodes []string
	for _, part := range t.Parts {
		other := func(p bfia.Part) bool { return p.Role != part.Role }
		if part.NodeID != node && slices.ContainsFunc(own, other) {
			nodes = append(nodes, part.NodeID)
		}
	}
	slices.Sort(nodes)
	return slices.Compact(nodes)
}

// accepted returns what this party answers to job/create in addition to the protocol.
func accepted(state bfia.JobState, reuses []string) bfia.JobAccepted {
	return bfia.JobAccepted{State: state, Callbacks: true, Reuses: reuses, Attempts: true, Reservations: true}
}

// ownPlan returns the plan with only the parts of one node.
func ownPlan(plan *bfia.Plan, node string) bfia.Plan {
	own := *plan
	own.Tasks = nil
	for _, t := range plan.Tasks {
		t.Parts = t.PartsOf(node)
		// tasks without parts here stay, because stops follow the DAG through them
		own.Tasks = append(own.Tasks, t)
	}
	return own
}

// startJob starts a job at this participant (part 2, 3.3).
func (s *Server) startJob(c *fiber.Ctx) error {
	ref, job, err := s.readJobCommand(c)
	if err != nil {
		return err
	}
	if err := s.checkApproved(job); err != nil {
		return err
	}
	if err := s.signalParticipant(c.UserContext(), ref.JobID, workflows.SignalStart, nil); err != nil {
		return err
	}
	return ok(c, nil)
}

// startTask starts a task at this participant, or its next attempt (part 2, 3.4). A repeated request starts
// nothing.
func (s *Server) startTask(c *fiber.Ctx) error {
	var ref bfia.TaskRef
	if err := s.readJSON(c, &ref); err != nil {
		return err
	}
	if err := s.beginTask(c.UserContext(), s.sender(c), ref); err != nil {
		return err
	}
	return ok(c, nil)
}

// beginTask checks a task/start and signals it to the job's workflow.
func (s *Server) beginTask(ctx context.Context, sender string, ref bfia.TaskRef) error {
	for _, f := range []struct{ name, value string }{{"job_id", ref.JobID}, {"task_id", ref.TaskID},
		{"task_name", ref.TaskName}} {
		if err := bfia.CheckID(f.name, f.value); err != nil {
			return err
		}
	}
	job, err := s.jobCommandedBy(ctx, sender, ref.JobID)
	if err != nil {
		return err
	}
	if err := s.checkApproved(job); err != nil {
		return err
	}
	tasks, err := s.store.TasksNamed(ctx, ref.JobID, ref.TaskName)
	if err != nil {
		return err
	}
	for _, t := range tasks {
		if t.TaskID != "" && t.TaskID != ref.TaskID && t.Attempt >= ref.AttemptNumber() {
			return bfia.Errorf(bfia.CodeConflict, "task_id: task %s of job %s already runs under the id %s",
				ref.TaskName, ref.JobID, t.TaskID)
		}
		if t.TaskID == ref.TaskID {
			return nil
		}
		if ref.Attempt < 0 || ref.Attempt > bfia.MaxAttempts {
			return bfia.Errorf(bfia.CodeBadRequest, "attempt: %d is not between 1 and %d", ref.Attempt,
				bfia.MaxAttempts)
		}
	}
	if len(tasks) == 0 {
		return bfia.Errorf(bfia.CodeNotFound, "task_name: job %s has no task %q at %s", ref.JobID,
			ref.TaskName, s.Node)
	}
	if job.State.Terminal() {
		return bfia.Errorf(bfia.CodeConflict, "job_id: job %s is %s at %s", ref.JobID, job.State, s.Node)
	}
	return s.signalParticipant(ctx, ref.JobID, workflows.SignalTaskStart, ref)
}

// stopJob stops a job at this participant, or a task and its successors (part 2, 3.6). It succeeds for jobs
// that have ended or are unknown.
func (s *Server) stopJob(c *fiber.Ctx) error {
	var ref bfia.JobRef
	if err := s.readJSON(c, &ref); err != nil {
		return err
	}
	if err := bfia.CheckID("job_id", ref.JobID); err != nil {
		return err
	}
	// A job that is undone may not be recorded yet, but its workflow exists.
	if _, err := s.jobCommandedBy(c.UserContext(), s.sender(c),
		ref.JobID); bfia.CodeOf(err) == bfia.CodeNotFound && !ref.Undo {
		return ok(c, nil)
	} else if err != nil && bfia.CodeOf(err) != bfia.CodeNotFound {
		return err
	}
	by := s.sender(c)
	if by == "" {
		by = "an unnamed party"
	}
	_, err := s.signal(c.UserContext(), workflows.ParticipantJobID(ref.JobID), workflows.SignalStop,
		workflows.Stop{Task: ref.TaskName, By: by, Undo: ref.Undo, Rejected: ref.State == bfia.JobRejected,
			Reason:  ref.Reason,
			Failure: ref.Failure.Truncate()})
	if err != nil {
		return err
	}
	return ok(c, nil)
}

// stopTask stops a task that has started here, and its successors. It is Kuscia's addition to the protocol.
func (s *Server) stopTask(c *fiber.Ctx) error {
	var ref bfia.TaskStop
	if err := s.readJSON(c, &ref); err != nil {
		return err
	}
	tasks, err := s.tasksByID(c.UserContext(), ref.TaskID, "")
	if err != nil {
		return err
	}
	if _, err := s.jobCommandedBy(c.UserContext(), s.sender(c), tasks[0].JobID); err != nil {
		return err
	}
	by := s.sender(c)
	if by == "" {
		by = "an unnamed party"
	}
	if _, err := s.signal(c.UserContext(), workflows.ParticipantJobID(tasks[0].JobID), workflows.SignalStop,
		workflows.Stop{Task: tasks[0].Name, By: by}); err != nil {
		return err
	}
	return ok(c, nil)
}

// readJobCommand reads a scheduler's command about a job that this party knows.
func (s *Server) readJobCommand(c *fiber.Ctx) (bfia.JobRef, *store.Job, error) {
	var ref bfia.JobRef
	if err := s.readJSON(c, &ref); err != nil {
		return ref, nil, err
	}
	if err := bfia.CheckID("job_id", ref.JobID); err != nil {
		return ref, nil, err
	}
	job, err := s.jobCommandedBy(c.UserContext(), s.sender(c), ref.JobID)
	return ref, job, err
}

// jobCommandedBy returns a job. It refuses a sender that is neither the job's scheduler nor its initiator.
func (s *Server) jobCommandedBy(ctx context.Context, sender, jobID string) (*store.Job, error) {
	on(ctx, audit.Job, jobID)
	job, err := s.store.Job(ctx, jobID)
	if err != nil {
		return nil, unknownJob(err, jobID, s.Node)
	}
	if sender != "" && sender != job.SchedulerNode && sender != job.InitiatorNode {
		return nil, bfia.Errorf(bfia.CodeForbidden, "%s is neither scheduler nor initiator of job %s", sender,
			jobID)
	}
	return &job, nil
}

// signalParticipant sends a signal to the participant's workflow of a recorded job. If that workflow has
// ended, it returns CodeConflict.
func (s *Server) signalParticipant(ctx context.Context, jobID, name string, arg any) error {
	gone, err := s.signal(ctx, workflows.ParticipantJobID(jobID), name, arg)
	if err != nil {
		return err
	}
	if gone {
		return bfia.Errorf(bfia.CodeConflict, "job_id: job %s has ended at %s", jobID, s.Node)
	}
	return nil
}

// pollTask returns the state of a task at this party (part 2, 3.8): of one role, or of all roles that it
// holds.
func (s *Server) pollTask(c *fiber.Ctx) error {
	var poll bfia.TaskPoll
	if err := s.readJSON(c, &poll); err != nil {
		return err
	}
	tasks, err := s.tasksByID(c.UserContext(), poll.TaskID, poll.Role)
	if err != nil {
		return err
	}
	var states []bfia.TaskState
	var failure *bfia.Failure // limited to what partners may know
	var waiting *bfia.Waiting
	for _, t := range tasks {
		states = append(states, t.State)
		if t.State == bfia.TaskFailed && failure == nil {
			failure = t.Failure.ForPartners(s.Settings.FailureSharing)
		}
		if !t.State.Terminal() && waiting == nil {
			waiting = t.Waiting.ForPartners(s.Settings.FailureSharing)
		}
	}
	return ok(c, bfia.PollResult{Status: bfia.MergeTaskStates(states...), Reason: failure.Text(),
		Failure: failure, Waiting: waiting})
}

// tasksByID returns this party's parts of a task, of one role or all. It fails with CodeNotFound if there are
// none.
func (s *Server) tasksByID(ctx context.Context, taskID, role string) ([]store.Task, error) {
	if err := bfia.CheckID("task_id", taskID); err != nil {
		return nil, err
	}
	all, err := s.store.TasksByID(ctx, taskID)
	if err != nil {
		return nil, err
	}
	var tasks []store.Task
	for _, t := range all {
		self := bfia.Part{Role: t.Role, Index: t.RoleIndex}.Self()
		if role == "" || role == t.Role || role == self {
			tasks = append(tasks, t)
		}
	}
	if len(all) == 0 {
		return nil, bfia.Errorf(bfia.CodeNotFound, "task_id: %s has no task %s", s.Node, taskID)
	}
	if len(tasks) == 0 {
		return nil, bfia.Errorf(bfia.CodeNotFound, "role: %s has no part %q of task %s", s.Node, role, taskID)
	}
	return tasks, nil
}

// containerCallback accepts a container's report of its state (part 2, 4.1).
func (s *Server) containerCallback(c *fiber.Ctx) error {
	report, err := s.readReport(c)
	if err != nil {
		return err
	}
	tasks, err := s.tasksByID(c.UserContext(), report.TaskID, report.Role)
	if err != nil {
		return err
	}
	if !tasks[0].State.Terminal() {
		if _, err := s.signal(c.UserContext(), workflows.ParticipantJobID(tasks[0].JobID),
			workflows.SignalTaskCallback, *report); err != nil {
			return err
		}
	}
	return ok(c, nil)
}
