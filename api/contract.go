package api

import (
	"context"
	"crypto/rand"
	"errors"
	"net/url"
	"slices"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/google/uuid"

	"hutong/bfia"
	"hutong/bfia/client"
	"hutong/internal/audit"
	"hutong/internal/certs"
	"hutong/internal/identity"
	"hutong/store"
)

// Contracts connects the contracts of the database with the party's certificates and connections.
type Contracts interface {
	// Self returns what partners get to know of this party, with its certificate. The error names the fields
	// of the configuration that a contract needs.
	Self() (bfia.ContractApplication, error)
	// Client returns a client of a node at a URL, which must prove to have a key. The node need not be a
	// partner.
	Client(node, url string, keys []certs.Pin) (*client.Client, error)
	// Refresh makes the directory of partners equal to the contracts, in this process now. Connections of
	// removed partners are closed.
	Refresh(ctx context.Context) error
	// Configured returns the partners of the configuration.
	Configured() []bfia.PartnerView
}

const (
	inviteDays    = 7
	maxInviteDays = 90
	// notifyTimeout limits the notice to a partner. The act itself does not depend on it.
	notifyTimeout = 10 * time.Second
)

// contracts returns the party's contracts, unless this process has none.
func (s *Server) openContracts() (Contracts, error) {
	if s.contracts == nil {
		return nil, bfia.Errorf(
			bfia.CodeConflict,
			"this process does not serve contracts with partners",
		)
	}
	return s.contracts, nil
}

// --- For administrators of this party.

// invitePartner makes an invitation, with which another institution can apply for a contract.
func (s *Server) invitePartner(c *fiber.Ctx) error {
	var request bfia.PartnerInvite
	if err := s.readJSON(c, &request); err != nil {
		return err
	}
	if err := bfia.CheckID("node_id", request.NodeID); err != nil {
		return err
	}
	on(c.UserContext(), audit.Partner, request.NodeID)
	if request.Days == 0 {
		request.Days = inviteDays
	}
	if request.NodeID == s.Node || request.Days < 0 || request.Days > maxInviteDays {
		return bfia.Errorf(
			bfia.CodeBadRequest,
			"node_id must be another party, and days from 1 to %d",
			maxInviteDays,
		)
	}
	contracts, self, err := s.ownContract()
	if err != nil {
		return err
	}
	if err := s.checkNotConfigured(request.NodeID); err != nil {
		return err
	}
	pin, err := pinOf(self.AuthCredential)
	if err != nil {
		return err
	}
	until := time.Now().Add(time.Duration(request.Days) * 24 * time.Hour).UTC().Truncate(time.Second)
	invitation := bfia.Invitation{Node: s.Node, Invited: request.NodeID, Address: self.Address,
		TransportAddress: self.TransportAddress, Fingerprint: pin.Hex(), Secret: rand.Text(), Until: until}
	if err := s.store.PutPartner(c.UserContext(), store.Partner{NodeID: request.NodeID,
		ContractID: uuid.NewString(), State: bfia.ContractInvited,
		SecretSHA256: store.HashSecret(invitation.Secret), InvitedUntil: &until}); err != nil {
		return err
	}
	if err := contracts.Refresh(c.UserContext()); err != nil {
		return err
	}
	return ok(
		c,
		bfia.PartnerInvited{Invitation: invitation.Encode(), Fingerprint: pin.String(), Until: until},
	)
}

// applyToPartner accepts the invitation of another party: it applies there for the contract, and trusts the
// party's key from now on.
func (s *Server) applyToPartner(c *fiber.Ctx) error {
	var request bfia.PartnerAccept
	if err := s.readJSON(c, &request); err != nil {
		return err
	}
	invitation, err := bfia.ParseInvitation(request.Invitation)
	if err != nil {
		return err
	}
	on(c.UserContext(), audit.Partner, invitation.Node)
	compared, err := certs.ParsePin(request.Fingerprint)
	if err != nil {
		return bfia.Errorf(bfia.CodeBadRequest, "fingerprint: %v", err)
	}
	invited, err := certs.ParsePin(invitation.Fingerprint)
	switch {
	case err != nil || !compared.Equal(invited):
		return bfia.Errorf(
			bfia.CodeForbidden,
			"fingerprint: differs from the one in the invitation: do not accept "+
				"it; somebody may have changed it on its way",
		)
	case invitation.Invited != s.Node:
		return bfia.Errorf(
			bfia.CodeBadRequest,
			"invitation: is for node %s, but this is %s",
			invitation.Invited,
			s.Node,
		)
	case time.Now().After(invitation.Until):
		return bfia.Errorf(bfia.CodeBadRequest, "invitation: has expired on %s: ask %s for another one",
			invitation.Until.Format(time.DateOnly), invitation.Node)
	}
	if err := checkAddress("invitation: address", invitation.Address); err != nil {
		return err
	}
	if err := s.checkNotConfigured(invitation.Node); err != nil {
		return err
	}
	contracts, self, err := s.ownContract()
	if err != nil {
		return err
	}
	self.Invitation = invitation.Secret
	remote, err := contracts.Client(invitation.Node, invitation.Address, []certs.Pin{invited})
	if err != nil {
		return err
	}
	if err := s.recordAct(c.UserContext()); err != nil {
		return err
	}
	id, err := remote.ContractApply(c.UserContext(), invitation.Node, self)
	if err != nil {
		return remoteError(err)
	}
	if err := bfia.CheckID("contract_id", id); err != nil {
		return bfia.Errorf(
			bfia.CodeRefused,
			"%s answered without a valid contract: %v",
			invitation.Node,
			err,
		)
	}
	if err := s.store.PutPartner(c.UserContext(), store.Partner{NodeID: invitation.Node, ContractID: id,
		State: bfia.ContractApplied, AppliedHere: true, Address: invitation.Address,
		TransportAddress: invitation.TransportAddress, Pins: []string{invited.Hex()}}); err != nil {
		return err
	}
	if err := contracts.Refresh(c.UserContext()); err != nil {
		return err
	}
	return ok(c, bfia.PartnerRef{NodeID: invitation.Node})
}

