package store_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"hutong/bfia"
	"hutong/internal/audit"
	"hutong/internal/identity"
	"hutong/store"
	"hutong/store/storetest"
)

// oldTrail appends n entries about jobs, an hour apart, the last of them an hour older than entries must be.
func oldTrail(t *testing.T, s *store.Store, n int) []audit.Entry {
	t.Helper()
	for i := range n {
		at := time.Now().Add(-audit.MinArchiveAge - time.Duration(n-i)*time.Hour)
		require.NoError(t, s.AppendAudit(t.Context(), audit.New(alice, audit.Submit,
			audit.Object{Kind: audit.Job, ID: fmt.Sprint(i + 1)}, audit.Allowed, at)))
	}
	return trail(t, s)
}

func headOf(e audit.Entry) audit.Head { return audit.Head{Seq: e.Seq, Hash: e.Hash} }

// archive archives the entries up to a head as alice, and removes their rows.
func archive(t *testing.T, s *store.Store, to audit.Head) error {
	t.Helper()
	if _, err := s.ArchiveAudit(pending(t, audit.ArchiveTrail, audit.Object{}), to); err != nil {
		return err
	}
	left, err := s.RemoveArchivedAudit(t.Context(), time.Now().Add(time.Minute))
	require.NoError(t, err)
	require.Zero(t, left)
	return nil
}

// rowsUpTo counts the rows of entries that the table has, also of archived ones.
func rowsUpTo(t *testing.T, address string, seq int64) (n int) {
	t.Helper()
	query := fmt.Sprintf("SELECT count(*) FROM t_audit WHERE seq <= %d", seq)
	require.NoError(t, rawDB(t, address).QueryRow(query).Scan(&n))
	return n
}

func TestArchiveAudit(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		s := storetest.Open(t, address)
		before := oldTrail(t, s, 10)
		base, err := s.AuditBase(t.Context())
		require.NoError(t, err)
		require.Zero(t, base)
		to := headOf(before[5])
		require.NoError(t, archive(t, s, to))
		require.Zero(t, rowsUpTo(t, address, 6))

		base, err = s.AuditBase(t.Context())
		require.NoError(t, err)
		require.Equal(t, audit.Base{Head: to, Time: before[5].Time}, base)
		after := trail(t, s)
		require.Equal(t, before[6:], after[:4], "the others stay")
		require.Len(t, after, 5)
		record := after[4]
		require.Equal(t, audit.ArchiveTrail, record.Act)
		require.Equal(t, audit.Allowed, record.Outcome)
		require.Equal(t, audit.Object{Kind: audit.Trail, ID: to.String()}, record.Object)
		require.Equal(t, "client alice", record.Principal())
		page, err := s.AuditPage(t.Context(), store.AuditFilter{Limit: 2})
		require.NoError(t, err)
		require.Equal(t, store.AuditPage{Entries: []audit.Entry{record, after[3]}, Head: headOf(record),
			Base: base}, page)

		head, err := s.VerifyAudit(t.Context(), audit.Head{}, to, headOf(before[7]))
		require.NoError(t, err)
		require.Equal(t, headOf(record), head)
		for _, n := range []int{3, 5, 6, 100} {
			head, err = s.VerifyAuditEnd(t.Context(), n)
			require.NoError(t, err)
			require.Equal(t, headOf(record), head)
		}
		var archived *audit.BeforeStart
		_, err = s.VerifyAudit(t.Context(), audit.Head{}, headOf(before[2]))
		require.ErrorAs(t, err, &archived)
		require.Equal(t, headOf(before[2]), archived.Pin)
		_, err = s.VerifyAudit(t.Context(), headOf(before[2]))
		require.ErrorAs(t, err, &archived, "a start that is archived")

		require.NoError(t, archive(t, s, to), "again")
		require.Equal(t, after, trail(t, s), "it changes nothing")
		require.NoError(t, archive(t, s, headOf(before[9])), "more")
		require.NoError(t, s.AppendAudit(t.Context(), audit.New(alice, audit.Stop, audit.Object{},
			audit.Allowed, time.Now())))
		head, err = s.VerifyAudit(t.Context(), audit.Head{}, headOf(record))
		require.NoError(t, err)
		require.EqualValues(t, 13, head.Seq)
	})
}

