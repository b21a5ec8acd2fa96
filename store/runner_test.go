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

// A runner that is drained stays so when its worker stops and starts again. Meanwhile it does not count as a
// runner.
func TestDrainedRunnerDeregisters(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), storetest.Open(t, address)
		runner := store.Runner{
			RunnerID:  "h1",
			NodeID:    "A",
			Devices:   []string{"docker"},
			TaskQueue: "q",
			Slots:     2,
		}
		online := func() []store.Runner {
			runners, err := s.Runners(ctx, time.Minute)
			require.NoError(t, err)
			return runners
		}
		require.NoError(t, s.PutRunner(ctx, runner))
		require.NoError(t, s.DrainRunner(ctx, "h1", true))
		silence, found, err := s.RunnerSilence(ctx, "h1")
		require.NoError(t, err)
		require.True(t, found)
		require.Less(t, silence, time.Minute)

		job, tasks := partyJob("j1")
		require.NoError(t, s.CreateJob(ctx, job, tasks))
		offered := func() (runners []admission.Runner) {
			_, _, err := s.Reserve(ctx, store.ReservationRequest{JobID: "j1"},
				store.ReservationTimes{Now: time.Now(), SilentAfter: time.Minute},
				func(a store.ReservationView) ([]string, string) { runners = a.Runners; return nil, "full" })
			require.NoError(t, err)
			return runners
		}
		require.Len(t, offered(), 1)
		require.True(t, offered()[0].Draining)

		require.NoError(t, s.DeregisterRunner(ctx, "h1"))
		require.Empty(t, online())
		require.Empty(t, offered())
		_, found, err = s.RunnerSilence(ctx, "h1")
		require.NoError(t, err)
		require.False(t, found, "it deregistered")
		uses, err := s.RunnerUses(ctx)
		require.NoError(t, err)
		require.Len(t, uses, 1)
		require.True(t, uses[0].Deregistered && uses[0].Draining)

		require.NoError(t, s.PutRunner(ctx, runner))
		require.Len(t, online(), 1)
		require.True(t, online()[0].Draining)

		require.NoError(t, s.DeregisterRunner(ctx, "h1"))
		require.NoError(t, s.DrainRunner(ctx, "h1", false))
		uses, err = s.RunnerUses(ctx)
		require.NoError(t, err)
		require.Empty(t, uses, "its row has nothing to record")
		requireCode(t, bfia.CodeNotFound, s.DrainRunner(ctx, "h1", false))
		require.NoError(t, s.DeregisterRunner(ctx, "h1"), "it is unknown")

		require.NoError(t, s.PutRunner(ctx, runner))
		require.NoError(t, s.DeregisterRunner(ctx, "h1"))
		uses, err = s.RunnerUses(ctx)
		require.NoError(t, err)
		require.Empty(t, uses)
	})
}

// The containers on a runner are counted. A silent runner is deleted once nothing runs there.
func TestRunnerUses(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), storetest.Open(t, address)
		long := time.Now().Add(-24 * time.Hour)
		require.NoError(
			t,
			s.PutRunner(
				ctx,
				store.Runner{
					RunnerID:    "h1",
					Slots:       2,
					HeartbeatAt: long,
					Labels:      map[string]string{"gpu": "1"},
				},
			),
		)
		require.NoError(t, s.PutRunner(ctx, store.Runner{RunnerID: "h2", Slots: 2, HeartbeatAt: long}))
		require.NoError(t,
			s.PutRunner(ctx, store.Runner{RunnerID: "h3", Slots: 2, HeartbeatAt: long.Add(time.Hour)}))
		job, tasks := partyJob("j1")
		require.NoError(t, s.CreateJob(ctx, job, tasks))
		_, err := s.StartTask(ctx, "j1", "a", "id-a", 1, at)
		require.NoError(t, err)
		guest, host := store.TaskKey{
			JobID: "j1",
			Name:  "a",
			Role:  "guest",
		}, store.TaskKey{
			JobID: "j1",
			Name:  "a",
			Role:  "host",
		}
		require.NoError(t, s.SetTaskContainer(ctx, guest, 1, "h1", "run-1", "id-1"))
		require.NoError(t, s.SetTaskContainer(ctx, host, 1, "h1", "run-2", "id-2"))
		running := func() map[string]int {
			uses, err := s.RunnerUses(ctx)
			require.NoError(t, err)
			found := map[string]int{}
			for _, u := range uses {
				require.False(t, u.Deregistered)
				found[u.RunnerID] = u.RunningParts
			}
			return found
		}
		require.Equal(t, map[string]int{"h1": 2, "h2": 0, "h3": 0}, running())
		require.NoError(t, s.SetTaskExit(ctx, guest, 1, 0, "", at))
		require.Equal(t, map[string]int{"h1": 1, "h2": 0, "h3": 0}, running())

		n, err := s.ForgetRunners(ctx, 23*time.Hour+30*time.Minute)
		require.NoError(t, err)
		require.Equal(t, 1, n, "h2: h1 has a running part, and h3 a later heartbeat")
		require.Equal(t, map[string]int{"h1": 1, "h3": 0}, running())
	})
}
