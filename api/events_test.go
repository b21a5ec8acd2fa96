package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/identity"
	"hutong/internal/limits"
	"hutong/store"
	"hutong/store/storetest"
)

// eventStreamTest is an open stream of events.
type eventStreamTest struct {
	t    testing.TB
	resp *http.Response
	in   *bufio.Scanner
	id   string // of the last event
}

// listen opens a stream.
func listen(t testing.TB, over *http.Client, url string, header http.Header) *eventStreamTest {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+bfia.PathEvents, nil)
	require.NoError(t, err)
	if header != nil {
		req.Header = header
	}
	resp, err := over.Do(req)
	require.NoError(t, err)
	t.Cleanup(func() { _ = resp.Body.Close() })
	require.Equal(t, 200, resp.StatusCode)
	described(t, req, resp, nil)
	return &eventStreamTest{t: t, resp: resp, in: bufio.NewScanner(resp.Body)}
}

// next returns the next event, or false at the end of the stream.
func (s *eventStreamTest) next() (e bfia.Event, more bool) {
	s.t.Helper()
	for s.in.Scan() {
		switch field, value, _ := strings.Cut(s.in.Text(), ": "); field {
		case "id":
			s.id = value
		case "event":
			require.Equal(s.t, "change", value)
		case "data":
			require.NoError(s.t, json.Unmarshal([]byte(value), &e))
			return e, true
		}
	}
	return e, false
}

// await reads events until one is of a change.
func (s *eventStreamTest) await(want bfia.Change) {
	s.t.Helper()
	for {
		e, more := s.next()
		require.True(s.t, more, "the stream ended before %v", want)
		if e.Change == want {
			return
		}
	}
}

var changedAll = bfia.Change{Kind: bfia.ChangedAll}

// TestEvents follows a job whose rows another process writes.
func TestEvents(t *testing.T) {
	p := running(t, "j1")
	url := "http://" + p.address
	other := storetest.Open(t, p.database)
	stream := listen(t, http.DefaultClient, url, nil)
	require.Equal(t, "no-store", stream.resp.Header.Get("Cache-Control"))
	e, more := stream.next()
	require.True(t, more)
	require.Equal(t, changedAll, e.Change, "a new reader reads all")

	require.NoError(t, other.UpdateJob(t.Context(), "j1", bfia.JobRunning, "", time.Now()))
	stream.await(bfia.Change{Kind: bfia.ChangedJob, JobID: "j1"})
	stream.await(bfia.Change{Kind: bfia.ChangedTask, JobID: "j1"}) // its tasks are watched from now on
	_, err := other.StartTask(t.Context(), "j1", first, bfia.TaskID("j1", first), 1, time.Now())
	require.NoError(t, err)
	stream.await(bfia.Change{Kind: bfia.ChangedTask, JobID: "j1"})
	before := stream.id

	// A reader that comes back while others read gets what it has missed.
	require.NoError(t, other.PutRunner(t.Context(), store.Runner{RunnerID: "r", Slots: 1}))
	stream.await(bfia.Change{Kind: bfia.ChangedRunner})
	again := listen(t, http.DefaultClient, url, http.Header{"Last-Event-Id": {before}})
	for {
		e, more = again.next()
		require.True(t, more)
		require.NotEqual(t, changedAll, e.Change)
		if e.Kind == bfia.ChangedRunner {
			break
		}
	}
	for _, unknown := range []string{"x", "1-1", before + "0", "-1", strings.Repeat("9", 100)} {
		e, _ = listen(t, http.DefaultClient, url, http.Header{"Last-Event-Id": {unknown}}).next()
		require.Equal(t, changedAll, e.Change, "after %s", unknown)
	}

	head := p.send(call{method: http.MethodHead, path: bfia.PathEvents})
	require.Equal(t, 200, head.Status)
	require.Equal(t, eventStream, head.Header.Get("Content-Type"))
}

// countedWatcher counts how many watchers are open, and their looks. changes are what the next look finds.
type countedWatcher struct {
	open, opened, looks *atomic.Int64
	changes             chan []bfia.Change
	failing             *atomic.Bool
}

func (w countedWatcher) Next(context.Context, time.Duration) ([]bfia.Change, error) {
	if w.failing.Load() {
		return nil, errors.New("the database is away")
	}
	w.looks.Add(1)
	select {
	case c := <-w.changes:
		return c, nil
	default:
		return nil, nil
	}
}

func (w countedWatcher) Close() error {
	w.open.Add(-1)
	return nil
}

