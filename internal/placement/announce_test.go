package placement

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/store"
	"hutong/store/storetest"
	"hutong/transport/status"
)

// TestFencing checks that a process whose volume was taken over serves nothing and no longer changes where
// the volume is found: one that sends heartbeats again, and one that was paused.
func TestFencing(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		db := storetest.Open(t, address)
		for _, paused := range []bool{false, true} {
			flaky := &flakyStore{Store: db}
			flaky.down.Store(false)
			fenced := make(chan error, 10)
			first := New(flaky, quiet)
			stop, err := first.Announce(t.Context(), Announcement{Transport: store.Transport{VolumeID: "v1",
				Name: "one", Address: "a:1"}, SessionTTL: time.Hour,
				OnFenced: func(err error) { fenced <- err },
				Sessions: func() []string { return []string{"session_J"} }})
			require.NoError(t, err)
			_, err = first.Find(t.Context(), "session_J")
			require.NoError(t, err)

			// It does not reach the database, but serves on. Another process opens the volume.
			first.beating.Lock()
			flaky.down.Store(true)
			first.beat(t.Context())
			_, err = first.Find(t.Context(), "session_J")
			require.NoError(t, err)
			setSilent(t, address, "v1")
			second, err := tryAnnounce(t, db, store.Transport{VolumeID: "v1", Address: "b:1"}, "session_J")
			require.NoError(t, err)
			flaky.down.Store(false)
			if paused {
				first.confirmedAt.Store(time.Now().Add(-liveFor - time.Second).UnixNano())
				first.beating.Unlock()
			} else {
				first.beat(t.Context())
				first.beating.Unlock()
			}
			_, err = first.Find(t.Context(), "session_J")
			require.Equal(t, status.NoInstance, status.From(err).Code)
			require.ErrorContains(t, <-fenced, "name of v1 at b:1 has taken over the volume v1")
			require.Error(t, first.Confirm(t.Context()))
			require.NoError(t, stop(t.Context()))
			require.Empty(t, fenced, "reported once")

			all, err := db.Transports(t.Context())
			require.NoError(t, err)
			require.Len(t, all, 1)
			require.Equal(t, "b:1", all[0].Address)
			require.False(t, all[0].Stopped)
			holder, err := second.Find(t.Context(), "session_J")
			require.NoError(t, err)
			require.Equal(t, "b:1", holder.Address)
			setSilent(t, address, "v1")
		}
	})
}

// TestConflicts checks that a transport does not start next to one with which it would mix up sessions, and
// that one which was killed keeps no other from starting.
func TestConflicts(t *testing.T) {
	t.Parallel()
	address := storetest.SQLite(t)
	db := storetest.Open(t, address)
	announce(t, db, "v1", "a:1")
	for _, c := range []struct {
		transport store.Transport
		problem   string
	}{
		{store.Transport{VolumeID: "v1", Address: "b:1"}, "a copy, or a folder without a lock"},
		{store.Transport{VolumeID: "v2", Address: "a:1"}, "transport.advertise: the party's processes can't"},
		{store.Transport{VolumeID: "v2", Address: "b:1", Single: true}, "transport.several: must be true"},
	} {
		_, err := tryAnnounce(t, db, c.transport)
		require.ErrorContains(t, err, c.problem)
	}
	announce(t, db, "v1", "a:1") // it was restarted in place
	setSilent(t, address, "v1")
	announce(t, db, "v1", "b:1")
	setSilent(t, address, "v1")
	announce(t, db, "v3", "b:1")
}

