package store_test

import (
	"database/sql"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun/driver/pgdriver"

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
		took := map[int]map[string]time.Duration{}
		for _, n := range []int{200, 10_000} {
			multiply(t, address, n)
			took[n] = map[string]time.Duration{}
			for name, filter := range pages {
				if name == "in the middle" {
					filter.Before = &store.JobCursor{CreatedAt: at, JobID: fmt.Sprintf("job%05d", n/2)}
				}
				best := time.Hour // the machine may be busy
				for range 30 {
					began := time.Now()
					jobs, err := s.Jobs(ctx, filter)
					require.NoError(t, err)
					require.Len(t, jobs, filter.Limit, name)
					best = min(best, time.Since(began))
				}
				took[n][name] = best
			}
		}
		for name := range pages {
			require.Less(t, took[10_000][name], 5*took[200][name]+2*time.Millisecond, "the page %s: %v", name,
				took)
		}
	})
}

// multiply copies the first job until there are n jobs, in a hundred flows.
func multiply(t *testing.T, address string, n int) {
	t.Helper()
	u, err := url.Parse(address)
	require.NoError(t, err)
	var db *sql.DB
	if u.Scheme == "sqlite" {
		db, err = sql.Open("sqlite", "file:"+u.Path+"?_pragma=busy_timeout(10000)")
		require.NoError(t, err)
	} else {
		if q := u.Query(); strings.HasPrefix(q.Get("host"),
			"/") { // pgdriver wants the socket, not its folder
			q.Set("host", q.Get("host")+"/.s.PGSQL.5432")
			u.RawQuery = q.Encode()
		}
		db = sql.OpenDB(pgdriver.NewConnector(pgdriver.WithDSN(u.String())))
	}
	defer func() { require.NoError(t, db.Close()) }()
	number := "substr('0000' || i, length('0000' || i) - 4)"
	columns := "flow_id, state, roles, initiator_node, scheduler_node, party_nodes, old_job_id, reason, outcome, " +
		"waiting, created_at"
	_, err = db.ExecContext(
		t.Context(),
		fmt.Sprintf(`WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < %d)
		INSERT INTO t_job (job_id, %s) SELECT 'job' || %s, %s FROM n, t_job WHERE job_id = 'first'
		ON CONFLICT (job_id) DO NOTHING`, n-1, columns, number,
			strings.Replace(columns, "flow_id", "'flow' || (i % 100)", 1)),
	)
	require.NoError(t, err)
	_, err = db.ExecContext(t.Context(), "ANALYZE")
	require.NoError(t, err)
}
