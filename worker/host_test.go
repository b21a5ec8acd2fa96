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

// A host tells what it has with each heartbeat; while that can't be asked for, what it told before stands.
func TestAnnounce(t *testing.T) {
	ctx, db := t.Context(), storetest.Open(t, storetest.SQLite(t))
	has, broken := driver.Capacity{Resources: bfia.Resources{CPUMilli: 2000, Memory: 1 << 30,
		Disk: 1 << 40}}, errors.New("the engine is away")
	a := &announcer{logger: slog.New(slog.DiscardHandler),
		runs: &runner.Runner{RunnerID: "h", Node: "A", Store: db,
			Drivers: map[string]driver.Driver{"process": nil, "docker": nil}},
		offer: RunnerCapacity{Slots: 3, Labels: map[string]string{"gpu": "1"},
			Capacity: func(ctx context.Context) (driver.Capacity, error) {
				if _, bounded := ctx.Deadline(); !bounded {
					return has, errors.New("an engine that hangs would silence the host")
				}
				return has, broken
			}}}
	require.ErrorIs(t, a.announce(ctx), broken, "it was never told")
	told := func() store.Runner {
		hosts, err := db.Runners(ctx, time.Now().Add(-time.Minute))
		require.NoError(t, err)
		require.Len(t, hosts, 1)
		h := hosts[0]
		h.HeartbeatAt = time.Time{}
		return h
	}
	broken = nil
	require.NoError(t, a.announce(ctx))
	want := store.Runner{RunnerID: "h", NodeID: "A", Devices: []string{"docker", "process"},
		TaskQueue: activities.TaskQueueOfRunner("h"), Slots: 3,
		CPUMilli: 2000, Memory: 1 << 30, Disk: 1 << 40, Labels: map[string]string{"gpu": "1"}}
	require.Equal(t, want, told())
	require.NoError(t, db.DrainRunner(ctx, "h", true))
	has.Memory, want.Memory, want.Draining = 1<<31, 1<<31, true
	require.NoError(t, a.announce(ctx))
	require.Equal(t, want, told())
	has, broken = driver.Capacity{}, errors.New("the engine restarts")
	require.NoError(t, a.announce(ctx))
	require.Equal(t, want, told())
}
