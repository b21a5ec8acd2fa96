package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/internal/identity"
)

// trail keeps what is appended, or fails, or waits.
type trail struct {
	mu      sync.Mutex
	entries []Entry
	err     error
	blocked chan struct{} // nil: does not wait
}

func (t *trail) AppendAudit(ctx context.Context, entries ...Entry) error {
	if t.blocked != nil {
		select {
		case <-t.blocked:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err == nil {
		t.entries = append(t.entries, entries...)
	}
	return t.err
}

func (t *trail) total() (entries int, refusals int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.entries {
		refusals += e.Count
	}
	return len(t.entries), refusals
}

func partner(node string) identity.Principal {
	return identity.Principal{Kind: identity.KindPartner, Node: node, Proof: identity.ByCertificate}
}

// TestRecorder has some callers refused very often while the database does not answer: no refusal waits, few
// become entries, and none is lost.
func TestRecorder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		list := &trail{blocked: make(chan struct{})}
		r := NewRecorder(list, slog.New(slog.DiscardHandler))
		began := time.Now()
		const callers, each = 40, 500
		for i := range callers {
			for range each {
				r.Refuse(partner(fmt.Sprint("P", i)), "transport invoke", Object{}, "no part")
			}
		}
		require.Zero(t, time.Since(began), "who is refused, and who is not, never waits for the trail")
		close(list.blocked)
		require.NoError(t, r.Close(t.Context()))
		entries, refusals := list.total()
		require.EqualValues(t, callers*each, refusals)
		require.LessOrEqual(t, entries, PerProcess+callers)
	})
}

// TestRecorderSummarizes checks that the counts of a minute are written without a further refusal.
func TestRecorderSummarizes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		list := &trail{}
		r := NewRecorder(list, slog.New(slog.DiscardHandler))
		for range 100 {
			r.Refuse(partner("B"), "transport invoke", Object{}, "no part")
		}
		synctest.Wait()
		entries, _ := list.total()
		require.Equal(t, PerPrincipal, entries)
		time.Sleep(2*Window + time.Second)
		entries, refusals := list.total()
		require.Equal(t, PerPrincipal+1, entries)
		require.EqualValues(t, 100, refusals)
		require.Equal(t, "B", list.entries[entries-1].Node)
		require.NoError(t, r.Close(t.Context()))
	})
}

// TestRecorderAfterFailure checks that what could not be written is counted when the database is back.
func TestRecorderAfterFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		list := &trail{err: errors.New("no database")}
		r := NewRecorder(list, slog.New(slog.DiscardHandler))
		for range 30 {
			r.Refuse(partner("B"), "transport invoke", Object{}, "no part")
		}
		time.Sleep(3 * Window)
		list.mu.Lock()
		list.err = nil
		list.mu.Unlock()
		require.NoError(t, r.Close(t.Context()))
		entries, refusals := list.total()
		require.Equal(t, 1, entries)
		require.EqualValues(t, 30, refusals)
		require.Equal(t, "B", list.entries[0].Node)
	})
}

func TestNoRecorder(t *testing.T) {
	var r *Recorder // of a process without a database
	r.Refuse(partner("B"), "transport invoke", Object{}, "no part")
}
