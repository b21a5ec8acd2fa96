package client

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/test/testenv/ports"
)

// TestRedirectsAreNotFollowed checks that a partner can't redirect our commands, for example into our own
// network.
func TestRedirectsAreNotFollowed(t *testing.T) {
	var visits atomic.Int32
	victim := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		visits.Add(1)
		_, _ = io.WriteString(w, `{"code":0}`)
	}))
	defer victim.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		err := peer(t,
			func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, victim.URL,
					status)
			}).Start(t.Context(), "B", "j1")
		require.Equal(t, Unknown, outcome(t, err).Outcome)
		require.ErrorContains(t, err, strconv.Itoa(status))
	}
	require.Zero(t, visits.Load())
}

func TestNoRoute(t *testing.T) {
	err := newTestClient(t, "http://127.0.0.1:1", time.Second).Start(t.Context(), "X", "j1")
	var e *Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, NotDelivered, e.Outcome)
	require.EqualError(t, err,
		"X /v1/interconn/schedule/job/start: not delivered: the route table has no node X; "+
			"correct the node id, or make it a partner of A: with 'hutong partner invite X', or in routes of "+
			"its configuration")
	require.Equal(t, bfia.CodeNotFound, bfia.CodeOf(err), "the cause is kept")
}

func TestNotDelivered(t *testing.T) {
	const closed = "http://127.0.0.1:1" // no program has this port
	plain := httptest.NewServer(says(200, "application/json", `{"code":0}`))
	defer plain.Close()
	untrusted := httptest.NewUnstartedServer(says(200, "application/json", `{"code":0}`))
	untrusted.Config.ErrorLog = log.New(io.Discard, "", 0)
	untrusted.StartTLS()
	defer untrusted.Close()
	for name, base := range map[string]string{
		"connection refused":    closed,
		"unfit URL":             "http://[::1",
		"unknown scheme":        "ftp://127.0.0.1",
		"no scheme":             "127.0.0.1:9380",
		"no host":               "http://",
		"TLS to a plain peer":   strings.Replace(plain.URL, "http:", "https:", 1),
		"untrusted certificate": untrusted.URL,
	} {
		t.Run(name, func(t *testing.T) {
			err := newTestClient(t, base, 10*time.Second).Start(t.Context(), "B", "j1")
			require.Equal(t, NotDelivered, outcome(t, err).Outcome, "%v", err)
		})
	}
	t.Run("cancelled before", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := newTestClient(t, plain.URL, 10*time.Second).Start(ctx, "B", "j1")
		require.Equal(t, NotDelivered, outcome(t, err).Outcome)
		require.ErrorIs(t, err, context.Canceled)
	})
}

// TestTimeoutWhileConnecting checks that a request without a connection was not delivered, even if our own
// timeout ends it.
func TestTimeoutWhileConnecting(t *testing.T) {
	c := newTestClient(t, "http://127.0.0.1:1", 300*time.Millisecond)
	c.HTTP.Transport.(*http.Transport).DialContext = func(ctx context.Context, _, _ string) (net.Conn,
		error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	err := c.Start(t.Context(), "B", "j1")
	require.Equal(t, NotDelivered, outcome(t, err).Outcome, "%v", err)
}

func TestUnknown(t *testing.T) {
	t.Run("cut before an answer", func(t *testing.T) {
		var arrived atomic.Int32
		c := peer(t, func(w http.ResponseWriter, r *http.Request) {
			arrived.Add(1)
			hang(w)
		})
		err := c.TaskStart(t.Context(), "B", bfia.TaskRef{JobID: "j1", TaskID: "t1", TaskName: "psi"})
		require.Equal(t, Unknown, outcome(t, err).Outcome, "%v", err)
		require.EqualValues(t, 1, arrived.Load(), "a task is never started twice by the client itself")
	})
	t.Run("cut within the answer", func(t *testing.T) {
		c := peer(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, `{"code":0`)
		})
		err := c.Start(t.Context(), "B", "j1")
		require.Equal(t, Unknown, outcome(t, err).Outcome, "%v", err)
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	})
	t.Run("our timeout", func(t *testing.T) {
		err := clientOfSilentPartner(t, make(chan struct{}, 1), time.Second).Start(t.Context(), "B", "j1")
		require.Equal(t, Unknown, outcome(t, err).Outcome, "%v", err)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
	t.Run("the caller gives up when it has arrived", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		arrived := make(chan struct{}, 1)
		go func() {
			<-arrived
			cancel()
		}()
		err := clientOfSilentPartner(t, arrived, 10*time.Second).Start(ctx, "B", "j1")
		require.Equal(t, Unknown, outcome(t, err).Outcome, "%v", err)
		require.ErrorIs(t, err, context.Canceled)
	})
}

