package api

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

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
	from, err := s.origin(c)
	if err != nil {
		return err
	}
	if from.reserve, err = bfia.ReserveRequestOf(doc.JobID, func(name string) string {
		return c.Query(name)
	}); err != nil {
		return err
	}
	answer, err := s.acceptJob(c.UserContext(), doc, from, false)
	if err != nil {
		return err
	}
	return ok(c, answer)
}

// acceptJob creates a job at this party, for a BFIA scheduler or for one that speaks FATE-Flow's own
// protocol. The sender becomes its scheduler.
func (s *Server) acceptJob(ctx context.Context, doc *bfia.Document, from origin,
	fateFlow bool) (bfia.JobAccepted, error) {
	var refused bfia.JobAccepted
	scheduler := from.sender
	on(ctx, audit.Job, doc.JobID)
	facts, known, err := s.participantFacts(ctx, doc.JobID)
	if err != nil {
		return refused, err
	}
	if err := s.mayCreate(scheduler, bfia.VerbCreate, doc, facts.Scheduler); err != nil {
		return refused, err
	}
	if known == nil {
		if err := s.refuseOldJob(ctx, doc.JobID); err != nil {
			return refused, err
		}
	}
	own := doc.Config.PartsOf(s.Node)
	if len(own) == 0 {
		return refused, bfia.Errorf(bfia.CodeBadRequest, "config.role: %s has no role in job %s",
			s.Node, doc.JobID)
	}

	record, err := s.record(ctx, doc)
	if err != nil {
		return refused, err
	}
	plan, project, err := s.plan(ctx, record, s.Node, from)
	if err != nil {
		return refused, err
	}
	ctx = store.WithProjects(ctx, project)
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

	if err := participant.CheckFeasible(ctx, s.store, s.Node, s.Limits, project, record, plan); err != nil {
		return refused, err
	}
	if known == nil {
		if err := s.store.CheckStorage(ctx, project); err != nil {
			return refused, err
		}
	}
	ruleID, err := s.putRecord(ctx, record, plan, from, project, known)
	if err != nil {
		return refused, err
	}
	// A rule that has approved the job has done so for good.
	approval := s.Approval && ruleID == ""
	reuses, err := s.reusable(ctx, doc, plan)
	if err != nil {
		return refused, err
	}

	// In any case also a job of which a process of a version without projects recorded no project.
	job, err := s.store.Job(store.WithoutProjects(ctx), doc.JobID)
	recorded := err == nil
	switch {
	case recorded && (job.State == bfia.JobRunning || job.State.Terminal()):
		// a repeated request; PutJobRecord refuses another document
		answer := accepted(job.State, reuses)
		answer.Grant = s.repeatGrant(ctx, job, from.reserve)
		return answer, nil
	case !recorded && bfia.CodeOf(err) != bfia.CodeNotFound:
		return refused, err
	}

	// The scheduler may at the same time undo the creation of a job that has not started. Only the job's
	// workflow can order the two, so this starts it, or finds it, also for a recorded job.
	in := workflows.ParticipantJobInput{Plan: ownPlan(plan, s.Node), Node: s.Node, Scheduler: scheduler,
		Nodes: doc.Config.Nodes(), Settings: s.Settings, Approval: approval, FateFlow: fateFlow}
	for _, part := range own {
		in.Roles = append(in.Roles, part.Self())
	}
	request := workflows.CreateRequest{Reserve: from.reserve}
	if arrived := time.Now(); request.Reserve != nil {
		if recorded {
			arrived = job.CreatedAt
		}
		correctCreated(request.Reserve, arrived)
	}
	created, err := s.create(ctx, workflows.ParticipantJobID(doc.JobID), workflows.ParticipantJobType, in,
		request, temporal.StartWorkflowOptions{
			TypedSearchAttributes: in.SearchAttributes(),
			StaticSummary:         fmt.Sprintf("%s in job %s", strings.Join(in.Roles, ", "), doc.JobID),
		})
	if err != nil {
		s.returnGrants(ctx, doc.JobID, err)
		if !recorded {
			s.forgetRuleDecision(ctx, doc.JobID, err)
		}
		return refused, err
	}

	state := bfia.JobReady
	switch {
	case recorded:
		state = job.State
	case approval:
		state = bfia.JobPending
	}
	answer := accepted(state, reuses)
	answer.Grant = created.Grant
	return answer, nil
}

