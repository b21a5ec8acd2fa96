package placement

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/store"
	"hutong/store/storetest"
	"hutong/transport/status"
)

var quiet = slog.New(slog.DiscardHandler)

// flakyStore is a database that can be away.
type flakyStore struct {
	Store
	down    bool
	queries int
}

func (f *flakyStore) query() error {
	f.queries++
	if f.down {
		return errors.New("no database")
	}
	return nil
}

func (f *flakyStore) Transports(ctx context.Context) ([]store.Transport, error) {
	if err := f.query(); err != nil {
		return nil, err
	}
	return f.Store.Transports(ctx)
}

func (f *flakyStore) Placement(ctx context.Context, key string) (string, error) {
	if err := f.query(); err != nil {
		return "", err
	}
	return f.Store.Placement(ctx, key)
}

// announce records a transport and returns its directory.
func announce(t *testing.T, db Store, volume, address string, sessions ...string) *Directory {
	t.Helper()
	d := New(db, quiet)
	stop, err := d.Announce(t.Context(), Announcement{Transport: store.Transport{VolumeID: volume,
		Name: "name of " + volume, Address: address}, SessionTTL: time.Hour,
		Sessions: func() []string { return sessions }})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, stop(context.Background())) })
	return d
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

// TestFind checks that all processes of a party find a session at one transport, that each transport gets
// some, and that what was found is remembered.
func TestFind(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		db := storetest.Open(t, address)
		flaky := &flakyStore{Store: db}
		runner := New(flaky, quiet)
		_, err := runner.Find(t.Context(), "session_J")
		require.Equal(t, status.NoInstance, status.From(err).Code, "no transport has started")

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

		// A session that runs outlives the database. Another one waits for it.
		flaky.down, flaky.queries = true, 0
		for range 100 {
			_, err := runner.Find(t.Context(), "session_7")
			require.NoError(t, err)
		}
		require.LessOrEqual(t, flaky.queries, 100, "no query for a call, except of the list when it is old")
		_, err = runner.Find(t.Context(), "session_new")
		require.Equal(t, status.NoInstance, status.From(err).Code)
		require.NotContains(t, err.Error(), "no database")
		flaky.down = false
		_, err = runner.Find(t.Context(), "session_new")
		require.NoError(t, err)
	})
}

// TestFindAfterTakeover checks that a volume keeps its sessions when another process opens it, and that no
// new session is placed on a transport that has stopped.
func TestFindAfterTakeover(t *testing.T) {
	t.Parallel()
	db := storetest.Open(t, storetest.SQLite(t))
	runner := New(db, quiet)
	first := New(db, quiet)
	stop, err := first.Announce(t.Context(), Announcement{Transport: store.Transport{VolumeID: "v1",
		Name: "one", Address: "a:1"}, Sessions: func() []string { return nil }})
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

	announce(t, db, "v1", "c:1")
	require.Eventually(t, func() bool {
		runner.Refresh()
		holder, err := runner.Find(t.Context(), "session_J")
		return err == nil && holder.Address == "c:1"
	}, time.Minute, 10*time.Millisecond)
}
