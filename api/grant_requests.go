package api

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/google/uuid"

	"hutong/bfia"
	"hutong/bfia/client"
	"hutong/internal/audit"
	"hutong/internal/identity"
	"hutong/store"
)

// permitPrefix is the beginning of the token of a permit of this software. Scanners for leaked secrets find
// it.
const permitPrefix = "htp_"

// --- For administrators of this party.

// requestGrant asks a partner for a grant (BFIA part 1, 4.3).
func (s *Server) requestGrant(c *fiber.Ctx) error {
	var ask bfia.GrantAsk
	if err := s.readJSON(c, &ask); err != nil {
		return err
	}
	if err := bfia.CheckID("partner", ask.Partner); err != nil {
		return err
	}
	if ask.Partner == s.Node {
		return bfia.Errorf(bfia.CodeBadRequest, "partner: %s is this party, whose own jobs need no grant",
			s.Node)
	}
	if _, known := s.remote.Route(ask.Partner); !known {
		return bfia.PrefixPlace("partner", client.NoRoute(ask.Partner, s.Node))
	}
	ctx := c.UserContext()
	contract, err := s.contractID(ctx, ask.Partner)
	if err != nil {
		return err
	}
	application := bfia.NewDatasetApplication(uuid.NewString(), contract, ask.Dataset, ask.Components,
		ask.Until,
		ask.Times)
	if err := application.Check(s.Node, time.Now()); err != nil {
		return err
	}
	on(ctx, audit.Grant, application.AuditID)
	if err := s.store.AddGrantRequest(ctx, store.GrantRequest{Partner: ask.Partner, Sent: true,
		AuditID: application.AuditID, Dataset: ask.Dataset, Components: application.Components(),
		Until: milliTime(application.TimeLimit), Times: ask.Times,
		CreatedBy: identity.From(ctx).Name}); err != nil {
		return err
	}
	if err := s.remote.DatasetApply(ctx, ask.Partner, application); err != nil {
		var sent *client.Error
		if errors.As(err, &sent) && sent.Outcome != client.Unknown {
			if err := s.store.DeleteGrantRequest(ctx, ask.Partner, application.AuditID); err != nil {
				return err
			}
		}
		return partnerError(err, "the partner")
	}
	return ok(c, bfia.DatasetRequestRef{AuditID: application.AuditID})
}

// contractID returns the id of the contract with a partner. For a partner of the configuration, which has
// none, the node id of this party takes its place.
func (s *Server) contractID(ctx context.Context, partner string) (string, error) {
	p, err := s.store.Partner(ctx, partner)
	switch {
	case err == nil && p.Active():
		return p.ContractID, nil
	case err == nil || bfia.CodeOf(err) == bfia.CodeNotFound:
		return s.Node, nil
	}
	return "", err
}

// approveGrant approves a partner's request, and sends the partner its permit (4.4). An approved request gets
// a new permit.
func (s *Server) approveGrant(c *fiber.Ctx) error {
	var decision bfia.GrantDecision
	if err := s.readJSON(c, &decision); err != nil {
		return err
	}
	ctx := c.UserContext()
	on(ctx, audit.Grant, decision.AuditID)
	r, err := s.findRequest(ctx, decision, false)
	if err != nil {
		return err
	}
	if len(decision.Components) > 0 {
		r.Components = decision.Components
	}
	if decision.Until != nil {
		r.Until = decision.Until
	}
	if decision.Times != nil {
		r.Times = *decision.Times
	}
	r.DecidedBy = identity.From(ctx).Name
	token := newPermitToken()
	var grants []bfia.DataGrant
	for _, component := range r.Components {
		grant := bfia.DataGrant{ID: uuid.NewString(), Partner: r.Partner, Component: component,
			Dataset: r.Dataset, Until: r.Until, Times: r.Times, CreatedBy: r.DecidedBy, AuditID: r.AuditID,
			PermitHash: store.HashSecret(token)}
		if err := grant.Check(s.Node, time.Now()); err != nil {
			return err
		}
		grants = append(grants, grant)
	}
	if err := s.store.ApproveGrantRequest(ctx, r, grants); err != nil {
		return err
	}
	s.logger.Info("granted a partner's request", "audit_id", r.AuditID, "partner", r.Partner, "dataset",
		r.Dataset, "by", r.DecidedBy)
	r.State, r.Delivered = bfia.RequestApproved, s.deliverPermit(ctx, r, token)
	return ok(c, requestView(r))
}

