package store_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/audit"
	"hutong/store"
	"hutong/store/storetest"
)

// ruleScope returns what a job does that reads a dataset, as a rule allows it.
func ruleScope(columns ...string) bfia.ApprovalScope {
	return bfia.ApprovalScope{Initiator: "A", Scheduler: "A", FlowID: "flow", Parties: []string{"A"},
		Uses: []bfia.ApprovalUse{{Role: "host.0", Provider: "p", Version: "1", Component: "LR",
			Images: []string{"docker sha256:1"}, Dataset: "n#d", Columns: columns}}}
}

// TestApprovalRules checks that a rule approves a job once, in the transaction that stores it, until the rule
// is removed or ends.
func TestApprovalRules(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), storetest.Open(t, address)
		accept := func(id string, claim *store.RuleClaim) string {
			t.Helper()
			rule, err := s.AcceptJob(ctx, id, []byte(id), store.NewRegistry(nil),
				store.Acceptance{Rules: claim})
			require.NoError(t, err)
			return rule
		}
		claim := &store.RuleClaim{Scope: ruleScope("id")}
		require.Empty(t, accept("before", claim), "there is no rule")
		until := time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
		added, err := s.AddApprovalRule(ctx, bfia.ApprovalRule{ID: "r1", Scope: ruleScope("id", "age"),
			Until: until, Note: "weekly", FromJob: "before", CreatedBy: "ann", Credential: "c1"})
		require.NoError(t, err)
		require.Contains(t, added.Text, "Note: weekly")
		require.Empty(t, accept("before", claim), "a repeated request gets the same answer")
		require.Empty(t, accept("auto", nil))

		require.Equal(t, "r1", accept("j1", claim))
		require.Equal(t, "r1", accept("j1", claim))
		require.Empty(t, accept("wider", &store.RuleClaim{Scope: ruleScope("id", "debt")}))
		deciding, err := s.DecidingRule(ctx, "j1")
		require.NoError(t, err)
		require.Equal(t, "r1", deciding)
		clients, err := s.JobClients(ctx, "j1")
		require.NoError(t, err)
		require.Len(t, clients, 1)
		require.Equal(t, []string{"ann", "r1", "rule", string(bfia.JobReady)},
			[]string{clients[0].Name, clients[0].Credential, clients[0].Proof, clients[0].Act})
		entries, err := s.AuditOfJob(ctx, "j1")
		require.NoError(t, err)
		require.Len(t, entries, 1)
		require.Equal(t, audit.Approve, entries[0].Act)
		require.Equal(t, "client ann", entries[0].Principal())
		require.Equal(t, "approval rule r1", entries[0].Reason)
		_, err = s.VerifyAudit(ctx, audit.Head{})
		require.NoError(t, err)

		// Who submitted the job made the rule.
		for _, client := range []store.JobClient{
			{JobID: "own", Name: "ann", Credential: "c9", Act: "submitted"},
			{JobID: "own2", Name: "eve", Credential: "c1", Act: "submitted"}} {
			_, err := s.AddJobClient(ctx, client)
			require.NoError(t, err)
			require.Empty(t, accept(client.JobID, &store.RuleClaim{Scope: ruleScope("id"), FourEyes: true}))
		}
		submitters, err := s.Submitters(ctx, "own2")
		require.NoError(t, err)
		require.Equal(t, []bfia.RuleClient{{Name: "eve", Credential: "c1"}}, submitters)
		_, err = s.AddJobClient(ctx, store.JobClient{JobID: "own3", Name: "ann", Credential: "c1",
			Act: "submitted"})
		require.NoError(t, err)
		require.Equal(t, "r1", accept("own3", claim), "four eyes are not required")

		// A job that is undone is decided on again.
		require.NoError(t, s.DeleteJob(ctx, "j1"))
		clients, err = s.JobClients(ctx, "j1")
		require.NoError(t, err)
		require.Empty(t, clients)
		require.NoError(t, s.RemoveApprovalRule(ctx, "r1", "bob"))
		require.NoError(t, s.RemoveApprovalRule(ctx, "r1", "eve"))
		require.Empty(t, accept("j1", claim))
		rule, err := s.ApprovalRule(ctx, "r1")
		require.NoError(t, err)
		require.Equal(t, "bob", rule.RemovedBy)
		require.NotNil(t, rule.RemovedAt)
		require.Equal(t, 2, rule.Used)
		require.NotNil(t, rule.LastUsedAt)
		require.Equal(t, until, rule.Until)
		require.Equal(t, ruleScope("id", "age"), rule.Scope)
		require.Equal(t, bfia.CodeNotFound, bfia.CodeOf(s.RemoveApprovalRule(ctx, "none", "bob")))
		_, err = s.ApprovalRule(ctx, "none")
		require.Equal(t, bfia.CodeNotFound, bfia.CodeOf(err))

		_, err = s.AddApprovalRule(ctx, bfia.ApprovalRule{ID: "r2", Scope: ruleScope("id"),
			Until: time.Now().Add(-time.Second)})
		require.NoError(t, err)
		require.Empty(t, accept("late", claim), "the rule has ended")
		rules, err := s.ApprovalRules(ctx)
		require.NoError(t, err)
		require.Len(t, rules, 2)

		// Decisions on jobs that were not created are removed.
		_, err = s.RemoveUnusedJobClients(ctx, time.Now().Add(-time.Hour))
		require.NoError(t, err)
		deciding, err = s.DecidingRule(ctx, "own3")
		require.NoError(t, err)
		require.Equal(t, "r1", deciding)
		_, err = s.RemoveUnusedJobClients(ctx, time.Now().Add(time.Hour))
		require.NoError(t, err)
		deciding, err = s.DecidingRule(ctx, "own3")
		require.NoError(t, err)
		require.Empty(t, deciding)
	})
}

