package transport

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"hutong/internal/httpguard"
	"hutong/transport/status"
	"hutong/transport/wire"
)

const mib = 1 << 20

// node is a transport that listens on the loopback interface.
type node struct {
	*Transport
	url string
}

// network maps node ids to nodes. The route to a node is its URL.
type network map[string]*node

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// newNetwork starts one node for each id.
func newNetwork(t testing.TB, limits Limits, ids ...string) network {
	t.Helper()
	net := make(network)
	for _, id := range ids {
		net[id] = &node{}
	}
	route := func(id string) (string, bool) {
		n, ok := net[id]
		if !ok {
			return "", false
		}
		return n.url, true
	}
	for _, id := range ids {
		tr := open(t, Config{NodeID: id, Route: route, Logger: quiet(), Limits: limits})
		*net[id] = node{Transport: tr, url: serve(t, tr)}
		if throughRelay {
			net[id].url = relayTo(t, tr, limits)
		}
	}
	return net
}

// open creates a transport, with a spool of its own if the configuration names none. The end of the test
// closes it.
func open(t testing.TB, cfg Config) *Transport {
	t.Helper()
	if cfg.Spool == "" {
		cfg.Spool = t.TempDir()
	}
	tr, err := New(cfg)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		require.NoError(t, tr.Close(ctx))
	})
	return tr
}

// serve starts a transport's own server. The end of the test closes both.
func serve(t testing.TB, tr *Transport) string {
	t.Helper()
	srv := httptest.NewUnstartedServer(nil)
	srv.Config = tr.Server().Server
	srv.Listener = httpguard.Listener(srv.Listener, true)
	srv.Start()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		require.NoError(t, tr.Close(ctx))
		srv.Close()
	})
	return srv.URL
}

// caller sends requests like a container of one node, in one session.
type caller struct {
	t       testing.TB
	client  *http.Client
	url     string
	session string
	enc     wire.Encoding
	header  http.Header
}

func (n *node) container(t testing.TB, session string) *caller {
	pool := &http.Transport{MaxIdleConnsPerHost: 64, WriteBufferSize: 64 << 10, ReadBufferSize: 64 << 10}
	t.Cleanup(pool.CloseIdleConnections)
	return &caller{
		t:       t,
		client:  &http.Client{Transport: pool},
		url:     n.url,
		session: session,
		header:  http.Header{},
	}
}

func (c *caller) with(name, value string) *caller {
	copied := *c
	copied.header = c.header.Clone()
	copied.header.Set(name, value)
	return &copied
}

func (c *caller) protobuf() *caller {
	copied := *c
	copied.enc = wire.Protobuf
	return &copied
}

// post sends a body. The error is a failure of HTTP, not a refusal.
func (c *caller) post(ctx context.Context, path, target string, body []byte) (int, wire.Answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url+path, bytes.NewReader(body))
	if err != nil {
		return 0, wire.Answer{}, err
	}
	req.Header = c.header.Clone()
	req.Header.Set("Content-Type", c.enc.ContentType())
	if c.session != "" {
		req.Header.Set(wire.HeaderSessionID, c.session)
	}
	if target != "" {
		req.Header.Set(wire.HeaderTargetNodeID, target)
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return 0, wire.Answer{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return resp.StatusCode, wire.Answer{}, err
	}
	if ct := resp.Header.Get("Content-Type"); ct != c.enc.ContentType() {
		c.t.Errorf("answer of %s has content type %q, the request %q", path, ct, c.enc.ContentType())
	}
	out, err := c.enc.DecodeAnswer(b)
	return resp.StatusCode, out, err
}

func (c *caller) pushBody(topic string, payload []byte) []byte {
	if c.enc == wire.Protobuf {
		return protoPush(topic, payload)
	}
	b, err := json.Marshal(
		map[string]any{"topic": topic, "payload": base64.StdEncoding.EncodeToString(payload)})
	require.NoError(c.t, err)
	return b
}

func (c *caller) readBody(topic string, wait time.Duration) []byte {
	if c.enc == wire.Protobuf {
		b := protowire.AppendTag(nil, 1, protowire.BytesType)
		b = protowire.AppendString(b, topic)
		b = protowire.AppendTag(b, 2, protowire.VarintType)
		return protowire.AppendVarint(b, uint64(wait.Milliseconds()))
	}
	b, err := json.Marshal(map[string]any{"topic": topic, "timeout": wait.Milliseconds()})
	require.NoError(c.t, err)
	return b
}

func (c *caller) push(target, topic string, payload []byte) wire.Answer {
	c.t.Helper()
	_, out, err := c.post(context.Background(), pathPush, target, c.pushBody(topic, payload))
	require.NoError(c.t, err)
	return out
}

func (c *caller) mustPush(target, topic string, payload []byte) {
	c.t.Helper()
	out := c.push(target, topic, payload)
	require.Equal(c.t, status.OK, out.Code, out.Message)
}

func (c *caller) pop(topic string, wait time.Duration) wire.Answer {
	c.t.Helper()
	_, out, err := c.post(context.Background(), pathPop, "", c.readBody(topic, wait))
	require.NoError(c.t, err)
	return out
}

func (c *caller) mustPop(topic string) []byte {
	c.t.Helper()
	out := c.pop(topic, 30*time.Second)
	require.Equal(c.t, status.OK, out.Code, out.Message)
	return out.Payload
}

func (c *caller) peek(topic string) wire.Answer {
	c.t.Helper()
	_, out, err := c.post(context.Background(), pathPeek, "", c.readBody(topic, 0))
	require.NoError(c.t, err)
	return out
}

func (c *caller) release(topic string) wire.Answer {
	c.t.Helper()
	_, out, err := c.post(context.Background(), pathRelease, "", c.readBody(topic, 0))
	require.NoError(c.t, err)
	return out
}

func protoPush(topic string, payload []byte) []byte {
	b := protowire.AppendTag(nil, 1, protowire.BytesType)
	b = protowire.AppendString(b, topic)
	b = protowire.AppendTag(b, 2, protowire.BytesType)
	return protowire.AppendBytes(b, payload)
}

func protoWrap(metadata map[string]string, payload []byte) []byte {
	var b []byte
	for k, v := range metadata {
		e := protowire.AppendTag(nil, 1, protowire.BytesType)
		e = protowire.AppendString(e, k)
		e = protowire.AppendTag(e, 2, protowire.BytesType)
		e = protowire.AppendString(e, v)
		b = protowire.AppendTag(b, 1, protowire.BytesType)
		b = protowire.AppendBytes(b, e)
	}
	b = protowire.AppendTag(b, 2, protowire.BytesType)
	return protowire.AppendBytes(b, payload)
}

// routeTo returns a route that leads to url, whatever the node.
func routeTo(url string) func(string) (string, bool) {
	return func(string) (string, bool) { return url, true }
}

// eventually waits for a state that other goroutines bring about.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, time.Minute, time.Millisecond, what)
}

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// newBytes returns a reader of b that hides its length from net/http.
func newBytes(b []byte) io.Reader { return io.MultiReader(bytes.NewReader(b)) }