// acceptPartner accepts the application of a node.
func (s *Server) acceptPartner(c *fiber.Ctx) error {
	var request bfia.PartnerAccept
	if err := s.readJSON(c, &request); err != nil {
		return err
	}
	on(c.UserContext(), audit.Partner, request.NodeID)
	p, err := s.store.Partner(c.UserContext(), request.NodeID)
	if err != nil {
		return err
	}
	if p.AppliedHere || p.State != bfia.ContractApplied && p.State != bfia.ContractApproved {
		return bfia.Errorf(bfia.CodeConflict, "%s has not applied: its contract is %s", p.NodeID, p.State)
	}
	compared, err := certs.ParsePin(request.Fingerprint)
	if err != nil {
		return bfia.Errorf(bfia.CodeBadRequest, "fingerprint: %v", err)
	}
	if !slices.Contains(p.Pins, compared.Hex()) {
		return bfia.Errorf(
			bfia.CodeForbidden,
			"fingerprint: is not the one of the application of %s: do not accept it",
			p.NodeID,
		)
	}
	contracts, self, err := s.ownContract()
	if err != nil {
		return err
	}
	if _, err := s.store.SetPartnerState(c.UserContext(), p.NodeID, bfia.ContractApproved,
		bfia.ContractApplied); err != nil {
		return err
	}
	if err := contracts.Refresh(c.UserContext()); err != nil {
		return err
	}
	s.notify(c.UserContext(), contracts, p, func(ctx context.Context, remote *client.Client) error {
		return remote.ContractConfirm(ctx, p.NodeID, bfia.ContractConfirmation{ContractID: p.ContractID,
			Status: bfia.ContractApproved, AuthType: self.AuthType, AuthCredential: self.AuthCredential,
			ExpiredTime: milliseconds(p.ExpiresAt)})
	})
	return ok(c, bfia.PartnerRef{NodeID: p.NodeID})
}

// removePartner ends the contract with a node, rejects its application, or withdraws an invitation. The
// node's connections to this process are closed before the answer, those to others within seconds.
func (s *Server) removePartner(c *fiber.Ctx) error {
	var request bfia.PartnerRef
	if err := s.readJSON(c, &request); err != nil {
		return err
	}
	on(c.UserContext(), audit.Partner, request.NodeID)
	if err := s.checkNotConfigured(request.NodeID); err != nil {
		return err
	}
	contracts, err := s.openContracts()
	if err != nil {
		return err
	}
	p, err := s.store.Partner(c.UserContext(), request.NodeID)
	if err != nil {
		return err
	}
	rejected := p.State == bfia.ContractApplied && !p.AppliedHere
	to := bfia.ContractTerminated
	if rejected {
		to = bfia.ContractRejected
	}
	changed, err := s.store.SetPartnerState(c.UserContext(), p.NodeID, to, bfia.ContractInvited,
		bfia.ContractApplied, bfia.ContractApproved)
	if err != nil {
		return err
	}
	if err := contracts.Refresh(c.UserContext()); err != nil {
		return err
	}
	if changed && p.State != bfia.ContractInvited {
		s.notify(c.UserContext(), contracts, p, func(ctx context.Context, remote *client.Client) error {
			if rejected {
				return remote.ContractConfirm(
					ctx,
					p.NodeID,
					bfia.ContractConfirmation{ContractID: p.ContractID,
						Status: bfia.ContractRejected},
				)
			}
			return remote.ContractTerminate(ctx, p.NodeID, p.ContractID)
		})
	}
	return ok(c, bfia.PartnerRef{NodeID: p.NodeID})
}

