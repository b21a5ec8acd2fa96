package clients

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/identity"
	"hutong/store"
)

// TestRecheck checks that a client which proved earlier who it is has the roles that it has now, and none
// once its credentials have ended.
func TestRecheck(t *testing.T) {
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	operator := []identity.Role{identity.Operator}
	_, row, err := NewToken("alice", operator, "root", nil)
	require.NoError(t, err)
	past := now.Add(-time.Hour)
	later := map[string]store.Token{}
	for name, change := range map[string]func(*store.Token){
		"same": func(*store.Token) {}, "revoked": func(r *store.Token) { r.RevokedAt = &past },
		"expired": func(r *store.Token) { r.ExpiresAt = &past },
		"less":    func(r *store.Token) { r.Roles = []string{"viewer"} },
	} {
		changed := row
		change(&changed)
		later[name] = changed
	}
	recheck := func(cfg Config, p identity.Principal, proved time.Time, rows ...store.Token,
	) (identity.Principal, error) {
		tokens := &table{rows: map[string]store.Token{}}
		for _, r := range rows {
			tokens.rows[string(r.Hash)] = r
		}
		a := New(cfg, tokens)
		a.now = func() time.Time { return now }
		return a.Recheck(t.Context(), p, proved)
	}
	alice := identity.Principal{Kind: identity.KindClient, Name: "alice", Roles: operator,
		Proof: identity.ByToken, Credential: row.TokenID}

	p, err := recheck(Config{}, alice, past, later["same"])
	require.NoError(t, err)
	require.Equal(t, alice, p)
	p, err = recheck(Config{}, alice, past, later["less"])
	require.NoError(t, err)
	require.False(t, p.Can(identity.Operator), "the roles are those of now")
	for _, name := range []string{"revoked", "expired"} {
		_, err = recheck(Config{}, alice, past, later[name])
		requireRefused(t, err, bfia.CodeUnauthenticated, name, "")
	}
	_, err = recheck(Config{}, alice, past)
	requireRefused(t, err, bfia.CodeUnauthenticated, "unknown token", "")

	byCertificate := alice
	byCertificate.Proof, byCertificate.Name = identity.ByCertificate, "ci"
	p, err = recheck(Config{Certificates: []Certificate{{Subject: "spiffe://bank/ci", Name: "ci",
		Roles: []identity.Role{identity.Viewer}}}}, byCertificate, past)
	require.NoError(t, err)
	require.Equal(t, []identity.Role{identity.Viewer}, p.Roles)
	_, err = recheck(Config{}, byCertificate, past)
	requireRefused(t, err, bfia.CodeForbidden, "unknown certificate", "")

	byOIDC := alice
	byOIDC.Proof = identity.ByOIDC
	oidc := Config{OIDC: &OIDCConfig{Issuer: "https://id.example", HTTP: &http.Client{}}}
	p, err = recheck(oidc, byOIDC, now.Add(-IDTokenHolds))
	require.NoError(t, err)
	require.Equal(t, byOIDC, p)
	_, err = recheck(oidc, byOIDC, now.Add(-IDTokenHolds-time.Second))
	requireRefused(t, err, bfia.CodeUnauthenticated, "expired", "")
	_, err = recheck(Config{}, byOIDC, past)
	requireRefused(t, err, bfia.CodeUnauthenticated, "unknown user", "")

	_, err = recheck(oidc, identity.Principal{Kind: identity.KindClient, Proof: identity.ByNothing}, past)
	requireRefused(t, err, bfia.CodeUnauthenticated, "no proof", "")
}
