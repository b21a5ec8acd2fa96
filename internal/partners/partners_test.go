package partners

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/internal/certs"
)

// TestMutualTLS checks which certificates the listener for partners accepts, and whom they prove.
func TestMutualTLS(t *testing.T) {
	ours, foreign := newAuthority(t), newAuthority(t)
	own, _ := ours.keyPair(t, certs.Leaf{Node: "A"})
	pinned, _ := foreign.keyPair(t, certs.Leaf{Node: "whatever"})
	pin := certs.PinOf(pinned.Certificate().Leaf)
	base := serve(t, newDirectory(t, Config{Node: "A", KeyPair: own},
		Partner{Node: "B", URL: "https://b", Auth: MTLS, Peer: ours.peer("B")},
		Partner{Node: "C", URL: "https://c", Auth: MTLS, Peer: ours.peer("C")},
		Partner{Node: "P", URL: "https://p", Auth: MTLS, Peer: certs.Peer{Node: "P", Pins: []certs.Pin{pin}}},
	), whoami)
	leaf := func(a authority, l certs.Leaf) *certs.KeyPair {
		pair, _ := a.keyPair(t, l)
		return pair
	}
	for _, test := range []struct {
		name   string
		pair   *certs.KeyPair
		change func(*tls.Config)
		node   string // "" is refused
	}{
		{"partner", leaf(ours, certs.Leaf{Node: "B"}), nil, "B"},
		{"other partner", leaf(ours, certs.Leaf{Node: "C"}), nil, "C"},
		{"pinned key", pinned, nil, "P"},
		{"no certificate", nil, nil, ""},
		{"wrong authority", leaf(foreign, certs.Leaf{Node: "B"}), nil, ""},
		{"expired", leaf(ours, certs.Leaf{Node: "B", NotBefore: time.Now().Add(-2 * time.Hour),
			NotAfter: time.Now().Add(-time.Minute)}), nil, ""},
		{"of tomorrow", leaf(ours, certs.Leaf{Node: "B", NotBefore: time.Now().Add(time.Hour)}), nil, ""},
		{"no partner's name", leaf(ours, certs.Leaf{Node: "D"}), nil, ""},
		{"only a host", leaf(ours, certs.Leaf{Hosts: []string{"b.example.com"}}), nil, ""},
		{"this party's own name", leaf(ours, certs.Leaf{Node: "A"}), nil, ""},
		{"two partners' names", leaf(ours, certs.Leaf{Hosts: []string{"B", "C"}}), nil, ""},
		{"TLS 1.1", leaf(ours, certs.Leaf{Node: "B"}), func(c *tls.Config) {
			c.MinVersion, c.MaxVersion = tls.VersionTLS11, tls.VersionTLS11
		}, ""},
		{"TLS 1.2", leaf(ours, certs.Leaf{Node: "B"}),
			func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			status, answer, err := get(t, clientWith(t, test.pair, test.change), base+"/v1/x")
			if test.node == "" {
				require.Error(t, err, "the connection must fail, but the answer is %d %v", status, answer)
				return
			}
			require.NoError(t, err)
			require.Equal(t, http.StatusOK, status)
			require.Equal(t, "partner", answer["kind"])
			require.Equal(t, test.node, answer["node"])
			require.Equal(t, "certificate", answer["proof"])
			require.Equal(t, certs.PinOf(test.pair.Certificate().Leaf).Hex(), answer["credential"])
			require.Equal(t, "127.0.0.1", answer["address"])
		})
	}
	t.Run("plain text", func(t *testing.T) {
		_, _, err := get(t, clientWith(t, nil, nil), strings.Replace(base, "https", "http", 1)+"/v1/x")
		require.Error(t, err)
	})
}

