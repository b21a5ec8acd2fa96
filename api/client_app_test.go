package api

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/fateflow"
	"hutong/fateflow/fateclient"
	"hutong/internal/identity"
	"hutong/store/storetest"
)

// TestApps checks requests that FATE's clients sign with the token of an app, at two API processes of a
// party: which are served, and why the others are refused.
func TestApps(t *testing.T) {
	address := storetest.SQLite(t)
	first := newStrictParty(t, storetest.Open(t, address))
	second := newStrictParty(t, storetest.Open(t, address))
	first.store = storetest.Open(t, address)
	first.server.store = first.store
	over, other := first.client(), second.client()
	admin := first.token("root", nil, identity.Admin)

	later := time.Now().Add(time.Hour)
	create := func(name string, roles ...string) (bfia.TokenCreated, fateflow.App) {
		status, header, answer := first.ask(over, admin, http.MethodPost, bfia.PathTokenCreate,
			bfia.CreateToken{Name: name, Roles: roles, ExpiresAt: &later, App: true})
		require.Equal(t, http.StatusOK, status, answer.Text())
		require.Equal(t, "no-store", header.Get("Cache-Control"))
		var made bfia.TokenCreated
		require.NoError(t, json.Unmarshal(answer.Data, &made))
		require.True(t, made.App)
		return made, fateflow.App{ID: made.TokenID, Token: made.Token}
	}
	made, app := create("flow", "viewer")
	_, foreign := create("other", "viewer", "operator")
	signed := func(app fateflow.App, at time.Time) http.Header {
		header, raw := http.Header{}, http.Header{}
		app.SignClient(header, "", at)
		for _, name := range fateflow.AuthenticationHeaders() {
			raw[name] = header.Values(name) // with the letters that FATE's client sends
		}
		return raw
	}
	refused := func(p *strictParty, by *http.Client, header http.Header, message string) {
		t.Helper()
		status, answered, answer := p.askWith(by, header, http.MethodGet, fateclient.PathServer, nil)
		require.Equal(t, http.StatusUnauthorized, status, answer.Text())
		require.Equal(t, bfia.CodeUnauthenticated, answer.Code)
		require.Contains(t, answer.Text(), message)
		require.Equal(t, `Bearer realm="hutong", error="invalid_token"`, answered.Get("WWW-Authenticate"))
	}

	header := signed(app, time.Now())
	status, _, answer := second.askWith(other, header, http.MethodGet, fateclient.PathServer, nil)
	require.Equal(t, http.StatusOK, status, answer.Text())
	require.True(t, answer.OK(), answer.Text())
	refused(second, other, header, "was used before")
	refused(first, over, header, "was used before")
	status, _, answer = first.askWith(over, signed(app, time.Now()), http.MethodGet, bfia.PathWhoAmI, nil)
	require.Equal(t, http.StatusOK, status, answer.Text())
	var who bfia.WhoAmI
	require.NoError(t, json.Unmarshal(answer.Data, &who))
	require.Equal(t, "flow", who.Name)
	require.Equal(t, []string{"viewer"}, who.Roles)
	require.Equal(t, "fate", who.Proof)
	require.Equal(t, made.TokenID, who.Credential)

	stop := bfia.JobRef{JobID: "none"}
	status, _, answer = first.askWith(over, signed(app, time.Now()), http.MethodPost, fateclient.PathJobStop,
		stop)
	require.Equal(t, http.StatusForbidden, status, answer.Text())
	require.Contains(t, answer.Text(), "flow lacks the role operator")
	status, _, answer = first.askWith(over, signed(foreign, time.Now()), http.MethodPost,
		fateclient.PathJobStop, stop)
	require.Equal(t, http.StatusOK, status, answer.Text())
	require.Equal(t, fateclient.CodeNoJob, answer.Code, "served: there is no such job")

	now := time.Now()
	refused(first, over, signed(fateflow.App{ID: app.ID, Token: foreign.Token}, now), "verify failed")
	refused(first, over, signed(fateflow.App{ID: "admin", Token: "fate_flow_admin"}, now), "no found appid")
	refused(first, over, signed(app, now.Add(-fateflow.SignatureValidity-time.Second)), "request has expired")
	refused(first, over, signed(app, now.Add(time.Hour)), "in the future")
	altered := signed(app, now)
	altered["userName"] = []string{"alice"}
	refused(first, over, altered, "verify failed")
	status, _, answer = first.askWith(over, http.Header{"appId": {"admin"}}, http.MethodGet,
		fateclient.PathServer, nil)
	require.Equal(t, http.StatusUnauthorized, status, answer.Text())
	status, _, _ = first.ask(over, app.Token, http.MethodGet, fateclient.PathServer, nil)
	require.Equal(t, http.StatusUnauthorized, status, "the token of an app is no bearer token")

	_, _, answer = first.ask(over, admin, http.MethodGet, bfia.PathTokenQuery, nil)
	require.NotContains(t, string(answer.Data), app.Token)
	require.Contains(t, string(answer.Data), `"token_id":"`+app.ID+`","app":true,"name":"flow"`)
	status, _, answer = first.ask(over, admin, http.MethodPost, bfia.PathTokenRevoke,
		bfia.RevokeToken{TokenID: app.ID})
	require.Equal(t, http.StatusOK, status, answer.Text())
	refused(second, other, signed(app, time.Now()), "was revoked")

	for _, secret := range []string{app.Token, foreign.Token} {
		require.NotContains(t, first.log.String()+second.log.String(), secret)
		entries, err := first.store.Tokens(t.Context())
		require.NoError(t, err)
		rows, err := json.Marshal(entries)
		require.NoError(t, err)
		require.False(t, strings.Contains(string(rows), secret))
	}
}
