package clients

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"hutong/bfia"
	"hutong/internal/identity"
)

// OIDCConfig describes the OpenID provider of a party's users.
type OIDCConfig struct {
	// Issuer is the provider's URL, exactly as its tokens name it.
	Issuer string
	// Audience is the client id for which accepted tokens were issued.
	Audience string
	// NameClaim is the claim with the name of the client. Empty: the e-mail address if the provider has
	// verified it. Without the claim the subject is the name.
	NameClaim string
	// RolesClaim is the claim with the values that Roles maps: a text or a list of texts. A dot leads into a
	// claim that is an object.
	RolesClaim string
	// Roles are the roles that a value of the claim gives.
	Roles map[string][]identity.Role
	// HTTP sends the requests to the provider. Its transport must be set.
	HTTP *http.Client
}

// provider verifies the id tokens of an OpenID provider.
type provider struct {
	OIDCConfig

	mu       sync.Mutex
	verifier *oidc.IDTokenVerifier // nil until the provider has answered
	failed   error                 // of the last attempt to reach it,
	failedAt time.Time             // at this time
	keys     *limitedKeys
}

// retryDiscovery is how long a provider that did not answer is not asked again, so that requests do not wait
// for its timeouts one after the other.
const retryDiscovery = 2 * time.Second

func newProvider(cfg OIDCConfig) *provider { return &provider{OIDCConfig: cfg} }

// ready returns the verifier. It reads the provider's configuration once: at the first token, so that a party
// starts without its provider.
func (p *provider) ready(ctx context.Context) (*oidc.IDTokenVerifier, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.verifier != nil {
		return p.verifier, nil
	}
	if p.failed != nil && time.Since(p.failedAt) < retryDiscovery {
		return nil, p.failed
	}
	discovered, err := oidc.NewProvider(oidc.ClientContext(ctx, p.HTTP), p.Issuer)
	if err != nil {
		p.failed = bfia.Wrap(bfia.CodeUnavailable, err,
			"the OpenID provider %s does not answer as expected; try again later", p.Issuer)
		p.failedAt = time.Now()
		return nil, p.failed
	}

	client := *p.HTTP
	p.keys = &limitedKeys{next: p.HTTP.Transport}
	client.Transport = p.keys
	config := &oidc.Config{ClientID: p.Audience}
	p.verifier = discovered.VerifierContext(oidc.ClientContext(context.Background(), &client), config)
	return p.verifier, nil
}

// refetchKeys is the least time between two requests for a provider's keys. Tokens with an unknown key make
// the library ask for them, and everybody can send such tokens.
const refetchKeys = 5 * time.Second

// limitedKeys sends requests for a provider's keys, but not too many.
type limitedKeys struct {
	next http.RoundTripper

	mu      sync.Mutex
	asked   time.Time
	failure error // of the last request
}

// errKeysFresh says that the keys were just fetched: a key that is not among them is unknown.
var errKeysFresh = errors.New("the provider's keys were fetched just now")

// RoundTrip implements [http.RoundTripper].
func (l *limitedKeys) RoundTrip(r *http.Request) (*http.Response, error) {
	l.mu.Lock()
	fresh, failure := time.Since(l.asked) < refetchKeys, l.failure
	if !fresh {
		l.asked = time.Now()
	}
	l.mu.Unlock()
	if fresh && failure == nil {
		return nil, errKeysFresh
	}
	if fresh {
		return nil, failure
	}

	response, err := l.next.RoundTrip(r)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failure = err
	if err == nil && response.StatusCode != http.StatusOK {
		l.failure = fmt.Errorf("the provider answers %s", response.Status)
	}
	return response, err
}

// unavailable returns why the provider's keys could not be fetched, or nil.
func (l *limitedKeys) unavailable() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failure
}

// principal returns the client whom an id token names.
func (p *provider) principal(ctx context.Context, raw string) (identity.Principal, error) {
	verifier, err := p.ready(ctx)
	if err != nil {
		return identity.Principal{}, err
	}
	token, err := verifier.Verify(ctx, raw)
	if err != nil {
		return identity.Principal{}, p.refusal(err)
	}
	var claims map[string]any
	if err := token.Claims(&claims); err != nil {
		return identity.Principal{}, refuse("not valid", "header Authorization: the id token has no claims")
	}
	if token.Subject == "" {
		return identity.Principal{}, refuse("no subject", "header Authorization: the id token has no subject")
	}
	name := p.name(claims, token.Subject)
	if err := CheckName("the name in the id token", name); err != nil {
		return identity.Principal{}, refuse("no name", "header Authorization: %s", bfia.MessageOf(err))
	}
	return identity.Principal{Kind: identity.KindClient, Name: name, Roles: p.roles(claims),
		Proof: identity.ByOIDC, Credential: token.Issuer + "#" + token.Subject,
		Expires: token.Expiry}, nil
}

// refusal returns the answer to a token that the library does not accept.
func (p *provider) refusal(err error) error {
	var expired *oidc.TokenExpiredError
	if errors.As(err, &expired) {
		return refuse("expired", "header Authorization: the id token expired at %s; run 'hutong login' again",
			expired.Expiry.UTC().Format(time.RFC3339))
	}
	text := strings.TrimPrefix(err.Error(), "oidc: ")
	if strings.Contains(text, "fetching keys") {
		if cause := p.keys.unavailable(); cause != nil {
			return bfia.Wrap(bfia.CodeUnavailable, cause,
				"the OpenID provider %s does not answer with its keys; try again later", p.Issuer)
		}
		text = "its key is not one of the provider's"
	}
	return refuse("not valid", "header Authorization: the id token is not valid: %s", text)
}

// name returns the name of the client.
func (p *provider) name(claims map[string]any, subject string) string {
	claim := p.NameClaim
	if claim == "" {
		if verified, _ := claims["email_verified"].(bool); !verified {
			return subject
		}
		claim = "email"
	}
	if name, ok := claimAt(claims, claim).(string); ok && name != "" {
		return name
	}
	return subject
}

// roles returns the roles that the claims give, in the order of [identity.Roles].
func (p *provider) roles(claims map[string]any) []identity.Role {
	var values []string
	switch v := claimAt(claims, p.RolesClaim).(type) {
	case string:
		values = []string{v}
	case []any:
		for _, entry := range v {
			if text, ok := entry.(string); ok {
				values = append(values, text)
			}
		}
	}
	var given []identity.Role
	for _, v := range values {
		given = append(given, p.Roles[v]...)
	}
	return identity.SortRoles(given)
}

// claimAt returns a claim by its name, or by a path such as realm_access.roles.
func claimAt(claims map[string]any, path string) any {
	if v, found := claims[path]; found { // names may contain dots, as URLs do
		return v
	}
	name, rest, nested := strings.Cut(path, ".")
	inner, ok := claims[name].(map[string]any)
	if !nested || !ok {
		return nil
	}
	return claimAt(inner, rest)
}
