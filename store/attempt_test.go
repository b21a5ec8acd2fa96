package store_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/store"
	"hutong/store/storetest"
)

// TestEarlierAttempts checks what is kept of a participant's part when another attempt follows: its times,
// its failure, and what it has waited for. A part that runs ends with the start of the next attempt.
func TestEarlierAttempts(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		s, ctx := storetest.Open(t, address), t.Context()
		require.NoError(t, s.CreateJob(ctx, store.Job{JobID: "j", CreatedAt: at},
			[]store.Task{{Name: "a", Role: "guest"}, {Name: "a", Role: "host"}}))
		guest := store.TaskKey{JobID: "j", Name: "a", Role: "guest"}
		host := store.TaskKey{JobID: "j", Name: "a", Role: "host"}
		_, err := s.StartTask(ctx, "j", "a", "t1", 1, at)
		require.NoError(t, err)

		// A wait of a part is kept once it has lasted.
		since := time.Now().Add(-time.Minute)
		image := &bfia.Waiting{Kind: bfia.WaitsForImage, Message: "pulls one", Since: since}
		require.NoError(t, s.SetTaskWaiting(ctx, host, "t1", image, false))
		require.NoError(t, s.SetTaskWaiting(ctx, host, "t1", &bfia.Waiting{Kind: bfia.WaitsForImage,
			Message: "pulls two", Since: since}, false))
		require.NoError(t, s.SetTaskWaiting(ctx, host, "t1", &bfia.Waiting{Kind: bfia.WaitsForGPU,
			Message: "is short", Since: time.Now()}, false))
		require.NoError(t, s.SetTaskWaiting(ctx, host, "t1", nil, false))
		row, err := s.Task(ctx, host)
		require.NoError(t, err)
		require.Len(t, row.Waits, 1)
		require.Equal(t, "pulls two", row.Waits[0].Message)
		require.GreaterOrEqual(t, row.Waits[0].EndedAt.Sub(row.Waits[0].Since), time.Minute)

		killed := &bfia.Failure{Kind: bfia.FailedKilled, Message: "somebody killed it"}
		require.NoError(t, s.SetTaskFailure(ctx, host, "t1", killed))
		require.NoError(t, s.EndTask(ctx, host, "t1", bfia.TaskFailed, killed.Text(), at.Add(time.Minute)))
		for range 2 { // a repeated start changes nothing
			_, err = s.StartTask(ctx, "j", "a", "t2", 2, at.Add(2*time.Minute))
			require.NoError(t, err)
		}

		cause := &bfia.Failure{Kind: bfia.FailedKilled, NodeID: "B", Message: "somebody\x00 killed it"}
		for range 2 {
			require.NoError(t, s.ExplainAttempt(ctx, bfia.TaskRef{JobID: "j", TaskID: "t2", TaskName: "a",
				Attempt: 2, Lost: cause}))
		}

		earlier, err := s.EarlierAttemptsOfJob(ctx, "j")
		require.NoError(t, err)
		require.Len(t, earlier, 2)
		for i, want := range []struct {
			key    store.TaskKey
			ended  time.Time
			reason string
			waits  int
		}{{guest, kept.Add(2 * time.Minute), "", 0}, {host, kept.Add(time.Minute), killed.Text(), 1}} {
			e := earlier[i]
			require.Equal(t, want.key.Role, e.Role)
			require.Equal(t, bfia.TaskFailed, e.State)
			require.Equal(t, kept, *e.StartedAt)
			require.Equal(t, want.ended, *e.EndedAt)
			require.Equal(t, want.reason, e.Reason)
			require.Equal(t, want.reason != "", e.Failure != nil)
			require.Len(t, e.Waits, want.waits)
			require.Equal(t, &bfia.Failure{Kind: bfia.FailedKilled, NodeID: "B",
				Message: "somebody killed it"}, e.Cause)
		}
		row, err = s.Task(ctx, host)
		require.NoError(t, err)
		require.Empty(t, row.Waits, "the next attempt has not waited")
		require.Equal(t, 2, row.Attempt)
		require.Equal(t, kept.Add(2*time.Minute), *row.StartedAt)
	})
}

