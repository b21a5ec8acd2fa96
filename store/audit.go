package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	"hutong/bfia"
	"hutong/internal/audit"
	"hutong/internal/identity"
)

type auditRow struct {
	bun.BaseModel `bun:"table:t_audit,alias:a"`

	Seq        int64     `bun:"seq,pk"`
	Time       time.Time `bun:"time"`
	Kind       string    `bun:"kind"`
	Node       string    `bun:"node"`
	Name       string    `bun:"name"`
	RunJob     string    `bun:"run_job"`
	RunTask    string    `bun:"run_task"`
	RunRole    string    `bun:"run_role"`
	Proof      string    `bun:"proof"`
	Credential string    `bun:"credential"`
	Address    string    `bun:"address"`
	Act        string    `bun:"act"`
	ObjectKind string    `bun:"object_kind"`
	ObjectID   string    `bun:"object_id"`
	Outcome    string    `bun:"outcome"`
	Reason     string    `bun:"reason"`
	Count      int64     `bun:"count"`
	Digest     string    `bun:"digest"`
	Prev       string    `bun:"prev"`
	Hash       string    `bun:"hash"`
}

func newAuditRow(e *audit.Entry) auditRow {
	return auditRow{Seq: e.Seq, Time: e.Time, Kind: string(e.Kind), Node: e.Node, Name: e.Name,
		RunJob: e.Run.JobID, RunTask: e.Run.TaskID, RunRole: e.Run.Role, Proof: string(e.Proof),
		Credential: e.Credential, Address: e.Address, Act: e.Act, ObjectKind: string(e.Object.Kind),
		ObjectID: e.Object.ID, Outcome: string(e.Outcome), Reason: e.Reason, Count: e.Count, Digest: e.Digest,
		Prev: e.Prev, Hash: e.Hash}
}

func (r *auditRow) entry() audit.Entry {
	return audit.Entry{Seq: r.Seq, Time: normalizeTime(r.Time), Kind: identity.Kind(r.Kind), Node: r.Node,
		Name: r.Name, Run: audit.Run{JobID: r.RunJob, TaskID: r.RunTask, Role: r.RunRole},
		Proof: identity.Proof(r.Proof), Credential: r.Credential, Address: r.Address, Act: r.Act,
		Object:  audit.Object{Kind: audit.ObjectKind(r.ObjectKind), ID: r.ObjectID},
		Outcome: audit.Outcome(r.Outcome), Reason: r.Reason, Count: r.Count, Digest: r.Digest, Prev: r.Prev,
		Hash: r.Hash}
}

type auditHeadRow struct {
	bun.BaseModel `bun:"table:t_audit_head,alias:h"`

	Singleton int    `bun:"singleton,pk"`
	Seq       int64  `bun:"seq"`
	Hash      string `bun:"hash"`
}

// Audit appends entries to the audit trail within the transaction of an act: both are committed, or neither.
// It numbers and links the entries. Call it last in the transaction: it locks the head of the trail until the
// transaction ends.
func (s *Store) Audit(ctx context.Context, tx bun.Tx, entries ...*audit.Entry) error {
	if len(entries) == 0 {
		return nil
	}
	if err := s.appendAudit(ctx, tx, entries); err != nil {
		return bfia.Wrap(bfia.CodeUnavailable, err,
			"the audit trail of this party can't be written, so nothing was done; try again later")
	}
	return nil
}

func (s *Store) appendAudit(ctx context.Context, tx bun.Tx, entries []*audit.Entry) error {
	// The update locks the row; a SELECT does not, in either database.
	var row auditHeadRow
	if n, err := affected(tx.NewUpdate().Model((*auditHeadRow)(nil)).Set("seq = seq").
		Where("singleton = 1").Exec(ctx)); err != nil {
		return fmt.Errorf("failed to lock the audit trail: %w", err)
	} else if n != 1 {
		return fmt.Errorf("failed to lock the audit trail: t_audit_head has no row")
	}
	if err := tx.NewSelect().Model(&row).Where("singleton = 1").Scan(ctx); err != nil {
		return fmt.Errorf("failed to read the head of the audit trail: %w", err)
	}

	head := audit.Head{Seq: row.Seq, Hash: row.Hash}
	rows := make([]auditRow, 0, len(entries))
	for _, e := range entries {
		head = e.Link(head)
		rows = append(rows, newAuditRow(e))
	}
	if _, err := tx.NewInsert().Model(&rows).Exec(ctx); err != nil {
		return fmt.Errorf("failed to write the audit trail: %w", err)
	}
	if _, err := tx.NewUpdate().Model((*auditHeadRow)(nil)).Set("seq = ?, hash = ?", head.Seq, head.Hash).
		Where("singleton = 1").Exec(ctx); err != nil {
		return fmt.Errorf("failed to write the head of the audit trail: %w", err)
	}
	return nil
}

