package store_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/store"
	"hutong/store/storetest"
)

// TestPageOfManyJobs checks that a page of the list of jobs takes as long with 10,000 jobs as with a few
// hundred, wherever it is and whatever its filter. Without an index it would take dozens of times as long.
func TestPageOfManyJobs(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), storetest.Open(t, address)
		job, tasks := partyJob("first")
		job.State = bfia.JobFinished
		require.NoError(t, s.CreateJob(ctx, job, tasks))
		flow := "flow1"
		pages := map[string]store.JobFilter{
			"the first":     {Limit: 50},
			"of a flow":     {Limit: 2, FlowID: &flow},
			"of a state":    {Limit: 50, States: []bfia.JobState{bfia.JobFinished}},
			"in the middle": {Limit: 50},
		}
		const few, many = 200, 10_000
		read := func(n int, name string) func() error {
			filter := pages[name]
			if name == "in the middle" {
				filter.Before = &store.JobCursor{CreatedAt: at, JobID: fmt.Sprintf("job%05d", n/2)}
			}
			return func() error {
				page, err := s.Jobs(ctx, filter)
				require.Len(t, page.Jobs, filter.Limit, name)
				return err
			}
		}
		multiply(t, address, few)
		took := map[string]time.Duration{}
		for name := range pages {
			took[name] = best(t, read(few, name))
		}
		multiply(t, address, many)
		for name := range pages {
			requireAtMost(t, 5*took[name]+2*time.Millisecond, "the page "+name, read(many, name))
		}
	})
}

// TestEndedJobsCostNothing checks that what a party reads again and again takes as long with 10,000 ended
// jobs as with a few hundred.
func TestEndedJobsCostNothing(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), storetest.Open(t, address)
		job, tasks := partyJob("first")
		job.State, job.EndedAt = bfia.JobFinished, &at
		require.NoError(t, s.CreateJob(ctx, job, tasks))
		scheduled := store.ScheduleJob{JobID: "first", State: bfia.JobFinished, InitiatorRole: "guest",
			InitiatorNode: "A", SyncType: "poll", CreatedAt: at, EndedAt: &at}
		require.NoError(t, s.CreateScheduleJob(ctx, scheduled, nil, nil))
		longAgo := at.Add(-time.Hour)
		reads := map[string]func() error{
			"the metrics": func() error {
				_, err := s.Snapshot(ctx, "guest")
				return err
			},
			"lost jobs": func() error {
				_, err := s.UnfinishedJobs(ctx, time.Now(), "", 100)
				return err
			},
			"lost jobs of the scheduler": func() error {
				_, err := s.UnfinishedScheduleJobs(ctx, time.Now(), "", 100)
				return err
			},
			"expired jobs": func() error {
				expired, err := s.ExpiredJobs(ctx, longAgo, "", 100)
				require.LessOrEqual(t, len(expired), 1, "the one to remove")
				return err
			},
			"a job to remove": func() error { return s.ClaimJobRemoval(ctx, "first") },
		}
		multiplyEnded := func(n int) {
			both := "flow_id, state, initiator_node, reason, outcome, waiting, created_at, ended_at, "
			party := both + "roles, scheduler_node, party_nodes, old_job_id"
			scheduler := both + "initiator_role, participant_nodes, sync_type, priority, parallelism, wait_node, " +
				"wait_reason"
			insertCopies(t, address, "t_job", party, party, n)
			insertCopies(t, address, "t_schedule_job", scheduler, scheduler, n)
			if !strings.HasPrefix(address, "sqlite") { // a party's SQLite has no statistics
				analyze(t, address)
			}
		}
		const few, many = 200, 10_000
		multiplyEnded(few)
		took := map[string]time.Duration{}
		for name, read := range reads {
			took[name] = best(t, read)
		}
		multiplyEnded(many)
		for name, read := range reads {
			requireAtMost(t, 3*took[name]+time.Millisecond, name, read)
		}
	})
}

// best returns the shortest time of several runs, since the machine may be busy.
func best(t *testing.T, f func() error) time.Duration {
	t.Helper()
	shortest := time.Hour
	for range 30 {
		shortest = min(shortest, measure(t, f))
	}
	return shortest
}

// requireAtMost requires that the shortest time of many runs is at most the limit. On a busy machine it takes
// more of them; what really takes longer never gets below the limit.
func requireAtMost(t *testing.T, limit time.Duration, what string, f func() error) {
	t.Helper()
	shortest := time.Hour
	for deadline := time.Now().Add(30 * time.Second); shortest > limit; {
		shortest = min(shortest, measure(t, f))
		require.True(t, time.Now().Before(deadline), "%s takes at least %s, the limit is %s", what,
			shortest, limit)
	}
}

func measure(t *testing.T, f func() error) time.Duration {
	t.Helper()
	began := time.Now()
	require.NoError(t, f())
	return time.Since(began)
}

// multiply copies the first job until there are n jobs, in a hundred flows.
func multiply(t *testing.T, address string, n int) {
	t.Helper()
	columns := "flow_id, state, roles, initiator_node, scheduler_node, party_nodes, old_job_id, reason, " +
		"outcome, waiting, created_at"
	copyJobs(t, address, "t_job", columns, strings.Replace(columns, "flow_id", "'flow' || (i % 100)", 1), n)
}

// copyJobs copies the row of the job "first" until there are n copies, and updates the statistics. values are
// those of the columns of copy i.
func copyJobs(t *testing.T, address, table, columns, values string, n int) {
	t.Helper()
	insertCopies(t, address, table, columns, values, n)
	analyze(t, address)
}

func insertCopies(t *testing.T, address, table, columns, values string, n int) {
	t.Helper()
	number := "substr('0000' || i, length('0000' || i) - 4)"
	execute(t, address, fmt.Sprintf(`WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < %d)
		INSERT INTO %[2]s (job_id, %[3]s) SELECT 'job' || %[4]s, %[5]s FROM n, %[2]s WHERE job_id = 'first'
		ON CONFLICT (job_id) DO NOTHING`, n-1, table, columns, number, values))
}

// analyze updates the statistics by which a database plans its queries.
func analyze(t *testing.T, address string) {
	t.Helper()
	execute(t, address, "ANALYZE")
}

// execute executes a statement on a connection of its own.
func execute(t *testing.T, address, statement string) {
	t.Helper()
	db := rawDB(t, address)
	defer func() { require.NoError(t, db.Close()) }()
	_, err := db.ExecContext(t.Context(), statement)
	require.NoError(t, err)
}
