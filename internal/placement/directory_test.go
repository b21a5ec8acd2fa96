package placement

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/store"
	"hutong/store/storetest"
	"hutong/transport/status"
)

var quiet = slog.New(slog.DiscardHandler)

// flakyStore is a database that can be away. It counts the queries of directories that look for transports.
type flakyStore struct {
	Store
	down                  atomic.Bool
	lists, reads, touched atomic.Int64
	// listed, if set, is the answer of the next query for the transports, as of one from before.
	listed atomic.Pointer[[]store.Transport]
	// onBeat, if set, is called when the database has recorded the next heartbeat, before its answer is read.
	onBeat atomic.Pointer[func()]
	// failClaims is the number of claims of placements that fail.
	failClaims atomic.Int64
}

func (f *flakyStore) query(count *atomic.Int64) error {
	count.Add(1)
	if f.down.Load() {
		return errors.New("no database")
	}
	return nil
}

func (f *flakyStore) Transports(ctx context.Context) ([]store.Transport, error) {
	if err := f.query(&f.lists); err != nil {
		return nil, err
	}
	if listed := f.listed.Swap(nil); listed != nil {
		return *listed, nil
	}
	return f.Store.Transports(ctx)
}

func (f *flakyStore) Placement(ctx context.Context, key string) (string, error) {
	if err := f.query(&f.reads); err != nil {
		return "", err
	}
	return f.Store.Placement(ctx, key)
}

func (f *flakyStore) BeatTransport(ctx context.Context, t store.Transport) (*store.Transport, bool, error) {
	if err := f.query(&f.touched); err != nil {
		return nil, false, err
	}
	other, recreated, err := f.Store.BeatTransport(ctx, t)
	if onBeat := f.onBeat.Swap(nil); onBeat != nil {
		(*onBeat)()
	}
	return other, recreated, err
}

func (f *flakyStore) ClaimPlacements(ctx context.Context, keys []string, volume string) ([]string, error) {
	if f.failClaims.Add(-1) >= 0 {
		return nil, errors.New("no claim")
	}
	return f.Store.ClaimPlacements(ctx, keys, volume)
}

// folder is the spool of a volume.
type folder struct{ epoch atomic.Int64 }

func (f *folder) Epoch() (int64, error) { return f.epoch.Load(), nil }

func (f *folder) SetEpoch(n int64) error {
	f.epoch.Store(n)
	return nil
}

// clone returns a copy of the folder.
func (f *folder) clone() *folder {
	c := &folder{}
	c.epoch.Store(f.epoch.Load())
	return c
}

// announce records a transport with a new spool, and returns its directory.
func announce(t *testing.T, db Store, volume, address string, sessions ...string) *Directory {
	t.Helper()
	d, err := tryAnnounce(t, db, store.Transport{VolumeID: volume, Address: address}, &folder{}, sessions...)
	require.NoError(t, err)
	return d
}

func tryAnnounce(t *testing.T, db Store, tr store.Transport, spool Spool, sessions ...string) (*Directory,
	error) {
	t.Helper()
	d := New(db, quiet)
	tr.Name = "name of " + tr.VolumeID
	stop, err := d.Announce(t.Context(), Announcement{Transport: tr, SessionTTL: time.Hour, Spool: spool,
		Sessions:     func() []string { return sessions },
		IdleSessions: func(time.Duration) []string { return nil }})
	if err == nil {
		t.Cleanup(func() { require.NoError(t, stop(context.Background())) })
	}
	return d, err
}

// crash ends the heartbeats of a transport, as the end of its machine does, long ago.
func (d *Directory) crash(t *testing.T, address string) {
	t.Helper()
	d.halt() // a heartbeat in between would make it live
	setSilent(t, address, d.announced.VolumeID)
}

// setSilent makes the last heartbeat of a volume one of years ago. No process must send heartbeats for it.
func setSilent(t *testing.T, address, volume string) {
	t.Helper()
	db := storetest.Raw(t, address)
	_, err := db.Exec("UPDATE t_transport SET heartbeat_at = '2020-01-01 00:00:00' WHERE volume_id = '" +
		volume + "'")
	require.NoError(t, err)
}

// setUnread makes all placements such that no process has read for years.
func setUnread(t *testing.T, address string) {
	t.Helper()
	_, err := storetest.Raw(t, address).Exec("UPDATE t_placement SET used_at = '2020-01-01 00:00:00'")
	require.NoError(t, err)
}

// TestKey checks that a job's sessions have one key, whatever their length and characters.
func TestKey(t *testing.T) {
	for session, key := range map[string]string{
		"session_J":     "session_J",
		"session_J_t":   "session_J",
		"session_J_t_u": "session_J",
		"session_K":     "session_K",
		"another":       "another",
		"":              "",
	} {
		require.Equal(t, key, Key(session), session)
	}
	for _, session := range []string{strings.Repeat("x", 4096), "a\x00b", "\xff"} {
		require.Regexp(t, "^sha256:[0-9a-f]{64}$", Key(session))
	}
}

// TestKeyOfJobs checks that the database finds the job of each key, as a sweep must.
func TestKeyOfJobs(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		db := storetest.Open(t, address)
		ids := []string{"J", "a_1", "b__c", "d_", "e.f-g_h_i"}
		for _, id := range ids {
			require.NoError(t, db.CreateJob(t.Context(), store.Job{JobID: id, CreatedAt: time.Now()}, nil))
			_, err := db.PlaceSessions(t.Context(), Key("session_"+id), "v of "+id)
			require.NoError(t, err)
		}
		n, err := db.SweepPlacements(t.Context(), "v of a_1", nil, -time.Hour)
		require.NoError(t, err)
		require.Zero(t, n)
		jobs, err := db.UnfinishedJobsByVolume(t.Context())
		require.NoError(t, err)
		for _, id := range ids {
			require.Equal(t, 1, jobs["v of "+id], id)
		}
	})
}

