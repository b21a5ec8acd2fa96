package store_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/store"
	"hutong/store/storetest"
)

// endedJob creates a job that ended at a time, with task a under the id of the job and "-a".
func endedJob(t *testing.T, s *store.Store, id string, ended time.Time) {
	t.Helper()
	job, tasks := partyJob(id)
	require.NoError(t, s.CreateJob(t.Context(), job, tasks))
	_, err := s.StartTask(t.Context(), id, "a", id+"-a", 1, at)
	require.NoError(t, err)
	require.NoError(t, s.UpdateJob(t.Context(), id, bfia.JobFinished, "", ended))
}

func scheduledJob(t *testing.T, s *store.Store, id string) {
	t.Helper()
	require.NoError(
		t,
		s.CreateScheduleJob(
			t.Context(),
			store.ScheduleJob{JobID: id, FlowID: "flow", State: bfia.JobRunning, CreatedAt: at},
			[]store.ScheduleTask{
				{TaskID: id + "-1", Name: "a", State: bfia.TaskRunning},
				{TaskID: id + "-2", Name: "b", State: bfia.TaskReady},
			},
			[]store.SchedulePart{{TaskID: id + "-1", Role: "guest", NodeID: "A", State: bfia.TaskSuccess},
				{
					TaskID: id + "-1",
					Role:   "host",
					NodeID: "B",
					State:  bfia.TaskRunning,
				}, {TaskID: id + "-2", Role: "guest", NodeID: "A", State: bfia.TaskReady}},
		),
	)
}

func TestExpiredJobs(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), storetest.Open(t, address)
		late := at.Add(time.Hour)
		endedJob(t, s, "old", at)
		endedJob(t, s, "new", late)
		job, tasks := partyJob("runs")
		require.NoError(t, s.CreateJob(ctx, job, tasks))
		endedJob(t, s, "scheduler-goes-on", at)
		scheduledJob(t, s, "scheduler-goes-on")
		endedJob(t, s, "both", at)
		scheduledJob(t, s, "both")
		require.NoError(t, s.UpdateScheduleJob(ctx, "both", bfia.JobFinished, "", at.Add(time.Minute)))
		scheduledJob(t, s, "scheduled")
		require.NoError(t, s.UpdateScheduleJob(ctx, "scheduled", bfia.JobFinished, "", at))
		require.NoError(t,
			s.CreateJob(ctx, store.Job{JobID: "rejected", State: bfia.JobPending, CreatedAt: at}, nil))
		require.NoError(t, s.UpdateJob(ctx, "rejected", bfia.JobRejected, "", at))

		expired := func(before time.Time, after string, limit int) []string {
			ids, err := s.ExpiredJobs(ctx, before, after, limit)
			require.NoError(t, err)
			return ids
		}
		require.Empty(t, expired(at, "", 10))
		require.Equal(t, []string{"old", "rejected", "scheduled"}, expired(at.Add(time.Second), "", 10))
		require.Equal(t, []string{"both", "old", "rejected", "scheduled"}, expired(late, "", 10))
		require.Equal(t, []string{"both", "old"}, expired(late, "", 2))
		require.Equal(t, []string{"rejected", "scheduled"}, expired(late, "old", 2))

		// What has begun runs, whatever the time that results are kept is by then; what has not ended does
		// not begin.
		require.NoError(t, s.MarkRemoving(ctx, "new"))
		require.NoError(t, s.MarkRemoving(ctx, "runs"))
		require.NoError(t, s.MarkRemoving(ctx, "unknown"))
		require.Equal(t, []string{"new"}, expired(at, "", 10))
		require.Equal(t, []string{"new"}, expired(time.Time{}, "", 10))
	})
}

// A job is removed with all its rows. Outputs that another job reuses are in use until that job is removed
// too.
func TestRemoveJob(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), storetest.Open(t, address)
		for _, id := range []string{"first", "second", "third", "other"} {
			endedJob(t, s, id, at)
			require.NoError(t, s.PutJobRecord(ctx, id, []byte("{}"), store.NewRegistry(nil)))
		}
		scheduledJob(t, s, "first")
		require.NoError(
			t,
			s.PutOutputs(ctx,
				[]store.Output{{JobID: "first", TaskName: "a", Role: "guest", Type: "dataset", Key: "d"}}),
		)
		require.NoError(t, s.ReuseTask(ctx, "second", "a", "first"))
		require.NoError(t, s.ReuseTask(ctx, "third", "a", "second"))
		inUse := func(jobID, dataID string) bool {
			used, err := s.OutputsInUse(ctx, jobID, dataID)
			require.NoError(t, err)
			return used
		}
		require.True(t, inUse("first", "first-a"))
		require.False(t, inUse("other", "other-a"))
		require.NoError(t, s.MarkRemoving(ctx, "first"))
		require.True(t, inUse("first", "first-a"), "two others have taken it over")
		requireCode(t, bfia.CodeNotFound, s.ReuseTask(ctx, "other", "a", "first"))
		for range 2 {
			require.NoError(t, s.RemoveJob(ctx, "first"))
		}
		for _, read := range []func() error{
			func() error { _, err := s.Job(ctx, "first"); return err },
			func() error { _, err := s.ScheduleJob(ctx, "first"); return err },
			func() error { _, err := s.ScheduleTaskByID(ctx, "first-1"); return err },
			func() error { _, err := s.Document(ctx, "first"); return err },
			func() error { return s.ReuseTask(ctx, "other", "a", "first") },
		} {
			requireCode(t, bfia.CodeNotFound, read())
		}
		statuses, err := s.ScheduleParts(ctx, "first")
		require.NoError(t, err)
		require.Empty(t, statuses)
		outputs, err := s.Outputs(ctx, "first")
		require.NoError(t, err)
		require.Empty(t, outputs)

		// Two that are removed at the same time: neither leaves it to the other.
		require.True(t, inUse("second", "first-a"))
		require.NoError(t, s.MarkRemoving(ctx, "second"))
		require.True(t, inUse("second", "first-a"))
		require.False(t, inUse("third", "first-a"))
		require.NoError(t, s.MarkRemoving(ctx, "third"))
		require.False(t, inUse("second", "first-a"))
		_, err = s.Document(ctx, "other")
		require.NoError(t, err)
	})
}

