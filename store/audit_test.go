package store_test

import (
	"context"
	"database/sql"
	"encoding/json"
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

var alice = identity.Principal{Kind: identity.KindClient, Name: "alice", Proof: identity.ByToken,
	Credential: "t1", Address: "192.0.2.1", Run: identity.Run{}}

// pending returns a context in which alice acts.
func pending(t *testing.T, act string, object audit.Object) context.Context {
	p := audit.NewPending(alice, act, func() string { return "d1" })
	p.On(object.Kind, object.ID)
	return audit.With(t.Context(), p)
}

// auditedActs are the acts of the database, each with what it needs and a check whether it was done.
var auditedActs = []struct {
	act     string
	object  audit.Object
	prepare func(t *testing.T, s *store.Store)
	do      func(ctx context.Context, s *store.Store) error
	done    func(t *testing.T, s *store.Store) bool
}{
	{audit.RegisterProvider, audit.Object{Kind: audit.Provider, ID: "v:1@docker"},
		func(*testing.T, *store.Store) {},
		func(ctx context.Context, s *store.Store) error {
			_, err := s.PutProvider(ctx, auditProvider)
			return err
		},
		hasProvider},
	{audit.RegisterComponent, audit.Object{Kind: audit.Provider, ID: "v:1@docker"},
		func(*testing.T, *store.Store) {},
		func(ctx context.Context, s *store.Store) error {
			_, err := s.PutComponents(ctx, auditProvider)
			return err
		},
		hasProvider},
	{audit.DeleteProvider, audit.Object{Kind: audit.Provider, ID: "v:1@docker"},
		func(t *testing.T, s *store.Store) {
			_, err := s.PutProvider(t.Context(), auditProvider)
			require.NoError(t, err)
		},
		func(ctx context.Context, s *store.Store) error {
			_, err := s.DeleteProvider(ctx, store.ProviderFilter{Name: "v"}, false)
			return err
		},
		func(t *testing.T, s *store.Store) bool { return !hasProvider(t, s) }},
	{audit.Upload, audit.Object{Kind: audit.Dataset, ID: "n#d"},
		func(t *testing.T, s *store.Store) {
			require.NoError(t, s.CreateGeneration(t.Context(), "n", "d", "g1", at))
		},
		func(ctx context.Context, s *store.Store) error {
			return s.PutDataTable(ctx, store.DataTable{Namespace: "n", Name: "d", Generation: "g1"})
		},
		hasDataset},
	{audit.DeleteDataset, audit.Object{Kind: audit.Dataset, ID: "n#d"},
		func(t *testing.T, s *store.Store) {
			require.NoError(t, s.CreateGeneration(t.Context(), "n", "d", "g1", at))
			require.NoError(t, s.PutDataTable(t.Context(),
				store.DataTable{Namespace: "n", Name: "d", Generation: "g1"}))
		},
		func(ctx context.Context, s *store.Store) error {
			_, err := s.DeleteDataTable(ctx, "n", "d")
			return err
		},
		func(t *testing.T, s *store.Store) bool { return !hasDataset(t, s) }},
	{audit.DeleteJob, audit.Object{Kind: audit.Job, ID: "j"},
		func(t *testing.T, s *store.Store) { endedJob(t, s, "j", at) },
		func(ctx context.Context, s *store.Store) error { return s.ClaimJobRemoval(ctx, "j") },
		func(t *testing.T, s *store.Store) bool {
			ids, err := s.ExpiredJobs(t.Context(), at.Add(-time.Hour), "", 10)
			require.NoError(t, err)
			return len(ids) == 1 // it is being removed
		}},
	{audit.Drain, audit.Object{Kind: audit.Runner, ID: "r"},
		func(t *testing.T, s *store.Store) {
			require.NoError(t, s.PutRunner(t.Context(), store.Runner{RunnerID: "r", NodeID: "A", Slots: 1}))
		},
		func(ctx context.Context, s *store.Store) error { return s.DrainRunner(ctx, "r", true) },
		func(t *testing.T, s *store.Store) bool {
			runners, err := s.Runners(t.Context(), time.Hour)
			require.NoError(t, err)
			return runners[0].Draining
		}},
}

var auditProvider = store.Provider{Name: "v", Version: "1", Device: "docker", Protocol: "bfia",
	Components: map[string]json.RawMessage{"psi": json.RawMessage("{}")}}

func hasProvider(t *testing.T, s *store.Store) bool {
	list, err := s.Providers(t.Context(), store.ProviderFilter{})
	require.NoError(t, err)
	return len(list) == 1
}

func hasDataset(t *testing.T, s *store.Store) bool {
	_, err := s.DataTable(t.Context(), "n", "d")
	if bfia.CodeOf(err) == bfia.CodeNotFound {
		return false
	}
	require.NoError(t, err)
	return true
}

func trail(t *testing.T, s *store.Store) []audit.Entry {
	t.Helper()
	list, err := s.AuditEntries(t.Context(), store.AuditFilter{Ascending: true})
	require.NoError(t, err)
	return list
}

func TestActsWriteOneEntryInTheirTransaction(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		for _, act := range auditedActs {
			t.Run(act.act, func(t *testing.T) {
				s, db := storetest.Open(t, address), rawDB(t, address)
				for _, table := range []string{"t_provider_info", "t_data_table", "t_data_generation",
					"t_job",
					"t_runner"} {
					_, err := db.Exec("DELETE FROM " + table)
					require.NoError(t, err)
				}
				act.prepare(t, s)
				before := trail(t, s)

				// An entry that can't be written: the act does not happen.
				_, err := db.Exec("UPDATE t_audit_head SET seq = seq - 1")
				require.NoError(t, err)
				if len(before) > 0 { // the number of the last entry is taken
					require.Error(t, act.do(pending(t, act.act, act.object), s))
					require.False(t, act.done(t, s), "the act was rolled back")
				}
				_, err = db.Exec("UPDATE t_audit_head SET seq = seq + 1")
				require.NoError(t, err)
				_, err = db.Exec("ALTER TABLE t_audit_head RENAME TO t_gone")
				require.NoError(t, err)
				require.Error(t, act.do(pending(t, act.act, act.object), s))
				_, err = db.Exec("ALTER TABLE t_gone RENAME TO t_audit_head")
				require.NoError(t, err)
				require.False(t, act.done(t, s), "the act was rolled back")

				ctx := pending(t, act.act, act.object)
				require.NoError(t, act.do(ctx, s))
				require.True(t, act.done(t, s))
				require.True(t, audit.From(ctx).Recorded())
				after := trail(t, s)
				require.Len(t, after, len(before)+1)
				last := after[len(after)-1]
				require.Equal(t, act.act, last.Act)
				require.Equal(t, act.object, last.Object)
				require.Equal(t, audit.Allowed, last.Outcome)
				require.Equal(t, "client alice", last.Principal())
				require.Equal(t, "t1", last.Credential)
				require.Equal(t, "d1", last.Digest)
				_, err = s.VerifyAudit(t.Context(), audit.Head{})
				require.NoError(t, err)
			})
		}
	})
}

