package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	"hutong/bfia"
)

// GrantRequest is a request for a grant of a dataset, which a partner has sent to this party or this party to
// the partner.
type GrantRequest struct {
	bun.BaseModel `bun:"table:t_grant_request,alias:q"`

	Partner string            `bun:"partner,pk"`
	AuditID string            `bun:"audit_id,pk"`
	Sent    bool              `bun:"sent,pk"` // by this party
	State   bfia.RequestState `bun:"state"`
	Dataset string            `bun:"dataset"`
	// Components are the names of the components; * for all.
	Components     []string   `bun:"-"`
	ComponentsText string     `bun:"components"`
	Until          *time.Time `bun:"until"`
	Times          int        `bun:"times"`
	// Resource, Level and Token are the permit that this party holds. Token is a secret.
	Resource string `bun:"resource"`
	Level    int    `bun:"resource_level"`
	Token    string `bun:"token"`
	// Delivered: the partner has its permit.
	Delivered bool      `bun:"delivered"`
	CreatedBy string    `bun:"created_by"`
	DecidedBy string    `bun:"decided_by"`
	CreatedAt time.Time `bun:"created_at"`
	UpdatedAt time.Time `bun:"updated_at"`
}

var _ bun.AfterScanRowHook = (*GrantRequest)(nil)

// AfterScanRow normalizes the times and reads the components.
func (r *GrantRequest) AfterScanRow(context.Context) error {
	normalizeTimes(&r.CreatedAt, &r.UpdatedAt, r.Until)
	if err := json.Unmarshal([]byte(r.ComponentsText), &r.Components); err != nil {
		return fmt.Errorf("store: failed to decode the components of request %s: %w", r.AuditID, err)
	}
	return nil
}

// MaxOpenRequests bounds the undecided requests of one partner.
const MaxOpenRequests = 100

// AddGrantRequest records a request in the state APPLIED. The same request may come again; another one under
// the same id is CodeConflict. Too many undecided requests of a partner are CodeTooMany.
func (s *Store) AddGrantRequest(ctx context.Context, r GrantRequest) error {
	if err := checkText(append(fieldValues("components", r.Components), "partner", r.Partner, "audit_id",
		r.AuditID, "dataset_id", r.Dataset, "created_by", r.CreatedBy)...); err != nil {
		return err
	}
	r.State, r.ComponentsText = bfia.RequestApplied, encode(r.Components)
	r.CreatedAt = normalizeTime(time.Now())
	r.UpdatedAt = r.CreatedAt
	r.Until = normalized(r.Until)
	return wrap(s.actTx(ctx, func(ctx context.Context, tx bun.Tx) error {
		open, err := tx.NewSelect().Model((*GrantRequest)(nil)).
			Where("partner = ? AND sent = ? AND state = ?", r.Partner, r.Sent, bfia.RequestApplied).Count(ctx)
		if err != nil {
			return err
		}
		var known GrantRequest
		err = selectOne(ctx, tx.NewSelect().Where("partner = ? AND audit_id = ? AND sent = ?", r.Partner,
			r.AuditID, r.Sent), &known, "audit_id: request %q", r.AuditID)
		switch {
		case err == nil && known.same(&r):
			return nil
		case err == nil:
			return bfia.Errorf(bfia.CodeConflict, "audit_id: there is another request %s", r.AuditID)
		case bfia.CodeOf(err) != bfia.CodeNotFound:
			return err
		case open >= MaxOpenRequests:
			return bfia.Errorf(bfia.CodeTooMany,
				"audit_id: %s has %d requests that are not decided yet; send "+
					"this one later", r.Partner, open)
		}
		_, err = tx.NewInsert().Model(&r).Exec(ctx)
		return err
	}), "record the request %s", r.AuditID)
}

func normalized(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	n := normalizeTime(*t)
	return &n
}

