package partners

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/internal/certs"
)

// filler is the body of a message, without an end. It counts what was sent of it.
type filler struct{ sent *atomic.Int64 }

func (f filler) Read(b []byte) (int, error) {
	f.sent.Add(int64(len(b)))
	return len(b), nil
}

// TestWaitingMessagesHoldUpNothing has large messages wait unread, all on one connection of HTTP/2. A message
// that is read, and a command, pass them.
func TestWaitingMessagesHoldUpNothing(t *testing.T) {
	const waiting, large = 32, 8 << 20
	ca := newAuthority(t)
	pair, _ := ca.keyPair(t, certs.Leaf{Node: "B"})
	own, _ := ca.keyPair(t, certs.Leaf{Node: "A"})
	d := newDirectory(t, Config{Node: "A", KeyPair: own}, Partner{Node: "B", URL: "https://x", Auth: MTLS,
		Peer: ca.peer("B")})
	var connections sync.Map
	base := serve(t, d, func(w http.ResponseWriter, r *http.Request) {
		connections.Store(r.RemoteAddr, true)
		switch r.URL.Path {
		case "/waits": // as one in the queue of package limits
			<-r.Context().Done()
		case "/message":
			n, err := io.Copy(io.Discard, r.Body)
			assert.NoError(t, err)
			assert.EqualValues(t, large, n)
		}
	})
	c := clientWith(t, pair, func(c *tls.Config) { c.NextProtos = []string{"h2"} })
	c.Timeout = 0 // the waiting ones wait for longer than the others may take
	post := func(ctx context.Context, path string, body io.Reader) error {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, base+path, body)
		if err != nil {
			return err
		}
		answer, err := c.Do(r)
		if err != nil {
			return err
		}
		assert.Equal(t, http.StatusOK, answer.StatusCode)
		assert.Equal(t, 2, answer.ProtoMajor)
		return answer.Body.Close()
	}
	require.NoError(t, post(t.Context(), "/command", nil)) // all use its connection

	ctx, cancel := context.WithCancel(t.Context())
	var sent [waiting]atomic.Int64
	var senders sync.WaitGroup
	defer senders.Wait()
	defer cancel()
	for i := range waiting {
		senders.Go(func() { assert.Error(t, post(ctx, "/waits", filler{&sent[i]})) })
	}
	total := func() (n int64) {
		for i := range sent {
			n += sent[i].Load()
		}
		return n
	}
	// Until they send nothing more. Then the window of their streams or of the connection is used up.
	last, since := int64(-1), time.Now()
	require.Eventually(t, func() bool {
		if n := total(); n != last {
			last, since = n, time.Now()
		}
		return last >= 4<<20 && time.Since(since) > 200*time.Millisecond
	}, 50*time.Second, 10*time.Millisecond)
	t.Logf("%d bytes of %d waiting messages were sent", last, waiting)
	soon, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	require.NoError(t, post(soon, "/message", bytes.NewReader(make([]byte, large))))
	require.NoError(t, post(soon, "/command", bytes.NewReader([]byte(`{"job_id":"J"}`))))
	n := 0
	connections.Range(func(any, any) bool { n++; return true })
	require.Equal(t, 1, n, "connections")
}
