package party

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/identity"
	"hutong/internal/partners"
	"hutong/store"
	"hutong/store/storetest"
)

func writeFile(t *testing.T, name string, content []byte, mode os.FileMode) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(file, content, mode))
	return file
}

// newSigningKey returns the PEM files of a new key.
func newSigningKey(t *testing.T) (private, public string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	pub, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	require.NoError(t, err)
	return writeFile(t, "key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600),
		writeFile(t, "pub.pem", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pub}), 0o644)
}

// signingConfig returns the configuration of a party whose one partner signs.
func signingConfig(t *testing.T, node, partner, url, keyFile, partnerKeyFile string) *Config {
	t.Helper()
	c, err := Load(write(t, fmt.Sprintf(
		"node_id: %s\ndata_dir: %s\nroutes: {%s: {url: %q, auth: sign, sign: {key_file: %s, partner_key_file: %s}}}",
		node, t.TempDir(), partner, url, keyFile, partnerKeyFile)), nil)
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll(c.tempDir(), 0o750))
	return c
}

func directoryOf(t *testing.T, c *Config, methods map[partners.Auth]partners.Method) *partners.Directory {
	t.Helper()
	p := &Party{cfg: c, logger: slog.New(slog.DiscardHandler)}
	configured, err := p.configuredPartners()
	require.NoError(t, err)
	d, err := partners.New(partners.Config{Node: c.NodeID, Methods: methods}, c.Proxy.Rule(), configured,
		p.logger)
	require.NoError(t, err)
	return d
}

// TestSignedRequestIsAcceptedOnce records a request of party A and replays it at another API process of party
// B. Both processes share B's database.
func TestSignedRequestIsAcceptedOnce(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		aPrivate, aPublic := newSigningKey(t)
		bPrivate, bPublic := newSigningKey(t)
		quiet := slog.New(slog.DiscardHandler)

		serve := func(db *store.Store) string {
			c := signingConfig(t, "B", "A", "http://a.invalid", bPrivate, aPublic)
			used := &nonces{}
			used.use(db)
			methods, err := c.openMethods(used, quiet)
			require.NoError(t, err)
			d := directoryOf(t, c, methods)
			server := d.Server(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				_ = json.NewEncoder(w).Encode(map[string]string{"msg": identity.From(r.Context()).String(),
					"body": string(body)})
			}), maxPartnerHeaderBytes)
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			go func() { _ = server.ServePlain(l) }()
			t.Cleanup(func() { _ = server.Close() })
			return "http://" + l.Addr().String()
		}
		first, second := serve(storetest.Open(t, address)), serve(storetest.Open(t, address))

		send := func(req *http.Request, over http.RoundTripper) (int, string) {
			resp, err := (&http.Client{Transport: over, Timeout: 10 * time.Second}).Do(req)
			require.NoError(t, err)
			defer func() { _ = resp.Body.Close() }()
			var answer map[string]any
			require.NoError(t, json.NewDecoder(resp.Body).Decode(&answer))
			return resp.StatusCode, fmt.Sprint(answer["msg"])
		}
		a := signingConfig(t, "A", "B", first, aPrivate, bPublic)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, first+bfia.PathStart,
			bytes.NewReader([]byte(`{"job_id":"J"}`)))
		require.NoError(t, err)
		bfia.SetHeaders(req.Header, "A", "B", "J", time.Now())
		methods, err := a.openMethods(&nonces{}, quiet)
		require.NoError(t, err)
		require.NoError(t, methods[partners.Sign].Prove(req, partners.Partner{Node: "B", URL: first}))
		recorded := req.Header.Clone() // as someone between the parties sees it

		d := directoryOf(t, a, methods)

		httpStatus, message := send(req, http.DefaultTransport)
		require.Equal(t, http.StatusOK, httpStatus, message)
		require.Equal(t, "partner A", message)
		for _, address := range []string{second, first} {
			replay, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address+bfia.PathStart,
				bytes.NewReader([]byte(`{"job_id":"J"}`)))
			require.NoError(t, err)
			replay.Header = recorded.Clone()
			httpStatus, message = send(replay, http.DefaultTransport)
			require.Equal(t, http.StatusUnauthorized, httpStatus)
			require.Contains(t, message, "is a replay")
		}

		again, err := http.NewRequestWithContext(t.Context(), http.MethodPost, first+bfia.PathStart,
			bytes.NewReader([]byte(`{"job_id":"J"}`)))
		require.NoError(t, err)
		bfia.SetHeaders(again.Header, "A", "B", "J", time.Now())
		httpStatus, message = send(again, d.Transport(nil))
		require.Equal(t, http.StatusOK, httpStatus, "the party's own retry has a new signature: %s", message)
	})
}