func (p *party) countWatchers() countedWatcher {
	w := countedWatcher{open: &atomic.Int64{}, opened: &atomic.Int64{}, looks: &atomic.Int64{},
		changes: make(chan []bfia.Change, 1), failing: &atomic.Bool{}}
	p.server.events.open = func(context.Context) (watcher, error) {
		w.open.Add(1)
		w.opened.Add(1)
		return w, nil
	}
	return w
}

// TestManyEventReaders checks that 200 readers share one watcher, that each gets each event once, and that
// nobody watches when they have left.
func TestManyEventReaders(t *testing.T) {
	p := newParty(t)
	p.server.events.ping = 10 * time.Millisecond
	w := p.countWatchers()
	const readers = 200
	over := &http.Client{Transport: &http.Transport{}}
	var streams []*eventStreamTest
	for range readers {
		streams = append(streams, listen(t, over, "http://"+p.address, nil))
	}
	for _, s := range streams {
		e, more := s.next()
		require.True(t, more)
		require.Equal(t, changedAll, e.Change)
	}
	want := bfia.Change{Kind: bfia.ChangedTask, JobID: "j9"}
	w.changes <- []bfia.Change{want}
	for _, s := range streams {
		e, more := s.next()
		require.True(t, more)
		require.Equal(t, want, e.Change)
	}
	require.EqualValues(t, 1, w.opened.Load())

	// More changes than a page can handle one by one are one event.
	many := make([]bfia.Change, eventBatch+1)
	w.changes <- many
	e, _ := streams[0].next()
	require.Equal(t, changedAll, e.Change)

	for _, s := range streams {
		_ = s.resp.Body.Close()
	}
	require.Eventually(t, func() bool { return w.open.Load() == 0 }, time.Minute, 10*time.Millisecond)
	looks := w.looks.Load()
	p.server.events.mu.Lock()
	require.Empty(t, p.server.events.readers)
	require.False(t, p.server.events.running)
	p.server.events.mu.Unlock()
	require.Equal(t, looks, w.looks.Load())

	listen(t, over, "http://"+p.address, nil).await(changedAll)
	require.EqualValues(t, 2, w.opened.Load(), "it watches again for the next reader")
}

// TestSlowEventReader checks that a reader that does not read is dropped, and holds up nobody.
func TestSlowEventReader(t *testing.T) {
	p := newParty(t, func(c *Config) { c.ClientTimeout = time.Second })
	w := p.countWatchers()
	h := p.server.events
	slow, err := net.Dial("tcp", p.address)
	require.NoError(t, err)
	defer func() { _ = slow.Close() }()
	require.NoError(t, slow.(*net.TCPConn).SetReadBuffer(4<<10))
	_, err = io.WriteString(slow, "GET "+bfia.PathEvents+" HTTP/1.1\r\nHost: localhost\r\n\r\n")
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(h.readers) == 1 && h.ready
	}, time.Minute, time.Millisecond)

	fast := listen(t, http.DefaultClient, "http://"+p.address, nil)
	fast.await(changedAll)
	var last uint64
	deadline := time.Now().Add(50 * time.Second)
	for n := 2; n > 1; {
		require.True(t, time.Now().Before(deadline), "the slow reader is dropped")
		h.publish([]bfia.Change{{Kind: bfia.ChangedJob, JobID: strings.Repeat("j", 32<<10)}})
		e, more := fast.next()
		require.True(t, more)
		require.Greater(t, e.Seq, last, "the other reader misses nothing")
		last = e.Seq
		h.mu.Lock()
		n = len(h.readers)
		require.LessOrEqual(t, len(h.recent), eventBuffer)
		h.mu.Unlock()
	}
	require.EqualValues(t, 1, w.opened.Load())
}

// TestEventsOutlastTheDatabase checks that a stream stays open while the database does not answer, and that
// the outage is logged once.
func TestEventsOutlastTheDatabase(t *testing.T) {
	p := newParty(t)
	w := p.countWatchers()
	stream := listen(t, http.DefaultClient, "http://"+p.address, nil)
	stream.await(changedAll)
	w.failing.Store(true)
	require.Eventually(t, func() bool {
		return strings.Contains(p.log.String(), "failed to look for changes")
	}, time.Minute, time.Millisecond)
	want := bfia.Change{Kind: bfia.ChangedData}
	w.changes <- []bfia.Change{want}
	w.failing.Store(false)
	stream.await(want)
	require.Equal(t, 1, strings.Count(p.log.String(), "failed to look for changes"))
}

