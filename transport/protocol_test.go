package transport

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"hutong/transport/queue"
	"hutong/transport/status"
	"hutong/transport/wire"
)

// raw sends a request as it is and returns the HTTP status and the JSON answer.
func raw(t *testing.T, method, url string, header map[string]string, body string) (int, map[string]any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	for k, v := range header {
		req.Header[k] = []string{v} // as written: underscores and case stay
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	if method == http.MethodHead {
		return resp.StatusCode, nil
	}
	var answer map[string]any
	require.NoError(t, json.Unmarshal(b, &answer), "%s", b)
	return resp.StatusCode, answer
}

// TestRefusals checks the HTTP status, code and message of refused requests.
func TestRefusals(t *testing.T) {
	net := newNetwork(t, Limits{MessageBytes: 1000, PushTimeout: 5 * time.Second}, "A", "B")
	net["A"].ReleaseSession("over")
	session := map[string]string{"X-Ptp-Session-Id": "s", "X-Ptp-Target-Node-Id": "A"}
	with := func(pairs ...string) map[string]string {
		h := map[string]string{"X-Ptp-Session-Id": "s", "X-Ptp-Target-Node-Id": "A"}
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i+1] == "" {
				delete(h, pairs[i])
			} else {
				h[pairs[i]] = pairs[i+1]
			}
		}
		return h
	}
	good := `{"topic":"x","payload":"bQ=="}`
	big := `{"topic":"x","payload":"` + base64.StdEncoding.EncodeToString(make([]byte, 1001)) + `"}`
	huge := `{"topic":"x","payload":"` + strings.Repeat("A", 100_000) + `"}`
	tests := []struct {
		name    string
		method  string
		path    string
		header  map[string]string
		body    string
		status  int
		code    status.Code
		message string
	}{
		{"unknown route", "POST", "/v1/interconn/chan/other", session, good, 404, status.NotFound,
			"no such route"},
		{"stream", "POST", "/v1/interconn/chan/nothing", session, good, 404, status.NotFound,
			"no such route"},
		{"root", "GET", "/", nil, "", 404, status.NotFound, "no such route"},
		{"GET", "GET", pathPush, session, "", 405, status.BadRequest, "POST"},
		{"HEAD", "HEAD", pathPush, session, "", 405, status.BadRequest, "POST"},
		{"no session", "POST", pathPush, nil, good, 400, status.BadRequest, wire.HeaderSessionID},
		{"no session, pop", "POST", pathPop, nil, "{}", 400, status.BadRequest, wire.HeaderSessionID},
		{"no target", "POST", pathPush, with("X-Ptp-Target-Node-Id", ""), good, 400, status.BadRequest,
			wire.HeaderTargetNodeID},
		{"long session", "POST", pathPush, with("X-Ptp-Session-Id", strings.Repeat("s", 5000)), good, 400,
			status.BadRequest, wire.HeaderSessionID},
		{"not JSON", "POST", pathPush, session, "{", 400, status.BadRequest, "body"},
		{"not base64", "POST", pathPush, session, `{"payload":"*"}`, 400, status.BadRequest, "body"},
		{"topic is no text", "POST", pathPush, session, `{"payload":"","topic":1}`, 400, status.BadRequest,
			"topic"},
		{"no payload", "POST", pathPush, session, `{"topic":"x"}`, 400, status.BadRequest, "payload"},
		{"empty body", "POST", pathPush, session, "", 400, status.BadRequest, "payload"},
		{"long topic", "POST", pathPush, session,
			`{"payload":"","topic":"` + strings.Repeat("t", 5000) + `"}`, 400, status.BadRequest, "topic"},
		{"message too large", "POST", pathPush, session, big, 413, status.TooLarge, "1000"},
		{"body too large", "POST", pathPush, session, huge, 413, status.TooLarge, "smaller"},
		{"body too large for a partner", "POST", pathPush, with("X-Ptp-Target-Node-Id", "B"), huge, 413,
			status.TooLarge, "smaller"},
		{"refused by the partner", "POST", pathPush, with("X-Ptp-Target-Node-Id", "B"), big, 413,
			status.TooLarge, "1000"},
		{"unreadable for the partner", "POST", pathPush, with("X-Ptp-Target-Node-Id", "B"), `{"payload":7}`,
			400, status.BadRequest, "body"},
		{"not JSON for a partner", "POST", pathPush, with("X-Ptp-Target-Node-Id", "B"), `{`, 400,
			status.BadRequest, "body"},
		{"unknown node", "POST", pathPush, with("X-Ptp-Target-Node-Id", "Z"), good, 200, status.NodeUnknown,
			"Z"},
		{"bad deadline", "POST", pathPush, with("X-Ptp-Timeout", "soon"), good, 400, status.BadRequest,
			wire.HeaderTimeout},
		{"released session, push", "POST", pathPush, with("X-Ptp-Session-Id", "over"), good, 200,
			status.SessionReleased, "over"},
		{"released session, pop", "POST", pathPop, with("X-Ptp-Session-Id", "over"), "", 200,
			status.SessionReleased, "over"},
		{"released session, peek", "POST", pathPeek, with("X-Ptp-Session-Id", "over"), "", 200,
			status.SessionReleased, "over"},
		{"released session, release", "POST", pathRelease, with("X-Ptp-Session-Id", "over"), "", 200,
			status.SessionReleased, "over"},
		{"nothing came", "POST", pathPop, session, `{"topic":"none","timeout":1}`, 200, status.Timeout,
			"1ms"},
		{"nothing came, numeric string", "POST", pathPop, session, `{"topic":"none","timeout":"1"}`, 200,
			status.Timeout, "1ms"},
		{"negative timeout", "POST", pathPop, session, `{"timeout":-5}`, 400, status.BadRequest, "timeout"},
		{"timeout is no number", "POST", pathPop, session, `{"timeout":"later"}`, 400, status.BadRequest,
			"timeout"},
		{"pop's body too large", "POST", pathPop, session, huge, 413, status.TooLarge, "smaller"},
		{"invoke without uri", "POST", pathInvoke, session, good, 400, status.BadRequest, wire.HeaderURI},
		{"invoke unknown uri", "POST", pathInvoke, with("X-Ptp-Uri", "/v1/other"), good, 200, status.NotFound,
			"/v1/other"},
		{"invoke pop", "POST", pathInvoke, with("X-Ptp-Uri", "https://ptp.cn"+pathPop), good, 403,
			status.Forbidden, "own containers"},
		{"invoke for a third node", "POST", pathInvoke,
			with("X-Ptp-Uri", pathPush, "X-Ptp-Target-Node-Id", "B"), good, 200, status.NodeUnknown,
			"node A"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			httpCode, answer := raw(t, tt.method, net["A"].url+tt.path, tt.header, tt.body)
			require.Equal(t, tt.status, httpCode)
			if tt.method == http.MethodHead {
				return
			}
			require.Equal(t, string(tt.code), answer["code"], answer["message"])
			require.Contains(t, answer["message"], tt.message)
			require.NotContains(t, answer, "content")
		})
	}
	require.Zero(t, net["A"].Stats().Bytes, "refusals hold no memory")
	require.Zero(t, net["A"].Stats().Sessions)
	require.Zero(t, net["B"].Stats().Bytes)
}

