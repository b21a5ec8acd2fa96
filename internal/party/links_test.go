package party

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/certs"
	"hutong/internal/identity"
	"hutong/internal/link"
	"hutong/internal/partners"
)

// linkParty is a party with its partners and links only.
type linkParty struct {
	*Party
	t         *testing.T
	authority *certs.Authority
}

func newLinkParty(t *testing.T, authority *certs.Authority, caFile, node string, routes Routes) *linkParty {
	t.Helper()
	file := filepath.Join(t.TempDir(), node+".pem")
	require.NoError(t, authority.IssueFile(file, certs.Leaf{Node: node}))
	cfg := Default()
	cfg.NodeID, cfg.DataDir, cfg.Routes = node, t.TempDir(), routes
	cfg.Partners.TLS = PartnerTLSConfig{CertFile: file, KeyFile: file, CAFile: caFile}
	logger := slog.New(slog.DiscardHandler)
	p := &Party{cfg: cfg, base: logger, logger: logger, failed: make(chan error, 8),
		limiter: cfg.Limits.limiter()}
	p.openMetrics(Roles{Transport: true})
	require.NoError(t, p.openPartners())
	if cfg.hasLinks(partners.Inbound) {
		p.links.holder = link.NewHolder(logger)
		p.onStop(func(context.Context) error { p.links.holder.Close(); return nil })
		p.links.dialer = p.linkDialer(nil)
	}
	t.Cleanup(func() { p.Stop(context.WithoutCancel(t.Context())) })
	return &linkParty{p, t, authority}
}

// listen serves partners with mutual TLS and returns the base URL.
func (p *linkParty) listen() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(p.t, err)
	s := p.partners.Server(p.acceptLinks(http.NotFoundHandler()), maxPartnerHeaderBytes)
	p.serveListener(l, "partners.listen", s.ServeTLS, s.Shutdown)
	return "https://" + l.Addr().String()
}

// send sends a request to a partner and returns the HTTP status of the answer, and its body as JSON.
func (p *linkParty) send(node, url string) (status int, answer any, err error) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	require.NoError(p.t, err)
	r.Header.Set("x-target-node-id", node)
	resp, err := p.partners.Transport(nil).RoundTrip(r)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	_ = json.NewDecoder(resp.Body).Decode(&answer)
	return resp.StatusCode, answer, nil
}

