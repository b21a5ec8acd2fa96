package store_test

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"hutong/bfia"
	"hutong/store"
	"hutong/store/storetest"
)

// at has nanoseconds, which neither database stores.
var at = time.Date(2026, 11, 23, 4, 5, 6, 789012345, time.FixedZone("CST", 8*3600))

var kept = time.Date(2026, 11, 22, 20, 5, 6, 789012000, time.UTC)

func requireCode(t *testing.T, code bfia.Code, err error) {
	t.Helper()
	require.Error(t, err)
	require.Equal(t, code, bfia.CodeOf(err), "%v", err)
}

func scheduleJob(id string) (store.ScheduleJob, []store.ScheduleTask, []store.SchedulePart) {
	return store.ScheduleJob{
			JobID:            id,
			FlowID:           "flow",
			State:            bfia.JobPending,
			InitiatorRole:    "guest",
			InitiatorNode:    "JG0100001100000010",
			SyncType:         "poll",
			Priority:         1,
			ParticipantNodes: []string{"JG0100001100000010"},
			Waiting:          []bfia.Waiting{},
			Parallelism:      map[string]int{},
			CreatedAt:        at,
		},
		[]store.ScheduleTask{
			{
				TaskID:    id + "-b",
				Name:      "b",
				Component: "HeteroLR",
				Provider:  "unionpay",
				Version:   "2.0.0",
				Seq:       1,
				DependsOn: []string{"a"},
				State:     bfia.TaskReady,
			},
			{
				TaskID:    id + "-a",
				Name:      "a",
				Component: "Intersection",
				Provider:  "unionpay",
				Version:   "2.0.0",
				Seq:       0,
				State:     bfia.TaskReady,
			},
		},
		[]store.SchedulePart{
			{TaskID: id + "-a", Role: "guest", NodeID: "JG0100001100000010", State: bfia.TaskReady},
			{TaskID: id + "-a", Role: "host", NodeID: "JG0100001100000011", State: bfia.TaskReady},
			{
				TaskID:    id + "-a",
				Role:      "host",
				RoleIndex: 1,
				NodeID:    "JG0100001100000012",
				State:     bfia.TaskReady,
			},
			{TaskID: id + "-b", Role: "guest", NodeID: "JG0100001100000010", State: bfia.TaskReady},
		}
}

func TestDocument(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), storetest.Open(t, address)
		// Bytes stay bytes: spellings, NUL, what is no UTF-8, and a question mark that is no placeholder.
		doc := []byte("{\"a\": 0.0001, \"b\": 12345678901234567890, \"q\": \"it's ? \\u0000 \x00\xff\"}")
		require.NoError(t, s.PutJobRecord(ctx, "j1", doc, store.NewRegistry(nil)))
		require.NoError(t, s.PutJobRecord(ctx, "j1", doc, store.NewRegistry(nil)))
		requireCode(t, bfia.CodeConflict, s.PutJobRecord(ctx, "j1", []byte("{}"), store.NewRegistry(nil)))
		got, err := s.Document(ctx, "j1")
		require.NoError(t, err)
		require.Equal(t, doc, got)

		big := []byte(strings.Repeat("0123456789abcdef", 1<<18)) // 4 MiB
		require.NoError(t, s.PutJobRecord(ctx, "big", big, store.NewRegistry(nil)))
		got, err = s.Document(ctx, "big")
		require.NoError(t, err)
		require.Equal(t, big, got)
		require.NoError(t, s.PutJobRecord(ctx, "empty", nil, store.NewRegistry(nil)))
		require.NoError(t, s.PutJobRecord(ctx, "empty", []byte{}, store.NewRegistry(nil)))

		require.NoError(t, s.DeleteDocument(ctx, "j1"))
		require.NoError(t, s.DeleteDocument(ctx, "j1"))
		_, err = s.Document(ctx, "j1")
		requireCode(t, bfia.CodeNotFound, err)
		requireCode(t, bfia.CodeBadRequest, s.PutJobRecord(ctx, "a\x00b", doc, store.NewRegistry(nil)))
	})
}

