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
	if err := s.store.RevokeGrant(c.UserContext(), ref.ID); err != nil {
		return err
	}
	s.logger.Info("a grant was revoked", "grant_id", ref.ID, "by", identity.From(c.UserContext()).Name)
	return answer(c, "success", ref, nil)
}

// needsGrants reports whether a job may use only what its initiator was granted.
func (s *Server) needsGrants(doc *bfia.Document) bool {
	return s.GrantsRequired && doc.Config.Initiator.NodeID != s.Node
}

// grantClaim returns what a job needs of this party's grants, or nil if it needs none.
func (s *Server) grantClaim(record *store.JobRecord, plan *bfia.Plan) (*store.GrantClaim, error) {
	doc := record.Document
	if !s.needsGrants(doc) {
		return nil, nil
	}
	needs, err := bfia.GrantNeeds(doc, plan, record.Registry.Describe, s.Node)
	if err != nil || len(needs) == 0 {
		return nil, err
	}
	return &store.GrantClaim{Node: s.Node, Partner: doc.Config.Initiator.NodeID, Needs: needs}, nil
}

// checkGrants refuses a job of a partner that lacks a grant, or that reuses outputs of other parties' job. A
// job that this party has accepted and that has not ended keeps what it was granted.
func (s *Server) checkGrants(ctx context.Context, record *store.JobRecord, plan *bfia.Plan) error {
	claim, err := s.grantClaim(record, plan)
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
	return s.checkSameParties(ctx, record.Document)
}

// checkSameParties refuses an old_job_id of other parties, whose outputs are not for this job's. The refusal
// does not say whether the job exists.
func (s *Server) checkSameParties(ctx context.Context, doc *bfia.Document) error {
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
	if old.InitiatorNode != doc.Config.Initiator.NodeID ||
		!slices.Equal(of(old.PartyNodes), of(doc.Config.Nodes())) {
		return bfia.Errorf(bfia.CodeForbidden, "old_job_id: %s knows no job %s of the same initiator and "+
			"parties; submit the job without old_job_id", s.Node, doc.OldJobID)
	}
	return nil
}
