package api

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/gofiber/fiber/v2"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	temporal "go.temporal.io/sdk/client"

	"hutong/activities"
	"hutong/bfia"
	"hutong/store"
	"hutong/workflows"
)

// createAll creates a job on every party, as its scheduler (part 2, 3.1). It answers when all have taken it; when one
// has not, none keeps it.
func (s *Server) createAll(c *fiber.Ctx) error {
	doc, err := s.readDocument(c)
	if err != nil {
		return err
	}
	if err := bfia.CheckID("job_id", doc.JobID); err != nil {
		return err
	}
	plan, err := s.plan(c.UserContext(), doc, s.Node)
	if err != nil {
		return err
	}
	if err := s.store.PutDocument(c.UserContext(), doc.JobID, doc.Bytes()); err != nil {
		return err
	}
	job, err := s.store.ScheduleJob(c.UserContext(), doc.JobID)
	switch {
	case err == nil && (job.State == bfia.JobRunning || job.State.Terminal()):
		return ok(c, bfia.JobCreated{JobID: doc.JobID}) // the same again: PutDocument would have refused another
	case err != nil && bfia.CodeOf(err) != bfia.CodeNotFound:
		return err
	}
	// A row alone does not say that all parties have taken the job: its workflow knows.
	in := workflows.SchedulerJobInput{Plan: *plan, Node: s.Node, Nodes: doc.Config.Nodes(), Settings: s.Settings}
	if in.Reuse, err = s.scheduledReuse(c.UserContext(), doc, plan); err != nil {
		return err
	}
	if err := s.create(c.UserContext(), workflows.SchedulerJobID(doc.JobID), workflows.SchedulerJobType, in, temporal.StartWorkflowOptions{
		TypedSearchAttributes: in.SearchAttributes(),
		StaticSummary:         "Schedule job " + doc.JobID,
	}); err != nil {
		return err
	}
	return ok(c, bfia.JobCreated{JobID: doc.JobID})
}

// workflowTaskTimeout is how soon another worker goes on with a workflow whose worker died in the middle of a step.
const workflowTaskTimeout = 5 * time.Second

// create starts a workflow, or finds the one that runs, and waits until its create update has answered. Each call's update
// has an id of its own: of one that is known the engine repeats the answer, also that of a run which has failed since, and
// starts nothing.
func (s *Server) create(ctx context.Context, id, workflow string, in any, options temporal.StartWorkflowOptions) error {
	options.ID = id
	options.TaskQueue = activities.ControlQueue
	options.WorkflowTaskTimeout = workflowTaskTimeout
	options.WorkflowIDConflictPolicy = enums.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING
	if options.WorkflowIDReusePolicy == enums.WORKFLOW_ID_REUSE_POLICY_UNSPECIFIED {
		options.WorkflowIDReusePolicy = enums.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE_FAILED_ONLY
	}
	handle, err := s.temporal.UpdateWithStartWorkflow(ctx, temporal.UpdateWithStartWorkflowOptions{
		StartWorkflowOperation: s.temporal.NewWithStartWorkflowOperation(options, workflow, in),
		UpdateOptions: temporal.UpdateWorkflowOptions{
			UpdateName:   workflows.UpdateCreate,
			WaitForStage: temporal.WorkflowUpdateStageCompleted,
		},
	})
	if err == nil {
		err = handle.Get(ctx, nil)
	}
	var started *serviceerror.WorkflowExecutionAlreadyStarted
	switch code, message, refused := workflows.RefusalCode(err); {
	case err == nil:
		return nil
	case errors.As(err, &started):
		return bfia.Wrap(bfia.CodeConflict, err, "job_id: a job of this id has been at %s before", s.Node)
	case refused:
		return bfia.Wrap(code, err, "%s", message)
	}
	return bfia.Wrap(bfia.CodeUnavailable, err, "the engine of %s does not answer", s.Node)
}

// signal sends a signal to a job's workflow. gone tells that there is none: it never was, or it has ended.
func (s *Server) signal(ctx context.Context, id, name string, arg any) (gone bool, err error) {
	err = s.temporal.SignalWorkflow(ctx, id, "", name, arg)
	var notFound *serviceerror.NotFound
	if errors.As(err, &notFound) {
		return true, nil
	}
	if err != nil {
		return false, bfia.Wrap(bfia.CodeUnavailable, err, "the engine of %s does not answer", s.Node)
	}
	return false, nil
}

