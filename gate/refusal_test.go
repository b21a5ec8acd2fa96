package gate_test

import (
	"bytes"
	"net/http"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/gate"
	"hutong/internal/identity"
)

// TestRefusalsAreRecorded checks that each kind of refusal is recorded with who made the request, and nothing
// else is.
func TestRefusalsAreRecorded(t *testing.T) {
	var mu sync.Mutex
	var recorded []gate.Refusal
	p := newParty(t, func(c *gate.Config) {
		c.OnRefusal = func(r gate.Refusal) {
			mu.Lock()
			defer mu.Unlock()
			recorded = append(recorded, r)
		}
	})
	const callback, push = bfia.PathPlatformCallback, "/v1/interconn/chan/push"
	session := bfia.SessionID(jobID)
	known := func(proof identity.Proof, credential, address string) identity.Principal {
		return identity.Principal{Kind: identity.KindContainer, Node: "A", Proof: proof,
			Credential: credential, Address: address,
			Run: identity.Run{JobID: jobID, TaskID: taskA, Role: "guest.0", Session: session}}
	}
	unknown := identity.Principal{Kind: identity.KindContainer, Node: "A", Address: "127.0.0.9",
		Proof: identity.ByNothing}
	other, err := gate.NewKeys(bytes.Repeat([]byte{8}, 32))
	require.NoError(t, err)
	for name, c := range map[string]struct {
		address, path, body string
		headers             []string
		caller              identity.Principal
		act, session        string
		reason              string
	}{
		"report of another task": {"127.0.0.2", callback,
			reportOf(taskB, "guest.0", bfia.TaskSuccess), nil,
			known(identity.ByAddress, "127.0.0.2", "127.0.0.2"), "POST " + callback, "",
			"reports nothing else"},
		"report of a stranger": {"127.0.0.9", callback, reportOf(taskA, "guest.0", bfia.TaskSuccess), nil,
			unknown, "POST " + callback, "", "no container of this party has the address"},
		"forged token": {"127.0.0.9", gate.CallbackPath(other.Token("a")),
			reportOf(taskA, "guest.0", bfia.TaskSuccess), nil,
			unknown, "POST " + callback, "", "not that of a container"},
		"session of another job": {"127.0.0.2", push, "{}", []string{"x-ptp-session-id", "session_other"},
			known(identity.ByAddress, "127.0.0.2", "127.0.0.2"), "POST " + push, "session_other",
			"the session of this container is"},
		"final release": {"127.0.0.2", "/v1/interconn/chan/release", "{}",
			[]string{"x-ptp-session-id", session, "x-ptp-final", "true"},
			known(identity.ByAddress, "127.0.0.2", "127.0.0.2"), "POST /v1/interconn/chan/release", session,
			"can't release a session for good"},
		"token of another address": {"127.0.0.3", push, "{}", []string{"x-ptp-session-id", session,
			"x-ptp-token", p.keys.Token("a")}, identity.Principal{Kind: identity.KindContainer, Node: "A",
			Address: "127.0.0.3", Proof: identity.ByNothing}, "POST " + push, session,
			"from another address"},
		"another endpoint of the party": {"127.0.0.2", "/v2/data/download", "{}", nil,
			known(identity.ByAddress, "127.0.0.2", "127.0.0.2"), "POST /v2/data/download", "",
			"no such route"},
	} {
		recorded = nil
		status, text := p.post(t, c.address, c.path, c.body, c.headers...)
		require.GreaterOrEqual(t, status, 400, name)
		require.Len(t, recorded, 1, "%s: %s", name, text)
		r := recorded[0]
		require.Equal(t, c.caller, r.Caller, name)
		require.Equal(t, c.act, r.Act, name)
		require.Equal(t, c.session, r.Session, name)
		require.Contains(t, r.Reason, c.reason, name)
	}

	recorded = nil
	status, _ := p.post(t, "127.0.0.2", callback, reportOf(taskA, "guest.0", bfia.TaskRunning))
	require.Equal(t, http.StatusOK, status)
	status, _ = p.post(t, "127.0.0.2", push, "{}", "x-ptp-session-id", session)
	require.Equal(t, http.StatusOK, status)
	status, _ = p.post(t, "127.0.0.2", callback, "{")
	require.Equal(t, http.StatusBadRequest, status)
	require.Empty(t, recorded, "what is allowed or malformed is no refusal")
}
