package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"hutong/bfia"
	"hutong/store"
	"hutong/store/storetest"
)

func partyJob(id string) (store.Job, []store.Task) {
	return store.Job{
			JobID:         id,
			FlowID:        "flow",
			State:         bfia.JobPending,
			Roles:         []string{"guest.0", "host.0"},
			InitiatorNode: "A",
			SchedulerNode: "B",
			PartyNodes:    []string{"A", "B"},
			Waiting:       []bfia.Waiting{},
			CreatedAt:     at,
		},
		[]store.Task{
			{
				Name:      "a",
				Role:      "guest",
				Component: "Intersection",
				Provider:  "unionpay",
				Version:   "2.0.0",
				Seq:       0,
			},
			{
				Name:      "a",
				Role:      "host",
				Component: "Intersection",
				Provider:  "unionpay",
				Version:   "2.0.0",
				Seq:       0,
			},
			{Name: "b", Role: "guest", Component: "HeteroLR", Provider: "unionpay", Version: "2.0.0", Seq: 1},
		}
}

func TestJobIsCreatedOnce(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), storetest.Open(t, address)
		job, tasks := partyJob("j1")
		require.NoError(t, s.CreateJob(ctx, job, tasks))
		got, err := s.Job(ctx, "j1")
		require.NoError(t, err)
		want := job
		want.CreatedAt, want.Project = kept, "default"
		require.Equal(t, want, got)
		gotTasks, err := s.Tasks(ctx, "j1")
		require.NoError(t, err)
		require.Len(t, gotTasks, 3)
		require.Equal(t, bfia.TaskReady, gotTasks[0].State)
		require.Nil(t, gotTasks[0].ExitCode)

		_, err = s.StartTask(ctx, "j1", "a", "id-a", 1, at)
		require.NoError(t, err)
		require.NoError(t, s.CreateJob(ctx, job, tasks), "also after a task got its id")
		other := job
		other.SchedulerNode = "C"
		requireCode(t, bfia.CodeConflict, s.CreateJob(ctx, other, tasks))
		requireCode(t, bfia.CodeConflict, s.CreateJob(ctx, job, tasks[:2]))

		require.NoError(t, s.UpdateJob(ctx, "j1", bfia.JobRunning, "", at))
		require.NoError(t, s.UpdateJob(ctx, "j1", bfia.JobReady, "late", at))
		got, err = s.Job(ctx, "j1")
		require.NoError(t, err)
		require.Equal(t, bfia.JobRunning, got.State)
		require.Equal(t, "", got.Reason)
		requireCode(t, bfia.CodeNotFound, s.UpdateJob(ctx, "no", bfia.JobRunning, "", at))

		require.NoError(
			t,
			s.PutOutputs(ctx,
				[]store.Output{{JobID: "j1", TaskName: "a", Role: "guest", Type: "dataset", Key: "d"}}),
		)
		require.NoError(t, s.DeleteJob(ctx, "j1"))
		_, err = s.Job(ctx, "j1")
		requireCode(t, bfia.CodeNotFound, err)
		gotTasks, err = s.Tasks(ctx, "j1")
		require.NoError(t, err)
		require.Empty(t, gotTasks)
	})
}

// A job that has ended can be reopened and keeps its tasks; nothing else changes.
func TestReopenJob(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), storetest.Open(t, address)
		job, tasks := partyJob("j1")
		require.NoError(t, s.CreateJob(ctx, job, tasks))
		requireCode(t, bfia.CodeNotFound, s.ReopenJob(ctx, "no"))
		require.NoError(t, s.ReopenJob(ctx, "j1"))
		got, err := s.Job(ctx, "j1")
		require.NoError(t, err)
		require.Equal(t, bfia.JobPending, got.State, "it had not ended")
		_, err = s.StartTask(ctx, "j1", "a", "id-a", 1, at)
		require.NoError(t, err)
		require.NoError(t, s.UpdateJob(ctx, "j1", bfia.JobRunning, "", at))
		require.NoError(t, s.UpdateJob(ctx, "j1", bfia.JobFinished, "it hurts", at))
		require.NoError(t, s.ReopenJob(ctx, "j1"))
		got, err = s.Job(ctx, "j1")
		require.NoError(t, err)
		want := job
		want.CreatedAt, want.State, want.Project = kept, bfia.JobReady, "default"
		require.Equal(t, want, got)
		rows, err := s.Tasks(ctx, "j1")
		require.NoError(t, err)
		require.Equal(t, "id-a", rows[0].TaskID)
		rows, err = s.StartTask(ctx, "j1", "a", "id-a2", 2, at)
		require.NoError(t, err)
		require.Equal(t, 2, rows[0].Attempt)
		require.NoError(t, s.UpdateJob(ctx, "j1", bfia.JobFinished, "", at))
		require.NoError(t, s.MarkRemoving(ctx, "j1"))
		requireCode(t, bfia.CodeNotFound, s.ReopenJob(ctx, "j1"))
	})
}

