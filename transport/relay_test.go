package transport

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/gate"
	"hutong/transport/ptp"
	"hutong/transport/status"
	"hutong/transport/wire"
)

// throughRelay makes newNetwork put a relay before each node, a transport of the same party that holds no
// session. All calls then reach the node through it.
var throughRelay bool

// relayTo starts a transport that passes all calls on to another one, and returns its URL.
func relayTo(t testing.TB, holder *Transport, limits Limits) string {
	t.Helper()
	to := passOn(t, holder, holder.VolumeID())
	return serve(t, open(t, Config{NodeID: holder.nodeID, Logger: quiet(), Limits: limits,
		Elsewhere: func(context.Context, string) (http.Handler, error) { return to, nil }}))
}

// passOn returns a handler that passes calls on to a transport, for a volume.
func passOn(t testing.TB, holder *Transport, volume string) http.Handler {
	t.Helper()
	keys, err := gate.NewKeys(bytes.Repeat([]byte{1}, gate.MinSecret))
	require.NoError(t, err)
	srv := httptest.NewUnstartedServer(nil)
	srv.Config = holder.Server().Server
	srv.Config.Handler = keys.Accept(holder.RelayHandler(), func(_ *http.Request, err error) { t.Error(err) })
	srv.Start()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		require.NoError(t, holder.Close(ctx))
		srv.Close()
	})
	target, err := url.Parse(srv.URL + RelayPath(volume))
	require.NoError(t, err)
	return gate.NewRemote(keys, quiet(), nil).To(target)
}

// TestThroughRelay repeats tests of the protocol where each call comes to a transport that does not hold its
// session.
func TestThroughRelay(t *testing.T) {
	throughRelay = true
	defer func() { throughRelay = false }()
	for name, test := range map[string]func(*testing.T){
		"InvokeForms": TestInvokeForms, "MessageIDs": TestMessageIDs, "HTTPStream": TestHTTPStream,
		"StreamEdges": TestStreamEdges, "GRPC": TestGRPC, "GRPCRefusals": TestGRPCRefusals,
		"GRPCInvoke": TestGRPCInvoke, "GRPCStream": TestGRPCStream, "GRPCPopEnds": TestGRPCPopEnds,
		"AnswerFields": TestAnswerFields, "ChunkedBodies": TestChunkedBodies,
	} {
		t.Run(name, test)
	}
}

// TestRelayBackPressure checks that a relay holds nothing of a message: while its receiver's session is full,
// the relay reads no more of the body than the network's buffers take.
func TestRelayBackPressure(t *testing.T) {
	limits := Limits{SessionBytes: 128 * mib, MessageBytes: 32 * mib, PushTimeout: time.Minute}
	holder := open(t, Config{NodeID: "B", Logger: quiet(), Limits: limits})
	n := &node{Transport: holder, url: relayTo(t, holder, limits)}
	c := n.container(t, "s").protobuf()
	large := make([]byte, 30*mib) // the buffers of two connections can hold 20 MB
	for range 4 {
		c.mustPush("B", "x", large)
	}
	body := c.pushBody("x", large)
	var read atomic.Int64
	slow := readerFunc(func(p []byte) (int, error) {
		at := int(read.Load())
		if at == len(body) {
			return 0, io.EOF
		}
		n := copy(p, body[at:])
		read.Add(int64(n))
		return n, nil
	})
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, n.url+pathPush, slow)
	require.NoError(t, err)
	r.ContentLength = int64(len(body))
	for name, value := range map[string]string{"Content-Type": wire.Protobuf.ContentType(),
		wire.HeaderSessionID: "s", wire.HeaderTargetNodeID: "B"} {
		r.Header.Set(name, value)
	}
	answered := make(chan error, 1)
	go func() {
		resp, err := c.client.Do(r)
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				err = fmt.Errorf("HTTP %d", resp.StatusCode)
			}
		}
		answered <- err
	}()
	eventually(t, "the push waits", func() bool { return holder.Stats().Writers == 1 })
	before := int64(-1)
	require.Eventually(t, func() bool { // no more is read
		now := read.Load()
		same := now == before
		before = now
		return same
	}, 20*time.Second, 300*time.Millisecond)
	select {
	case err := <-answered:
		require.Fail(t, "the push does not wait", "%v", err)
	default:
	}
	require.Less(t, read.Load(), int64(len(body)))
	for range 4 {
		c.mustPop("x")
	}
	require.NoError(t, <-answered)
	require.EqualValues(t, len(body), read.Load())
}