func TestScheduleJobIsCreatedOnce(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), storetest.Open(t, address)
		job, tasks, parts := scheduleJob("j1")
		require.NoError(t, s.CreateScheduleJob(ctx, job, tasks, parts))
		require.Empty(t, tasks[0].JobID, "the caller's rows are left alone")

		got, err := s.ScheduleJob(ctx, "j1")
		require.NoError(t, err)
		want := job
		want.CreatedAt, want.Project = kept, "default"
		require.Equal(t, want, got)
		gotTasks, err := s.ScheduleTasks(ctx, "j1")
		require.NoError(t, err)
		require.Len(t, gotTasks, 2)
		require.Equal(t, "a", gotTasks[0].Name)
		require.Equal(t, []string{}, gotTasks[0].DependsOn)
		require.Equal(t, []string{"a"}, gotTasks[1].DependsOn)
		gotParts, err := s.ScheduleParts(ctx, "j1")
		require.NoError(t, err)
		require.Len(t, gotParts, 4)
		require.Equal(t, "JG0100001100000012", gotParts[2].NodeID)

		// Again: nil, also later and in another order.
		require.NoError(t, s.UpdateScheduleJob(ctx, "j1", bfia.JobRunning, "", at))
		again := job
		again.CreatedAt = time.Now()
		require.NoError(t, s.CreateScheduleJob(ctx, again, []store.ScheduleTask{tasks[1], tasks[0]}, parts))
		got, err = s.ScheduleJob(ctx, "j1")
		require.NoError(t, err)
		require.Equal(t, bfia.JobRunning, got.State)
		require.Equal(t, kept, *got.StartedAt)

		other := job
		other.SyncType = "callback"
		requireCode(t, bfia.CodeConflict, s.CreateScheduleJob(ctx, other, tasks, parts))
		requireCode(t, bfia.CodeConflict, s.CreateScheduleJob(ctx, job, tasks[:1], parts[3:]))
		requireCode(t, bfia.CodeConflict, s.CreateScheduleJob(ctx, job, tasks, parts[:3]))

		// All or nothing: a task id of another job's, a part of no task.
		job2, tasks2, parts2 := scheduleJob("j2")
		tasks2[0].TaskID = "j1-a"
		requireCode(t, bfia.CodeConflict, s.CreateScheduleJob(ctx, job2, tasks2, nil))
		_, tasks2, _ = scheduleJob("j2")
		parts2[0].TaskID = "nobody"
		requireCode(t, bfia.CodeBadRequest, s.CreateScheduleJob(ctx, job2, tasks2, parts2))
		_, err = s.ScheduleJob(ctx, "j2")
		requireCode(t, bfia.CodeNotFound, err)

		require.NoError(t, s.DeleteScheduleJob(ctx, "j1"))
		require.NoError(t, s.DeleteScheduleJob(ctx, "j1"))
		_, err = s.ScheduleTaskByID(ctx, "j1-a")
		requireCode(t, bfia.CodeNotFound, err)
		gotParts, err = s.ScheduleParts(ctx, "j1")
		require.NoError(t, err)
		require.Empty(t, gotParts)
	})
}

