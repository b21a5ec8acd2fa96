package api

import (
	"slices"
	"time"

	"github.com/gofiber/fiber/v2"

	"hutong/bfia"
	"hutong/internal/audit"
	"hutong/internal/identity"
	"hutong/store"
)

// receiveApplication records the application of an invited node. The node has proved on the connection that
// it has the key of the certificate that it hands over.
func (s *Server) receiveApplication(c *fiber.Ctx) error {
	var application bfia.ContractApplication
	if err := s.readJSON(c, &application); err != nil {
		return err
	}
	if err := bfia.CheckID("node_id", application.NodeID); err != nil {
		return err
	}
	p, err := partnerOf(application)
	if err != nil {
		return err
	}
	caller := identity.From(c.UserContext())
	switch {
	case caller.Kind == identity.KindPartner:
		return bfia.Errorf(bfia.CodeConflict, "%s is a partner already", caller.Node)
	case application.NodeID == s.Node:
		return bfia.Errorf(bfia.CodeBadRequest, "node_id: %s is this party's own", s.Node)
	case caller.Credential != p.Pins[0]:
		return bfia.Errorf(
			bfia.CodeForbidden,
			"auth_credential: is not the certificate of the connection",
		)
	}
	p.NodeID, p.State = application.NodeID, bfia.ContractApplied
	on(c.UserContext(), audit.Partner, p.NodeID)
	stored, err := s.store.ApplyPartner(c.UserContext(), p, application.Invitation)
	if err != nil {
		return err
	}
	s.logger.Info(
		"a node has applied for a contract; compare its fingerprint by telephone, then accept it with "+
			"`hutong partner accept`",
		"partner",
		stored.NodeID,
		"fingerprint",
		p.Pins[0],
	)
	return ok(c, bfia.ContractRef{ContractID: stored.ContractID})
}

// partnerOf returns what a node reports of itself, with the pin of its certificate.
func partnerOf(a bfia.ContractApplication) (store.Partner, error) {
	if a.AuthType != bfia.AuthTypeCert {
		return store.Partner{}, bfia.Errorf(bfia.CodeBadRequest, "auth_type: must be %s, but is %.100q",
			bfia.AuthTypeCert, a.AuthType)
	}
	pin, err := pinOf(a.AuthCredential)
	if err != nil {
		return store.Partner{}, err
	}
	if err := checkAddress("address", a.Address); err != nil {
		return store.Partner{}, err
	}
	if a.TransportAddress != "" {
		if err := checkAddress("transport_address", a.TransportAddress); err != nil {
			return store.Partner{}, err
		}
	}
	p := store.Partner{
		Address:          a.Address,
		TransportAddress: a.TransportAddress,
		Credential:       a.AuthCredential,
		Pins: []string{
			pin.Hex(),
		},
		Name:          a.Name,
		Institution:   a.Institution,
		InstID:        a.InstID,
		System:        a.System,
		SystemVersion: a.SystemVersion,
		Description:   a.Description,
	}
	for field, text := range map[string]string{"name": a.Name, "institution": a.Institution,
		"inst_id": a.InstID, "system": a.System, "system_version": a.SystemVersion,
		"description": a.Description} {
		if len(text) > store.MaxReason {
			return p, bfia.Errorf(
				bfia.CodeTooLarge,
				"%s: is longer than %d bytes",
				field,
				store.MaxReason,
			)
		}
	}
	if a.ExpiredTime > 0 {
		end := time.UnixMilli(a.ExpiredTime)
		p.ExpiresAt = &end
	}
	return p, nil
}

// contractWith returns the contract of the calling partner, if the request names it.
func (s *Server) contractWith(c *fiber.Ctx, contractID string) (*store.Partner, error) {
	caller := identity.From(c.UserContext())
	on(c.UserContext(), audit.Partner, caller.Node)
	p, err := s.store.Partner(c.UserContext(), caller.Node)
	if bfia.CodeOf(err) == bfia.CodeNotFound || err == nil && p.ContractID != contractID {
		return nil, bfia.Errorf(
			bfia.CodeNotFound,
			"contract_id: %s has no contract %.128q with this party",
			caller.Node,
			contractID,
		)
	}
	return p, err
}