// stopAll stops a job everywhere, or a task and what follows it (part 2, 3.5).
func (s *Server) stopAll(c *fiber.Ctx) error {
	var ref bfia.JobRef
	if err := s.readJSON(c, &ref); err != nil {
		return err
	}
	if err := bfia.CheckID("job_id", ref.JobID); err != nil {
		return err
	}
	job, err := s.store.ScheduleJob(c.UserContext(), ref.JobID)
	if err != nil {
		return unknownJob(err, ref.JobID, s.Node)
	}
	sender := s.sender(c)
	if sender != "" && sender != job.InitiatorNode {
		nodes, err := s.participants(c.UserContext(), ref.JobID)
		if err != nil {
			return err
		}
		if !slices.Contains(nodes, sender) {
			return bfia.Errorf(bfia.CodeForbidden, "%s takes no part in job %s", sender, ref.JobID)
		}
	}
	if ref.TaskName != "" {
		tasks, err := s.store.ScheduleTasks(c.UserContext(), ref.JobID)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(tasks, func(t store.ScheduleTask) bool { return t.Name == ref.TaskName }) {
			return bfia.Errorf(bfia.CodeNotFound, "task_name: job %s has no task %q", ref.JobID, ref.TaskName)
		}
	}
	by := sender
	if by == "" {
		by = "an unnamed party"
	}
	if _, err := s.signal(c.UserContext(), workflows.SchedulerJobID(ref.JobID), workflows.SignalStop, workflows.Stop{Task: ref.TaskName, By: by}); err != nil {
		return err
	}
	return ok(c, nil) // a job that has ended is stopped already
}

// partyCallback takes a party's report about its part of a task (part 2, 3.9).
func (s *Server) partyCallback(c *fiber.Ctx) error {
	report, err := s.readReport(c)
	if err != nil {
		return err
	}
	sender := s.sender(c)
	if sender == "" {
		return bfia.Errorf(bfia.CodeBadRequest, "header x-source-node-id: is required, it tells whose part the report is about")
	}
	task, err := s.store.ScheduleTaskByID(c.UserContext(), report.TaskID)
	if err != nil {
		if bfia.CodeOf(err) == bfia.CodeNotFound {
			return bfia.Errorf(bfia.CodeNotFound, "task_id: %s schedules no task %s", s.Node, report.TaskID)
		}
		return err
	}
	nodes, err := s.participants(c.UserContext(), task.JobID)
	if err != nil {
		return err
	}
	if !slices.Contains(nodes, sender) {
		return bfia.Errorf(bfia.CodeForbidden, "%s takes no part in job %s", sender, task.JobID)
	}
	if _, err := s.signal(c.UserContext(), workflows.SchedulerJobID(task.JobID), workflows.SignalCallback, workflows.Callback{
		Node: sender, TaskID: report.TaskID, Role: report.Role, State: report.Status,
		Failure: bfia.FailureOf(report.Status, report.Failure, report.Reason)}); err != nil {
		return err
	}
	return ok(c, nil) // for a job that has ended it changes nothing
}

// readReport reads the body of both callbacks.
func (s *Server) readReport(c *fiber.Ctx) (*bfia.TaskReport, error) {
	var report bfia.TaskReport
	if err := s.readJSON(c, &report); err != nil {
		return nil, err
	}
	if err := bfia.CheckID("task_id", report.TaskID); err != nil {
		return nil, err
	}
	if report.Role == "" {
		return nil, bfia.Errorf(bfia.CodeBadRequest, "role: is required")
	}
	_, err := bfia.ParseTaskState(string(report.Status))
	return &report, err
}

// sender is the party that a request says it comes from; empty when it doesn't say.
func (s *Server) sender(c *fiber.Ctx) string {
	return bfia.Sender(func(name string) string { return c.Get(name) })
}

// participants are the nodes that take part in a job that this node schedules.
func (s *Server) participants(ctx context.Context, jobID string) ([]string, error) {
	doc, err := s.document(ctx, jobID)
	if err != nil {
		return nil, err
	}
	return append(doc.Config.Nodes(), doc.Config.Initiator.NodeID), nil
}

func unknownJob(err error, jobID, node string) error {
	if bfia.CodeOf(err) == bfia.CodeNotFound {
		return bfia.Errorf(bfia.CodeNotFound, "job_id: %s does not know job %s", node, jobID)
	}
	return err
}
