package party

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/gate"
	"hutong/internal/httpclient"
	"hutong/store"
	"hutong/transport/status"
	"hutong/transport/wire"
)

// listedTransport is a list of one transport.
type listedTransport struct {
	mu        sync.Mutex
	transport store.Transport
	readAt    time.Time // now if zero
}

func (l *listedTransport) Listed(string) (store.Transport, bool, time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	readAt := l.readAt
	if readAt.IsZero() {
		readAt = time.Now()
	}
	return l.transport, true, readAt
}

func (l *listedTransport) Refresh() {}

func (l *listedTransport) set(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
}

// holderOfCalls is a transport that never answers its calls. It answers other requests unless it is frozen.
type holderOfCalls struct {
	waiting, probed atomic.Int64
	frozen          atomic.Bool
}

func (h *holderOfCalls) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet {
		h.probed.Add(1)
		if h.frozen.Load() {
			<-r.Context().Done()
		}
		w.WriteHeader(http.StatusNotFound)
		return
	}
	_, _ = io.Copy(io.Discard, r.Body)
	h.waiting.Add(1)
	defer h.waiting.Add(-1)
	<-r.Context().Done()
}

// TestRelayedCallsEnd checks that calls to a transport which is frozen or was replaced are ended with a
// retryable answer, also those that may wait for days, and that calls to one that works are not.
func TestRelayedCallsEnd(t *testing.T) {
	t.Parallel()
	keys, err := gate.NewKeys(bytes.Repeat([]byte{1}, gate.MinSecret))
	require.NoError(t, err)
	holder := &holderOfCalls{}
	srv := httptest.NewServer(holder)
	t.Cleanup(srv.Close)
	address, err := url.Parse(srv.URL)
	require.NoError(t, err)
	row := store.Transport{VolumeID: "v1", Address: address.Host, Instance: "first"}
	list := &listedTransport{transport: row}
	pool := httpclient.Direct()
	pool.ResponseHeaderTimeout = 50 * time.Millisecond // of the probes
	r := newRelays(gate.NewRemote(keys, quietLog, nil), list, pool, quietLog)
	r.check = 5 * time.Millisecond
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.to(row).ServeHTTP(w, req)
	}))
	t.Cleanup(front.Close)

	call := func(ctx context.Context) (wire.Answer, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, front.URL+"/v1/interconn/chan/pop",
			strings.NewReader("{}"))
		if err != nil {
			return wire.Answer{}, err
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := front.Client().Do(req)
		if err != nil {
			return wire.Answer{}, err
		}
		defer func() { _ = resp.Body.Close() }()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			return wire.Answer{}, err
		}
		return wire.JSON.DecodeAnswer(text)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	answers := make(chan wire.Answer, 1)
	start := func() {
		go func() {
			out, err := call(ctx)
			if err != nil {
				t.Error(err)
			}
			answers <- out
		}()
		require.Eventually(t, func() bool { return holder.waiting.Load() == 1 }, 20*time.Second,
			time.Millisecond, "the call waits")
	}
	requireEnded := func() {
		require.Equal(t, status.NoInstance, (<-answers).Code)
		require.Eventually(t, func() bool { return holder.waiting.Load() == 0 }, 20*time.Second,
			time.Millisecond)
	}
	awaitProbes := func(n int64) {
		n += holder.probed.Load()
		require.Eventually(t, func() bool { return holder.probed.Load() >= n }, 20*time.Second,
			time.Millisecond)
	}

	// It sends no heartbeats, or the database is away. It answers, so its calls stay.
	start()
	list.set(func() { list.transport.Silence = time.Hour })
	awaitProbes(3)
	list.set(func() { list.transport.Silence, list.readAt = 0, time.Now().Add(-time.Hour) })
	awaitProbes(3)
	require.Empty(t, answers)

	// It answers nothing.
	holder.frozen.Store(true)
	requireEnded()
	out, err := call(ctx)
	require.NoError(t, err)
	require.Equal(t, status.NoInstance, out.Code)
	require.Zero(t, holder.waiting.Load(), "refused, and not passed on")

	// It is back; then another process takes over its volume.
	holder.frozen.Store(false)
	row.Instance = "second"
	list.set(func() { list.transport, list.readAt = row, time.Time{} })
	start()
	list.set(func() { list.transport.Instance = "third" })
	requireEnded()
	require.Eventually(t, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return !r.watching && r.calls == 0
	}, 20*time.Second, time.Millisecond, "nothing is left")
}
