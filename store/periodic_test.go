package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/identity"
	"hutong/store"
	"hutong/store/storetest"
)

func periodicRow(id, name string) store.PeriodicJob {
	return store.PeriodicJob{PeriodicID: id, Name: name,
		Recurrence: bfia.Recurrence{Cron: "@daily", Timezone: "Asia/Shanghai", Overlap: bfia.OverlapSkip}}
}

func TestPeriodicJobs(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), storetest.Open(t, address)
		alice := store.PeriodicOwner{Name: "alice", Proof: identity.ByToken, Credential: "t-1",
			Roles: []identity.Role{identity.Operator}}
		doc := store.PeriodicDocument{Document: []byte(`{"a":1}`), Owner: alice}
		require.NoError(t, s.AddPeriodicJob(ctx, periodicRow("p1", "daily"), doc))
		requireCode(t, bfia.CodeConflict, s.AddPeriodicJob(ctx, periodicRow("p2", "daily"), doc))
		require.NoError(t, s.AddPeriodicJob(ctx, periodicRow("p2", "another"), doc))

		list, err := s.PeriodicJobs(ctx)
		require.NoError(t, err)
		require.Len(t, list, 2)
		require.Equal(t, "another", list[0].Name)
		job, err := s.PeriodicJobNamed(ctx, "daily")
		require.NoError(t, err)
		require.Equal(t, "Asia/Shanghai", job.Recurrence.Timezone)
		require.Equal(t, bfia.PeriodicActive, job.State)
		_, err = s.PeriodicJobNamed(ctx, "none")
		requireCode(t, bfia.CodeNotFound, err)

		// A change without a document keeps the one that counts.
		bob := store.PeriodicOwner{Name: "bob", Proof: identity.ByOIDC}
		revision, err := s.AddPeriodicDocument(ctx, store.PeriodicDocument{PeriodicID: "p1", Owner: bob})
		require.NoError(t, err)
		require.Equal(t, 2, revision)
		kept, err := s.PeriodicDocument(ctx, "p1", 2)
		require.NoError(t, err)
		require.JSONEq(t, `{"a":1}`, string(kept.Document))
		require.Equal(t, "bob", kept.Owner.Name)
		first, err := s.PeriodicDocument(ctx, "p1", 1)
		require.NoError(t, err)
		require.Equal(t, alice, first.Owner)
		_, err = s.AddPeriodicDocument(ctx, store.PeriodicDocument{PeriodicID: "none", Owner: bob})
		requireCode(t, bfia.CodeNotFound, err)

		// Only the owner of the current revision renews the proof.
		later := time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
		require.NoError(t, s.RenewPeriodicProof(ctx, "p1", bob, later))
		first, err = s.PeriodicDocument(ctx, "p1", 1)
		require.NoError(t, err)
		require.NotEqual(t, later, first.ProvedAt)
		require.NoError(t, s.RenewPeriodicProof(ctx, "p1", alice, later))
		first, err = s.PeriodicDocument(ctx, "p1", 1)
		require.NoError(t, err)
		require.Equal(t, later, first.ProvedAt)

		// A later version wins, whenever it arrives.
		job.Version, job.State, job.Reason, job.Submitted = 2, bfia.PeriodicPaused, "holidays", 7
		job.NextAt = &later
		require.NoError(t, s.WritePeriodicJob(ctx, job, nil))
		old := job
		old.Version, old.State = 1, bfia.PeriodicActive
		require.NoError(t, s.WritePeriodicJob(ctx, old, nil))
		now, err := s.PeriodicJob(ctx, "p1")
		require.NoError(t, err)
		require.Equal(t, bfia.PeriodicPaused, now.State)
		require.Equal(t, 7, now.Submitted)
		require.Equal(t, later, *now.NextAt)
		require.Equal(t, job.CreatedAt, now.CreatedAt)

		require.NoError(t, s.DeletePeriodicJob(ctx, "p1"))
		require.NoError(t, s.DeletePeriodicJob(ctx, "p1"))
		requireCode(t, bfia.CodeNotFound, s.WritePeriodicJob(ctx, job, nil))
		_, err = s.PeriodicDocument(ctx, "p1", 1)
		requireCode(t, bfia.CodeNotFound, err)
	})
}

