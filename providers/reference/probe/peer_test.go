package probe

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong-reference/brokertest"
	"hutong-reference/channel"
)

func config(b *brokertest.Broker, self, partner string) channel.Config {
	return channel.Config{
		Transport: b.Address(), SessionID: "s", TaskID: "t", TraceID: "x", Token: "y",
		Self: self, SelfNode: "node-" + self, Partner: partner, OtherNode: "node-" + partner,
	}
}

func peer(t *testing.T, b *brokertest.Broker, self, partner string, now func() time.Time) []Check {
	d := open(t.Context(), config(b, self, partner), 3*time.Second, now)
	defer d.close()
	checks := d.run(time.Second)
	d.done()
	return checks
}

// both runs the two ends, the second with a clock that is ahead.
func both(t *testing.T, b *brokertest.Broker, ahead time.Duration) (guest, host map[string]Check) {
	other := make(chan []Check, 1)
	go func() {
		other <- peer(t, b, "host.0", "guest.0", func() time.Time { return time.Now().Add(ahead) })
	}()
	index := func(checks []Check) map[string]Check {
		out := map[string]Check{}
		for _, c := range checks {
			out[c.Name] = c
		}
		return out
	}
	guest = index(peer(t, b, "guest.0", "host.0", time.Now))
	return guest, index(<-other)
}

func TestClocks(t *testing.T) {
	for _, ahead := range []time.Duration{0, time.Minute, -time.Hour} {
		t.Run(fmt.Sprint(ahead), func(t *testing.T) {
			t.Parallel()
			guest, host := both(t, brokertest.New(t), ahead)
			for who, c := range map[string]Check{"host.0": guest["clock"], "guest.0": host["clock"]} {
				want := ahead
				if who == "guest.0" {
					want = -ahead
				}
				require.Equal(t, who, c.Peer)
				require.NotNil(t, c.Offset)
				require.InDelta(t, float64(want.Milliseconds()), *c.Offset, *c.Uncertainty+1)
				require.Equal(t, ahead == 0, c.OK)
				if want > 0 {
					require.Contains(t, c.Why, " ahead of the one here, more than 1s")
				} else if want < 0 {
					require.Contains(t, c.Why, "behind")
				}
			}
			require.True(t, guest["transport_to"].OK)
		})
	}
}

// A transport that is out of order is told as such.
func TestNoTransport(t *testing.T) {
	b := brokertest.New(t)
	b.Fault = func(verb string, _ int, w http.ResponseWriter, _ *http.Request) bool {
		if verb != "push" {
			return false
		}
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte(`{"code":"E0000000403","message":"no route"}`))
		return true
	}
	guest, _ := both(t, b, 0)
	require.Contains(t, guest["transport_to"].Why, `E0000000403 "no route"`)
	require.False(t, guest["transport_from"].OK)
	require.NotContains(t, guest, "clock")
}

// What arrives otherwise than it was sent is not taken for good.
func TestForgery(t *testing.T) {
	for name, c := range map[string]struct {
		step string
		send func(ctx context.Context, l *channel.Link) error
		want string
	}{
		"body": {stepHello, func(ctx context.Context, l *channel.Link) error {
			return l.Send(ctx, stepHello, hello{Nonce: "n", Digest: make([]byte, 32)}, make([]byte, helloSize))
		}, "arrived changed"},
		"form": {stepHello, func(ctx context.Context, l *channel.Link) error {
			return l.Send(ctx, stepHello, "no object", nil)
		}, "hello of host.0"},
	} {
		t.Run(name, func(t *testing.T) {
			b := brokertest.New(t)
			link, ctx, err := channel.Open(t.Context(), config(b, "host.0", "guest.0"))
			require.NoError(t, err)
			defer link.Close()
			require.NoError(t, c.send(ctx, link))
			require.NoError(t, link.Send(ctx, stepHeard, heard{OK: true}, nil))
			checks := peer(t, b, "guest.0", "host.0", time.Now)
			require.Len(t, checks, 2)
			require.Contains(t, checks[0].Why, c.want)
			require.True(t, checks[1].OK)
			require.Equal(t, 1, strings.Count(checks[0].Why, c.want))
		})
	}
}
