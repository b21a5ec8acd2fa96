package placement

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/audit"
	"hutong/internal/identity"
	"hutong/store"
	"hutong/store/storetest"
)

// TestReleaseEnded checks that a transport releases the idle sessions of jobs that have ended, and of those
// from before a restore that the party has forgotten, and no others.
func TestReleaseEnded(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, db := t.Context(), storetest.Open(t, address)
		restored := time.Now()
		id := func(d time.Duration) string {
			return restored.UTC().Add(d).Format("20060102150405") + "0000000"
		}
		end := func(id string) {
			_, err := db.EndLostJob(ctx, id, &bfia.Failure{Kind: bfia.FailedInternal}, restored)
			require.NoError(t, err)
		}
		ended, running, later := id(-time.Hour), id(-time.Minute), id(time.Minute)
		for _, job := range []string{ended, running, "text", "text_1"} {
			require.NoError(t, db.CreateJob(ctx, store.Job{JobID: job, CreatedAt: restored}, nil))
		}
		end(ended)
		end("text")
		forgotten := id(-2 * time.Minute)
		idle := []string{bfia.SessionID(ended), bfia.SessionID(ended) + "_task", bfia.SessionID(running),
			bfia.SessionID(running) + "_task", bfia.SessionID(later), bfia.SessionID(forgotten),
			bfia.SessionID(forgotten) + "_task", "session_text", "session_text_1", "session_text_1_x",
			"session_text_2", "session_unknown", "another"}
		var released []string
		own := store.Transport{VolumeID: "v1", Name: "one", Address: "a:1"}
		start := func() *Directory {
			d := New(db, quiet)
			stop, err := d.Announce(ctx, Announcement{Transport: own, Spool: &folder{},
				Sessions: func() []string { return nil },
				IdleSessions: func(age time.Duration) []string {
					require.Equal(t, idleFor, age)
					return idle
				},
				Release:  func(session string) { released = append(released, session) },
				OnFenced: func(error) {}})
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, stop(context.Background())) })
			return d
		}
		d := start()
		require.NoError(t, d.releaseEnded(ctx))
		known := []string{bfia.SessionID(ended), bfia.SessionID(ended) + "_task", "session_text",
			"session_text_2"}
		require.Equal(t, known, released, "no job was forgotten")

		released = nil
		entry := audit.New(identity.Principal{}, audit.FinishRestore, audit.Object{}, audit.Allowed, restored)
		require.NoError(t, db.FinishRestore(ctx, 10, restored, &entry))
		require.NoError(t, d.releaseEnded(ctx))
		require.Empty(t, released)
		require.Equal(t, errFenced, d.Confirm(ctx), "it runs since before the restore")
		d.halt()

		d = start()
		require.NoError(t, d.releaseEnded(ctx))
		require.ElementsMatch(t, append(known, bfia.SessionID(forgotten), bfia.SessionID(forgotten)+"_task"),
			released)
	})
}

// TestHolders checks at which transports a session is released, and that this places nothing.
func TestHolders(t *testing.T) {
	t.Parallel()
	address := storetest.SQLite(t)
	db := storetest.Open(t, address)
	runner := New(db, quiet)
	_, _, err := runner.Holders(t.Context(), "session_J")
	require.Equal(t, errNoneOnline, err)
	announce(t, db, "v1", "a:1")
	two := announce(t, db, "v2", "b:1")
	holders := func(session string) (volume string, others []string, err error) {
		holder, rest, err := New(db, quiet).Holders(t.Context(), session)
		if holder != nil {
			volume = holder.VolumeID
		}
		for _, o := range rest {
			others = append(others, o.VolumeID)
		}
		return volume, others, err
	}
	volume, others, err := holders("session_J")
	require.NoError(t, err)
	require.Empty(t, volume)
	require.ElementsMatch(t, []string{"v1", "v2"}, others)
	placed, err := db.Placement(t.Context(), "session_J")
	require.NoError(t, err)
	require.Empty(t, placed)

	_, err = db.PlaceSessions(t.Context(), "session_J", "v2")
	require.NoError(t, err)
	_, err = db.PlaceSessions(t.Context(), "session_K", "v1")
	require.NoError(t, err)
	two.crash(t, address)
	volume, others, err = holders("session_J_derived")
	require.NoError(t, err)
	require.Equal(t, "v2", volume, "it holds the session, although it is away")
	require.Equal(t, []string{"v1"}, others)
	volume, others, err = holders("session_K")
	require.NoError(t, err)
	require.Equal(t, "v1", volume)
	require.Empty(t, others, "one that is away is not waited for")
	_, err = db.PlaceSessions(t.Context(), "session_L", "v3")
	require.NoError(t, err)
	_, _, err = holders("session_L")
	require.Equal(t, errNotStarted, err)
}
