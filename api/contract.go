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
	pin, err := pinOf(self.AuthCredential)
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
	return ok(c, bfia.PartnerApplied{NodeID: invitation.Node, Fingerprint: pin.String()})
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
