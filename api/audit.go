package api

import (
	"context"
	"errors"

	"github.com/gofiber/fiber/v2"
	"go.temporal.io/api/serviceerror"
	temporal "go.temporal.io/sdk/client"

	"hutong/bfia"
	"hutong/store"
	"hutong/workflows"
)

// checkApproved refuses to start a job that waits for an approval at this party.
func (s *Server) checkApproved(job *store.Job) error {
	if job.State == bfia.JobPending {
		return bfia.Errorf(bfia.CodeConflict,
			"job_id: job %s waits for an approval at %s; run hutong job approve there", job.JobID, s.Node)
	}
	return nil
}

// platformAudit records that a user of this party approves or rejects a job in which it takes part.
func (s *Server) platformAudit(c *fiber.Ctx) error {
	audit, err := s.readAudit(c)
	if err != nil {
		return err
	}
	job, err := s.store.Job(c.UserContext(), audit.JobID)
	if err != nil {
		return unknownJob(err, audit.JobID, s.Node)
	}
	if err := s.checkFourEyes(c.UserContext(), audit); err != nil {
		return err
	}
	undo := func(context.Context) {}
	if job.State == bfia.JobPending {
		if undo, err = s.recordClient(c.UserContext(), audit.JobID, string(audit.Status)); err != nil {
			return err
		}
	}
	gone, err := s.update(c.UserContext(), workflows.ParticipantJobID(audit.JobID), workflows.UpdateAudit,
		workflows.Audit{Node: s.Node, Status: audit.Status, Reason: audit.Reason}, nil)
	if code := bfia.CodeOf(err); gone || err != nil && code < bfia.CodeInternal {
		undo(c.UserContext())
	}
	if err != nil {
		return err
	}
	if gone && audit.Status != job.State {
		return bfia.Errorf(bfia.CodeConflict, "job_id: job %s has ended; its state is %s", audit.JobID,
			job.State)
	}
	return ok(c, nil)
}

// auditConfirm records a participant's approval or rejection at the job's scheduler (part 2, 3.10).
func (s *Server) auditConfirm(c *fiber.Ctx) error {
	audit, err := s.readAudit(c)
	if err != nil {
		return err
	}
	sender := s.sender(c)
	job, err := s.scheduledJobFor(c.UserContext(), sender, bfia.VerbAuditConfirm, audit.JobID)
	if err != nil {
		return err
	}
	switch {
	case job.State == bfia.JobPending:
		_, err := s.signalLimited(c.UserContext(), sender, workflows.SchedulerJobID(audit.JobID),
			workflows.SignalAudit, workflows.Audit{Node: sender, Status: audit.Status, Reason: audit.Reason})
		if err != nil {
			return err
		}
	case audit.Status == bfia.JobRejected && job.State != bfia.JobRejected:
		return bfia.Errorf(bfia.CodeConflict,
			"job_id: job %s is %s; it can be stopped, but no longer rejected", audit.JobID, job.State)
	}
	return ok(c, nil) // a decision that is known already changes nothing
}

// maxAuditReason bounds the bytes of an audit's reason.
const maxAuditReason = 1 << 10

func (s *Server) readAudit(c *fiber.Ctx) (*bfia.Audit, error) {
	var audit bfia.Audit
	if err := s.readJSON(c, &audit); err != nil {
		return nil, err
	}
	if len(audit.Reason) > maxAuditReason {
		return nil, bfia.Errorf(bfia.CodeTooLarge, "reason: is longer than %d bytes", maxAuditReason)
	}
	onApproval(c.UserContext(), &audit)
	return &audit, audit.Check()
}

// update sends an update to a job's workflow and waits for its result, which it stores in result unless that
// is nil. gone reports that no such workflow runs: it never existed, or it has ended.
func (s *Server) update(ctx context.Context, id, name string, arg, result any) (gone bool, err error) {
	if err := s.recordAct(ctx); err != nil {
		return false, err
	}
	handle, err := s.temporal.UpdateWorkflow(ctx,
		temporal.UpdateWorkflowOptions{WorkflowID: id, UpdateName: name, Args: []any{arg},
			WaitForStage: temporal.WorkflowUpdateStageCompleted})
	if err == nil {
		err = handle.Get(ctx, result)
	}
	var notFound *serviceerror.NotFound
	if errors.As(err, &notFound) {
		return true, nil
	}
	if code, message, refused := workflows.RefusalCode(err); refused {
		return false, bfia.Wrap(code, err, "%s", message)
	}
	if err != nil {
		return false, bfia.Wrap(bfia.CodeUnavailable, err, "Temporal of %s does not answer; try again later",
			s.Node)
	}
	return false, nil
}
