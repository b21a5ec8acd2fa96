package placement

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/store"
	"hutong/store/storetest"
	"hutong/transport/status"
)

// clock is the time of a process that can be paused.
type clock struct{ paused atomic.Int64 }

func (c *clock) now() time.Time { return time.Now().Add(time.Duration(c.paused.Load())) }

func (c *clock) pause(d time.Duration) { c.paused.Add(int64(d)) }

// TestFencing checks that a process whose volume was taken over serves nothing, no longer changes where the
// volume is found, and never takes it over again: one that sends heartbeats again, and one that was paused.
func TestFencing(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		db := storetest.Open(t, address)
		spool := &folder{}
		for _, paused := range []bool{false, true} {
			flaky := &flakyStore{Store: db}
			fenced := make(chan error, 10)
			first, clock := New(flaky, quiet), &clock{}
			first.now = clock.now
			own := store.Transport{VolumeID: "v1", Name: "one", Address: "a:1"}
			stop, err := first.Announce(t.Context(), Announcement{Transport: own, Spool: spool,
				SessionTTL: time.Hour, OnFenced: func(err error) { fenced <- err },
				Sessions: func() []string { return []string{"session_J"} }})
			require.NoError(t, err)
			_, err = first.Find(t.Context(), "session_J")
			require.NoError(t, err)

			// It does not reach the database, but serves on. Another process opens a copy of the volume.
			first.halt()
			flaky.down.Store(true)
			first.beat(t.Context())
			_, err = first.Find(t.Context(), "session_J")
			require.NoError(t, err)
			setSilent(t, address, "v1")
			copied := spool.clone()
			second, err := tryAnnounce(t, db, store.Transport{VolumeID: "v1", Address: "b:1"}, copied,
				"session_J")
			require.NoError(t, err)
			flaky.down.Store(false)
			if paused {
				clock.pause(confirmedFor + time.Second)
			} else {
				first.beat(t.Context())
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

			second.crash(t, address)
			_, err = tryAnnounce(t, db, own, spool)
			require.ErrorContains(t, err, "the spool is an old copy of the volume v1, which name of v1 at b:1 has")
			spool = copied
		}
	})
}

// TestConfirmAfterPause checks that a process which was paused serves nothing until a heartbeat has succeeded
// that was sent afterwards, and that one which merely does not reach the database serves on.
func TestConfirmAfterPause(t *testing.T) {
	t.Parallel()
	address := storetest.SQLite(t)
	db := storetest.Open(t, address)
	flaky := &flakyStore{Store: db}
	d, clock, spool := New(flaky, quiet), &clock{}, &folder{}
	d.now = clock.now
	stop, err := d.Announce(t.Context(), Announcement{Transport: store.Transport{VolumeID: "v1", Name: "one",
		Address: "a:1"}, Spool: spool, Sessions: func() []string { return nil }})
	require.NoError(t, err)
	defer func() { require.NoError(t, stop(context.Background())) }()
	d.halt()

	// It tries all the time, without an answer.
	flaky.down.Store(true)
	for range 10 {
		d.beat(t.Context())
		require.NoError(t, d.Confirm(t.Context()))
		clock.pause(heartbeat)
	}

	// It is paused. The network needs a while longer than the process.
	clock.pause(liveFor)
	for range 3 {
		require.Equal(t, errUnconfirmed, d.Confirm(t.Context()))
		d.beat(t.Context())
	}
	flaky.down.Store(false)
	d.beat(t.Context())
	require.NoError(t, d.Confirm(t.Context()))

	// It is paused between a heartbeat's record and its answer, and another process takes over.
	takeOver := func() {
		clock.pause(liveFor)
		setSilent(t, address, "v1")
		_, err := tryAnnounce(t, db, store.Transport{VolumeID: "v1", Address: "b:1"}, spool.clone())
		require.NoError(t, err)
	}
	flaky.onBeat.Store(&takeOver)
	d.beat(t.Context())
	require.Equal(t, errFenced, d.Confirm(t.Context()))
}

// TestConfirmWhileLocked checks that a transport serves on while another process has locked SQLite for longer
// than a heartbeat may take: it was not paused.
func TestConfirmWhileLocked(t *testing.T) {
	t.Parallel()
	address := storetest.SQLite(t)
	db := storetest.Open(t, address)
	d, err := tryAnnounce(t, db, store.Transport{VolumeID: "v1", Address: "a:1"}, &folder{})
	require.NoError(t, err)
	d.halt()
	lock, err := storetest.Raw(t, address).Conn(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, lock.Close()) }()
	_, err = lock.ExecContext(t.Context(), "BEGIN IMMEDIATE")
	require.NoError(t, err)
	for range 2 {
		d.beating.Lock()
		d.beat(t.Context())
		d.beating.Unlock()
		require.True(t, d.failing.Load())
		require.NoError(t, d.Confirm(t.Context()))
	}
	_, err = lock.ExecContext(t.Context(), "ROLLBACK")
	require.NoError(t, err)
	d.beating.Lock()
	d.beat(t.Context())
	d.beating.Unlock()
	require.False(t, d.failing.Load())
	require.NoError(t, d.Confirm(t.Context()))
}

