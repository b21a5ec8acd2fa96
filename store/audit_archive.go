package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/uptrace/bun"

	"hutong/bfia"
	"hutong/internal/audit"
)

type auditBaseRow struct {
	bun.BaseModel `bun:"table:t_audit_base,alias:b"`

	Singleton int       `bun:"singleton,pk"`
	Seq       int64     `bun:"seq"`
	Hash      string    `bun:"hash"`
	Time      time.Time `bun:"time"`
}

// afterBase leaves out the rows of archived entries that are not removed yet.
const afterBase = "seq > COALESCE((SELECT seq FROM t_audit_base WHERE singleton = 1), 0)"

// AuditBase returns the base of the audit trail: the entries up to it were archived.
func (s *Store) AuditBase(ctx context.Context) (audit.Base, error) {
	base, err := auditBase(ctx, s.r)
	return base, wrap(err, "read the base of the audit trail")
}

func auditBase(ctx context.Context, db bun.IDB) (audit.Base, error) {
	var row auditBaseRow
	err := db.NewSelect().Model(&row).Where("singleton = 1").Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return audit.Base{}, nil
	}
	return audit.Base{Head: audit.Head{Seq: row.Seq, Hash: row.Hash}, Time: normalizeTime(row.Time)}, err
}

// AuditPage is a part of the audit trail with the head and the base that it had then.
type AuditPage struct {
	Entries []audit.Entry
	Head    audit.Head
	Base    audit.Base
}

// AuditPage returns entries as [Store.AuditEntries] does, with a head that they reach and the base after
// which they begin.
func (s *Store) AuditPage(ctx context.Context, f AuditFilter) (AuditPage, error) {
	for {
		var page AuditPage
		var err error
		if page.Base, err = s.AuditBase(ctx); err != nil {
			return page, err
		}
		if page.Head, err = s.AuditHead(ctx); err != nil { // before the entries, so that they reach it
			return page, err
		}
		if page.Entries, err = s.AuditEntries(ctx, f); err != nil {
			return page, err
		}
		if base, err := s.AuditBase(ctx); err != nil || base == page.Base {
			return page, err
		}
		// Entries were archived meanwhile, which happens seldom.
	}
}

// ArchiveAudit makes the entry of a head the base of the audit trail, and writes the entry
// [audit.ArchiveTrail] of the act that is pending in the context. What the trail has up to the base counts no
// more; [Store.RemoveArchivedAudit] removes it. If the head is the base, nothing changes.
//
// It returns CodeNotFound if the trail has no such entry, and CodeConflict if its hash is another one, if it
// was archived with later ones, or if an entry up to it is younger than [audit.MinArchiveAge].
func (s *Store) ArchiveAudit(ctx context.Context, to audit.Head) (audit.Base, error) {
	// What is checked first can't change: entries are never altered, and only get older. The transaction, for
	// which all acts of the party wait, is short.
	base, next, err := s.checkArchive(ctx, to)
	if err != nil || base == next {
		return base, wrap(err, "check the entries to archive")
	}
	pending := audit.From(ctx)
	if pending.Recorded() {
		return base, errors.New("store: failed to archive the audit trail: no act is pending")
	}
	pending.On(audit.Trail, to.String())
	moved := false
	err = s.tx(ctx, func(ctx context.Context, tx bun.Tx) (err error) {
		if moved, err = moveAuditBase(ctx, tx, next); err != nil || !moved {
			return err
		}
		entry := pending.Entry(audit.Allowed, "")
		return s.Audit(ctx, tx, &entry)
	})
	if err != nil {
		return base, wrap(err, "archive the audit trail")
	}
	if moved {
		pending.SetRecorded()
	}
	return next, nil
}

// moveAuditBase sets the base, unless another request has set it already.
func moveAuditBase(ctx context.Context, tx bun.Tx, to audit.Base) (moved bool, err error) {
	row := auditBaseRow{Singleton: 1, Seq: to.Seq, Hash: to.Hash, Time: to.Time}
	n, err := affected(tx.NewInsert().Model(&row).On("CONFLICT (singleton) DO UPDATE").
		Set("seq = EXCLUDED.seq, hash = EXCLUDED.hash, time = EXCLUDED.time").
		Where("b.seq < EXCLUDED.seq").Exec(ctx))
	if err != nil || n > 0 {
		return n > 0, err
	}
	base, err := auditBase(ctx, tx)
	if err == nil && base.Head != to.Head {
		err = archivedBefore(base, to.Head)
	}
	return false, err
}

func archivedBefore(base audit.Base, to audit.Head) error {
	return bfia.Errorf(bfia.CodeConflict, "seq: entry %d was archived before, with those up to the head %s",
		to.Seq, base)
}

