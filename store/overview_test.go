package store_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/audit"
	"hutong/store"
	"hutong/store/storetest"
)

// TestOverviewOfManyJobs checks that what an overview reads does not grow with the number of jobs, nor a page
// of a list with any filter. Only the numbers of jobs do.
func TestOverviewOfManyJobs(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), storetest.Open(t, address)
		job, tasks := partyJob("first")
		require.NoError(t, s.CreateJob(ctx, job, tasks))
		require.NoError(t, s.UpdateJob(ctx, "first", bfia.JobFinished, "", at))
		filters := map[string]store.JobFilter{
			"no text": {Limit: 100, Text: "Nothing at All"}, "a role": {Limit: 100, Role: "arbiter"},
			"a partner":              {Limit: 100, Partner: "nobody"},
			"the beginning of an id": {Limit: 100, Prefix: "job-of-nobody"}}
		reads := map[string]func(n int) func() error{}
		for name, filter := range filters {
			reads[name] = func(int) func() error {
				return func() error {
					page, err := s.Jobs(ctx, filter)
					require.Empty(t, page.Jobs)
					return err
				}
			}
		}
		reads["counts"] = func(n int) func() error {
			return func() error {
				counts, err := s.JobCounts(ctx)
				require.Equal(t, map[bfia.JobState]int{bfia.JobFinished: n + 1}, counts)
				return err
			}
		}

		const few, many = 1_000, 10_000
		multiply(t, address, few)
		took := map[string]time.Duration{}
		for name, read := range reads {
			took[name] = best(t, read(few))
		}
		overview := best(t, func() error { return readOverview(ctx, s) })
		multiply(t, address, many)
		for name, read := range reads {
			limit := 3*took[name] + 2*time.Millisecond
			if name == "counts" {
				limit = 3*(many/few)*took[name] + 2*time.Millisecond
			}
			requireAtMost(t, limit, name, read(many))
		}
		requireAtMost(t, 3*overview+2*time.Millisecond, "the overview",
			func() error { return readOverview(ctx, s) })
	})
}

// readOverview reads what an overview shows of a few jobs.
func readOverview(ctx context.Context, s *store.Store) error {
	if _, _, err := s.FailedJobs(ctx, time.Now().Add(-time.Hour), 50); err != nil {
		return err
	}
	if _, err := s.WaitingJobs(ctx, bfia.WaitsForApproval); err != nil {
		return err
	}
	if _, err := s.QueueLength(ctx); err != nil {
		return err
	}
	_, err := s.RunnerUses(ctx)

	return err
}

// TestWaitingJobs checks that waits of both a participant's and a scheduler's rows are found, of open jobs
// only.
func TestWaitingJobs(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), storetest.Open(t, address)
		for _, id := range []string{"j1", "j2", "ended"} {
			job, tasks := partyJob(id)
			require.NoError(t, s.CreateJob(ctx, job, tasks))
			require.NoError(t, s.SetJobWaiting(ctx, id,
				[]bfia.Waiting{{Kind: bfia.WaitsForApproval, NodeID: "A", Since: at}}))
		}
		require.NoError(t, s.SetJobWaiting(ctx, "j2", []bfia.Waiting{{Kind: bfia.WaitsForPartner, NodeID: "C",
			Message: `"kind":"approval" is not its kind`, Since: at}}))
		require.NoError(t, s.UpdateJob(ctx, "ended", bfia.JobFinished, "", at))
		jobs, err := s.WaitingJobs(ctx, bfia.WaitsForApproval)
		require.NoError(t, err)
		require.Len(t, jobs, 1)
		require.Equal(t, "j1", jobs[0].JobID)
		jobs, err = s.WaitingJobs(ctx, bfia.WaitsForPartner)
		require.NoError(t, err)
		require.Len(t, jobs, 1)
		require.Equal(t, "C", jobs[0].Waiting[0].NodeID)
	})
}

// TestContacts checks that the last request of a partner stays.
func TestContacts(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), storetest.Open(t, address)
		require.NoError(t, s.PutContact(ctx, "B", at))
		require.NoError(t, s.PutContact(ctx, "B", at.Add(-time.Hour)))
		got, err := s.Contacts(ctx)
		require.NoError(t, err)
		require.Equal(t, map[string]time.Time{"B": kept}, got)
	})
}

// TestApprovedJob checks which job of a flow counts as the one that was approved last.
func TestApprovedJob(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), storetest.Open(t, address)
		create := func(id string, state bfia.JobState, change func(*store.Job)) {
			job, tasks := partyJob(id)
			if change != nil {
				change(&job)
			}
			require.NoError(t, s.CreateJob(ctx, job, tasks))
			require.NoError(t, s.UpdateJob(ctx, id, state, "", at))
		}
		record := func(id, act string, outcome audit.Outcome) {
			require.NoError(t, s.AppendAudit(ctx, audit.New(alice, act, audit.Object{Kind: audit.Job, ID: id},
				outcome, at)))
		}
		approve := func(id string) { record(id, audit.Approve, audit.Allowed) }
		last := func(before string) string {
			t.Helper()
			id, found, err := s.ApprovedJob(ctx, before, "flow", "A")
			require.NoError(t, err)
			require.Equal(t, id != "", found)
			return id
		}

		create("new", bfia.JobPending, nil)
		require.Empty(t, last("new"))
		// None of these was approved here, ran, and belongs to the flow of the initiator.
		create("no approval", bfia.JobFinished, nil)
		create("refused", bfia.JobFinished, nil)
		record("refused", audit.Approve, audit.Refused)
		create("rejected", bfia.JobRejected, nil)
		approve("rejected")
		record("rejected", audit.Reject, audit.Allowed)
		create("of another flow", bfia.JobFinished, func(j *store.Job) { j.FlowID = "other" })
		approve("of another flow")
		create("of another party", bfia.JobFinished, func(j *store.Job) { j.InitiatorNode = "C" })
		approve("of another party")
		create("of no flow", bfia.JobFinished, func(j *store.Job) { j.FlowID = "" })
		approve("of no flow")
		require.Empty(t, last("new"))
		_, found, err := s.ApprovedJob(ctx, "new", "", "A")
		require.NoError(t, err)
		require.False(t, found)

		// The order is that of the approvals, not of the jobs.
		create("first", bfia.JobReady, nil)
		create("second", bfia.JobFinished, func(j *store.Job) { j.CreatedAt = at.Add(-time.Hour) })
		approve("first")
		require.Equal(t, "first", last("new"))
		approve("second")
		require.Equal(t, "second", last("new"))
		require.Equal(t, "first", last("second"), "approved before it")
		require.Empty(t, last("first"))
	})
}
