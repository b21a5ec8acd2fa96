package limits

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/internal/identity"
)

var (
	partnerB = identity.Principal{Kind: identity.KindPartner, Node: "B", Proof: identity.ByCertificate}
	partnerC = identity.Principal{Kind: identity.KindPartner, Node: "C", Proof: identity.ByCertificate}
	own      = identity.Principal{Kind: identity.KindPartner, Node: "A", Proof: identity.ByProcess}
)

// clock is a limiter's time, which a test sets.
func clock(l *Limiter) *time.Time {
	now := time.Unix(1_000_000, 0)
	l.now = func() time.Time { return now }
	return &now
}

func exceeded(t *testing.T, err error) *Exceeded {
	t.Helper()
	var e *Exceeded
	require.ErrorAs(t, err, &e)
	return e
}

func TestRequests(t *testing.T) {
	l := New(Config{Requests: 2, Burst: 3})
	now := clock(l)
	for range 3 {
		require.NoError(t, l.Request(partnerB))
	}
	e := exceeded(t, l.Request(partnerB))
	assert.Equal(t, 500*time.Millisecond, e.After)
	assert.Equal(t, 1, e.Seconds())
	assert.EqualError(t, e, "too many requests of partner B (limits.requests_per_second of this party); "+
		"try again in 1s")
	require.NoError(t, l.Request(partnerC), "another caller has a budget of its own")
	for range 100 {
		require.NoError(t, l.Request(own), "the party's own processes have no limit")
		_ = l.Request(partnerB)
	}
	*now = now.Add(500 * time.Millisecond)
	require.NoError(t, l.Request(partnerB), "refused requests use nothing up")
	require.Error(t, l.Request(partnerB))
	require.NoError(t, New(Config{}).Request(partnerB))
}

func TestCallersAreForgotten(t *testing.T) {
	l := New(Config{Requests: 1, Burst: 1})
	now := clock(l)
	require.NoError(t, l.Request(partnerB))
	*now = now.Add(forgetAfter + time.Second)
	require.NoError(t, l.Request(partnerC))
	assert.Len(t, l.callers, 1)
}

func TestUploads(t *testing.T) {
	alice := identity.Principal{Kind: identity.KindClient, Name: "alice"}
	bob := identity.Principal{Kind: identity.KindClient, Name: "bob"}
	l := New(Config{Uploads: 1, UploadBytes: 100})
	now := clock(l)
	release, err := l.Upload(alice)
	require.NoError(t, err)
	_, err = l.Upload(alice)
	assert.Equal(t, "limits.uploads", exceeded(t, err).Field)
	_, err = l.Upload(bob)
	require.NoError(t, err)
	release()
	release()
	_, err = l.Upload(alice)
	require.NoError(t, err)
	_, err = l.Upload(alice)
	require.Error(t, err, "a second release of the same upload frees nothing")

	require.NoError(t, l.Uploaded(alice, 60))
	*now = now.Add(time.Hour)
	require.NoError(t, l.Uploaded(alice, 40))
	assert.Equal(t, 23*time.Hour, exceeded(t, l.Uploaded(alice, 1)).After)
	require.NoError(t, l.Uploaded(bob, 100))
	*now = now.Add(23 * time.Hour)
	require.NoError(t, l.Uploaded(alice, 100))
}

func TestStreams(t *testing.T) {
	alice := identity.Principal{Kind: identity.KindClient, Name: "alice"}
	l := New(Config{Streams: 1})
	now := clock(l)
	release, err := l.Stream(alice)
	require.NoError(t, err)
	*now = now.Add(2 * forgetAfter)
	_, err = l.Stream(identity.Principal{Kind: identity.KindClient, Name: "bob"})
	require.NoError(t, err)
	_, err = l.Stream(alice)
	assert.Equal(t, "limits.event_streams", exceeded(t, err).Field, "an open stream is not forgotten")
	release()
	release()
	_, err = l.Stream(alice)
	require.NoError(t, err)
	_, err = l.Stream(alice)
	require.Error(t, err, "a second release of the same stream frees nothing")
}

// serve serves a handler on loopback, with the caller that the header "caller" names.
func serve(t *testing.T, l *Limiter, next http.Handler) *httptest.Server {
	t.Helper()
	limited := l.Handler(next, RefuseText)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := identity.Principal{Kind: identity.KindPartner, Node: r.Header.Get("caller")}
		limited.ServeHTTP(w, r.WithContext(identity.With(r.Context(), p)))
	}))
	t.Cleanup(server.Close)
	return server
}

func post(t *testing.T, url, caller string, body []byte) (status int, retryAfter string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(body))
	require.NoError(t, err)
	r.Header.Set("caller", caller)
	response, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	_, _ = io.Copy(io.Discard, response.Body)
	require.NoError(t, response.Body.Close())
	return response.StatusCode, response.Header.Get("Retry-After")
}

