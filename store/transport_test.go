package store_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"hutong/bfia"
	"hutong/internal/audit"
	"hutong/internal/identity"
	"hutong/store"
	"hutong/store/storetest"
)

// TestTransports checks that a volume is that of the instance which took it over last, whatever the one
// before it still sends.
func TestTransports(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx := t.Context()
		s := storetest.Open(t, address)
		all, err := s.Transports(ctx)
		require.NoError(t, err)
		require.Empty(t, all)
		second := store.Transport{VolumeID: "v2", Name: "b", Address: "b:1", Instance: "i1", Epoch: 2,
			Single: true}
		before := store.Transport{VolumeID: "v1", Name: "a", Address: "a:1", Instance: "i2", Epoch: 2}
		now := store.Transport{VolumeID: "v1", Name: "a", Address: "a:2", Instance: "i3", Epoch: 4}
		late := store.Transport{VolumeID: "v1", Name: "a", Address: "a:3", Instance: "i4", Epoch: 4}
		for _, c := range []struct {
			tr         store.Transport
			epoch      int64
			registered bool
		}{{second, 0, true}, {before, 0, true}, {now, 0, false}, {now, 2, true}, {late, 2, false}} {
			registered, err := s.RegisterTransport(ctx, c.tr, c.epoch)
			require.NoError(t, err)
			require.Equal(t, c.registered, registered, "%s at %d", c.tr.Instance, c.epoch)
		}
		// The stop and a heartbeat of the process before come late.
		require.NoError(t, s.StopTransport(ctx, "v1", "i2"))
		other, recreated, err := s.BeatTransport(ctx, before)
		require.NoError(t, err)
		require.NotNil(t, other)
		require.False(t, recreated)
		require.Equal(t, "a:2", other.Address)
		other, recreated, err = s.BeatTransport(ctx, now)
		require.NoError(t, err)
		require.Nil(t, other)
		require.False(t, recreated)
		require.NoError(t, s.StopTransport(ctx, "v2", "i1"))
		all, err = s.Transports(ctx)
		require.NoError(t, err)
		require.Len(t, all, 2)
		require.Equal(t, "a:2", all[0].Address)
		require.False(t, all[0].Stopped || all[0].Single)
		require.EqualValues(t, 4, all[0].Epoch)
		require.Less(t, all[0].Silence, time.Hour)
		require.True(t, all[1].Stopped && all[1].Single)
		require.False(t, all[1].HeartbeatAt.IsZero())

		// Those that hold sessions stay.
		_, err = s.PlaceSessions(ctx, "session_J", "v2")
		require.NoError(t, err)
		n, err := s.RemoveTransports(ctx, -time.Hour)
		require.NoError(t, err)
		require.Equal(t, 1, n)
		_, err = s.SweepPlacements(ctx, "v2", nil, -time.Hour)
		require.NoError(t, err)
		n, err = s.RemoveTransports(ctx, time.Hour)
		require.NoError(t, err)
		require.Zero(t, n, "its last heartbeat was a moment ago")

		// A row that was lost, in a restore, is made again.
		other, recreated, err = s.BeatTransport(ctx, now)
		require.NoError(t, err)
		require.Nil(t, other)
		require.True(t, recreated)
		_, err = s.RegisterTransport(ctx, store.Transport{VolumeID: "v", Name: "a\x00", Address: "a:1"}, 0)
		require.Error(t, err)
		// A process that stops still asks who serves its volume. Its epoch grows.
		now.Stopped, now.Epoch = true, 5
		other, _, err = s.BeatTransport(ctx, now)
		require.NoError(t, err)
		require.Nil(t, other)
		all, err = s.Transports(ctx)
		require.NoError(t, err)
		require.True(t, all[0].Stopped)
		require.EqualValues(t, 5, all[0].Epoch)
	})
}

