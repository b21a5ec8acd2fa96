package transport

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/transport/queue"
	"hutong/transport/status"
)

// newStrictNode returns a node that gives slow callers a short grace.
func newStrictNode(t *testing.T, grace time.Duration) *node {
	tr := open(t, Config{NodeID: "A", Logger: quiet()})
	tr.minRate = minRate{grace: grace, bytesPerSecond: 1 << 40}
	return &node{tr, serve(t, tr)}
}

// TestPopOutlivesGrace checks that the bounds on slow bodies bound neither a pop that waits nor a
// connection's next request.
func TestPopOutlivesGrace(t *testing.T) {
	const grace = 200 * time.Millisecond
	n := newStrictNode(t, grace)
	c := n.container(t, "s")
	for range 3 {
		begin := time.Now()
		require.Equal(t, status.Timeout, c.pop("x", 4*grace).Code)
		require.GreaterOrEqual(t, time.Since(begin), 4*grace)
	}
	got := make(chan []byte)
	go func() { got <- c.mustPop("x") }()
	time.AfterFunc(4*grace, func() { n.container(t, "s").push("A", "x", []byte("m")) })
	require.Equal(t, "m", string(<-got))
}

// TestStalledBodyIsRefused checks the refusal of a body that stalls.
func TestStalledBodyIsRefused(t *testing.T) {
	n := newStrictNode(t, 50*time.Millisecond)
	conn := dial(t, n.url)
	defer conn.Close()
	_, err := fmt.Fprintf(
		conn,
		"POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n"+
			"x-ptp-session-id: s\r\nx-ptp-target-node-id: A\r\n\r\n{",
		pathPush,
	)
	require.NoError(t, err)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusBadRequest, resp.StatusCode)
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Contains(t, string(b), "stalled")
	eventually(t, "nothing is held", func() bool { return n.Stats().Bytes == 0 })
}

// TestStalledReaderIsDisconnected checks that a reader that does not read its answer does not keep the
// message.
func TestStalledReaderIsDisconnected(t *testing.T) {
	n := newStrictNode(t, 2*time.Second)
	large := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
	c := n.container(t, "s").protobuf()
	tr := n.Transport
	s, err := tr.broker.Enter("s")
	require.NoError(t, err)
	defer s.Leave()
	allocation, err := s.Allocate(t.Context(), queue.Inbound, int64(len(large)), "")
	require.NoError(t, err)
	body := tr.broker.NewBody(int64(len(large)), -1)
	_, err = body.Write(large)
	require.NoError(t, err)
	_, err = s.Push("x", "", body, allocation)
	require.NoError(t, err)

	conn := dial(t, n.url)
	defer conn.Close()
	_, err = fmt.Fprintf(conn,
		"POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: 13\r\nx-ptp-session-id: s\r\n\r\n{\"topic\":\"x\"}",
		pathPop)
	require.NoError(t, err)
	eventually(t, "its message was requeued", func() bool { return n.Stats().Returned == 1 })
	require.True(t, bytes.Equal(large, c.mustPop("x")))
}