func TestRefusalOfProtobuf(t *testing.T) {
	net := newNetwork(t, Limits{}, "A")
	c := net["A"].container(t, "s").protobuf()
	httpCode, out, err := c.post(t.Context(), pathPush, "A", []byte{0x0a, 0xff})
	require.NoError(t, err)
	require.Equal(t, 400, httpCode)
	require.Equal(t, status.BadRequest, out.Code)
	require.Contains(t, out.Message, "body")
}

// TestHeaderSpellings checks headers in any case, with underscores and in two spellings at once.
func TestHeaderSpellings(t *testing.T) {
	net := newNetwork(t, Limits{}, "A")
	for _, h := range []map[string]string{
		{"x_ptp_session_id": "s", "X_PTP_TARGET_NODE_ID": "A",
			"Content-Type": "application/json; charset=utf-8"},
		{"X-PTP-SESSION-ID": "s", "x-ptp-target-node-id": "A"},
		{"x_ptp_session_id": "s", "X-Ptp-Session-Id": "", "x_Ptp-target_Node-id": "A",
			"Content-Type": "text/plain"},
	} {
		httpCode, answer := raw(t, "POST", net["A"].url+pathPush, h, `{"payload":"bQ=="}`)
		require.Equal(t, 200, httpCode, answer)
		require.Equal(t, string(status.OK), answer["code"])
	}
	require.Equal(t, 3, net["A"].Stats().Messages)
}