// checkArchive returns the base, and the one that the head of an entry makes, or why it can't be one.
func (s *Store) checkArchive(ctx context.Context, to audit.Head) (base, next audit.Base, err error) {
	for {
		if base, err = s.AuditBase(ctx); err != nil || base.Head == to {
			return base, base, err
		}
		next, err = s.nextBase(ctx, base, to)
		if err == nil {
			return base, next, nil
		}
		// Entries that are archived meanwhile are missed.
		if now, again := s.AuditBase(ctx); again != nil || now == base {
			return base, next, err
		}
	}
}

func (s *Store) nextBase(ctx context.Context, base audit.Base, to audit.Head) (audit.Base, error) {
	none := audit.Base{}
	if to.Seq <= base.Seq {
		return none, archivedBefore(base, to)
	}
	var broken *audit.Broken
	if err := s.checkAuditBase(ctx, base); errors.As(err, &broken) {
		return none, bfia.Wrap(bfia.CodeConflict, err, "%v; find out who has changed the database before "+
			"you archive more", broken)
	} else if err != nil {
		return none, err
	}
	var row auditRow
	err := s.r.NewSelect().Model(&row).Where("seq = ?", to.Seq).Scan(ctx)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return none, bfia.Errorf(bfia.CodeNotFound, "seq: the audit trail has no entry %d", to.Seq)
	case err != nil:
		return none, err
	case row.Hash != to.Hash:
		return none, bfia.Errorf(bfia.CodeConflict, "hash: entry %d of the audit trail has another hash "+
			"than %s", to.Seq, to.Hash)
	}
	// Clocks of processes differ: the latest time need not be that of the last entry.
	var latest auditRow
	if err := s.r.NewSelect().Model(&latest).Where("seq > ? AND seq <= ?", base.Seq, to.Seq).
		OrderExpr("time DESC").Limit(1).Scan(ctx); err != nil {
		return none, err
	}
	at := normalizeTime(latest.Time)
	if age := time.Since(at); age < audit.MinArchiveAge {
		return none, bfia.Errorf(bfia.CodeConflict, "seq: entry %d is of %s, and an entry stays for %d days "+
			"before it can be archived; archive entries before %s only", latest.Seq, at.Format(time.RFC3339),
			audit.MinArchiveAge/(24*time.Hour),
			time.Now().Add(-audit.MinArchiveAge).UTC().Format(time.RFC3339))
	}
	if at.Before(base.Time) {
		at = base.Time
	}
	return audit.Base{Head: to, Time: at}, nil
}

// checkAuditBase checks that the trail records that the entries up to its base were archived. The error is an
// [*audit.Broken] if it does not.
func (s *Store) checkAuditBase(ctx context.Context, base audit.Base) error {
	if base.Seq == 0 {
		return nil
	}
	found, err := s.AuditEntries(ctx, AuditFilter{Act: audit.ArchiveTrail, Object: base.Object(),
		Outcome: audit.Allowed, Limit: 1})
	if err != nil {
		return err
	}
	var record *audit.Entry
	if len(found) > 0 {
		record = &found[0]
	}
	return audit.CheckRecord(base.Head, record)
}

// archiveBatch is how many rows a transaction removes, for which other writers of SQLite wait.
const archiveBatch = 2000

// RemoveArchivedAudit removes rows of archived entries, in several transactions, until all are removed or the
// time is over. It returns how many are left.
func (s *Store) RemoveArchivedAudit(ctx context.Context, until time.Time) (left int64, err error) {
	base, err := s.AuditBase(ctx)
	if err != nil || base.Seq == 0 {
		return 0, err
	}
	var first sql.NullInt64
	if err := s.r.NewSelect().Model((*auditRow)(nil)).ColumnExpr("MIN(seq)").Where("seq <= ?", base.Seq).
		Scan(ctx, &first); err != nil {
		return 0, wrap(err, "read which archived entries are left")
	}
	if !first.Valid {
		return 0, nil
	}
	for from := first.Int64; from <= base.Seq; from += archiveBatch {
		if !time.Now().Before(until) {
			return base.Seq - from + 1, nil
		}
		if err := s.tx(ctx, func(ctx context.Context, tx bun.Tx) error {
			_, err := tx.NewDelete().Model((*auditRow)(nil)).
				Where("seq >= ? AND seq <= ?", from, min(from+archiveBatch-1, base.Seq)).Exec(ctx)
			return err
		}); err != nil {
			return 0, wrap(err, "remove archived entries of the audit trail")
		}
	}
	return 0, nil
}
