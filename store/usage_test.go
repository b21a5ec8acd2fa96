package store_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/store"
	"hutong/store/storetest"
)

// TestUsage records the use of one container several times, late and out of order, as runners do that are
// killed and take over from each other.
func TestUsage(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		s := storetest.Open(t, address)
		got, err := s.Usages(t.Context(), "j")
		require.NoError(t, err)
		require.Empty(t, got)

		u := store.Usage{JobID: "j", Name: "train", Role: "guest", Attempt: 1, TaskID: "t1", RunnerID: "r",
			Device: "docker"}
		record := func(change func(u *store.Usage)) store.Usage {
			t.Helper()
			next := u
			change(&next)
			for range 2 { // activities are repeated
				require.NoError(t, s.RecordUsage(t.Context(), next))
			}
			rows, err := s.Usages(t.Context(), "j")
			require.NoError(t, err)
			require.NotEmpty(t, rows)
			return rows[0]
		}
		row := record(func(*store.Usage) {})
		require.Nil(t, row.CPUMillis, "unknown is not 0")
		require.Nil(t, row.PeakMemory)
		require.False(t, row.Final)

		row = record(func(u *store.Usage) { u.CPUMillis, u.PeakMemory = new(int64(0)), new(int64(50)) })
		require.EqualValues(t, 0, *row.CPUMillis, "0 is not unknown")
		row = record(func(u *store.Usage) { u.CPUMillis, u.PeakMemory = new(int64(700)), new(int64(40)) })
		require.EqualValues(t, 700, *row.CPUMillis)
		require.EqualValues(t, 50, *row.PeakMemory, "the peak does not sink")
		row = record(func(u *store.Usage) {
			u.CPUMillis, u.PeakMemory, u.Final = new(int64(900)), new(int64(60)), true
			u.StartedAt, u.EndedAt = new(at), new(at.Add(time.Minute))
		})
		require.EqualValues(t, 900, *row.CPUMillis)
		require.True(t, row.Final)
		row = record(func(u *store.Usage) { u.CPUMillis = new(int64(800)) }) // a late one
		require.EqualValues(t, 900, *row.CPUMillis)
		require.EqualValues(t, 60, *row.PeakMemory)
		require.True(t, row.Final)
		require.WithinDuration(t, at, *row.StartedAt, time.Microsecond)
		require.WithinDuration(t, at.Add(time.Minute), *row.EndedAt, time.Microsecond)

		second := u
		second.Attempt, second.TaskID = 2, "t2"
		require.NoError(t, s.RecordUsage(t.Context(), second))
		rows, err := s.Usages(t.Context(), "j")
		require.NoError(t, err)
		require.Len(t, rows, 2, "an attempt has its own row")
		require.Equal(t, 2, rows[1].Attempt, "those that never started come last")
		require.Error(t, s.RecordUsage(t.Context(), store.Usage{JobID: "j\x00"}))
	})
}

// TestTransfersByTask checks that the sums over tasks are what the evidence shows.
func TestTransfersByTask(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		s := storetest.Open(t, address)
		rows := []store.Transfer{
			{SessionID: "session_j", NodeID: "B", TaskID: "t1", Sent: 1, SentMessages: 1, Incomplete: true},
			{SessionID: "session_j", NodeID: "B", TaskID: "t2", Sent: 2, SentMessages: 1, Received: 8,
				ReceivedMessages: 3, Unconfirmed: 9},
			{SessionID: "session_j", NodeID: "C", TaskID: "t1", Received: 4, ReceivedMessages: 1},
		}
		for range 2 {
			require.NoError(t, s.RecordTransfers(t.Context(), "session_j", rows))
		}
		byTask, complete, err := s.TaskTransfers(t.Context(), "j")
		require.NoError(t, err)
		require.True(t, complete)
		require.Len(t, byTask, 3)
		sums, complete, err := s.Transfers(t.Context(), "j")
		require.NoError(t, err)
		require.True(t, complete)
		for i := range sums {
			sums[i].RecordedAt = time.Time{}
		}
		require.Equal(t, []store.Transfer{
			{SessionID: "session_j", NodeID: "B", Sent: 3, SentMessages: 2, Received: 8, ReceivedMessages: 3,
				Unconfirmed: 9, Incomplete: true},
			{SessionID: "session_j", NodeID: "C", Received: 4, ReceivedMessages: 1},
		}, sums)
	})
}

// TestTransfersOfAlikeJobs checks that a job's transfers are not counted for the job whose id begins its own:
// session_j_1 is that of job j_1, unless there is none. Then job j derived it.
func TestTransfersOfAlikeJobs(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		s := storetest.Open(t, address)
		for _, session := range []string{"session_j", "session_j_1", "session_j_1_x"} {
			require.NoError(t, s.RecordTransfers(t.Context(), session,
				[]store.Transfer{{SessionID: session, NodeID: "B", Sent: 1, SentMessages: 1}}))
		}
		sessions := func(jobID string) (ids []string) {
			rows, complete, err := s.TaskTransfers(t.Context(), jobID)
			require.NoError(t, err)
			require.True(t, complete)
			for _, r := range rows {
				ids = append(ids, r.SessionID)
			}
			return ids
		}
		require.Equal(t, []string{"session_j", "session_j_1", "session_j_1_x"}, sessions("j"))
		job, tasks := partyJob("j_1")
		require.NoError(t, s.CreateJob(t.Context(), job, tasks))
		require.Equal(t, []string{"session_j"}, sessions("j"))
		require.Equal(t, []string{"session_j_1", "session_j_1_x"}, sessions("j_1"))
	})
}