// clientOfSilentPartner returns a client whose partner reports the arrival of a request and does not answer
// until the test ends.
func clientOfSilentPartner(t *testing.T, arrived chan<- struct{}, timeout time.Duration) *Client {
	release := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		arrived <- struct{}{}
		<-release
	}))
	t.Cleanup(s.Close)
	t.Cleanup(func() { close(release) })
	return newTestClient(t, s.URL, timeout)
}

func hang(w http.ResponseWriter) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err == nil {
		_ = conn.Close()
	}
}

// TestPartnerRestarts checks that a client reconnects to a restarted partner and does not itself retry what
// failed before.
func TestPartnerRestarts(t *testing.T) {
	var arrived atomic.Int32
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		arrived.Add(1)
		_, _ = io.WriteString(w, `{"code":0}`)
	})
	// The kernel gives the port to no connection while nothing listens on it.
	address, err := ports.Address()
	require.NoError(t, err)
	listener, err := net.Listen("tcp", address)
	require.NoError(t, err)
	first := httptest.NewUnstartedServer(handler)
	_ = first.Listener.Close()
	first.Listener = listener
	first.Start()
	c := newTestClient(t, first.URL, 10*time.Second)
	require.NoError(t, c.Start(t.Context(), "B", "j1"))
	first.Close()
	err = c.Start(t.Context(), "B", "j1")
	// Which of the two depends on whether the client has noticed yet that its kept connection is closed.
	require.Contains(t, []Outcome{NotDelivered, Unknown}, outcome(t, err).Outcome, "%v", err)

	listener, err = net.Listen("tcp", address)
	require.NoError(t, err)
	second := httptest.NewUnstartedServer(handler)
	_ = second.Listener.Close()
	second.Listener = listener
	second.Start()
	defer second.Close()
	require.NoError(t, c.Start(t.Context(), "B", "j1"))
	require.EqualValues(t, 2, arrived.Load())
}

// TestTransportWithoutTraces checks that a failed request through a transport without traces counts as
// possibly sent.
func TestTransportWithoutTraces(t *testing.T) {
	broken := errors.New("broken")
	c := &Client{
		NodeID: "A",
		Route:  func(string) (string, bool) { return "http://b", true },
		HTTP: &http.Client{
			Transport: roundTrip(func(*http.Request) (*http.Response, error) { return nil, broken }),
		},
	}
	err := c.Start(t.Context(), "B", "j1")
	require.Equal(t, Unknown, outcome(t, err).Outcome)
	require.ErrorIs(t, err, broken)
}

// TestNotDeliveredAfterAKeptConnection checks a kept connection that turns out to be closed before anything
// was written. If the new connection fails too, the partner has received nothing.
func TestNotDeliveredAfterAKeptConnection(t *testing.T) {
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	send := roundTrip(func(r *http.Request) (*http.Response, error) {
		trace := httptrace.ContextClientTrace(r.Context())
		trace.GetConn("b:80")
		trace.GotConn(httptrace.GotConnInfo{Reused: true})
		return nil, refused
	})
	c := &Client{
		NodeID: "A",
		Route:  func(string) (string, bool) { return "http://b", true },
		HTTP:   &http.Client{Transport: send},
	}
	err := c.Start(t.Context(), "B", "j1")
	require.Equal(t, NotDelivered, outcome(t, err).Outcome)
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestClientWithoutHTTP(t *testing.T) {
	s := httptest.NewServer(says(200, "application/json", `{"code":0}`))
	defer s.Close()
	c := &Client{NodeID: "A", Route: func(string) (string, bool) { return s.URL + "/", true }}
	require.NoError(t, c.Start(t.Context(), "B", "j1"))
	require.Equal(t, 10*time.Second, defaultHTTP().Timeout)
	defaultHTTP().CloseIdleConnections()
}

// TestClientInParallel checks that one client serves concurrent requests.
func TestClientInParallel(t *testing.T) {
	c := peer(t, func(w http.ResponseWriter, r *http.Request) {
		var poll bfia.TaskPoll
		if err := json.NewDecoder(r.Body).Decode(&poll); err != nil {
			t.Error(err)
		}
		_ = json.NewEncoder(w).
			Encode(map[string]any{"code": 0,
				"data": bfia.PollResult{Status: bfia.TaskRunning, Reason: poll.TaskID}})
	})
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			p, err := c.TaskPoll(t.Context(), "B", strconv.Itoa(i), "")
			if err != nil || p.Reason != strconv.Itoa(i) {
				t.Errorf("%d: %v, %v", i, p, err)
			}
		})
	}
	wg.Wait()
}
