package api

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"

	"hutong/bfia"
	"hutong/internal/identity"
	"hutong/store"
)

// access says who may call an endpoint. The zero value lets nobody in: each route must choose.
type access struct {
	everybody bool
	kind      identity.Kind
	roles     []identity.Role // of which a client needs one; none: any client
	// projects: also clients with one of the roles in some projects. The handler's context then knows these
	// projects only (see [store.WithProjects]). Otherwise a client needs the role in all projects.
	projects bool
	// strangers: also nodes that are no partners, which have proved a key. They apply for a contract.
	strangers bool
}

// Who may call an endpoint, besides clients.
var (
	everybody = access{everybody: true}
	// Everybody, but only at the listener of clients.
	everyBrowser = access{everybody: true, kind: identity.KindClient}
	anyPartner   = access{kind: identity.KindPartner} // the handler checks what the partner may do
	anyNode      = access{kind: identity.KindPartner, strangers: true}
	anyClient    = access{kind: identity.KindClient} // with any roles
)

// clientWith lets clients with one of some roles in all projects call an endpoint.
func clientWith(roles ...identity.Role) access {
	return access{kind: identity.KindClient, roles: roles}
}

// memberWith also lets clients in that have one of the roles in some projects. The endpoint must reach jobs,
// datasets and models only with the request's context.
func memberWith(roles ...identity.Role) access {
	return access{kind: identity.KindClient, roles: roles, projects: true}
}

// scope returns a context that knows what a caller may reach by an endpoint.
func (a access) scope(ctx context.Context, p identity.Principal) context.Context {
	if !a.projects {
		return ctx
	}
	if projects, all := p.ProjectsWith(a.roles...); !all {
		return store.WithProjects(ctx, projects...)
	}
	return ctx
}

// allows returns whether a client may call an endpoint for clients.
func (a access) allows(p identity.Principal) bool {
	projects, all := p.ProjectsWith(a.roles...)
	return len(a.roles) == 0 || all || a.projects && len(projects) > 0
}

// check returns why a caller may not use an endpoint, or nil.
func (a access) check(p identity.Principal) error {
	switch {
	case a.everybody:
		return nil
	case a.strangers && p.Kind == identity.KindAnonymous && p.Proof == identity.ByCertificate:
		return nil
	case p.Kind == identity.KindAnonymous:
		return bfia.Errorf(bfia.CodeUnauthenticated, "%s: this endpoint requires credentials", a)
	case a.kind == identity.KindAnonymous || p.Kind != a.kind:
		return bfia.Errorf(bfia.CodeForbidden, "%s: this endpoint is not for a %s", a, p.Kind)
	case a.kind == identity.KindClient && !a.allows(p):
		if slices.ContainsFunc(a.roles, p.CanSomewhere) {
			return bfia.Errorf(bfia.CodeForbidden, "%s has the role %s in single projects only, and this "+
				"endpoint is about the whole party", p, a.roleNames())
		}
		return bfia.Errorf(bfia.CodeForbidden, "%s lacks the role %s, which this endpoint requires", p,
			a.roleNames())
	}
	return nil
}

// String names those who may call, for refusals.
func (a access) String() string {
	switch {
	case a.everybody:
		return "everybody"
	case a.kind == identity.KindClient && len(a.roles) > 0:
		return fmt.Sprintf("for clients with the role %s", a.roleNames())
	case a.kind == identity.KindAnonymous:
		return "for nobody"
	}
	return fmt.Sprintf("for a %s", a.kind)
}

// roleNames names the roles of which a client needs one.
func (a access) roleNames() string {
	names := make([]string, len(a.roles))
	for i, role := range a.roles {
		names[i] = string(role)
	}
	return strings.Join(names, " or ")
}

// Authenticator determines who makes a request, before its handler runs. Its error is the refusal of a
// request that claims to be somebody without a proof; a request that claims nothing is anonymous.
type Authenticator func(c *fiber.Ctx) (identity.Principal, error)

// authenticators are the authenticators of a listener. It serves the endpoints of these kinds of callers and
// those for everybody.
type authenticators map[identity.Kind]Authenticator

// serves returns whether a listener has an endpoint.
func (a authenticators) serves(r route) bool {
	if r.access.everybody && r.access.kind == identity.KindAnonymous {
		return true
	}
	return a[r.access.kind] != nil
}

// listener names the listener that the authenticators are for.
func (a authenticators) listener() string {
	if a[identity.KindClient] == nil {
		return "partners"
	}
	return "clients"
}

// guard returns a handler that lets only those in who may call a route, and names the caller to the route's
// handler.
func (s *Server) guard(r route, authenticate Authenticator) fiber.Handler {
	return func(c *fiber.Ctx) error {
		c.Locals(localRoute, r.path)
		var principal identity.Principal
		if !r.access.everybody {
			var err error
			if principal, err = authenticate(c); err != nil {
				s.refused(c, r, principal, err)
				return s.refuse(c, principal, err)
			}
		}
		if err := r.access.check(principal); err != nil {
			s.refused(c, r, principal, err)
			return s.refuse(c, principal, err)
		}
		if err := s.Callers.Request(principal); !r.access.everybody && err != nil {
			s.refused(c, r, principal, tooMany(err))
			return tooMany(err)
		}
		s.recordContact(principal)
		return s.serveAct(c, r, principal)
	}
}

// refuse returns why a request is refused. Refusals count too, those of unknown callers against their
// address: nobody may guess credentials as fast as this party can check them.
func (s *Server) refuse(c *fiber.Ctx, p identity.Principal, reason error) error {
	if p.Kind == identity.KindAnonymous {
		p.Address = c.Context().RemoteIP().String()
	}
	if err := s.Callers.Request(p); err != nil {
		return tooMany(err)
	}
	return reason
}

// tooMany returns the answer to a caller that has exceeded a limit.
func tooMany(exceeded error) error {
	return bfia.Wrap(bfia.CodeTooMany, exceeded, "%s", exceeded.Error())
}

// byConnection is the authenticator of listeners whose connections know their caller.
func byConnection(c *fiber.Ctx) (identity.Principal, error) {
	if address, ok := c.Context().RemoteAddr().(identity.Address); ok {
		return address.Principal, nil
	}
	return identity.Principal{}, nil
}

// partnersByHeader is the authenticator of partners in development: they are whom their header names. It
// serves to replay recorded requests.
func partnersByHeader(c *fiber.Ctx) (identity.Principal, error) {
	node := bfia.Sender(func(name string) string { return c.Get(name) })
	return identity.Principal{Kind: identity.KindPartner, Node: node, Proof: identity.ByNothing,
		Address: c.Context().RemoteIP().String()}, nil
}
