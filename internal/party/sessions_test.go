package party

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/internal/httpclient"
	"hutong/internal/identity"
	"hutong/transport"
	"hutong/transport/status"
)

// TestSessionsOfPartners checks who may send messages to which session.
func TestSessionsOfPartners(t *testing.T) {
	jobs := map[string][]string{"J": {"A", "B"}, "J_2": {"A", "C"}, "K": {"A", "C"}}
	s := newSessions("A", func(_ context.Context, ids []string) (map[string][]string, error) {
		found := maps.Clone(jobs)
		maps.DeleteFunc(found, func(id string, _ []string) bool { return !slices.Contains(ids, id) })
		return found, nil
	}, slog.New(slog.DiscardHandler))
	for _, c := range []struct {
		caller, op, session string
		allowed             bool
	}{
		{"B", "invoke", "session_J", true},
		{"B", "transport", "session_J", true},
		{"B", "invoke", "session_J_derived", true},
		{"C", "invoke", "session_J", false},
		{"C", "invoke", "session_K", true},
		{"B", "invoke", "session_K", false},
		{"B", "invoke", "session_none", false},
		{"B", "invoke", "J", false},
		{"", "invoke", "session_J", false},
		{"B", "pop", "session_J", false},
		{"B", "release", "session_J", false},
		// By its name this is a session of both J and J_2.
		{"C", "invoke", "session_J_2", false},
		{"B", "invoke", "session_J_2", false},
	} {
		err := s.authorizePartner(t.Context(), transport.Call{Op: c.op, SessionID: c.session,
			Caller: identity.Principal{Kind: identity.KindPartner, Node: c.caller}})
		require.Equal(t, c.allowed, err == nil, "%+v: %v", c, err)
		if err != nil {
			require.Equal(t, status.Forbidden, status.From(err).Code)
		}
	}
	stranger := func(session string) error {
		return s.authorizePartner(t.Context(), transport.Call{Op: "invoke", SessionID: session,
			Caller: identity.Principal{Kind: identity.KindPartner, Node: "Z"}})
	}
	require.EqualError(t, stranger("session_J"),
		`E0000000403: A knows no session "session_J" of a job in which Z takes part`)
	require.EqualError(t, stranger("session_X"),
		`E0000000403: A knows no session "session_X" of a job in which Z takes part`)
}

// TestDerivedSessionsOfContainers checks that a container may derive sessions, but not use that of a job
// whose id begins with its own job's.
func TestDerivedSessionsOfContainers(t *testing.T) {
	exist := []string{"J", "J_2"}
	var down error
	read := func(_ context.Context, ids []string) (map[string][]string, error) {
		found := map[string][]string{}
		for _, id := range exist {
			if slices.Contains(ids, id) {
				found[id] = []string{"A", "B"}
			}
		}
		return found, down
	}
	p := &Party{sessions: newSessions("A", read, slog.New(slog.DiscardHandler))}
	call := func(session string) error {
		return p.mayCall(t.Context(), transport.Call{Op: "pop", SessionID: session,
			Caller: identity.Principal{Kind: identity.KindContainer, Proof: identity.ByToken,
				Run: identity.Run{JobID: "J", TaskID: "t", Role: "guest.0", Session: "session_J"}}})
	}
	require.NoError(t, call("session_J"))
	require.NoError(t, call("session_J_x"))
	require.EqualError(t, call("session_J_2"),
		"E0000000403: the session belongs to another job; the session of this container is session_J")
	require.ErrorContains(t, call("session_J_2_x"), "belongs to another job")
	down = errors.New("no database")
	require.NoError(t, call("session_J"), "its own session needs no database")
	require.Equal(t, status.NoInstance, status.From(call("session_J_new")).Code)
}

// TestAllSessions checks a transport for the containers of another system: it runs alone and without a
// database. Its partners may send to every session, and only send.
func TestAllSessions(t *testing.T) {
	config := Default()
	config.NodeID, config.DataDir = "A", t.TempDir()
	config.Security.Mode, config.Transport.Sessions = SecurityOpen, SessionsAll
	config.Transport.Listen, config.Transport.PartnerPlainListen = "127.0.0.1:0", freeAddress(t)
	config.Routes = Routes{"B": {URL: "http://127.0.0.1:1", TransportURL: "http://127.0.0.1:2",
		Auth: "none", From: []string{"127.0.0.0/8"}}}
	config.Limits.Requests, config.Limits.Burst = 0.1, 5
	require.NoError(t, config.Complete())
	require.NoError(t, config.Validate())
	logger := slog.New(slog.DiscardHandler)
	for _, roles := range []Roles{{API: true}, {Transport: true, Control: true}, {Runner: true}} {
		_, err := Start(t.Context(), config, roles, logger)
		require.ErrorContains(t, err, "transport.sessions of party A is all")
	}
	p, err := Start(t.Context(), config, Roles{Transport: true}, logger)
	require.NoError(t, err)
	defer p.Stop(t.Context())
	require.NoFileExists(t, filepath.Join(config.DataDir, "hutong.db"))
	allowed := map[string]bool{"invoke": true, "transport": true, "pop": false, "release": false}
	for op, allowed := range allowed {
		err := p.authorizeCall(t.Context(), transport.Call{Op: op, SessionID: "session_of_another_system",
			Caller: identity.Principal{Kind: identity.KindPartner, Node: "B", Proof: identity.ByAddress}})
		require.Equal(t, allowed, err == nil, "%s: %v", op, err)
	}

	// A partner without a certificate has the limits of any other.
	invoke := "http://" + config.Transport.PartnerPlainListen + "/v1/interconn/chan/invoke"
	over := httpclient.Direct()
	for i := range 6 {
		status, text, err := post(t, over, invoke, "x-ptp-source-node-id", "B",
			"x-ptp-target-node-id", "A", "x-ptp-session-id", "s", "x-ptp-topic", "t",
			"x-ptp-tech-provider-code", "TEST", "x-ptp-trace-id", "trace", "x-ptp-token", "token",
			"x-ptp-uri", "/v1/interconn/chan/push")
		require.NoError(t, err)
		want := http.StatusOK
		if i == config.Limits.Burst {
			want = http.StatusTooManyRequests
		}
		require.Equal(t, want, status, text)
	}
}

// TestSessionsWithoutDatabase checks that a session that runs outlives the database for a while, and that an
// unknown one is neither accepted nor refused for good meanwhile.
func TestSessionsWithoutDatabase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down error
		reads := 0
		s := newSessions("A", func(_ context.Context, ids []string) (map[string][]string, error) {
			reads++
			if !slices.Contains(ids, "J") {
				return nil, down
			}
			return map[string][]string{"J": {"A", "B"}}, down
		}, slog.New(slog.DiscardHandler))
		call := func(session string) error {
			return s.authorizePartner(t.Context(), transport.Call{Op: "invoke", SessionID: session,
				Caller: identity.Principal{Kind: identity.KindPartner, Node: "B"}})
		}
		for range 10 {
			require.NoError(t, call("session_J"))
		}
		require.Equal(t, 1, reads, "the answer is remembered")

		down = errors.New("no database")
		time.Sleep(2 * sessionCacheTTL)
		require.NoError(t, call("session_J"))
		require.Equal(t, status.NoInstance, status.From(call("session_K")).Code)
		down = nil
		require.Equal(t, status.Forbidden, status.From(call("session_K")).Code)
	})
}