// TestRemovedRuleApprovesNothing removes a rule while jobs arrive: each job that was decided on later waits.
func TestRemovedRuleApprovesNothing(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), storetest.Open(t, address)
		_, err := s.AddApprovalRule(ctx, bfia.ApprovalRule{ID: "r", Scope: ruleScope("id"),
			Until: time.Now().Add(time.Hour)})
		require.NoError(t, err)
		claim := store.Acceptance{Rules: &store.RuleClaim{Scope: ruleScope("id")}}
		var arriving sync.WaitGroup
		approved := make([]string, 8)
		for i := range approved {
			arriving.Go(func() {
				id := fmt.Sprint("j", i/2) // each job arrives twice
				rule, err := s.AcceptJob(ctx, id, []byte(id), store.NewRegistry(nil), claim)
				if err == nil {
					approved[i] = rule
				} else {
					approved[i] = err.Error()
				}
			})
		}
		require.NoError(t, s.RemoveApprovalRule(ctx, "r", "bob"))
		rule, err := s.AcceptJob(ctx, "after", []byte("after"), store.NewRegistry(nil), claim)
		require.NoError(t, err)
		require.Empty(t, rule)
		arriving.Wait()
		jobs := 0
		for i := 0; i < len(approved); i += 2 {
			require.Equal(t, approved[i], approved[i+1], "both requests of a job get one answer")
			require.Contains(t, []string{"", "r"}, approved[i])
			if approved[i] == "r" {
				jobs++
			}
		}
		r, err := s.ApprovalRule(ctx, "r")
		require.NoError(t, err)
		require.Equal(t, jobs, r.Used)
	})
}

// TestRuleDecidedOnDatasets checks that a job which a rule approved reads the generation of its dataset on
// whose columns the rule decided, or is refused.
func TestRuleDecidedOnDatasets(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), storetest.Open(t, address)
		upload := func(generation string) {
			require.NoError(t, s.CreateGeneration(ctx, "n", "d", generation, time.Now()))
			require.NoError(t, s.PutDataTable(ctx, store.DataTable{Namespace: "n", Name: "d",
				Generation: generation}))
		}
		upload("g1")
		_, err := s.AddApprovalRule(ctx, bfia.ApprovalRule{ID: "r", Scope: ruleScope("id"),
			Until: time.Now().Add(time.Hour)})
		require.NoError(t, err)
		create := func(id string) error {
			rule, err := s.AcceptJob(ctx, id, []byte(id), store.NewRegistry(nil), store.Acceptance{
				Rules: &store.RuleClaim{Scope: ruleScope("id"), Datasets: map[string]string{"n#d": "g1"}}})
			require.NoError(t, err)
			require.Equal(t, "r", rule)
			job, tasks := partyJob(id)
			tasks = slices.Clone(tasks[:1])
			tasks[0].Dataset = "n#d"
			return s.CreateJob(ctx, job, tasks)
		}
		require.NoError(t, create("j1"))
		upload("g2")
		err = create("j2")
		require.Equal(t, bfia.CodeConflict, bfia.CodeOf(err))
		require.ErrorContains(t, err, "dataset_id: dataset n#d was uploaded again or deleted")
		_, err = s.Job(ctx, "j2")
		require.Equal(t, bfia.CodeNotFound, bfia.CodeOf(err))
	})
}