// AppendAudit appends entries to the audit trail in a transaction of their own: refusals, and acts outside of
// the database, which must not begin if it fails.
func (s *Store) AppendAudit(ctx context.Context, entries ...audit.Entry) error {
	return wrap(s.tx(ctx, func(ctx context.Context, tx bun.Tx) error {
		copies := make([]*audit.Entry, len(entries))
		for i, e := range entries {
			copies[i] = &e
		}
		return s.Audit(ctx, tx, copies...)
	}), "append to the audit trail")
}

// RecordAct writes the entry of the act that is pending in a context, if there is one and it is not written:
// now, before the act, because the act is outside of the database.
func (s *Store) RecordAct(ctx context.Context) error {
	pending := audit.From(ctx)
	if pending.Recorded() {
		return nil
	}
	if err := s.AppendAudit(ctx, pending.Entry(audit.Allowed, "")); err != nil {
		return err
	}
	pending.SetRecorded()
	return nil
}

// actTx runs an act in a transaction, as tx does, and writes the entry of the act that is pending in the
// context in the same transaction. Without a pending act, as in housekeeping, it writes none.
func (s *Store) actTx(ctx context.Context, f func(ctx context.Context, tx bun.Tx) error) error {
	pending := audit.From(ctx)
	if pending.Recorded() {
		return s.tx(ctx, f)
	}
	err := s.tx(ctx, func(ctx context.Context, tx bun.Tx) error {
		if err := f(ctx, tx); err != nil {
			return err
		}
		entry := pending.Entry(audit.Allowed, "")
		return s.Audit(ctx, tx, &entry)
	})
	if err == nil {
		pending.SetRecorded()
	}
	return err
}

// AuditFilter selects entries of the audit trail. Empty fields match all.
type AuditFilter struct {
	Since, Until time.Time
	// Principal is the name of a client, or the node id of a partner.
	Principal string
	// Act is an act, or the part of acts before a dot, such as "job".
	Act     string
	Object  audit.Object
	Outcome audit.Outcome
	// After is the number after which entries are returned, in their order. Before returns those before,
	// latest first; so does the zero filter.
	After, Before int64
	Ascending     bool
	Limit         int // 0 is 1000
}

// maxAuditPage bounds the entries that are read at once.
const maxAuditPage = 10_000

// AuditEntries returns entries of the audit trail: the latest first, or from the first one on if the filter
// is ascending. It has no archived ones.
func (s *Store) AuditEntries(ctx context.Context, f AuditFilter) ([]audit.Entry, error) {
	if err := checkText("principal", f.Principal, "act", f.Act, "object", f.Object.ID); err != nil {
		return nil, err
	}
	var rows []auditRow
	q := s.r.NewSelect().Model(&rows).Where(afterBase)
	if !f.Since.IsZero() {
		q.Where("time >= ?", normalizeTime(f.Since))
	}
	if !f.Until.IsZero() {
		q.Where("time < ?", normalizeTime(f.Until))
	}
	if f.Principal != "" {
		q.Where("(name = ? OR node = ?)", f.Principal, f.Principal)
	}
	if f.Act != "" {
		q.Where("(act = ? OR act LIKE ? ESCAPE '!')", f.Act, likeEscape.Replace(f.Act)+".%")
	}
	if f.Object.Kind != "" {
		q.Where("object_kind = ?", string(f.Object.Kind))
	}
	if f.Object.ID != "" {
		q.Where("object_id = ?", f.Object.ID)
	}
	if f.Outcome != "" {
		q.Where("outcome = ?", string(f.Outcome))
	}
	if f.After > 0 {
		q.Where("seq > ?", f.After)
	}
	if f.Before > 0 {
		q.Where("seq < ?", f.Before)
	}
	order := "seq DESC"
	if f.Ascending {
		order = "seq"
	}
	limit := f.Limit
	if limit <= 0 {
		limit = 1000
	}
	if err := q.OrderExpr(order).Limit(min(limit, maxAuditPage)).Scan(ctx); err != nil {
		return nil, wrap(err, "read the audit trail")
	}
	entries := make([]audit.Entry, len(rows))
	for i := range rows {
		entries[i] = rows[i].entry()
	}
	return entries, nil
}