func TestTaskLife(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), storetest.Open(t, address)
		job, tasks := partyJob("j1")
		require.NoError(t, s.CreateJob(ctx, job, tasks))
		job2, tasks2 := partyJob("j2")
		require.NoError(t, s.CreateJob(ctx, job2, tasks2))
		guest := store.TaskKey{JobID: "j1", Name: "a", Role: "guest"}

		rows, err := s.StartTask(ctx, "j1", "a", "id-a", 1, at)
		require.NoError(t, err)
		require.Len(t, rows, 2)
		for _, r := range rows {
			require.Equal(t, bfia.TaskRunning, r.State)
			require.Equal(t, "id-a", r.TaskID)
			require.Equal(t, 1, r.Attempt)
			require.Equal(t, kept, *r.StartedAt)
		}
		again, err := s.StartTask(ctx, "j1", "a", "id-a", 7, at.Add(time.Hour))
		require.NoError(t, err)
		require.Equal(t, rows, again, "asked again nothing changes")
		_, err = s.StartTask(ctx, "j1", "a", "id-other", 1, at)
		requireCode(t, bfia.CodeConflict, err)
		_, err = s.StartTask(ctx, "j1", "b", "id-a", 1, at)
		requireCode(t, bfia.CodeConflict, err)
		_, err = s.StartTask(ctx, "j2", "a", "id-a", 1, at)
		requireCode(t, bfia.CodeConflict, err)
		_, err = s.StartTask(ctx, "j1", "c", "id-c", 1, at)
		requireCode(t, bfia.CodeNotFound, err)
		_, err = s.StartTask(ctx, "j1", "a", "", 1, at)
		requireCode(t, bfia.CodeBadRequest, err)
		byID, err := s.TasksByID(ctx, "id-a")
		require.NoError(t, err)
		require.Equal(t, rows, byID)
		byID, err = s.TasksByID(ctx, "")
		require.NoError(t, err)
		require.Empty(t, byID, "tasks that have not begun have no id")

		// Runs: a later attempt replaces the earlier one, never the other way.
		require.NoError(t, s.SetTaskContainer(ctx, guest, 1, "host1", "container-1", "cid1"))
		require.NoError(t, s.SetTaskExit(ctx, guest, 1, 137, "killed", at))
		require.NoError(t, s.SetTaskContainer(ctx, guest, 1, "host1", "container-1", "cid1"))
		task, err := s.Task(ctx, guest)
		require.NoError(t, err)
		require.Equal(t, 137, *task.ExitCode, "the same container recorded again keeps its exit code")
		require.NoError(t, s.SetTaskContainer(ctx, guest, 2, "host2", "container-2", "cid2"))
		require.NoError(t, s.SetTaskContainer(ctx, guest, 1, "host1", "container-1", "cid1"))
		require.NoError(t, s.SetTaskExit(ctx, guest, 1, 137, "killed", at))
		task, err = s.Task(ctx, guest)
		require.NoError(t, err)
		require.Equal(t, 2, task.Attempt)
		require.Equal(t, "cid2", task.ContainerID)
		require.Nil(t, task.ExitCode)
		require.Nil(t, task.ExitedAt)
		require.NoError(t, s.RequestTaskStop(ctx, guest, "id-a"))
		require.NoError(t, s.SetTaskExit(ctx, guest, 2, 0, "", at))
		require.NoError(t, s.SetTaskExit(ctx, guest, 2, 1, "", at))
		require.NoError(t, s.EndTask(ctx, guest, "id-a", bfia.TaskSuccess, "", at))
		require.NoError(t, s.EndTask(ctx, guest, "id-a", bfia.TaskFailed, "late", at))
		require.NoError(t, s.SetTaskContainer(ctx, guest, 3, "host3", "run-3", "cid3"))
		task, err = s.Task(ctx, guest)
		require.NoError(t, err)
		require.Equal(t, bfia.TaskSuccess, task.State)
		require.Equal(t, 0, *task.ExitCode)
		require.Equal(t, kept, *task.ExitedAt)
		require.Equal(t, kept, *task.EndedAt)
		require.True(t, task.StopRequested)
		require.Equal(t, "cid2", task.ContainerID)

		// The whole row, read back whole.
		n, err := s.FailRunningTasks(ctx, "j1", "the job was stopped", at)
		require.NoError(t, err)
		require.Equal(t, 1, n)
		all, err := s.Tasks(ctx, "j1")
		require.NoError(t, err)
		require.Equal(t, []bfia.TaskState{bfia.TaskSuccess, bfia.TaskFailed, bfia.TaskReady},
			[]bfia.TaskState{all[0].State, all[1].State, all[2].State})
		require.Equal(t, "the job was stopped", all[1].Reason)
		n, err = s.FailRunningTasks(ctx, "j1", "again", at)
		require.NoError(t, err)
		require.Zero(t, n)

		no := store.TaskKey{JobID: "j1", Name: "a", Role: "guest", RoleIndex: 1}
		_, err = s.Task(ctx, no)
		requireCode(t, bfia.CodeNotFound, err)
		requireCode(t, bfia.CodeNotFound, s.EndTask(ctx, no, "id-a", bfia.TaskFailed, "", at))
		requireCode(t, bfia.CodeNotFound, s.SetTaskContainer(ctx, no, 1, "", "", ""))
		requireCode(t, bfia.CodeNotFound, s.SetTaskExit(ctx, no, 1, 0, "", at))
		requireCode(t, bfia.CodeNotFound, s.RequestTaskStop(ctx, no, "id-a"))
		require.ErrorContains(t, s.RequestTaskStop(ctx, no, "id-a"), "j1/a guest.1")
	})
}

