package api

import (
	"context"

	"github.com/gofiber/fiber/v2"

	"hutong/bfia"
)

// describeApproval returns what an approver of this party decides on, and what differs from the job of the
// flow that this party approved last.
func (s *Server) describeApproval(c *fiber.Ctx) error {
	jobID, err := s.jobParam(c)
	if err != nil {
		return err
	}
	view, err := s.viewJob(c.UserContext(), jobID)
	if err != nil {
		return err
	}
	before, err := s.approvedBefore(c.UserContext(), view)
	if err != nil {
		return err
	}
	approval := bfia.ApprovalOf(view, before)
	if err := s.addRules(c.UserContext(), &approval, view); err != nil {
		return err
	}
	return ok(c, approval)
}

// approvedBefore returns the job of the same flow and initiator that this party approved last, or nil.
func (s *Server) approvedBefore(ctx context.Context, view *bfia.JobView) (*bfia.JobView, error) {
	jobID, found, err := s.store.ApprovedJob(ctx, view.JobID, view.FlowID, view.Initiator.NodeID)
	if err != nil || !found {
		return nil, err
	}
	before, err := s.viewJob(ctx, jobID)
	if bfia.CodeOf(err) == bfia.CodeNotFound { // it was removed meanwhile
		return nil, nil
	}
	return before, err
}
