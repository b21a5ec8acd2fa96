package doctor

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/certs"
	"hutong/internal/httpclient"
	"hutong/internal/partners"
	"hutong/internal/party"
	"hutong/store"
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
		url := startPartner(t, test.node, file, certs.Peer{Node: "A", Authorities: authorities})
		cfg := party.Default()
		cfg.NodeID = "A"
		own := pair("A", 90)
		cfg.Partners.TLS = party.PartnerTLSConfig{CertFile: own, KeyFile: own, CAFile: caFile}
		cfg.Routes = party.Routes{"B": {URL: url}}
		directory, err := party.OpenPartners(cfg, quiet)
		require.NoError(t, err)
		check := checkPartner(t.Context(), cfg, directory.Transport(nil), "B", url)
		require.Equal(t, test.want, check.State, check.Detail)
		require.Contains(t, check.Detail, test.text)
	}
}

// startPartner starts the API of a node, which admits A by mutual TLS and says that it is B. It returns its
// URL.
func startPartner(t *testing.T, node, file string, a certs.Peer) string {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	key, err := certs.LoadKeyPair(file, file, quiet)
	require.NoError(t, err)
	d, err := partners.New(partners.Config{Node: node, KeyPair: key}, httpclient.Proxy{},
		[]partners.Partner{{Node: "A", Auth: partners.MTLS, Peer: a}}, quiet)
	require.NoError(t, err)
	server := httptest.NewUnstartedServer(d.Require(http.HandlerFunc(func(w http.ResponseWriter,
		_ *http.Request) {
		_, _ = fmt.Fprint(w, `{"code":0,"data":{"node_id":"B"}}`)
	})))
	server.Config.ErrorLog = slog.NewLogLogger(quiet.Handler(), slog.LevelError)
	server.Listener = tls.NewListener(server.Listener, d.TLSConfig())
	server.Start()
	t.Cleanup(server.Close)
	return "https://" + server.Listener.Addr().String()
}

// TestPartnerByContract checks a partner that no route names, and a party without any partner.
func TestPartnerByContract(t *testing.T) {
	dir := t.TempDir()
	issue := func(node string) (file string, pin certs.Pin) {
		cert, key, err := certs.SelfSigned(certs.Leaf{Node: node})
		require.NoError(t, err)
		file = filepath.Join(dir, node+".pem")
		require.NoError(t, certs.WriteFile(file, append(cert, key...)))
		parsed, err := certs.ParseCertificates(cert)
		require.NoError(t, err)
		return file, certs.PinOf(parsed[0])
	}
	own, ownPin := issue("A")
	theirs, theirPin := issue("B")
	url := startPartner(t, "B", theirs, certs.Peer{Node: "A", Pins: []certs.Pin{ownPin}})

	cfg := party.Default()
	cfg.NodeID, cfg.DataDir, cfg.Listen = "A", dir, "127.0.0.1:0"
	cfg.Partners.TLS = party.PartnerTLSConfig{CertFile: own, KeyFile: own}
	require.NoError(t, cfg.Complete())
	found := func() map[string]Check {
		results := map[string]Check{}
		for _, c := range partnerChecks(t.Context(), cfg) {
			results[c.name] = c.run(t.Context())
		}
		return results
	}
	c := found()["routes"]
	require.Equal(t, Warning, c.State)
	require.Contains(t, c.Detail, "the contracts are not known", "there is no database")

	require.NoError(t, party.Migrate(t.Context(), cfg))
	db, err := cfg.OpenDatabase(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	c = found()["routes"]
	require.Equal(t, Warning, c.State)
	require.Contains(t, c.Fix, "hutong partner invite")

	require.NoError(t, db.PutPartner(t.Context(), store.Partner{NodeID: "B", ContractID: "c", Address: url,
		State: bfia.ContractApplied, AppliedHere: true, Pins: []string{theirPin.Hex()}}))
	all := found()
	require.Equal(t, OK, all["routes"].State, all["routes"].Detail)
	require.Contains(t, all["routes"].Detail, "1 by contract")
	require.Equal(t, OK, all["contracts.B"].State, all["contracts.B"].Detail)
	require.Contains(t, all["contracts.B"].Detail, "B answers at "+url)
	c = all["contracts.B.transport_url"]
	require.Equal(t, Failed, c.State)
	require.Contains(t, c.Detail, "is not a transport", "the API of B does not serve messages")
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
