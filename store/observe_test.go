package store_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/admission"
	"hutong/bfia"
	"hutong/store"
	"hutong/store/storetest"
)

// observed collects what a store reports.
type observed struct {
	jobs     []store.EndedJob
	parts    []string
	attempts []string
	queries  map[string]int
	failed   int
}

func observe(s *store.Store) *observed {
	o := &observed{queries: map[string]int{}}
	kind := func(f *bfia.Failure) string {
		if f == nil {
			return ""
		}
		return string(f.Kind)
	}
	s.Observe(store.Observer{
		Query: func(operation string, _ time.Duration, failed bool) {
			o.queries[operation]++
			if failed {
				o.failed++
			}
		},
		JobEnded: func(j store.EndedJob) { o.jobs = append(o.jobs, j) },
		PartEnded: func(state bfia.TaskState, f *bfia.Failure) {
			o.parts = append(o.parts, string(state)+" "+kind(f))
		},
		AttemptStarted: func(f *bfia.Failure) { o.attempts = append(o.attempts, kind(f)) },
	})
	return o
}

// TestObserver checks that each end and each further attempt is reported once, however often it is written,
// as a retried activity does, and by whichever function ends a job.
func TestObserver(t *testing.T) {
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), storetest.Open(t, address)
		o := observe(s)
		for _, id := range []string{"j1", "lost"} {
			require.NoError(t, s.CreateJob(ctx, store.Job{JobID: id, CreatedAt: at},
				[]store.Task{{Name: "a", Role: "guest"}, {Name: "a", Role: "host"}}))
			require.NoError(t, s.CreateScheduleJob(ctx, store.ScheduleJob{JobID: id, CreatedAt: at},
				[]store.ScheduleTask{{TaskID: id + "-1", Name: "a"}},
				[]store.SchedulePart{{TaskID: id + "-1", Role: "guest", NodeID: "A"}}))
		}
		killed := &bfia.Failure{Kind: bfia.FailedKilled}
		for range 2 {
			_, err := s.StartTask(ctx, "j1", "a", "t1", 1, at)
			require.NoError(t, err)
			guest := store.TaskKey{JobID: "j1", Name: "a", Role: "guest"}
			host := store.TaskKey{JobID: "j1", Name: "a", Role: "host"}
			require.NoError(t, s.EndTask(ctx, guest, "t1", bfia.TaskSuccess, "", at))
			require.NoError(t, s.SetTaskFailure(ctx, host, "t1", killed))
			require.NoError(t, s.EndTask(ctx, host, "t1", bfia.TaskFailed, "", at))
			require.NoError(t, s.RestartScheduleTask(ctx, "j1", "a", "j1-2", 2,
				store.LostAttempt{EndedAt: at, Failure: killed}, at))

			require.NoError(t, s.UpdateScheduleJob(ctx, "j1", bfia.JobRunning, "", at.Add(time.Minute)))
			require.NoError(t, s.UpdateScheduleJob(ctx, "j1", bfia.JobFinished, "", at.Add(time.Hour),
				store.EndsAs(bfia.OutcomeSuccess)))
			require.NoError(t, s.UpdateJob(ctx, "j1", bfia.JobRejected, "", at,
				store.EndsAs(bfia.OutcomeRejected)))
			_, err = s.EndLostJob(ctx, "lost", &bfia.Failure{Kind: bfia.FailedInternal}, at)
			require.NoError(t, err)
			_, err = s.EndLostScheduleJob(ctx, "lost", &bfia.Failure{Kind: bfia.FailedInternal}, at)
			require.NoError(t, err)
		}
		require.Equal(t, []string{"SUCCESS ", "FAILED killed"}, o.parts)
		require.Equal(t, []string{"killed"}, o.attempts)
		require.Equal(t, []store.EndedJob{
			{Side: store.SideScheduler, Outcome: bfia.OutcomeSuccess, Wait: time.Minute, Took: time.Hour,
				Started: true},
			{Side: store.SideParticipant, Outcome: bfia.OutcomeRejected},
			{Side: store.SideParticipant, Outcome: bfia.OutcomeFailed},
			{Side: store.SideScheduler, Outcome: bfia.OutcomeFailed},
		}, o.jobs)
		require.Positive(t, o.queries["select"])
		require.Positive(t, o.queries["insert"])
		require.Positive(t, o.queries["update"])
		require.Zero(t, o.failed)

		require.NoError(t, s.Close())
		require.Error(t, s.UpdateJob(ctx, "j1", bfia.JobRunning, "", at))
		require.Positive(t, o.failed, "a statement failed")
	})
}

// TestSnapshot checks what the rows say of a party.
func TestSnapshot(t *testing.T) {
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), storetest.Open(t, address)
		empty, err := s.Snapshot(ctx, "A")
		require.NoError(t, err)
		require.Zero(t, empty.Queued)
		require.True(t, empty.QueuedSince.IsZero() && empty.ApprovalSince.IsZero())

		for i, id := range []string{"j1", "j2", "j3"} {
			require.NoError(t, s.CreateJob(ctx, store.Job{JobID: id, State: bfia.JobPending, CreatedAt: at},
				nil))
			require.NoError(t, s.CreateScheduleJob(ctx, store.ScheduleJob{JobID: id, State: bfia.JobPending,
				CreatedAt: at}, nil, nil))
			require.NoError(t, s.SetJobWaiting(ctx, id, []bfia.Waiting{
				{Kind: bfia.WaitsForApproval, NodeID: "A", Since: at.Add(time.Duration(i) * time.Minute)},
				{Kind: bfia.WaitsForApproval, NodeID: "B", Since: at.Add(-time.Hour)}}))
		}
		require.NoError(t, s.SetScheduleJobWaiting(ctx, "j1", []bfia.Waiting{
			{Kind: bfia.WaitsForPartner, NodeID: "B", Since: at},
			{Kind: bfia.WaitsForPartner, NodeID: "B", Since: at}, {Kind: bfia.WaitsForPartner, NodeID: "A"}}))
		for id, entered := range map[string]time.Time{"j1": at, "j2": at.Add(time.Minute)} {
			_, _, err := s.Dequeue(ctx, admission.Scheduler{Node: "A"}, id, entered)
			require.NoError(t, err)
		}
		require.NoError(t, s.SetJobWaiting(ctx, "j3", []bfia.Waiting{}))
		require.NoError(t, s.UpdateJob(ctx, "j3", bfia.JobRunning, "", at))
		require.NoError(t, s.PutRunner(ctx, store.Runner{RunnerID: "r", Slots: 2}))
		require.NoError(t, s.PutContact(ctx, "B", at))

		snap, err := s.Snapshot(ctx, "A")
		require.NoError(t, err)
		require.Equal(t, map[bfia.JobState]int{bfia.JobPending: 2, bfia.JobRunning: 1},
			snap.Jobs[store.SideParticipant])
		require.Equal(t, map[bfia.JobState]int{bfia.JobPending: 1, bfia.JobReady: 2},
			snap.Jobs[store.SideScheduler])
		require.Equal(t, 2, snap.Queued)
		require.WithinDuration(t, at, snap.QueuedSince, time.Microsecond)
		require.Equal(t, 2, snap.Approvals)
		require.WithinDuration(t, at, snap.ApprovalSince, time.Microsecond)
		require.Equal(t, map[string]int{"B": 1}, snap.Waiting)
		require.Len(t, snap.Runners, 1)
		require.WithinDuration(t, at, snap.Contacts["B"], time.Microsecond)
	})
}