// TestSingle checks that a transport without transport.several is noticed by others, and that jobs in
// progress keep their transport when a party gets several, or one again.
func TestSingle(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		db := storetest.Open(t, address)
		single := New(db, quiet)
		stop, err := single.Announce(t.Context(), Announcement{Transport: store.Transport{VolumeID: "v1",
			Name: "one", Address: "a:1", Single: true}, Sessions: func() []string { return nil }})
		require.NoError(t, err)
		_, err = tryAnnounce(t, db, store.Transport{VolumeID: "v2", Address: "b:1"})
		require.ErrorContains(t, err, "transport one at a:1 runs without transport.several")
		_, err = tryAnnounce(t, db, store.Transport{VolumeID: "v3", Address: "c:1", Single: true})
		require.NoError(t, err, "a spool that was replaced")
		runner := New(db, quiet)
		_, err = runner.Find(t.Context(), "session_J")
		require.Equal(t, errNoneOnline, err, "the single transport places nothing")

		require.NoError(t, stop(t.Context()))
		setSilent(t, address, "v3")
		require.NoError(t, db.CreateJob(t.Context(), store.Job{JobID: "quiet_1", CreatedAt: time.Now()}, nil))
		announce(t, db, "v1", "a:1")
		announce(t, db, "v2", "b:1")
		holder, err := runner.Find(t.Context(), bfia.SessionID("quiet_1"))
		require.NoError(t, err)
		require.Equal(t, "v1", holder.VolumeID, "it holds what it knows of the job without a message")

		for _, volume := range []string{"v1", "v2"} {
			setSilent(t, address, volume)
		}
		_, err = tryAnnounce(t, db, store.Transport{VolumeID: "v2", Address: "b:1", Single: true})
		require.ErrorContains(t, err, "the sessions of 1 jobs in progress are at transport name of v1")
		_, err = tryAnnounce(t, db, store.Transport{VolumeID: "v1", Address: "b:1", Single: true})
		require.NoError(t, err)
	})
}

// TestRestoredDatabase checks that a transport that runs records itself and its sessions again in a database
// that has lost them.
func TestRestoredDatabase(t *testing.T) {
	t.Parallel()
	db := storetest.Open(t, storetest.SQLite(t))
	d := announce(t, db, "v1", "a:1", "session_J")
	require.NoError(t, db.ForgetPlacements(t.Context()))
	n, err := db.RemoveTransports(t.Context(), -time.Hour)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	d.beating.Lock()
	d.beat(context.Background())
	d.beating.Unlock()
	all, err := db.Transports(t.Context())
	require.NoError(t, err)
	require.Len(t, all, 1)
	holder, err := New(db, quiet).Find(t.Context(), "session_J")
	require.NoError(t, err)
	require.Equal(t, "v1", holder.VolumeID)
}

// TestSweepLostVolume checks that a session finds a transport again after its volume was lost, once no job in
// progress needs it there.
func TestSweepLostVolume(t *testing.T) {
	t.Parallel()
	address := storetest.SQLite(t)
	db := storetest.Open(t, address)
	require.NoError(t, db.CreateJob(t.Context(), store.Job{JobID: "J", CreatedAt: time.Now()}, nil))
	d := announce(t, db, "v1", "a:1")
	for _, key := range []string{"session_J", "session_K"} {
		_, err := db.PlaceSessions(t.Context(), key, "lost")
		require.NoError(t, err)
	}
	require.NoError(t, db.TakeOverTransport(t.Context(), store.Transport{VolumeID: "lost", Name: "lost",
		Address: "b:1", Instance: "i"}))
	setSilent(t, address, "lost")
	holders := func() (volumes []string) {
		runner := New(db, quiet)
		for _, session := range []string{"session_J", "session_K"} {
			holder, err := runner.Find(t.Context(), session)
			require.NoError(t, err)
			volumes = append(volumes, holder.VolumeID)
		}
		return volumes
	}
	require.Equal(t, []string{"lost", "lost"}, holders())
	require.NoError(t, d.sweep(t.Context()))
	require.Equal(t, []string{"lost", "v1"}, holders())
	_, err := db.EndLostJob(t.Context(), "J", &bfia.Failure{Kind: bfia.FailedInternal}, time.Now())
	require.NoError(t, err)
	require.NoError(t, d.sweep(t.Context()))
	require.Equal(t, []string{"v1", "v1"}, holders())
	all, err := db.Transports(t.Context())
	require.NoError(t, err)
	require.Len(t, all, 1)
}