// TestFloodHarmsNoOther has one caller send as fast as it can to a handler with a scarce resource. All
// requests of another caller are served, and wait for few of its requests. Without limits each would wait for
// those of all 16 flooders.
func TestFloodHarmsNoOther(t *testing.T) {
	const perSecond, burst, hold, flooders = 10, 5, 20 * time.Millisecond, 16
	var scarce sync.Mutex // as a database with one writer
	l := New(Config{Requests: perSecond, Burst: burst})
	server := serve(t, l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		scarce.Lock()
		defer scarce.Unlock()
		time.Sleep(hold)
	}))
	var refused, accepted atomic.Int64
	median := func(caller string) (others int64, duration time.Duration) {
		var between []int64
		var took []time.Duration
		for range 25 {
			sent, before := time.Now(), accepted.Load()
			status, _ := post(t, server.URL, caller, nil)
			took, between = append(took, time.Since(sent)), append(between, accepted.Load()-before)
			require.Equal(t, http.StatusOK, status)
			time.Sleep(2*time.Second/perSecond - hold) // its own pace, below its limit
		}
		slices.Sort(took)
		slices.Sort(between)
		return between[len(between)/2], took[len(took)/2]
	}
	_, alone := median("victim")

	stop := make(chan struct{})
	var flood sync.WaitGroup
	began := time.Now()
	for range flooders {
		flood.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				status, after := post(t, server.URL, "flooder", nil)
				if status == http.StatusTooManyRequests {
					assert.Equal(t, "1", after)
					refused.Add(1)
				} else {
					accepted.Add(1)
				}
			}
		})
	}
	others, flooded := median("victim")
	close(stop)
	flood.Wait()
	lasted := time.Since(began)
	t.Logf("flooder: %d accepted, %d refused; victim: median %s alone, %s in the flood", accepted.Load(),
		refused.Load(), alone, flooded)
	assert.Greater(t, refused.Load(), accepted.Load())
	assert.LessOrEqual(t, float64(accepted.Load()), burst+perSecond*(lasted.Seconds()+1))
	// How long that takes depends on the machine.
	assert.Less(t, others, int64(flooders/2), "a request waits for few of the flooder's")
}

// TestTransfer slows a caller down that sends more than its share, and no other.
func TestTransfer(t *testing.T) {
	l := New(Config{TransferBytes: 1 << 20})
	server := serve(t, l, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		assert.NoError(t, err)
		assert.EqualValues(t, 3<<20, n)
	}))
	began := time.Now()
	status, _ := post(t, server.URL, "B", make([]byte, 3<<20))
	assert.Equal(t, http.StatusOK, status)
	assert.GreaterOrEqual(t, time.Since(began), 1900*time.Millisecond, "1 MiB at once, then 1 MiB per second")
	left := l.callers["partner B"].transfer.TokensAt(began) // when the last byte was taken, however long ago
	assert.Less(t, left, float64(1<<19))
	assert.Nil(t, l.callers["partner C"])
}

// TestConnections opens more connections than allowed that send nothing, as slow-loris does. They are closed,
// and another address is served.
func TestConnections(t *testing.T) {
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}),
		ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(Listener(plain, 12, 10)) }()
	t.Cleanup(func() { _ = server.Close() })
	address := plain.Addr().String()

	var idle []net.Conn
	for range 30 {
		c, err := net.Dial("tcp", address)
		require.NoError(t, err)
		t.Cleanup(func() { _ = c.Close() })
		idle = append(idle, c)
	}
	open := 0
	for _, c := range idle {
		require.NoError(t, c.SetReadDeadline(time.Now().Add(300*time.Millisecond)))
		_, err := c.Read(make([]byte, 1))
		if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
			open++
		}
	}
	assert.Equal(t, 10, open)

	other := &http.Client{Transport: &http.Transport{DialContext: (&net.Dialer{
		LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}).DialContext, DisableKeepAlives: true}}
	for range 5 { // closed connections are not counted, once the server has seen their end
		require.Eventually(t, func() bool {
			response, err := other.Get("http://" + address)
			return err == nil && response.Body.Close() == nil
		}, 10*time.Second, 20*time.Millisecond)
	}
	require.NoError(t, idle[0].Close())
	require.Eventually(t, func() bool {
		c, err := net.Dial("tcp", address)
		require.NoError(t, err)
		defer func() { _ = c.Close() }()
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		_ = c.SetReadDeadline(time.Now().Add(time.Second))
		n, _ := c.Read(make([]byte, 10))
		return n > 0
	}, 10*time.Second, 20*time.Millisecond, "the place of a closed connection is free")
}