// TestActThatFailsWritesNoEntry checks that the entry of an act is rolled back with the act.
func TestActThatFailsWritesNoEntry(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		s := storetest.Open(t, address)
		ctx := pending(t, audit.Drain, audit.Object{Kind: audit.Runner, ID: "r"})
		require.Equal(t, bfia.CodeNotFound, bfia.CodeOf(s.DrainRunner(ctx, "r", true)))
		require.Empty(t, trail(t, s))
		require.False(t, audit.From(ctx).Recorded())
	})
}

// TestAuditOfSeveralProcesses appends from several stores on one database at once, as several processes do.
func TestAuditOfSeveralProcesses(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		const processes, each = 4, 50
		first := storetest.Open(t, address)
		var all errgroup.Group
		for p := range processes {
			s, err := store.Open(t.Context(), address)
			require.NoError(t, err)
			t.Cleanup(func() { _ = s.Close() })
			for w := range 2 {
				all.Go(func() error {
					for i := range each {
						// Acts in transactions that lock other rows too, and entries on their own.
						if w == 0 {
							ctx := audit.With(context.Background(),
								audit.NewPending(alice, audit.RegisterProvider, func() string { return "" }))
							if _, err := s.PutProvider(ctx, auditProvider); err != nil {
								return err
							}
							continue
						}
						entry := audit.New(alice, audit.Submit,
							audit.Object{Kind: audit.Job, ID: fmt.Sprint(p, i)}, audit.Refused, time.Now())
						if err := s.AppendAudit(context.Background(), entry); err != nil {
							return err
						}
					}
					return nil
				})
			}
		}
		began := time.Now()
		require.NoError(t, all.Wait())
		t.Logf("%.2f ms an entry", float64(time.Since(began).Microseconds())/1000/(processes*each*2))
		head, err := first.VerifyAudit(t.Context(), audit.Head{})
		require.NoError(t, err)
		require.EqualValues(t, processes*each*2, head.Seq)
	})
}

