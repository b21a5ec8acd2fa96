package api

import (
	"context"
	"slices"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/google/uuid"

	"hutong/bfia"
	"hutong/internal/audit"
	"hutong/internal/identity"
	"hutong/store"
)

// addGrant records what a partner may use of this party.
func (s *Server) addGrant(c *fiber.Ctx) error {
	var request struct {
		Partner   string     `json:"partner"`
		Component string     `json:"component"`
		Dataset   string     `json:"dataset"`
		Until     *time.Time `json:"until"`
		Times     int        `json:"times"`
	}
	if err := s.readJSON(c, &request); err != nil {
		return err
	}
	grant := bfia.DataGrant{ID: uuid.NewString(), Partner: request.Partner, Component: request.Component,
		Dataset: request.Dataset,
		Until:   request.Until, Times: request.Times}
	if err := grant.Check(s.Node, time.Now()); err != nil {
		return err
	}
	on(c.UserContext(), audit.Grant, grant.ID)
	grant.CreatedBy = identity.From(c.UserContext()).Name
	recorded, err := s.store.AddGrant(c.UserContext(), grant)
	if err != nil {
		return err
	}
	s.logger.Info("granted", "grant_id", recorded.ID, "partner", recorded.Partner,
		"component", recorded.Component, "dataset", recorded.Dataset, "by", recorded.CreatedBy)
	return answer(c, "success", recorded, nil)
}

// queryGrants lists the grants of a partner, or all.
func (s *Server) queryGrants(c *fiber.Ctx) error {
	get, err := s.params(c)
	if err != nil {
		return err
	}
	grants, err := s.store.Grants(c.UserContext(), get("partner"))
	if err != nil {
		return err
	}
	return answer(c, "success", grants, nil)
}

// revokeGrant ends a grant for jobs that are not accepted yet.
func (s *Server) revokeGrant(c *fiber.Ctx) error {
	var ref bfia.GrantRef
	if err := s.readJSON(c, &ref); err != nil {
		return err
	}
	if ref.ID == "" {
		return bfia.Errorf(bfia.CodeBadRequest, "grant_id: is required")
	}
	on(c.UserContext(), audit.Grant, ref.ID)
	r, err := s.store.RequestOfGrant(c.UserContext(), ref.ID)
	if err != nil {
		return err
	}
	if err := s.store.RevokeGrant(c.UserContext(), ref.ID); err != nil {
		return err
	}
	if r != nil { // the grants and the permit of a request end together
		r.DecidedBy = identity.From(c.UserContext()).Name
		changed, err := s.store.EndGrantRequest(c.UserContext(), r, bfia.RequestTerminated,
			bfia.RequestApproved)
		if err != nil {
			return err
		}
		s.notifyTermination(c.UserContext(), r, changed)
	}
	s.logger.Info("a grant was revoked", "grant_id", ref.ID, "by", identity.From(c.UserContext()).Name)
	return answer(c, "success", ref, nil)
}

// origin is where a job comes from.
type origin struct {
	// sender is the party that has sent the job, as it has proved. It is this party for a client's job.
	sender string
	// permits are the permits of this party that the request presents.
	permits []bfia.Permit
	// reserve is the reservation request that came with the job, or nil.
	reserve *bfia.ReserveRequest
}

// own is the origin of the jobs of this party's clients.
func (s *Server) own() origin { return origin{sender: s.Node} }

// ownerOf returns the party whose grants a job uses, or this party if the job is its own. What the document
// says of the initiator counts only as far as it is proved: a job in the name of this party is its own if
// one of its clients has submitted it, also if another party schedules it. Otherwise it is the sender's.
//
// A sender that may schedule the jobs of another initiator was checked before, by [Server.mayCreate].
func (s *Server) ownerOf(ctx context.Context, doc *bfia.Document, from origin) (string, error) {
	initiator := doc.Config.Initiator.NodeID
	if initiator != s.Node || from.sender == s.Node {
		return initiator, nil
	}
	digest, err := doc.SubmissionDigest()
	if err != nil {
		return "", err
	}
	submitted, err := s.store.IsSubmission(ctx, doc.JobID, digest)
	if err != nil || submitted {
		return s.Node, err
	}
	return from.sender, nil
}

