package store_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/store"
	"hutong/store/storetest"
)

// TestWaits checks that waits of jobs and parts are kept, that a wait of the same kind keeps the time of its
// beginning, and that a part that has ended keeps none.
func TestWaits(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		s, ctx := storetest.Open(t, address), t.Context()
		job, tasks, parts := scheduleJob("j")
		first := []bfia.Waiting{{Kind: bfia.WaitsForPartner, Message: "is created", Since: kept}}
		job.Waiting = first
		require.NoError(t, s.CreateScheduleJob(ctx, job, tasks, parts))
		row, err := s.ScheduleJob(ctx, "j")
		require.NoError(t, err)
		require.Equal(t, first, row.Waiting)

		until := kept.Add(time.Hour)
		second := []bfia.Waiting{{Kind: bfia.WaitsForApproval, NodeID: "B", Message: "no\x00 one", Since: at,
			Until: &until}}
		require.NoError(t, s.SetScheduleJobWaiting(ctx, "j", second))
		require.NoError(t, s.UpdateScheduleJob(ctx, "j", bfia.JobRunning, "", at,
			store.RunsWith(map[string]int{"B": 2})))
		require.NoError(t, s.UpdateScheduleJob(ctx, "j", bfia.JobFinished, "", at,
			store.EndsAs(bfia.OutcomeFailed)))
		row, err = s.ScheduleJob(ctx, "j")
		require.NoError(t, err)
		require.Equal(t, []bfia.Waiting{{Kind: bfia.WaitsForApproval, NodeID: "B", Message: "no one",
			Since: kept,
			Until: &until}}, row.Waiting)
		require.Equal(t, map[string]int{"B": 2}, row.Parallelism)
		require.Equal(t, bfia.OutcomeFailed, row.Outcome)

		task, node := parts[0].TaskID, parts[0].NodeID
		wait := func(kind bfia.WaitingKind, text string, since time.Time) *bfia.Waiting {
			w := &bfia.Waiting{Kind: kind, Message: text, Since: since}
			require.NoError(t, s.SetSchedulePartWaiting(ctx, task, node, w))
			rows, err := s.ScheduleParts(ctx, "j")
			require.NoError(t, err)
			for _, p := range rows {
				if p.TaskID == task && p.NodeID == node {
					return p.Waiting
				}
			}
			return nil
		}
		require.Equal(t, kept, wait(bfia.WaitsForRunner, "one", kept).Since)
		require.Equal(t, &bfia.Waiting{Kind: bfia.WaitsForRunner, Message: "two", Since: kept},
			wait(bfia.WaitsForRunner, "two", kept.Add(time.Minute)))
		require.Equal(t, kept.Add(time.Minute),
			wait(bfia.WaitsForImage, "three", kept.Add(time.Minute)).Since)
	})
}

// TestFilterJobs checks each filter of the list of jobs, alone and with others.
func TestFilterJobs(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		s, ctx := storetest.Open(t, address), t.Context()
		for i, j := range []struct {
			id      string
			state   bfia.JobState
			outcome bfia.Outcome
			nodes   []string
		}{
			{"j0", bfia.JobFinished, bfia.OutcomeSuccess, []string{"A", "B_"}},
			{"j1", bfia.JobFinished, bfia.OutcomeFailed, []string{"A", "C"}},
			{"j2", bfia.JobRunning, "", []string{"A", "B%\"x"}},
			{"j3", bfia.JobRejected, bfia.OutcomeRejected, []string{"A", "BB"}},
		} {
			row := store.Job{JobID: j.id, FlowID: "f", InitiatorNode: "A", SchedulerNode: "A",
				PartyNodes: j.nodes,
				CreatedAt:  kept.Add(time.Duration(i) * time.Minute)}
			require.NoError(t, s.CreateJob(ctx, row, nil))
			require.NoError(t, s.UpdateJob(ctx, j.id, j.state, "", at, store.EndsAs(j.outcome)))
		}
		for _, c := range []struct {
			filter store.JobFilter
			ids    []string
		}{
			{store.JobFilter{Partner: "A"}, []string{"j3", "j2", "j1", "j0"}},
			{store.JobFilter{Partner: "B_"}, []string{"j0"}},
			{store.JobFilter{Partner: "B%\"x"}, []string{"j2"}},
			{store.JobFilter{Partner: "B"}, nil},
			{store.JobFilter{States: []bfia.JobState{bfia.JobRunning}}, []string{"j2"}},
			{store.JobFilter{Outcomes: []bfia.Outcome{bfia.OutcomeFailed, bfia.OutcomeRejected}},
				[]string{"j3", "j1"}},
			{store.JobFilter{Outcomes: []bfia.Outcome{bfia.OutcomeFailed}, Partner: "BB"}, nil},
			{store.JobFilter{Since: kept.Add(2 * time.Minute)}, []string{"j3", "j2"}},
			{store.JobFilter{Until: kept.Add(2 * time.Minute)}, []string{"j1", "j0"}},
		} {
			page, err := s.Jobs(ctx, c.filter)
			require.NoError(t, err)
			var ids []string
			for _, j := range page.Jobs {
				ids = append(ids, j.JobID)
			}
			require.Equal(t, c.ids, ids, "%+v", c.filter)
		}
	})
}
