package api

import (
	"net/http"
	"strings"

	"github.com/gofiber/fiber/v2"

	"hutong/bfia"
	"hutong/console"
)

// The paths of the console. Each page has a path of its own below it.
const (
	pathRoot    = "/"
	pathConsole = console.Prefix + "*"
)

// showConsole serves the console's files. They hold no data, so everybody may read them.
func (s *Server) showConsole(c *fiber.Ctx) error {
	file := console.Find(strings.TrimPrefix(c.Path(), console.Prefix))
	issuer := ""
	if s.Login.OIDC != nil {
		issuer = s.Login.OIDC.Issuer
	}
	c.Set(fiber.HeaderContentSecurityPolicy, console.SecurityPolicy(issuer))
	c.Set(fiber.HeaderXContentTypeOptions, "nosniff")
	c.Set(fiber.HeaderReferrerPolicy, "no-referrer")
	c.Set(fiber.HeaderVary, fiber.HeaderAcceptEncoding)
	c.Set(fiber.HeaderETag, file.ETag)
	// The page names the other files with the hash of their content, as the parameter v.
	if v := c.Query("v"); !file.Page && v != "" && strings.HasPrefix(file.ETag, `"`+v) {
		c.Set(fiber.HeaderCacheControl, "public, max-age=31536000, immutable")
	} else {
		c.Set(fiber.HeaderCacheControl, "no-cache")
	}
	if c.Get(fiber.HeaderIfNoneMatch) == file.ETag {
		return c.SendStatus(http.StatusNotModified)
	}
	c.Set(fiber.HeaderContentType, file.ContentType)
	if file.Gzip != nil && c.Context().Request.Header.HasAcceptEncoding("gzip") {
		c.Set(fiber.HeaderContentEncoding, "gzip")
		return c.Send(file.Gzip)
	}
	return c.Send(file.Body)
}

// redirectRoot sends a browser to the console. Other programs get the answer to a path that does not exist.
func (s *Server) redirectRoot(c *fiber.Ctx) error {
	if !strings.Contains(c.Get(fiber.HeaderAccept), fiber.MIMETextHTML) {
		return bfia.Errorf(bfia.CodeNotFound, "%s /: this path sends browsers to %s; %s lists the endpoints",
			c.Method(), console.Prefix, bfia.PathOpenAPI)
	}
	return c.Redirect(console.Prefix, http.StatusFound)
}