// TestTamperedTrailIsFound changes the tables as someone with access to the database does.
func TestTamperedTrailIsFound(t *testing.T) {
	t.Parallel()
	for name, attack := range map[string]struct {
		statement string
		seq       int64
	}{
		"altered principal": {"UPDATE t_audit SET name = 'bob' WHERE seq = 3", 3},
		"altered outcome":   {"UPDATE t_audit SET outcome = 'allowed' WHERE seq = 4", 4},
		"deleted":           {"DELETE FROM t_audit WHERE seq = 3", 3},
		"deleted and renumbered": {"DELETE FROM t_audit WHERE seq = 3; " +
			"UPDATE t_audit SET seq = 3 WHERE seq = 4; " +
			"UPDATE t_audit SET seq = 4 WHERE seq = 5; UPDATE t_audit_head SET seq = 4", 3},
		"end deleted": {"DELETE FROM t_audit WHERE seq > 3", 4},
		"end deleted with its head": {"DELETE FROM t_audit WHERE seq > 3; UPDATE t_audit_head SET seq = 3, " +
			"hash = (SELECT hash FROM t_audit WHERE seq = 3)", 4},
		"inserted": {"INSERT INTO t_audit SELECT 6, time, kind, node, name, run_job, run_task, run_role, " +
			"proof, " +
			"credential, address, act, object_kind, object_id, outcome, reason, count, digest, prev, hash " +
			"FROM t_audit WHERE seq = 5", 6},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.Each(t, func(t *testing.T, address string) {
				s, db := storetest.Open(t, address), rawDB(t, address)
				for i := range 5 {
					require.NoError(t, s.AppendAudit(t.Context(), audit.New(alice, audit.Submit,
						audit.Object{Kind: audit.Job, ID: fmt.Sprint(i)}, audit.Refused, time.Now())))
				}
				kept, err := s.VerifyAudit(t.Context(), audit.Head{})
				require.NoError(t, err)
				execAll(t, db, attack.statement)
				_, err = s.VerifyAudit(t.Context(), audit.Head{}, kept)
				var broken *audit.Broken
				require.ErrorAs(t, err, &broken)
				require.Equal(t, attack.seq, broken.Seq)
				if name == "end deleted with its head" {
					return // only the kept head finds it
				}
				_, err = s.VerifyAuditEnd(t.Context(), 4)
				require.ErrorAs(t, err, &broken, "the doctor finds it too")
			})
		})
	}
}

func execAll(t *testing.T, db *sql.DB, statements string) {
	t.Helper()
	_, err := db.Exec(statements)
	require.NoError(t, err)
}

