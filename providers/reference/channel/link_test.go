package channel_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"hutong-reference/channel"
	"hutong-reference/transporttest"
)

func config(tr *transporttest.Transport, task, self, partner string) channel.Config {
	return channel.Config{
		Transport: tr.Address(), SessionID: "session", TaskID: task, TraceID: "trace", Token: "token",
		Self: self, SelfNode: "node", Partner: partner, PartnerNode: "node", // both roles on one node
		TransportTimeout: 20 * time.Second,
	}
}

type ends struct {
	guest, host       *channel.Link
	guestCtx, hostCtx context.Context
}

func open(t *testing.T, tr *transporttest.Transport, task string) ends {
	var e ends
	var err error
	e.guest, e.guestCtx, err = channel.Open(t.Context(), config(tr, task, "guest.0", "host.0"))
	require.NoError(t, err)
	t.Cleanup(e.guest.Close)
	e.host, e.hostCtx, err = channel.Open(t.Context(), config(tr, task, "host.0", "guest.0"))
	require.NoError(t, err)
	t.Cleanup(e.host.Close)
	return e
}

type head struct {
	N int `json:"n"`
}

// talk sends messages of several sizes in both directions at once. It checks that they arrive complete and in
// order, and calls passed for each.
func (e ends) talk(t *testing.T, salt byte, passed func()) {
	sizes := []int{0, 1, 100, channel.ChunkSize, 2*channel.ChunkSize + 17, 5}
	body := func(n, size int) []byte {
		b := make([]byte, size)
		rng := rand.NewChaCha8([32]byte{byte(n), salt})
		_, _ = rng.Read(b)
		return b
	}
	var g errgroup.Group
	for _, way := range []struct {
		from, to       *channel.Link
		fromCtx, toCtx context.Context
	}{{e.guest, e.host, e.guestCtx, e.hostCtx}, {e.host, e.guest, e.hostCtx, e.guestCtx}} {
		g.Go(func() error {
			for n, size := range sizes {
				if err := way.from.Send(way.fromCtx, "data", head{n}, body(n, size)); err != nil {
					return err
				}
			}
			return nil
		})

		g.Go(func() error {
			for n, size := range sizes {
				var h head
				got, err := way.to.Receive(way.toCtx, "data", &h)
				if err != nil {
					return err
				}
				if h.N != n || !bytes.Equal(got, body(n, size)) {
					return errors.New("received another message than the one that was sent")
				}
				passed()
			}
			return nil
		})
	}

	assert.NoError(t, g.Wait()) // not require: some tests talk in a goroutine of their own
}

func TestLink(t *testing.T) {
	for _, payload := range []bool{false, true} {
		tr := transporttest.New(t)
		tr.UsePayloadField = payload
		first, second := open(t, tr, "task-1"), open(t, tr, "task-2") // two tasks of one session
		var g errgroup.Group
		g.Go(func() error { first.talk(t, 1, func() {}); return nil })
		g.Go(func() error { second.talk(t, 2, func() {}); return nil })
		require.NoError(t, g.Wait())
		require.Empty(t, tr.MissingHeaders())
		for _, m := range tr.Messages() {
			require.LessOrEqual(t, len(m.Payload), channel.ChunkSize)
			require.Regexp(t, `^task-[12]/(guest.0/host.0|host.0/guest.0)/data$`, m.Topic)
		}
		first.guest.Close()
		require.ElementsMatch(
			t, []string{"task-1/host.0/guest.0/abort", "task-1/host.0/guest.0/data"}, tr.Released(),
		)
	}
}

// TestTransportMisbehaves checks that a link hides a transport that fails at times, refuses for a while, or
// loses responses.
func TestTransportMisbehaves(t *testing.T) {
	code := func(w http.ResponseWriter, code string) bool {
		_, _ = w.Write([]byte(`{"code":"` + code + `","message":"not now"}`))
		return true
	}
	for name, setup := range map[string]func(tr *transporttest.Transport){
		"5xx": func(tr *transporttest.Transport) {
			tr.Fault = func(_ string, n int, w http.ResponseWriter, _ *http.Request) bool {
				if n%3 != 1 {
					return false
				}
				w.WriteHeader(http.StatusBadGateway)
				return true
			}
		},
		"buffer full": func(tr *transporttest.Transport) {
			tr.Fault = func(verb string, n int, w http.ResponseWriter, _ *http.Request) bool {
				return verb == "push" && n%2 == 0 && code(w, "E0000000700")
			}
		},
		"empty at once": func(tr *transporttest.Transport) {
			tr.Fault = func(verb string, n int, w http.ResponseWriter, _ *http.Request) bool {
				return verb == "pop" && n%2 == 0 && code(w, "E0000000601")
			}
		},
		"breaks connections": func(tr *transporttest.Transport) {
			tr.Fault = func(_ string, n int, _ http.ResponseWriter, _ *http.Request) bool {
				if n%3 == 0 {
					panic(http.ErrAbortHandler)
				}
				return false
			}
		},
		"loses responses": func(tr *transporttest.Transport) {
			tr.DropResponse = func(verb string, n int) bool { return verb != "release" && n%3 == 0 }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tr := transporttest.New(t)
			setup(tr)
			open(t, tr, "task-1").talk(t, 0, func() {})
		})
	}
}

