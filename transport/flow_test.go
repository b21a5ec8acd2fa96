package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/internal/httpguard"
	"hutong/test/testenv/ports"
	"hutong/transport/queue"
	"hutong/transport/status"
	"hutong/transport/wire"
)

// TestSessionsAreIsolated checks that the same topic of two sessions has two queues.
func TestSessionsAreIsolated(t *testing.T) {
	net := newNetwork(t, Limits{}, "A", "B")
	for _, s := range []string{"s1", "s2"} {
		net["A"].container(t, s).mustPush("B", "x", []byte(s))
	}
	for _, s := range []string{"s2", "s1"} {
		c := net["B"].container(t, s)
		require.Equal(t, s, string(c.mustPop("x")))
		require.False(t, c.peek("x").HasPayload)
	}
}

// TestFlakyNetwork lets the network fail before and after the partner accepts a message. Messages arrive in
// order, without loss and without duplicates.
func TestFlakyNetwork(t *testing.T) {
	b := open(t, Config{NodeID: "B", Logger: quiet()})
	inner := b.Handler()
	var mu sync.Mutex
	failed := map[string]int{}
	flaky := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		kind := min(rand.IntN(8), 3)
		mu.Lock()
		failed[fmt.Sprint(kind)]++
		mu.Unlock()
		switch kind {
		case 0: // a proxy lost its upstream
			http.Error(w, "bad gateway", http.StatusBadGateway)
		case 1: // the message arrives, the answer is lost
			inner.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		case 2: // the connection breaks while the body is sent
			_, _ = io.CopyN(io.Discard, r.Body, 10)
			panic(http.ErrAbortHandler)
		default:
			inner.ServeHTTP(w, r)
		}
	}))
	defer flaky.Close()
	a := open(t, Config{NodeID: "A", Logger: quiet(), Route: routeTo(flaky.URL + "/")})
	na, nb := &node{a, serve(t, a)}, &node{b, serve(t, b)}

	const topics, messages = 3, 40
	var wg sync.WaitGroup
	for topic := range topics {
		wg.Go(func() {
			c := na.container(t, "s").protobuf()
			for i := range messages {
				out := c.push("B", fmt.Sprint("topic-", topic), fmt.Append(nil, i))
				if out.Code != status.OK {
					t.Errorf("push %d: %s %s", i, out.Code, out.Message)
				}
			}
		})
	}
	wg.Wait()
	r := nb.container(t, "s")
	for topic := range topics {
		for i := range messages {
			require.Equal(t, fmt.Sprint(i), string(r.mustPop(fmt.Sprint("topic-", topic))))
		}
	}
	st := b.Stats()
	require.Zero(t, st.Messages)
	require.EqualValues(t, topics*messages, st.Pushed)
	require.Len(t, failed, 4)
	require.NotZero(t, st.Duplicates)
	require.NotZero(t, a.Stats().Retries)
	require.EqualValues(t, topics*messages, a.Stats().Forwarded)
	require.Zero(t, a.Stats().Bytes)
}

// TestPartnerComesUp starts a partner after a push to it began, within its deadline.
func TestPartnerComesUp(t *testing.T) {
	address, err := ports.Address() // the kernel gives it to no connection, as it might to one of the tries
	require.NoError(t, err)
	a := open(t, Config{NodeID: "A", Logger: quiet(), Route: routeTo("http://" + address)})
	na := &node{a, serve(t, a)}
	done := make(chan wire.Answer, 1)
	go func() { done <- na.container(t, "s").push("B", "x", []byte("hello")) }()
	eventually(t, "some tries failed", func() bool { return a.Stats().Retries >= 2 })

	b := open(t, Config{NodeID: "B", Logger: quiet()})
	listener, err := net.Listen("tcp", address)
	require.NoError(t, err)
	srv := b.Server()
	go func() { _ = srv.Serve(listener) }()
	defer func() { require.NoError(t, srv.Shutdown(context.Background())) }()
	out := <-done
	require.Equal(t, status.OK, out.Code, out.Message)
	nb := &node{b, "http://" + address}
	require.Equal(t, "hello", string(nb.container(t, "s").mustPop("x")))
}

