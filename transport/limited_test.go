package transport

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/transport/status"
	"hutong/transport/wire"
)

// TestPartnerThatIsBusy has a partner refuse a message beyond its limit. The next try comes when the partner
// asked for it, unless that is after the message's deadline.
func TestPartnerThatIsBusy(t *testing.T) {
	var mu sync.Mutex
	var tries []time.Time
	after, refusals := "1", 1
	partner := open(t, Config{NodeID: "B", Logger: quiet()})
	url := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		tries = append(tries, time.Now())
		busy := len(tries) <= refusals
		mu.Unlock()
		if busy {
			w.Header().Set("Retry-After", after)
			http.Error(w, "too many messages", http.StatusTooManyRequests)
			return
		}
		partner.Handler().ServeHTTP(w, r)
	}))
	t.Cleanup(url.Close)
	sender := open(t, Config{NodeID: "A", Logger: quiet(),
		Route: func(string) (string, bool) { return url.URL, true }})
	c := (&node{url: serve(t, sender)}).container(t, "s")
	require.Equal(t, status.OK, c.push("B", "x", []byte("1")).Code)
	require.Len(t, tries, 2)
	require.GreaterOrEqual(t, tries[1].Sub(tries[0]), time.Second)

	tries, after, refusals = nil, "60", 3
	c = c.with(wire.HeaderTimeout, "2000")
	require.Equal(t, status.OK, c.push("B", "x", []byte("2")).Code)
	require.Len(t, tries, 4)

	tries, after, refusals = nil, "60", 1000
	c = c.with(wire.HeaderTimeout, "300")
	answer := c.push("B", "x", []byte("3"))
	require.Equal(t, status.Network, answer.Code)
	require.NotContains(t, answer.Message, "not the partner's transport")
}

// TestArrival checks that a call which waited before it reached the transport has the rest of its time only.
func TestArrival(t *testing.T) {
	tr := open(t, Config{NodeID: "B", Logger: quiet()})
	r := httptest.NewRequest(http.MethodPost, pathInvoke, nil)
	r.Header.Set(wire.HeaderTimeout, "3000")
	r.Header.Set("X_Ptp_Session_Id", "s")
	id, atMost := SessionOf(r)
	require.Equal(t, "s", id)
	require.Equal(t, 3*time.Second, atMost)
	began := time.Now()
	var deadline time.Time
	WithArrival(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(50 * time.Millisecond) // the wait
		var err error
		deadline, err = tr.pushDeadline(tr.newExchange(w, r))
		require.NoError(t, err)
	})).ServeHTTP(httptest.NewRecorder(), r)
	require.WithinRange(t, deadline, began.Add(3*time.Second), time.Now().Add(2950*time.Millisecond))

	r.Header.Set(wire.HeaderTimeout, "soon")
	_, atMost = SessionOf(r)
	require.Zero(t, atMost)
}

// TestPacedStreamStops has the second message of a stream wait for its sender's rate while the transport
// stops.
func TestPacedStreamStops(t *testing.T) {
	tr := open(t, Config{NodeID: "B", Logger: quiet()})
	waits := make(chan string)
	pace := func(ctx context.Context, session string) error {
		waits <- session
		<-ctx.Done()
		return ctx.Err()
	}
	r := httptest.NewRequest(http.MethodPost, pathStream,
		strings.NewReader(strings.Repeat(`{"topic":"x","payload":"eA=="}`+"\n", 2)))
	for name, value := range map[string]string{"Content-Type": wire.NDJSONType, wire.HeaderURI: pathPush,
		wire.HeaderVersion: wire.PassThrough, wire.HeaderSessionID: "s", wire.HeaderTargetNodeID: "B"} {
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tr.Handler().ServeHTTP(w, r.WithContext(WithPace(r.Context(), pace)))
	}()
	require.Equal(t, "s", <-waits)
	tr.Stop()
	<-ended
	require.Contains(t, w.Body.String(), status.OK)
	require.Contains(t, w.Body.String(), status.NoInstance)
}
