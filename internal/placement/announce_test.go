package placement

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/store"
	"hutong/store/storetest"
)

// TestConflicts checks that a transport does not start next to one with which it would mix up sessions, and
// that one which was killed keeps no other from starting.
func TestConflicts(t *testing.T) {
	t.Parallel()
	address := storetest.SQLite(t)
	db := storetest.Open(t, address)
	spool := &folder{}
	start := func(at string) *Directory {
		d, err := tryAnnounce(t, db, store.Transport{VolumeID: "v1", Address: at}, spool)
		require.NoError(t, err)
		return d
	}
	killed := start("a:1")
	for _, c := range []struct {
		transport store.Transport
		problem   string
	}{
		{store.Transport{VolumeID: "v1", Address: "b:1"}, "a copy, or a folder without a lock"},
		{store.Transport{VolumeID: "v1", Address: "a:1"}, "a copy, or a folder without a lock"},
		{store.Transport{VolumeID: "v2", Address: "a:1"}, "transport.advertise: the party's processes can't"},
		{store.Transport{VolumeID: "v2", Address: "b:1", Single: true}, "transport.several: must be true"},
	} {
		_, err := tryAnnounce(t, db, c.transport, &folder{})
		if c.transport.VolumeID == "v1" {
			require.ErrorContains(t, err, "old copy")
			_, err = tryAnnounce(t, db, c.transport, spool)
		}
		require.ErrorContains(t, err, c.problem)
	}
	killed.crash(t, address)
	killed = start("a:1")
	killed.crash(t, address)
	killed = start("b:1")
	killed.crash(t, address)
	announce(t, db, "v3", "b:1")
}

// TestSingle checks that a transport without transport.several is noticed by others, and that jobs in
// progress keep their transport when a party gets several, or one again.
func TestSingle(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		db := storetest.Open(t, address)
		single, spool, another := New(db, quiet), &folder{}, &folder{}
		stop, err := single.Announce(t.Context(), Announcement{Transport: store.Transport{VolumeID: "v1",
			Name: "one", Address: "a:1", Single: true}, Spool: spool,
			Sessions: func() []string { return nil }})
		require.NoError(t, err)
		_, err = tryAnnounce(t, db, store.Transport{VolumeID: "v2", Address: "b:1"}, another)
		require.ErrorContains(t, err, "transport one at a:1 runs without transport.several")
		replaced, err := tryAnnounce(t, db, store.Transport{VolumeID: "v3", Address: "c:1", Single: true},
			&folder{})
		require.NoError(t, err, "a spool that was replaced")
		runner := New(db, quiet)
		_, err = runner.Find(t.Context(), "session_J")
		require.Equal(t, errNoneOnline, err, "the single transport places nothing")

		require.NoError(t, stop(t.Context()))
		replaced.crash(t, address)
		require.NoError(t, db.CreateJob(t.Context(), store.Job{JobID: "quiet_1", CreatedAt: time.Now()}, nil))
		var several []*Directory
		for _, tr := range []store.Transport{{VolumeID: "v1", Address: "a:1"},
			{VolumeID: "v2", Address: "b:1"}} {
			d, err := tryAnnounce(t, db, tr, map[string]Spool{"v1": spool, "v2": another}[tr.VolumeID])
			require.NoError(t, err)
			several = append(several, d)
		}
		holder, err := runner.Find(t.Context(), bfia.SessionID("quiet_1"))
		require.NoError(t, err)
		require.Equal(t, "v1", holder.VolumeID, "it holds what it knows of the job without a message")

		for _, d := range several {
			d.crash(t, address)
		}
		_, err = tryAnnounce(t, db, store.Transport{VolumeID: "v2", Address: "b:1", Single: true}, another)
		require.ErrorContains(t, err, "the sessions of 1 jobs in progress are at transport name of v1")
		_, err = tryAnnounce(t, db, store.Transport{VolumeID: "v1", Address: "b:1", Single: true}, spool)
		require.NoError(t, err)
	})
}

// TestSingleIsFenced checks that no copy of a single transport's spool serves next to it, and that it stops
// if one has taken over. A party that keeps one transport restarts it at once, also with an older spool.
func TestSingleIsFenced(t *testing.T) {
	t.Parallel()
	address := storetest.SQLite(t)
	db := storetest.Open(t, address)
	spool := &folder{}
	old := spool.clone()
	single := store.Transport{VolumeID: "v1", Address: "a:1", Single: true}
	_, err := tryAnnounce(t, db, single, spool)
	require.NoError(t, err)
	before, err := tryAnnounce(t, db, single, old)
	require.NoError(t, err)
	before.halt()
	_, err = tryAnnounce(t, db, store.Transport{VolumeID: "v1", Address: "a:1"}, old.clone())
	require.ErrorContains(t, err, "also serves the volume v1")

	fenced := make(chan error, 1)
	before.announced.OnFenced = func(err error) { fenced <- err }
	setSilent(t, address, "v1")
	_, err = tryAnnounce(t, db, store.Transport{VolumeID: "v1", Address: "a:1"}, old.clone())
	require.NoError(t, err)
	before.beat(t.Context())
	require.ErrorContains(t, <-fenced, "has taken over the volume v1")
}

// TestRestoredDatabase checks that a transport that runs records itself and its sessions again in a database
// that has lost them.
func TestRestoredDatabase(t *testing.T) {
	t.Parallel()
	db := storetest.Open(t, storetest.SQLite(t))
	flaky := &flakyStore{Store: db}
	d := announce(t, flaky, "v1", "a:1", "session_J")
	flaky.failClaims.Store(1) // the next heartbeat finds its row, but must repeat the claim
	require.NoError(t, db.ForgetPlacements(t.Context()))
	n, err := db.RemoveTransports(t.Context(), -time.Hour)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	for range 2 {
		d.beating.Lock()
		d.beat(context.Background())
		d.beating.Unlock()
	}
	require.Negative(t, flaky.failClaims.Load())
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
	_, err := db.RegisterTransport(t.Context(), store.Transport{VolumeID: "lost", Name: "lost",
		Address: "b:1", Instance: "i", Epoch: 1}, 0)
	require.NoError(t, err)
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
	require.Equal(t, []string{"lost", "lost"}, holders(), "processes remember the placements")
	setUnread(t, address)
	require.NoError(t, d.sweep(t.Context()))
	require.Equal(t, []string{"lost", "v1"}, holders())
	_, err = db.EndLostJob(t.Context(), "J", &bfia.Failure{Kind: bfia.FailedInternal}, time.Now())
	require.NoError(t, err)
	setUnread(t, address)
	require.NoError(t, d.sweep(t.Context()))
	require.Equal(t, []string{"v1", "v1"}, holders())
	all, err := db.Transports(t.Context())
	require.NoError(t, err)
	require.Len(t, all, 1)
}