// TestPartnerStaysDown checks the refusal of a push whose partner can't be reached.
func TestPartnerStaysDown(t *testing.T) {
	a := open(t, Config{NodeID: "A", Logger: quiet(), Route: routeTo("http://127.0.0.1:1")})
	c := (&node{a, serve(t, a)}).container(t, "s").with(wire.HeaderTimeout, "3000")
	begin := time.Now()
	out := c.push("B", "x", []byte("hello"))
	require.Equal(t, status.Network, out.Code, out.Message)
	require.Less(t, time.Since(begin), 30*time.Second)
	require.Greater(t, a.Stats().Retries, uint64(1))
	require.Zero(t, a.Stats().Bytes)
}

// TestInvalidPartnerAnswers checks that the outcome counts as unknown if the answer is not the protocol's:
// the push is tried again, and its refusal names what answered. A redirect is not followed.
func TestInvalidPartnerAnswers(t *testing.T) {
	var followed bool
	elsewhere := httptest.NewServer(
		http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed = true }))
	defer elsewhere.Close()
	for name, answer := range map[string]http.HandlerFunc{
		"text":      func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") },
		"not found": http.NotFound,
		"numeric code": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `{"code":404,"message":"no route"}`)
		},
		"code of its own": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"code":"404","message":"no route"}`)
		},
		"no code": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"message":"fine"}`)
		},
		"endless": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(bytes.Repeat([]byte("x"), 1<<20))
		},
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
		},
	} {
		t.Run(name, func(t *testing.T) {
			partner := httptest.NewServer(answer)
			defer partner.Close()
			a := open(t, Config{NodeID: "A", Logger: quiet(), Route: routeTo(partner.URL)})
			c := (&node{a, serve(t, a)}).container(t, "s").with(wire.HeaderTimeout, "2000")
			out := c.push("B", "x", []byte("hello"))
			require.Equal(t, status.Network, out.Code, out.Message)
			require.Contains(t, out.Message,
				"answered by something that is not the partner's transport: HTTP ")
			require.NotZero(t, a.Stats().Retries)
		})
	}
	require.False(t, followed)
}