// needsGrants reports whether a job may use only what a partner was granted, and which.
func (s *Server) needsGrants(ctx context.Context, doc *bfia.Document, from origin) (partner string,
	needed bool, err error) {
	if !s.GrantsRequired {
		return "", false, nil
	}
	partner, err = s.ownerOf(ctx, doc, from)
	return partner, partner != s.Node, err
}

// grantClaim returns what a job needs of this party's grants, or nil if it needs none.
func (s *Server) grantClaim(ctx context.Context, record *store.JobRecord, plan *bfia.Plan, from origin,
) (*store.GrantClaim, error) {
	doc := record.Document
	partner, needed, err := s.needsGrants(ctx, doc, from)
	if err != nil || !needed {
		return nil, err
	}
	needs, err := bfia.GrantNeeds(doc, plan, record.Registry.Describe, s.Node)
	if err != nil || len(needs) == 0 {
		return nil, err
	}
	return &store.GrantClaim{Node: s.Node, Partner: partner, Needs: needs, Permits: from.permits,
		RequirePermits: s.PermitsRequired}, nil
}

// recordSubmission records what a client submits, before the job leaves this party. undo deletes the record
// if the job was refused.
func (s *Server) recordSubmission(ctx context.Context, doc *bfia.Document) (undo func(context.Context),
	err error) {
	digest, err := doc.SubmissionDigest()
	if err != nil {
		return nil, err
	}
	added, err := s.store.AddSubmission(ctx, doc.JobID, digest, singleProject(ctx))
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) {
		if !added {
			return
		}
		if err := s.store.DeleteSubmission(ctx, doc.JobID, digest); err != nil {
			s.logger.Warn("failed to delete the record of a submission that was refused", "job_id", doc.JobID,
				"error", err)
		}
	}, nil
}

// checkGrants refuses a job of a partner that lacks a grant, or that reuses outputs of other parties' job. A
// job that this party has accepted and that has not ended keeps what it was granted.
func (s *Server) checkGrants(ctx context.Context, record *store.JobRecord, plan *bfia.Plan, from origin,
) error {
	claim, err := s.grantClaim(ctx, record, plan, from)
	if err != nil || claim == nil {
		return err
	}
	job, err := s.store.Job(ctx, plan.JobID)
	if err == nil && !job.State.Terminal() {
		return nil
	}
	if err != nil && bfia.CodeOf(err) != bfia.CodeNotFound {
		return err
	}
	if err := s.store.CheckGrants(ctx, plan.JobID, *claim); err != nil {
		return err
	}
	return s.checkSameParties(ctx, record.Document, claim.Partner)
}

// returnGrants takes back that a job has used grants, if its workflow has refused it. After any other error
// the workflow may still start; the use is held for some time.
func (s *Server) returnGrants(ctx context.Context, jobID string, refusal error) {
	if code := bfia.CodeOf(refusal); code == bfia.CodeUnavailable || code == bfia.CodeInternal {
		return
	}
	if err := s.store.ReturnUnacceptedGrants(ctx, jobID); err != nil {
		s.logger.Warn("failed to take back the use of grants of a refused job; they count for 15 minutes",
			"job_id",
			jobID, "error", err)
	}
}

// checkSameParties refuses an old_job_id of other parties, whose outputs are not for this job's. The refusal
// does not say whether the job exists.
func (s *Server) checkSameParties(ctx context.Context, doc *bfia.Document, owner string) error {
	if doc.OldJobID == "" {
		return nil
	}
	old, err := s.store.Job(ctx, doc.OldJobID)
	if bfia.CodeOf(err) == bfia.CodeNotFound {
		return nil // there is nothing to reuse
	}
	if err != nil {
		return err
	}
	of := func(nodes []string) []string {
		sorted := slices.Sorted(slices.Values(nodes))
		return slices.Compact(sorted)
	}
	if old.InitiatorNode != owner || owner != doc.Config.Initiator.NodeID ||
		!slices.Equal(of(old.PartyNodes), of(doc.Config.Nodes())) {
		return bfia.Errorf(bfia.CodeForbidden, "old_job_id: %s knows no job %s of the same initiator and "+
			"parties; submit the job without old_job_id", s.Node, doc.OldJobID)
	}
	return nil
}
