package transport

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/internal/identity"
	"hutong/transport/status"
	"hutong/transport/wire"
)

// serveAs serves a transport for one caller, as a listener that has determined it.
func serveAs(t testing.TB, tr *Transport, caller identity.Principal) *node {
	t.Helper()
	handler := tr.Handler()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler.ServeHTTP(w, r.WithContext(identity.With(r.Context(), caller)))
	}))
	t.Cleanup(srv.Close)
	return &node{Transport: tr, url: srv.URL}
}

func partner(id string) identity.Principal {
	return identity.Principal{Kind: identity.KindPartner, Node: id, Proof: identity.ByCertificate}
}

// TestAuthorize checks what the decision is about, and that it comes before the body is read.
func TestAuthorize(t *testing.T) {
	calls := make(chan Call, 10)
	var refusal error
	tr := open(t, Config{NodeID: "A", Logger: quiet(), Authorize: func(_ context.Context, c Call) error {
		calls <- c
		return refusal
	}})
	c := serveAs(t, tr, partner("B")).container(t, "s")
	refusal = status.Errorf(status.Forbidden, "B has no part in session s")
	for _, code := range []int{403, 500, 200} {
		httpCode, out, err := c.with(wire.HeaderURI, pathPush).with(wire.HeaderVersion, wire.PassThrough).
			post(t.Context(), pathInvoke, "A", c.pushBody("x", nil))
		require.NoError(t, err)
		require.Equal(t, code, httpCode, out.Message)
		call := <-calls
		require.NotEmpty(t, call.RemoteAddr)
		require.Equal(t, Call{Op: "invoke", Caller: partner("B"), SessionID: "s",
			RemoteAddr: call.RemoteAddr}, call)
		switch code {
		case 403:
			require.Equal(t, status.Forbidden, out.Code)
			require.Equal(t, "B has no part in session s", out.Message)
			refusal = errors.New("the database at 10.0.0.7 does not answer")
		case 500:
			require.Equal(t, "internal error", out.Message, "an error that is no refusal is not sent")
			refusal = nil
		}
	}
	require.Equal(t, status.OK, c.release("").Code)
	require.False(t, (<-calls).Final)
	require.Equal(t, status.OK, c.with(wire.HeaderFinal, "false").release("").Code)
	require.True(t, (<-calls).Final, "any value counts: no caller may try spellings")
}

// TestAuthorizeSessionInside checks that a session that only the metadata inside a message names is decided
// about too.
func TestAuthorizeSessionInside(t *testing.T) {
	tr := open(t, Config{NodeID: "A", Logger: quiet(), Authorize: func(_ context.Context, c Call) error {
		if c.SessionID != "mine" {
			return status.Errorf(status.Forbidden, "no part in %s", c.SessionID)
		}
		return nil
	}})
	c := serveAs(t, tr, partner("B")).container(t, "").with(wire.HeaderURI, pathPush)
	for session, want := range map[string]status.Code{"mine": status.OK, "other": status.Forbidden} {
		metadata := map[string]string{wire.HeaderSessionID: session, wire.HeaderTargetNodeID: "A"}
		body, err := json.Marshal(map[string]any{"metadata": metadata,
			"payload": b64(c.pushBody("x", []byte("m")))})
		require.NoError(t, err)
		_, out, err := c.post(t.Context(), pathInvoke, "", body)
		require.NoError(t, err)
		require.Equal(t, want, out.Code, out.Message)
	}
	require.Equal(t, 1, tr.Stats().Messages)
}

// TestSourceIsTheCaller checks that the node that a message names as its source does not matter: B can't make
// C's next message a duplicate, which is dropped.
func TestSourceIsTheCaller(t *testing.T) {
	tr := open(t, Config{NodeID: "A", Logger: quiet()})
	invoke := func(caller, claim, text string) wire.Answer {
		c := serveAs(t, tr, partner(caller)).container(t, "s").with(wire.HeaderURI, pathPush).
			with(wire.HeaderVersion, wire.PassThrough).with(wire.HeaderMessageID, "1").
			with(wire.HeaderSourceNodeID, claim).with(wire.HeaderFromNodeID, claim)
		_, out, err := c.post(t.Context(), pathInvoke, "A", c.pushBody("x", []byte(text)))
		require.NoError(t, err)
		require.Equal(t, status.OK, out.Code, out.Message)
		return out
	}
	require.NotContains(t, invoke("B", "C", "of B").Message, "duplicate")
	require.NotContains(t, invoke("C", "C", "of C").Message, "duplicate")
	require.Contains(t, invoke("C", "D", "of C").Message, "duplicate")
}

// TestForwardedHeaders checks what a partner gets of a container's headers: the party's own node as the
// source, and no credential of the container.
func TestForwardedHeaders(t *testing.T) {
	got := make(chan http.Header, 1)
	partner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got <- r.Header
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"code":"E0000000000","message":"success"}`))
	}))
	t.Cleanup(partner.Close)
	tr := open(t, Config{NodeID: "A", Logger: quiet(), Route: routeTo(partner.URL)})
	container := identity.Principal{Kind: identity.KindContainer, Run: identity.Run{JobID: "J"}}
	c := serveAs(t, tr, container).container(t, "session_J").with(wire.HeaderToken, "secret").
		with(wire.HeaderSourceNodeID, "C").with(wire.HeaderFromNodeID, "C")
	c.mustPush("B", "x", []byte("m"))
	h := <-got
	require.Equal(t, "A", h.Get(wire.HeaderSourceNodeID))
	require.Equal(t, "A", h.Get(wire.HeaderFromNodeID))
	require.Equal(t, "session_J", h.Get(wire.HeaderToken))
}

// TestPartnerQuota has a partner fill its quota, in many sessions. The pushes of another partner and of the
// party's own containers are accepted, in the same session too, also after a restart.
func TestPartnerQuota(t *testing.T) {
	const mib = 1 << 20
	cfg := Config{NodeID: "A", Logger: quiet(), Spool: t.TempDir(),
		Limits: Limits{SessionBytes: 16 * mib, TotalBytes: 32 * mib, PartnerBytes: 4 * mib,
			PushTimeout: 2 * time.Second}}
	tr, err := New(cfg)
	require.NoError(t, err)
	invoke := func(from, session string) wire.Answer {
		c := serveAs(t, tr, partner(from)).container(t, session).with(wire.HeaderURI, pathPush).
			with(wire.HeaderVersion, wire.PassThrough)
		_, out, err := c.post(t.Context(), pathInvoke, "A", c.pushBody("x", make([]byte, mib)))
		require.NoError(t, err)
		return out
	}
	fill := func() wire.Answer {
		for i := range 100 {
			if out := invoke("B", "s"+strings.Repeat("i", i%8)); out.Code != status.OK {
				return out
			}
		}
		require.Fail(t, "the partner has filled the spool")
		return wire.Answer{}
	}
	full := fill()
	require.Equal(t, status.BufferFull, full.Code)
	require.Contains(t, full.Message, "messages of B hold")
	require.LessOrEqual(t, tr.Stats().Bytes, int64(4*mib))

	require.NoError(t, tr.Close(t.Context()))
	tr = open(t, cfg)
	require.Equal(t, status.BufferFull, fill().Code, "a restart does not reset the quota")
	require.Equal(t, status.OK, invoke("C", "s").Code)
	own := serveAs(t, tr, identity.Principal{Kind: identity.KindContainer}).container(t, "s")
	own.mustPush("A", "own", make([]byte, mib))

	own.mustPop("x")
	require.Equal(t, status.OK, invoke("B", "s").Code, "what was read counts no more")
}
