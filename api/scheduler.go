package api

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	temporal "go.temporal.io/sdk/client"

	"hutong/activities"
	"hutong/bfia"
	"hutong/bfia/client"
	"hutong/internal/audit"
	"hutong/internal/identity"
	"hutong/store"
	"hutong/workflows"
)

// createAll creates a job at every party, as its scheduler (part 2, 3.1). It answers when all have accepted
// it. If one refuses, none keeps it.
func (s *Server) createAll(c *fiber.Ctx) error {
	doc, err := s.readDocument(c)
	if err != nil {
		return err
	}
	if err := bfia.CheckID("job_id", doc.JobID); err != nil {
		return err
	}
	on(c.UserContext(), audit.Job, doc.JobID)
	if err := s.mayCreate(s.sender(c), bfia.VerbCreateAll, doc, ""); err != nil {
		return err
	}
	record, err := s.record(c.UserContext(), doc)
	if err != nil {
		return err
	}
	from, err := s.origin(c)
	if err != nil {
		return err
	}
	plan, project, err := s.plan(c.UserContext(), record, s.Node, from)
	if err != nil {
		return err
	}
	job, err := s.store.ScheduleJob(c.UserContext(), doc.JobID)
	known := err == nil
	switch {
	case err != nil && bfia.CodeOf(err) != bfia.CodeNotFound:
		return err
	case !known:
		if err := s.refuseOldJob(c.UserContext(), doc.JobID); err != nil {
			return err
		}
		// Retries would not help against a missing route.
		if err := s.checkRoutes(doc); err != nil {
			return err
		}
	}
	if err := s.recordAct(c.UserContext()); err != nil {
		return err
	}
	if known {
		err = s.store.PutJobRecord(c.UserContext(), doc.JobID, doc.Bytes(), record.Registry.Of(doc))
	} else {
		err = s.store.PutProjectJobRecord(c.UserContext(), doc.JobID, doc.Bytes(), record.Registry.Of(doc),
			project)
	}
	if err != nil {
		return err
	}
	if known && (job.State == bfia.JobRunning || job.State.Terminal()) {
		// a repeated request; PutJobRecord refuses another document
		return ok(c, bfia.JobCreated{JobID: doc.JobID})
	}
	// The row alone does not prove that all parties have accepted the job. Its workflow knows.
	in := workflows.SchedulerJobInput{Plan: *plan, Node: s.Node, Nodes: doc.Config.Nodes(),
		Settings: s.Settings}
	if in.Reuse, err = s.scheduledReuse(c.UserContext(), doc, plan); err != nil {
		return err
	}
	permits, err := s.presentedPermits(c, "")
	if err != nil {
		return err
	}
	drop, err := s.keepPermits(c.UserContext(), doc.JobID, permits)
	if err != nil {
		return err
	}
	// Of several jobs at once, each could get what the others need at one party, and none could start.
	request := workflows.CreateRequest{AsksToReserve: s.creations.Add(1) == 1}
	defer s.creations.Add(-1)
	if request.AsksToReserve {
		if request.AsksToReserve, err = s.store.IsQueueEmpty(c.UserContext()); err != nil {
			return err
		}
	}
	if _, err := s.create(c.UserContext(), workflows.SchedulerJobID(doc.JobID), workflows.SchedulerJobType,
		in, request, temporal.StartWorkflowOptions{
			TypedSearchAttributes: in.SearchAttributes(),
			StaticSummary:         "Schedule job " + doc.JobID,
		}); err != nil {
		return err
	}
	drop() // every party has accepted the job
	return ok(c, bfia.JobCreated{JobID: doc.JobID})
}

// checkRoutes refuses a job with a party to which this scheduler has no route.
func (s *Server) checkRoutes(doc *bfia.Document) error {
	for _, node := range doc.Config.Nodes() {
		if _, ok := s.remote.Route(node); !ok {
			return bfia.PrefixPlace("config.role", client.NoRoute(node, s.Node))
		}
	}
	return nil
}

// workflowTaskTimeout is the time after which another worker repeats a workflow task whose worker died.
const workflowTaskTimeout = 5 * time.Second

