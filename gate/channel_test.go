package gate_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/gate"
	"hutong/internal/identity"
)

// A transport in another process gets the same calls, with the same caller, over HTTP/1 and HTTP/2, and only
// from the party's own processes.
func TestRemoteTransport(t *testing.T) {
	p := newParty(t)
	var forged []string
	remote := httptest.NewUnstartedServer(nil)
	behind := p.gate.Server().Server
	behind.Handler = p.keys.Accept(http.HandlerFunc(p.transport), func(_ *http.Request, err error) {
		forged = append(forged, err.Error())
	})
	remote.Config = behind
	remote.Start()
	defer remote.Close()
	address := strings.TrimPrefix(remote.URL, "http://")
	front := newParty(t, func(c *gate.Config) {
		c.Transport = gate.RemoteTransport(address, c.Keys, slog.New(slog.DiscardHandler))
	})
	for _, unencryptedHTTP2 := range []bool{false, true} {
		p.calls = nil
		client := from("127.0.0.2")
		if unencryptedHTTP2 {
			pool := client.Transport.(*http.Transport)
			pool.Protocols = new(http.Protocols)
			pool.Protocols.SetUnencryptedHTTP2(true)
		}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost,
			front.server.URL+"/v1/interconn/chan/push", bytes.NewReader(make([]byte, 64<<20)))
		require.NoError(t, err)
		r.Header.Set("x-ptp-session-id", bfia.SessionID(jobID))
		answer, err := client.Do(r)
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
		require.Equal(t, 200, answer.StatusCode)
		require.Len(t, p.calls, 1)
		require.Equal(t, taskA, p.calls[0].caller.Run.TaskID)
		require.Equal(t, identity.ByAddress, p.calls[0].caller.Proof)
		require.Len(t, p.calls[0].body, 64<<20)
		require.Empty(t, p.calls[0].header.Get(gate.CallerHeader))
	}

	p.calls = nil
	r, err := http.NewRequestWithContext(
		t.Context(),
		http.MethodPost,
		remote.URL+"/v1/interconn/chan/push",
		nil,
	)
	require.NoError(t, err)
	r.Header.Set(gate.CallerHeader, "forged.forged")
	answer, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	require.Equal(t, 403, answer.StatusCode)
	require.Empty(t, p.calls)
	require.Len(t, forged, 1)
	require.Contains(t, forged[0], "was not made by a process of this party")

	remote.Close()
	status, text := front.post(t, "127.0.0.2", "/v1/interconn/chan/pop", "{}", "x-ptp-session-id",
		bfia.SessionID(jobID))
	require.Equal(t, 503, status)
	require.Contains(t, text, "E0000000602")
}

// newRemote returns a gate before a transport in another process.
func newRemote(t *testing.T, transport http.HandlerFunc) *party {
	t.Helper()
	remote := httptest.NewUnstartedServer(nil)
	behind := newParty(t).gate.Server().Server // with HTTP/2
	behind.Handler = transport
	remote.Config = behind
	remote.Start()
	t.Cleanup(remote.Close)
	address := strings.TrimPrefix(remote.URL, "http://")
	return newParty(t, func(c *gate.Config) {
		c.Transport = gate.RemoteTransport(address, c.Keys, slog.New(slog.DiscardHandler))
	})
}

// An answer that the transport begins before the request has ended arrives whole: nothing of a message is cut
// off.
func TestEarlyAnswerOfRemoteTransport(t *testing.T) {
	message := bytes.Repeat([]byte("message "), 1<<20)
	front := newRemote(t, func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		_, _ = w.Write(message)
		_, _ = io.Copy(io.Discard, r.Body)
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	body, end := io.Pipe()
	go func() { _, _ = end.Write([]byte("{}")) }()
	url := front.server.URL + "/v1/interconn/chan/pop"
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, body)
	require.NoError(t, err)
	r.Header.Set("x-ptp-session-id", bfia.SessionID(jobID))
	answer, err := from("127.0.0.2").Do(r)
	require.NoError(t, err)
	got := make([]byte, len(message))
	_, err = io.ReadFull(answer.Body, got)
	require.NoError(t, err)
	require.True(t, bytes.Equal(message, got))
	require.NoError(t, end.Close())
	rest, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	require.Empty(t, rest)
	require.NoError(t, answer.Body.Close())
}

// Large answers to short requests on one connection arrive whole, however soon the transport answers.
func TestAnswersOfRemoteTransportAreWhole(t *testing.T) {
	message := bytes.Repeat([]byte("message "), 1<<17)
	front := newRemote(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(message) })
	client := from("127.0.0.2")
	client.Transport.(*http.Transport).DisableKeepAlives = false
	for i := range 1000 {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost,
			front.server.URL+"/v1/interconn/chan/pop", strings.NewReader(`{"topic":"t"}`))
		require.NoError(t, err)
		r.Header.Set("x-ptp-session-id", bfia.SessionID(jobID))
		answer, err := client.Do(r)
		require.NoError(t, err)
		got, err := io.ReadAll(answer.Body)
		require.NoError(t, err, "answer %d", i)
		require.Len(t, got, len(message))
		require.NoError(t, answer.Body.Close())
	}
}

// A call of gRPC that the transport refuses has its status where gRPC's clients look for it.
func TestStatusOfRemoteTransport(t *testing.T) {
	front := newRemote(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Grpc-Status", "10")
		w.Header().Set("Grpc-Message", "the session was released")
	})
	client := from("127.0.0.2")
	pool := client.Transport.(*http.Transport)
	pool.Protocols = new(http.Protocols)
	pool.Protocols.SetUnencryptedHTTP2(true)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost,
		front.server.URL+"/org.ppc.ptp.PrivateTransferTransport/pop", strings.NewReader(""))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/grpc")
	r.Header.Set("x-ptp-session-id", bfia.SessionID(jobID))
	answer, err := client.Do(r)
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, answer.Body)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	require.Equal(t, 2, answer.ProtoMajor)
	require.Empty(t, answer.Header.Get("Grpc-Status"))
	require.Equal(t, "10", answer.Trailer.Get("Grpc-Status"))
	require.Equal(t, "the session was released", answer.Trailer.Get("Grpc-Message"))
}
