package store

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/uptrace/bun"

	"hutong/bfia"
)

type grantRow struct {
	bun.BaseModel `bun:"table:t_grant,alias:g"`

	ID        string     `bun:"grant_id,pk"`
	Partner   string     `bun:"partner"`
	Component string     `bun:"component"`
	Dataset   string     `bun:"dataset"`
	Until     *time.Time `bun:"until"`
	Times     int        `bun:"times"`
	CreatedBy string     `bun:"created_by"`
	CreatedAt time.Time  `bun:"created_at"`
	RevokedAt *time.Time `bun:"revoked_at"`
	AuditID   string     `bun:"audit_id"`
	// PermitHash is the hash of the token of the permit; see [HashSecret].
	PermitHash string `bun:"permit_hash"`
	Used       int    `bun:"used,scanonly"`
}

func (r grantRow) grant() bfia.DataGrant {
	normalizeTimes(&r.CreatedAt, r.Until, r.RevokedAt)
	return bfia.DataGrant{ID: r.ID, Partner: r.Partner, Component: r.Component, Dataset: r.Dataset,
		Until: r.Until, Times: r.Times, Used: r.Used, CreatedBy: r.CreatedBy, CreatedAt: r.CreatedAt,
		RevokedAt: r.RevokedAt, AuditID: r.AuditID, PermitHash: r.PermitHash}
}

type grantUse struct {
	bun.BaseModel `bun:"table:t_grant_use,alias:u"`

	GrantID string    `bun:"grant_id,pk"`
	JobID   string    `bun:"job_id,pk"`
	UsedAt  time.Time `bun:"used_at"`
	// Accepted: the job is recorded. Before, the use counts for claimHold only.
	Accepted bool `bun:"accepted"`
	// Returned: the job was not created, and does not count.
	Returned bool `bun:"returned"`
}

// claimHold is how long a use counts whose job is not recorded. It covers the creation of a job. If the
// workflow of the job starts later, the use is counted again, or the job is refused.
const claimHold = 15 * time.Minute

// counts selects the uses, named u, that count.
const counts = "NOT u.returned AND (u.accepted OR u.used_at > ?)"

func claimsSince() time.Time { return normalizeTime(time.Now().Add(-claimHold)) }

// AddGrant records a grant, which [bfia.DataGrant.Check] has checked, and returns it with its time, and with
// an id if it has none.
func (s *Store) AddGrant(ctx context.Context, g bfia.DataGrant) (bfia.DataGrant, error) {
	row, err := newGrantRow(g)
	if err != nil {
		return g, err
	}
	err = s.actTx(ctx, func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.NewInsert().Model(&row).Exec(ctx)
		return err
	})
	return row.grant(), wrap(err, "record a grant for %s", g.Partner)
}

func newGrantRow(g bfia.DataGrant) (grantRow, error) {
	row := grantRow{ID: cmp.Or(g.ID, uuid.NewString()), Partner: g.Partner, Component: g.Component,
		Dataset: g.Dataset, Times: g.Times, CreatedBy: g.CreatedBy, CreatedAt: normalizeTime(time.Now()),
		AuditID: g.AuditID, PermitHash: g.PermitHash}
	if g.Until != nil {
		until := normalizeTime(*g.Until)
		row.Until = &until
	}
	return row, checkText("partner", g.Partner, "component", g.Component, "dataset", g.Dataset,
		"created_by", g.CreatedBy)
}

// Grants returns the grants of a partner, or all if it is empty, also those that have ended, oldest first.
func (s *Store) Grants(ctx context.Context, partner string) ([]bfia.DataGrant, error) {
	if err := checkText("partner", partner); err != nil {
		return nil, err
	}
	grants, err := readGrants(ctx, s.r, partner)
	return grants, wrap(err, "list grants")
}

func readGrants(ctx context.Context, db bun.IDB, partner string) ([]bfia.DataGrant, error) {
	var rows []grantRow
	q := db.NewSelect().Model(&rows).ColumnExpr("g.*").
		ColumnExpr("(SELECT count(*) FROM t_grant_use AS u WHERE u.grant_id = g.grant_id AND "+
			counts+") AS used", claimsSince()).
		Order("created_at", "grant_id")
	if partner != "" {
		q.Where("partner = ?", partner)
	}
	if err := q.Scan(ctx); err != nil {
		return nil, err
	}
	grants := make([]bfia.DataGrant, 0, len(rows))
	for _, r := range rows {
		grants = append(grants, r.grant())
	}
	return grants, nil
}

