package partners

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/internal/certs"
	"hutong/internal/httpclient"
)

// gatewayServer is a gateway that ends the mutual TLS of partners and passes requests on over mutual TLS of
// its own. name sets the header with the partner's certificate.
func gatewayServer(t *testing.T, server, client *certs.KeyPair, to string,
	name func(h http.Header, leaf *x509.Certificate)) string {
	t.Helper()
	target, err := url.Parse(to)
	require.NoError(t, err)
	out := httpclient.Direct()
	out.TLSClientConfig = &tls.Config{InsecureSkipVerify: true,
		GetClientCertificate: client.ClientCertificate}
	t.Cleanup(out.CloseIdleConnections)
	proxy := httptest.NewUnstartedServer(&httputil.ReverseProxy{Transport: out,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo),
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			name(r.Out.Header, r.In.TLS.PeerCertificates[0])
		}})
	proxy.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert, GetCertificate: server.ServerCertificate}
	proxy.StartTLS()
	t.Cleanup(proxy.Close)
	return proxy.URL
}

func rfc9440(leaf *x509.Certificate) string {
	return ":" + base64.StdEncoding.EncodeToString(leaf.Raw) + ":"
}

// TestGateway sends requests of partners through a gateway, and attacks it: the header sent directly, by
// another proxy, by a partner through the gateway, twice, and not at all.
func TestGateway(t *testing.T) {
	const header = "Client-Cert"
	ca := newAuthority(t)
	own, _ := ca.keyPair(t, certs.Leaf{Node: "A"})
	b, _ := ca.keyPair(t, certs.Leaf{Node: "B"})
	c, _ := ca.keyPair(t, certs.Leaf{Node: "C"})
	both, _ := ca.keyPair(t, certs.Leaf{Node: "F"})
	stranger, _ := ca.keyPair(t, certs.Leaf{Node: "Z"})
	pinned, _ := newAuthority(t).keyPair(t, certs.Leaf{Node: "D"})
	gateway, _ := newAuthority(t).keyPair(t, certs.Leaf{Node: "gateway"})
	other, _ := newAuthority(t).keyPair(t, certs.Leaf{Node: "gateway"})
	expired, _ := newAuthority(t).keyPair(t, certs.Leaf{Node: "gateway",
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour)})
	pinOf := func(k *certs.KeyPair) certs.Pin { return certs.PinOf(k.Certificate().Leaf) }
	d := newDirectory(t, Config{Node: "A", KeyPair: own, Gateways: Gateways{Header: header,
		Pins: []certs.Pin{pinOf(gateway), pinOf(expired)}}},
		Partner{Node: "B", URL: "https://b", Auth: MTLS, Peer: ca.peer("B")},
		Partner{Node: "C", URL: "https://c", Auth: MTLS, Peer: ca.peer("C")},
		Partner{Node: "D", URL: "https://d", Auth: MTLS, Peer: certs.Peer{Node: "D",
			Pins: []certs.Pin{pinOf(pinned)}}},
		Partner{Node: "F", URL: "https://f", Auth: MTLS, Peer: certs.Peer{Node: "F",
			Authorities: ca.Authorities, Pins: []certs.Pin{pinOf(both)}}})
	party := serve(t, d, func(w http.ResponseWriter, r *http.Request) {
		if len(r.Header.Values(header)) > 0 || len(r.Header.Values("Client_Cert")) > 0 {
			w.WriteHeader(http.StatusTeapot)
			_ = json.NewEncoder(w).Encode("the header has left the listener")
			return
		}
		whoami(w, r)
	})

	honest := func(form func(*x509.Certificate) string) string {
		return gatewayServer(t, own, gateway, party, func(h http.Header, leaf *x509.Certificate) {
			h.Set(header, form(leaf))
		})
	}
	require9440 := honest(rfc9440)
	pem := honest(func(leaf *x509.Certificate) string {
		return url.PathEscape(string(certs.EncodeCertificate(leaf)))
	})
	fingerprint := honest(func(leaf *x509.Certificate) string { return certs.PinOf(leaf).Hex() })
	is := func(node, at string, pair *certs.KeyPair, headers ...string) {
		t.Helper()
		status, answer, err := get(t, clientWith(t, pair, nil), at, headers...)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, status, "%v", answer)
		require.Equal(t, node, answer["node"])
		require.Equal(t, node, answer["source"])
		require.Equal(t, "certificate", answer["proof"])
		require.Equal(t, pinOf(pair).Hex(), answer["credential"])
	}
	refused := func(status int, words, at string, pair *certs.KeyPair, headers ...string) {
		t.Helper()
		got, answer, err := get(t, clientWith(t, pair, nil), at, headers...)
		require.NoError(t, err)
		require.Equal(t, status, got, "%v", answer)
		require.Contains(t, answer["msg"], words)
	}

	// Two partners, over one connection of the gateway, and directly.
	for range 3 {
		is("B", require9440, b)
		is("C", require9440, c)
	}
	is("B", pem, b)
	is("D", require9440, pinned)
	is("D", fingerprint, pinned)
	is("B", party, b)
	refused(http.StatusUnauthorized, "belongs to no partner", fingerprint, b)
	refused(http.StatusUnauthorized, "must name the whole certificate", fingerprint, both)
	is("F", require9440, both)
	refused(http.StatusUnauthorized, "", require9440, stranger)
	refused(http.StatusForbidden, "names node \"C\"", require9440, b, "x-source-node-id", "C")

	// A partner's own header is replaced by the gateway, and refused directly, in each spelling.
	named := rfc9440(c.Certificate().Leaf)
	is("B", require9440, b, header, named)
	refused(http.StatusForbidden, "only for the gateways", party, b, header, named)
	refused(http.StatusForbidden, "only for the gateways", party, b, "Client_Cert", named)
	refused(http.StatusForbidden, "given 2 times", require9440, b, "Client_Cert", named)

	// Another proxy, as nobody and as a partner.
	set := func(h http.Header, leaf *x509.Certificate) { h.Set(header, rfc9440(leaf)) }
	notReached := func(gateway string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, gateway, nil)
		require.NoError(t, err)
		answer, err := clientWith(t, b, nil).Do(r)
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
		require.Equal(t, http.StatusBadGateway, answer.StatusCode)
	}
	notReached(gatewayServer(t, own, other, party, set))
	refused(http.StatusForbidden, "only for the gateways", gatewayServer(t, own, c, party, set), b)
	// Its key is trusted, but its certificate has expired.
	notReached(gatewayServer(t, own, expired, party, set))

	// A gateway that passes the partner's header on, or names nobody, or nothing that is a certificate.
	refused(http.StatusForbidden, "given 2 times", gatewayServer(t, own, gateway, party,
		func(h http.Header, leaf *x509.Certificate) { h.Add(header, rfc9440(leaf)) }), b, header, named)
	refused(http.StatusForbidden, "given 0 times", gatewayServer(t, own, gateway, party,
		func(http.Header, *x509.Certificate) {}), b)
	for value, words := range map[string]string{"": "must be given once", ":": "RFC 9440",
		":!:": "RFC 9440", ":AAAA:": "holds no certificate",
		"-----BEGIN%20CERTIFICATE-----": "no certificate",
		"B":                             "neither a certificate", named + ", " + named: "RFC 9440"} {
		refused(http.StatusForbidden, words, gatewayServer(t, own, gateway, party,
			func(h http.Header, _ *x509.Certificate) { h[header] = []string{value} }), b)
	}

	// A removed partner is refused at its next request through the gateway.
	contract := func(k *certs.KeyPair) []Partner {
		return []Partner{{Node: "E", URL: "https://e", Auth: MTLS, Contract: "1",
			Peer: certs.Peer{Node: "E", Pins: []certs.Pin{pinOf(k)}}}}
	}
	d.SetContracts(contract(other))
	is("E", require9440, other)
	d.SetContracts(nil)
	refused(http.StatusUnauthorized, "", require9440, other)
	// The key of a gateway is no partner's.
	d.SetContracts(contract(gateway))
	_, found := d.Lookup("E")
	require.False(t, found)
}

// TestGatewayHeaderWithoutTLS checks that nobody is believed at the plain listener.
func TestGatewayHeaderWithoutTLS(t *testing.T) {
	ca := newAuthority(t)
	own, _ := ca.keyPair(t, certs.Leaf{Node: "A"})
	b, _ := ca.keyPair(t, certs.Leaf{Node: "B"})
	d := newDirectory(t, Config{Node: "A", KeyPair: own, Gateways: Gateways{Header: "client-cert",
		Pins: []certs.Pin{certs.PinOf(own.Certificate().Leaf)}}},
		Partner{Node: "B", URL: "https://b", Auth: MTLS, Peer: ca.peer("B")})
	address := listen(t, d, http.HandlerFunc(whoami), (*Server).ServePlain)
	status, answer, err := get(t, clientWith(t, nil, nil), "http://"+address, "Client-Cert",
		rfc9440(b.Certificate().Leaf))
	require.NoError(t, err)
	require.Equal(t, http.StatusForbidden, status)
	require.Contains(t, answer["msg"], "only for the gateways")
}
