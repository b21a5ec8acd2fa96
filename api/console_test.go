package api

import (
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/console"
	"hutong/internal/identity"
)

// fetch sends a GET to the listener of clients.
func (p *party) fetch(path string, header map[string]string) *http.Response {
	p.t.Helper()
	req := httptest.NewRequest(http.MethodGet, path, http.NoBody)
	for name, value := range header {
		req.Header.Set(name, value)
	}
	resp, err := p.server.clients.Test(req)
	require.NoError(p.t, err)
	p.t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

func TestConsole(t *testing.T) {
	p := newParty(t, func(c *Config) {
		c.Clients = func(*fiber.Ctx) (identity.Principal, error) {
			return identity.Principal{}, bfia.Errorf(bfia.CodeUnauthenticated, "no token")
		}
		c.Login = bfia.Login{OIDC: &bfia.LoginProvider{Issuer: "https://id.example.com/a"}}
	})
	for path, kind := range map[string]string{
		console.Prefix:               "text/html; charset=utf-8",
		console.Prefix + "jobs/1":    "text/html; charset=utf-8",
		console.Prefix + "nothing":   "text/html; charset=utf-8",
		console.Prefix + "%2e%2e/go": "text/html; charset=utf-8",
		console.Prefix + "app.js":    "text/javascript; charset=utf-8",
		console.Prefix + "app.css":   "text/css; charset=utf-8",
		console.Prefix + "icon.svg":  "image/svg+xml",
	} {
		resp := p.fetch(path, nil)
		require.Equal(t, http.StatusOK, resp.StatusCode, path)
		require.Equal(t, kind, resp.Header.Get("Content-Type"), path)
		require.Equal(t, console.SecurityPolicy("https://id.example.com/a"),
			resp.Header.Get("Content-Security-Policy"), path)
		require.Equal(t, "nosniff", resp.Header.Get("X-Content-Type-Options"), path)
		require.Equal(t, "no-referrer", resp.Header.Get("Referrer-Policy"), path)
		require.Equal(t, "no-cache", resp.Header.Get("Cache-Control"), path)

		again := p.fetch(path, map[string]string{"If-None-Match": resp.Header.Get("ETag")})
		require.Equal(t, http.StatusNotModified, again.StatusCode, path)
	}

	version := console.Find("app.js").ETag
	for query, control := range map[string]string{
		"?v=" + version[1:len(version)-1]: "public, max-age=31536000, immutable",
		"?v=0123456789abcdef":             "no-cache", // of another version of Hutong
		"?v=":                             "no-cache",
	} {
		resp := p.fetch(console.Prefix+"app.js"+query, nil)
		require.Equal(t, control, resp.Header.Get("Cache-Control"), query)
	}
	zipped := p.fetch(console.Prefix+"app.js", map[string]string{"Accept-Encoding": "br, gzip"})
	require.Equal(t, "gzip", zipped.Header.Get("Content-Encoding"))
	require.Equal(t, "Accept-Encoding", zipped.Header.Get("Vary"))
}

func TestRootLeadsBrowsersToTheConsole(t *testing.T) {
	p := newParty(t)
	resp := p.fetch("/", map[string]string{"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
	require.Equal(t, http.StatusFound, resp.StatusCode)
	require.Equal(t, console.Prefix, resp.Header.Get("Location"))

	resp = p.fetch("/", map[string]string{"Accept": "*/*"})
	require.Equal(t, http.StatusNotFound, resp.StatusCode)
	require.Contains(t, resp.Header.Get("Content-Type"), "application/json")
}

// TestConsoleIsForClients checks that partners do not find the console.
func TestConsoleIsForClients(t *testing.T) {
	p := newParty(t)
	for _, serve := range []func(net.Listener) error{p.server.ServePartners} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		go func() { _ = serve(l) }()
		for _, path := range []string{"/", console.Prefix, console.Prefix + "app.js"} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet,
				"http://"+l.Addr().String()+path, http.NoBody)
			require.NoError(t, err)
			req.Header.Set("Accept", "text/html")
			resp, err := http.DefaultTransport.RoundTrip(req)
			require.NoError(t, err)
			_ = resp.Body.Close()
			require.Equal(t, http.StatusNotFound, resp.StatusCode, path)
		}
	}
}