func newPermitToken() string {
	return permitPrefix + strings.ToLower(rand.Text()+rand.Text()) // 260 bits
}

// deliverPermit sends a partner the permit of its approved request, and reports whether it has arrived. If
// not, the partner gets another one when it asks for the state of the request.
func (s *Server) deliverPermit(ctx context.Context, r *store.GrantRequest, token string) bool {
	permit := &bfia.ResourcePermit{Token: token, ResourceLevel: bfia.PermitLevel,
		ResourceType: bfia.ResourceDataset, ResourceID: r.Dataset, ResourceNodeID: s.Node,
		ResourceInstID: s.Node, RequestNodeID: r.Partner, RequestInstID: r.Partner,
		TimeLimit: milliseconds(r.Until), TimesLimit: r.Times}
	if !s.notifyRequest(ctx, r, func(ctx context.Context) error {
		return s.remote.DatasetConfirm(ctx, r.Partner, bfia.DatasetConfirmation{AuditID: r.AuditID,
			Status: bfia.RequestApproved, Permit: permit})
	}) {
		return false
	}
	if err := s.store.SetPermitDelivered(ctx, r, store.HashSecret(token)); err != nil {
		s.logger.Warn("failed to record that a partner has its permit; it gets another one if it asks",
			"audit_id", r.AuditID, "partner", r.Partner, "error", err)
	}
	return true
}

// notifyRequest sends a notice about a request to the partner, and reports whether it has arrived. The act
// itself does not depend on it.
func (s *Server) notifyRequest(ctx context.Context, r *store.GrantRequest, send func(context.Context) error,
) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), notifyTimeout)
	defer cancel()
	err := send(ctx)
	if err != nil {
		s.logger.Warn("failed to notify a partner of a request for a grant; it finds out when it asks",
			"audit_id", r.AuditID, "partner", r.Partner, "error", err)
	}
	return err == nil
}

// denyGrant rejects a partner's request.
func (s *Server) denyGrant(c *fiber.Ctx) error {
	r, changed, err := s.endRequest(c, bfia.RequestRejected, bfia.RequestApplied)
	if err != nil {
		return err
	}
	if changed {
		s.notifyRequest(c.UserContext(), r, func(ctx context.Context) error {
			return s.remote.DatasetConfirm(ctx, r.Partner, bfia.DatasetConfirmation{AuditID: r.AuditID,
				Status: bfia.RequestRejected})
		})
	}
	return ok(c, requestView(r))
}

// terminateGrant ends what was granted on a request, at either side (4.5), or withdraws a request.
func (s *Server) terminateGrant(c *fiber.Ctx) error {
	r, changed, err := s.endRequest(c, bfia.RequestTerminated, bfia.RequestApplied, bfia.RequestApproved)
	if err != nil {
		return err
	}
	s.notifyTermination(c.UserContext(), r, changed)
	return ok(c, requestView(r))
}

func (s *Server) notifyTermination(ctx context.Context, r *store.GrantRequest, changed bool) {
	if changed {
		s.notifyRequest(ctx, r, func(ctx context.Context) error {
			return s.remote.DatasetTerminate(ctx, r.Partner, r.AuditID)
		})
	}
}

// endRequest ends a request in the name of the caller.
func (s *Server) endRequest(c *fiber.Ctx, to bfia.RequestState,
	from ...bfia.RequestState) (*store.GrantRequest,
	bool, error) {
	var decision bfia.GrantDecision
	if err := s.readJSON(c, &decision); err != nil {
		return nil, false, err
	}
	ctx := c.UserContext()
	on(ctx, audit.Grant, decision.AuditID)
	r, err := s.findRequest(ctx, decision, to == bfia.RequestTerminated)
	if err != nil {
		return nil, false, err
	}
	r.DecidedBy = identity.From(ctx).Name
	changed, err := s.store.EndGrantRequest(ctx, r, to, from...)
	r.State = to
	return r, changed, err
}