// TestEventsBeginWithoutTheDatabase checks that a stream begins when the database is back.
func TestEventsBeginWithoutTheDatabase(t *testing.T) {
	p := newParty(t)
	open := p.server.events.open
	tries := 0
	p.server.events.open = func(ctx context.Context) (watcher, error) {
		if tries++; tries < 3 {
			gone, cancel := context.WithCancel(ctx)
			cancel()
			ctx = gone
		}
		return open(ctx)
	}
	listen(t, http.DefaultClient, "http://"+p.address, nil).await(changedAll)
	require.Equal(t, 3, tries)
	require.Equal(t, 1, strings.Count(p.log.String(), "failed to look for changes"))
}

// TestEventsOverTLSEndWithTheToken checks over TLS that the streams of a token end when it is revoked or
// expires, and no others.
func TestEventsOverTLSEndWithTheToken(t *testing.T) {
	p := newStrict(t)
	p.server.events.ended = p.store.EndedTokens // this fixture has tokens in a database of their own
	token := func(name string, expires *time.Time) (http.Header, string) {
		secret := p.token(name, expires, identity.Viewer)
		tokens, err := p.store.Tokens(t.Context())
		require.NoError(t, err)
		return http.Header{"Authorization": {"Bearer " + secret}}, tokens[len(tokens)-1].TokenID
	}
	soon := time.Now().Add(8 * time.Second)
	kept, _ := token("alice", nil)
	revoked, id := token("bob", nil)
	expires, _ := token("carol", &soon)
	over := p.client()
	streams := map[string]*eventStreamTest{}
	for name, header := range map[string]http.Header{"kept": kept, "revoked": revoked, "expires": expires} {
		streams[name] = listen(t, over, p.url, header)
		streams[name].await(changedAll)
	}
	require.NoError(t, p.store.RevokeToken(t.Context(), id, time.Now()))
	for _, name := range []string{"revoked", "expires"} {
		_, more := streams[name].next()
		require.False(t, more, name)
		require.NoError(t, streams[name].in.Err(), "the stream of %s ends in order", name)
	}
	require.False(t, time.Now().Before(soon))
	require.NoError(t, p.server.store.PutRunner(t.Context(), store.Runner{RunnerID: "r", Slots: 1}))
	streams["kept"].await(bfia.Change{Kind: bfia.ChangedRunner})

	status, _, _ := p.ask(over, "", http.MethodGet, bfia.PathEvents, nil)
	require.Equal(t, http.StatusUnauthorized, status)
	status, _, _ = p.ask(over, strings.TrimPrefix(revoked.Get("Authorization"), "Bearer "), http.MethodGet,
		bfia.PathEvents, nil)
	require.Equal(t, http.StatusUnauthorized, status)
}

// TestEventStreamsOfACaller checks the limit of streams, and that a stream that has ended counts no more.
func TestEventStreamsOfACaller(t *testing.T) {
	caller := identity.Principal{Kind: identity.KindClient, Name: "alice",
		Roles: []identity.Role{identity.Viewer}}
	p := newParty(t, func(c *Config) {
		c.Clients = func(*fiber.Ctx) (identity.Principal, error) { return caller, nil }
		c.Callers = limits.New(limits.Config{Streams: 2})
	})
	p.server.events.ping = 10 * time.Millisecond
	url := "http://" + p.address
	stream := listen(t, http.DefaultClient, url, nil)
	listen(t, http.DefaultClient, url, nil)
	refused := p.send(get(bfia.PathEvents))
	require.Equal(t, http.StatusTooManyRequests, refused.Status)
	require.Contains(t, refused.Text(), "client alice reads 2 event streams (limits.event_streams")
	require.Equal(t, "10", refused.Header.Get("Retry-After"))
	_ = stream.resp.Body.Close()
	require.Eventually(t, func() bool {
		p.server.events.mu.Lock()
		defer p.server.events.mu.Unlock()
		return len(p.server.events.readers) == 1
	}, time.Minute, time.Millisecond)
	require.Eventually(t, func() bool {
		release, err := p.server.Callers.Stream(caller)
		if err == nil {
			release()
		}
		return err == nil
	}, time.Minute, time.Millisecond)
	listen(t, http.DefaultClient, url, nil)
}

// TestShutdownEndsEvents checks that a shutdown does not wait for readers of events, and ends their streams.
func TestShutdownEndsEvents(t *testing.T) {
	p := newParty(t)
	var ended sync.WaitGroup
	for range 20 {
		stream := listen(t, &http.Client{Transport: &http.Transport{}}, "http://"+p.address, nil)
		stream.await(changedAll)
		ended.Go(func() {
			for more := true; more; {
				_, more = stream.next()
			}
		})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	require.NoError(t, p.server.Shutdown(ctx))
	ended.Wait()
	_, err := p.server.events.join(identity.Principal{}, "")
	require.Equal(t, bfia.CodeUnavailable, bfia.CodeOf(err))
}