func TestTLS12ByOption(t *testing.T) {
	a := newAuthority(t)
	own, _ := a.keyPair(t, certs.Leaf{Node: "A"})
	other, _ := a.keyPair(t, certs.Leaf{Node: "B"})
	base := serve(t, newDirectory(t, Config{Node: "A", KeyPair: own, AllowTLS12: true},
		Partner{Node: "B", Auth: MTLS, Peer: a.peer("B")}), whoami)
	for version, accepted := range map[uint16]bool{tls.VersionTLS11: false, tls.VersionTLS12: true} {
		status, _, err := get(t, clientWith(t, other, func(c *tls.Config) {
			c.MinVersion, c.MaxVersion = tls.VersionTLS11, version
		}), base+"/v1/x")
		if accepted {
			require.NoError(t, err)
			require.Equal(t, http.StatusOK, status)
		} else {
			require.Error(t, err)
		}
	}
}

// TestHeaders checks that no header can name another node than the certificate, in any spelling or as a
// second value, and that the transport's source is always the one that was proved.
func TestHeaders(t *testing.T) {
	a := newAuthority(t)
	own, _ := a.keyPair(t, certs.Leaf{Node: "A"})
	other, _ := a.keyPair(t, certs.Leaf{Node: "B"})
	base := serve(t, newDirectory(
		t,
		Config{Node: "A", KeyPair: own},
		Partner{
			Node: "B",
			Auth: MTLS,
			Peer: a.peer("B"),
		},
		Partner{Node: "C", Auth: MTLS, Peer: a.peer("C")},
	), whoami)
	client := clientWith(t, other, nil)
	for _, test := range []struct {
		name    string
		headers []string
		refused bool
	}{
		{"none", nil, false},
		{"its own", []string{"x-source-node-id", "B", "x-node-id", "B", "x-ptp-source-node-id", "B"}, false},
		{"empty", []string{"x-source-node-id", ""}, false},
		{"another", []string{"x-source-node-id", "C"}, true},
		{"another, with underscores", []string{"x_source_node_id", "C"}, true},
		{"of FATE-Flow", []string{"x_node_id", "C"}, true},
		{"of Kuscia", []string{"X-Node-Id", "C"}, true},
		{"second value", []string{"x-source-node-id", "B", "x-source-node-id", "C"}, true},
		{"second spelling", []string{"x-source-node-id", "B", "x_source_node_id", "C"}, true},
		{"of the transport", []string{"x-ptp-source-node-id", "C"}, true},
		{"of the transport, with underscores", []string{"x_ptp_source_node_id", "C"}, true},
		{"of FATE's transport", []string{"x-ptp-from-node-id", "C"}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			for path, code := range map[string]any{"/v1/interconn/schedule/job/start": 4030.0,
				"/v2/partner/job/stop":      4030.0,
				"/v1/interconn/chan/invoke": "E0000000403"} {
				status, answer, err := get(t, client, base+path, test.headers...)
				require.NoError(t, err)
				if !test.refused {
					require.Equal(t, http.StatusOK, status)
					require.Equal(t, "B", answer["source"])
					continue
				}
				wanted := http.StatusForbidden
				if isFATEFlow(path) {
					wanted = http.StatusOK // else FATE-Flow does not read the answer
				}
				require.Equal(t, wanted, status)
				require.Equal(t, code, answer["code"])
				message := "msg"
				if !strings.HasPrefix(path, "/v1/interconn/schedule") {
					message = "message"
				}
				require.Contains(t, answer[message], `names node "C", but the sender is node B`)
			}
		})
	}
}

// TestSmuggling checks that a request with two framings is refused on a connection with a valid certificate.
func TestSmuggling(t *testing.T) {
	a := newAuthority(t)
	own, _ := a.keyPair(t, certs.Leaf{Node: "A"})
	other, _ := a.keyPair(t, certs.Leaf{Node: "B"})
	var calls atomic.Int32
	base := serve(t, newDirectory(
		t,
		Config{Node: "A", KeyPair: own},
		Partner{
			Node: "B",
			Auth: MTLS,
			Peer: a.peer("B"),
		},
	), func(http.ResponseWriter, *http.Request) { calls.Add(1) })
	conn, err := tls.Dial("tcp", strings.TrimPrefix(base, "https://"), &tls.Config{InsecureSkipVerify: true,
		GetClientCertificate: other.ClientCertificate})
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	_, err = io.WriteString(
		conn,
		"POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n"+
			"\r\n0\r\n\r\nGET /v1/y HTTP/1.1\r\nHost: a\r\n\r\n",
	)
	require.NoError(t, err)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusBadRequest, resp.StatusCode)
	require.Zero(t, calls.Load())
}