// TestAnswerFields checks the fields of answers in JSON: `content` is present only if there is a message.
func TestAnswerFields(t *testing.T) {
	net := newNetwork(t, Limits{}, "A")
	h := map[string]string{"X-Ptp-Session-Id": "s", "X-Ptp-Target-Node-Id": "A"}
	do := func(path, body string) map[string]any {
		httpCode, answer := raw(t, "POST", net["A"].url+path, h, body)
		require.Equal(t, 200, httpCode)
		return answer
	}
	ok := string(status.OK)
	require.Equal(t, map[string]any{"code": ok, "message": "success"},
		do(pathPush, `{"topic":"x","payload":"aGk=","metadata":{"any":["thing"]}}`))
	require.Equal(t, map[string]any{"code": ok, "message": "success", "content": "aGk="},
		do(pathPop, `{"topic":"x"}`))
	require.Equal(t, map[string]any{"code": ok, "message": "no message"}, do(pathPeek, `{"topic":"x"}`))
	require.Equal(t, map[string]any{"code": ok, "message": "success"},
		do(pathPush, `{"topic":"x","payload":""}`))
	require.Equal(t, map[string]any{"code": ok, "message": "success", "content": ""},
		do(pathPeek, `{"topic":"x"}`))
	require.Equal(t, map[string]any{"code": ok, "message": "success"}, do(pathRelease, ``))
	require.Equal(t, map[string]any{"code": ok, "message": "success"},
		do(pathRelease, `{"topic":"x","timeout":"10000"}`))
	// The header's topic counts if the body has none.
	h["X-Ptp-Topic"] = "y"
	do(pathPush, `{"payload":"aGk="}`)
	delete(h, "X-Ptp-Topic")
	require.Equal(t, "aGk=", do(pathPeek, `{"topic":"y"}`)["content"])
}

