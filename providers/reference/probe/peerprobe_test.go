package probe

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong-reference/channel"
	"hutong-reference/transporttest"
)

func config(tr *transporttest.Transport, self, partner string) channel.Config {
	return channel.Config{
		Transport: tr.Address(), SessionID: "s", TaskID: "t", TraceID: "x", Token: "y",
		Self: self, SelfNode: "node-" + self, Partner: partner, PartnerNode: "node-" + partner,
	}
}

func peer(t *testing.T, tr *transporttest.Transport, self, partner string, now func() time.Time) []Check {
	d := openPeer(t.Context(), config(tr, self, partner), 3*time.Second, now)
	defer d.close()
	checks := d.run(time.Second)
	d.finish()
	return checks
}

// both runs both ends. The clock of the second one is ahead.
func both(t *testing.T, tr *transporttest.Transport, ahead time.Duration) (guest, host map[string]Check) {
	other := make(chan []Check, 1)
	go func() {
		other <- peer(t, tr, "host.0", "guest.0", func() time.Time { return time.Now().Add(ahead) })
	}()
	index := func(checks []Check) map[string]Check {
		out := map[string]Check{}
		for _, c := range checks {
			out[c.Name] = c
		}
		return out
	}

	guest = index(peer(t, tr, "guest.0", "host.0", time.Now))
	return guest, index(<-other)
}

func TestClocks(t *testing.T) {
	for _, ahead := range []time.Duration{0, time.Minute, -time.Hour} {
		t.Run(fmt.Sprint(ahead), func(t *testing.T) {
			t.Parallel()
			guest, host := both(t, transporttest.New(t), ahead)
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
					require.Contains(t, c.Why, " ahead of this party's clock, more than 1s")
				} else if want < 0 {
					require.Contains(t, c.Why, "behind")
				}
			}
			require.True(t, guest["transport_to"].OK)
		})
	}
}

// TestNoTransport checks that an error of the transport appears in the results.
func TestNoTransport(t *testing.T) {
	tr := transporttest.New(t)
	tr.Fault = func(verb string, _ int, w http.ResponseWriter, _ *http.Request) bool {
		if verb != "push" {
			return false
		}
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte(`{"code":"E0000000403","message":"no route"}`))
		return true
	}

	guest, _ := both(t, tr, 0)
	require.Contains(t, guest["transport_to"].Why, `E0000000403 "no route"`)
	require.False(t, guest["transport_from"].OK)
	require.NotContains(t, guest, "clock")
}

// TestForgery checks that corrupted or malformed messages fail the check.
func TestForgery(t *testing.T) {
	for name, c := range map[string]struct {
		step string
		send func(ctx context.Context, l *channel.Link) error
		want string
	}{
		"body": {stepHello, func(ctx context.Context, l *channel.Link) error {
			return l.Send(
				ctx, stepHello, hello{Nonce: "n", Digest: make([]byte, 32)}, make([]byte, helloSize),
			)
		}, "arrived corrupted"},
		"format": {stepHello, func(ctx context.Context, l *channel.Link) error {
			return l.Send(ctx, stepHello, "no object", nil)
		}, "hello of host.0"},
	} {
		t.Run(name, func(t *testing.T) {
			tr := transporttest.New(t)
			link, ctx, err := channel.Open(t.Context(), config(tr, "host.0", "guest.0"))
			require.NoError(t, err)
			defer link.Close()
			require.NoError(t, c.send(ctx, link))
			require.NoError(t, link.Send(ctx, stepReceipt, receipt{OK: true}, nil))
			checks := peer(t, tr, "guest.0", "host.0", time.Now)
			require.Len(t, checks, 2)
			require.Contains(t, checks[0].Why, c.want)
			require.True(t, checks[1].OK)
			require.Equal(t, 1, strings.Count(checks[0].Why, c.want))
		})
	}
}