// receiveConfirmation records that a node has accepted or rejected this party's application.
func (s *Server) receiveConfirmation(c *fiber.Ctx) error {
	var confirmation bfia.ContractConfirmation
	if err := s.readJSON(c, &confirmation); err != nil {
		return err
	}
	p, err := s.contractWith(c, confirmation.ContractID)
	if err != nil {
		return err
	}
	if !p.AppliedHere {
		return bfia.Errorf(bfia.CodeConflict, "this party has not applied to %s", p.NodeID)
	}
	switch confirmation.Status {
	case bfia.ContractApproved, bfia.ContractRejected:
	default:
		return bfia.Errorf(bfia.CodeBadRequest, "status: must be APPROVED or REJECTED, but is %.100q",
			string(confirmation.Status))
	}
	if _, err := s.store.SetPartnerState(c.UserContext(), p.NodeID, confirmation.Status,
		bfia.ContractApplied); err != nil {
		return err
	}
	return ok(c, nil)
}

// receiveTermination records that a partner has ended the contract. Its connections end with the next look at
// the database, after this answer.
func (s *Server) receiveTermination(c *fiber.Ctx) error {
	var ref bfia.ContractRef
	if err := s.readJSON(c, &ref); err != nil {
		return err
	}
	p, err := s.contractWith(c, ref.ContractID)
	if err != nil {
		return err
	}
	if _, err := s.store.SetPartnerState(c.UserContext(), p.NodeID, bfia.ContractTerminated,
		bfia.ContractApplied, bfia.ContractApproved); err != nil {
		return err
	}
	s.logger.Warn("a partner has ended the contract", "partner", p.NodeID)
	return ok(c, nil)
}

// receiveUpdate records changes that a partner reports of itself, and its next key. The key that has proved
// the report stays valid: the partner has to take the new one into use. A report with the new key ends the
// one of before. A report in between, which still names the one of before, changes neither.
func (s *Server) receiveUpdate(c *fiber.Ctx) error {
	var update bfia.ContractApplication
	if err := s.readJSON(c, &update); err != nil {
		return err
	}
	before, err := s.contractWith(c, update.ContractID)
	if err != nil {
		return err
	}
	p, err := partnerOf(update)
	if err != nil {
		return err
	}
	p.NodeID, p.ContractID = before.NodeID, before.ContractID
	reported, used := p.Pins[0], identity.From(c.UserContext()).Credential
	switch {
	case !slices.Contains(before.Pins, reported):
		p.Pins = append(p.Pins, used)
	case reported != before.Pins[0]:
		p.Pins, p.Credential = before.Pins, before.Credential
	case used != reported:
		p.Pins = before.Pins
	}
	contracts, err := s.openContracts()
	if err != nil {
		return err
	}
	if err := s.recordAct(c.UserContext()); err != nil {
		return err
	}
	if err := s.store.UpdatePartner(c.UserContext(), p); err != nil {
		return err
	}
	if err := contracts.Refresh(c.UserContext()); err != nil {
		return err
	}
	s.logger.Info("a partner has reported a change of itself", "partner", p.NodeID, "address", p.Address,
		"fingerprint", reported, "new_key", !slices.Contains(before.Pins, reported))
	return ok(c, nil)
}

// contractState returns the state of a contract to the node that has applied for it.
func (s *Server) contractState(c *fiber.Ctx) error {
	get, err := s.params(c)
	if err != nil {
		return err
	}
	all, err := s.store.Partners(c.UserContext())
	if err != nil {
		return err
	}
	id, caller := get("contract_id"), identity.From(c.UserContext())
	for _, p := range all {
		if p.ContractID == id && id != "" &&
			(caller.Node == p.NodeID || caller.Kind == "" && slices.Contains(p.Pins, caller.Credential)) {
			return ok(c, bfia.ContractStatus{Status: p.State})
		}
	}
	return bfia.Errorf(
		bfia.CodeNotFound,
		"contract_id: the caller has no contract %.128q with this party",
		id,
	)
}

// describeNode returns what other nodes may know of this party.
func (s *Server) describeNode(c *fiber.Ctx) error {
	get, err := s.params(c)
	if err != nil {
		return err
	}
	if node := get("node_id"); node != "" && node != s.Node {
		return bfia.Errorf(bfia.CodeNotFound, "node_id: this is %s", s.Node)
	}
	_, self, err := s.ownContract()
	if err != nil {
		return err
	}
	return ok(c, self.Node)
}

// nodeHealth answers a health check.
func (s *Server) nodeHealth(c *fiber.Ctx) error {
	if _, err := s.params(c); err != nil {
		return err
	}
	return ok(c, bfia.NodeHealth{Status: "ok"})
}