// findRequest returns the request that a client names. Only some acts are for requests of this party.
func (s *Server) findRequest(ctx context.Context, d bfia.GrantDecision, sentToo bool) (*store.GrantRequest,
	error) {
	if err := bfia.CheckID("audit_id", d.AuditID); err != nil {
		return nil, err
	}
	found, err := s.store.FindGrantRequests(ctx, d.AuditID, d.Partner)
	if err != nil {
		return nil, err
	}
	var fitting []store.GrantRequest
	for _, r := range found {
		if sentToo || !r.Sent {
			fitting = append(fitting, r)
		}
	}
	switch {
	case len(fitting) == 1:
		return &fitting[0], nil
	case len(fitting) > 1:
		return nil, bfia.Errorf(bfia.CodeConflict,
			"partner: several requests have the id %s; name the partner",
			d.AuditID)
	case len(found) > 0:
		return nil, bfia.Errorf(bfia.CodeConflict,
			"audit_id: request %s is this party's own, on which %s decides",
			d.AuditID, found[0].Partner)
	}
	return nil, bfia.Errorf(bfia.CodeNotFound,
		"audit_id: there is no request %q; 'hutong grant requests' lists "+
			"them", d.AuditID)
}

// listGrantRequests lists the requests of both directions. It asks the partners for the states of those that
// this party has sent, for the case that a notice was lost.
func (s *Server) listGrantRequests(c *fiber.Ctx) error {
	if _, err := s.params(c); err != nil {
		return err
	}
	ctx := c.UserContext()
	all, err := s.store.GrantRequests(ctx)
	if err != nil {
		return err
	}
	asked := false
	var asking sync.WaitGroup
	for i := range all {
		r := &all[i]
		if r.Sent && (r.State == bfia.RequestApplied || r.State == bfia.RequestApproved) {
			asked = true
			asking.Go(func() { s.askState(ctx, r) })
		}
	}
	asking.Wait()
	if asked {
		if all, err = s.store.GrantRequests(ctx); err != nil {
			return err
		}
	}
	views := []bfia.GrantRequestView{}
	for i := range all {
		views = append(views, requestView(&all[i]))
	}
	return ok(c, views)
}

// askState asks a partner for the state of a request of this party (4.6). A partner of this software sends a
// permit that has not arrived again, before it answers.
func (s *Server) askState(ctx context.Context, r *store.GrantRequest) {
	s.notifyRequest(ctx, r, func(ctx context.Context) error {
		state, err := s.remote.DatasetQuery(ctx, r.Partner, r.AuditID)
		if err != nil {
			return err
		}
		if state == bfia.RequestRejected || state == bfia.RequestTerminated {
			_, err = s.store.EndGrantRequest(ctx, r, state, bfia.RequestApplied, bfia.RequestApproved)
		}
		return err
	})
}

func requestView(r *store.GrantRequest) bfia.GrantRequestView {
	return bfia.GrantRequestView{AuditID: r.AuditID, Partner: r.Partner, Sent: r.Sent, State: r.State,
		Dataset: r.Dataset, Components: r.Components, Until: r.Until, Times: r.Times,
		Permit: r.Delivered || r.Token != "", CreatedBy: r.CreatedBy, DecidedBy: r.DecidedBy,
		CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt}
}

// --- For partners (BFIA part 1, 4.3 to 4.6).

// receiveGrantRequest records a partner's request for a grant. It does not say whether the dataset exists.
func (s *Server) receiveGrantRequest(c *fiber.Ctx) error {
	var application bfia.DatasetApplication
	if err := s.readJSON(c, &application); err != nil {
		return err
	}
	ctx, partner := c.UserContext(), s.sender(c)
	on(ctx, audit.Grant, application.AuditID)
	if err := application.Check(partner, time.Now()); err != nil {
		return err
	}
	if p, err := s.store.Partner(ctx, partner); err == nil && p.Active() {
		if p.ContractID != application.ContractID {
			return bfia.Errorf(bfia.CodeNotFound, "contract_id: %s has no contract %.128q with this party",
				partner,
				application.ContractID)
		}
	} else if err != nil && bfia.CodeOf(err) != bfia.CodeNotFound {
		return err
	}
	if err := s.store.AddGrantRequest(ctx, store.GrantRequest{Partner: partner, AuditID: application.AuditID,
		Dataset: application.DatasetID, Components: application.Components(),
		Until: milliTime(application.TimeLimit), Times: application.TimesLimit,
		CreatedBy: partner}); err != nil {
		return err
	}
	s.logger.Info("a partner asks for a grant; decide with 'hutong grant approve' or 'hutong grant deny'",
		"audit_id", application.AuditID, "partner", partner, "dataset", application.DatasetID)
	return ok(c, nil)
}

