package worker

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/activities"
	"hutong/activities/driver"
	"hutong/activities/runner"
	"hutong/bfia"
	"hutong/store"
	"hutong/store/storetest"
)

// TestAnnounce checks that every heartbeat announces the runner's capacity, and the last one if it can't be
// read.
func TestAnnounce(t *testing.T) {
	ctx, db := t.Context(), storetest.Open(t, storetest.SQLite(t))
	capacity := driver.Capacity{Resources: bfia.Resources{CPUMilli: 2000, Memory: 1 << 30, Disk: 1 << 40}}
	broken := errors.New("Docker Engine does not answer")
	a := &announcer{
		logger: slog.New(slog.DiscardHandler),
		runner: &runner.Runner{RunnerID: "h", Node: "A", Store: db,
			Drivers: map[string]driver.Driver{"process": nil, "docker": nil}},
		offer: RunnerCapacity{Slots: 3, Labels: map[string]string{"gpu": "1"},
			Capacity: func(ctx context.Context) (driver.Capacity, error) {
				if _, bounded := ctx.Deadline(); !bounded {
					return capacity, errors.New("a Docker Engine that hangs would silence the runner")
				}

				return capacity, broken
			}},
	}
	require.ErrorIs(t, a.announce(ctx), broken, "there is no last capacity")

	announced := func() store.Runner {
		runners, err := db.Runners(ctx, time.Minute)
		require.NoError(t, err)
		require.Len(t, runners, 1)
		r := runners[0]
		require.WithinDuration(t, time.Now(), r.HeartbeatAt, time.Minute)
		r.HeartbeatAt = time.Time{}

		return r
	}
	broken = nil
	require.NoError(t, a.announce(ctx))
	want := store.Runner{RunnerID: "h", NodeID: "A", Devices: []string{"docker", "process"},
		TaskQueue: activities.TaskQueueOfRunner("h"), Slots: 3,
		CPUMilli: 2000, Memory: 1 << 30, Disk: 1 << 40, Labels: map[string]string{"gpu": "1"}}
	require.Equal(t, want, announced())

	require.NoError(t, db.DrainRunner(ctx, "h", true))
	capacity.Memory, want.Memory, want.Draining = 1<<31, 1<<31, true
	require.NoError(t, a.announce(ctx))
	require.Equal(t, want, announced())

	capacity, broken = driver.Capacity{}, errors.New("Docker Engine restarts")
	require.NoError(t, a.announce(ctx))
	require.Equal(t, want, announced())
}