// AuditHead returns the head of the audit trail.
func (s *Store) AuditHead(ctx context.Context) (audit.Head, error) {
	var row auditHeadRow
	if err := s.r.NewSelect().Model(&row).Where("singleton = 1").Scan(ctx); err != nil {
		return audit.Head{}, wrap(err, "read the head of the audit trail")
	}
	return audit.Head{Seq: row.Seq, Hash: row.Hash}, nil
}

// VerifyAudit checks the audit trail after a trusted head (the zero value: all that is not archived), and
// that it contains the pinned heads and ends where the database says. It returns the head that it has
// reached. The error is an [*audit.Broken] if the trail is broken, and an [*audit.BeforeStart] if a pinned
// head is of an entry before.
func (s *Store) VerifyAudit(ctx context.Context, after audit.Head, pins ...audit.Head) (audit.Head, error) {
	for {
		var v audit.Verifier
		v.StartAt(after)
		v.Pin(pins...)
		archived, err := s.verifyPages(ctx, &v, after == audit.Head{})
		if err != nil || !archived {
			return v.Head(), err
		}
		// Entries were archived before they were read. Start at the new base.
	}
}

// verifyPages checks the pages of the trail until its end, all of them or after the start of a verifier. It
// reports whether entries of the next page were archived meanwhile.
func (s *Store) verifyPages(ctx context.Context, v *audit.Verifier, all bool) (archived bool, err error) {
	for first := true; ; first = false {
		f := AuditFilter{After: v.Head().Seq, Ascending: true, Limit: maxAuditPage}
		page, err := s.AuditPage(ctx, f)
		if err != nil {
			return false, err
		}
		if first {
			v.Pin(page.Head) // entries may follow meanwhile
			if all {
				v.StartAtBase(page.Base)
			} else if err := s.checkAuditBase(ctx, page.Base); err != nil {
				return false, err
			}
		}
		if page.Base.Seq > v.Head().Seq {
			if all {
				return true, nil
			}
			return false, &audit.BeforeStart{Pin: v.Head(), Start: page.Base.Head}
		}
		for _, e := range page.Entries {
			if err := v.Add(e); err != nil {
				return false, err
			}
		}
		if len(page.Entries) < maxAuditPage {
			return false, v.End()
		}
	}
}

// VerifyAuditEnd checks the last n entries of the audit trail, as VerifyAudit does for all.
func (s *Store) VerifyAuditEnd(ctx context.Context, n int) (audit.Head, error) {
	for {
		base, err := s.AuditBase(ctx)
		if err != nil {
			return audit.Head{}, err
		}
		head, broken := s.verifyEnd(ctx, base, n)
		if broken == nil {
			return head, nil
		}
		// Entries that are archived meanwhile are missed.
		if now, err := s.AuditBase(ctx); err != nil || now == base {
			return head, errors.Join(broken, err)
		}
	}
}

func (s *Store) verifyEnd(ctx context.Context, base audit.Base, n int) (audit.Head, error) {
	head, err := s.AuditHead(ctx)
	if err != nil {
		return audit.Head{}, err
	}
	first := head.Seq - int64(n)
	if first <= base.Seq {
		return s.VerifyAudit(ctx, audit.Head{})
	}
	before, err := s.AuditEntries(ctx, AuditFilter{After: first - 1, Ascending: true, Limit: 1})
	if err != nil {
		return audit.Head{}, err
	}
	if len(before) == 0 || before[0].Seq != first {
		return audit.Head{}, &audit.Broken{Seq: first, Reason: "it is missing"}
	}
	return s.VerifyAudit(ctx, audit.Head{Seq: first, Hash: before[0].Hash})
}

// AuditOfJob returns the entries about a job, from the first one on. If the job may be older than
// [Store.AuditBase], some may be archived.
func (s *Store) AuditOfJob(ctx context.Context, jobID string) ([]audit.Entry, error) {
	var all []audit.Entry
	for {
		f := AuditFilter{Object: audit.Object{Kind: audit.Job, ID: jobID}, Ascending: true,
			Limit: maxAuditPage}
		if len(all) > 0 {
			f.After = all[len(all)-1].Seq
		}
		page, err := s.AuditEntries(ctx, f)
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if len(page) < maxAuditPage {
			return all, nil
		}
	}
}
