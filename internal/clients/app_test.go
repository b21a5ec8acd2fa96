package clients

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/fateflow"
	"hutong/internal/identity"
	"hutong/store"
)

func TestApps(t *testing.T) {
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	roles := []identity.Role{identity.Viewer, identity.Operator}
	rows := &table{rows: map[string]store.Token{}}
	token, row, err := NewApp(t.Context(), rows, "flow", roles, "root", nil)
	require.NoError(t, err)
	require.True(t, row.App)
	require.Regexp(t, `^[a-z2-7]{52}$`, token)
	require.NotContains(t, string(row.Hash), token)
	other, otherRow, err := NewApp(t.Context(), rows, "flow", roles, "root", nil)
	require.NoError(t, err)
	require.NotEqual(t, token, other)
	bearerToken, bearerRow, err := NewToken("flow", roles, "root", nil)
	require.NoError(t, err)
	for _, r := range []store.Token{row, otherRow, bearerRow} {
		rows.rows[string(r.Hash)] = r
	}
	a := New(Config{}, rows)
	a.now = func() time.Time { return now }
	signed := func(id, token, user string, at time.Time) http.Header {
		header := http.Header{}
		fateflow.App{ID: id, Token: token}.SignClient(header, user, at)
		return header
	}
	ask := func(header http.Header) (identity.Principal, error) {
		return a.Authenticate(t.Context(), Request{Header: header, Address: "192.0.2.7"})
	}

	want := identity.Principal{Kind: identity.KindClient, Name: "flow", Roles: roles,
		Proof: identity.ByFATE, Credential: row.TokenID, Address: "192.0.2.7"}
	header := signed(row.TokenID, token, "", now)
	p, err := ask(header)
	require.NoError(t, err)
	require.Equal(t, want, p)
	require.Equal(t, []string{row.TokenID}, rows.used)
	_, err = ask(header)
	requireRefused(t, err, bfia.CodeUnauthenticated, "replay", token)
	p, err = ask(signed(row.TokenID, token, "root", now))
	require.NoError(t, err)
	require.Equal(t, want, p, "the name that the client chooses doesn't count")

	for _, c := range []struct {
		name, reason string
		header       http.Header
	}{
		{"wrong token", "invalid signature", signed(row.TokenID, strings.Repeat("a", 52), "", now)},
		{"the token of another app", "invalid signature", signed(row.TokenID, other, "", now)},
		{"no token", "invalid signature", signed(row.TokenID, "", "", now)},
		{"the app's hash", "invalid signature", signed(row.TokenID, string(row.Hash), "", now)},
		{"unknown app", "unknown app", signed("t-aaaaaaaaaaaa", token, "", now)},
		{"no app's id", "unknown app", signed("t-\xff'\x00", token, "", now)},
		{"FATE-Flow's administrator", "unknown app", signed("admin", "fate_flow_admin", "", now)},
		{"bearer token", "unknown app", signed(bearerRow.TokenID, bearerToken, "", now)},
		{"old", "stale signature", signed(row.TokenID, token, "",
			now.Add(-fateflow.SignatureValidity-time.Millisecond))},
		{"of the future", "stale signature", signed(row.TokenID, token, "",
			now.Add(fateflow.SignatureSkew+time.Millisecond))},
		{"two signatures", "invalid headers", func() http.Header {
			h := signed(row.TokenID, token, "", now)
			h.Add("Signature", h.Get("Signature"))
			return h
		}()},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ask(c.header)
			requireRefused(t, err, bfia.CodeUnauthenticated, c.reason, token)
		})
	}

	// Without a signature, an app's id is no proof, also not that of FATE-Flow's administrator.
	p, err = ask(http.Header{"Appid": {"admin"}})
	require.NoError(t, err)
	require.Equal(t, identity.KindAnonymous, p.Kind)
	// The token of an app is no bearer token.
	for _, bearer := range []string{token, TokenPrefix + token} {
		_, err = ask(http.Header{"Authorization": {"Bearer " + bearer}})
		requireRefused(t, err, bfia.CodeUnauthenticated, "unknown token", token)
	}
	appAsBearer := bearerRow
	appAsBearer.App = true
	rows.rows[string(bearerRow.Hash)] = appAsBearer
	_, err = ask(bearerOf(bearerToken).Header)
	requireRefused(t, err, bfia.CodeUnauthenticated, "unknown token", bearerToken)

	for reason, change := range map[string]func(*store.Token){
		"revoked": func(r *store.Token) { r.RevokedAt = &now },
		"expired": func(r *store.Token) { r.ExpiresAt = &now },
	} {
		changed := row
		change(&changed)
		rows.rows[string(row.Hash)] = changed
		_, err := ask(signed(row.TokenID, token, "", now))
		requireRefused(t, err, bfia.CodeUnauthenticated, reason, token)
	}

	rows.rows[string(row.Hash)] = row
	rows.err = bfia.Errorf(bfia.CodeUnavailable, "the database does not answer")
	_, err = ask(signed(row.TokenID, token, "", now))
	require.Equal(t, bfia.CodeUnavailable, bfia.CodeOf(err), "a database that fails lets nobody in")
}
