package system

import (
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/bfia/sign"
	"hutong/internal/certs"
	"hutong/internal/partners"
	"hutong/internal/party"
	"hutong/test/testenv"
)

// startNginx starts nginx as a gateway that ends the TLS of partners before a party, and returns its address.
// It has the party's certificate and shows the party one of its own, in the file gateway.
func startNginx(t *testing.T, cfg *party.Config, gateway string) (address string) {
	t.Helper()
	program, err := exec.LookPath("nginx")
	if err != nil {
		require.NotEqual(t, "1", os.Getenv("HUTONG_REQUIRE_NGINX"), "nginx is required")
		t.Skip("nginx is not installed")
	}
	dir, address := t.TempDir(), testenv.FreeAddress(t)
	own := cfg.Partners.TLS
	file := filepath.Join(dir, "nginx.conf")
	require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, `
daemon off;
master_process off;
pid %[1]s/nginx.pid;
events { worker_connections 256; }
http {
  access_log off;
  client_body_temp_path %[1]s/body;
  proxy_temp_path %[1]s/proxy;
  fastcgi_temp_path %[1]s/fastcgi;
  uwsgi_temp_path %[1]s/uwsgi;
  scgi_temp_path %[1]s/scgi;
  map $http_upgrade $connection_of_link { default ""; hutong-link upgrade; }
  server {
    listen %[2]s ssl;
    ssl_certificate %[3]s;
    ssl_certificate_key %[4]s;
    ssl_protocols TLSv1.3;
    ssl_verify_client optional_no_ca;
    client_max_body_size 0;
    location / {
      proxy_pass https://%[5]s;
      proxy_ssl_certificate %[6]s;
      proxy_ssl_certificate_key %[6]s;
      proxy_ssl_protocols TLSv1.3;
      proxy_http_version 1.1;
      proxy_request_buffering off;
      proxy_buffering off;
      proxy_set_header Host $host;
      proxy_set_header Client-Cert $ssl_client_escaped_cert;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_of_link;
    }
  }
}
`, dir, address, own.CertFile, own.KeyFile, cfg.Partners.Listen, gateway), 0o600))
	startProgram(t, nil, program, "-e", "stderr", "-c", file)
	return address
}

// TestOneWayPartnerOfABank runs jobs of a party that can only dial out, and only through an HTTP proxy. Its
// partner is behind a gateway that ends TLS, and both sign their requests, too.
func TestOneWayPartnerOfABank(t *testing.T) {
	t.Parallel()
	keys, public := map[string]string{}, map[string]string{}
	for _, node := range []string{guestNode, hostNode} {
		keys[node], public[node] = newSigningKeys(t, sign.ECDSA)
	}
	gateway := filepath.Join(t.TempDir(), "gateway.pem")
	authority, _, err := certs.OpenAuthority(t.TempDir(), "gateways")
	require.NoError(t, err)
	require.NoError(t, authority.IssueFile(gateway, certs.Leaf{Node: "gateway"}))
	key, err := certs.LoadKeyPair(gateway, gateway, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	proxy := &forwardProxy{seen: map[string]bool{}, servers: map[string]string{}}
	server := httptest.NewServer(proxy)
	t.Cleanup(server.Close)
	pair := newPartyPair(t, func(cfg *party.Config) {
		cfg.Ops.Listen = testenv.FreeAddress(t)
		oneWay(cfg)
		other := hostNode
		if cfg.NodeID == hostNode {
			other = guestNode
			cfg.Proxy.URL = party.Secret(server.URL)
		}
		route := cfg.Routes[other]
		route.Auth = partners.MTLSSign
		route.Sign = party.RouteSignConfig{KeyFile: keys[cfg.NodeID], PartnerKeyFile: public[other]}
		if other == guestNode {
			route.URL = "https://bank.invalid"
		} else {
			cfg.Partners.TrustedProxies = party.ProxiesConfig{Header: "Client-Cert",
				SPKI: []string{certs.PinOf(key.Certificate().Leaf).Hex()}}
		}
		cfg.Routes[other] = route
	})
	guest, host := pair.guest, pair.host
	nginx := startNginx(t, guest.cfg, gateway)
	proxy.servers["bank.invalid:443"] = nginx
	for _, n := range []*testParty{host, guest} {
		n.start()
	}
	pair.registerReference(bfia.DeviceProcess)
	awaitLinks(t, guest.cfg.Ops.Listen, 1)
	for _, n := range []*testParty{guest, host} {
		requireLinksChecked(t, n.cfg)
	}
	for n, other := range map[*testParty]string{guest: hostNode, host: guestNode} {
		out, err := n.probe(other)
		require.NoError(t, err, out)
		require.Regexp(t, `transport_to +host\.0 `+other+` +ok`, out)
		require.Regexp(t, `transport_from +host\.0 `+other+` +ok`, out)
	}
	for _, n := range []*testParty{guest, host} {
		n.register(sleepProvider(t), bfia.DeviceProcess)
	}
	job := guest.submit(sleepJob(t, 2, map[string]any{"s1": seconds(1), "s2": seconds(0)}, nil))
	requireSuccess(t, guest.awaitJob(job, time.Minute, isFinished))
	require.Equal(t, []string{"CONNECT bank.invalid:443 "}, proxy.requests())
}