// TestConfirmAfterStop checks that a call in progress does not make a transport online again that has
// stopped.
func TestConfirmAfterStop(t *testing.T) {
	t.Parallel()
	db := storetest.Open(t, storetest.SQLite(t))
	d, clock := New(db, quiet), &clock{}
	d.now = clock.now
	stop, err := d.Announce(t.Context(), Announcement{Transport: store.Transport{VolumeID: "v1", Name: "one",
		Address: "a:1"}, Spool: &folder{}, Sessions: func() []string { return nil }})
	require.NoError(t, err)
	require.NoError(t, stop(t.Context()))
	clock.pause(liveFor)
	require.NoError(t, d.Confirm(t.Context()))
	all, err := db.Transports(t.Context())
	require.NoError(t, err)
	require.True(t, all[0].Stopped)
}

// TestOldCopies checks that a copy of a volume does not lie in wait: it is refused once its transport has
// served on for a while, even if that one is silent.
func TestOldCopies(t *testing.T) {
	t.Parallel()
	address := storetest.SQLite(t)
	db := storetest.Open(t, address)
	spool := &folder{}
	first, err := tryAnnounce(t, db, store.Transport{VolumeID: "v1", Address: "a:1"}, spool)
	require.NoError(t, err)
	first.halt()
	copied := spool.clone()
	first.advancedAt = time.Time{}
	first.beat(t.Context())
	_, err = tryAnnounce(t, db, store.Transport{VolumeID: "v1", Address: "a:1"}, copied)
	require.ErrorContains(t, err, "empty this folder before the transport starts")
	first.crash(t, address)
	_, err = tryAnnounce(t, db, store.Transport{VolumeID: "v1", Address: "a:1"}, copied)
	require.ErrorContains(t, err, "empty this folder before the transport starts")

	// The current one may be ahead of the database: its process was killed between the two.
	require.NoError(t, spool.SetEpoch(spool.epoch.Load()+1))
	_, err = tryAnnounce(t, db, store.Transport{VolumeID: "v1", Address: "b:1"}, spool)
	require.NoError(t, err)
}

// TestSharedFolder checks that a process without the database finds out that another one has taken over its
// folder, which has lost its lock.
func TestSharedFolder(t *testing.T) {
	t.Parallel()
	address := storetest.SQLite(t)
	db := storetest.Open(t, address)
	flaky := &flakyStore{Store: db}
	spool := &folder{}
	first, err := tryAnnounce(t, flaky, store.Transport{VolumeID: "v1", Address: "a:1"}, spool)
	require.NoError(t, err)
	first.crash(t, address)
	flaky.down.Store(true)
	first.beat(t.Context())
	require.NoError(t, first.Confirm(t.Context()))
	_, err = tryAnnounce(t, db, store.Transport{VolumeID: "v1", Address: "b:1"}, spool)
	require.NoError(t, err)
	first.beat(t.Context())
	require.Equal(t, errFenced, first.Confirm(t.Context()))
	flaky.down.Store(false)
}

// TestSimultaneousStarts checks that of two processes which start at the same time, and have not seen each
// other, one fails.
func TestSimultaneousStarts(t *testing.T) {
	t.Parallel()
	address := storetest.SQLite(t)
	db := storetest.Open(t, address)
	flaky := &flakyStore{Store: db}
	spool := &folder{}
	first, err := tryAnnounce(t, db, store.Transport{VolumeID: "v1", Address: "a:1"}, spool)
	require.NoError(t, err)
	first.halt()

	// Another volume at one address.
	flaky.listed.Store(&[]store.Transport{})
	_, err = tryAnnounce(t, flaky, store.Transport{VolumeID: "v2", Address: "a:1"}, &folder{})
	require.ErrorContains(t, err, "transport.advertise: the party's processes can't")
	all, err := db.Transports(t.Context())
	require.NoError(t, err)
	require.True(t, all[1].Stopped)

	// Two copies of one volume.
	first.crash(t, address)
	before, err := db.Transports(t.Context())
	require.NoError(t, err)
	one, two := spool.clone(), spool.clone()
	_, err = tryAnnounce(t, db, store.Transport{VolumeID: "v1", Address: "b:1"}, one)
	require.NoError(t, err)
	flaky.listed.Store(&before)
	_, err = tryAnnounce(t, flaky, store.Transport{VolumeID: "v1", Address: "c:1"}, two)
	require.ErrorContains(t, err, "another process has taken it over at the same time")
}