// RevokeGrant ends a grant for jobs that are not accepted yet. Revoked again it stays as it is. An unknown
// grant is CodeNotFound.
func (s *Store) RevokeGrant(ctx context.Context, id string) error {
	if err := checkText("grant_id", id); err != nil {
		return err
	}
	return wrap(s.actTx(ctx, func(ctx context.Context, tx bun.Tx) error {
		n, err := affected(tx.NewUpdate().Model((*grantRow)(nil)).
			Set("revoked_at = COALESCE(revoked_at, ?)", normalizeTime(time.Now())).
			Where("grant_id = ?", id).Exec(ctx))
		if err == nil && n == 0 {
			return bfia.Errorf(bfia.CodeNotFound,
				"grant_id: there is no grant %q; 'hutong grant list' lists them", id)
		}
		return err
	}), "revoke grant %s", id)
}

// GrantClaim is what a job of a partner needs of the grants of a party.
type GrantClaim struct {
	Node, Partner string
	Needs         []bfia.GrantNeed
	// Permits are the permits of Node that the job presents.
	Permits []bfia.Permit
	// RequirePermits makes a grant for which the partner has asked count only with its permit.
	RequirePermits bool
}

// CheckGrants returns CodeForbidden, with all that is missing, if a job lacks grants now. It counts nothing.
func (s *Store) CheckGrants(ctx context.Context, jobID string, claim GrantClaim) error {
	_, _, err := chooseGrants(ctx, s.w, jobID, claim)
	return err
}

func chooseGrants(ctx context.Context, db bun.IDB, jobID string, claim GrantClaim) (chosen []string,
	counted map[string]bool, err error) {
	if err := checkText("job_id", jobID, "partner", claim.Partner); err != nil {
		return nil, nil, err
	}
	grants, err := readGrants(ctx, db, claim.Partner)
	if err != nil {
		return nil, nil, wrap(err, "read the grants of %s", claim.Partner)
	}
	var uses []grantUse
	if err := db.NewSelect().Model(&uses).Where("u.job_id = ? AND "+counts, jobID, claimsSince()).
		Scan(ctx); err != nil {
		return nil, nil, wrap(err, "read the grants of job %s", jobID)
	}
	counted = map[string]bool{}
	for _, u := range uses {
		counted[u.GrantID] = true
	}
	presented, err := checkPermits(ctx, db, claim)
	if err != nil {
		return nil, nil, err
	}
	for i := range grants {
		g := &grants[i]
		g.Unpermitted = claim.RequirePermits && g.PermitHash != "" && !presented[g.PermitHash] &&
			!counted[g.ID]
	}
	chosen, err = bfia.ChooseGrants(claim.Node, claim.Partner, grants, counted, claim.Needs, time.Now())
	return chosen, counted, err
}

// checkPermits returns the hashes of the permits that a job presents. A permit that this party has not given
// to the partner, or not for its resource, is CodeForbidden.
func checkPermits(ctx context.Context, db bun.IDB, claim GrantClaim) (map[string]bool, error) {
	presented := map[string]bool{}
	for _, p := range claim.Permits {
		hash := HashSecret(p.Token)
		var given []grantRow
		if err := db.NewSelect().Model(&given).Where("permit_hash = ?", hash).Scan(ctx); err != nil {
			return nil, wrap(err, "read a permit of %s", claim.Partner)
		}
		own := slices.ContainsFunc(given, func(g grantRow) bool {
			return g.Partner == claim.Partner && p.Level == bfia.PermitLevel &&
				p.Resource == bfia.PermitResource(claim.Node, bfia.ResourceDataset, g.Dataset)
		})
		if !own {
			return nil, bfia.Errorf(bfia.CodeForbidden,
				"x-mprac-token-set: the permit for %s is not one that "+
					"%s has given to %s", p.Resource, claim.Node, claim.Partner)
		}
		presented[hash] = true
	}
	return presented, nil
}