// TestLinksOfPartners checks who may have a link, and who may use one: a party that can only dial out serves
// its partner over the link as at its own listener, and nobody else.
func TestLinksOfPartners(t *testing.T) {
	t.Parallel()
	authority, caFile, err := certs.OpenAuthority(t.TempDir(), "test")
	require.NoError(t, err)
	q := newLinkParty(t, authority, caFile, "Q", Routes{"P": {Link: partners.Inbound},
		"R": {URL: "https://r.invalid"}})
	url := q.listen()
	p := newLinkParty(t, authority, caFile, "P", Routes{"Q": {URL: url, Link: partners.Outbound},
		"R": {URL: "https://r.invalid"}})
	commands := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		caller := identity.From(r.Context())
		_ = json.NewEncoder(w).Encode([]any{caller.Node, caller.Proof, r.URL.Path})
	})
	require.NoError(t, p.keepLinks(t.Context(), commands, nil))
	p.started.Store(true)

	// What Q sends to P arrives as from Q.
	require.Eventually(t, func() bool { return len(q.links.holder.States()) == 1 }, time.Minute,
		10*time.Millisecond)
	partner, found := q.partners.Lookup("P")
	require.True(t, found)
	status, answer, err := q.send("P", partner.URL+"/v1/interconn/schedule/job/start")
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, []any{"Q", "certificate", "/v1/interconn/schedule/job/start"}, answer)
	_, _, err = q.send("P", partner.TransportURL+"/v1/interconn/chan/invoke")
	require.ErrorContains(t, err, "no link with the partner is up", "the process serves no messages")

	// P sees its own links at Q, and both count them.
	status, answer, err = p.send("Q", url+bfia.PathNodeLink)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, status)
	require.Len(t, answer, 1)
	require.Equal(t, "P", answer.([]any)[0].(map[string]any)["node_id"])
	for _, party := range []*linkParty{p, q} {
		links := party.linkStates()
		require.Len(t, links, 1)
		require.Equal(t, 1, links[0].Up)
		require.EqualValues(t, 1, links[0].Connects)
		require.False(t, links[0].Since.IsZero())
	}

	// R is a partner of both, and may neither have a link with Q nor use that of P, should Q let it.
	r := newLinkParty(t, authority, caFile, "R", Routes{"Q": {URL: url, Link: partners.Outbound},
		"P": {Link: partners.Inbound}})
	require.NoError(t, r.keepLinks(t.Context(), http.NotFoundHandler(), nil))
	status, _, err = r.send("Q", url+bfia.PathNodeLink)
	require.NoError(t, err)
	require.Equal(t, http.StatusForbidden, status)
	r.links.dialer = &link.Dialer{Own: q.links.holder,
		Others: func(context.Context) ([]string, error) { return nil, nil }}
	_, _, err = r.send("P", partner.URL+"/v1/interconn/schedule/job/start")
	require.Error(t, err)
	state, up, connects := r.links.keepers[0].State()
	require.False(t, up, state)
	require.Zero(t, connects)

	// A node that is no partner of Q does not get through the handshake.
	s := newLinkParty(t, authority, caFile, "S", Routes{"Q": {URL: url, Link: partners.Outbound}})
	_, _, err = s.send("Q", url+bfia.PathNodeLink)
	require.ErrorContains(t, err, "tls")

	q.links.holder.Close()
	_, _, err = q.send("P", partner.URL+"/v1/interconn/schedule/job/start")
	require.Error(t, err)
}

// TestLinkRequestsCount checks that the requests for links count as the other requests of a partner.
func TestLinkRequestsCount(t *testing.T) {
	t.Parallel()
	authority, caFile, err := certs.OpenAuthority(t.TempDir(), "test")
	require.NoError(t, err)
	q := newLinkParty(t, authority, caFile, "Q", Routes{"P": {Link: partners.Inbound}})
	q.limiter = LimitsConfig{Requests: 0.001, Burst: 2}.limiter()
	url := q.listen()
	p := newLinkParty(t, authority, caFile, "P", Routes{"Q": {URL: url, Link: partners.Outbound}})
	for _, want := range []int{http.StatusOK, http.StatusOK, http.StatusTooManyRequests} {
		status, _, err := p.send("Q", url+bfia.PathNodeLink)
		require.NoError(t, err)
		require.Equal(t, want, status)
	}
}

// TestPartnersBehindOneProxy checks that a partner which uses all its connections over links takes none of
// another one's, although both links have the address of one proxy.
func TestPartnersBehindOneProxy(t *testing.T) {
	t.Parallel()
	var remotes []net.Addr
	for _, node := range []string{"Q", "Q", "Q", "R"} {
		remotes = append(remotes, link.Address{Node: node, Address: "192.0.2.7:3128"})
	}
	l := LimitsConfig{ConnectionsPerAddress: 2}.bounded(&connsFrom{remotes: remotes})
	for _, want := range []string{"Q", "Q", "R"} {
		conn, err := l.Accept()
		require.NoError(t, err)
		require.Equal(t, want, conn.RemoteAddr().(link.Address).Node)
	}
}

// connsFrom is a listener with one connection from each of some addresses.
type connsFrom struct {
	net.Listener
	remotes []net.Addr
}

func (c *connsFrom) Accept() (net.Conn, error) {
	if len(c.remotes) == 0 {
		return nil, net.ErrClosed
	}
	from := c.remotes[0]
	c.remotes = c.remotes[1:]
	conn, _ := net.Pipe()
	return connFrom{conn, from}, nil
}

type connFrom struct {
	net.Conn
	from net.Addr
}

func (c connFrom) RemoteAddr() net.Addr { return c.from }
