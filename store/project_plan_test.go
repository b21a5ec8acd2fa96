package store_test

import (
	"database/sql"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/identity"
	"hutong/store"
	"hutong/store/storetest"
)

// TestListsOfProjectsByIndex explains the statements by which lists of single projects read jobs: each finds
// its jobs by an index that begins with the project. So none reads the jobs of other projects, however many.
func TestListsOfProjectsByIndex(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), withProjects(t, address)
		db := rawDB(t, address)
		addManyJobs(t, db)
		var statements []string
		record := false
		var mu sync.Mutex // a store reads rows and their number at once
		s.OnRead(func(statement string) {
			mu.Lock()
			defer mu.Unlock()
			if record {
				statements = append(statements, statement)
			}
		})
		flow, filter := "f", store.JobFilter{Limit: 20}
		one, both := store.WithProjects(ctx, "a"), store.WithProjects(ctx, "a", identity.DefaultProject)
		lists := map[string]func() error{
			"jobs":                 func() error { _, err := s.Jobs(one, filter); return err },
			"jobs of two projects": func() error { _, err := s.Jobs(both, filter); return err },
			"jobs of a flow": func() error {
				_, err := s.Jobs(one, store.JobFilter{FlowID: &flow, Limit: 20})
				return err
			},
			"jobs in a state": func() error {
				_, err := s.Jobs(one, store.JobFilter{States: []bfia.JobState{bfia.JobFinished}, Limit: 20,
					Outcomes: []bfia.Outcome{bfia.OutcomeFailed}, Since: at})
				return err
			},
			"failed jobs":            func() error { _, _, err := s.FailedJobs(one, at, 20); return err },
			"failed jobs of default": func() error { _, _, err := s.FailedJobs(both, at, 20); return err },
			"counts of default":      func() error { _, err := s.JobCounts(both); return err },
			"counts":                 func() error { _, err := s.JobCounts(one); return err },
			"waits": func() error {
				_, err := s.WaitingJobs(one, bfia.WaitsForApproval)
				return err
			},
			"queue":   func() error { _, err := s.QueueLength(one); return err },
			"dataset": func() error { _, err := s.JobsWithDataset(one, "n", "x"); return err },
			"expired": func() error {
				own := map[string]time.Time{"a": at.Add(time.Hour)}
				_, err := s.ExpiredJobsOfProjects(ctx, at, own, "", 50)
				return err
			},
		}
		if strings.HasPrefix(address, "postgres") {
			delete(lists, "expired") // its plan depends on how many have ended, and it is no client's list
		}
		for name, list := range lists {
			statements, record = nil, true
			require.NoError(t, list(), name)
			record = false
			explained := 0
			for _, statement := range statements {
				if !readsJobs.MatchString(statement) || strings.Contains(statement, "(job_id IN ('job-") {
					continue
				}
				explained++
				plan := explain(t, db, address, statement)
				for _, line := range strings.Split(plan, "\n") {
					require.False(t, readsOthers.MatchString(line),
						"%s reads jobs of other projects:\n%s\n%s", name, statement, plan)
				}
				require.Contains(t, plan, "job_project", "%s:\n%s\n%s", name, statement, plan)
			}
			require.NotZero(t, explained, name)
		}
	})
}

var (
	readsJobs = regexp.MustCompile(`"?t_(schedule_)?job"? AS "?j"?`)
	// readsOthers matches the line of a plan that reads a table of jobs by neither project nor primary key.
	readsOthers = regexp.MustCompile(`SCAN (j|t_job|t_schedule_job)\b|Seq Scan on t_(schedule_)?job\b|` +
		`i_(schedule_)?job_(created|flow|state|outcome|ended|queue)\b`)
)

// addManyJobs adds 2,000 jobs of b in two states and a few of a and default, and lets PostgreSQL count them.
func addManyJobs(t *testing.T, db *sql.DB) {
	t.Helper()
	tx, err := db.Begin()
	require.NoError(t, err)
	for i := range 2000 {
		project := "b"
		if i%100 == 0 {
			project = []string{"a", "default"}[i/100%2]
		}
		state := bfia.JobFinished
		if i%3 == 0 {
			state = bfia.JobReady
		}
		id, created := fmt.Sprintf("job-%05d", i), at.Add(time.Duration(i)*time.Second).Format(time.RFC3339)
		for _, statement := range []string{
			`INSERT INTO t_job (job_id, flow_id, state, roles, initiator_node, scheduler_node, party_nodes, reason,
				outcome, waiting, old_job_id, created_at, ended_at, project) VALUES ('%[1]s', 'f', '%[4]s', '[]', '',
				'', '[]', '', 'FAILED', '[]', '', '%[2]s', '%[2]s', '%[3]s')`,
			`INSERT INTO t_schedule_job (job_id, flow_id, state, initiator_role, initiator_node, participant_nodes,
				sync_type, priority, reason, outcome, waiting, parallelism, wait_node, wait_reason, created_at, ended_at,
				project) VALUES ('%[1]s', 'f', '%[4]s', '', '', '[]', '', 5, '', '', '[]', '{}', '', '', '%[2]s',
				'%[2]s', '%[3]s')`,
			`INSERT INTO t_job_project (job_id, project, created_at) VALUES ('%[1]s', '%[3]s', '%[2]s')`,
		} {
			_, err := tx.Exec(fmt.Sprintf(statement, id, created, project, state))
			require.NoError(t, err)
		}
	}
	require.NoError(t, tx.Commit())
	_, err = db.Exec("ANALYZE")
	require.NoError(t, err)
}

// explain returns the plan of a statement.
func explain(t *testing.T, db *sql.DB, address, statement string) string {
	t.Helper()
	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	defer conn.Close()
	how := "EXPLAIN QUERY PLAN "
	if strings.HasPrefix(address, "postgres") {
		how = "EXPLAIN "
		_, err := conn.ExecContext(t.Context(), "SET enable_seqscan = off") // the tables are small
		require.NoError(t, err)
	}
	rows, err := conn.QueryContext(t.Context(), how+statement)
	require.NoError(t, err, statement)
	defer rows.Close()
	columns, err := rows.Columns()
	require.NoError(t, err)
	var lines []string
	for rows.Next() {
		values := make([]any, len(columns))
		text := ""
		for i := range values {
			values[i] = new(any)
		}
		values[len(values)-1] = &text
		require.NoError(t, rows.Scan(values...))
		lines = append(lines, text)
	}
	require.NoError(t, rows.Err())
	return strings.Join(lines, "\n")
}