// TestAttemptThatNeverStarted checks the record of an attempt whose start never arrived: it failed elsewhere
// before.
func TestAttemptThatNeverStarted(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		s, ctx := storetest.Open(t, address), t.Context()
		require.NoError(t, s.CreateJob(ctx, store.Job{JobID: "j", CreatedAt: at},
			[]store.Task{{Name: "a", Role: "guest"}, {Name: "a", Role: "host"}, {Name: "b", Role: "host"}}))
		_, err := s.StartTask(ctx, "j", "a", "t1", 1, at)
		require.NoError(t, err)
		_, err = s.StartTask(ctx, "j", "a", "t3", 3, at.Add(time.Minute))
		require.NoError(t, err)
		cause := &bfia.Failure{Kind: bfia.FailedTemporary, NodeID: "B"}
		for range 2 {
			require.NoError(t, s.ExplainAttempt(ctx, bfia.TaskRef{JobID: "j", TaskID: "t3", TaskName: "a",
				Attempt: 3, Lost: cause}))
		}

		earlier, err := s.EarlierAttemptsOfJob(ctx, "j")
		require.NoError(t, err)
		require.Len(t, earlier, 4, "each part in attempts 1 and 2")
		for i, e := range earlier {
			require.Equal(t, "a", e.Name)
			require.Equal(t, 1+i/2, e.Attempt)
			if e.Attempt == 1 {
				require.Equal(t, bfia.TaskFailed, e.State)
				require.Nil(t, e.Cause, "not reported here")
				continue
			}
			require.Equal(t, bfia.TaskReady, e.State)
			require.Equal(t, cause, e.Cause)
			require.Empty(t, e.TaskID)
			require.Nil(t, e.StartedAt)
			require.Nil(t, e.EndedAt)
		}
	})
}

// TestEarlierScheduleParts checks what a scheduler keeps of an attempt that it lost.
func TestEarlierScheduleParts(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		s, ctx := storetest.Open(t, address), t.Context()
		require.NoError(t, s.CreateScheduleJob(ctx, store.ScheduleJob{JobID: "j", CreatedAt: at},
			[]store.ScheduleTask{{TaskID: "t1", Name: "a"}},
			[]store.SchedulePart{{TaskID: "t1", Role: "guest", NodeID: "A"},
				{TaskID: "t1", Role: "host", NodeID: "B"}, {TaskID: "t1", Role: "arbiter", NodeID: "C"}}))
		change := func(taskID string, state bfia.TaskState, at time.Time, roles ...string) {
			c := store.ScheduleTaskChange{TaskID: taskID, State: bfia.TaskRunning}
			for _, role := range roles {
				c.Parts = append(c.Parts, store.SchedulePartChange{Role: role, State: state})
			}
			require.NoError(t, s.UpdateScheduleTasks(ctx, []store.ScheduleTaskChange{c}, at))
		}
		// The write of the host's start is lost.
		change("t1", bfia.TaskRunning, at.Add(time.Second), "guest", "arbiter")
		change("t1", bfia.TaskSuccess, at.Add(30*time.Second), "arbiter")
		lost := store.LostAttempt{StartedAt: at, EndedAt: at.Add(time.Minute), Failure: &bfia.Failure{
			Kind: bfia.FailedRunnerLost, NodeID: "B", Role: "host.0", Message: "its runner\x00 is lost"}}
		for range 2 {
			require.NoError(t, s.RestartScheduleTask(ctx, "j", "a", "t2", 2, lost, at.Add(2*time.Minute)))
		}
		change("t2", bfia.TaskRunning, at.Add(2*time.Minute), "guest", "host", "arbiter")

		parts, err := s.EarlierScheduleParts(ctx, "j")
		require.NoError(t, err)
		require.Len(t, parts, 3)
		for i, want := range []store.EarlierSchedulePart{
			{Role: "arbiter", NodeID: "C", State: bfia.TaskSuccess,
				StartedAt: new(kept.Add(time.Second)), EndedAt: new(kept.Add(30 * time.Second))},
			{Role: "guest", NodeID: "A", State: bfia.TaskFailed,
				StartedAt: new(kept.Add(time.Second)), EndedAt: new(kept.Add(time.Minute))},
			{Role: "host", NodeID: "B", State: bfia.TaskFailed, Reason: "its runner is lost",
				Failure: &bfia.Failure{Kind: bfia.FailedRunnerLost, NodeID: "B", Role: "host.0",
					Message: "its runner is lost"},
				StartedAt: &kept, EndedAt: new(kept.Add(time.Minute))},
		} {
			want.JobID, want.Name, want.Attempt, want.TaskID = "j", "a", 1, "t1"
			require.Equal(t, want, parts[i])
		}
		require.NoError(t, s.DeleteScheduleJob(ctx, "j"))
		parts, err = s.EarlierScheduleParts(ctx, "j")
		require.NoError(t, err)
		require.Empty(t, parts)
	})
}
