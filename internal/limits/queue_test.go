package limits

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/internal/identity"
)

// queueServer serves a handler of messages over HTTP, whose session the header "session" names.
type queueServer struct {
	url                        string
	client                     *http.Client
	served, refused, cancelled atomic.Int64
}

func serveQueue(t *testing.T, l *Limiter, next http.HandlerFunc, http2 bool) *queueServer {
	t.Helper()
	q := &queueServer{}
	limited := l.Queue(next, Messages{Refuse: RefuseText,
		Session: func(r *http.Request) (string, time.Duration) { return r.Header.Get("session"), 0 },
		OnLimited: func(_ identity.Principal, outcome Outcome) {
			map[Outcome]*atomic.Int64{Served: &q.served, Refused: &q.refused,
				Cancelled: &q.cancelled}[outcome].Add(1)
		}})
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		limited.ServeHTTP(w, r.WithContext(identity.With(r.Context(), partnerB)))
	}))
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!http2)
	protocols.SetUnencryptedHTTP2(http2)
	server.Config.Protocols = protocols
	// The window of the connection has space for all streams of a test, as that of the server for partners.
	server.Config.HTTP2 = &http.HTTP2Config{MaxReceiveBufferPerStream: 256 << 10,
		MaxReceiveBufferPerConnection: 8 << 20}
	server.Start()
	pool := &http.Transport{Protocols: protocols, MaxIdleConnsPerHost: 1000}
	t.Cleanup(func() {
		pool.CloseIdleConnections()
		server.Close()
	})
	q.url, q.client = server.URL, &http.Client{Transport: pool}
	return q
}

func (q *queueServer) post(ctx context.Context, session string, body io.Reader) (int, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, q.url, body)
	if err != nil {
		return 0, err
	}
	r.Header.Set("session", session)
	response, err := q.client.Do(r)
	if err != nil {
		return 0, err
	}
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode, response.Body.Close()
}

// TestQueueIsFair has seven sessions send a message after the other, and one eight at the same time, while
// the limit holds them up. All get their share, and none is refused. TestSharesAreEqual proves the exact
// share.
func TestQueueIsFair(t *testing.T) {
	const sessions, rate, burst, duration = 8, 40, 1, 5 * time.Second
	q := serveQueue(t, New(Config{Requests: rate, Burst: burst}), func(http.ResponseWriter, *http.Request) {},
		false)
	var counts [sessions]atomic.Int64
	var group sync.WaitGroup
	began := time.Now()
	send := func(i int) {
		group.Go(func() {
			for time.Since(began) < duration {
				status, err := q.post(t.Context(), fmt.Sprint(i), nil)
				assert.NoError(t, err)
				assert.Equal(t, http.StatusOK, status)
				counts[i].Add(1)
			}
		})
	}
	for i := range sessions {
		send(i)
	}
	for range 7 {
		send(0) // is greedy
	}
	group.Wait()
	lasted := time.Since(began)
	var all []int64
	var total int64
	for i := range counts {
		all = append(all, counts[i].Load())
		total += counts[i].Load()
	}
	mean := float64(total) / sessions
	t.Logf("%d messages in %s; slowest %.2f, fastest %.2f of the mean", total, lasted,
		float64(slices.Min(all))/mean, float64(slices.Max(all))/mean)
	assert.LessOrEqual(t, float64(total), burst+rate*lasted.Seconds())
	assert.GreaterOrEqual(t, float64(slices.Min(all)), 0.5*mean)
	// What the greedy one has in the queue at the end is served, too.
	assert.LessOrEqual(t, float64(slices.Max(all[1:])), 1.5*mean)
	assert.LessOrEqual(t, float64(all[0]), 1.5*mean+8)
	assert.Zero(t, q.refused.Load())
	assert.Greater(t, q.served.Load(), total/2)
}

// zeros is a body that counts what its sender could send.
type zeros struct {
	left int64
	sent *atomic.Int64
}

func (z *zeros) Read(b []byte) (int, error) {
	n := min(int64(len(b)), z.left)
	if n == 0 {
		return 0, io.EOF
	}
	z.left -= n
	z.sent.Add(n)
	return int(n), nil
}