// A task that gets two ids at once has one of them, in both its roles.
func TestStoresRaceToStartATask(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx := t.Context()
		stores := []*store.Store{storetest.Open(t, address), storetest.Open(t, address)}
		for round := range 10 {
			id := fmt.Sprintf("j%d", round)
			job, tasks := partyJob(id)
			require.NoError(t, stores[0].CreateJob(ctx, job, tasks))
			var all errgroup.Group
			won := make([]bool, 8)
			for n := range won {
				all.Go(func() error {
					rows, err := stores[n%2].StartTask(ctx, id, "a", fmt.Sprintf("%s-task-%d", id, n/4), 1,
						at)
					if bfia.CodeOf(err) == bfia.CodeConflict {
						return nil
					}
					won[n] = err == nil
					if err == nil && (len(rows) != 2 || rows[0].TaskID != rows[1].TaskID) {
						return fmt.Errorf("rows %+v", rows)
					}
					return err
				})
			}
			require.NoError(t, all.Wait())
			require.NotEqual(t, won[0], won[4], "one id wins")
			for n := range won {
				require.Equal(t, won[n/4*4], won[n], "and everyone who asked with it")
			}
		}
	})
}

func TestJobsPages(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), storetest.Open(t, address)
		const n = 25
		var want []string
		for i := range n {
			job, _ := partyJob(fmt.Sprintf("j%02d", i))
			// Fractions of different lengths, and pairs of the same time.
			job.CreatedAt = at.Add(time.Duration(i/2) * 100 * time.Millisecond)
			job.FlowID = fmt.Sprint("flow", i%3)
			if i%5 == 0 {
				job.State = bfia.JobReady
			}
			require.NoError(t, s.CreateJob(ctx, job, nil))
			want = append([]string{job.JobID}, want...)
		}
		walk := func(f store.JobFilter) (ids []string) {
			for {
				page, err := s.Jobs(ctx, f)
				require.NoError(t, err)
				for _, j := range page.Jobs {
					ids = append(ids, j.JobID)
				}
				if page.Next == nil {
					return ids
				}
				c, err := store.ParseJobCursor(page.Next.String())
				require.NoError(t, err)
				f.Before = &c
			}
		}
		require.Equal(t, want, walk(store.JobFilter{}))
		for _, limit := range []int{1, 2, 7, 25} {
			require.Equal(t, want, walk(store.JobFilter{Limit: limit}), limit)
		}
		flow := "flow1"
		require.Equal(t, []string{"j22", "j19", "j16", "j13", "j10", "j07", "j04", "j01"},
			walk(store.JobFilter{FlowID: &flow, Limit: 3}))
		require.Equal(t, []string{"j20", "j15", "j10", "j05", "j00"},
			walk(store.JobFilter{States: []bfia.JobState{bfia.JobReady, bfia.JobRunning}, Limit: 2}))
		empty := ""
		require.Empty(t, walk(store.JobFilter{FlowID: &empty}))
		require.Equal(t, want, walk(store.JobFilter{Prefix: want[0][:1]}))
		require.Equal(t, want[:1], walk(store.JobFilter{Prefix: want[0]}))
		require.Empty(t, walk(store.JobFilter{Prefix: want[0][:1] + "%"}),
			"the prefix is text, not a pattern")
		require.Empty(t, walk(store.JobFilter{Prefix: "_"}))
		_, err := s.Jobs(ctx, store.JobFilter{Limit: -1})
		requireCode(t, bfia.CodeBadRequest, err)
		for _, bad := range []string{"", "-", "x-j", "1-", "1", "99999999999999999999-j"} {
			_, err := store.ParseJobCursor(bad)
			requireCode(t, bfia.CodeBadRequest, err)
		}
	})
}

