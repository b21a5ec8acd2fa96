package store_test

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/store"
	"hutong/store/storetest"
)

// TestPagesOfProjects reads the list of several projects page by page, with all lengths of pages and with
// filters, and gets each job once, in the order of the list of all jobs. Many jobs have the same time, and
// ids that locales and bytes order differently.
func TestPagesOfProjects(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), withProjects(t, address)
		projects := []string{"a", "b", "default"}
		in := map[string]string{}
		for i := range 40 {
			id := fmt.Sprintf("%s%d", []string{"job-", "job_", "JOB.", "job"}[i%4], i)
			in[id] = projects[i*i%7%3]
			job := store.Job{JobID: id, FlowID: fmt.Sprint("flow", i%3),
				PartyNodes: []string{fmt.Sprint("N", i%5)},
				CreatedAt:  at.Add(time.Duration(i/8) * time.Second)}
			require.NoError(t, s.PutProjectJobRecord(ctx, id, []byte(`{}`), store.NewRegistry(nil), in[id]))
			require.NoError(t, s.CreateJob(ctx, job, nil))
		}

		flow := "flow1"
		filters := map[string]store.JobFilter{"all": {}, "flow": {FlowID: &flow}, "partner": {Partner: "N2"},
			"state": {States: []bfia.JobState{bfia.JobPending}}, "prefix": {Prefix: "job_"},
			"time": {Since: at.Add(time.Second), Until: at.Add(3 * time.Second)}}
		for name, filter := range filters {
			every, _ := allPages(t, s, ctx, filter)
			for _, some := range [][]string{{"a"}, {"b", "a"}, {"default", "a", "b"}, {}} {
				var want []string
				for _, id := range every {
					if strings.Contains(strings.Join(some, ","), in[id]) {
						want = append(want, id)
					}
				}
				for limit := 1; limit <= 41; limit++ {
					filter.Limit = limit
					ids, _ := allPages(t, s, store.WithProjects(ctx, some...), filter)
					require.Equal(t, want, ids, "%s of %v, %d to a page", name, some, limit)
				}
			}
		}
	})
}

// TestSearchedJobsOfProjects finds the few jobs of a filter among many of several projects, of which one has
// most jobs. Each page reads a bounded number of jobs.
func TestSearchedJobsOfProjects(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), withProjects(t, address)
		job, _ := partyJob("first")
		require.NoError(t, s.CreateJob(ctx, job, nil))
		multiplyInProjects(t, address, 3_300)
		var want []string
		for i, age := range []time.Duration{time.Hour, time.Minute, 0, -time.Minute} {
			id := fmt.Sprintf("job02%d", i)
			rare := store.Job{JobID: id, FlowID: "rare", PartyNodes: []string{"RARE"},
				Roles: []string{"arbiter.0"}, State: bfia.JobRunning, CreatedAt: at.Add(-age)}
			project := []string{"a", "b"}[i%2]
			require.NoError(t, s.PutProjectJobRecord(ctx, id, []byte(`{}`), store.NewRegistry(nil), project))
			require.NoError(t, s.CreateJob(ctx, rare, nil))
			want = append([]string{id}, want...)
		}

		flow, both := "rare", store.WithProjects(ctx, "a", "b")
		for name, filter := range map[string]store.JobFilter{"partner": {Partner: "RARE"},
			"flow": {FlowID: &flow}, "role": {Role: "arbiter"}, "text": {Text: "rare"},
			"state":          {States: []bfia.JobState{bfia.JobRunning}},
			"flow by prefix": {FlowID: &flow, Prefix: "job0"}} {
			for _, limit := range []int{1, 3, 1000} {
				filter.Limit = limit
				ids, pages := allPages(t, s, both, filter)
				require.Equal(t, want, ids, "%s, %d to a page", name, limit)
				require.Greater(t, pages, 3, "%s searches in windows", name)
				require.LessOrEqual(t, pages, 3_300/500+1+len(want), "%s, %d to a page", name, limit)
			}
		}
	})
}

// TestPageOfProjectsAmongManyJobs checks that a page of single projects takes as long with 20,000 jobs as
// with 2,200, wherever it is and whatever its filter, also if nothing matches.
func TestPageOfProjectsAmongManyJobs(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), withProjects(t, address)
		job, _ := partyJob("first")
		job.State = bfia.JobFinished
		require.NoError(t, s.CreateJob(ctx, job, nil))
		flow := "flow1"
		pages := map[string]store.JobFilter{
			"the first":       {Limit: 50},
			"of a flow":       {Limit: 2, FlowID: &flow},
			"of no job":       {Limit: 50, States: []bfia.JobState{bfia.JobRejected}},
			"of an id":        {Limit: 50, Prefix: "job00001-0000"},
			"in the middle":   {Limit: 50, Before: &store.JobCursor{CreatedAt: at, JobID: "job01000"}},
			"of a text of no": {Limit: 50, Text: "nowhere"},
		}
		const few, many = 2_200, 20_000
		reads := map[string]func() error{}
		for name, filter := range pages {
			for _, projects := range [][]string{{"a"}, {"a", "b"}} {
				in := store.WithProjects(ctx, projects...)
				reads[fmt.Sprint(name, " in ", projects)] = func() error {
					_, err := s.Jobs(in, filter)
					return err
				}
			}
		}
		multiplyInProjects(t, address, few)
		took := map[string]time.Duration{}
		for name, read := range reads {
			took[name] = best(t, read)
		}
		multiplyInProjects(t, address, many)
		for name, read := range reads {
			requireAtMost(t, 4*took[name]+2*time.Millisecond, "the page "+name, read)
		}
	})
}

// multiplyInProjects copies the first job until there are n jobs, in a hundred flows. Two in three are of the
// project a, and one in six of b.
func multiplyInProjects(t *testing.T, address string, n int) {
	t.Helper()
	columns := "flow_id, state, roles, initiator_node, scheduler_node, party_nodes, old_job_id, reason, " +
		"outcome, waiting, created_at, project"
	project := "CASE WHEN i % 3 < 2 THEN 'a' WHEN i % 6 = 2 THEN 'b' ELSE 'default' END"
	values := strings.Replace(columns, "flow_id", "'flow' || (i % 100)", 1)
	insertCopies(t, address, "t_job", columns, strings.Replace(values, "project", project, 1), n)
	execute(t, address, "INSERT INTO t_job_project (job_id, project, created_at) SELECT job_id, project, "+
		"created_at FROM t_job WHERE true ON CONFLICT (job_id) DO NOTHING")
	analyze(t, address)
}

// allPages reads all pages of a list. It returns the ids of the jobs, and the number of pages.
func allPages(t *testing.T, s *store.Store, ctx context.Context, f store.JobFilter) (ids []string,
	pages int) {
	t.Helper()
	f.Before = nil
	for {
		page, err := s.Jobs(ctx, f)
		require.NoError(t, err)
		require.LessOrEqual(t, len(page.Jobs), cmp.Or(f.Limit, store.MaxJobs))
		for _, j := range page.Jobs {
			ids = append(ids, j.JobID)
		}
		pages++
		if page.Next == nil {
			return ids, pages
		}
		require.NotEqual(t, f.Before, page.Next, "no progress")
		f.Before = page.Next
	}
}