// receiveGrantDecision records a partner's decision on a request of this party, with the permit.
func (s *Server) receiveGrantDecision(c *fiber.Ctx) error {
	var decision bfia.DatasetConfirmation
	if err := s.readJSON(c, &decision); err != nil {
		return err
	}
	ctx, partner := c.UserContext(), s.sender(c)
	on(ctx, audit.Grant, decision.AuditID)
	if err := bfia.CheckID("audit_id", decision.AuditID); err != nil {
		return err
	}
	r, err := s.store.GrantRequest(ctx, partner, decision.AuditID, true)
	if err != nil {
		return unknownRequest(err, partner, decision.AuditID)
	}
	if err := decision.Check(partner, s.Node, r.Dataset); err != nil {
		return err
	}
	r.DecidedBy = partner
	if decision.Status == bfia.RequestRejected {
		_, err = s.store.EndGrantRequest(ctx, r, bfia.RequestRejected, bfia.RequestApplied)
	} else {
		err = s.store.ReceivePermit(ctx, r, decision.Permit.Permit(), milliTime(decision.Permit.TimeLimit),
			decision.Permit.TimesLimit)
	}
	if err != nil {
		return err
	}
	s.logger.Info("a partner has decided on a request for a grant", "audit_id", r.AuditID, "partner", partner,
		"dataset", r.Dataset, "state", decision.Status)
	return ok(c, nil)
}

// receiveGrantTermination records that a partner has ended a request: its own, or one of this party.
func (s *Server) receiveGrantTermination(c *fiber.Ctx) error {
	var ref bfia.DatasetRequestRef
	if err := s.readJSON(c, &ref); err != nil {
		return err
	}
	ctx, partner := c.UserContext(), s.sender(c)
	on(ctx, audit.Grant, ref.AuditID)
	if err := bfia.CheckID("audit_id", ref.AuditID); err != nil {
		return err
	}
	r, err := s.store.GrantRequest(ctx, partner, ref.AuditID, true)
	if bfia.CodeOf(err) == bfia.CodeNotFound {
		r, err = s.store.GrantRequest(ctx, partner, ref.AuditID, false)
	}
	if err != nil {
		return unknownRequest(err, partner, ref.AuditID)
	}
	r.DecidedBy = partner
	if _, err := s.store.EndGrantRequest(ctx, r, bfia.RequestTerminated, bfia.RequestApplied,
		bfia.RequestApproved); err != nil {
		return err
	}
	s.logger.Info("a partner has ended a request for a grant", "audit_id", r.AuditID, "partner", partner,
		"dataset", r.Dataset, "sent", r.Sent)
	return ok(c, nil)
}

// grantRequestState returns the state of a partner's request to it. If the permit of an approved one has not
// arrived, it sends another one first: only the hash of the earlier one is stored.
func (s *Server) grantRequestState(c *fiber.Ctx) error {
	get, err := s.params(c)
	if err != nil {
		return err
	}
	ctx, partner, id := c.UserContext(), s.sender(c), get("audit_id")
	if err := bfia.CheckID("audit_id", id); err != nil {
		return err
	}
	r, err := s.store.GrantRequest(ctx, partner, id, false)
	if err != nil {
		return unknownRequest(err, partner, id)
	}
	if r.State == bfia.RequestApproved && !r.Delivered {
		token := newPermitToken()
		if err := s.store.RenewPermit(ctx, r, store.HashSecret(token)); err != nil {
			return err
		}
		s.deliverPermit(ctx, r, token)
	}
	return ok(c, bfia.DatasetRequestStatus{Status: r.State})
}

// unknownRequest says of a request that is not the partner's what it says of one that does not exist.
func unknownRequest(err error, partner, auditID string) error {
	if bfia.CodeOf(err) == bfia.CodeNotFound {
		return bfia.Errorf(bfia.CodeNotFound, "audit_id: there is no request %s with %s", auditID, partner)
	}
	return err
}

// milliTime returns the time of Unix milliseconds, or nil for 0.
func milliTime(ms int64) *time.Time {
	if ms == 0 {
		return nil
	}
	t := time.UnixMilli(ms).UTC()
	return &t
}