func BenchmarkWrites(b *testing.B) {
	for _, db := range []struct {
		name string
		open func(testing.TB) string
	}{{"sqlite", storetest.SQLite}, {"postgres", storetest.Postgres}} {
		b.Run(db.name, func(b *testing.B) {
			ctx, s := b.Context(), storetest.Open(b, db.open(b))
			b.Run("job", func(b *testing.B) {
				for i := range b.N {
					id := fmt.Sprintf("j%d-%d", b.N, i)
					job, tasks := partyJob(id)
					if err := s.CreateJob(ctx, job, tasks); err != nil {
						b.Fatal(err)
					}
					if _, err := s.StartTask(ctx, id, "a", id+"a", 1, at); err != nil {
						b.Fatal(err)
					}
					if err := s.EndTask(ctx, tasks0(id), id+"a", bfia.TaskSuccess, "", at); err != nil {
						b.Fatal(err)
					}
					if err := s.UpdateJob(ctx, id, bfia.JobFinished, "", at); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/4, "µs/write")
			})
			b.Run("page", func(b *testing.B) {
				for i := range 10000 {
					job, _ := partyJob(fmt.Sprintf("p%d", i))
					job.CreatedAt = at.Add(time.Duration(i) * time.Second)
					job.FlowID = fmt.Sprint(i % 100)
					if err := s.CreateJob(ctx, job, nil); err != nil &&
						bfia.CodeOf(err) != bfia.CodeConflict {
						b.Fatal(err)
					}
				}
				flow := "42"
				b.ResetTimer()
				for range b.N {
					if page, err := s.Jobs(ctx, store.JobFilter{FlowID: &flow, Limit: 20}); err != nil ||
						len(page.Jobs) != 20 {
						b.Fatal(len(page.Jobs), err)
					}
				}
			})
		})
	}
}

func tasks0(id string) store.TaskKey { return store.TaskKey{JobID: id, Name: "a", Role: "guest"} }
