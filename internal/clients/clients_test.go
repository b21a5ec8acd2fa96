package clients

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/identity"
	"hutong/store"
)

// table holds tokens by their hashes.
type table struct {
	rows       map[string]store.Token
	used       []string
	signatures map[string]bool
	err        error
}

func (t *table) TokenByID(_ context.Context, id string) (store.Token, bool, error) {
	for _, row := range t.rows {
		if row.TokenID == id {
			return row, true, t.err
		}
	}
	return store.Token{}, false, t.err
}

func (t *table) Secret(_ context.Context, name string) ([]byte, error) {
	return []byte("secret " + name), t.err
}

func (t *table) UseNonce(_ context.Context, node, value, request string) (bool, error) {
	key := node + "\n" + value + "\n" + request
	used := t.signatures[key]
	if t.signatures == nil {
		t.signatures = map[string]bool{}
	}
	t.signatures[key] = true
	return !used, t.err
}

func (t *table) TokenByHash(_ context.Context, hash []byte) (store.Token, bool, error) {
	row, found := t.rows[string(hash)]
	return row, found, t.err
}

func (t *table) UseToken(_ context.Context, row store.Token, _ time.Time) error {
	t.used = append(t.used, row.TokenID)
	return nil
}

func bearerOf(token string) Request {
	return Request{Header: http.Header{"Authorization": {"Bearer " + token}}, Address: "192.0.2.7"}
}

// requireRefused checks the code and the reason of a refusal, and that it does not contain the credentials.
func requireRefused(t *testing.T, err error, code bfia.Code, reason, secret string) {
	t.Helper()
	require.Equal(t, code, bfia.CodeOf(err), "%v", err)
	var refused *Refusal
	require.True(t, errors.As(err, &refused), "%v", err)
	assert.Equal(t, reason, refused.Reason)
	if secret != "" {
		assert.NotContains(t, err.Error(), secret)
		assert.NotContains(t, bfia.MessageOf(err), secret)
	}
}

func TestTokens(t *testing.T) {
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	later := now.Add(time.Hour)
	secret, row, err := NewToken("alice", []identity.Role{identity.Viewer, identity.Logs}, "root", &later)
	require.NoError(t, err)
	require.Regexp(t, `^ht_[a-z2-7]{52}$`, secret)
	require.Len(t, row.Hash, 32)
	other, otherRow, err := NewToken("alice", []identity.Role{identity.Viewer}, "root", nil)
	require.NoError(t, err)
	require.NotEqual(t, secret, other)
	require.NotEqual(t, row.TokenID, otherRow.TokenID)

	rows := &table{rows: map[string]store.Token{string(row.Hash): row}}
	a := New(Config{}, rows)
	a.now = func() time.Time { return now }
	p, err := a.Authenticate(t.Context(), bearerOf(secret))
	require.NoError(t, err)
	require.Equal(t, identity.Principal{Kind: identity.KindClient, Name: "alice",
		Roles: []identity.Role{
			identity.Viewer,
			identity.Logs,
		}, Proof: identity.ByToken, Credential: row.TokenID,
		Expires: later, Address: "192.0.2.7"}, p)
	require.Equal(t, []string{row.TokenID}, rows.used)

	for _, c := range []struct {
		name, token, reason string
		change              func(*store.Token)
	}{
		{"unknown", other, "unknown token", nil},
		{"one letter changed", secret[:10] + string('a'+(secret[10]-'a'+1)%26) + secret[11:],
			"unknown token", nil},
		{"cut", secret[:len(secret)-1], "unknown token", nil},
		{"longer", secret + "aa", "unknown token", nil},
		{"empty", TokenPrefix, "unknown token", nil},
		{"capital letters", "ht_" + "A" + secret[4:], "unknown token", nil},
		{"expires now", secret, "expired", func(r *store.Token) { r.ExpiresAt = &now }},
		{"revoked", secret, "revoked", func(r *store.Token) { r.RevokedAt = &later }},
		{"another hash", secret, "unknown token", func(r *store.Token) { r.Hash = otherRow.Hash }},
	} {
		t.Run(c.name, func(t *testing.T) {
			changed := row
			if c.change != nil {
				c.change(&changed)
			}
			a := New(Config{}, &table{rows: map[string]store.Token{string(row.Hash): changed}})
			a.now = func() time.Time { return now }
			_, err := a.Authenticate(t.Context(), bearerOf(c.token))
			requireRefused(t, err, bfia.CodeUnauthenticated, c.reason, secret)
		})
	}

	down := bfia.Errorf(bfia.CodeUnavailable, "the database does not answer")
	_, err = New(Config{}, &table{err: down}).Authenticate(t.Context(), bearerOf(secret))
	require.Equal(t, bfia.CodeUnavailable, bfia.CodeOf(err), "a database that fails lets nobody in")
}