// TestInvokeForms checks all forms in which a partner's transport may send a push.
func TestInvokeForms(t *testing.T) {
	net := newNetwork(t, Limits{}, "B")
	payload := []byte("hello")
	b64 := base64.StdEncoding.EncodeToString
	inJSONText := `{"topic":"x","payload":"` + b64(payload) + `"}`
	// With a topic of 123 bytes the push begins with "\n{".
	long := strings.Repeat("t", 123)
	meta := map[string]string{"x-ptp-session-id": "s"}
	tests := []struct {
		name, topic string
		enc         wire.Encoding
		uri         string
		version     string
		body        []byte
	}{
		{"pass-through JSON", "x", wire.JSON, pathPush, "1", []byte(inJSONText)},
		{"pass-through protobuf", "x", wire.Protobuf, pathPush, "1", protoPush("x", payload)},
		{"wrapped protobuf", "x", wire.Protobuf, "https://ptp.cn" + pathPush, "",
			protoWrap(meta, protoPush("x", payload))},
		{"wrapped protobuf, other version", long, wire.Protobuf,
			"https://ptp.cn/org.ppc.ptp.PrivateTransferTransport/push", "v1",
			protoWrap(nil, protoPush(long, payload))},
		{"JSON wrapped in protobuf", "x", wire.Protobuf, pathPush, "0", protoWrap(meta, []byte(inJSONText))},
		{"protobuf wrapped in JSON", "x", wire.JSON, pathPush, "",
			[]byte(`{"metadata":{"a":"b"},"payload":"` + b64(protoPush("x", payload)) + `"}`)},
		{"JSON wrapped in JSON", "x", wire.JSON, pathPush, "",
			[]byte(`{"payload":"` + b64([]byte(inJSONText)) + `"}`)},
		{"topic in the metadata", "y", wire.Protobuf, pathPush, "",
			protoWrap(map[string]string{"X_PTP_TOPIC": "y"}, protoPush("", payload))},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := net["B"].container(t, "s").with(wire.HeaderURI, tt.uri).with(wire.HeaderSourceNodeID, "A")
			c.enc = tt.enc
			if tt.version != "" {
				c = c.with(wire.HeaderVersion, tt.version)
			}
			httpCode, out, err := c.post(t.Context(), pathInvoke, "B", tt.body)
			require.NoError(t, err)
			require.Equal(t, status.OK, out.Code, out.Message)
			require.Equal(t, 200, httpCode)
			require.Equal(t, payload, net["B"].container(t, "s").mustPop(tt.topic))
		})
	}
}

// TestMessageIDs checks that an id identifies a message within its queue and source node.
func TestMessageIDs(t *testing.T) {
	net := newNetwork(t, Limits{}, "A", "B", "C")
	for _, target := range []string{"A", "B"} {
		c := net["A"].container(t, "s").with(wire.HeaderMessageID, "1")
		c.mustPush(target, "x", []byte("once"))
		c.mustPush(target, "x", []byte("again"))
		c.mustPush(target, "y", []byte("other topic"))
		r := net[target].container(t, "s")
		require.Equal(t, "once", string(r.mustPop("x")))
		require.False(t, r.peek("x").HasPayload)
		require.Equal(t, "other topic", string(r.mustPop("y")))
	}
	// Two nodes may use the same id.
	net["C"].container(t, "s").with(wire.HeaderMessageID, "1").mustPush("B", "x", []byte("from C"))
	require.Equal(t, "from C", string(net["B"].container(t, "s").mustPop("x")))
}

// TestRoutesOfHandlers checks which routes each handler serves.
func TestRoutesOfHandlers(t *testing.T) {
	tr := open(t, Config{NodeID: "A", Logger: quiet()})
	callers := map[string]string{
		pathPush: "c", pathPop: "c", pathPeek: "c", pathRelease: "c", pathInvoke: "p",
	}
	handlers := map[string]http.Handler{
		"c": tr.ContainerHandler(), "p": tr.PartnerHandler(), "cp": tr.Handler(),
	}
	for path, allowed := range callers {
		for name, h := range handlers {
			req, err := http.NewRequestWithContext(t.Context(), "GET", path, http.NoBody)
			require.NoError(t, err)
			w := &statusOnly{}
			h.ServeHTTP(w, req)
			want := http.StatusNotFound
			if strings.Contains(name, allowed) {
				want = http.StatusMethodNotAllowed
			}
			require.Equal(t, want, w.status, "%s at %s", path, name)
		}
	}
	require.NoError(t, tr.Close(t.Context()))
}

type statusOnly struct {
	bytes.Buffer
	status int
	header http.Header
}

func (w *statusOnly) Header() http.Header {
	if w.header == nil {
		w.header = http.Header{}
	}
	return w.header
}
func (w *statusOnly) WriteHeader(status int) { w.status = status }

