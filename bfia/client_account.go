package bfia

import "time"

// The paths of the accounts of a party's clients, all Hutong's additions.
const (
	PathTokenCreate = "/v2/token/create"
	PathTokenQuery  = "/v2/token/query"
	PathTokenRevoke = "/v2/token/revoke"
	PathWhoAmI      = "/v2/client/whoami"
	PathLogin       = "/v2/client/login"
)

// CreateToken is the body of a request to [PathTokenCreate].
type CreateToken struct {
	Name      string     `json:"name"`
	Roles     []string   `json:"roles"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"` // none: never
	// App: make the token of an app of FATE-Flow's client authentication, whose id is the token's.
	App bool `json:"app,omitempty"`
}

// TokenCreated is the data of the answer. The token is in no other answer.
type TokenCreated struct {
	Token string `json:"token"`
	TokenView
}

// TokenView is a token in the answer to [PathTokenQuery].
type TokenView struct {
	TokenID    string     `json:"token_id"`
	App        bool       `json:"app,omitempty"` // of FATE-Flow's client authentication
	Name       string     `json:"name"`
	Roles      []string   `json:"roles"`
	CreatedBy  string     `json:"created_by"`
	CreatedAt  time.Time  `json:"created_at"`
	ExpiresAt  *time.Time `json:"expires_at,omitempty"`
	RevokedAt  *time.Time `json:"revoked_at,omitempty"`
	LastUsedOn string     `json:"last_used_on,omitempty"` // a day in UTC
}

// RevokeToken is the body of a request to [PathTokenRevoke].
type RevokeToken struct {
	TokenID string `json:"token_id"`
}

// WhoAmI is the data of the answer to [PathWhoAmI]: who makes the request, as the party sees it.
type WhoAmI struct {
	NodeID     string   `json:"node_id"` // the party
	Name       string   `json:"name"`    // empty where the party requires no credentials
	Roles      []string `json:"roles"`
	Proof      string   `json:"proof"` // nothing, token, oidc, fate, certificate
	Credential string   `json:"credential,omitempty"`
}

// Login is the data of the answer to [PathLogin]: how clients log in.
type Login struct {
	NodeID string `json:"node_id"`
	// Open: the party requires no credentials.
	Open bool `json:"open"`
	// OIDC is the party's OpenID provider, if it has one.
	OIDC *LoginProvider `json:"oidc,omitempty"`
}

// LoginProvider is an OpenID provider as its clients need to know it.
type LoginProvider struct {
	Issuer   string   `json:"issuer"`
	ClientID string   `json:"client_id"`
	Scopes   []string `json:"scopes"`
}
