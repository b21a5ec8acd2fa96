package party

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"hutong/api"
	"hutong/bfia"
	"hutong/internal/clients"
	"hutong/internal/identity"
	"hutong/store"
)

// OIDCConfig configures the OpenID provider of the party's users. It is off if Issuer is empty.
type OIDCConfig struct {
	// Issuer is the provider's URL, as its tokens name it.
	Issuer string `yaml:"issuer" env:"ISSUER"`
	// Audience is what accepted id tokens must be issued for. Empty: ClientID.
	Audience string `yaml:"audience" env:"AUDIENCE"`
	// ClientID is the public client, without a secret, with which 'hutong login' logs in. Required.
	ClientID string `yaml:"client_id" env:"CLIENT_ID"`
	// Scopes are what 'hutong login' asks for. Many providers need one more for the claim with the roles,
	// such as groups. In the environment, separated by commas.
	Scopes []string `yaml:"scopes" env:"SCOPES"`
	// NameClaim is the claim with the user's name. Users must not be able to choose it. Empty: the e-mail
	// address if the provider has verified it, else the subject.
	NameClaim string `yaml:"name_claim" env:"NAME_CLAIM"`
	// RolesClaim is the claim that Roles maps. A dot leads into an object, as in realm_access.roles.
	RolesClaim string `yaml:"roles_claim" env:"ROLES_CLAIM"`
	// Roles gives roles to each value of the claim. In the environment: VALUE=ROLE+ROLE, separated by white
	// space.
	Roles RoleMap `yaml:"roles" env:"ROLES"`
	// CAFile contains the authorities of the provider's certificate. Empty: those of the system.
	CAFile string `yaml:"ca_file" env:"CA_FILE"`
}

// RoleMap gives roles to values of a claim.
type RoleMap map[string][]identity.Role

// UnmarshalText parses the format of the environment variable: VALUE=ROLE or VALUE=ROLE+ROLE, separated by
// white space.
func (m *RoleMap) UnmarshalText(text []byte) error {
	roles := RoleMap{}
	for _, entry := range strings.Fields(string(text)) {
		value, names, ok := strings.Cut(entry, "=")
		if !ok || value == "" || names == "" {
			return fmt.Errorf("%q is not of the form VALUE=ROLE or VALUE=ROLE+ROLE", entry)
		}
		for name := range strings.SplitSeq(names, "+") {
			roles[value] = append(roles[value], identity.Role(name))
		}
	}
	*m = roles
	return nil
}

// ClientCertificate gives roles to a client that proves who it is by a certificate of tls.client_ca_file.
type ClientCertificate struct {
	// Subject is its common name, or one of its alternative names: a DNS name, an e-mail address or a URI.
	Subject string `yaml:"subject"`
	// Name is the client's name. Empty: the subject.
	Name  string          `yaml:"name,omitempty"`
	Roles []identity.Role `yaml:"roles"`
}

// clients checks the configuration of the party's clients.
func (v *validation) clients(c *Config) {
	o := c.OIDC
	if o.Issuer == "" {
		if o.ClientID != "" || o.Audience != "" || len(o.Roles) > 0 || o.CAFile != "" {
			v.wrong("oidc.issuer", "is required with the other fields of oidc")
		}
	} else {
		if u, err := url.Parse(o.Issuer); err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" ||
			u.Scheme != "https" && !(u.Scheme == "http" && isLoopback(net.JoinHostPort(u.Hostname(), "0"))) {
			v.wrong("oidc.issuer", "must be https://host or https://host/path, but is %q", o.Issuer)
		}
		v.required("oidc.client_id", o.ClientID)
		v.required("oidc.roles_claim", o.RolesClaim)
		if !slices.Contains(o.Scopes, "openid") {
			v.wrong("oidc.scopes", "must contain openid, but is %q", o.Scopes)
		}
		if len(o.Roles) == 0 {
			v.wrong("oidc.roles", "is required: without it, no user has a role")
		}
	}
	for value, roles := range o.Roles {
		v.roles("oidc.roles."+value, roles)
	}
	if len(c.ClientCertificates) > 0 && c.TLS.ClientCAFile == "" {
		v.wrong("client_certificates", "requires tls.client_ca_file, the authorities that issue them")
	}
	for i, entry := range c.ClientCertificates {
		field := fmt.Sprintf("client_certificates[%d]", i)
		v.required(field+".subject", entry.Subject)
		if entry.Name != "" {
			if err := clients.CheckName(field+".name", entry.Name); err != nil {
				v.errors = append(v.errors, err)
			}
		}
		v.roles(field+".roles", entry.Roles)
	}
}

func (v *validation) roles(field string, roles []identity.Role) {
	if len(roles) == 0 {
		v.wrong(field, "is empty; the roles are %v", identity.Roles())
	}
	for _, role := range roles {
		if err := role.Check(); err != nil {
			v.wrong(field, "%v", err)
		}
	}
}

