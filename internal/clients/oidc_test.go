package clients

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/identity"
)

// issuer is an OpenID provider whose tokens the test makes as it likes. The tests of the command line use a
// real one.
type issuer struct {
	*httptest.Server
	key      jose.JSONWebKey
	requests atomic.Int32 // for keys
	status   atomic.Int32 // of answers, if set
}

func newKey(t *testing.T, id string) jose.JSONWebKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return jose.JSONWebKey{Key: key, KeyID: id, Algorithm: "ES256", Use: "sig"}
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	i := &issuer{key: newKey(t, "k1")}
	i.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if status := i.status.Load(); status != 0 {
			w.WriteHeader(int(status))
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Path == "/keys" {
			i.requests.Add(1)
			_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{i.key.Public()}})
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"issuer": i.URL, "jwks_uri": i.URL + "/keys",
			"authorization_endpoint": i.URL + "/auth", "token_endpoint": i.URL + "/token",
			"id_token_signing_alg_values_supported": []string{"ES256", "RS256", "none", "HS256"}})
	}))
	t.Cleanup(i.Close)
	return i
}

func sign(t *testing.T, algorithm jose.SignatureAlgorithm, key any, claims map[string]any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key}, nil)
	require.NoError(t, err)
	body, err := json.Marshal(claims)
	require.NoError(t, err)
	signed, err := signer.Sign(body)
	require.NoError(t, err)
	token, err := signed.CompactSerialize()
	require.NoError(t, err)
	return token
}

func (i *issuer) config() *OIDCConfig {
	return &OIDCConfig{Issuer: i.URL, Audience: "hutong", RolesClaim: "groups", HTTP: i.Client(),
		Roles: map[string][]identity.Role{
			"staff": {identity.Viewer},
			"ops":   {identity.Operator, identity.Viewer},
		}}
}

func TestIDTokens(t *testing.T) {
	i := newIssuer(t)
	claims := map[string]any{
		"iss":            i.URL,
		"aud":            "hutong",
		"sub":            "u1",
		"exp":            time.Now().Add(time.Hour).Unix(),
		"email":          "alice@bank.example",
		"email_verified": true,
		"groups":         []string{"ops", "staff", "other"},
	}
	with := func(changes map[string]any) map[string]any {
		changed := maps.Clone(claims)
		maps.Copy(changed, changes)
		return changed
	}
	a := New(Config{OIDC: i.config()}, &table{})
	p, err := a.Authenticate(t.Context(), bearerOf(sign(t, jose.ES256, i.key, claims)))
	require.NoError(t, err)
	require.Equal(t, identity.Principal{Kind: identity.KindClient, Name: "alice@bank.example",
		Roles: []identity.Role{identity.Viewer, identity.Operator}, Proof: identity.ByOIDC,
		Credential: i.URL + "#u1", Expires: time.Unix(claims["exp"].(int64), 0), Address: "192.0.2.7"}, p)

	body := base64.RawURLEncoding.EncodeToString
	payload, err := json.Marshal(claims)
	require.NoError(t, err)
	valid := sign(t, jose.ES256, i.key, claims)
	header, _, _ := strings.Cut(valid, ".")
	public, err := json.Marshal(i.key.Public())
	require.NoError(t, err)
	admin, err := json.Marshal(with(map[string]any{"groups": []string{"ops"}}))
	require.NoError(t, err)
	past := time.Now().Add(-time.Second).Unix()
	for _, c := range []struct{ name, token, reason, want string }{
		{"another issuer", sign(t, jose.ES256, i.key, with(map[string]any{"iss": "https://evil.example"})),
			"not valid", "different provider"},
		{"another audience", sign(t, jose.ES256, i.key, with(map[string]any{"aud": []string{"mail"}})),
			"not valid", "audience"},
		{"no audience", sign(t, jose.ES256, i.key, with(map[string]any{"aud": nil})), "not valid",
			"audience"},
		{"expired", sign(t, jose.ES256, i.key, with(map[string]any{"exp": past})), "expired", "hutong login"},
		{"no expiry", sign(t, jose.ES256, i.key, with(map[string]any{"exp": nil})), "not valid", "claims"},
		{"not yet", sign(t, jose.ES256, i.key, with(map[string]any{"nbf": time.Now().Add(time.Hour).Unix()})),
			"not valid", "nbf"},
		{"no subject", sign(t, jose.ES256, i.key, with(map[string]any{"sub": ""})), "no subject", "subject"},
		{"alg none", body([]byte(`{"alg":"none"}`)) + "." + body(payload) + ".", "not valid", "algorithm"},
		{"alg None", body([]byte(`{"alg":"None"}`)) + "." + body(payload) + ".", "not valid", "algorithm"},
		{"signed with the public key", sign(t, jose.HS256, public, claims), "not valid", "algorithm"},
		{"another key", sign(t, jose.ES256, newKey(t, "k1"), claims), "not valid", "key"},
		{"an unknown key id", sign(t, jose.ES256, newKey(t, "k2"), claims), "not valid", "key"},
		{"other claims", header + "." + body(admin) + valid[strings.LastIndex(valid, "."):], "not valid",
			"key"},
		{"no signature", valid[:strings.LastIndex(valid, ".")+1], "not valid", "key"},
		{"not a token", "abc", "not valid", "malformed"},
		{"name with a line break", sign(t, jose.ES256, i.key, with(map[string]any{"email": "a\nb"})),
			"no name",
			"the name"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := a.Authenticate(t.Context(), bearerOf(c.token))
			requireRefused(t, err, bfia.CodeUnauthenticated, c.reason, "")
			assert.Contains(t, bfia.MessageOf(err), c.want)
		})
	}
	assert.LessOrEqual(
		t,
		i.requests.Load(),
		int32(2),
		"false tokens must not make a flood of requests for keys",
	)
}