func TestNewTokenRefuses(t *testing.T) {
	viewer := []identity.Role{identity.Viewer}
	for _, c := range []struct {
		name  string
		roles []identity.Role
		want  string
	}{
		{"", viewer, "name: "}, {" alice", viewer, "name: "}, {"a\nb", viewer, "name: "},
		{"\xff", viewer, "name: "}, {string(make([]byte, 129)), viewer, "name: "},
		{"alice", nil, "roles: is empty"}, {"alice", []identity.Role{"root"}, `roles: "root" is not a role`},
	} {
		_, _, err := NewToken(c.name, c.roles, "root", nil)
		require.ErrorContains(t, err, c.want)
		require.Equal(t, bfia.CodeBadRequest, bfia.CodeOf(err))
	}
}

func TestAuthorizationHeader(t *testing.T) {
	a := New(Config{}, &table{})
	p, err := a.Authenticate(t.Context(), Request{Header: http.Header{}})
	require.NoError(t, err)
	require.Equal(t, identity.Principal{}, p, "no proof is anonymous")

	for _, c := range []struct {
		reason string
		values []string
	}{
		{"unknown scheme", []string{"Basic YWxpY2U6c2VjcmV0"}}, {"unknown scheme", []string{""}},
		{"unknown scheme", []string{"ht_abc"}}, {"no token", []string{"Bearer"}},
		{"no token", []string{"bearer  "}},
		{"two proofs", []string{"Bearer a", "Bearer b"}},
		{"unknown token", []string{"Bearer eyJhbGciOiJub25lIn0.e30."}},
		{"too long", []string{"Bearer " + string(make([]byte, maxCredentials+1)) + "x"}},
	} {
		_, err := a.Authenticate(t.Context(), Request{Header: http.Header{"Authorization": c.values}})
		requireRefused(t, err, bfia.CodeUnauthenticated, c.reason, "")
		assert.Equal(t, `Bearer realm="hutong", error="invalid_token"`, Challenge(err))
	}
	assert.Equal(t, `Bearer realm="hutong"`, Challenge(bfia.Errorf(bfia.CodeUnauthenticated, "credentials")))
}

func TestCertificates(t *testing.T) {
	a := New(Config{Certificates: []Certificate{
		{Subject: "spiffe://bank/ci", Name: "ci", Roles: []identity.Role{identity.Operator}},
		{Subject: "alice@bank.example", Roles: []identity.Role{identity.Viewer}},
		{Subject: "Bob", Name: "bob", Roles: []identity.Role{identity.Approver}},
	}}, &table{})
	uri, err := url.Parse("spiffe://bank/ci")
	require.NoError(t, err)
	for _, c := range []struct {
		leaf x509.Certificate
		name string
		role identity.Role
	}{
		{x509.Certificate{URIs: []*url.URL{uri}}, "ci", identity.Operator},
		{x509.Certificate{EmailAddresses: []string{"x@y", "alice@bank.example"}}, "alice@bank.example",
			identity.Viewer},
		{x509.Certificate{Subject: pkix.Name{CommonName: "Bob"}}, "bob", identity.Approver},
	} {
		c.leaf.Raw = []byte(c.name)
		p, err := a.Authenticate(t.Context(), Request{Chains: [][]*x509.Certificate{{&c.leaf}}})
		require.NoError(t, err)
		assert.Equal(t, c.name, p.Name)
		assert.Equal(t, []identity.Role{c.role}, p.Roles)
		assert.Equal(t, identity.ByCertificate, p.Proof)
		assert.Regexp(t, "^sha256:[0-9a-f]{64}$", p.Credential)
	}
	for _, leaf := range []x509.Certificate{{}, {Subject: pkix.Name{CommonName: "bob"}},
		{Subject: pkix.Name{CommonName: "Bo"}}} {
		_, err := a.Authenticate(t.Context(), Request{Chains: [][]*x509.Certificate{{&leaf}}})
		requireRefused(t, err, bfia.CodeForbidden, "unknown certificate", "")
	}

	_, err = a.Authenticate(t.Context(), Request{Header: http.Header{"Authorization": {"Bearer ht_x"}},
		Chains: [][]*x509.Certificate{{{Subject: pkix.Name{CommonName: "Bob"}}}}})
	requireRefused(t, err, bfia.CodeUnauthenticated, "unknown token", "")
}