// recheck returns a client that proved at an earlier time who it is, with the roles that it has now.
type recheck = func(ctx context.Context, p identity.Principal, provedAt time.Time) (identity.Principal,
	error)

// clients returns the authenticator of the listener of clients, and of what this party does in their names.
func (p *Party) clients(db *store.Store) (api.Authenticator, recheck, error) {
	if p.cfg.Security.Mode == SecurityOpen {
		return api.OpenClients, openRecheck, nil
	}
	a, err := p.provenClients(db)
	if err != nil {
		return nil, nil, err
	}
	return api.ClientsBy(a), a.Recheck, nil
}

// openRecheck lets everybody do everything, as [api.OpenClients] does.
func openRecheck(_ context.Context, p identity.Principal, _ time.Time) (identity.Principal, error) {
	p.Roles = []identity.Role{identity.Admin}
	return p, nil
}

// provenClients returns the authenticator of clients that prove who they are.
func (p *Party) provenClients(db *store.Store) (*clients.Authenticator, error) {
	cfg := clients.Config{}
	for _, c := range p.cfg.ClientCertificates {
		cfg.Certificates = append(cfg.Certificates, clients.Certificate(c))
	}
	if o := p.cfg.OIDC; o.Issuer != "" {
		transport := p.cfg.Proxy.Rule().Transport()
		if o.CAFile != "" {
			pem, err := os.ReadFile(o.CAFile)
			if err != nil {
				return nil, fmt.Errorf("oidc.ca_file: %w", err)
			}
			pool := x509.NewCertPool()
			if !pool.AppendCertsFromPEM(pem) {
				return nil, fmt.Errorf("oidc.ca_file: %s contains no certificate", o.CAFile)
			}
			transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}
		}
		cfg.OIDC = &clients.OIDCConfig{Issuer: o.Issuer, Audience: o.Audience, NameClaim: o.NameClaim,
			RolesClaim: o.RolesClaim, Roles: o.Roles,
			HTTP: &http.Client{Transport: transport, Timeout: 10 * time.Second}}
		if o.Audience == "" {
			cfg.OIDC.Audience = o.ClientID
		}
	}
	return clients.New(cfg, db), nil
}

// login returns how the party's clients log in.
func (p *Party) login() bfia.Login {
	login := bfia.Login{NodeID: p.cfg.NodeID, Open: p.cfg.Security.Mode == SecurityOpen}
	if o := p.cfg.OIDC; o.Issuer != "" && !login.Open {
		login.OIDC = &bfia.LoginProvider{Issuer: o.Issuer, ClientID: o.ClientID, Scopes: o.Scopes}
	}
	return login
}

// CreateToken makes a bearer token in the party's database, and returns it with its id. It serves to make the
// first token, before there is one to call the API with.
func CreateToken(ctx context.Context, cfg *Config, name string, roles []identity.Role,
	expires *time.Time) (secret string, token store.Token, err error) {
	secret, token, err = clients.NewToken(name, roles, "the database", expires)
	if err != nil {
		return "", token, err
	}
	err = withDatabase(ctx, cfg, func(db *store.Store) error { return db.CreateToken(ctx, token) })
	return secret, token, err
}

// CreateApp makes an app of FATE-Flow's client authentication in the party's database, and returns its token
// with its row.
func CreateApp(ctx context.Context, cfg *Config, name string, roles []identity.Role,
	expires *time.Time) (secret string, app store.Token, err error) {
	err = withDatabase(ctx, cfg, func(db *store.Store) error {
		secret, app, err = clients.NewApp(ctx, db, name, roles, "the database", expires)
		if err != nil {
			return err
		}
		return db.CreateToken(ctx, app)
	})
	return secret, app, err
}

// Tokens returns the tokens in the party's database.
func Tokens(ctx context.Context, cfg *Config) (tokens []store.Token, err error) {
	err = withDatabase(ctx, cfg, func(db *store.Store) error {
		tokens, err = db.Tokens(ctx)
		return err
	})
	return tokens, err
}

// RevokeToken revokes a token in the party's database.
func RevokeToken(ctx context.Context, cfg *Config, tokenID string) error {
	return withDatabase(ctx, cfg, func(db *store.Store) error {
		return db.RevokeToken(ctx, tokenID, time.Now())
	})
}

func withDatabase(ctx context.Context, cfg *Config, do func(*store.Store) error) error {
	db, err := cfg.OpenDatabase(ctx)
	if err != nil {
		return fmt.Errorf("failed to open the database of party %s: %w", cfg.NodeID, err)
	}
	defer func() { _ = db.Close() }()
	if err := db.CheckSchema(ctx); err != nil {
		return fmt.Errorf("failed to use the database of party %s: %w", cfg.NodeID, err)
	}
	return do(db)
}
