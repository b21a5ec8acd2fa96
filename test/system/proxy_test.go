package system

import (
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/party"
)

// forwardProxy is an HTTP proxy. Only it can resolve the names of the servers behind it.
type forwardProxy struct {
	servers map[string]string // host:port by name:port

	mu   sync.Mutex
	seen map[string]bool // "METHOD name:port path"
}

func (p *forwardProxy) record(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen[what] = true
}

// requests returns what the proxy was asked for.
func (p *forwardProxy) requests() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Sorted(maps.Keys(p.seen))
}

func (p *forwardProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	server, known := p.servers[r.Host]
	if !known {
		http.Error(w, "no such host", http.StatusBadGateway)
		return
	}
	p.record(r.Method + " " + r.Host + " " + r.URL.Path)
	if r.Method != http.MethodConnect {
		rewrite := func(r *httputil.ProxyRequest) { r.Out.URL.Host = server }
		(&httputil.ReverseProxy{Rewrite: rewrite}).ServeHTTP(w, r)
		return
	}
	target, err := net.Dial("tcp", server)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer func() { _ = target.Close() }()
	w.WriteHeader(http.StatusOK)
	client, rest, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer func() { _ = client.Close() }()
	go func() {
		_, _ = io.Copy(target, rest)
		_ = target.Close()
	}()
	_, _ = io.Copy(client, target)
}

// TestPartyBehindProxy has a guest that reaches its partner and Temporal only through a proxy. The commands,
// the containers' messages and the connection to Temporal go through it; the party's own connections don't.
func TestPartyBehindProxy(t *testing.T) {
	t.Parallel()
	pair := newPartyPair(t, openly) // Temporal has no TLS, and is not on the loopback interface here
	guest, host := pair.guest.cfg, pair.host.cfg
	proxy := &forwardProxy{seen: map[string]bool{},
		servers: map[string]string{"api.invalid:443": host.Partners.Listen,
			"transport.invalid:443": host.Partners.Listen,
			"temporal.invalid:7233": guest.Temporal.Address}}
	server := httptest.NewServer(proxy)
	t.Cleanup(server.Close)
	guest.Proxy.URL = party.Secret(server.URL)
	guest.Routes = party.Routes{hostNode: {URL: "https://api.invalid",
		TransportURL: "https://transport.invalid"}}
	guest.Temporal.Address = "temporal.invalid:7233"
	require.NoError(t, guest.Validate())
	pair.guest.start()
	pair.host.start()
	pair.registerReference(bfia.DeviceProcess)
	out, err := pair.probe(hostNode)
	require.NoError(t, err, out)
	require.Regexp(t, `transport_to +host\.0 `+hostNode+` +ok`, out)

	seen := proxy.requests()
	for _, want := range []string{"CONNECT temporal.invalid:7233 ", "CONNECT api.invalid:443 ",
		"CONNECT transport.invalid:443 "} {
		require.Contains(t, seen, want)
	}
	for _, request := range seen {
		require.NotContains(t, request, strings.Split(guest.Listen, ":")[0])
	}
}