func TestScheduleStatesOnlyMoveForward(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), storetest.Open(t, address)
		job, tasks, parts := scheduleJob("j1")
		require.NoError(t, s.CreateScheduleJob(ctx, job, tasks, parts))

		later := at.Add(time.Hour)
		require.NoError(t, s.UpdateScheduleTasks(ctx, []store.ScheduleTaskChange{{
			TaskID: "j1-a", State: bfia.TaskRunning,
			Parts: []store.SchedulePartChange{
				{Role: "host", RoleIndex: 1, State: bfia.TaskRunning},
				{Role: "guest", State: bfia.TaskRunning},
			},
		}}, at))
		require.NoError(t, s.UpdateScheduleTasks(ctx, []store.ScheduleTaskChange{{
			TaskID: "j1-a", State: bfia.TaskFailed, Reason: "host.1: exit code 3",
			Parts: []store.SchedulePartChange{
				{Role: "host", RoleIndex: 1, State: bfia.TaskFailed, Reason: "exit code 3"},
			},
		}}, later))
		// Late and doubled reports change nothing.
		for _, st := range []bfia.TaskState{bfia.TaskPending, bfia.TaskReady, bfia.TaskRunning,
			bfia.TaskSuccess, bfia.TaskFailed} {
			require.NoError(t, s.UpdateScheduleTasks(ctx, []store.ScheduleTaskChange{{
				TaskID: "j1-a", State: st, Reason: "late",
				Parts: []store.SchedulePartChange{{Role: "host", RoleIndex: 1, State: st, Reason: "late"}},
			}}, later.Add(time.Hour)))
		}
		task, err := s.ScheduleTaskByID(ctx, "j1-a")
		require.NoError(t, err)
		require.Equal(t, bfia.TaskFailed, task.State)
		require.Equal(t, "host.1: exit code 3", task.Reason)
		require.Equal(t, kept, *task.StartedAt)
		require.Equal(t, kept.Add(time.Hour), *task.EndedAt)
		all, err := s.ScheduleParts(ctx, "j1")
		require.NoError(t, err)
		require.Equal(t, bfia.TaskRunning, all[0].State)
		require.Equal(t, bfia.TaskReady, all[1].State)
		require.Equal(t, bfia.TaskFailed, all[2].State)
		require.Equal(t, "exit code 3", all[2].Reason)

		// An unknown part undoes the change of its task.
		requireCode(t, bfia.CodeNotFound, s.UpdateScheduleTasks(ctx, []store.ScheduleTaskChange{{
			TaskID: "j1-b", State: bfia.TaskRunning, Parts: []store.SchedulePartChange{{Role: "arbiter",
				State: bfia.TaskRunning}},
		}}, at))
		task, err = s.ScheduleTaskByID(ctx, "j1-b")
		require.NoError(t, err)
		require.Equal(t, bfia.TaskReady, task.State)
		requireCode(t, bfia.CodeNotFound,
			s.UpdateScheduleTasks(ctx, []store.ScheduleTaskChange{{TaskID: "no"}}, at))
		requireCode(t, bfia.CodeBadRequest,
			s.UpdateScheduleTasks(ctx, []store.ScheduleTaskChange{{TaskID: "j1-b", State: "DONE"}}, at))

		// At the end of the job, running parts become FAILED. Those that have not started, or have ended,
		// keep their state.
		for _, words := range []string{"the job was stopped: by B", "again"} {
			require.NoError(
				t,
				s.FailRunningScheduleTasks(ctx, "j1", &bfia.Failure{Kind: bfia.FailedStopped, Message: words},
					later),
			)
		}
		all, err = s.ScheduleParts(ctx, "j1")
		require.NoError(t, err)
		require.Equal(t, bfia.TaskFailed, all[0].State)
		require.Equal(t, &bfia.Failure{Kind: bfia.FailedStopped, Message: "the job was stopped: by B"},
			all[0].Failure)
		require.Equal(t, all[0].Failure.Text(), all[0].Reason)
		require.Equal(t, kept.Add(time.Hour), *all[0].EndedAt)
		require.Equal(t, bfia.TaskReady, all[1].State)
		require.Equal(t, "exit code 3", all[2].Reason)
		task, err = s.ScheduleTaskByID(ctx, "j1-b")
		require.NoError(t, err)
		require.Equal(t, bfia.TaskReady, task.State)

		require.NoError(t, s.UpdateScheduleJob(ctx, "j1", bfia.JobFinished, "stopped", at))
		require.NoError(t, s.UpdateScheduleJob(ctx, "j1", bfia.JobRejected, "late", at))
		require.NoError(t, s.UpdateScheduleJob(ctx, "j1", bfia.JobRunning, "late", at))
		got, err := s.ScheduleJob(ctx, "j1")
		require.NoError(t, err)
		require.Equal(t, bfia.JobFinished, got.State)
		require.Equal(t, "stopped", got.Reason)
		require.Nil(t, got.StartedAt)
		requireCode(t, bfia.CodeNotFound, s.UpdateScheduleJob(ctx, "no", bfia.JobRunning, "", at))
		requireCode(t, bfia.CodeNotFound, s.UpdateScheduleJob(ctx, "no", bfia.JobPending, "", at))
		requireCode(t, bfia.CodeBadRequest, s.UpdateScheduleJob(ctx, "j1", "DONE", "", at))
	})
}