// TestWrongServer checks that a party sends nothing to a server that is not the partner, also if it is
// another partner with a valid certificate.
func TestWrongServer(t *testing.T) {
	ours, foreign := newAuthority(t), newAuthority(t)
	ownPair, _ := ours.keyPair(t, certs.Leaf{Node: "A"})
	for name, pair := range map[string]func() *certs.KeyPair{
		"another partner": func() *certs.KeyPair { p, _ := ours.keyPair(t, certs.Leaf{Node: "C"}); return p },
		"another authority": func() *certs.KeyPair {
			p, _ := foreign.keyPair(t, certs.Leaf{Node: "B", Hosts: []string{"127.0.0.1"}})
			return p
		},
		"the right host only": func() *certs.KeyPair {
			p, _ := ours.keyPair(t, certs.Leaf{Hosts: []string{"127.0.0.1"}})
			return p
		},
	} {
		t.Run(name, func(t *testing.T) {
			var calls atomic.Int32
			base := serve(t, newDirectory(t, Config{Node: "C", KeyPair: pair()},
				Partner{Node: "A", Auth: MTLS, Peer: ours.peer("A")}),
				func(http.ResponseWriter, *http.Request) { calls.Add(1) })
			d := newDirectory(t, Config{Node: "A", KeyPair: ownPair},
				Partner{Node: "B", URL: base, Auth: MTLS, Peer: ours.peer("B")})
			client := &http.Client{Transport: d.Transport(nil), Timeout: 10 * time.Second}
			_, _, err := get(t, client, base+"/", "x-target-node-id", "B")
			require.ErrorContains(t, err, "certificate")
			require.Zero(t, calls.Load())
		})
	}
}

// TestWithoutProof checks partners that only their network address proves.
func TestWithoutProof(t *testing.T) {
	a := newAuthority(t)
	own, _ := a.keyPair(t, certs.Leaf{Node: "A"})
	loopback, elsewhere := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		[]netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	plain := func(t *testing.T, partners ...Partner) string {
		return "http://" + listen(t, newDirectory(t, Config{Node: "A", KeyPair: own}, partners...),
			http.HandlerFunc(whoami), (*Server).ServePlain)
	}
	fate := Partner{Node: "9999", URL: "http://f", Auth: None, From: loopback}
	kuscia := Partner{Node: "K", URL: "http://k", Auth: None, From: loopback}
	far := Partner{Node: "F", URL: "http://f", Auth: None, From: elsewhere}
	strong := Partner{Node: "B", URL: "https://b", Auth: MTLS, Peer: a.peer("B")}
	for _, test := range []struct {
		name     string
		partners []Partner
		header   string
		node     string
	}{
		{"by header", []Partner{fate, kuscia}, "9999", "9999"},
		{"without a header, one partner", []Partner{fate, far, strong}, "", "9999"},
		{"without a header, two partners", []Partner{fate, kuscia}, "", ""},
		{"from elsewhere", []Partner{fate, far}, "F", ""},
		{"the name of a partner with a certificate", []Partner{fate, strong}, "B", ""},
		{"unknown", []Partner{fate}, "X", ""},
		{"nobody", []Partner{strong}, "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			var headers []string
			if test.header != "" {
				headers = []string{"x-source-node-id", test.header}
			}
			status, answer, err := get(
				t,
				clientWith(t, nil, nil),
				plain(t, test.partners...)+"/v1/x",
				headers...)
			require.NoError(t, err)
			if test.node == "" {
				require.Equal(t, http.StatusUnauthorized, status)
				require.Equal(t, 4010.0, answer["code"])
				return
			}
			require.Equal(t, http.StatusOK, status)
			require.Equal(t, test.node, answer["node"])
			require.Equal(t, "address", answer["proof"])
		})
	}
}