// create starts a workflow, or finds the running one, and waits for the result of its create update. Each
// call uses an update id of its own. For a known id Temporal would repeat the result, even that of a run that
// has failed since, and start nothing.
func (s *Server) create(ctx context.Context, id, workflow string, in any, request workflows.CreateRequest,
	options temporal.StartWorkflowOptions) (workflows.CreateResult, error) {
	if err := s.recordAct(ctx); err != nil {
		return workflows.CreateResult{}, err
	}
	options.ID = id
	options.TaskQueue = activities.ControlQueue
	options.WorkflowTaskTimeout = workflowTaskTimeout
	options.WorkflowIDConflictPolicy = enums.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING
	if options.WorkflowIDReusePolicy != enums.WORKFLOW_ID_REUSE_POLICY_UNSPECIFIED {
		return s.startOrFind(ctx, workflow, in, request, options)
	}

	options.WorkflowIDReusePolicy = enums.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE
	created, err := s.startOrFind(ctx, workflow, in, request, options)
	var started *serviceerror.WorkflowExecutionAlreadyStarted
	if !errors.As(err, &started) {
		return created, err
	}
	free, readErr := s.idIsFree(ctx, id)
	if readErr != nil {
		return created, bfia.Wrap(bfia.CodeUnavailable, readErr,
			"Temporal of %s does not answer; try again later", s.Node)
	}
	if !free {
		return created, err
	}
	options.WorkflowIDReusePolicy = enums.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE

	return s.startOrFind(ctx, workflow, in, request, options)
}

// idIsFree reports whether a job may be created under a workflow id that another workflow has had: the job
// was refused or undone, or Temporal lost it. A workflow that runs is found.
func (s *Server) idIsFree(ctx context.Context, id string) (bool, error) {
	last, err := s.temporal.DescribeWorkflow(ctx, id, "")
	var gone *serviceerror.NotFound
	if errors.As(err, &gone) {
		return true, nil
	}
	if err != nil {
		return false, err
	}

	return !workflows.HasOutcome(last.TypedSearchAttributes), nil
}

// startOrFind starts a workflow, or finds the running one, and waits for the result of its create update.
func (s *Server) startOrFind(ctx context.Context, workflow string, in any, request workflows.CreateRequest,
	options temporal.StartWorkflowOptions) (created workflows.CreateResult, err error) {
	merged := temporal.UpdateWorkflowOptions{UpdateName: workflows.UpdateCreateMerged, Args: []any{request}}
	err = s.updateWithStart(ctx, merged, &created, workflow, in, options)
	if workflows.IsUnknownUpdate(err) { // the control worker has an older version
		plain := temporal.UpdateWorkflowOptions{UpdateName: workflows.UpdateCreate}
		err = s.updateWithStart(ctx, plain, nil, workflow, in, options)
	}
	var started *serviceerror.WorkflowExecutionAlreadyStarted
	switch code, message, refused := workflows.RefusalCode(err); {
	case err == nil:
		return created, nil
	case errors.As(err, &started):
		return created, bfia.Wrap(bfia.CodeConflict, err,
			"job_id: %s has had a job with this id before; choose another one", s.Node)
	case refused:
		return created, bfia.Wrap(code, err, "%s", message)
	}
	return created, bfia.Wrap(bfia.CodeUnavailable, err, "Temporal of %s does not answer; try again later",
		s.Node)
}

// updateWithStart starts a workflow, or finds the running one, and stores the result of an update in result
// unless that is nil.
func (s *Server) updateWithStart(ctx context.Context, update temporal.UpdateWorkflowOptions, result any,
	workflow string, in any, options temporal.StartWorkflowOptions) error {
	update.WaitForStage = temporal.WorkflowUpdateStageCompleted
	handle, err := s.temporal.UpdateWithStartWorkflow(ctx, temporal.UpdateWithStartWorkflowOptions{
		StartWorkflowOperation: s.temporal.NewWithStartWorkflowOperation(options, workflow, in),
		UpdateOptions:          update,
	})
	if err != nil {
		return err
	}

	return handle.Get(ctx, result)
}

// signal sends a signal to a job's workflow. gone reports that no such workflow runs: it never existed, or it
// has ended.
func (s *Server) signal(ctx context.Context, id, name string, arg any) (gone bool, err error) {
	if err := s.recordAct(ctx); err != nil {
		return false, err
	}
	err = s.temporal.SignalWorkflow(ctx, id, "", name, arg)
	var notFound *serviceerror.NotFound
	if errors.As(err, &notFound) {
		return true, nil
	}
	if err != nil {
		return false, bfia.Wrap(bfia.CodeUnavailable, err, "Temporal of %s does not answer; try again later",
			s.Node)
	}
	return false, nil
}