// TestPlaceSessionsOnce checks that all processes that place the same sessions at the same time get one
// volume.
func TestPlaceSessionsOnce(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx := t.Context()
		storetest.Open(t, address)
		holders := make([]string, 8)
		var all errgroup.Group
		for i := range holders {
			all.Go(func() (err error) {
				s, err := store.Open(ctx, address)
				if err != nil {
					return err
				}
				defer func() { _ = s.Close() }()
				holders[i], err = s.PlaceSessions(ctx, "session_J", fmt.Sprint("volume-", i))
				return err
			})
		}
		require.NoError(t, all.Wait())
		for _, holder := range holders {
			require.Equal(t, holders[0], holder)
		}
		s := storetest.Open(t, address)
		holder, err := s.Placement(ctx, "session_J")
		require.NoError(t, err)
		require.Equal(t, holders[0], holder)
		holder, err = s.Placement(ctx, "session_K")
		require.NoError(t, err)
		require.Empty(t, holder)
	})
}

// place records placements by key.
func place(t *testing.T, s *store.Store, volumes map[string]string) {
	t.Helper()
	for key, volume := range volumes {
		_, err := s.PlaceSessions(t.Context(), key, volume)
		require.NoError(t, err)
	}
}

// placements returns which of some keys have a placement, without using them.
func placements(t *testing.T, address string, keys ...string) (left []string) {
	t.Helper()
	for _, key := range keys {
		var n int
		require.NoError(t, rawDB(t, address).QueryRow("SELECT COUNT(*) FROM t_placement "+
			"WHERE session_key = '"+key+"'").Scan(&n))
		if n > 0 {
			left = append(left, key)
		}
	}
	return left
}

func TestSweepPlacements(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx := t.Context()
		s := storetest.Open(t, address)
		for _, id := range []string{"J", "train_1", "train_2_b"} { // the key of the last two is session_train
			require.NoError(t, s.CreateJob(ctx, store.Job{JobID: id, CreatedAt: time.Now()}, nil))
		}
		all := []string{"session_J", "session_train", "session_K", "other", "session_used", "session_L"}
		for _, key := range all[:5] {
			place(t, s, map[string]string{key: "v1"})
		}
		place(t, s, map[string]string{"session_L": "v2"})
		n, err := s.SweepPlacements(ctx, "v1", nil, time.Hour)
		require.NoError(t, err)
		require.Zero(t, n, "all were used within the hour")
		_, err = rawDB(t, address).Exec("UPDATE t_placement SET used_at = '2020-01-01 00:00:00'")
		require.NoError(t, err)
		_, err = s.Placement(ctx, "session_used")
		require.NoError(t, err)
		n, err = s.SweepPlacements(ctx, "v1", []string{"other"}, time.Hour)
		require.NoError(t, err)
		require.Equal(t, 1, n)
		require.Equal(t, []string{"session_J", "session_train", "other", "session_used", "session_L"},
			placements(t, address, all...))
	})
}