// TestRepeatedPush uses a transport without message ids: it delivers a repeated push twice, and the receiver
// drops one.
func TestRepeatedPush(t *testing.T) {
	tr := transporttest.New(t)
	tr.IgnoreMessageIDs = true
	tr.DropResponse = func(verb string, n int) bool { return verb == "push" && n%2 == 0 }
	e := open(t, tr, "task-1")
	for n := range 6 {
		require.NoError(t, e.guest.Send(e.guestCtx, "data", head{n}, nil))
	}
	for n := range 6 {
		var h head
		_, err := e.host.Receive(e.hostCtx, "data", &h)
		require.NoError(t, err)
		require.Equal(t, n, h.N)
	}
	require.Greater(t, len(tr.Messages()), 6, "some pushes arrived twice")
}

// TestPartnerRestarts checks that a restart of the partner in the middle of a task is detected.
func TestPartnerRestarts(t *testing.T) {
	tr := transporttest.New(t)
	e := open(t, tr, "task-1")
	require.NoError(t, e.guest.Send(e.guestCtx, "key", head{1}, nil))
	_, err := e.host.Receive(e.hostCtx, "key", &head{})
	require.NoError(t, err)
	again, ctx, err := channel.Open(t.Context(), config(tr, "task-1", "guest.0", "host.0"))
	require.NoError(t, err)
	defer again.Close()
	require.NoError(t, again.Send(ctx, "data", head{1}, nil))
	_, err = e.host.Receive(e.hostCtx, "data", &head{})
	require.ErrorContains(t, err, "data of guest.0: it comes from another process")
}

// TestAbort checks that a partner's failure ends all work here. The reason arrives only if it may be shared.
func TestAbort(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"shared": {
			errors.Join(errors.New("x"), channel.Errorf("parameter id: wrong")),
			"guest.0 failed: parameter id: wrong",
		},
		"private": {errors.New("open /secret/path"), "guest.0 failed: an internal error; see its log"},
	} {
		t.Run(name, func(t *testing.T) {
			e := open(t, transporttest.New(t), "task-1")
			waits := make(chan error, 1)
			go func() {
				_, err := e.host.Receive(e.hostCtx, "data", &head{})
				waits <- err
			}()
			e.guest.Abort(c.err, time.Second)
			err := <-waits
			var partner *channel.PartnerError
			require.ErrorAs(t, err, &partner)
			require.Equal(t, c.want, partner.Error())
			<-e.hostCtx.Done()
			require.ErrorAs(t, context.Cause(e.hostCtx), &partner)
			// It does not report the failure back to the partner that caused it.
			e.host.Abort(err, time.Second)
			require.NoError(t, e.guestCtx.Err())
		})
	}
}

func TestRefusals(t *testing.T) {
	tr := transporttest.New(t)
	c := config(tr, "task-1", "guest.0", "host.0")
	c.PartnerNode = ""
	_, _, err := channel.Open(t.Context(), c)
	require.ErrorContains(t, err, "config.node_id of host.0 is missing")

	// A request that is refused permanently is not repeated.
	tr.Fault = func(verb string, _ int, w http.ResponseWriter, _ *http.Request) bool {
		if verb != "push" {
			return false
		}
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte(`{"code":"E0000000618","message":"node unknown"}`))
		return true
	}

	e := open(t, tr, "task-1")
	began := time.Now()
	err = e.guest.Send(e.guestCtx, "data", head{}, nil)
	require.ErrorContains(t, err, `E0000000618 "node unknown"`)
	require.Less(t, time.Since(began), 5*time.Second)
}

func TestReceiveTimeout(t *testing.T) {
	tr := transporttest.New(t)
	tr.Fault = func(verb string, _ int, w http.ResponseWriter, _ *http.Request) bool {
		if verb == "pop" {
			_, _ = w.Write([]byte(`{"code":"E0000000601"}`))
		}
		return verb == "pop"
	}
	c := config(tr, "task-1", "guest.0", "host.0")
	c.ReceiveTimeout = 50 * time.Millisecond
	link, ctx, err := channel.Open(t.Context(), c)
	require.NoError(t, err)
	defer link.Close()
	_, err = link.Receive(ctx, "data", &head{})
	require.ErrorContains(t, err, "data of host.0: no message arrived within 50ms")
}

func TestMalformedResponse(t *testing.T) {
	tr := transporttest.New(t)
	tr.Fault = func(verb string, _ int, w http.ResponseWriter, _ *http.Request) bool {
		if verb == "push" {
			_, _ = w.Write([]byte(`<html>`))
		}
		return verb == "push"
	}
	e := open(t, tr, "task-1")
	err := e.guest.Send(e.guestCtx, strings.Repeat("s", 3), head{}, nil)
	require.ErrorContains(t, err, "with a malformed body")
}
