package clients

import (
	"context"
	"crypto/x509"
	"errors"
	"net/http"
	"strings"
	"time"

	"hutong/bfia"
	"hutong/fateflow"
	"hutong/internal/identity"
	"hutong/store"
)

// Request is what an authenticator needs to know of a request.
type Request struct {
	// Header holds the headers by their canonical names.
	Header http.Header
	// Chains are the verified chains of the client's certificate, as [tls.ConnectionState] holds them.
	Chains [][]*x509.Certificate
	// Address is the host from which the request came.
	Address string
}

// Tokens finds the tokens of clients, and remembers their signatures. [store.Store] implements it.
type Tokens interface {
	Secrets
	TokenByHash(ctx context.Context, hash []byte) (t store.Token, found bool, err error)
	TokenByID(ctx context.Context, tokenID string) (t store.Token, found bool, err error)
	UseToken(ctx context.Context, t store.Token, now time.Time) error
	UseNonce(ctx context.Context, nodeID, value, request string) (accepted bool, err error)
}

// Config says which proofs a party accepts, besides its own bearer tokens.
type Config struct {
	OIDC         *OIDCConfig // nil: none
	Certificates []Certificate
}

// Authenticator determines who makes a request. It is safe for concurrent use.
type Authenticator struct {
	tokens       Tokens
	oidc         *provider
	certificates []Certificate
	now          func() time.Time
}

// New returns an authenticator. It connects to no provider before the first id token arrives.
func New(cfg Config, tokens Tokens) *Authenticator {
	a := &Authenticator{tokens: tokens, certificates: cfg.Certificates, now: time.Now}
	if cfg.OIDC != nil {
		a.oidc = newProvider(*cfg.OIDC)
	}
	return a
}

// Refusal is the cause of a refused proof. Reason classifies it for the audit trail, such as "expired".
type Refusal struct{ Reason string }

func (r *Refusal) Error() string { return "refused credentials: " + r.Reason }

// refuse returns the error of a proof that does not hold. The message says what is wrong and what to do,
// without the proof.
func refuse(reason, format string, args ...any) error {
	return bfia.Wrap(bfia.CodeUnauthenticated, &Refusal{reason}, format, args...)
}

// Challenge returns the header WWW-Authenticate for a request that was refused with err (RFC 6750).
func Challenge(err error) string {
	var refused *Refusal
	if errors.As(err, &refused) {
		return `Bearer realm="hutong", error="invalid_token"`
	}
	return `Bearer realm="hutong"`
}

// Authenticate returns the client that makes a request. The principal is anonymous if the request has no
// proof. An error is CodeUnauthenticated if the proof does not hold, CodeForbidden if it holds, but names
// nobody whom this party knows, and CodeUnavailable if it could not be checked.
func (a *Authenticator) Authenticate(ctx context.Context, r Request) (identity.Principal, error) {
	p, err := a.authenticate(ctx, r)
	if err != nil {
		return identity.Principal{}, err
	}
	p.Address = r.Address
	return p, nil
}

func (a *Authenticator) authenticate(ctx context.Context, r Request) (identity.Principal, error) {
	credentials, found, err := bearer(r.Header)
	switch {
	case err != nil:
		return identity.Principal{}, err
	case found && IsToken(credentials):
		return a.byToken(ctx, credentials)
	case found && a.oidc == nil:
		return identity.Principal{}, refuse("unknown token",
			"header Authorization: is not a token of this party, which begins with %s; "+
				"this party has no OpenID provider (oidc)", TokenPrefix)
	case found:
		return a.oidc.principal(ctx, credentials)
	case fateflow.HasAuthentication(r.Header):
		return a.byApp(ctx, r.Header)
	case len(r.Chains) > 0:
		return a.byCertificate(r.Chains[0][0])
	}
	return identity.Principal{}, nil
}

// maxCredentials bounds the bytes of a bearer token. Id tokens with many groups have several KiB.
const maxCredentials = 12 << 10

// bearer returns the token of the header Authorization.
func bearer(h http.Header) (token string, found bool, err error) {
	values := h.Values("Authorization")
	if len(values) == 0 {
		return "", false, nil
	}
	if len(values) > 1 {
		return "", false, refuse("two proofs", "header Authorization: is given twice")
	}
	scheme, token, _ := strings.Cut(strings.TrimSpace(values[0]), " ")
	token = strings.TrimSpace(token)
	switch {
	case !strings.EqualFold(scheme, "Bearer"):
		return "", false, refuse("unknown scheme",
			"header Authorization: must be 'Bearer TOKEN'; this party knows no other scheme")
	case token == "":
		return "", false, refuse("no token", "header Authorization: has no token after Bearer")
	case len(token) > maxCredentials:
		return "", false, refuse("too long", "header Authorization: the token is longer than %d bytes",
			maxCredentials)
	}
	return token, true, nil
}