// TestStuckPushesBlockNoRelay checks that pushes of gRPC to sessions that are full do not hold up those to
// others, although all of them come to the transport on one connection.
func TestStuckPushesBlockNoRelay(t *testing.T) {
	const stuck = 24 // with their messages, more than the usual window of a connection
	limits := Limits{SessionBytes: mib, MessageBytes: mib / 4, TotalBytes: 2 * stuck * mib,
		PushTimeout: time.Minute}
	elsewhere := func(context.Context, string) (http.Handler, error) { return nil, nil }
	holder := open(t, Config{NodeID: "B", Logger: quiet(), Limits: limits, Elsewhere: elsewhere})
	n := &node{Transport: holder, url: relayTo(t, holder, limits)}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	payload := make([]byte, mib/4)
	push := func(session string) error {
		_, err := n.ptp(t).Push(fateContext(ctx, session, "B", "B"),
			&ptp.PushInbound{Topic: "x", Payload: payload})
		return err
	}
	for i := range stuck {
		for range 3 {
			require.NoError(t, push(fmt.Sprint("stuck-", i)))
		}
		go func() { _ = push(fmt.Sprint("stuck-", i)) }()
	}
	eventually(t, "all sessions are full", func() bool { return holder.Stats().Writers == stuck })
	limited, cancelPush := context.WithTimeout(ctx, 20*time.Second)
	defer cancelPush()
	for range 3 {
		out, err := n.ptp(t).Push(fateContext(limited, "free", "B", "B"),
			&ptp.PushInbound{Topic: "x", Payload: payload})
		require.NoError(t, err)
		require.Equal(t, string(status.OK), out.Code)
	}
	require.Equal(t, stuck, holder.Stats().Writers)
}

// pushInside sends a push that names its session only inside its body.
func pushInside(ctx context.Context, t testing.TB, c *caller, payload []byte) (wire.Answer, error) {
	t.Helper()
	_, out, err := c.with(wire.HeaderURI, pathPush).post(ctx, pathInvoke, "B",
		fmt.Appendf(nil, `{"metadata":{"x-ptp-session-id":"s"},"payload":%q}`, b64(c.pushBody("x", payload))))
	return out, err
}

// TestRelayedPushesAreBounded checks that pushes which were received here, and wait at the transport that
// holds their session, count here as no more than that session may have in transit; and that nothing of them
// stays if that transport breaks its answers off.
func TestRelayedPushesAreBounded(t *testing.T) {
	limits := Limits{SessionBytes: mib, MessageBytes: mib / 4, PushTimeout: time.Minute}
	waiting, released := make(chan struct{}, 8), make(chan struct{})
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		waiting <- struct{}{}
		<-released
		w.Header().Set("Content-Length", "1000")
		_, _ = io.WriteString(w, "x")
		panic(http.ErrAbortHandler)
	}))
	defer broken.Close()
	keys, err := gate.NewKeys(bytes.Repeat([]byte{1}, gate.MinSecret))
	require.NoError(t, err)
	target, err := url.Parse(broken.URL)
	require.NoError(t, err)
	to := gate.NewRemote(keys, quiet(), nil).To(target)
	spool := t.TempDir()
	relay := open(t, Config{NodeID: "B", Spool: spool, Logger: quiet(), Limits: limits,
		Elsewhere: func(context.Context, string) (http.Handler, error) { return to, nil }})
	c := (&node{url: serve(t, relay)}).container(t, "")
	answers := make(chan wire.Answer, 8)
	for range cap(answers) { // together more than a session may hold
		go func() {
			out, err := pushInside(context.Background(), t, c, make([]byte, mib/6))
			if err != nil {
				t.Error(err)
			}
			answers <- out
		}()
	}
	eventually(t, "each waits or is refused", func() bool {
		return len(waiting)+len(answers) == cap(waiting) && len(answers) > 0
	})
	held := len(waiting)
	require.Positive(t, held)
	require.GreaterOrEqual(t, relay.Stats().Bytes, int64(held*mib/6))
	require.LessOrEqual(t, relay.Stats().Bytes, int64(mib))
	for range cap(answers) - held {
		require.Equal(t, status.BufferFull, (<-answers).Code)
	}
	close(released)
	for range held {
		require.Equal(t, status.NoInstance, (<-answers).Code)
	}
	eventually(t, "nothing is left", func() bool {
		st := relay.Stats()
		return st.Bytes == 0 && st.Sessions == 0
	})
	bodies, err := os.ReadDir(filepath.Join(spool, "tmp"))
	require.NoError(t, err)
	require.Empty(t, bodies)
}

// TestRelayedBodyThatBreaks checks that a caller whose body is not HTTP's is refused for good by a relay too.
func TestRelayedBodyThatBreaks(t *testing.T) {
	holder := open(t, Config{NodeID: "B", Logger: quiet()})
	address := strings.TrimPrefix(relayTo(t, holder, Limits{}), "http://")
	conn, err := net.Dial("tcp", address)
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	_, err = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: b\r\nContent-Type: application/json\r\n%s: s\r\n"+
		"%s: B\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{\"t\r\nno chunk\r\n", pathPush,
		wire.HeaderSessionID, wire.HeaderTargetNodeID)
	require.NoError(t, err)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusBadRequest, resp.StatusCode, "%s", text)
	out, err := wire.JSON.DecodeAnswer(text)
	require.NoError(t, err)
	require.Equal(t, status.BadRequest, out.Code)
}

