package api

import (
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/gofiber/fiber/v2"

	"hutong/bfia"
	"hutong/internal/identity"
)

// OpenClients is the authenticator of clients in development: everybody who reaches the listener may do
// everything. It refuses what a page of another web site could send from a browser on this machine: another
// site's Origin, a Host that is a name of that site (DNS rebinding), and bodies that a page can send without
// asking.
func OpenClients(c *fiber.Ctx) (identity.Principal, error) {
	if err := checkBrowser(c); err != nil {
		return identity.Principal{}, err
	}
	return identity.Principal{Kind: identity.KindClient, Roles: []identity.Role{identity.Admin},
		Proof: identity.ByNothing, Address: c.Context().RemoteIP().String()}, nil
}

// checkBrowser refuses requests of other sites' pages.
func checkBrowser(c *fiber.Ctx) error {
	host := string(c.Context().Host())
	if !isLocalName(host) {
		return bfia.Errorf(bfia.CodeForbidden,
			"header Host: %q is neither localhost nor an address; an open party answers no other name",
			cut(host))
	}
	if err := checkSite(c, "an open party"); err != nil {
		return err
	}
	if c.Method() == http.MethodPost {
		switch kind, _, _ := mime.ParseMediaType(c.Get(fiber.HeaderContentType)); kind {
		case fiber.MIMEApplicationForm, fiber.MIMETextPlain:
			return bfia.Errorf(bfia.CodeBadRequest,
				"header Content-Type: is %s, but must be application/json (curl: use --json)", kind)
		}
	}
	return nil
}

// checkSite refuses requests that a browser makes for a page of another web site. answerer names who refuses.
func checkSite(c *fiber.Ctx, answerer string) error {
	if origin := c.Get(fiber.HeaderOrigin); origin != "" {
		u, err := url.Parse(origin)
		if err != nil || !strings.EqualFold(u.Host, string(c.Context().Host())) {
			return bfia.Errorf(bfia.CodeForbidden, "header Origin: %s answers no page of %q", answerer,
				cut(origin))
		}
	}
	switch site := c.Get("Sec-Fetch-Site"); site {
	case "", "same-origin", "none":
		return nil
	default:
		return bfia.Errorf(bfia.CodeForbidden, "header Sec-Fetch-Site: %q: %s answers no other site's page",
			cut(site), answerer)
	}
}

// isLocalName returns whether the value of a Host header is an address or localhost, which no other site's
// name server can point here.
func isLocalName(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = strings.Trim(host, "[]")
	}
	if strings.EqualFold(name, "localhost") {
		return true
	}
	_, err = netip.ParseAddr(name)
	return err == nil
}