// TestStrangers checks that nodes that are no partners reach only the paths for them, and only while the
// party admits them.
func TestStrangers(t *testing.T) {
	a, foreign := newAuthority(t), newAuthority(t)
	own, _ := a.keyPair(t, certs.Leaf{Node: "A"})
	stranger, _ := foreign.keyPair(t, certs.Leaf{Node: "S"})
	var open atomic.Bool
	base := serve(t, newDirectory(t, Config{Node: "A", KeyPair: own, Strangers: open.Load,
		StrangerPaths: map[string]bool{"/apply": true}}), whoami)
	_, _, err := get(t, clientWith(t, stranger, nil), base+"/apply")
	require.Error(t, err)
	open.Store(true)
	client := clientWith(t, stranger, nil)
	status, answer, err := get(t, client, base+"/apply", "x-source-node-id", "B")
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "", answer["kind"], "it is nobody")
	require.Equal(t, certs.PinOf(stranger.Certificate().Leaf).Hex(), answer["credential"])
	status, _, err = get(t, client, base+"/v1/x", "x-source-node-id", "B")
	require.NoError(t, err)
	require.Equal(t, http.StatusUnauthorized, status)
	open.Store(false)
	status, _, err = get(t, client, base+"/apply")
	require.True(t, err != nil || status == http.StatusUnauthorized, "%d", status)
	_, _, err = get(t, clientWith(t, nil, nil), base+"/apply")
	require.Error(t, err, "without a certificate")
}

func TestInvalidPartners(t *testing.T) {
	a := newAuthority(t)
	own, _ := a.keyPair(t, certs.Leaf{Node: "A"})
	for _, test := range []struct {
		name    string
		pair    *certs.KeyPair
		partner Partner
		err     string
	}{
		{"own certificate", nil, Partner{Node: "B", Auth: MTLS, Peer: a.peer("B")},
			"routes.B: auth mtls requires this party's own certificate: set partners.tls.cert_file"},
		{"authorities", own, Partner{Node: "B", Auth: MTLS}, "set tls.ca_file, tls.spki_sha256"},
		{"networks", own, Partner{Node: "B", Auth: None}, "routes.B: auth none requires the networks"},
		{"kind", own, Partner{Node: "B", Auth: "basic"}, `auth must be one of [mtls mtls+sign sign fate-site none], but is "basic"`},
		{"method", own, Partner{Node: "B", Auth: MTLSSign, Peer: a.peer("B")},
			"auth mtls+sign is not configured"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := New(Config{Node: "A", KeyPair: test.pair}, noProxy, []Partner{test.partner}, quiet)
			require.ErrorContains(t, err, test.err)
		})
	}
	pins := []certs.Pin{certs.PinOf(own.Certificate().Leaf)}
	_, err := New(Config{Node: "A", KeyPair: own}, noProxy, []Partner{
		{Node: "C", Auth: MTLS, Peer: certs.Peer{Node: "C", Pins: pins}},
		{Node: "B", Auth: MTLS, Peer: certs.Peer{Node: "B", Pins: pins}}}, quiet)
	require.ErrorContains(t, err, "routes.C.tls.spki_sha256: the key")
}

// TestSilentClient checks that a client that connects and says nothing does not hold a connection.
func TestSilentClient(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	own, _ := a.keyPair(t, certs.Leaf{Node: "A"})
	base := serve(t, newDirectory(t, Config{Node: "A", KeyPair: own}), whoami)
	conn, err := net.Dial("tcp", strings.TrimPrefix(base, "https://"))
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(2*handshakeTimeout)))
	_, err = conn.Read(make([]byte, 1))
	require.Error(t, err)
	var timeout net.Error
	require.False(t, errors.As(err, &timeout) && timeout.Timeout(), "the server closes it")
}
