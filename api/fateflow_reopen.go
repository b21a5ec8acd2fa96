package api

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	temporal "go.temporal.io/sdk/client"
	sdk "go.temporal.io/sdk/temporal"

	"hutong/bfia"
	"hutong/store"
	"hutong/workflows"
)

// endWait bounds the wait for the end of a job that its scheduler has just stopped. FATE-Flow waits 10 s for
// an answer and retries three times.
const endWait = 8 * time.Second

// reopen waits until the workflow of a job has ended, and starts another one that takes over the states of
// its tasks.
func (s *Server) reopen(ctx context.Context, job *store.Job) error {
	if err := s.awaitEnd(ctx, job.JobID, workflows.ParticipantJobID(job.JobID)); err != nil {
		return err
	}

	record, err := s.store.JobRecord(ctx, job.JobID)
	if err != nil {
		return err
	}
	plan, _, err := s.plan(ctx, record, s.Node, origin{sender: job.SchedulerNode})
	if err != nil {
		return err
	}
	tasks, err := s.store.Tasks(ctx, job.JobID)
	if err != nil {
		return err
	}

	in := workflows.ParticipantJobInput{Plan: ownPlan(plan, s.Node), Node: s.Node,
		Scheduler: job.SchedulerNode, Nodes: job.PartyNodes,
		Settings: s.Settings, FateFlow: true, Roles: job.Roles, Before: previousParts(tasks)}
	_, err = s.create(ctx, workflows.ParticipantJobID(job.JobID), workflows.ParticipantJobType, in,
		workflows.CreateRequest{}, temporal.StartWorkflowOptions{
			TypedSearchAttributes: in.SearchAttributes(),
			StaticSummary: fmt.Sprintf("%s in job %s, rerun", strings.Join(in.Roles, ", "),
				job.JobID),
			WorkflowIDReusePolicy: enums.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		})
	return err
}

// awaitEnd waits until a workflow of a job has ended.
func (s *Server) awaitEnd(ctx context.Context, jobID, workflowID string) error {
	waiting, cancel := context.WithTimeout(ctx, endWait)
	defer cancel()
	err := s.temporal.GetWorkflow(waiting, workflowID, "").Get(waiting, nil)

	var gone *serviceerror.NotFound
	var failed *sdk.WorkflowExecutionError
	if waiting.Err() != nil {
		return bfia.Errorf(bfia.CodeUnavailable, "job_id: job %s is still ending at %s; try again", jobID,
			s.Node)
	}
	if err != nil && !errors.As(err, &gone) && !errors.As(err, &failed) {
		return bfia.Wrap(bfia.CodeUnavailable, err, "Temporal of %s does not answer; try again", s.Node)
	}
	return nil
}

// previousParts returns the states of parts for the workflow that takes them over.
func previousParts(tasks []store.Task) []workflows.PartBefore {
	parts := []workflows.PartBefore{}
	for _, t := range tasks {
		part := workflows.PartBefore{Task: t.Name, Part: bfia.Part{Role: t.Role, Index: t.RoleIndex}.Self(),
			TaskID: t.TaskID, Attempt: t.Attempt, State: t.State, Failure: t.Failure}
		if t.State == bfia.TaskFailed && part.Failure == nil {
			part.Failure = &bfia.Failure{Kind: bfia.FailedUnknown, Message: t.Reason}
		}
		parts = append(parts, part)
	}
	return parts
}