// notify sends a notice to the other side of a contract. If it does not arrive, the other side finds out when
// it asks.
func (s *Server) notify(ctx context.Context, contracts Contracts, p *store.Partner,
	send func(context.Context, *client.Client) error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), notifyTimeout)
	defer cancel()
	remote, err := contracts.Client(p.NodeID, p.Address, parsePins(p.Pins))
	if err == nil {
		err = send(ctx, remote)
	}
	if err != nil {
		s.logger.Warn(
			"failed to notify a partner of its contract; it finds out when it asks",
			"partner",
			p.NodeID,
			"error",
			err,
		)
	}
}

// listPartners lists the partners of the configuration and all contracts. It asks the nodes to which this
// party has applied for the state of the application.
func (s *Server) listPartners(c *fiber.Ctx) error {
	if _, err := s.params(c); err != nil {
		return err
	}
	views := []bfia.PartnerView{}
	if s.contracts != nil {
		views = append(views, s.contracts.Configured()...)
		if err := s.askApplications(c.UserContext()); err != nil {
			return err
		}
	}
	all, err := s.store.Partners(c.UserContext())
	if err != nil {
		return err
	}
	for _, p := range all {
		views = append(views, viewOf(p))
	}
	return ok(c, views)
}

// askApplications asks for the states of this party's applications, for the case that a notice was lost.
func (s *Server) askApplications(ctx context.Context) error {
	all, err := s.store.Partners(ctx)
	if err != nil {
		return err
	}
	for _, p := range all {
		if !p.AppliedHere || p.State != bfia.ContractApplied {
			continue
		}
		s.notify(ctx, s.contracts, &p, func(ctx context.Context, remote *client.Client) error {
			state, err := remote.ContractQuery(ctx, p.NodeID, p.ContractID)
			if err != nil ||
				!slices.Contains([]bfia.ContractState{bfia.ContractApproved, bfia.ContractRejected,
					bfia.ContractTerminated}, state) {
				return err
			}
			if _, err = s.store.SetPartnerState(ctx, p.NodeID, state, bfia.ContractApplied); err != nil {
				return err
			}
			return s.contracts.Refresh(ctx)
		})
	}
	return nil
}

func viewOf(p store.Partner) bfia.PartnerView {
	v := bfia.PartnerView{NodeID: p.NodeID, Source: "contract", State: p.State, ContractID: p.ContractID,
		Auth: "mtls", Address: p.Address, TransportAddress: p.TransportAddress, Name: p.Name,
		Institution: p.Institution, System: p.System, ContractEnd: p.ExpiresAt, UpdatedAt: &p.UpdatedAt}
	if p.State != bfia.ContractInvited {
		v.Applied = "partner"
	}
	if p.AppliedHere {
		v.Applied = "self"
	}
	if pins := parsePins(p.Pins); len(pins) > 0 {
		v.Fingerprint = pins[0].String()
	}
	if found, err := certs.ParseCertificates([]byte(p.Credential)); err == nil {
		v.CertificateEnd = &found[0].NotAfter
	}
	return v
}

// --- For other nodes (BFIA part 1, section 3).

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

// --- Helpers.

func (s *Server) ownContract() (Contracts, bfia.ContractApplication, error) {
	contracts, err := s.openContracts()
	if err != nil {
		return nil, bfia.ContractApplication{}, err
	}
	self, err := contracts.Self()
	return contracts, self, err
}

// checkNotConfigured refuses a contract with a partner of the configuration, which has precedence.
func (s *Server) checkNotConfigured(node string) error {
	if s.contracts == nil {
		return nil
	}
	for _, p := range s.contracts.Configured() {
		if p.NodeID == node {
			return bfia.Errorf(
				bfia.CodeConflict,
				"%s is a partner of the configuration: change routes.%s there",
				node,
				node,
			)
		}
	}
	return nil
}

func pinOf(credential string) (certs.Pin, error) {
	found, err := certs.ParseCertificates([]byte(credential))
	if err != nil {
		return certs.Pin{}, bfia.Errorf(bfia.CodeBadRequest, "auth_credential: %v", err)
	}
	return certs.PinOf(found[0]), nil
}

func parsePins(texts []string) []certs.Pin {
	var pins []certs.Pin
	for _, text := range texts {
		if pin, err := certs.ParsePin(text); err == nil {
			pins = append(pins, pin)
		}
	}
	return pins
}

func checkAddress(field, address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" ||
		u.Fragment != "" ||
		len(address) > 512 {
		return bfia.Errorf(
			bfia.CodeBadRequest,
			"%s: must be https://host:port, but is %.100q",
			field,
			address,
		)
	}
	return nil
}

func milliseconds(t *time.Time) int64 {
	if t == nil {
		return 0
	}
	return t.UnixMilli()
}

// remoteError returns the error of a request to another node as one for this party's client.
func remoteError(err error) error {
	var failed *client.Error
	if !errors.As(err, &failed) {
		return err
	}
	if failed.Outcome == client.Refused {
		return bfia.Wrap(bfia.CodeRefused, err, "%v", failed)
	}
	return bfia.Wrap(bfia.CodePartnerDown, err, "%v", failed)
}
