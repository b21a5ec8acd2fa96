package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/gate"
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
	srv.Config.Handler = keys.Accept(holder.PeerHandler(), func(_ *http.Request, err error) { t.Error(err) })
	srv.Start()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		require.NoError(t, holder.Close(ctx))
		srv.Close()
	})
	target, err := url.Parse(srv.URL + PeerPath(volume))
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
	limits := Limits{SessionBytes: 4 * mib, PushTimeout: time.Minute}
	holder := open(t, Config{NodeID: "B", Logger: quiet(), Limits: limits})
	n := &node{Transport: holder, url: relayTo(t, holder, limits)}
	c := n.container(t, "s")
	for range 4 {
		c.mustPush("B", "x", make([]byte, mib/2))
	}
	for holder.Stats().Bytes+mib < 4*mib {
		c.mustPush("B", "x", make([]byte, mib/2))
	}
	body := c.pushBody("x", make([]byte, mib))
	read := 0
	slow := readerFunc(func(p []byte) (int, error) {
		if read == len(body) {
			return 0, io.EOF
		}
		n := copy(p, body[read:])
		read += n
		return n, nil
	})
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, n.url+pathPush, slow)
	require.NoError(t, err)
	r.ContentLength = int64(len(body))
	for name, value := range map[string]string{"Content-Type": "application/json",
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
	select {
	case err := <-answered:
		require.Fail(t, "the push does not wait", "%v", err)
	default:
	}
	c.mustPop("x")
	c.mustPop("x")
	c.mustPop("x")
	require.NoError(t, <-answered)
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
		_, out, err := c.with(wire.HeaderSessionID, "").with(wire.HeaderURI, pathPush).post(t.Context(),
			pathInvoke, "B", fmt.Appendf(nil, `{"metadata":{"x-ptp-session-id":"s"},"payload":%q}`,
				b64(c.pushBody("x", []byte("m")))))
		require.NoError(t, err)
		return out
	}
	elsewhere := passOn(t, holder, "another")
	for _, broken := range []func() (http.Handler, error){
		func() (http.Handler, error) { return elsewhere, nil },
		func() (http.Handler, error) { return nil, errNoHolder },
	} {
		find = broken
		out := c.push("B", "x", nil)
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
	require.Zero(t, relay.Stats().Sessions)
	require.EqualValues(t, 1, relay.Stats().Relayed-2, "two calls before went to the wrong volume")
}
