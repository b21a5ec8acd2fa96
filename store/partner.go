package store

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"hutong/bfia"
)

// Partner is a contract with another party, or an invitation to one.
type Partner struct {
	bun.BaseModel `bun:"table:t_partner,alias:p"`

	NodeID     string             `bun:"node_id,pk"`
	ContractID string             `bun:"contract_id"`
	State      bfia.ContractState `bun:"state"`
	// AppliedHere: this party has applied, and trusts the partner's key already.
	AppliedHere      bool   `bun:"applied_here"`
	Address          string `bun:"address"`
	TransportAddress string `bun:"transport_address"`
	// Credential is the partner's certificate in PEM form; "" while only its key is known.
	Credential string `bun:"credential"`
	// Pins are the SHA-256 of the keys that prove the partner, in hexadecimal.
	Pins          []string   `bun:"-"`
	PinsText      string     `bun:"pins"`
	Name          string     `bun:"name"`
	Institution   string     `bun:"institution"`
	InstID        string     `bun:"inst_id"`
	System        string     `bun:"system"`
	SystemVersion string     `bun:"system_version"`
	Description   string     `bun:"description"`
	SecretSHA256  string     `bun:"secret_sha256"`
	InvitedUntil  *time.Time `bun:"invited_until"`
	ExpiresAt     *time.Time `bun:"expires_at"`
	UpdatedAt     time.Time  `bun:"updated_at"`
}

var _ bun.AfterScanRowHook = (*Partner)(nil)

// AfterScanRow normalizes the times and reads the pins.
func (p *Partner) AfterScanRow(context.Context) error {
	normalizeTimes(&p.UpdatedAt, p.InvitedUntil, p.ExpiresAt)
	p.Pins = strings.Fields(p.PinsText)
	return nil
}

// Active reports whether the other party is a partner now: both have agreed, or this party has applied.
func (p *Partner) Active() bool {
	return p.State == bfia.ContractApproved || p.State == bfia.ContractApplied && p.AppliedHere
}

// Pending reports whether the other party may have to apply, or to ask for the state of its application.
func (p *Partner) Pending(now time.Time) bool {
	return !p.AppliedHere && (p.State == bfia.ContractApplied ||
		p.State == bfia.ContractInvited && p.InvitedUntil != nil && now.Before(*p.InvitedUntil))
}