func TestArchiveAuditRefusals(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		s := storetest.Open(t, address)
		list := oldTrail(t, s, 6)
		young := audit.New(alice, audit.Stop, audit.Object{}, audit.Allowed,
			time.Now().Add(-audit.MinArchiveAge+time.Hour))
		require.NoError(t, s.AppendAudit(t.Context(), young))
		// A process whose clock is behind has written this one.
		require.NoError(t, s.AppendAudit(t.Context(), audit.New(alice, audit.Stop, audit.Object{},
			audit.Allowed, time.Now().Add(-2*audit.MinArchiveAge))))
		require.NoError(t, archive(t, s, headOf(list[2])))
		list = append(list, trail(t, s)[3:5]...)
		before := trail(t, s)
		for name, c := range map[string]struct {
			to   audit.Head
			code bfia.Code
			text string
		}{
			"wrong hash": {audit.Head{Seq: 4, Hash: list[4].Hash}, bfia.CodeConflict, "hash: entry 4"},
			"no entry": {audit.Head{Seq: 99, Hash: list[4].Hash}, bfia.CodeNotFound,
				"seq: the audit trail has no"},
			"too young": {headOf(list[6]), bfia.CodeConflict, "seq: entry 7 is of "},
			"after a too young one": {headOf(list[7]), bfia.CodeConflict,
				"an entry stays for 30 days before it can be archived"},
			"archived": {headOf(list[1]), bfia.CodeConflict, "entry 2 was archived before"},
			"archived, with another hash": {audit.Head{Seq: 3, Hash: list[1].Hash}, bfia.CodeConflict,
				"entry 3 was archived before"},
		} {
			t.Run(name, func(t *testing.T) {
				ctx := pending(t, audit.ArchiveTrail, audit.Object{})
				_, err := s.ArchiveAudit(ctx, c.to)
				require.Equal(t, c.code, bfia.CodeOf(err), "%v", err)
				require.ErrorContains(t, err, c.text)
				require.False(t, audit.From(ctx).Recorded())
				require.Equal(t, before, trail(t, s))
			})
		}
		_, err := s.ArchiveAudit(t.Context(), headOf(list[4]))
		require.ErrorContains(t, err, "no act is pending")

		// An entry that can't be written: nothing is archived.
		db := rawDB(t, address)
		execAll(t, db, "ALTER TABLE t_audit_head RENAME TO t_gone")
		_, err = s.ArchiveAudit(pending(t, audit.ArchiveTrail, audit.Object{}), headOf(list[4]))
		require.Error(t, err)
		execAll(t, db, "ALTER TABLE t_gone RENAME TO t_audit_head")
		base, err := s.AuditBase(t.Context())
		require.NoError(t, err)
		require.Equal(t, headOf(list[2]), base.Head)
		require.NoError(t, archive(t, s, headOf(list[4])))
	})
}

// TestArchivedRowsThatAreLeft stops the removal of rows, as a crash does: they count no more, and the next
// call removes them.
func TestArchivedRowsThatAreLeft(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		const n = 2*store.ArchiveBatch + 10
		s := storetest.Open(t, address)
		entries := make([]audit.Entry, n)
		for i := range entries {
			entries[i] = audit.New(alice, audit.Submit, audit.Object{Kind: audit.Job, ID: "j"}, audit.Allowed,
				time.Now().Add(-2*audit.MinArchiveAge))
		}
		for i := 0; i < n; i += 1000 {
			require.NoError(t, s.AppendAudit(t.Context(), entries[i:min(i+1000, n)]...))
		}
		list, err := s.AuditOfJob(t.Context(), "j")
		require.NoError(t, err)
		require.Len(t, list, n)
		to := headOf(list[n-6])
		_, err = s.ArchiveAudit(pending(t, audit.ArchiveTrail, audit.Object{}), to)
		require.NoError(t, err)
		left, err := s.RemoveArchivedAudit(t.Context(), time.Now().Add(-time.Second))
		require.NoError(t, err)
		require.EqualValues(t, n-5, left)
		require.Equal(t, n-5, rowsUpTo(t, address, to.Seq))

		list, err = s.AuditOfJob(t.Context(), "j")
		require.NoError(t, err)
		require.Len(t, list, 5)
		page, err := s.AuditPage(t.Context(), store.AuditFilter{Ascending: true})
		require.NoError(t, err)
		require.Equal(t, to.Seq+1, page.Entries[0].Seq)
		_, err = s.VerifyAudit(t.Context(), audit.Head{}, to)
		require.NoError(t, err)

		// The context ends between two transactions.
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = s.RemoveArchivedAudit(ctx, time.Now().Add(time.Minute))
		require.ErrorIs(t, err, context.Canceled)
		require.NoError(t, archive(t, s, to))
		require.Zero(t, rowsUpTo(t, address, to.Seq))
		require.Equal(t, 6, rowsUpTo(t, address, 1<<40))
	})
}

