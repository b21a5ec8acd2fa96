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

// Failures are read as they were written. The first one stays.
func TestFailures(t *testing.T) {
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), storetest.Open(t, address)
		require.NoError(t, s.CreateJob(ctx, store.Job{JobID: "j1"}, []store.Task{{Name: "a", Role: "guest"}}))
		require.NoError(
			t,
			s.CreateScheduleJob(ctx, store.ScheduleJob{JobID: "j1"},
				[]store.ScheduleTask{{TaskID: "t1", Name: "a"}},
				[]store.SchedulePart{{TaskID: "t1", Role: "guest", NodeID: "A"}}),
		)
		read := func() []*bfia.Failure {
			job, err := s.Job(ctx, "j1")
			require.NoError(t, err)
			task, err := s.Task(ctx, store.TaskKey{JobID: "j1", Name: "a", Role: "guest"})
			require.NoError(t, err)
			scheduled, err := s.ScheduleJob(ctx, "j1")
			require.NoError(t, err)
			parts, err := s.ScheduleParts(ctx, "j1")
			require.NoError(t, err)
			return []*bfia.Failure{job.Failure, task.Failure, scheduled.Failure, parts[0].Failure}
		}
		key := store.TaskKey{JobID: "j1", Name: "a", Role: "guest"}
		write := func(f *bfia.Failure) {
			require.NoError(t, s.SetJobFailure(ctx, "j1", f))
			require.NoError(t, s.SetTaskFailure(ctx, key, "t1", f))
			require.NoError(t, s.SetScheduleJobFailure(ctx, "j1", f))
			require.NoError(t, s.SetSchedulePartFailure(ctx, "t1", "guest", 0, f))
		}
		require.Equal(t, []*bfia.Failure{nil, nil, nil, nil}, read())
		write(nil)
		require.Equal(t, []*bfia.Failure{nil, nil, nil, nil}, read())
		one := &bfia.Failure{
			Kind:     bfia.FailedExit,
			NodeID:   "A",
			Role:     "guest.0",
			Task:     "a",
			ExitCode: 3,
			Message:  "exited",
			Log:      []string{"line 1", "行 2"},
		}
		write(one)
		require.Equal(t, []*bfia.Failure{one, one, one, one}, read())
		other := &bfia.Failure{Kind: bfia.FailedStopped, By: "B"}
		write(other)
		require.Equal(t, []*bfia.Failure{one, one, one, one}, read())

		// What no database accepts, or is too long, is changed to fit.
		odd := &bfia.Failure{
			Kind:    bfia.FailedExit,
			Message: "a\x00b\xff" + strings.Repeat("x", 1<<20),
			Log:     []string{strings.Repeat("行", 1<<20)},
			Hint:    "not kept",
		}
		require.NoError(t, s.CreateJob(ctx, store.Job{JobID: "j2"}, nil))
		require.NoError(t, s.SetJobFailure(ctx, "j2", odd))
		job, err := s.Job(ctx, "j2")
		require.NoError(t, err)
		kept := job.Failure
		require.Less(t, len(kept.Message)+len(kept.Log[0]), 8<<10)
		require.Empty(t, kept.Hint)

		// A job is created again with a failure recorded.
		require.NoError(t, s.UpdateJob(ctx, "j1", bfia.JobFinished, "", time.Now()))
		require.NoError(t, s.CreateJob(ctx, store.Job{JobID: "j1"}, []store.Task{{Name: "a", Role: "guest"}}))
	})
}

// TestListedFailure checks that lists have the failure that the scheduler knows, where the party is
// the scheduler: its own part fails because a partner's did.
func TestListedFailure(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), storetest.Open(t, address)
		own := &bfia.Failure{Kind: bfia.FailedExit, NodeID: "A", Role: "guest.0", Task: "a", ExitCode: 1}
		cause := &bfia.Failure{Kind: bfia.FailedExit, NodeID: "B", Role: "host.0", Task: "a", ExitCode: 3}
		for _, id := range []string{"both", "participant"} {
			require.NoError(t, s.CreateJob(ctx, store.Job{JobID: id},
				[]store.Task{{Name: "a", Role: "guest"}}))
			require.NoError(t, s.SetJobFailure(ctx, id, own))
			require.NoError(t, s.UpdateJob(ctx, id, bfia.JobFinished, "at A", at,
				store.EndsAs(bfia.OutcomeFailed)))
		}
		job, tasks, parts := scheduleJob("both")
		require.NoError(t, s.CreateScheduleJob(ctx, job, tasks, parts))
		require.NoError(t, s.SetScheduleJobFailure(ctx, "both", cause))
		require.NoError(t, s.UpdateScheduleJob(ctx, "both", bfia.JobFinished, "at B", at,
			store.EndsAs(bfia.OutcomeFailed)))

		page, err := s.Jobs(ctx, store.JobFilter{})
		require.NoError(t, err)
		listed := page.Jobs
		failed, count, err := s.FailedJobs(ctx, at.Add(-time.Hour), 50)
		require.NoError(t, err)
		require.Equal(t, 2, count)
		for _, jobs := range [][]store.Job{listed, failed} {
			require.Len(t, jobs, 2)
			for _, j := range jobs {
				want, reason := own, "at A"
				if j.JobID == "both" {
					want, reason = cause, "at B"
				}
				require.Equal(t, want, j.Failure, j.JobID)
				require.Equal(t, reason, j.Reason, j.JobID)
			}
		}
	})
}
