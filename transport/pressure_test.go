package transport

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/transport/queue"
	"hutong/transport/status"
	"hutong/transport/wire"
)

// TestBackPressureOverHTTP pushes twice the budget to a reader that does not read. Memory stays within the
// budget, another session is not affected, and finally all messages arrive.
func TestBackPressureOverHTTP(t *testing.T) {
	const budget, size, messages = 16 * mib, mib, 32
	limits := Limits{SessionBytes: budget, MessageBytes: 2 * mib, PushTimeout: time.Minute}
	for _, from := range []string{"A", "B"} {
		t.Run("from "+from, func(t *testing.T) {
			net := newNetwork(t, limits, "A", "B")
			body := protoPush("x", bytes.Repeat([]byte("m"), size))
			runtime.GC()
			before := heap()
			var wg sync.WaitGroup
			for range messages {
				c := net[from].container(t, "stuck").protobuf()
				wg.Go(func() {
					_, out, err := c.post(context.Background(), pathPush, "B", body)
					if err != nil || out.Code != status.OK {
						t.Errorf("push: %v %s %s", err, out.Code, out.Message)
					}
				})
			}
			eventually(t, "the queue is full", func() bool {
				st, _ := net["B"].SessionStats("stuck")
				return st.Messages == 15 && net["B"].Stats().Writers > 0
			})
			runtime.GC()
			grown := heap() - before
			// The inbox at B, and as much again in transit at A if A pushes.
			limit := int64(budget + 8*mib)
			if from == "A" {
				limit += budget
			}
			require.Less(t, grown, limit, "heap")

			// Another session is not affected.
			other := net[from].container(t, "other").protobuf()
			for range 2 * budget / size {
				_, out, err := other.post(t.Context(), pathPush, "B", body)
				require.NoError(t, err)
				require.Equal(t, status.OK, out.Code, out.Message)
				require.Len(t, net["B"].container(t, "other").protobuf().mustPop("x"), size)
			}

			r := net["B"].container(t, "stuck").protobuf()
			for range messages {
				require.Len(t, r.mustPop("x"), size)
			}
			wg.Wait()
			for _, n := range net {
				require.LessOrEqual(t, n.Stats().PeakBytes, int64(budget+4*mib))
				eventually(t, "no message is held",
					func() bool { return n.Stats().Bytes <= 2*(queue.TopicOverhead+1) })
			}
		})
	}
}

func heap() int64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestBufferFullAtDeadline checks the refusal of a push that got no allocation in time.
func TestBufferFullAtDeadline(t *testing.T) {
	net := newNetwork(t,
		Limits{SessionBytes: mib, MessageBytes: mib / 4, PushTimeout: 2 * time.Second}, "A", "B")
	for _, from := range []string{"A", "B"} {
		c := net[from].container(t, "from "+from).protobuf()
		var out wire.Answer
		for i := 0; out.Code != status.BufferFull; i++ {
			require.Less(t, i, 5)
			out = c.push("B", "x", make([]byte, mib/4))
			if out.Code != status.OK {
				require.Equal(t, status.BufferFull, out.Code, out.Message)
			}
		}
		require.Equal(t, status.OK, c.release("").Code)
	}
}

// TestStalledBodiesHoldOneSession checks that senders that announce large bodies and do not send them use up
// the budget of their own session only.
func TestStalledBodiesHoldOneSession(t *testing.T) {
	net := newNetwork(t,
		Limits{SessionBytes: 4 * mib, MessageBytes: mib, PushTimeout: 2 * time.Second}, "A")
	n := net["A"]
	var conns []io.Closer
	for range 10 {
		conn := dial(t, n.url)
		conns = append(conns, conn)
		_, err := fmt.Fprintf(
			conn,
			"POST %s HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-protobuf\r\nContent-Length: %d\r\n"+
				"x_ptp_session_id: stalled\r\nx_ptp_target_node_id: A\r\n\r\n",
			pathPush,
			mib,
		)
		require.NoError(t, err)
	}
	eventually(t, "they hold their budget",
		func() bool { st, _ := n.SessionStats("stalled"); return st.InboundBytes > 3*mib })
	out := n.container(t, "stalled").push("A", "x", make([]byte, mib*3/4))
	require.Equal(t, status.BufferFull, out.Code, out.Message)
	n.container(t, "other").mustPush("A", "x", make([]byte, mib/2))
	for _, c := range conns {
		require.NoError(t, c.Close())
	}
	eventually(t, "all bytes are released", func() bool { _, ok := n.SessionStats("stalled"); return !ok })
}

func dial(t *testing.T, url string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	require.NoError(t, err)
	return conn
}