// TestArchiveAuditWhileOthersAppend archives in several processes at once, while others append and verify.
func TestArchiveAuditWhileOthersAppend(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		const n, appended = 60, 40
		first := storetest.Open(t, address)
		list := oldTrail(t, first, n)
		var all errgroup.Group
		for range 3 {
			s, err := store.Open(t.Context(), address)
			require.NoError(t, err)
			t.Cleanup(func() { _ = s.Close() })
			all.Go(func() error {
				for range appended {
					entry := audit.New(alice, audit.Stop, audit.Object{}, audit.Refused, time.Now())
					if err := s.AppendAudit(context.Background(), entry); err != nil {
						return err
					}
				}
				return nil
			})
			all.Go(func() error {
				for i := 9; i < n; i += 10 {
					pending := audit.NewPending(alice, audit.ArchiveTrail, func() string { return "" })
					ctx := audit.With(context.Background(), pending)
					// Another process may have archived more.
					_, err := s.ArchiveAudit(ctx, headOf(list[i]))
					if err != nil && bfia.CodeOf(err) != bfia.CodeConflict {
						return err
					}
					if _, err := s.RemoveArchivedAudit(ctx, time.Now().Add(time.Minute)); err != nil {
						return err
					}
					if _, err := s.VerifyAudit(context.Background(), audit.Head{}); err != nil {
						return err
					}
					if _, err := s.VerifyAuditEnd(context.Background(), n/2); err != nil {
						return err
					}
				}
				return nil
			})
		}
		require.NoError(t, all.Wait())
		base, err := first.AuditBase(t.Context())
		require.NoError(t, err)
		require.Equal(t, headOf(list[n-1]), base.Head)
		require.Zero(t, rowsUpTo(t, address, n))
		archives, err := first.AuditEntries(t.Context(), store.AuditFilter{Act: audit.ArchiveTrail})
		require.NoError(t, err)
		require.Len(t, archives, n/10, "each once")
		head, err := first.VerifyAudit(t.Context(), audit.Head{}, base.Head)
		require.NoError(t, err)
		require.EqualValues(t, n+3*appended+n/10, head.Seq)
	})
}

