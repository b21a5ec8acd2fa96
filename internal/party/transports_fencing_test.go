package party

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/internal/placement"
	"hutong/store"
	"hutong/store/storetest"
	"hutong/transport/status"
)

// TestTransportIsFenced runs a second process with a copy of a spool, as that of a disk which was cloned.
// It does not start while the first one runs. It takes over once that one is silent, and the first one ends
// when it finds out: both would give away the same messages.
func TestTransportIsFenced(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, address func(testing.TB) string) {
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
		defer cancel()
		a, b := newTransportParty(t, "A", address(t)), newTransportParty(t, "B", address(t))
		first := a.add(filepath.Join(t.TempDir(), "first"), true, b)
		a.awaitLive(1)
		require.NoError(t, a.db.CreateJob(ctx, store.Job{JobID: "J", CreatedAt: time.Now(),
			PartyNodes: []string{"A", "B"}}, nil))
		s := &stream{from: a.container("J"), to: a.container("J"), topic: "x"}
		require.NoError(t, s.push(ctx, 0, 3))

		copied := filepath.Join(t.TempDir(), "second")
		require.NoError(t, os.CopyFS(copied, os.DirFS(first.spool)))
		second := a.add(copied, true, b)
		require.Contains(t, second.awaitEnd(), "copy")

		// The first one is paused while it writes nothing: it must not keep SQLite's lock.
		lock, err := storetest.Raw(t, a.database).Conn(ctx)
		require.NoError(t, err)
		defer func() { _ = lock.Close() }()
		begin := "BEGIN"
		if strings.HasPrefix(a.database, "sqlite:") {
			begin = "BEGIN IMMEDIATE"
		}
		_, err = lock.ExecContext(ctx, begin)
		require.NoError(t, err)
		first.signal(syscall.SIGSTOP)
		_, err = lock.ExecContext(ctx, "ROLLBACK")
		require.NoError(t, err)
		require.NoError(t, os.RemoveAll(copied))
		require.NoError(t, os.CopyFS(copied, os.DirFS(first.spool)))
		second.start()
		a.transports = []*transportProcess{second}
		var popped atomic.Int64
		require.NoError(t, s.pop(ctx, 0, 3, &popped))
		first.signal(syscall.SIGCONT)
		a.transports = []*transportProcess{first}
		if out, err := s.from.call(ctx, "late", "push", "A", "x", nil); err == nil {
			require.Equal(t, status.NoInstance, out.Code, "%s", out.Message)
		}
		require.Contains(t, first.awaitEnd(), "has taken over the volume")
		a.transports = []*transportProcess{second}
		require.NoError(t, s.push(ctx, 3, 6))
		require.NoError(t, s.pop(ctx, 3, 6, &popped))
		all, err := a.db.Transports(ctx)
		require.NoError(t, err)
		require.Len(t, all, 1)
		require.Equal(t, second.listen, all[0].Address)
		require.True(t, placement.Live(all[0]))

		// The first one does not come back when the second one is gone.
		second.kill()
		first.start()
		require.Contains(t, first.awaitEnd(), "the spool is an old copy of the volume")
	})
}
