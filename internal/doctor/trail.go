package doctor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"hutong/internal/audit"
	"hutong/internal/party"
)

// trailEnd is the number of entries at the end of the audit trail that the doctor verifies.
const trailEnd = 10_000

// checkTrail verifies the end of the audit trail.
func checkTrail(ctx context.Context, cfg *party.Config) Check {
	db, refused := openDatabase(ctx, cfg)
	if refused != nil {
		return *refused
	}
	defer func() { _ = db.Close() }()

	head, err := db.VerifyAuditEnd(ctx, trailEnd)
	var broken *audit.Broken
	switch {
	case errors.As(err, &broken):
		return failed(
			"keep the database as it is, compare it with an earlier export or backup, and find out who has "+
				"changed it; 'hutong audit verify' checks all entries",
			"%v",
			broken,
		)
	case err != nil:
		return failed(fixDatabase, "failed to verify the audit trail: %v", err)
	}
	base, err := db.AuditBase(ctx)
	if err != nil {
		return failed(fixDatabase, "failed to read the base of the audit trail: %v", err)
	}
	archived := ""
	if base.Seq > 0 {
		archived = fmt.Sprintf("; the entries up to %d (%s) are archived", base.Seq,
			base.Time.Format(time.DateOnly))
	}
	return ok("the last %d entries of the audit trail are unaltered; head %s%s",
		min(head.Seq-base.Seq, trailEnd), head, archived)
}
