package store_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/admission"
	"hutong/bfia"
	"hutong/store"
	"hutong/store/storetest"
)

func TestQueue(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), storetest.Open(t, address)
		scheduler := admission.Scheduler{Node: "A", Limits: admission.Limits{Jobs: 2}}
		for i, id := range []string{"j1", "j2", "j3", "j4"} {
			job, tasks, parts := scheduleJob(id)
			job.CreatedAt = at.Add(time.Duration(i) * time.Second)
			require.NoError(t, s.CreateScheduleJob(ctx, job, tasks, parts))
		}
		now := at.Add(time.Minute)
		dequeue := func(id string) admission.QueueStatus {
			status, _, err := s.Dequeue(ctx, scheduler, id, now)
			require.NoError(t, err)
			return status
		}
		reasonOf := func(id string) string {
			row, err := s.ScheduleJob(ctx, id)
			require.NoError(t, err)
			d, err := s.DecideQueue(ctx, scheduler, now)
			require.NoError(t, err)
			return d.Status(row.QueuedJob()).Reason
		}

		require.True(t, dequeue("j2").MayReserve, "it is alone in the queue")
		row, err := s.ScheduleJob(ctx, "j2")
		require.NoError(t, err)
		require.Equal(t, bfia.JobReady, row.State)
		require.WithinDuration(t, now, *row.QueuedAt, time.Microsecond)
		require.True(t, dequeue("j2").MayReserve, "a repetition gets the same answer")
		require.True(t, dequeue("j4").MayReserve)
		status := dequeue("j3")
		require.Equal(t, "2 jobs run at A, which is its limit", status.Reason)
		require.True(t, status.OnlyCandidatesAhead)
		dequeue("j1")
		positions, total, err := s.QueuePositions(ctx, []string{"j1", "j3", "no"})
		require.NoError(t, err)
		require.Equal(t, 4, total)
		require.Equal(t, map[string]int{"j1": 1, "j3": 3}, positions)

		require.NoError(t, s.SetWaitReason(ctx, "j4", "B", "no runner has the resources", false))
		require.Equal(t, "2 jobs run at A, which is its limit", reasonOf("j4"), "j1 comes first")
		require.NoError(t, s.SetPriority(ctx, "j3", 9))
		d, err := s.DecideQueue(ctx, scheduler, now)
		require.NoError(t, err)
		require.Equal(t, []string{"j3"}, d.Notify, "it has the highest priority now")
		positions, _, err = s.QueuePositions(ctx, []string{"j1", "j3"})
		require.NoError(t, err)
		require.Equal(t, map[string]int{"j1": 2, "j3": 1}, positions)
		require.True(t, dequeue("j3").MayReserve)

		status, waitedAt, err := s.Dequeue(ctx, scheduler, "j4", now)
		require.NoError(t, err)
		require.False(t, status.MayReserve)
		require.Equal(t, "B", waitedAt)
		row, err = s.ScheduleJob(ctx, "j4")
		require.NoError(t, err)
		require.Empty(t, row.WaitNode, "the party must not keep resources for it")

		require.NoError(t, s.UpdateScheduleJob(ctx, "j2", bfia.JobRunning, "", now))
		require.NoError(t, s.UpdateScheduleJob(ctx, "j3", bfia.JobRunning, "", now))
		require.Equal(t, "2 jobs run at A, which is its limit", reasonOf("j1"))
		require.False(t, dequeue("j1").OnlyCandidatesAhead)
		_, _, err = s.Dequeue(ctx, scheduler, "j2", now)
		requireCode(t, bfia.CodeConflict, err)
		requireCode(t, bfia.CodeConflict, s.SetPriority(ctx, "j2", 1))
		requireCode(t, bfia.CodeNotFound, s.SetPriority(ctx, "no", 1))
		_, _, err = s.Dequeue(ctx, scheduler, "no", now)
		requireCode(t, bfia.CodeNotFound, err)
	})
}

// Jobs that ask at once, at several processes, never exceed the limit of jobs together.
func TestDequeueAtOnce(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx := t.Context()
		stores := []*store.Store{storetest.Open(t, address), storetest.Open(t, address)}
		scheduler := admission.Scheduler{Node: "A", Limits: admission.Limits{Jobs: 3}}
		var all sync.WaitGroup
		var mu sync.Mutex
		started := 0
		for i := range 12 {
			job, tasks, parts := scheduleJob(fmt.Sprintf("j%02d", i))
			require.NoError(t, stores[0].CreateScheduleJob(ctx, job, tasks, parts))
		}
		for i := range 12 {
			all.Go(func() {
				status, _, err := stores[i%2].Dequeue(ctx, scheduler, fmt.Sprintf("j%02d", i), at)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					t.Errorf("j%02d: %v", i, err)
				} else if status.MayReserve {
					started++
				}
			})
		}
		all.Wait()
		require.Equal(t, 3, started)
	})
}

// TestQueueOfManyJobs checks that a decision takes as long with 10,000 waiting jobs as with 100.
func TestQueueOfManyJobs(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), storetest.Open(t, address)
		job, tasks, parts := scheduleJob("first")
		require.NoError(t, s.CreateScheduleJob(ctx, job, tasks, parts))
		scheduler := admission.Scheduler{Node: "A", Limits: admission.Limits{Jobs: 4}}
		_, _, err := s.Dequeue(ctx, scheduler, "first", at)
		require.NoError(t, err)
		require.NoError(t, s.UpdateScheduleJob(ctx, "first", bfia.JobRunning, "", at))

		columns := "flow_id, state, initiator_role, initiator_node, participant_nodes, sync_type, " +
			"priority, reason, outcome, waiting, parallelism, queued_at, wait_node, wait_reason, " +
			"created_at, queue_line, queue_rank"
		values := strings.NewReplacer("flow_id", "'flow' || i", "state", "'READY'",
			"queue_line", "queue_line || (i % 10)", "queue_rank", "queue_rank + i").Replace(columns)
		decide := func() error {
			d, err := s.DecideQueue(ctx, scheduler, at)
			require.Len(t, d.Notify, 3)
			return err
		}
		copyJobs(t, address, "t_schedule_job", columns, values, 100)
		few := best(t, decide)
		copyJobs(t, address, "t_schedule_job", columns, values, 10_000)
		requireAtMost(t, few*3/2+time.Millisecond, "a decision", decide)
	})
}
