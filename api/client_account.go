package api

import (
	"crypto/x509"
	"net/http"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"hutong/bfia"
	"hutong/fateflow"
	"hutong/internal/audit"
	"hutong/internal/clients"
	"hutong/internal/identity"
	"hutong/store"
)

// proofHeaders are the headers that may prove who a client is.
var proofHeaders = append(fateflow.AuthenticationHeaders(), fiber.HeaderAuthorization)

// ClientsBy returns the authenticator of clients who must prove who they are.
func ClientsBy(a *clients.Authenticator) Authenticator {
	return func(c *fiber.Ctx) (identity.Principal, error) {
		r := clients.Request{Header: http.Header{}, Address: c.Context().RemoteIP().String()}
		for _, name := range proofHeaders {
			for _, value := range c.Request().Header.PeekAll(name) {
				r.Header.Add(name, string(value))
			}
		}
		r.Chains = verifiedChains(c)
		p, err := a.Authenticate(c.UserContext(), r)
		if err == nil && p.Proof == identity.ByCertificate {
			// A browser shows its user's certificate for the page of any site, as it does with cookies.
			err = checkSite(c, "a party that knows a client by its certificate")
		}
		return p, err
	}
}

// verifiedChains returns the chains of the client's certificate, if it has one.
func verifiedChains(c *fiber.Ctx) [][]*x509.Certificate {
	if state := c.Context().TLSConnectionState(); state != nil {
		return state.VerifiedChains
	}
	return nil
}

// challenge says how a client can prove who it is, in the answer to a request that was refused with err.
func challenge(c *fiber.Ctx, err error) {
	if bfia.CodeOf(err) == bfia.CodeUnauthenticated {
		c.Set(fiber.HeaderWWWAuthenticate, clients.Challenge(err))
	}
}

// loginMethods returns how clients log in. It is for everybody, since it precedes the login.
func (s *Server) loginMethods(c *fiber.Ctx) error { return ok(c, s.Login) }

// whoAmI returns who makes the request.
func (s *Server) whoAmI(c *fiber.Ctx) error {
	p := identity.From(c.UserContext())
	return ok(c, bfia.WhoAmI{NodeID: s.Node, Name: p.Name, Roles: roleNames(p.Roles), Proof: string(p.Proof),
		Credential: p.Credential})
}

func roleNames(roles []identity.Role) []string {
	names := make([]string, len(roles))
	for i, role := range roles {
		names[i] = string(role)
	}
	return names
}

// createToken makes a bearer token for a client, or the token of an app. Its answer is the only one with
// the token.
func (s *Server) createToken(c *fiber.Ctx) error {
	var request bfia.CreateToken
	if err := s.readJSON(c, &request); err != nil {
		return err
	}
	if request.ExpiresAt != nil && !request.ExpiresAt.After(time.Now()) {
		return bfia.Errorf(bfia.CodeBadRequest, "expires_at: %s is not in the future",
			request.ExpiresAt.Format(time.RFC3339))
	}
	roles := make([]identity.Role, len(request.Roles))
	for i, role := range request.Roles {
		roles[i] = identity.Role(role)
	}
	by := strings.TrimSpace(identity.From(c.UserContext()).String())
	var secret string
	var row store.Token
	var err error
	if request.App {
		secret, row, err = clients.NewApp(c.UserContext(), s.store, request.Name, roles, by,
			request.ExpiresAt)
	} else {
		secret, row, err = clients.NewToken(request.Name, roles, by, request.ExpiresAt)
	}
	if err != nil {
		return err
	}
	on(c.UserContext(), audit.Token, row.TokenID)
	if err := s.store.CreateToken(c.UserContext(), row); err != nil {
		return err
	}
	row.CreatedAt = time.Now().UTC()
	c.Set(fiber.HeaderCacheControl, "no-store")
	return ok(c, bfia.TokenCreated{Token: secret, TokenView: viewToken(row)})
}

// queryTokens lists the tokens of clients.
func (s *Server) queryTokens(c *fiber.Ctx) error {
	tokens, err := s.store.Tokens(c.UserContext())
	if err != nil {
		return err
	}
	views := make([]bfia.TokenView, len(tokens))
	for i, t := range tokens {
		views[i] = viewToken(t)
	}
	return ok(c, views)
}

func viewToken(t store.Token) bfia.TokenView {
	return bfia.TokenView{TokenID: t.TokenID, App: t.App, Name: t.Name, Roles: t.Roles,
		CreatedBy: t.CreatedBy, CreatedAt: t.CreatedAt, ExpiresAt: t.ExpiresAt, RevokedAt: t.RevokedAt,
		LastUsedOn: t.LastUsedOn}
}

// revokeToken revokes a token, at once for all processes of the party.
func (s *Server) revokeToken(c *fiber.Ctx) error {
	var request bfia.RevokeToken
	if err := s.readJSON(c, &request); err != nil {
		return err
	}
	if request.TokenID == "" {
		return bfia.Errorf(bfia.CodeBadRequest, "token_id: is required")
	}
	on(c.UserContext(), audit.Token, request.TokenID)
	if err := s.store.RevokeToken(c.UserContext(), request.TokenID, time.Now()); err != nil {
		return err
	}
	return ok(c, nil)
}