// TestFind checks that all processes of a party find a session at one transport, that each transport gets
// some, and that what was found is remembered.
func TestFind(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		db := storetest.Open(t, address)
		flaky := &flakyStore{Store: db}
		runner := New(flaky, quiet)
		_, err := runner.Find(t.Context(), "session_J")
		require.Equal(t, errNoneOnline, err, "no transport has started")
		_, err = runner.Any(t.Context())
		require.Equal(t, errNoneOnline, err)

		one := announce(t, db, "v1", "a:1", "session_recovered_1", "session_recovered_2")
		two := announce(t, db, "v2", "b:1", "session_recovered_2")
		used := map[string]int{}
		for i := range 40 {
			session := fmt.Sprint("session_", i)
			var found []string
			for _, d := range []*Directory{runner, one, two} {
				holder, err := d.Find(t.Context(), session+"_derived")
				require.NoError(t, err)
				found = append(found, holder.VolumeID+" "+holder.Address)
			}
			require.Len(t, slices.Compact(found), 1, "%s: %s", session, found)
			used[found[0]]++
		}
		require.Len(t, used, 2)
		require.Positive(t, used["v1 a:1"])
		require.Positive(t, used["v2 b:1"])
		for _, d := range []*Directory{runner, one, two} {
			holder, err := d.Find(t.Context(), "session_recovered_2")
			require.NoError(t, err)
			require.Equal(t, "v1", holder.VolumeID, "the first one has it")
		}

		// A session that runs outlives the database, and costs no query for a call. Another one waits for it.
		flaky.down.Store(true)
		began, lists, reads := time.Now(), flaky.lists.Load(), flaky.reads.Load()
		const calls = 1000
		for range calls {
			_, err := runner.Find(t.Context(), "session_7")
			require.NoError(t, err)
			_, err = runner.Any(t.Context())
			require.NoError(t, err)
		}
		require.Equal(t, reads, flaky.reads.Load())
		require.LessOrEqual(t, flaky.lists.Load()-lists, 2+int64(time.Since(began)/refreshAfter))
		_, err = runner.Find(t.Context(), "session_new")
		require.Equal(t, status.NoInstance, status.From(err).Code)
		require.NotContains(t, err.Error(), "no database")
		flaky.down.Store(false)
		_, err = runner.Find(t.Context(), "session_new")
		require.NoError(t, err)
	})
}

// TestFindReadsAgain checks that a placement which was remembered for long is read again, by one caller, and
// used while that fails.
func TestFindReadsAgain(t *testing.T) {
	t.Parallel()
	address := storetest.SQLite(t)
	db := storetest.Open(t, address)
	flaky := &flakyStore{Store: db}
	announce(t, db, "v1", "a:1", "session_J")
	announce(t, db, "v2", "b:1")
	runner := New(flaky, quiet)
	find := func() string {
		holder, err := runner.Find(t.Context(), "session_J")
		require.NoError(t, err)
		return holder.VolumeID
	}
	require.Equal(t, "v1", find())
	// Its row was removed, and another process has placed the session again.
	require.NoError(t, db.ForgetPlacements(t.Context()))
	_, err := db.PlaceSessions(t.Context(), "session_J", "v2")
	require.NoError(t, err)
	require.Equal(t, "v1", find())

	age := func() {
		runner.mu.Lock()
		defer runner.mu.Unlock()
		runner.placements["session_J"] = cachedPlacement{"v1", time.Now().Add(-rereadAfter)}
	}
	age()
	flaky.down.Store(true)
	reads := flaky.reads.Load()
	for range 100 {
		require.Equal(t, "v1", find())
	}
	require.Equal(t, reads+1, flaky.reads.Load())
	flaky.down.Store(false)
	age()
	require.Equal(t, "v2", find())
	require.Equal(t, "v2", find())
	require.Equal(t, reads+2, flaky.reads.Load())
}

// TestFindAfterTakeover checks that a volume keeps its sessions when another process opens it, and that no
// new session is placed on a transport that has stopped.
func TestFindAfterTakeover(t *testing.T) {
	t.Parallel()
	db := storetest.Open(t, storetest.SQLite(t))
	runner := New(db, quiet)
	first, spool := New(db, quiet), &folder{}
	stop, err := first.Announce(t.Context(), Announcement{Transport: store.Transport{VolumeID: "v1",
		Name: "one", Address: "a:1"}, Spool: spool, Sessions: func() []string { return nil }})
	require.NoError(t, err)
	holder, err := runner.Find(t.Context(), "session_J")
	require.NoError(t, err)
	require.Equal(t, "a:1", holder.Address)
	require.NoError(t, stop(t.Context()))

	announce(t, db, "v2", "b:1")
	for i := range 20 {
		holder, err := runner.Find(t.Context(), fmt.Sprint("session_", i))
		require.NoError(t, err)
		require.Equal(t, "v2", holder.VolumeID)
	}
	holder, err = runner.Find(t.Context(), "session_J")
	require.NoError(t, err)
	require.Equal(t, "v1", holder.VolumeID, "it waits for its volume")

	_, err = tryAnnounce(t, db, store.Transport{VolumeID: "v1", Address: "c:1"}, spool)
	require.NoError(t, err, "at once, since the first one has stopped")
	require.Eventually(t, func() bool {
		runner.Refresh()
		holder, err := runner.Find(t.Context(), "session_J")
		return err == nil && holder.Address == "c:1"
	}, time.Minute, 10*time.Millisecond)
}
