package link

//lint:file-ignore SA1019 It serves as the keeper does; see there.

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"hutong/internal/httpclient"
)

// linkWithoutReader makes a link as a partner that accepts one connection, and reads nothing after that. It
// sends frames that need no answer.
func linkWithoutReader(t *testing.T, h *holding, node string) {
	t.Helper()
	conn, err := askUpgrade(t.Context(), asNode{httpclient.Direct(), node}, h.url, upgradeLink,
		http.Header{headerID: {node}, headerServices: {"commands"}})
	require.NoError(t, err)
	ended := make(chan struct{})
	var sending sync.WaitGroup
	t.Cleanup(func() { close(ended); sending.Wait(); _ = conn.Close() })
	_, err = io.ReadFull(conn, make([]byte, len(http2.ClientPreface)))
	require.NoError(t, err)
	framer := http2.NewFramer(conn, conn)
	require.NoError(t, framer.WriteSettings(
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30}))
	require.NoError(t, framer.WriteWindowUpdate(0, 1<<30))
	h.awaitLink(t)
	sending.Go(func() {
		for {
			frame, err := framer.ReadFrame()
			if err != nil {
				return
			}
			if request, ok := frame.(*http2.HeadersFrame); ok {
				var head bytes.Buffer
				_ = hpack.NewEncoder(&head).WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
				_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: request.StreamID, EndHeaders: true,
					BlockFragment: head.Bytes()})
				break
			}
		}
		for {
			select {
			case <-ended:
				return
			case <-time.After(pingAfter / 4):
				_ = framer.WritePing(true, [8]byte{})
			}
		}
	})
}

// fill writes to a connection for as long as it lives, and returns when no byte was taken for a while.
func fill(t *testing.T, conn net.Conn) {
	t.Helper()
	var taken atomic.Int64
	var writing sync.WaitGroup
	writing.Go(func() {
		for piece := make([]byte, 4<<10); ; {
			n, err := conn.Write(piece)
			taken.Add(int64(n))
			if err != nil {
				return
			}
		}
	})
	t.Cleanup(func() { _ = conn.Close(); writing.Wait() })
	var before int64
	require.Eventually(t, func() bool {
		now := taken.Load()
		stuck := now > 0 && now == before
		before = now
		return stuck
	}, time.Minute, time.Second)
}

// TestPartnerThatDoesNotRead checks that a link whose partner reads nothing delays neither the links of
// others nor the states, and that it is closed, even if the partner sends something all the time.
func TestPartnerThatDoesNotRead(t *testing.T) {
	t.Parallel()
	h := newHolding(t)
	linkWithoutReader(t, h, "R")
	keep(t, h.url, map[Service]*Listener{Commands: serveEcho(t)})
	h.awaitLink(t)
	conn, err := h.Dial(t.Context(), "R", Commands)
	require.NoError(t, err)
	fill(t, conn)

	done := make(chan struct{})
	go func() {
		defer close(done)
		ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
		defer cancel()
		_, _ = h.Dial(ctx, "R", Commands)
		assert.Len(t, h.States(), 2)
		other, err := h.Dial(t.Context(), partnerNode, Commands)
		if assert.NoError(t, err) {
			requireEcho(t, other, 100)
			_ = other.Close()
		}
	}()
	select {
	case <-done:
	case <-time.After(dialTimeout + time.Second):
		t.Fatal("a link delays the others")
	}
	require.Eventually(t, func() bool { return len(h.States()) == 1 }, 2*(pingAfter+pingTimeout),
		50*time.Millisecond)
}

// TestPartnerThatEndsNothing checks that the streams of connections which were closed end, although the
// partner does not end them.
func TestPartnerThatEndsNothing(t *testing.T) {
	t.Parallel()
	h := newHolding(t)
	conn, err := askUpgrade(t.Context(), asNode{httpclient.Direct(), "R"}, h.url, upgradeLink,
		http.Header{headerID: {"1"}, headerServices: {"commands"}})
	require.NoError(t, err)
	ended := make(chan struct{})
	var serving sync.WaitGroup
	t.Cleanup(func() { close(ended); _ = conn.Close(); serving.Wait() })
	serving.Go(func() {
		(&http2.Server{}).ServeConn(conn, &http2.ServeConnOpts{Handler: http.HandlerFunc(
			func(w http.ResponseWriter, _ *http.Request) {
				_ = http.NewResponseController(w).Flush()
				<-ended
			})})
	})
	h.awaitLink(t)
	for range 20 {
		c, err := h.Dial(t.Context(), "R", Commands)
		require.NoError(t, err)
		require.NoError(t, c.Close())
	}
	h.mu.Lock()
	held := h.links["R"][0]
	h.mu.Unlock()
	require.Eventually(t, func() bool { return held.client.State().StreamsActive == 0 }, 4*closeGrace,
		50*time.Millisecond)
	require.Zero(t, h.States()[0].Connections)
}

// TestLinksAtOnce checks that a partner which asks for many links at once gets no more than the limit.
func TestLinksAtOnce(t *testing.T) {
	t.Parallel()
	h := newHolding(t)
	over := asNode{httpclient.Direct(), "R"}
	var asking sync.WaitGroup
	for range 4 * maxLinks {
		asking.Go(func() {
			conn, err := askUpgrade(t.Context(), over, h.url, upgradeLink,
				http.Header{headerID: {rand.Text()}, headerServices: {"commands"}})
			if err == nil {
				t.Cleanup(func() { _ = conn.Close() })
			}
		})
	}
	asking.Wait()
	for range 4 * maxLinks { // also those that were refused
		h.awaitLink(t)
	}
	links := len(h.States())
	require.NotZero(t, links)
	require.LessOrEqual(t, links, maxLinks)
}

// TestPageOfAGateway checks that the page of a gateway is not shown as the reason of a transport.
func TestPageOfAGateway(t *testing.T) {
	t.Parallel()
	for kind, want := range map[string]string{
		"text/html":                 "answered by something that is not a party's transport: HTTP 502 Bad Gateway, text/html",
		"":                          "answered by something that is not a party's transport: HTTP 502 Bad Gateway, ",
		"text/plain; charset=utf-8": "HTTP 502: <h1>no</h1>",
	} {
		gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Type"] = []string{kind}
			w.WriteHeader(http.StatusBadGateway)
			_, _ = io.WriteString(w, "<h1>no</h1>\r\n")
		}))
		t.Cleanup(gateway.Close)
		_, err := askUpgrade(t.Context(), httpclient.Direct(), gateway.URL, upgradeLink, nil)
		require.EqualError(t, err, want)
	}
}
