package doctor

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/internal/certs"
	"hutong/internal/httpclient"
	"hutong/internal/partners"
	"hutong/internal/party"
)

// TestPartnerOverMutualTLS checks a partner that demands a certificate, and the ends of both certificates.
func TestPartnerOverMutualTLS(t *testing.T) {
	dir, quiet := t.TempDir(), slog.New(slog.DiscardHandler)
	authority, caFile, err := certs.OpenAuthority(dir, "test")
	require.NoError(t, err)
	pair := func(node string, days time.Duration) string {
		file := filepath.Join(dir, fmt.Sprintf("%s-%d.pem", node, days))
		text, err := authority.Issue(
			certs.Leaf{Node: node, NotAfter: time.Now().Add(days * 24 * time.Hour)},
		)
		require.NoError(t, err)
		require.NoError(t, certs.WriteFile(file, text))
		return file
	}
	authorities, err := certs.LoadAuthorities(caFile, quiet)
	require.NoError(t, err)
	for _, test := range []struct {
		node string
		days time.Duration
		want State
		text string
	}{{"B", 90, OK, "B answers at"}, {"B", 10, Warning, "the certificate of B expires on"},
		{"C", 90, Failed, "not for node B"}} {
		file := pair(test.node, test.days)
		key, err := certs.LoadKeyPair(file, file, quiet)
		require.NoError(t, err)
		d, err := partners.New(partners.Config{Node: test.node, KeyPair: key}, httpclient.Proxy{},
			[]partners.Partner{{Node: "A", Auth: partners.MTLS, Peer: certs.Peer{Node: "A",
				Authorities: authorities}}}, quiet)
		require.NoError(t, err)
		server := httptest.NewUnstartedServer(d.Require(http.HandlerFunc(func(w http.ResponseWriter,
			_ *http.Request) {
			_, _ = fmt.Fprint(w, `{"code":0,"data":{"node_id":"B"}}`)
		})))
		server.Config.ErrorLog = slog.NewLogLogger(quiet.Handler(), slog.LevelError)
		server.Listener = tls.NewListener(server.Listener, d.TLSConfig())
		server.Start()
		defer server.Close()

		cfg := party.Default()
		cfg.NodeID = "A"
		own := pair("A", 90)
		cfg.Partners.TLS = party.PartnerTLSConfig{CertFile: own, KeyFile: own, CAFile: caFile}
		_, port, err := net.SplitHostPort(server.Listener.Addr().String())
		require.NoError(t, err)
		url := "https://127.0.0.1:" + port
		cfg.Routes = party.Routes{"B": {URL: url}}
		directory, err := party.OpenPartners(cfg, quiet)
		require.NoError(t, err)
		check := checkPartner(t.Context(), cfg, directory.Transport(nil), "B", url)
		require.Equal(t, test.want, check.State, check.Detail)
		require.Contains(t, check.Detail, test.text)
	}
}

// TestListenWithTLS checks the listener of clients by its own certificate, whichever names that has.
func TestListenWithTLS(t *testing.T) {
	dir := t.TempDir()
	authority, _, err := certs.OpenAuthority(dir, "test")
	require.NoError(t, err)
	issue := func(name string, days time.Duration) string {
		file := filepath.Join(dir, name)
		text, err := authority.Issue(certs.Leaf{Hosts: []string{"party.bank.example"},
			NotAfter: time.Now().Add(days * 24 * time.Hour)})
		require.NoError(t, err)
		require.NoError(t, certs.WriteFile(file, text))
		return file
	}
	good, ending, over := issue("good.pem", 90), issue("ending.pem", 10), issue("over.pem", -1)
	for _, test := range []struct {
		configured, shown string
		want              State
		text              string
	}{
		{good, good, OK, "this party's API answers at"},
		{ending, ending, Warning, "the certificate of tls expires on"},
		{over, over, Failed, "the certificate of tls has expired on"},
		{good, ending, Failed, "does not show the certificate of tls.cert_file"},
		{good, "", Failed, "does not speak HTTPS"},
		{"", good, Failed, "a program other than the API of A"},
	} {
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = fmt.Fprint(w, `{"code":0,"data":{"node_id":"A"}}`)
		}))
		server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
		if test.shown == "" {
			server.Start()
		} else {
			pair, err := tls.LoadX509KeyPair(test.shown, test.shown)
			require.NoError(t, err)
			server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
			server.StartTLS()
		}
		t.Cleanup(server.Close)

		cfg := party.Default()
		cfg.NodeID, cfg.Listen = "A", server.Listener.Addr().String()
		cfg.TLS = party.ServerTLSConfig{CertFile: test.configured, KeyFile: test.configured}
		check := checkAPI(t.Context(), cfg)
		require.Equal(t, test.want, check.State, check.Detail)
		require.Contains(t, check.Detail, test.text)
	}
}
