package store_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/audit"
	"hutong/store"
	"hutong/store/storetest"
)

const silentAfter = time.Hour

// TestWatcher checks that a watcher reports each change by another store once, and nothing else.
func TestWatcher(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s, other := t.Context(), storetest.Open(t, address), storetest.Open(t, address)
		for _, id := range []string{"old", "j1"} {
			job, tasks := partyJob(id)
			require.NoError(t, s.CreateJob(ctx, job, tasks))
		}
		require.NoError(t, s.UpdateJob(ctx, "old", bfia.JobFinished, "", at))
		w, err := s.Watch(ctx, silentAfter)
		require.NoError(t, err)
		defer func() { require.NoError(t, w.Close()) }()

		key := store.TaskKey{JobID: "j1", Name: "a", Role: "guest"}
		job := func(kind bfia.ChangeKind, id string) bfia.Change { return bfia.Change{Kind: kind, JobID: id} }
		for _, c := range []struct {
			name string
			do   func() error
			want []bfia.Change
		}{
			{"nothing", func() error { return nil }, nil},
			{"an approval", func() error { return other.UpdateJob(ctx, "j1", bfia.JobReady, "", at) },
				[]bfia.Change{job(bfia.ChangedApproval, "j1"), job(bfia.ChangedJob, "j1")}},
			{"a start", func() error { return other.UpdateJob(ctx, "j1", bfia.JobRunning, "", at) },
				[]bfia.Change{job(bfia.ChangedJob, "j1"), job(bfia.ChangedTask, "j1")}},
			{"a task's start", func() error {
				_, err := other.StartTask(ctx, "j1", "a", "id-a", 1, at)
				return err
			}, []bfia.Change{job(bfia.ChangedTask, "j1")}},
			{"a wait", func() error {
				return other.SetTaskWaiting(ctx, key, "id-a",
					&bfia.Waiting{Kind: bfia.WaitsForImage, Message: "m", Since: at}, false)
			}, []bfia.Change{job(bfia.ChangedTask, "j1")}},
			{"the same wait", func() error {
				return other.SetTaskWaiting(ctx, key, "id-a",
					&bfia.Waiting{Kind: bfia.WaitsForImage, Message: "m", Since: at}, false)
			}, nil},
			{"an end", func() error { return other.UpdateJob(ctx, "j1", bfia.JobFinished, "", at) },
				[]bfia.Change{job(bfia.ChangedJob, "j1")}},
			{"a job that was created and ended", func() error {
				row, tasks := partyJob("j2")
				if err := other.CreateJob(ctx, row, tasks); err != nil {
					return err
				}
				return other.UpdateJob(ctx, "j2", bfia.JobRejected, "no", at)
			}, []bfia.Change{job(bfia.ChangedJob, "j2"), job(bfia.ChangedTask, "j2")}},
			{"a runner", func() error { return other.PutRunner(ctx, store.Runner{RunnerID: "r", Slots: 1}) },
				[]bfia.Change{job(bfia.ChangedRunner, "")}},
			{"a heartbeat", func() error {
				return other.PutRunner(ctx, store.Runner{RunnerID: "r", Slots: 1})
			}, nil},
			{"its draining", func() error { return other.DrainRunner(ctx, "r", true) },
				[]bfia.Change{job(bfia.ChangedRunner, "")}},
			{"a deletion of an old job", func() error {
				e := audit.New(alice, audit.DeleteJob, audit.Object{Kind: audit.Job, ID: "ancient"},
					audit.Allowed, time.Now())
				return other.AppendAudit(ctx, e)
			}, []bfia.Change{job(bfia.ChangedJob, "ancient")}},
			{"the reading of a log", func() error {
				e := audit.New(alice, audit.ReadLog, audit.Object{Kind: audit.Job, ID: "j1"}, audit.Allowed,
					time.Now())
				return other.AppendAudit(ctx, e)
			}, nil},
		} {
			require.NoError(t, c.do(), c.name)
			got, err := w.Next(ctx, silentAfter)
			require.NoError(t, err)
			require.Equal(t, c.want, got, c.name)
			got, err = w.Next(ctx, silentAfter)
			require.NoError(t, err)
			require.Empty(t, got, "%s is reported once", c.name)
		}

		canceled, cancel := context.WithCancel(ctx)
		cancel()
		require.NoError(t, other.DrainRunner(ctx, "r", false))
		_, err = w.Next(canceled, silentAfter)
		require.Error(t, err)
		got, err := w.Next(ctx, silentAfter)
		require.NoError(t, err)
		require.Equal(t, []bfia.Change{job(bfia.ChangedRunner, "")}, got, "an error loses nothing")
	})
}

// TestWatcherOfManyJobs checks that jobs that have ended cost a watcher nothing.
func TestWatcherOfManyJobs(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), storetest.Open(t, address)
		job, tasks := partyJob("first")
		job.State = bfia.JobFinished
		require.NoError(t, s.CreateJob(ctx, job, tasks))
		require.NoError(t, s.UpdateJob(ctx, "first", bfia.JobFinished, "", at))
		w, err := s.Watch(ctx, silentAfter)
		require.NoError(t, err)
		defer func() { require.NoError(t, w.Close()) }()
		runners := 0
		next := func() error { // with one change in each
			runners++
			require.NoError(t, s.PutRunner(ctx, store.Runner{RunnerID: fmt.Sprint(runners), Slots: 1}))
			changes, err := w.Next(ctx, silentAfter)
			require.Contains(t, changes, bfia.Change{Kind: bfia.ChangedRunner})
			return err
		}
		multiply(t, address, 200)
		few := best(t, next)
		multiply(t, address, 10_000)
		requireAtMost(t, 5*few+5*time.Millisecond, "a watcher's read", next)
	})
}

// TestEndedTokens checks which tokens are reported as ended.
func TestEndedTokens(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), storetest.Open(t, address)
		for _, id := range []string{"t-1", "t-2"} {
			require.NoError(t, s.CreateToken(ctx, store.Token{TokenID: id, Hash: []byte(id), Name: "n"}))
		}
		require.NoError(t, s.RevokeToken(ctx, "t-2", time.Now()))
		ended, err := s.EndedTokens(ctx, []string{"t-1", "t-2", "t-3"})
		require.NoError(t, err)
		require.Equal(t, []string{"t-2", "t-3"}, ended)
		ended, err = s.EndedTokens(ctx, nil)
		require.NoError(t, err)
		require.Empty(t, ended)
	})
}
