package api

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	temporal "go.temporal.io/sdk/client"
	sdk "go.temporal.io/sdk/temporal"

	"hutong/bfia"
	"hutong/store"
	"hutong/workflows"
)

// nativeWaiting takes the word that a job waits for its start: one that has been created everywhere, or one
// that has ended and is run again. FATE-Flow ends a job, here too, before it runs a failed task of it again.
func (s *Server) nativeWaiting(c *fiber.Ctx, in *nativeCommand) error {
	job, err := s.jobCommandedBy(c, in.JobID)
	if err != nil {
		return err
	}
	switch job.State {
	case bfia.JobPending, bfia.JobReady:
		return ok(c, nil)
	case bfia.JobRejected:
		return bfia.Errorf(bfia.CodeConflict, "job_id: job %s was rejected at %s", in.JobID, s.Node)
	}
	if err := s.reopen(c.UserContext(), job); err != nil {
		return err
	}
	return ok(c, nil)
}

// closing is how long a job that its scheduler has just ended may take to end here: FATE-Flow waits 10 s for
// an answer, and asks three times.
const closing = 8 * time.Second

// reopen begins a job anew, with its tasks as they are, after what still runs of it has ended.
func (s *Server) reopen(ctx context.Context, job *store.Job) error {
	waiting, cancel := context.WithTimeout(ctx, closing)
	defer cancel()
	err := s.temporal.GetWorkflow(waiting, workflows.PartyJobID(job.JobID), "").Get(waiting, nil)
	var gone *serviceerror.NotFound
	var failed *sdk.WorkflowExecutionError
	if waiting.Err() != nil {
		return bfia.Errorf(bfia.CodeUnavailable, "job_id: job %s is still ending at %s; ask again", job.JobID,
			s.Node)
	}
	if err != nil && !errors.As(err, &gone) && !errors.As(err, &failed) {
		return bfia.Wrap(bfia.CodeUnavailable, err, "the engine of %s does not answer", s.Node)
	}
	doc, err := s.document(ctx, job.JobID)
	if err != nil {
		return err
	}
	plan, err := s.plan(ctx, doc, s.Node)
	if err != nil {
		return err
	}
	tasks, err := s.store.Tasks(ctx, job.JobID)
	if err != nil {
		return err
	}
	in := workflows.PartyJobInput{Plan: ownPlan(plan, s.Node), Node: s.Node, Scheduler: job.SchedulerNode,
		Settings: s.Settings, FateFlow: true,
		Roles: job.Roles, Before: []workflows.PartBefore{}}
	for _, t := range tasks {
		b := workflows.PartBefore{Task: t.Name, Part: bfia.Part{Role: t.Role, Index: t.RoleIndex}.Self(),
			TaskID: t.TaskID, Attempt: t.Attempt,
			State: t.State, Failure: t.Failure}
		if t.State == bfia.TaskFailed && b.Failure == nil {
			b.Failure = &bfia.Failure{Kind: bfia.FailedUnknown, Message: t.Reason}
		}
		in.Before = append(in.Before, b)
	}
	return s.create(ctx, workflows.PartyJobID(job.JobID), workflows.PartyJobName, in,
		temporal.StartWorkflowOptions{
			TypedSearchAttributes: workflows.PartyJobAttributes(in),
			StaticSummary: fmt.Sprintf("%s in job %s, again", strings.Join(in.Roles, ", "),
				job.JobID),
			WorkflowIDReusePolicy: enums.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		})
}

// nativeRerun takes the word that a further version of a task is to come: its start begins it.
func (s *Server) nativeRerun(c *fiber.Ctx, in *nativeCommand) error {
	if in.NewVersion <= in.TaskVersion {
		return bfia.Errorf(bfia.CodeBadRequest, "new_version: %d does not come after task_version %d",
			in.NewVersion, in.TaskVersion)
	}
	_, _, err := s.nativeTask(c, in)
	if err != nil {
		return err
	}
	return ok(c, nil)
}
