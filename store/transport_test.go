package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"hutong/store"
	"hutong/store/storetest"
)

func TestTransports(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx := t.Context()
		s := storetest.Open(t, address)
		all, err := s.Transports(ctx)
		require.NoError(t, err)
		require.Empty(t, all)
		require.NoError(t, s.PutTransport(ctx, store.Transport{VolumeID: "v2", Name: "b", Address: "b:1"}))
		require.NoError(t, s.PutTransport(ctx, store.Transport{VolumeID: "v1", Name: "a", Address: "a:1"}))
		// Another process serves the volume. The stop of the one before comes late.
		require.NoError(t, s.PutTransport(ctx, store.Transport{VolumeID: "v1", Name: "a", Address: "a:2"}))
		require.NoError(t, s.StopTransport(ctx, "v1", "a:1"))
		require.NoError(t, s.StopTransport(ctx, "v2", "b:1"))
		all, err = s.Transports(ctx)
		require.NoError(t, err)
		require.Len(t, all, 2)
		require.Equal(t, "a:2", all[0].Address)
		require.False(t, all[0].HeartbeatAt.IsZero())
		require.Less(t, all[0].Silence, time.Hour)
		require.True(t, all[1].HeartbeatAt.IsZero())
		require.Greater(t, all[1].Silence, time.Hour)

		// Those that hold sessions stay.
		_, err = s.PlaceSessions(ctx, "session_J", "v2")
		require.NoError(t, err)
		n, err := s.RemoveTransports(ctx, time.Hour)
		require.NoError(t, err)
		require.Zero(t, n)
		_, err = s.SweepPlacements(ctx, "v2", nil, -time.Hour, "session_")
		require.NoError(t, err)
		n, err = s.RemoveTransports(ctx, time.Hour)
		require.NoError(t, err)
		require.Equal(t, 1, n)
		require.Error(t, s.PutTransport(ctx, store.Transport{VolumeID: "v", Name: "a\x00", Address: "a:1"}))
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

func TestSweepPlacements(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx := t.Context()
		s := storetest.Open(t, address)
		job := store.Job{JobID: "J", CreatedAt: time.Now()}
		require.NoError(t, s.CreateJob(ctx, job, nil))
		for key, volume := range map[string]string{"session_J": "v1", "session_K": "v1", "other": "v1",
			"session_L": "v2"} {
			_, err := s.PlaceSessions(ctx, key, volume)
			require.NoError(t, err)
		}
		n, err := s.SweepPlacements(ctx, "v1", nil, time.Hour, "session_")
		require.NoError(t, err)
		require.Zero(t, n, "all were used within the hour")
		_, err = rawDB(t, address).Exec("UPDATE t_placement SET used_at = '2020-01-01 00:00:00'")
		require.NoError(t, err)
		n, err = s.SweepPlacements(ctx, "v1", []string{"other"}, time.Hour, "session_")
		require.NoError(t, err)
		require.Equal(t, 1, n)
		for key, want := range map[string]string{"session_J": "v1", "session_K": "", "other": "v1",
			"session_L": "v2"} {
			holder, err := s.Placement(ctx, key)
			require.NoError(t, err)
			require.Equal(t, want, holder, key)
		}
	})
}