// putRecord stores the record of a job that this party accepts, and its project, counts a new one for its
// grants, and lets the approval rules decide on it. It returns the id of the rule that has approved the job,
// or "".
func (s *Server) putRecord(ctx context.Context, record *store.JobRecord, plan *bfia.Plan, from origin,
	project string, known *store.Job) (ruleID string, err error) {
	doc := record.Document
	if known != nil {
		if err := s.recordAct(ctx); err != nil {
			return "", err
		}
		if err := s.store.PutJobRecord(ctx, doc.JobID, doc.Bytes(), record.Registry.Of(doc)); err != nil {
			return "", err
		}
		return s.store.DecidingRule(ctx, doc.JobID)
	}
	a := store.Acceptance{Project: project}
	if a.Grants, err = s.grantClaim(ctx, record, plan, from); err != nil {
		return "", err
	}
	if a.Rules, err = s.ruleClaim(ctx, record, from); err != nil {
		return "", err
	}
	return s.store.AcceptJob(ctx, doc.JobID, doc.Bytes(), record.Registry.Of(doc), a)
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
	var ref bfia.JobRef
	if err := s.readJSON(c, &ref); err != nil {
		return err
	}
	if err := bfia.CheckID("job_id", ref.JobID); err != nil {
		return err
	}
	if err := s.beginJob(c.UserContext(), s.sender(c), ref.JobID); err != nil {
		return err
	}
	return ok(c, nil)
}

// beginJob checks a job/start and signals it to the job's workflow, unless the job runs.
func (s *Server) beginJob(ctx context.Context, sender, jobID string) error {
	job, err := s.jobFor(ctx, sender, bfia.VerbStart, jobID)
	if err != nil {
		return err
	}
	if err := s.checkApproved(job); err != nil {
		return err
	}
	switch {
	case job.State.Terminal():
		return s.hasEnded(jobID)
	case job.State == bfia.JobRunning:
		return nil
	}
	return s.signalParticipant(ctx, sender, jobID, workflows.SignalStart, nil)
}

func (s *Server) hasEnded(jobID string) error {
	return bfia.Errorf(bfia.CodeConflict, "job_id: job %s has ended at %s", jobID, s.Node)
}

