package api

import (
	"context"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"

	"hutong/bfia"
	"hutong/internal/audit"
	"hutong/internal/certs"
	"hutong/store"
)

// updatePartners reports this party's addresses and certificate to one partner by contract, or to all. The
// present key proves the report, also that of the next key.
func (s *Server) updatePartners(c *fiber.Ctx) error {
	var request bfia.PartnerUpdate
	if err := s.readJSON(c, &request); err != nil {
		return err
	}
	contracts, self, err := s.ownContract()
	if err != nil {
		return err
	}
	if request.NextCertificate != "" {
		if self.AuthCredential, err = nextCertificate(request.NextCertificate, time.Now()); err != nil {
			return err
		}
	}
	receivers, err := s.updateReceivers(c.UserContext(), request.NodeID)
	if err != nil {
		return err
	}

	// Each report is an act. All are in the trail before the first one is sent.
	for _, p := range receivers {
		ctx := s.eachAct(c)
		on(ctx, audit.Partner, p.NodeID)
		if err := s.recordAct(ctx); err != nil {
			return err
		}
	}
	results := make([]bfia.PartnerUpdated, len(receivers))
	var sending sync.WaitGroup
	for i, p := range receivers {
		sending.Go(func() {
			results[i].NodeID = p.NodeID
			if err := sendUpdate(c.UserContext(), contracts, p, self); err != nil {
				results[i].Failure = cut(bfia.MessageOf(remoteError(err)))
				s.logger.Warn("failed to report this party to a partner", "partner", p.NodeID, "error", err)
			}
		})
	}
	sending.Wait()
	return ok(c, results)
}

// updateReceivers returns the partner by contract with a node id, or all if it is empty.
func (s *Server) updateReceivers(ctx context.Context, nodeID string) ([]store.Partner, error) {
	if nodeID == "" {
		all, err := s.store.Partners(ctx)
		if err != nil {
			return nil, err
		}
		receivers := []store.Partner{}
		for _, p := range all {
			if p.State == bfia.ContractApproved {
				receivers = append(receivers, p)
			}
		}
		return receivers, nil
	}
	if err := s.checkNotConfigured(nodeID); err != nil {
		return nil, err
	}
	p, err := s.store.Partner(ctx, nodeID)
	if err != nil {
		return nil, err
	}
	if p.State != bfia.ContractApproved {
		return nil, bfia.Errorf(bfia.CodeConflict, "node_id: the contract with %s is %s: only approved ones "+
			"can be updated", nodeID, p.State)
	}
	return []store.Partner{*p}, nil
}

func sendUpdate(ctx context.Context, contracts Contracts, p store.Partner,
	self bfia.ContractApplication) error {
	ctx, cancel := context.WithTimeout(ctx, notifyTimeout)
	defer cancel()
	self.ContractID = p.ContractID
	remote, err := contracts.Client(p.NodeID, p.Address, parsePins(p.Pins))
	if err != nil {
		return err
	}
	return remote.NodeUpdate(ctx, p.NodeID, self)
}

// nextCertificate returns the certificate that a party will use next, in PEM form without anything else.
func nextCertificate(text string, now time.Time) (string, error) {
	found, err := certs.ParseCertificates([]byte(text))
	if err != nil {
		return "", bfia.Errorf(bfia.CodeBadRequest, "next_certificate: %v", err)
	}
	if !now.Before(found[0].NotAfter) {
		return "", bfia.Errorf(bfia.CodeBadRequest, "next_certificate: has expired on %s",
			found[0].NotAfter.Format(time.DateOnly))
	}
	return string(certs.EncodeCertificate(found[0])), nil
}