// TestChunkedBodies checks that bodies of unknown length are bounded and charged with their real size.
func TestChunkedBodies(t *testing.T) {
	net := newNetwork(t, Limits{MessageBytes: 64 << 10}, "A")
	c := net["A"].container(t, "s")
	send := func(body []byte) (int, wire.Answer) {
		req, err := http.NewRequestWithContext(t.Context(), "POST", c.url+pathPush,
			struct{ io.Reader }{bytes.NewReader(body)})
		require.NoError(t, err)
		req.Header.Set(wire.HeaderSessionID, "s")
		req.Header.Set(wire.HeaderTargetNodeID, "A")
		resp, err := c.client.Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		out, err := wire.JSON.DecodeAnswer(b)
		require.NoError(t, err)
		return resp.StatusCode, out
	}
	payload := bytes.Repeat([]byte("m"), 64<<10)
	_, out := send(c.pushBody("x", payload))
	require.Equal(t, status.OK, out.Code, out.Message)
	require.Less(t, net["A"].Stats().Bytes, int64(64<<10+queue.MessageOverhead+queue.TopicOverhead+100))
	require.Equal(t, payload, c.mustPop("x"))
	httpCode, out := send(c.pushBody("x", make([]byte, 200<<10)))
	require.Equal(t, 413, httpCode)
	require.Equal(t, status.TooLarge, out.Code)
}

func FuzzJSONPush(f *testing.F) {
	f.Add([]byte(`{"topic":"x","payload":"aGk=","metadata":{"a":"b"}}`))
	f.Add([]byte(`{"payload":[1,2,3]}`))
	f.Add([]byte(`{"timeout":"36000000"}`))
	f.Add([]byte(`{"metadata":{"x":"y"},"payload":"e30="}`))
	f.Add([]byte("\n{"))
	f.Fuzz(func(t *testing.T, b []byte) { fuzzBody(t, wire.JSON, b) })
}

func FuzzProtobufPush(f *testing.F) {
	f.Add(protoPush("x", []byte("hello")))
	f.Add(protoWrap(map[string]string{"a": "b"}, protoPush("x", []byte("hello"))))
	f.Add([]byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Add(protowire.AppendVarint(protowire.AppendTag(nil, 2, protowire.VarintType), 36_000_000))
	f.Fuzz(func(t *testing.T, b []byte) { fuzzBody(t, wire.Protobuf, b) })
}

// fuzzBody sends one body to every route. Every answer can be decoded and is no internal error, and no bytes
// stay charged after the release.
func fuzzBody(t *testing.T, enc wire.Encoding, body []byte) {
	tr := open(t, Config{NodeID: "A", Logger: quiet(), Limits: Limits{
		MessageBytes:  1 << 16,
		PopTimeout:    time.Nanosecond,
		MaxPopTimeout: time.Nanosecond,
		PushTimeout:   time.Second,
	}})
	defer func() { require.NoError(t, tr.Close(context.Background())) }()
	h := tr.Handler()
	paths := []string{pathPush, pathInvoke, pathInvoke + "?pass", pathPeek, pathPop, pathRelease}
	for _, path := range paths {
		req, err := http.NewRequestWithContext(t.Context(), "POST", path, bytes.NewReader(body))
		require.NoError(t, err)
		req.Header.Set("Content-Type", enc.ContentType())
		req.Header.Set(wire.HeaderSessionID, "s")
		req.Header.Set(wire.HeaderTargetNodeID, "A")
		req.Header.Set(wire.HeaderURI, pathPush)
		if req.URL.RawQuery != "" {
			req.Header.Set(wire.HeaderVersion, wire.PassThrough)
		}
		w := &statusOnly{}
		h.ServeHTTP(w, req)
		out, err := enc.DecodeAnswer(w.Bytes())
		require.NoError(t, err)
		require.Contains(t, []int{200, 400, 413}, w.status, out.Message)
		require.NotEqual(t, status.Internal, out.Code)
	}
	tr.ReleaseSession("s")
	require.Zero(t, tr.Stats().Bytes)
}