func TestPeriodicRuns(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), storetest.Open(t, address)
		doc := store.PeriodicDocument{Document: []byte(`{}`)}
		require.NoError(t, s.AddPeriodicJob(ctx, periodicRow("p1", "daily"), doc))
		require.NoError(t, s.AddPeriodicJob(ctx, periodicRow("p2", "other"), doc))
		job, err := s.PeriodicJob(ctx, "p1")
		require.NoError(t, err)
		start := time.Date(2026, 11, 29, 2, 0, 0, 0, time.UTC)
		run := store.PeriodicRun{PeriodicID: "p1", ScheduledAt: start, Outcome: bfia.RunSubmitted,
			Revision: 1}

		_, err = s.ClaimPeriodicRun(ctx, run, []string{"1"})
		requireCode(t, bfia.CodeNotFound, err)
		job.Version = 1
		require.NoError(t, s.WritePeriodicJob(ctx, job, []store.PeriodicRun{run}))

		// A run keeps its job id, and takes none that another job has.
		require.NoError(t, s.CreateScheduleJob(ctx, store.ScheduleJob{JobID: "1", FlowID: "f"}, nil, nil))
		claimed, err := s.ClaimPeriodicRun(ctx, run, []string{"1", "2"})
		require.NoError(t, err)
		require.Equal(t, "2", claimed.JobID)
		claimed, err = s.ClaimPeriodicRun(ctx, run, []string{"3"})
		require.NoError(t, err)
		require.Equal(t, "2", claimed.JobID)
		manual := run
		manual.Manual = true
		job.Version = 2
		require.NoError(t, s.WritePeriodicJob(ctx, job, []store.PeriodicRun{manual}))
		_, err = s.ClaimPeriodicRun(ctx, manual, []string{"2"})
		require.ErrorContains(t, err, "all ids for its job are taken")

		require.NoError(t, s.AcceptPeriodicRun(ctx, run))
		open, err := s.OpenPeriodicRuns(ctx, "p1")
		require.NoError(t, err)
		require.Len(t, open, 2)
		require.True(t, open[0].Accepted)
		require.False(t, open[1].Accepted)
		name, err := s.PeriodicJobOf(ctx, "2")
		require.NoError(t, err)
		require.Equal(t, "daily", name)
		name, err = s.PeriodicJobOf(ctx, "4")
		require.NoError(t, err)
		require.Empty(t, name)

		// The first outcome stays.
		run.Outcome, run.Reason = "SUCCESS", ""
		require.NoError(t, s.EndPeriodicRun(ctx, run))
		run.Outcome = bfia.RunUnknown
		require.NoError(t, s.EndPeriodicRun(ctx, run))
		ended := start
		run.EndedAt, job.Version = &ended, 3
		require.NoError(t, s.WritePeriodicJob(ctx, job, []store.PeriodicRun{run}))

		// The last runs of each, and no more than are kept.
		var runs []store.PeriodicRun
		for i := range 1100 {
			runs = append(runs, store.PeriodicRun{ScheduledAt: start.Add(time.Duration(i+1) * time.Hour),
				Outcome: bfia.RunSkipped, Reason: fmt.Sprint(i), EndedAt: &ended})
		}
		last, err := s.LastPeriodicRuns(ctx, "p1", 5)
		require.NoError(t, err)
		require.Len(t, last["p1"], 2)
		require.Equal(t, bfia.PeriodicOutcome("SUCCESS"), last["p1"][0].Outcome)
		other, err := s.PeriodicJob(ctx, "p2")
		require.NoError(t, err)
		other.Version = 1
		require.NoError(t, s.WritePeriodicJob(ctx, other, runs[:1]))
		job.Version = 4
		require.NoError(t, s.WritePeriodicJob(ctx, job, runs))
		last, err = s.LastPeriodicRuns(ctx, "", 2)
		require.NoError(t, err)
		require.Len(t, last["p1"], 2)
		require.Len(t, last["p2"], 1)
		require.Equal(t, "1099", last["p1"][0].Reason)
		last, err = s.LastPeriodicRuns(ctx, "p1", 5000)
		require.NoError(t, err)
		require.Len(t, last["p1"], 1001, "those that have not ended stay")
	})
}