// startTask starts a task at this participant, or its next attempt (part 2, 3.4). A repeated request starts
// nothing.
func (s *Server) startTask(c *fiber.Ctx) error {
	var ref bfia.TaskRef
	if err := s.readJSON(c, &ref); err != nil {
		return err
	}
	if ref.Lost = ref.Lost.Truncate(); ref.Lost != nil {
		ref.Lost.Task, ref.Lost.Log = ref.TaskName, nil // it is kept in the history of a workflow
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
	job, err := s.jobFor(ctx, sender, bfia.VerbTaskStart, ref.JobID)
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
	return s.signalParticipant(ctx, sender+" "+ref.TaskName, ref.JobID, workflows.SignalTaskStart, ref)
}

// stopJob stops a job at this participant, or a task and its successors (part 2, 3.6). It succeeds for jobs
// that have ended, and for those that the sender has no part in or that are unknown, which the answer does
// not distinguish: then there is nothing to stop.
func (s *Server) stopJob(c *fiber.Ctx) error {
	var ref bfia.JobRef
	if err := s.readJSON(c, &ref); err != nil {
		return err
	}
	if err := bfia.CheckID("job_id", ref.JobID); err != nil {
		return err
	}
	ctx, sender := c.UserContext(), s.sender(c)
	on(ctx, audit.Job, ref.JobID)
	facts, job, err := s.participantFacts(ctx, ref.JobID)
	if err != nil {
		return err
	}
	verb := bfia.VerbStop
	if ref.Undo {
		verb = bfia.VerbUndo
	}
	if ref.Undo && job == nil {
		// A job that is undone may not be recorded yet, but its document is, and its workflow exists.
		if facts, err = s.factsOfCreation(ctx, sender, ref.JobID); err != nil {
			return err
		}
	}
	err = s.may(sender, verb, facts)
	if bfia.CodeOf(err) == bfia.CodeNotFound {
		return ok(c, nil)
	}
	if err != nil {
		return err
	}
	if job != nil && job.State.Terminal() && !ref.Undo {
		return ok(c, nil)
	}

	stop := workflows.Stop{Task: ref.TaskName, By: sender, Undo: ref.Undo}
	if sender == facts.Scheduler { // the initiator may stop the job, but does not know why it ended
		stop.Rejected, stop.Reason = ref.State == bfia.JobRejected, ref.Reason
		stop.Failure = ref.Failure.Truncate()
	}
	if _, err := s.signalLimited(ctx, sender+" "+ref.TaskName, workflows.ParticipantJobID(ref.JobID),
		workflows.SignalStop, stop); err != nil {
		return err
	}
	return ok(c, nil)
}

// factsOfCreation returns what the rules need of a job that a party may just be creating here. The party that
// could create the job as its scheduler is its scheduler.
func (s *Server) factsOfCreation(ctx context.Context, sender, jobID string) (bfia.JobFacts, error) {
	facts := bfia.JobFacts{JobID: jobID}
	doc, err := s.document(ctx, jobID)
	if bfia.CodeOf(err) == bfia.CodeNotFound {
		return facts, nil
	}
	if err != nil {
		return facts, err
	}
	if len(doc.Config.PartsOf(s.Node)) > 0 && s.mayCreate(sender, bfia.VerbCreate, doc, "") == nil {
		facts.Known, facts.Initiator, facts.Scheduler = true, doc.Config.Initiator.NodeID, sender
		facts.Parts = doc.Config.Parts()
	}
	return facts, nil
}

// stopTask stops a task that has started here, and its successors. It is Kuscia's addition to the protocol.
func (s *Server) stopTask(c *fiber.Ctx) error {
	var ref bfia.TaskStop
	if err := s.readJSON(c, &ref); err != nil {
		return err
	}
	sender := s.sender(c)
	tasks, err := s.taskFor(c.UserContext(), sender, bfia.VerbTaskStop, ref.TaskID, "")
	if err != nil {
		return err
	}
	if _, err := s.signalLimited(c.UserContext(), sender+" "+tasks[0].Name,
		workflows.ParticipantJobID(tasks[0].JobID), workflows.SignalStop,
		workflows.Stop{Task: tasks[0].Name, By: sender}); err != nil {
		return err
	}
	return ok(c, nil)
}

// signalParticipant sends a signal to the participant's workflow of a recorded job, see
// [Server.signalLimited]. If that workflow has ended, it returns CodeConflict.
func (s *Server) signalParticipant(ctx context.Context, source, jobID, name string, arg any) error {
	gone, err := s.signalLimited(ctx, source, workflows.ParticipantJobID(jobID), name, arg)
	if err != nil {
		return err
	}
	if gone {
		return s.hasEnded(jobID)
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
	tasks, err := s.taskFor(c.UserContext(), s.sender(c), bfia.VerbTaskPoll, poll.TaskID, poll.Role)
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
	return s.partsOf(all, taskID, role)
}

// partsOf returns the parts of a task with a role, or all. It fails with CodeNotFound if there are none.
func (s *Server) partsOf(all []store.Task, taskID, role string) ([]store.Task, error) {
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