// TestTamperedArchivedTrailIsFound changes the tables of a party that has archived entries, as someone with
// access to the database does.
func TestTamperedArchivedTrailIsFound(t *testing.T) {
	t.Parallel()
	moveBase := func(seq int) string {
		return fmt.Sprintf("UPDATE t_audit_base SET seq = %d, "+
			"hash = (SELECT hash FROM t_audit WHERE seq = %d)", seq, seq)
	}
	for name, attack := range map[string]struct {
		statement string
		seq       int64
	}{
		"altered entry":       {"UPDATE t_audit SET name = 'bob' WHERE seq = 8", 8},
		"removed entry":       {"DELETE FROM t_audit WHERE seq = 7", 7},
		"altered base":        {"UPDATE t_audit_base SET hash = (SELECT hash FROM t_audit WHERE seq = 8)", 7},
		"lower base":          {"UPDATE t_audit_base SET seq = seq - 1", 6},
		"removed base":        {"DELETE FROM t_audit_base", 1},
		"more removed":        {moveBase(8) + "; DELETE FROM t_audit WHERE seq <= 8", 8},
		"only the base moved": {moveBase(8), 8},
		"all but the end": {"DELETE FROM t_audit WHERE seq <= 11; UPDATE t_audit_base SET seq = 11, " +
			"hash = (SELECT prev FROM t_audit WHERE seq = 12)", 11},
		"altered record": {"UPDATE t_audit SET outcome = 'refused' WHERE act = 'audit.archive'", 11},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.Each(t, func(t *testing.T, address string) {
				s, db := storetest.Open(t, address), rawDB(t, address)
				list := oldTrail(t, s, 10)
				require.NoError(t, archive(t, s, headOf(list[5])))
				require.NoError(t, s.AppendAudit(t.Context(), audit.New(alice, audit.Stop, audit.Object{},
					audit.Allowed, time.Now())))
				execAll(t, db, attack.statement)
				var broken *audit.Broken
				_, err := s.VerifyAudit(t.Context(), audit.Head{})
				require.ErrorAs(t, err, &broken)
				require.Equal(t, attack.seq, broken.Seq, "%v", err)
				_, err = s.VerifyAuditEnd(t.Context(), 100)
				require.ErrorAs(t, err, &broken, "the doctor finds it too")
				if attack.seq == 8 && name != "altered entry" {
					_, err = s.VerifyAuditEnd(t.Context(), 3) // starts after the base
					require.ErrorAs(t, err, &broken)
					_, err = s.ArchiveAudit(pending(t, audit.ArchiveTrail, audit.Object{}), headOf(list[9]))
					require.Equal(t, bfia.CodeConflict, bfia.CodeOf(err))
					require.ErrorContains(t, err, "entries were removed without it", "no archive hides it")
				}
			})
		})
	}
}

// TestForgedBaseAgainstKeptHeads rewrites all that is left of a trail: only a kept head finds it.
func TestForgedBaseAgainstKeptHeads(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		s, db := storetest.Open(t, address), rawDB(t, address)
		list := oldTrail(t, s, 8)
		require.NoError(t, archive(t, s, headOf(list[5])))
		kept := trail(t, s)
		forged := audit.Head{Seq: 6, Hash: list[4].Hash}
		record := audit.New(identity.Principal{}, audit.ArchiveTrail, forged.Object(), audit.Allowed,
			time.Now())
		head := record.Link(forged)
		for _, statement := range []string{
			"DELETE FROM t_audit",
			fmt.Sprintf("UPDATE t_audit_base SET hash = '%s'", forged.Hash),
			fmt.Sprintf("UPDATE t_audit_head SET seq = 6, hash = '%s'", forged.Hash),
		} {
			execAll(t, db, statement)
		}
		require.NoError(t, s.AppendAudit(t.Context(), record))
		got, err := s.VerifyAudit(t.Context(), audit.Head{})
		require.NoError(t, err)
		require.Equal(t, head, got)

		for _, pin := range []audit.Head{headOf(list[5]), headOf(kept[0]), headOf(kept[2])} {
			var broken *audit.Broken
			_, err = s.VerifyAudit(t.Context(), audit.Head{}, pin)
			require.ErrorAs(t, err, &broken, "head %s", pin)
		}
	})
}

// TestOlderVersionWithArchivedTrail does what a process of the version before does with a database whose
// entries were archived: it appends.
func TestOlderVersionWithArchivedTrail(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		s, db := storetest.Open(t, address), rawDB(t, address)
		list := oldTrail(t, s, 6)
		require.NoError(t, archive(t, s, headOf(list[5])))
		_, err := db.Exec("ALTER TABLE t_audit_base RENAME TO t_unknown") // it does not read it
		require.NoError(t, err)
		require.NoError(t, s.AppendAudit(t.Context(), audit.New(alice, audit.Stop, audit.Object{},
			audit.Allowed, time.Now())))
		_, err = db.Exec("ALTER TABLE t_unknown RENAME TO t_audit_base")
		require.NoError(t, err)
		head, err := s.VerifyAudit(t.Context(), audit.Head{}, headOf(list[5]))
		require.NoError(t, err)
		require.EqualValues(t, 8, head.Seq)
	})
}