// Two stores on one database report every state in any order. Whichever terminal state comes first stays.
func TestStoresRaceOnStates(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx := t.Context()
		stores := []*store.Store{storetest.Open(t, address), storetest.Open(t, address)}
		job, tasks, parts := scheduleJob("j1")
		var all errgroup.Group
		for _, s := range stores {
			for range 4 {
				all.Go(func() error { return s.CreateScheduleJob(ctx, job, tasks, parts) })
			}
		}
		require.NoError(t, all.Wait())

		states := []bfia.TaskState{bfia.TaskRunning, bfia.TaskSuccess, bfia.TaskFailed, bfia.TaskReady}
		for n := range 8 {
			all.Go(func() error {
				rng := rand.New(rand.NewPCG(1, uint64(n)))
				terminal := bfia.TaskState("")
				for range 25 {
					change := func(id string) store.ScheduleTaskChange {
						st := states[rng.IntN(len(states))]
						return store.ScheduleTaskChange{TaskID: id, State: st, Reason: string(st),
							Parts: []store.SchedulePartChange{{Role: "guest", State: st, Reason: string(st)}}}
					}
					// In both orders: the store puts them into one.
					changes := []store.ScheduleTaskChange{change("j1-a"), change("j1-b")}
					if n%2 == 1 {
						changes[0], changes[1] = changes[1], changes[0]
					}
					if err := stores[n%2].UpdateScheduleTasks(ctx, changes, at); err != nil {
						return err
					}
					task, err := stores[n%2].ScheduleTaskByID(ctx, "j1-a")
					if err != nil {
						return err
					}
					if terminal != "" && task.State != terminal {
						return bfia.Errorf(bfia.CodeInternal, "was %s, is %s", terminal, task.State)
					}
					if task.State.Terminal() {
						terminal = task.State
					}
				}
				return nil
			})
		}
		require.NoError(t, all.Wait())
		task, err := stores[0].ScheduleTaskByID(ctx, "j1-a")
		require.NoError(t, err)
		require.True(t, task.State.Terminal())
		require.Equal(t, string(task.State), task.Reason, "state and reason are of one report")
	})
}

func TestReasonsAreCut(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), storetest.Open(t, address)
		job, tasks, parts := scheduleJob("j1")
		require.NoError(t, s.CreateScheduleJob(ctx, job, tasks, parts))
		require.NoError(t,
			s.UpdateScheduleJob(ctx, "j1", bfia.JobFinished, "a\x00b\xff"+strings.Repeat("互通", 2000), at))
		got, err := s.ScheduleJob(ctx, "j1")
		require.NoError(t, err)
		require.LessOrEqual(t, len(got.Reason), store.MaxReason)
		require.Greater(t, len(got.Reason), store.MaxReason-8)
		require.True(t, utf8.ValidString(got.Reason))
		require.True(t, strings.HasPrefix(got.Reason, "ab\uFFFD互通"))
		require.True(t, strings.HasSuffix(got.Reason, " …"))
	})
}