// TestRelayedReaderThatStalls checks that a reader which stops to read its answer is disconnected by the
// relay, and that its message is there for the next one.
func TestRelayedReaderThatStalls(t *testing.T) {
	limits := Limits{SessionBytes: 128 * mib, MessageBytes: 32 * mib}
	holder := open(t, Config{NodeID: "B", Logger: quiet(), Limits: limits})
	to := passOn(t, holder, holder.VolumeID())
	relay := open(t, Config{NodeID: "B", Logger: quiet(), Limits: limits,
		Elsewhere: func(context.Context, string) (http.Handler, error) { return to, nil }})
	relay.minRate = minRate{grace: 200 * time.Millisecond, bytesPerSecond: 1 << 40}
	n := &node{url: serve(t, relay)}
	c := n.container(t, "s").protobuf()
	large := bytes.Repeat([]byte("x"), 32*mib)
	c.mustPush("B", "x", large)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, n.url+pathPop,
		bytes.NewReader(c.readBody("x", time.Minute)))
	require.NoError(t, err)
	r.Header.Set("Content-Type", wire.Protobuf.ContentType())
	r.Header.Set(wire.HeaderSessionID, "s")
	resp, err := c.client.Do(r)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	eventually(t, "the message is back", func() bool { return holder.Stats().Returned == 1 })
	relay.minRate = defaultMinRate // a busy client is slow, too
	require.True(t, bytes.Equal(large, c.mustPop("x")))
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestRelayFails checks that a caller gets a retryable answer while nobody has the volume open, and that a
// transport serves no volume but its own.
func TestRelayFails(t *testing.T) {
	holder := open(t, Config{NodeID: "B", Logger: quiet()})
	var find func() (http.Handler, error)
	relay := open(t, Config{NodeID: "B", Logger: quiet(),
		Elsewhere: func(context.Context, string) (http.Handler, error) { return find() }})
	c := (&node{url: serve(t, relay)}).container(t, "s")
	inside := func() wire.Answer {
		without := *c
		without.session = ""
		out, err := pushInside(t.Context(), t, &without, []byte("m"))
		require.NoError(t, err)
		return out
	}
	elsewhere := passOn(t, holder, "another")
	away, err := gate.NewKeys(bytes.Repeat([]byte{1}, gate.MinSecret))
	require.NoError(t, err)
	closed := httptest.NewServer(nil)
	closed.Close()
	target, err := url.Parse(closed.URL)
	require.NoError(t, err)
	nobody := gate.NewRemote(away, quiet(), nil).To(target)
	for _, broken := range []func() (http.Handler, error){
		func() (http.Handler, error) { return elsewhere, nil },
		func() (http.Handler, error) { return nobody, nil },
		func() (http.Handler, error) { return nil, errNoHolder },
	} {
		find = broken
		// A client of HTTP/1 reads no answer before it has sent its body.
		out := c.push("B", "x", make([]byte, 15*mib))
		require.Equal(t, status.NoInstance, out.Code, out.Message)
		require.Equal(t, status.NoInstance, inside().Code)
	}
	find = func() (http.Handler, error) { return nil, errors.New("secret") }
	out := c.push("B", "x", nil)
	require.Equal(t, status.Internal, out.Code)
	require.NotContains(t, out.Message, "secret")
	require.Zero(t, relay.Stats().Bytes+holder.Stats().Bytes, "nothing is left of them")

	to := passOn(t, holder, holder.VolumeID())
	find = func() (http.Handler, error) { return to, nil }
	out = inside()
	require.Equal(t, status.OK, out.Code, out.Message)
	require.Equal(t, 1, holder.Stats().Messages)
	eventually(t, "no session is in use", func() bool { return relay.Stats().Sessions == 0 })
	require.EqualValues(t, 5, relay.Stats().Relayed,
		"two to another volume, two to nobody, one to the holder")
}

// TestRelayedPushEnds checks that a holder which answers nothing, as one that is stopped, does not keep a
// relayed push for longer than that may take, and that the holder gets the rest of a caller's deadline.
func TestRelayedPushEnds(t *testing.T) {
	stuck := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	relay := open(t, Config{NodeID: "B", Logger: quiet(), Limits: Limits{PushTimeout: 50 * time.Millisecond},
		Elsewhere: func(context.Context, string) (http.Handler, error) { return stuck, nil }})
	relay.minRate.grace = 50 * time.Millisecond
	c := (&node{url: serve(t, relay)}).container(t, "s")
	require.Equal(t, status.NoInstance, c.push("B", "x", []byte("1")).Code)

	r := httptest.NewRequest(http.MethodPost, pathInvoke, nil)
	r.Header.Set("Grpc-Timeout", wire.FormatGRPCTimeout(90*time.Second))
	x := relay.newExchange(httptest.NewRecorder(), r)
	require.Equal(t, relay.limits.PushTimeout, relay.pushTimeout(x))
	x.relayed = true
	require.Equal(t, 90*time.Second, relay.pushTimeout(x))
}