// TestRouteKeys checks that a route names the keys that its auth needs, and no others.
func TestRouteKeys(t *testing.T) {
	for _, c := range []struct {
		route string
		errs  []string
	}{
		{`{url: "http://b:1", auth: sign, sign: {key_file: a.pem, partner_key_file: b.pem}}`, nil},
		{`{url: "http://b:1", auth: sign}`, []string{
			"routes.B.sign.key_file: is required by auth sign",
			"routes.B.sign.partner_key_file: is required by auth sign"}},
		{`{url: "http://b:1", auth: none, from: ["::1/128"], sign: {key_file: a.pem}, fate: {app_id: "1"}}`,
			[]string{"routes.B.sign.key_file: is only for auth sign and mtls+sign",
				"routes.B.fate.app_id: is only for auth fate-site"}},
		{`{url: "http://b:1", auth: fate-site}`, []string{
			"routes.B.fate.app_id: is required by auth fate-site",
			"routes.B.fate.app_token_file: is required by auth fate-site",
			"routes.B.fate.their_app_id: is required by auth fate-site",
			"routes.B.fate.their_app_token_file: is required by auth fate-site"}},
	} {
		_, err := Load(write(t, "node_id: A\nroutes: {B: "+c.route+"}"), nil)
		if c.errs == nil {
			require.NoError(t, err)
		}
		for _, want := range c.errs {
			require.ErrorContains(t, err, want)
		}
	}
}

func TestOpenMethodsRefuses(t *testing.T) {
	private, public := newSigningKey(t)
	token := func(mode os.FileMode) string {
		return writeFile(t, "token", []byte("0123456789abcdef\n"), mode)
	}
	quiet := slog.New(slog.DiscardHandler)
	open := func(routes string) error {
		c, err := Load(write(t, "node_id: H\nroutes: "+routes), nil)
		require.NoError(t, err)
		_, err = c.openMethods(&nonces{}, quiet)
		return err
	}
	sign := func(key, partnerKey string) string {
		return fmt.Sprintf(`{B: {url: "http://b:1", auth: sign, sign: {key_file: %s, partner_key_file: %s}}}`,
			key, partnerKey)
	}
	fate := func(node, app, file string) string {
		return fmt.Sprintf(`%s: {url: "http://b:1", auth: fate-site, fate: {app_id: "1", app_token_file: %s, `+
			`their_app_id: %q, their_app_token_file: %s}}`, node, file, app, file)
	}
	require.NoError(t, open(sign(private, public)))
	readable := writeFile(t, "key.pem", []byte("x"), 0o644)
	require.ErrorContains(t, open(sign(readable, public)), "routes.B.sign.key_file: every user of this")
	require.ErrorContains(t, open(sign(private, private)), "routes.B.sign.partner_key_file: ")
	require.NoError(t, open("{"+fate("B", "2", token(0o600))+"}"))
	require.ErrorContains(t, open("{"+fate("B", "2", token(0o644))+"}"), "token_file: every user")
	both := fate("B", "2", token(0o600)) + ", " + fate("C", "2", token(0o600))
	require.ErrorContains(t, open("{"+both+"}"),
		"routes.C.fate.their_app_id: app 2 is also that of node B")
}