// same reports whether another request with the id of a recorded one is the same.
func (r *GrantRequest) same(o *GrantRequest) bool {
	if r.State != bfia.RequestApplied { // the decision may have changed the rest
		return r.Dataset == o.Dataset
	}
	sameEnd := r.Until == nil && o.Until == nil || r.Until != nil && o.Until != nil && r.Until.Equal(*o.Until)
	return r.Dataset == o.Dataset && r.ComponentsText == o.ComponentsText && r.Times == o.Times && sameEnd
}

// DeleteGrantRequest deletes a request that did not reach the partner.
func (s *Store) DeleteGrantRequest(ctx context.Context, partner, auditID string) error {
	_, err := s.w.NewDelete().Model((*GrantRequest)(nil)).Where("partner = ? AND audit_id = ? AND sent "+
		"AND state = ?", partner, auditID, bfia.RequestApplied).Exec(ctx)
	return wrap(err, "delete the request %s", auditID)
}

// GrantRequests returns all requests, oldest first.
func (s *Store) GrantRequests(ctx context.Context) ([]GrantRequest, error) {
	var requests []GrantRequest
	err := s.r.NewSelect().Model(&requests).Order("created_at", "partner", "audit_id", "sent").Scan(ctx)
	return requests, wrap(err, "list requests for grants")
}

// GrantRequest returns a request of one direction, or CodeNotFound.
func (s *Store) GrantRequest(ctx context.Context, partner, auditID string, sent bool) (*GrantRequest, error) {
	var r GrantRequest
	if err := checkText("audit_id", auditID); err != nil {
		return nil, err
	}
	err := selectOne(ctx, s.w.NewSelect().Where("partner = ? AND audit_id = ? AND sent = ?", partner, auditID,
		sent), &r, "audit_id: request %q", auditID)
	return &r, err
}

// FindGrantRequests returns the requests with an id, of a partner or of all if it is empty.
func (s *Store) FindGrantRequests(ctx context.Context, auditID, partner string) ([]GrantRequest, error) {
	if err := checkText("audit_id", auditID, "partner", partner); err != nil {
		return nil, err
	}
	var requests []GrantRequest
	q := s.w.NewSelect().Model(&requests).Where("audit_id = ?", auditID)
	if partner != "" {
		q.Where("partner = ?", partner)
	}
	return requests, wrap(q.Scan(ctx), "find the request %s", auditID)
}

// RequestOfGrant returns the approved request of the partner who asked for a grant, or nil if nobody has.
func (s *Store) RequestOfGrant(ctx context.Context, grantID string) (*GrantRequest, error) {
	if err := checkText("grant_id", grantID); err != nil {
		return nil, err
	}
	var found []GrantRequest
	err := s.w.NewSelect().Model(&found).
		Join("JOIN t_grant AS g ON g.partner = q.partner AND g.audit_id = q.audit_id").
		Where("g.grant_id = ? AND g.revoked_at IS NULL AND NOT q.sent AND q.state = ?", grantID,
			bfia.RequestApproved).Scan(ctx)
	if err != nil || len(found) == 0 {
		return nil, wrap(err, "find the request of grant %s", grantID)
	}
	return &found[0], nil
}

// ApproveGrantRequest approves a partner's request with grants, all in one transaction. A request that is
// approved already gets the new grants in place of the earlier ones. Any other state is CodeConflict.
func (s *Store) ApproveGrantRequest(ctx context.Context, r *GrantRequest, grants []bfia.DataGrant) error {
	rows := make([]grantRow, 0, len(grants))
	for _, g := range grants {
		row, err := newGrantRow(g)
		if err != nil {
			return err
		}
		rows = append(rows, row)
	}
	return wrap(s.actTx(ctx, func(ctx context.Context, tx bun.Tx) error {
		if _, err := r.move(ctx, tx, bfia.RequestApproved, bfia.RequestApplied,
			bfia.RequestApproved); err != nil {
			return err
		}
		// The decision may differ from what the partner has requested.
		if _, err := tx.NewUpdate().Model((*GrantRequest)(nil)).
			Set("components = ?, until = ?, times = ?", encode(r.Components), normalized(r.Until), r.Times).
			Where("partner = ? AND audit_id = ? AND NOT sent", r.Partner, r.AuditID).Exec(ctx); err != nil {
			return err
		}
		if err := r.revokeGrants(ctx, tx); err != nil {
			return err
		}
		_, err := tx.NewInsert().Model(&rows).Exec(ctx)
		return err
	}), "approve the request %s", r.AuditID)
}