func TestClaims(t *testing.T) {
	i := newIssuer(t)
	for _, c := range []struct {
		name   string
		change func(*OIDCConfig)
		claims map[string]any
		want   string
		roles  []identity.Role
	}{
		{"an address that is not verified", nil, map[string]any{"email": "root@bank.example"}, "u1", nil},
		{"a text", nil, map[string]any{"groups": "staff"}, "u1", []identity.Role{identity.Viewer}},
		{"not a text", nil, map[string]any{"groups": []any{7, nil, map[string]any{"staff": true}}},
			"u1", nil},
		{"a path", func(c *OIDCConfig) { c.RolesClaim = "realm_access.roles" },
			map[string]any{"realm_access": map[string]any{"roles": []string{"staff"}}}, "u1",
			[]identity.Role{identity.Viewer}},
		{"a name with dots", func(c *OIDCConfig) { c.RolesClaim = "https://bank.example/roles" },
			map[string]any{"https://bank.example/roles": []string{"staff"}}, "u1",
			[]identity.Role{identity.Viewer}},
		{"a name claim", func(c *OIDCConfig) { c.NameClaim = "preferred_username" },
			map[string]any{"preferred_username": "alice", "email": "x@y", "email_verified": true},
			"alice", nil},
		{"no name claim", func(c *OIDCConfig) { c.NameClaim = "preferred_username" }, nil, "u1", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := i.config()
			if c.change != nil {
				c.change(cfg)
			}
			claims := map[string]any{"iss": i.URL, "aud": "hutong", "sub": "u1",
				"exp": time.Now().Add(time.Hour).Unix()}
			maps.Copy(claims, c.claims)
			p, err := New(Config{OIDC: cfg}, &table{}).Authenticate(t.Context(),
				bearerOf(sign(t, jose.ES256, i.key, claims)))
			require.NoError(t, err)
			assert.Equal(t, c.want, p.Name)
			assert.ElementsMatch(t, c.roles, p.Roles)
		})
	}
}

// A provider that is down refuses nobody for good, and one that comes back is used again. Its tokens are
// then accepted, and a key that it has replaced meanwhile no longer.
func TestProviderDown(t *testing.T) {
	i := newIssuer(t)
	claims := map[string]any{"iss": i.URL, "aud": "hutong", "sub": "u1",
		"exp": time.Now().Add(time.Hour).Unix()}
	i.status.Store(http.StatusBadGateway)
	a := New(Config{OIDC: i.config()}, &table{})
	for range 3 {
		_, err := a.Authenticate(t.Context(), bearerOf(sign(t, jose.ES256, i.key, claims)))
		require.Equal(t, bfia.CodeUnavailable, bfia.CodeOf(err))
	}
	i.status.Store(0)
	a.oidc.failedAt = time.Now().Add(-retryDiscovery)
	_, err := a.oidc.ready(t.Context())
	require.NoError(t, err)

	i.status.Store(http.StatusBadGateway) // its keys
	for range 2 {
		_, err = a.Authenticate(t.Context(), bearerOf(sign(t, jose.ES256, i.key, claims)))
		require.Equal(t, bfia.CodeUnavailable, bfia.CodeOf(err))
	}
	i.status.Store(0)

	// For a moment after an answer the library gives it to others who ask, so it may take more than one
	// request.
	authenticate := func(key jose.JSONWebKey) error {
		a.oidc.keys.mu.Lock()
		a.oidc.keys.asked = time.Time{}
		a.oidc.keys.mu.Unlock()
		_, err := a.Authenticate(t.Context(), bearerOf(sign(t, jose.ES256, key, claims)))
		return err
	}
	accepts := func(key jose.JSONWebKey) func() bool {
		return func() bool { return authenticate(key) == nil }
	}
	require.Eventually(t, accepts(i.key), time.Minute, time.Millisecond)
	old := i.key
	i.key = newKey(t, "k2")
	require.Eventually(t, accepts(i.key), time.Minute, time.Millisecond, "the new key is fetched")
	require.Eventually(t, func() bool {
		return bfia.CodeOf(authenticate(old)) == bfia.CodeUnauthenticated
	}, time.Minute, time.Millisecond)
}