// PutGrantedJobRecord stores the record of a job as [Store.PutJobRecord] does, and in the same transaction
// counts the job for the grants that it uses, each at most once. If a grant is missing it stores and counts
// nothing and returns CodeForbidden. Of concurrent jobs no more are accepted than a grant allows.
// The entry of the pending act is written in the same transaction.
func (s *Store) PutGrantedJobRecord(ctx context.Context, jobID string, doc []byte, registry *Registry,
	claim GrantClaim) error {
	_, err := s.AcceptJob(ctx, jobID, doc, registry, Acceptance{Grants: &claim})
	return err
}

// claimGrants counts a job for the grants that it uses, or returns CodeForbidden if it lacks one.
func claimGrants(ctx context.Context, tx bun.Tx, jobID string, claim GrantClaim) error {
	// The update locks the partner's grants, so that concurrent jobs count one after the other.
	if _, err := tx.NewUpdate().Model((*grantRow)(nil)).Set("times = times").
		Where("partner = ?", claim.Partner).Exec(ctx); err != nil {
		return err
	}
	chosen, counted, err := chooseGrants(ctx, tx, jobID, claim)
	if err != nil {
		return err
	}
	var uses []grantUse
	for _, id := range chosen {
		if !counted[id] {
			uses = append(uses, grantUse{GrantID: id, JobID: jobID, UsedAt: normalizeTime(time.Now())})
		}
	}
	if len(uses) == 0 {
		return nil
	}
	_, err = tx.NewInsert().Model(&uses).On("CONFLICT (grant_id, job_id) DO UPDATE").
		Set("used_at = EXCLUDED.used_at, accepted = FALSE, returned = FALSE").Exec(ctx)
	return err
}

// acceptUses counts the uses of a job that is being recorded for good. A use that was returned, or that has
// not counted any more, is counted again; if the grant is used up meanwhile it returns CodeForbidden.
func acceptUses(ctx context.Context, tx bun.Tx, jobID string) error {
	var ids []string
	err := tx.NewSelect().Model((*grantUse)(nil)).Column("grant_id").
		Where("job_id = ? AND (returned OR NOT accepted)", jobID).Scan(ctx, &ids)
	if err != nil || len(ids) == 0 {
		return err
	}
	// The update locks the grants, as in [Store.PutGrantedJobRecord].
	if _, err := tx.NewUpdate().Model((*grantRow)(nil)).Set("times = times").
		Where("grant_id IN (?)", bun.List(ids)).Exec(ctx); err != nil {
		return err
	}
	var full []string
	if err := tx.NewSelect().Model((*grantRow)(nil)).Column("grant_id").
		Where("grant_id IN (?) AND times > 0", bun.List(ids)).
		Where("(SELECT count(*) FROM t_grant_use AS u WHERE u.grant_id = g.grant_id AND u.job_id <> ? AND "+
			counts+") >= times", jobID, claimsSince()).Scan(ctx, &full); err != nil {
		return err
	}
	if len(full) > 0 {
		return bfia.Errorf(bfia.CodeForbidden, "grant: other jobs have used grant %s since job %s was sent; "+
			"submit the job again when there is another grant", full[0], jobID)
	}
	_, err = tx.NewUpdate().Model((*grantUse)(nil)).Set("accepted = TRUE, returned = FALSE").
		Where("job_id = ?", jobID).Exec(ctx)
	return err
}

// ReturnGrants takes back that a job has used grants. It is for a job that was recorded here, and is removed
// since not every party has accepted it.
func (s *Store) ReturnGrants(ctx context.Context, jobID string) error {
	return s.returnGrants(ctx, s.w.NewUpdate().Model((*grantUse)(nil)).Where("job_id = ?", jobID), jobID)
}

// ReturnUnacceptedGrants takes back that a job has used grants, unless it was recorded. It is for a job whose
// workflow did not start.
func (s *Store) ReturnUnacceptedGrants(ctx context.Context, jobID string) error {
	return s.returnGrants(ctx, s.w.NewUpdate().Model((*grantUse)(nil)).Where("job_id = ? AND NOT accepted",
		jobID), jobID)
}

func (s *Store) returnGrants(ctx context.Context, q *bun.UpdateQuery, jobID string) error {
	_, err := q.Set("returned = TRUE, accepted = FALSE").Exec(ctx)
	return wrap(err, "return the grants of job %s", jobID)
}
