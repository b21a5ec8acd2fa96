package transport

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/transport/queue"
	"hutong/transport/status"
)

// TestConfirmBeforeAcknowledgement checks that calls which have waited are not acknowledged by a process
// whose spool was taken over meanwhile: a push that waited for its session, and a pop that waited for a
// message.
func TestConfirmBeforeAcknowledgement(t *testing.T) {
	fenced := status.Errorf(status.NoInstance, "another process has taken over the spool")
	var good atomic.Int64 // how many more calls of Confirm succeed
	const always = 1 << 40
	good.Store(always)
	limits := Limits{SessionBytes: 4 * mib, MessageBytes: mib, PushTimeout: time.Minute}
	tr := open(t, Config{NodeID: "B", Logger: quiet(), Limits: limits, Confirm: func(context.Context) error {
		if good.Add(-1) < 0 {
			return fenced
		}
		return nil
	}})
	n := &node{Transport: tr, url: serve(t, tr)}
	c := n.container(t, "s")
	s, err := tr.broker.Enter("s")
	require.NoError(t, err)
	defer s.Leave()
	answers := make(chan status.Code, 1)

	// A pop waits.
	go func() { answers <- c.pop("x", time.Minute).Code }()
	eventually(t, "the pop waits", func() bool { return tr.Stats().Readers == 1 })
	good.Store(0)
	allocation, err := s.Allocate(t.Context(), queue.Inbound, 1+queue.MessageOverhead, "")
	require.NoError(t, err)
	body := tr.broker.NewBody(mib)
	_, err = body.Write([]byte("1"))
	require.NoError(t, err)
	_, err = s.Push("x", "", body, allocation)
	require.NoError(t, err)
	require.Equal(t, status.NoInstance, <-answers)
	require.Equal(t, status.NoInstance, c.peek("x").Code)
	require.Equal(t, status.NoInstance, c.peek("empty").Code)
	require.Equal(t, status.NoInstance, c.release("empty").Code)
	good.Store(always)
	require.Equal(t, "1", string(c.mustPop("x")), "it was not lost")

	// A push waits. It is refused before it is in its queue, and otherwise before it is acknowledged.
	for range 3 {
		c.mustPush("B", "full", make([]byte, mib))
	}
	go func() { answers <- c.push("B", "x", make([]byte, mib)).Code }()
	eventually(t, "the push waits", func() bool { return tr.Stats().Writers == 1 })
	good.Store(0)
	require.NoError(t, s.ClearTopic("full"))
	require.Equal(t, status.NoInstance, <-answers)
	require.Zero(t, tr.Stats().Messages)
	good.Store(1)
	require.Equal(t, status.NoInstance, c.push("B", "x", []byte("2")).Code)
	require.EqualValues(t, 1, tr.Stats().Messages)
}