func TestRemoveUnusedDocuments(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), storetest.Open(t, address)
		endedJob(t, s, "taken", at)
		scheduledJob(t, s, "scheduled")
		for _, id := range []string{"taken", "scheduled", "never"} {
			require.NoError(t, s.PutJobRecord(ctx, id, []byte(id), store.NewRegistry(nil)))
		}
		n, err := s.RemoveUnusedDocuments(ctx, time.Now().Add(-time.Hour))
		require.NoError(t, err)
		require.Zero(t, n, "it may be of a job that is just being created")
		n, err = s.RemoveUnusedDocuments(ctx, time.Now().Add(time.Hour))
		require.NoError(t, err)
		require.Equal(t, 1, n)
		_, err = s.Document(ctx, "never")
		requireCode(t, bfia.CodeNotFound, err)
		for _, id := range []string{"taken", "scheduled"} {
			_, err = s.Document(ctx, id)
			require.NoError(t, err)
		}
	})
}

func TestLostJobs(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), storetest.Open(t, address)
		why := &bfia.Failure{Kind: bfia.FailedInternal, NodeID: "A", Message: "Temporal lost it"}
		job, tasks := partyJob("lost")
		require.NoError(t, s.CreateJob(ctx, job, tasks))
		require.NoError(t, s.UpdateJob(ctx, "lost", bfia.JobRunning, "", at))
		_, err := s.StartTask(ctx, "lost", "a", "id-a", 1, at)
		require.NoError(t, err)
		scheduledJob(t, s, "lost")
		endedJob(t, s, "ended", at)

		open, err := s.UnfinishedJobs(ctx, at, "", 10)
		require.NoError(t, err)
		require.Empty(t, open, "it is too young")
		for after, want := range map[string][]string{"": {"lost"}, "lost": nil} {
			open, err = s.UnfinishedJobs(ctx, at.Add(time.Second), after, 10)
			require.NoError(t, err)
			require.Equal(t, want, open)
			open, err = s.UnfinishedScheduleJobs(ctx, at.Add(time.Second), after, 10)
			require.NoError(t, err)
			require.Equal(t, want, open)
		}

		end := at.Add(time.Hour)
		for i := range 2 {
			ended, err := s.EndLostJob(ctx, "lost", why, end.Add(time.Duration(i)*time.Hour))
			require.NoError(t, err)
			require.Equal(t, i == 0, ended)
			ended, err = s.EndLostScheduleJob(ctx, "lost", why, end.Add(time.Duration(i)*time.Hour))
			require.NoError(t, err)
			require.Equal(t, i == 0, ended)
		}
		got, err := s.Job(ctx, "lost")
		require.NoError(t, err)
		require.Equal(t, bfia.JobFinished, got.State)
		require.Equal(t, why, got.Failure)
		require.Equal(t, why.String(), got.Reason)
		require.Equal(t, kept.Add(time.Hour), *got.EndedAt)
		rows, err := s.Tasks(ctx, "lost")
		require.NoError(t, err)
		for _, r := range rows {
			if r.Name == "b" {
				require.Equal(t, bfia.TaskReady, r.State, "what had not begun stays as it is")
				require.Nil(t, r.Failure)
				continue
			}
			require.Equal(t, bfia.TaskFailed, r.State)
			require.True(t, r.StopRequested)
			require.Equal(
				t,
				&bfia.Failure{
					Kind:    bfia.FailedInternal,
					NodeID:  "A",
					Role:    r.Role + ".0",
					Task:    "a",
					Message: "Temporal lost it",
				},
				r.Failure,
			)
		}
		scheduled, err := s.ScheduleJob(ctx, "lost")
		require.NoError(t, err)
		require.Equal(t, bfia.JobFinished, scheduled.State)
		statuses, err := s.ScheduleParts(ctx, "lost")
		require.NoError(t, err)
		var states []string
		for _, p := range statuses {
			states = append(states, string(p.State))
		}
		require.Equal(t, "SUCCESS FAILED READY", strings.Join(states, " "))

		for _, id := range []string{"ended", "unknown"} {
			ended, err := s.EndLostJob(ctx, id, why, end)
			require.NoError(t, err)
			require.False(t, ended)
			ended, err = s.EndLostScheduleJob(ctx, id, why, end)
			require.NoError(t, err)
			require.False(t, ended)
		}
		got, err = s.Job(ctx, "ended")
		require.NoError(t, err)
		require.Nil(t, got.Failure)
	})
}

func TestDeploymentID(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		first, err := storetest.Open(t, address).DeploymentID(t.Context())
		require.NoError(t, err)
		require.NotEmpty(t, first)
		again, err := storetest.Open(t, address).DeploymentID(t.Context())
		require.NoError(t, err)
		require.Equal(t, first, again)
	})
}