func TestAuditFilter(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		s := storetest.Open(t, address)
		partner := identity.Principal{Kind: identity.KindPartner, Node: "B"}
		add := func(p identity.Principal, act string, kind audit.ObjectKind, id string, outcome audit.Outcome,
			at time.Time) {
			object := audit.Object{Kind: kind, ID: id}
			require.NoError(t, s.AppendAudit(t.Context(), audit.New(p, act, object, outcome, at)))
		}
		add(alice, audit.Submit, audit.Job, "1", audit.Allowed, at)
		add(alice, audit.Stop, audit.Job, "1", audit.Failed, at.Add(time.Second))
		add(partner, audit.PartnerStart, audit.Job, "2", audit.Refused, at.Add(2*time.Second))
		add(partner, "jobxstop", audit.Dataset, "1", audit.Allowed, at.Add(3*time.Second))

		for name, c := range map[string]struct {
			f    store.AuditFilter
			want []int64
		}{
			"all":        {store.AuditFilter{}, []int64{4, 3, 2, 1}},
			"limit":      {store.AuditFilter{Limit: 2}, []int64{4, 3}},
			"before":     {store.AuditFilter{Before: 3}, []int64{2, 1}},
			"after":      {store.AuditFilter{After: 2, Ascending: true}, []int64{3, 4}},
			"since":      {store.AuditFilter{Since: at.Add(2 * time.Second)}, []int64{4, 3}},
			"until":      {store.AuditFilter{Until: at.Add(2 * time.Second)}, []int64{2, 1}},
			"client":     {store.AuditFilter{Principal: "alice"}, []int64{2, 1}},
			"partner":    {store.AuditFilter{Principal: "B"}, []int64{4, 3}},
			"act":        {store.AuditFilter{Act: audit.Stop}, []int64{2}},
			"group":      {store.AuditFilter{Act: "job"}, []int64{2, 1}},
			"no pattern": {store.AuditFilter{Act: "j_b"}, nil},
			"object":     {store.AuditFilter{Object: audit.Object{Kind: audit.Job, ID: "1"}}, []int64{2, 1}},
			"kind":       {store.AuditFilter{Object: audit.Object{Kind: audit.Dataset}}, []int64{4}},
			"outcome":    {store.AuditFilter{Outcome: audit.Refused}, []int64{3}},
		} {
			t.Run(name, func(t *testing.T) {
				list, err := s.AuditEntries(t.Context(), c.f)
				require.NoError(t, err)
				var got []int64
				for _, e := range list {
					got = append(got, e.Seq)
				}
				require.Equal(t, c.want, got)
			})
		}
		_, err := s.AuditEntries(t.Context(), store.AuditFilter{Principal: "\x00"})
		require.Equal(t, bfia.CodeBadRequest, bfia.CodeOf(err))
	})
}

// TestDeletedJobKeepsItsTrail checks that neither retention nor the deletion of a job removes entries.
func TestDeletedJobKeepsItsTrail(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		s := storetest.Open(t, address)
		endedJob(t, s, "j", at)
		ctx := pending(t, audit.DeleteJob, audit.Object{Kind: audit.Job, ID: "j"})
		require.NoError(t, s.ClaimJobRemoval(ctx, "j"))
		require.NoError(t, s.RecordTransfers(t.Context(), "session_j",
			[]store.Transfer{{SessionID: "session_j", NodeID: "B", Sent: 5}}))
		require.NoError(t, s.RemoveJob(t.Context(), "j"))
		entries, err := s.AuditOfJob(t.Context(), "j")
		require.NoError(t, err)
		require.Len(t, entries, 1)
		transfers, complete, err := s.Transfers(t.Context(), "j")
		require.NoError(t, err)
		require.True(t, complete)
		require.Len(t, transfers, 1)
	})
}

func TestTransfers(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		s := storetest.Open(t, address)
		_, complete, err := s.Transfers(t.Context(), "j")
		require.NoError(t, err)
		require.False(t, complete, "no session was released")
		sent := store.Transfer{SessionID: "session_j_t", NodeID: "B", Sent: 1, SentMessages: 2, Received: 3,
			ReceivedMessages: 4, Unconfirmed: 5}
		require.NoError(t, s.RecordTransfers(t.Context(), "session_j", nil))
		for range 2 { // the release is repeated if its answer is lost
			require.NoError(t, s.RecordTransfers(t.Context(), "session_j", []store.Transfer{sent}))
		}
		got, complete, err := s.Transfers(t.Context(), "j")
		require.NoError(t, err)
		require.True(t, complete)
		require.Len(t, got, 1)
		got[0].RecordedAt = time.Time{}
		require.Equal(t, sent, got[0])
	})
}