// stopAll stops a job at every party, or a task and its successors (part 2, 3.5).
func (s *Server) stopAll(c *fiber.Ctx) error {
	var ref bfia.JobRef
	if err := s.readJSON(c, &ref); err != nil {
		return err
	}
	if err := bfia.CheckID("job_id", ref.JobID); err != nil {
		return err
	}
	on(c.UserContext(), audit.Job, ref.JobID)
	sender := s.sender(c)
	job, err := s.scheduledJobFor(c.UserContext(), sender, bfia.VerbStopAll, ref.JobID)
	if err != nil {
		return err
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
	if !job.State.Terminal() {
		if _, err := s.signalLimited(c.UserContext(), sender+" "+ref.TaskName,
			workflows.SchedulerJobID(ref.JobID), workflows.SignalStop,
			workflows.Stop{Task: ref.TaskName, By: sender}); err != nil {
			return err
		}
	} else if ref.TaskName == "" {
		if err := s.stopParticipants(c.UserContext(), &job); err != nil {
			return err
		}
	}
	return ok(c, nil)
}

// stopParticipants ends a job that this party has ended at its participants again, since an earlier job/stop
// may have been lost. At those that have ended the job it changes nothing.
func (s *Server) stopParticipants(ctx context.Context, job *store.ScheduleJob) error {
	doc, err := s.document(ctx, job.JobID)
	if err != nil {
		return err
	}

	ctx, cancel := context.WithTimeout(ctx, schedulerTimeout)
	defer cancel()
	nodes := doc.Config.Nodes()
	failures := make([]error, len(nodes))
	stop := bfia.JobRef{JobID: job.JobID, Failure: job.Failure.ForPartners(s.Settings.FailureSharing)}
	if job.State == bfia.JobRejected {
		stop.State, stop.Reason = bfia.JobRejected, job.Failure.Text()
	}
	var sent sync.WaitGroup
	for i, node := range nodes {
		sent.Go(func() {
			if err := s.remote.Stop(ctx, node, stop); err != nil {
				failures[i] = fmt.Errorf("%s did not take the end of the job: %w", node, err)
			}
		})
	}
	sent.Wait()
	if err := errors.Join(failures...); err != nil {
		reasons := strings.ReplaceAll(err.Error(), "\n", "; ")
		return bfia.Wrap(bfia.CodePartnerDown, err, "job_id: job %s has ended, but %s; it is sent again",
			job.JobID, reasons)
	}
	return nil
}

// partyCallback accepts a participant's report about its part of a task (part 2, 3.9).
func (s *Server) partyCallback(c *fiber.Ctx) error {
	err := s.takePartyCallback(c)
	if s.OnCallback != nil {
		s.OnCallback(err)
	}
	return err
}

func (s *Server) takePartyCallback(c *fiber.Ctx) error {
	report, err := s.readReport(c)
	if err != nil {
		return err
	}
	sender := s.sender(c)
	task, err := s.scheduledTaskFor(c.UserContext(), sender, report.TaskID, report.Role)
	if err != nil {
		return err
	}
	if err := s.reportPart(c.UserContext(), task, workflows.Callback{
		Node: sender, TaskID: report.TaskID, Role: report.Role, State: report.Status,
		Failure: bfia.FailureOf(report.Status, report.Failure, report.Reason)}, true); err != nil {
		return err
	}
	return ok(c, nil) // a report about a job that has ended changes nothing
}

// reportPart signals a part's state to the workflow of a job, if it changes one. It lets the report wait for
// those of the task's other parts if together is set.
func (s *Server) reportPart(ctx context.Context, task store.ScheduleTask, report workflows.Callback,
	together bool) error {
	parts, err := s.store.ScheduleParts(ctx, task.JobID)
	if err != nil {
		return err
	}
	changes := func(p store.SchedulePart) bool {
		self := bfia.Part{Role: p.Role, Index: p.RoleIndex}.Self()
		return p.TaskID == report.TaskID && p.NodeID == report.Node &&
			(report.Role == p.Role || report.Role == self) && p.State.Next(report.State) != p.State
	}
	if !slices.ContainsFunc(parts, changes) {
		return nil
	}
	if together {
		s.awaitOthers(ctx, report.TaskID, report.State, parts, changes)
	}
	_, err = s.signalLimited(ctx, report.Node+" "+report.TaskID+" "+report.Role,
		workflows.SchedulerJobID(task.JobID), workflows.SignalCallback, report)
	return err
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

// sender returns the node id of the partner that makes a request.
func (s *Server) sender(c *fiber.Ctx) string { return identity.From(c.UserContext()).Node }

// origin returns where the job in a partner's request comes from.
func (s *Server) origin(c *fiber.Ctx) (origin, error) {
	permits, err := s.presentedPermits(c, s.Node)
	return origin{sender: s.sender(c), permits: permits}, err
}

// unknownJob replaces a not-found error by one that names the job and the party.
func unknownJob(err error, jobID, node string) error {
	if bfia.CodeOf(err) == bfia.CodeNotFound {
		return bfia.Errorf(bfia.CodeNotFound, "job_id: %s does not know job %s", node, jobID)
	}
	return err
}