// HashSecret returns the hash of an invitation's secret.
func HashSecret(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// Partners returns all contracts and invitations, by node id.
func (s *Store) Partners(ctx context.Context) ([]Partner, error) {
	var partners []Partner
	err := s.r.NewSelect().Model(&partners).Order("node_id").Scan(ctx)
	return partners, wrap(err, "list partners")
}

// Partner returns the contract with a node, or CodeNotFound.
func (s *Store) Partner(ctx context.Context, nodeID string) (*Partner, error) {
	var p Partner
	err := selectOne(ctx, s.r.NewSelect().Where("node_id = ?", nodeID), &p, "partner %q", nodeID)
	return &p, err
}

// PutPartner records an invitation, or this party's own application, in place of an earlier contract with the
// node. An active contract is a CodeConflict: it must be removed first.
func (s *Store) PutPartner(ctx context.Context, p Partner) error {
	if err := p.normalize(); err != nil {
		return err
	}
	return wrap(s.actTx(ctx, func(ctx context.Context, tx bun.Tx) error {
		var before Partner
		err := selectOne(ctx, tx.NewSelect().Where("node_id = ?", p.NodeID), &before, "partner %q", p.NodeID)
		if err == nil && before.Active() {
			return bfia.Errorf(
				bfia.CodeConflict,
				"%s is a partner already: remove it first with `hutong partner "+
					"remove %s`",
				p.NodeID,
				p.NodeID,
			)
		}
		if err != nil && bfia.CodeOf(err) != bfia.CodeNotFound {
			return err
		}
		if _, err := tx.NewDelete().Model((*Partner)(nil)).Where("node_id = ?", p.NodeID).
			Exec(ctx); err != nil {
			return err
		}
		_, err = tx.NewInsert().Model(&p).Exec(ctx)
		return err
	}), "record partner %s", p.NodeID)
}

func (p *Partner) normalize() error {
	if err := checkText("node_id", p.NodeID, "contract_id", p.ContractID, "address", p.Address,
		"transport_address", p.TransportAddress, "auth_credential", p.Credential, "name", p.Name,
		"institution", p.Institution, "inst_id", p.InstID, "system", p.System, "system_version",
		p.SystemVersion, "description", p.Description); err != nil {
		return err
	}
	p.PinsText = strings.Join(p.Pins, " ")
	p.UpdatedAt = normalizeTime(time.Now())
	normalizeTimes(p.InvitedUntil, p.ExpiresAt)
	return nil
}

// ApplyPartner records the application of an invited node, and returns its contract. secret is that of the
// invitation. The same application may come again; another key, a wrong secret, or no invitation is
// CodeForbidden, always with the same message.
func (s *Store) ApplyPartner(ctx context.Context, application Partner, secret string) (*Partner, error) {
	refused := bfia.Errorf(
		bfia.CodeForbidden,
		"node %s has no open invitation with this secret: ask this party's "+
			"operator for one",
		application.NodeID,
	)
	if err := application.normalize(); err != nil {
		return nil, err
	}
	var stored Partner
	err := s.actTx(ctx, func(ctx context.Context, tx bun.Tx) error {
		err := selectOne(ctx, tx.NewSelect().Where("node_id = ?", application.NodeID), &stored, "partner %q",
			application.NodeID)
		if bfia.CodeOf(err) == bfia.CodeNotFound {
			return refused
		}
		if err != nil {
			return err
		}
		if subtle.ConstantTimeCompare([]byte(stored.SecretSHA256), []byte(HashSecret(secret))) != 1 ||
			!stored.Pending(time.Now()) {
			return refused
		}
		if stored.State == bfia.ContractApplied {
			if stored.PinsText != application.PinsText {
				return refused
			}
			return nil // the same application again
		}
		application.ContractID, application.AppliedHere = stored.ContractID, false
		application.State, application.SecretSHA256 = bfia.ContractApplied, stored.SecretSHA256
		application.InvitedUntil = stored.InvitedUntil
		stored = application
		_, err = tx.NewUpdate().Model(&stored).WherePK().Exec(ctx)
		return err
	})
	return &stored, wrap(err, "record the application of %s", application.NodeID)
}

// SetPartnerState moves the contract with a node from one of some states to another. changed is false if it
// has this state already. Any other state is a CodeConflict.
func (s *Store) SetPartnerState(ctx context.Context, nodeID string, to bfia.ContractState,
	from ...bfia.ContractState) (changed bool, err error) {
	var n int
	err = s.actTx(ctx, func(ctx context.Context, tx bun.Tx) error {
		n, err = affected(tx.NewUpdate().Model((*Partner)(nil)).Set("state = ?", to).
			Set("updated_at = ?", normalizeTime(time.Now())).
			Where("node_id = ? AND state IN (?)", nodeID, bun.List(from)).Exec(ctx))
		return err
	})
	if err != nil || n == 1 {
		return n == 1, wrap(err, "change the contract with %s", nodeID)
	}
	p, err := s.Partner(ctx, nodeID)
	if err != nil {
		return false, err
	}
	if p.State != to {
		return false, bfia.Errorf(
			bfia.CodeConflict,
			"the contract with %s is %s: it can't become %s",
			nodeID,
			p.State,
			to,
		)
	}
	return false, nil
}

// UpdatePartner replaces what an active partner has reported of itself, and its keys.
func (s *Store) UpdatePartner(ctx context.Context, p Partner) error {
	if err := p.normalize(); err != nil {
		return err
	}
	n, err := affected(s.w.NewUpdate().Model(&p).
		Column("address", "transport_address", "credential", "pins", "name", "institution", "inst_id",
			"system", "system_version", "description", "updated_at").
		Where("node_id = ? AND contract_id = ? AND state = ?", p.NodeID, p.ContractID, bfia.ContractApproved).
		Exec(ctx))
	if err == nil && n == 0 {
		return bfia.Errorf(
			bfia.CodeConflict,
			"there is no approved contract %s with %s",
			p.ContractID,
			p.NodeID,
		)
	}
	return wrap(err, "update partner %s", p.NodeID)
}