// TestWaitingReadsNothing has large messages wait. Their bodies stay at the sender, but for what the buffers
// of the connection hold, while the body of one that is admitted arrives. Then the senders leave.
func TestWaitingReadsNothing(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("HTTP2 %t", http2), func(t *testing.T) {
			t.Parallel()
			const messages, size, buffers = 4, 24 << 20, 16 << 20
			l := New(Config{Requests: 1, Burst: 1}) // so that four may wait
			began := time.Now()
			var clock atomic.Int64 // the test lets the time pass, and so admits messages
			l.now = func() time.Time { return began.Add(time.Duration(clock.Load())) }
			waiting := func() int {
				l.mu.Lock()
				defer l.mu.Unlock()
				return l.callers["partner B"].waiting.length
			}
			received := make(chan int64, 1+messages)
			q := serveQueue(t, l, func(_ http.ResponseWriter, r *http.Request) {
				n, _ := io.Copy(io.Discard, r.Body)
				received <- n
			}, http2)
			status, err := q.post(t.Context(), "first", nil)
			require.NoError(t, err)
			require.Equal(t, http.StatusOK, status)
			require.Zero(t, <-received)

			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var sent [messages]atomic.Int64
			var senders sync.WaitGroup
			for i := range messages {
				senders.Go(func() { _, _ = q.post(ctx, fmt.Sprint(i), &zeros{size, &sent[i]}) })
			}
			require.Eventually(t, func() bool { return waiting() == messages }, time.Minute, time.Millisecond)
			clock.Add(int64(time.Second))
			require.EqualValues(t, size, <-received, "the one that is admitted")
			var all []int64
			for i := range messages {
				all = append(all, sent[i].Load())
			}
			slices.Sort(all)
			t.Logf("the senders have sent %d bytes", all)
			assert.Less(t, all[messages-2], int64(buffers))
			cancel()
			senders.Wait()
			if http2 { // they leave at once, unless they have waited too long before
				require.Eventually(t, func() bool {
					return q.cancelled.Load()+q.refused.Load() == messages-1
				}, time.Minute, time.Millisecond)
				if q.refused.Load() == 0 {
					assert.EqualValues(t, 1, q.served.Load())
				}
			}
			clock.Add(int64(time.Minute))
			require.Eventually(t, func() bool {
				return q.served.Load()+q.cancelled.Load()+q.refused.Load() == messages
			}, time.Minute, time.Millisecond)
			assert.Zero(t, waiting())
		})
	}
}

// TestHalfClosedSender has a sender end its sending side while its message waits, and then read the answer.
// The message was not received, so the answer must not be 200.
func TestHalfClosedSender(t *testing.T) {
	l := New(Config{Requests: 1, Burst: 1})
	began := time.Now()
	l.now = func() time.Time { return began } // nothing is admitted after the first
	q := serveQueue(t, l, func(http.ResponseWriter, *http.Request) {}, false)
	status, err := q.post(t.Context(), "first", nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, status)

	c, err := net.Dial("tcp", strings.TrimPrefix(q.url, "http://"))
	require.NoError(t, err)
	defer func() { _ = c.Close() }()
	_, err = io.WriteString(c, "POST / HTTP/1.1\r\nHost: b\r\nSession: s\r\nContent-Length: 0\r\n\r\n")
	require.NoError(t, err)
	require.NoError(t, c.(*net.TCPConn).CloseWrite())
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(t, err)
	defer func() { _ = answer.Body.Close() }()
	require.Equal(t, http.StatusServiceUnavailable, answer.StatusCode)
	text, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	require.Contains(t, string(text), "not received")
	require.EqualValues(t, 1, q.cancelled.Load())
}

// TestQueueRefuses sends more messages at once than may wait.
func TestQueueRefuses(t *testing.T) {
	q := serveQueue(t, New(Config{Requests: 2, Burst: 1}), func(http.ResponseWriter, *http.Request) {}, false)
	var group sync.WaitGroup
	var ok, refused atomic.Int64
	for i := range 31 {
		group.Go(func() {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, q.url, nil)
			assert.NoError(t, err)
			r.Header.Set("session", fmt.Sprint(i))
			response, err := q.client.Do(r)
			if !assert.NoError(t, err) {
				return
			}
			defer func() { _ = response.Body.Close() }()
			if response.StatusCode == http.StatusOK {
				ok.Add(1)
				return
			}
			refused.Add(1)
			assert.Equal(t, http.StatusTooManyRequests, response.StatusCode)
			seconds, err := strconv.Atoi(response.Header.Get("Retry-After"))
			assert.NoError(t, err)
			assert.GreaterOrEqual(t, seconds, 1)
			assert.LessOrEqual(t, seconds, 5)
		})
	}
	group.Wait()
	// TestWaitIsBounded proves how many exactly.
	assert.GreaterOrEqual(t, ok.Load(), int64(5), "of the burst, and what is served within maxDelay")
	assert.Equal(t, int64(31), ok.Load()+refused.Load())
	assert.Equal(t, refused.Load(), q.refused.Load())
	assert.Positive(t, refused.Load())
}