// TestLostVolume checks that the placements on a volume that does not come back are removed, except those of
// jobs in progress, which are counted; and that the end of a restore forgets all.
func TestLostVolume(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx := t.Context()
		s := storetest.Open(t, address)
		for _, id := range []string{"lost_1", "lost_2", "ended", "here"} {
			require.NoError(t, s.CreateJob(ctx, store.Job{JobID: id, CreatedAt: time.Now()}, nil))
		}
		ended, err := s.EndLostJob(ctx, "ended", &bfia.Failure{Kind: bfia.FailedInternal}, time.Now())
		require.NoError(t, err)
		require.True(t, ended)
		for _, volume := range []string{"gone", "v1"} {
			registered, err := s.RegisterTransport(ctx, store.Transport{VolumeID: volume, Name: volume,
				Address: volume, Instance: volume, Epoch: 1}, 0)
			require.NoError(t, err)
			require.True(t, registered)
		}
		place(t, s, map[string]string{"session_lost": "gone", "session_ended": "gone", "other": "gone",
			"session_here": "v1"})
		n, err := s.SweepLostPlacements(ctx, time.Hour, 0)
		require.NoError(t, err)
		require.Zero(t, n, "it may come back")

		_, err = rawDB(t, address).Exec("UPDATE t_transport SET heartbeat_at = '2020-01-01 00:00:00' " +
			"WHERE volume_id = 'gone'")
		require.NoError(t, err)
		jobs, err := s.UnfinishedJobsByVolume(ctx)
		require.NoError(t, err)
		require.Equal(t, map[string]int{"gone": 2, "v1": 1}, jobs)
		n, err = s.SweepLostPlacements(ctx, time.Hour, time.Hour)
		require.NoError(t, err)
		require.Zero(t, n, "other processes remember them")
		_, err = rawDB(t, address).Exec("UPDATE t_placement SET used_at = '2020-01-01 00:00:00'")
		require.NoError(t, err)
		n, err = s.SweepLostPlacements(ctx, time.Hour, time.Hour)
		require.NoError(t, err)
		require.Equal(t, 2, n)
		all := []string{"session_lost", "session_ended", "other", "session_here"}
		require.Equal(t, []string{"session_lost", "session_here"}, placements(t, address, all...))

		entry := audit.New(identity.Principal{Kind: identity.KindPartner, Node: "A"}, audit.FinishRestore,
			audit.Object{}, audit.Allowed, time.Now())
		require.NoError(t, s.FinishRestore(ctx, 1, time.Now(), &entry))
		require.Empty(t, placements(t, address, all...))
		transports, err := s.Transports(ctx)
		require.NoError(t, err)
		require.Empty(t, transports)

		// The party goes from one transport to several: the jobs in progress stay where they are.
		place(t, s, map[string]string{"session_here": "v2"})
		require.NoError(t, s.ClaimUnfinishedJobs(ctx, "v1"))
		jobs, err = s.UnfinishedJobsByVolume(ctx)
		require.NoError(t, err)
		require.Equal(t, map[string]int{"v1": 2, "v2": 1}, jobs)
		require.NoError(t, s.ForgetPlacements(ctx))
		require.Empty(t, placements(t, address, all...))
	})
}

// TestHeartbeatKeepsItsDeadline checks that a heartbeat fails at its deadline while another process has
// locked SQLite, and that other writes of the connection wait for the lock as before.
func TestHeartbeatKeepsItsDeadline(t *testing.T) {
	t.Parallel()
	address := storetest.SQLite(t)
	s := storetest.Open(t, address)
	own := store.Transport{VolumeID: "v", Name: "n", Address: "a:1", Instance: "i", Epoch: 2}
	registered, err := s.RegisterTransport(t.Context(), own, 0)
	require.NoError(t, err)
	require.True(t, registered)
	lock, err := rawDB(t, address).Conn(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, lock.Close()) }()
	_, err = lock.ExecContext(t.Context(), "BEGIN IMMEDIATE")
	require.NoError(t, err)

	began := time.Now()
	for _, write := range []func(context.Context) error{
		func(ctx context.Context) error { _, _, err := s.BeatTransport(ctx, own); return err },
		func(ctx context.Context) error { return s.StopTransport(ctx, "v", "i") },
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		require.Error(t, write(ctx))
		cancel()
	}
	require.Less(t, time.Since(began), 5*time.Second)

	written := make(chan error, 1)
	go func() { written <- s.ForgetPlacements(t.Context()) }()
	select {
	case err := <-written:
		require.Fail(t, "does not wait for the lock", "%v", err)
	case <-time.After(500 * time.Millisecond):
	}
	_, err = lock.ExecContext(t.Context(), "ROLLBACK")
	require.NoError(t, err)
	require.NoError(t, <-written)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	other, recreated, err := s.BeatTransport(ctx, own)
	require.NoError(t, err)
	require.Nil(t, other)
	require.False(t, recreated)
}