// EndGrantRequest rejects or terminates a request from one of some states. Its grants are revoked, and its
// permit is deleted. changed is false if the request has this state already; any other state is CodeConflict.
func (s *Store) EndGrantRequest(ctx context.Context, r *GrantRequest, to bfia.RequestState,
	from ...bfia.RequestState) (changed bool, err error) {
	err = s.actTx(ctx, func(ctx context.Context, tx bun.Tx) error {
		changed, err = r.move(ctx, tx, to, append(from, to)...)
		if err != nil || !changed || r.Sent {
			return err
		}
		return r.revokeGrants(ctx, tx)
	})
	return changed, wrap(err, "end the request %s", r.AuditID)
}

// move changes the state of a request. changed is false if it has the state already.
func (r *GrantRequest) move(ctx context.Context, tx bun.Tx, to bfia.RequestState,
	from ...bfia.RequestState) (changed bool, err error) {
	n, err := affected(tx.NewUpdate().Model((*GrantRequest)(nil)).
		Set("state = ?, decided_by = ?, token = '', delivered = FALSE", to, r.DecidedBy).
		Set("updated_at = ?", normalizeTime(time.Now())).
		Where("partner = ? AND audit_id = ? AND sent = ?", r.Partner, r.AuditID, r.Sent).
		Where("state IN (?)", bun.List(from)).Exec(ctx))
	if err != nil {
		return false, err
	}
	if n == 0 {
		var now GrantRequest
		if err := selectOne(ctx, tx.NewSelect().Where("partner = ? AND audit_id = ? AND sent = ?", r.Partner,
			r.AuditID, r.Sent), &now, "audit_id: request %q", r.AuditID); err != nil {
			return false, err
		}
		return false, bfia.Errorf(bfia.CodeConflict, "audit_id: request %s is %s: it can't become %s",
			r.AuditID, now.State, to)
	}
	return r.State != to, nil
}

func (r *GrantRequest) revokeGrants(ctx context.Context, tx bun.Tx) error {
	_, err := tx.NewUpdate().Model((*grantRow)(nil)).
		Set("revoked_at = COALESCE(revoked_at, ?)", normalizeTime(time.Now())).
		Where("partner = ? AND audit_id = ? AND audit_id <> ''", r.Partner, r.AuditID).Exec(ctx)
	return err
}

// RenewPermit replaces the token of the permit of an approved request, which the partner does not have.
func (s *Store) RenewPermit(ctx context.Context, r *GrantRequest, hash string) error {
	n, err := affected(s.w.NewUpdate().Model((*grantRow)(nil)).Set("permit_hash = ?", hash).
		Where("partner = ? AND audit_id = ? AND revoked_at IS NULL", r.Partner, r.AuditID).Exec(ctx))
	if err == nil && n == 0 {
		err = bfia.Errorf(bfia.CodeConflict, "audit_id: request %s has no grant any more", r.AuditID)
	}
	return wrap(err, "renew the permit of the request %s", r.AuditID)
}

// SetPermitDelivered records that the partner has the permit with this hash.
func (s *Store) SetPermitDelivered(ctx context.Context, r *GrantRequest, hash string) error {
	_, err := s.w.NewUpdate().Model((*GrantRequest)(nil)).Set("delivered = TRUE").
		Where("partner = ? AND audit_id = ? AND NOT sent AND state = ?", r.Partner, r.AuditID,
			bfia.RequestApproved).
		Where("EXISTS (SELECT 1 FROM t_grant AS g WHERE g.partner = q.partner "+
			"AND g.audit_id = q.audit_id AND g.permit_hash = ?)", hash).Exec(ctx)
	return wrap(err, "record the delivery of the permit of request %s", r.AuditID)
}

