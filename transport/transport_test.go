package transport

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"hutong/transport/wire"
)

// TestPushPop checks each encoding on both sides, on one node and across two.
func TestPushPop(t *testing.T) {
	net := newNetwork(t, Limits{}, "A", "B")
	for _, from := range []string{"A", "B"} {
		for _, sender := range []wire.Encoding{wire.JSON, wire.Protobuf} {
			for _, receiver := range []wire.Encoding{wire.JSON, wire.Protobuf} {
				t.Run(
					fmt.Sprintf("%s to B, %s to %s", from, sender.ContentType(), receiver.ContentType()),
					func(t *testing.T) {
						s := net[from].container(t, "session_1")
						s.enc = sender
						r := net["B"].container(t, "session_1")
						r.enc = receiver
						payload := []byte{0, 1, 0xff, '"', '\n'}
						s.mustPush("B", "guest-host", payload)
						require.Equal(t, payload, r.mustPop("guest-host"))
					},
				)
			}
		}
	}
}

// TestOrderAcrossNodes checks the order of messages from several nodes.
func TestOrderAcrossNodes(t *testing.T) {
	net := newNetwork(t, Limits{}, "A", "B", "C")
	for _, from := range []string{"A", "B", "C"} {
		s := net[from].container(t, "session_1").protobuf()
		for i := range 100 {
			s.mustPush("B", "from-"+from, fmt.Append(nil, i))
		}
	}
	for _, from := range []string{"C", "A", "B"} {
		r := net["B"].container(t, "session_1")
		for i := range 100 {
			require.Equal(t, fmt.Sprint(i), string(r.mustPop("from-"+from)))
		}
	}
}
