package partners

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/internal/certs"
	"hutong/internal/httpclient"
	"hutong/internal/identity"
)

var (
	quiet   = slog.New(slog.DiscardHandler)
	noProxy = httpclient.Proxy{}
)

// authority signs the certificates of a test and is in a file, as parties have it.
type authority struct {
	*certs.Authority
	*certs.Authorities
	caFile string
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	a, caFile, err := certs.OpenAuthority(t.TempDir(), "test")
	require.NoError(t, err)
	loaded, err := certs.LoadAuthorities(caFile, quiet)
	require.NoError(t, err)
	return authority{a, loaded, caFile}
}

// keyPair returns a certificate, and its file.
func (a authority) keyPair(t *testing.T, leaf certs.Leaf) (*certs.KeyPair, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "cert.pem")
	a.write(t, path, leaf)
	pair, err := certs.LoadKeyPair(path, path, quiet)
	require.NoError(t, err)
	return pair, path
}

// write replaces a file by one with a new certificate and its key.
func (a authority) write(t *testing.T, path string, leaf certs.Leaf) {
	t.Helper()
	text, err := a.Issue(leaf)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path+".new", text, 0o600))
	require.NoError(t, os.Rename(path+".new", path))
}

func (a authority) peer(node string) certs.Peer {
	return certs.Peer{Node: node, Authorities: a.Authorities}
}

func newDirectory(t *testing.T, cfg Config, partners ...Partner) *Directory {
	t.Helper()
	d, err := New(cfg, httpclient.Proxy{}, partners, quiet)
	require.NoError(t, err)
	return d
}

// serve serves a directory's partners with mutual TLS, and returns the base URL.
func serve(t *testing.T, d *Directory, handler http.HandlerFunc) string {
	t.Helper()
	return "https://" + listen(t, d, handler, (*Server).ServeTLS)
}

func listen(t *testing.T, d *Directory, handler http.Handler, how func(*Server, net.Listener) error) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	srv := d.Server(handler, 16<<10)
	ended := make(chan error, 1)
	go func() { ended <- how(srv, l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		assert.NoError(t, srv.Shutdown(ctx))
		assert.ErrorIs(t, <-ended, http.ErrServerClosed)
	})
	return l.Addr().String()
}

// whoami answers with the principal and the source that the transport would see.
func whoami(w http.ResponseWriter, r *http.Request) {
	p := identity.From(r.Context())
	_ = json.NewEncoder(w).Encode(map[string]string{"kind": string(p.Kind), "node": p.Node,
		"proof": string(p.Proof), "credential": p.Credential, "address": p.Address, "protocol": r.Proto,
		"source": strings.Join(r.Header.Values(headerTransportSource), "|")})
}

// clientWith returns a client that shows a certificate, or none, and believes any server.
func clientWith(t *testing.T, pair *certs.KeyPair, change func(*tls.Config)) *http.Client {
	t.Helper()
	tr := httpclient.Direct()
	tr.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	if pair != nil {
		tr.TLSClientConfig.GetClientCertificate = pair.ClientCertificate
	}
	if change != nil {
		change(tr.TLSClientConfig)
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 10 * time.Second}
}

// get sends a request and returns the HTTP status and the answer.
func get(t *testing.T, c *http.Client, url string, headers ...string) (int, map[string]any, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, nil, err
	}
	var answer map[string]any
	require.NoError(t, json.Unmarshal(body, &answer), string(body))
	return resp.StatusCode, answer, nil
}
