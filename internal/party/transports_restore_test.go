package party

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/activities/participant"
	"hutong/bfia"
	"hutong/internal/audit"
	"hutong/internal/identity"
	"hutong/internal/restore"
	"hutong/transport/status"
)

// sessionFolders returns the folders of sessions in a transport's spool.
func (p *transportProcess) sessionFolders() []string {
	folders, err := filepath.Glob(filepath.Join(p.spool, "s[0-9]*"))
	require.NoError(p.t, err)
	return folders
}

// volume returns the id of a transport's spool.
func (p *transportProcess) volume() string {
	id, err := os.ReadFile(filepath.Join(p.spool, "volume"))
	require.NoError(p.t, err)
	return strings.TrimSpace(string(id))
}

// at returns a container that calls one transport only.
func (c *container) at(i int) *container {
	p := &transportParty{t: c.p.t, node: c.p.node, transports: c.p.transports[i : i+1]}
	return &container{p: p, run: c.run, client: c.client}
}

// TestReleaseAtEveryTransport checks that no session of an ended job stays at a transport, after a restored
// database had forgotten which one held it.
func TestReleaseAtEveryTransport(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, address func(testing.TB) string) {
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
		defer cancel()
		a, _, streams := newTransportParties(t, address)
		s := streams[0]
		session := s.from.run.Session
		for i, other := range a.transports {
			require.NoError(t, a.db.ForgetPlacements(ctx))
			_, err := a.db.PlaceSessions(ctx, session, other.volume())
			require.NoError(t, err)
			other.kill() // it forgets too
			other.start()
			a.awaitLive(2)
			_, err = s.from.at(i).insist(ctx, "push", "push", "A", s.topic, s.payload(i))
			require.NoError(t, err)
			require.Len(t, other.sessionFolders(), 1)
		}
		releaser := newReleaser(a)
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			require.NoError(c, releaser.ReleaseSession(ctx,
				participant.ReleaseSessionInput{Session: session}))
			for _, tr := range a.transports {
				require.Empty(c, tr.sessionFolders())
			}
		}, time.Minute, 50*time.Millisecond)
		for i := range a.transports {
			out, err := s.from.at(i).call(ctx, "late", "push", "A", s.topic, nil)
			require.NoError(t, err)
			require.Equal(t, status.SessionReleased, out.Code, "%s", out.Message)
		}

		// One that has just crashed does not delay the end of a job that another one holds.
		holder, crashed := a.transports[0], a.transports[1]
		_, err := a.db.PlaceSessions(ctx, bfia.SessionID("other"), holder.volume())
		require.NoError(t, err)
		crashed.kill()
		began := time.Now()
		require.NoError(t, newReleaser(a).ReleaseSession(ctx,
			participant.ReleaseSessionInput{Session: bfia.SessionID("other")}))
		require.Less(t, time.Since(began), 15*time.Second)
	})
}

// TestRestoreWhileATransportRuns checks that hutong restore finish refuses while one of several transports
// runs, and that one which nobody has stopped ends once a restore is finished: it knows which transports held
// which sessions before, and what is in its spool is of the past.
func TestRestoreWhileATransportRuns(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, address func(testing.TB) string) {
		a, _, _ := newTransportParties(t, address)
		a.transports[0].kill()
		_, err := (&restore.Services{Node: "A", Store: a.db, Several: true}).Finish(t.Context())
		require.ErrorContains(t, err, "failed to finish the restore, because the transport "+
			filepath.Base(a.transports[1].spool)+" at "+a.transports[1].listen+" runs")

		entry := audit.New(identity.Principal{}, audit.FinishRestore, audit.Object{}, audit.Allowed,
			time.Now())
		require.NoError(t, a.db.FinishRestore(t.Context(), 10, time.Now(), &entry))
		require.Contains(t, a.transports[1].awaitEnd(), "the party was restored from a backup")
		for _, tr := range a.transports {
			tr.start()
		}
		a.awaitLive(2)
	})
}