// TestGatewayWithoutBackend puts a gateway before the partner. It first answers with pages of its own. The
// push is tried again, and the message arrives once.
func TestGatewayWithoutBackend(t *testing.T) {
	b := open(t, Config{NodeID: "B", Logger: quiet()})
	backend, err := url.Parse(serve(t, b))
	require.NoError(t, err)
	proxy := httputil.NewSingleHostReverseProxy(backend)
	var calls atomic.Int32
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		pages := []int{404, 502, 503, 200, 301, 405}
		if n := int(calls.Add(1)); n <= len(pages) {
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(pages[n-1])
			_, _ = io.WriteString(w, "<html>no backend</html>")
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	defer gateway.Close()
	a := open(t, Config{NodeID: "A", Logger: quiet(), Route: routeTo(gateway.URL)})
	out := (&node{a, serve(t, a)}).container(t, "s").push("B", "x", []byte("hello"))
	require.Equal(t, status.OK, out.Code, out.Message)
	require.EqualValues(t, 6, a.Stats().Retries)
	nb := &node{b, backend.String()}
	require.Equal(t, "hello", string(nb.container(t, "s").mustPop("x")))
	require.Zero(t, b.Stats().Messages)
}

// TestPassThrough checks what is sent to the partner: the unchanged body and the protocol's headers.
func TestPassThrough(t *testing.T) {
	type request struct {
		header http.Header
		path   string
		body   []byte
	}
	seen := make(chan request, 1)
	partner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		seen <- request{r.Header, r.URL.Path, b}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"code":"E0000000000","message":"成功"}`)
	}))
	defer partner.Close()
	route := func(id string) (string, bool) { return partner.URL + "/prefix/", id == "B" }
	a := open(t, Config{NodeID: "A", Logger: quiet(), Route: route})
	n := &node{a, serve(t, a)}
	body := "{ \"topic\":\"x\", \"payload\":\"bQ==\",\"metadata\":{\"k\":\"v\"} }\n"
	httpCode, answer := raw(t, "POST", n.url+pathPush, map[string]string{
		"x_ptp_session_id": "s", "x-ptp-target-node-id": "B", "X-Ptp-Token": "secret", "x_ptp_trace_id": "t",
		"x-ptp-tech-provider-code": "FATE", "X-Ptp-Source-Node-Id": "liar", "Cookie": "private",
		"X-Ptp-Version": "7",
	}, body)
	require.Equal(t, 200, httpCode)
	require.Equal(t, map[string]any{"code": "E0000000000", "message": "成功"}, answer)
	got := <-seen
	require.Equal(t, "/prefix"+pathInvoke, got.path)
	require.Equal(t, body, string(got.body))
	for name, want := range map[string]string{
		wire.HeaderVersion:      "1",
		wire.HeaderURI:          pathPush,
		wire.HeaderSourceNodeID: "A",
		wire.HeaderTargetNodeID: "B",
		wire.HeaderSessionID:    "s",
		wire.HeaderToken:        "s",
		wire.HeaderTraceID:      "t",
		wire.HeaderProvider:     "FATE",
		"Cookie":                "",
		"Content-Type":          "application/json",
	} {
		require.Equal(t, want, got.header.Get(name), name)
	}
	require.NotEmpty(t, got.header.Get(wire.HeaderMessageID))
}

// TestDisconnectedPopsLoseNothing checks that readers that disconnect while they wait take no message.
func TestDisconnectedPopsLoseNothing(t *testing.T) {
	net := newNetwork(t, Limits{}, "A")
	n := net["A"]
	const readers, messages = 20, 50
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range readers {
		c := n.container(t, "s")
		wg.Go(func() {
			_, _, err := c.post(ctx, pathPop, "", c.readBody("x", time.Hour))
			if !errors.Is(err, context.Canceled) {
				t.Errorf("a disconnected pop: %v", err)
			}
		})
	}
	eventually(t, "all calls wait", func() bool { return n.Stats().Readers == readers })
	cancel()
	wg.Wait()
	eventually(t, "the transport saw them leave", func() bool { return n.Stats().Readers == 0 })
	c := n.container(t, "s").protobuf()
	for i := range messages {
		c.mustPush("A", "x", fmt.Append(nil, i))
	}
	for i := range messages {
		require.Equal(t, fmt.Sprint(i), string(c.mustPop("x")))
	}
}

// TestBrokenAnswerRequeues checks that a reader that disconnects during its answer leaves the message to the
// next reader, complete and still first.
func TestBrokenAnswerRequeues(t *testing.T) {
	for _, enc := range []wire.Encoding{wire.JSON, wire.Protobuf} {
		t.Run(enc.ContentType(), func(t *testing.T) {
			net := newNetwork(t, Limits{}, "A")
			n := net["A"]
			c := n.container(t, "s")
			c.enc = enc
			large := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
			c.protobuf().mustPush("A", "x", large)
			c.protobuf().mustPush("A", "x", []byte("second"))
			for range 3 {
				ctx, cancel := context.WithCancel(t.Context())
				req, err := http.NewRequestWithContext(ctx, "POST", n.url+pathPop,
					bytes.NewReader(c.readBody("x", time.Minute)))
				require.NoError(t, err)
				req.Header.Set(wire.HeaderSessionID, "s")
				req.Header.Set("Content-Type", enc.ContentType())
				resp, err := c.client.Do(req)
				require.NoError(t, err)
				_, err = io.CopyN(io.Discard, resp.Body, 1000)
				require.NoError(t, err)
				cancel()
				resp.Body.Close()
			}
			require.True(t, bytes.Equal(large, c.mustPop("x")))
			require.Equal(t, "second", string(c.mustPop("x")))
			require.EqualValues(t, 3, n.Stats().Returned)
			// The reader gets its answer shortly before the message is acknowledged.
			eventually(t, "nothing is held",
				func() bool { st, _ := n.SessionStats("s"); return st.InboundBytes <= queue.TopicOverhead+1 })
		})
	}
}

// TestReleaseWakesOverHTTP checks that a release wakes readers, writers and forwarded pushes.
func TestReleaseWakesOverHTTP(t *testing.T) {
	net := newNetwork(t, Limits{SessionBytes: mib, MessageBytes: mib / 4}, "A", "B")
	a, b := net["A"], net["B"]
	results := make(chan wire.Answer, 3)
	rb := b.container(t, "s")
	go func() { results <- rb.pop("x", 10*time.Hour) }()
	eventually(t, "the pop waits", func() bool { return b.Stats().Readers == 1 })
	require.Equal(t, status.OK, b.container(t, "s").release("other").Code)
	require.Equal(t, 1, b.Stats().Readers)
	require.Equal(t, status.OK, b.container(t, "s").release("x").Code)
	require.Equal(t, status.SessionReleased, (<-results).Code)
	// The session stays usable for the next task of the job.
	a.container(t, "s").mustPush("B", "x", []byte("next task"))
	require.Equal(t, "next task", string(rb.mustPop("x")))

	ca := a.container(t, "s").protobuf()
	for range 3 {
		ca.mustPush("B", "x", make([]byte, mib/4))
	}
	go func() { results <- ca.push("B", "x", make([]byte, mib/4)) }()
	go func() { results <- rb.pop("y", 10*time.Hour) }()
	eventually(t, "the push and the pop wait",
		func() bool { st := b.Stats(); return st.Writers == 1 && st.Readers == 1 })
	b.ReleaseSession("s")
	require.Equal(t, status.SessionReleased, (<-results).Code)
	require.Equal(t, status.SessionReleased, (<-results).Code)
	require.Equal(t, status.SessionReleased, ca.push("B", "x", nil).Code)
	require.Equal(t, status.SessionReleased, rb.pop("x", time.Hour).Code)
	require.Zero(t, b.Stats().Bytes)

	// At the sender, a push in transit ends too.
	b2 := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}))
	defer b2.Close()
	a2 := open(t, Config{NodeID: "A", Logger: quiet(), Route: routeTo(b2.URL)})
	na2 := &node{a2, serve(t, a2)}
	go func() { results <- na2.container(t, "s").push("B", "x", []byte("m")) }()
	eventually(t, "the push is in transit",
		func() bool { st, _ := a2.SessionStats("s"); return st.OutboundBytes > 0 })
	a2.ReleaseSession("s")
	require.Equal(t, status.SessionReleased, (<-results).Code)
}

// TestCloseLeavesNothing checks that Close wakes all waiting calls and leaves no goroutine.
func TestCloseLeavesNothing(t *testing.T) {
	before := countGoroutines()
	t.Run("work", func(t *testing.T) {
		limits := Limits{SessionBytes: mib}
		var partners sync.Map // those to which a push has arrived; all are down
		a := open(t, Config{NodeID: "A", Logger: quiet(), Limits: limits, Route: func(node string) (string, bool) {
			partners.Store(node, true)
			return "http://127.0.0.1:1", true
		}})
		srv := httptest.NewUnstartedServer(nil)
		srv.Config = a.Server().Server
		srv.Listener = httpguard.Listener(srv.Listener, true)
		srv.Start()
		n := &node{a, srv.URL}
		type result struct {
			status int
			out    wire.Answer
		}
		results := make(chan result, 9)
		for i := range 3 {
			c := n.container(t, fmt.Sprint("s", i)).protobuf()
			for range 3 {
				c.mustPush("A", "full", make([]byte, mib/4))
			}
			for _, call := range []struct {
				path, target string
				body         []byte
			}{
				{pathPop, "", c.readBody("x", 10*time.Hour)},
				{pathPush, "A", c.pushBody("full", make([]byte, mib/4))},
				{pathPush, fmt.Sprint("B", i), c.pushBody("x", []byte("m"))},
			} {
				go func() {
					httpCode, out, err := c.post(context.Background(), call.path, call.target, call.body)
					if err != nil {
						t.Errorf("%s to %s: %v", call.path, call.target, err)
					}
					results <- result{httpCode, out}
				}()
			}
		}
		eventually(t, "all calls wait", func() bool {
			for i := range 3 {
				if _, arrived := partners.Load(fmt.Sprint("B", i)); !arrived {
					return false
				}
			}
			st := a.Stats()
			return st.Readers == 3 && st.Writers == 3 && st.Retries >= 3
		})
		// The server's shutdown does not wait for a pop of ten hours.
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		require.NoError(t, srv.Config.Shutdown(ctx))
		require.NoError(t, a.Close(ctx))
		for range 9 {
			r := <-results
			require.Equal(t, http.StatusServiceUnavailable, r.status, r.out.Message)
			require.Equal(t, status.NoInstance, r.out.Code)
		}
		require.Zero(t, a.Stats().Bytes)
		require.NoError(t, a.Close(ctx), "Close may be repeated")
		srv.Close()

		w := httptest.NewRecorder()
		a.Handler().ServeHTTP(w, httptest.NewRequest("POST", pathPop, strings.NewReader("{}")))
		require.Equal(t, http.StatusServiceUnavailable, w.Code)
	})
	eventually(t, "no goroutine is left", func() bool { return countGoroutines() <= before })
}

// countGoroutines counts goroutines that run this package's code or serve connections.
func countGoroutines() int {
	buf := make([]byte, 8<<20)
	buf = buf[:runtime.Stack(buf, true)]
	n := 0
	for g := range strings.SplitSeq(string(buf), "\n\n") {
		if strings.Contains(g, "hutong/transport.(") || strings.Contains(g, "net/http.(") {
			n++
		}
	}
	return n
}

// TestForwardingIsSerialPerQueue checks that pushes of one queue are forwarded one after the other, that
// another topic does not wait for them, and that a push that waits too long is refused.
func TestForwardingIsSerialPerQueue(t *testing.T) {
	var mu sync.Mutex
	inside, most := map[string]int{}, map[string]int{}
	gate := make(chan struct{})
	partner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		topic, _, _ := wire.Plain.Parse(wire.Protobuf, wire.NewReader(bytes.NewReader(body)),
			wire.DiscardPayload)
		mu.Lock()
		inside[topic]++
		most[topic] = max(most[topic], inside[topic])
		mu.Unlock()
		if topic == "x" {
			<-gate
		}
		mu.Lock()
		inside[topic]--
		mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"code":"E0000000000","message":"ok"}`)
	}))
	defer partner.Close()
	a := open(t, Config{NodeID: "A", Logger: quiet(), Route: routeTo(partner.URL)})
	n := &node{a, serve(t, a)}
	c := n.container(t, "s").protobuf()
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			if out := c.push("B", "x", []byte("m")); out.Code != status.OK {
				t.Errorf("push: %s %s", out.Code, out.Message)
			}
		})
	}
	eventually(t, "all five are received", func() bool {
		st, _ := n.SessionStats("s")
		return st.OutboundBytes == 5*int64(len(protoPush("x", []byte("m")))+queue.MessageOverhead)
	})
	c.mustPush("B", "y", []byte("m"))
	require.Equal(t, status.Timeout, c.with(wire.HeaderTimeout, "50").push("B", "x", []byte("m")).Code)
	close(gate)
	wg.Wait()
	require.Equal(t, map[string]int{"x": 1, "y": 1}, most)
}