// ReceivePermit records that a partner has approved a request of this party, with its permit. A later permit
// replaces an earlier one. A request that has ended is CodeConflict.
func (s *Store) ReceivePermit(ctx context.Context, r *GrantRequest, permit bfia.Permit, until *time.Time,
	times int) error {
	return wrap(s.actTx(ctx, func(ctx context.Context, tx bun.Tx) error {
		if _, err := r.move(ctx, tx, bfia.RequestApproved, bfia.RequestApplied,
			bfia.RequestApproved); err != nil {
			return err
		}
		_, err := tx.NewUpdate().Model((*GrantRequest)(nil)).
			Set("resource = ?, resource_level = ?, token = ?", permit.Resource, permit.Level, permit.Token).
			Set("until = ?, times = ?", normalized(until), times).
			Where("partner = ? AND audit_id = ? AND sent", r.Partner, r.AuditID).Exec(ctx)
		return err
	}), "record the permit of the request %s", r.AuditID)
}

// Permits returns the permits that this party holds for datasets of partners, which are given as keys
// partner+"/"+dataset, latest first.
func (s *Store) Permits(ctx context.Context, datasets map[string]bool) ([]bfia.Permit, error) {
	var requests []GrantRequest
	if err := s.w.NewSelect().Model(&requests).Where("sent AND state = ? AND token <> ''",
		bfia.RequestApproved).Where("until IS NULL OR until > ?", normalizeTime(time.Now())).
		Order("updated_at DESC", "audit_id").Scan(ctx); err != nil {
		return nil, wrap(err, "read the permits of partners")
	}
	var permits []bfia.Permit
	for _, r := range requests {
		if datasets[r.Partner+"/"+r.Dataset] {
			permits = append(permits, bfia.Permit{Resource: r.Resource, Level: r.Level, Token: r.Token})
		}
	}
	return permits, nil
}

// jobPermit holds the permits of a job until it is created at its parties.
type jobPermit struct {
	bun.BaseModel `bun:"table:t_job_permit,alias:jp"`

	JobID     string    `bun:"job_id,pk"`
	Permits   string    `bun:"permits"` // see [bfia.FormatTokenSet]
	CreatedAt time.Time `bun:"created_at"`
}

// PutJobPermits keeps the permits with which a job is created at its parties.
func (s *Store) PutJobPermits(ctx context.Context, jobID string, permits []bfia.Permit) error {
	row := jobPermit{JobID: jobID, Permits: bfia.FormatTokenSet(permits),
		CreatedAt: normalizeTime(time.Now())}
	_, err := s.w.NewInsert().Model(&row).On("CONFLICT (job_id) DO UPDATE").
		Set("permits = EXCLUDED.permits").Exec(ctx)
	return wrap(err, "keep the permits of job %s", jobID)
}

// JobPermits returns the permits with which a job is created; there may be none.
func (s *Store) JobPermits(ctx context.Context, jobID string) ([]bfia.Permit, error) {
	var rows []jobPermit
	if err := s.w.NewSelect().Model(&rows).Where("job_id = ?", jobID).Scan(ctx); err != nil ||
		len(rows) == 0 {
		return nil, wrap(err, "read the permits of job %s", jobID)
	}
	permits, err := bfia.ParseTokenSet(rows[0].Permits)
	return permits, wrap(err, "read the permits of job %s", jobID)
}

// DeleteJobPermits deletes the permits of a job.
func (s *Store) DeleteJobPermits(ctx context.Context, jobID string) error {
	_, err := s.w.NewDelete().Model((*jobPermit)(nil)).Where("job_id = ?", jobID).Exec(ctx)
	return wrap(err, "delete the permits of job %s", jobID)
}

// RemoveUnusedJobPermits deletes the permits of jobs that were sent before a time, and returns how many.
func (s *Store) RemoveUnusedJobPermits(ctx context.Context, before time.Time) (int, error) {
	n, err := affected(s.w.NewDelete().Model((*jobPermit)(nil)).
		Where("created_at < ?", normalizeTime(before)).Exec(ctx))
	return n, wrap(err, "remove the permits of created jobs")
}
