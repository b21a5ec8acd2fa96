package system

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emmansun/gmsm/sm2"
	"github.com/emmansun/gmsm/smx509"
	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/bfia/sign"
	"hutong/internal/certs"
	"hutong/internal/codec"
	"hutong/internal/partners"
	"hutong/internal/party"
	"hutong/test/testenv/apiclient"
)

// wiretap is a gateway before a party, which keeps all requests that pass it.
type wiretap struct {
	url     string
	backend string

	mu       sync.Mutex
	requests []tappedRequest
}

type tappedRequest struct {
	target string // path and query
	header http.Header
	body   []byte
}

// startWiretap starts a wiretap before an address.
func startWiretap(t *testing.T, backend string) *wiretap {
	t.Helper()
	target, err := url.Parse(backend)
	require.NoError(t, err)
	w := &wiretap{backend: backend}
	proxy := httputil.NewSingleHostReverseProxy(target)
	server := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		w.mu.Lock()
		w.requests = append(w.requests, tappedRequest{r.URL.RequestURI(), r.Header.Clone(), body})
		w.mu.Unlock()
		r.Body = io.NopCloser(bytes.NewReader(body))
		proxy.ServeHTTP(out, r)
	}))
	t.Cleanup(server.Close)
	w.url = server.URL
	return w
}

// seen returns the requests to a path.
func (w *wiretap) seen(path string) (found []tappedRequest) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.requests {
		if strings.HasPrefix(r.target, path) {
			found = append(found, r)
		}
	}
	return found
}

// send sends a request to the party again, as who has seen it can.
func (w *wiretap) send(t *testing.T, r tappedRequest) (status int, answer string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.backend+r.target,
		bytes.NewReader(r.body))
	require.NoError(t, err)
	request.Header = r.header.Clone()
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(text)
}

// newSigningKeys writes a private key and its public key to files: SM2, or ECDSA on P-256.
func newSigningKeys(t *testing.T, algorithm sign.Algorithm) (private, public string) {
	t.Helper()
	var key, pub []byte
	if algorithm == sign.SM2 {
		k, err := sm2.GenerateKey(rand.Reader)
		require.NoError(t, err)
		der, err := smx509.MarshalPKCS8PrivateKey(k)
		require.NoError(t, err)
		key = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
		pub, err = smx509.MarshalPKIXPublicKey(&k.PublicKey)
		require.NoError(t, err)
	} else {
		k, err := certs.NewKey()
		require.NoError(t, err)
		key, err = certs.EncodeKey(k)
		require.NoError(t, err)
		pub, err = x509.MarshalPKIXPublicKey(k.Public())
		require.NoError(t, err)
	}
	dir := t.TempDir()
	private, public = filepath.Join(dir, "key.pem"), filepath.Join(dir, "public.pem")
	require.NoError(t, os.WriteFile(private, key, 0o600))
	pub = pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pub})
	require.NoError(t, os.WriteFile(public, pub, 0o644))
	return private, public
}

// TestSignedJob runs a whole job between two parties that prove themselves by signatures alone, by ECDSA and
// by SM2, behind gateways that see all. What Temporal stores is encrypted. Every request has a signature of
// its own, and is refused when it is sent again, also with another body.
func TestSignedJob(t *testing.T) {
	t.Parallel()
	keys, public := map[string]string{}, map[string]string{}
	keys[guestNode], public[guestNode] = newSigningKeys(t, sign.ECDSA)
	keys[hostNode], public[hostNode] = newSigningKeys(t, sign.SM2)
	pair := newPartyPair(t, keysOf(t, codec.SM4GCM))
	taps := map[*testParty]*wiretap{}
	for _, n := range []*testParty{pair.guest, pair.host} {
		taps[n] = startWiretap(t, n.plainRoute().URL)
	}
	pair.guest.signsFor(pair.host, taps[pair.host].url, keys, public)
	pair.host.signsFor(pair.guest, taps[pair.guest].url, keys, public)
	pair.guest.start()
	pair.host.start()
	pair.registerReference(bfia.DeviceProcess)
	for _, n := range []*testParty{pair.guest, pair.host} {
		n.register(sleepProvider(t), bfia.DeviceProcess)
	}

	// The probe sends messages between the containers of both, in both directions.
	out, err := pair.probe(hostNode)
	require.NoError(t, err, out)
	jobID := pair.guest.submit(sleepJob(t, 2, map[string]any{"s1": seconds(0), "s2": seconds(0)}, nil))
	requireSuccess(t, pair.guest.awaitJob(jobID, time.Minute, isFinished))
	requireSuccess(t, pair.host.awaitJob(jobID, time.Minute, isFinished))

	used := map[string]bool{}
	for _, tap := range taps {
		all := tap.seen("/")
		require.NotEmpty(t, tap.seen("/v1/interconn/chan/"), "messages pass the gateway")
		for _, r := range all {
			signature, nonce := r.header.Get(sign.HeaderSignature), r.header.Get(sign.HeaderNonce)
			require.NotEmpty(t, signature, r.target)
			require.False(t, used[signature] || used[nonce], "%s is signed once", r.target)
			used[signature], used[nonce] = true, true
		}
	}
	toHost := taps[pair.host]
	for _, path := range []string{bfia.PathCreate, bfia.PathTaskStart, bfia.PathStop,
		"/v1/interconn/chan/"} {
		r := toHost.seen(path)[0]
		status, answer := toHost.send(t, r)
		require.Equal(t, http.StatusUnauthorized, status, "%s: %s", path, answer)

		r.header, r.body = r.header.Clone(), append(slices.Clone(r.body), ' ')
		r.header.Set(sign.HeaderNonce, "another-nonce-"+filepath.Base(path))
		status, answer = toHost.send(t, r)
		require.Equal(t, http.StatusUnauthorized, status, "%s: %s", path, answer)
	}
	requireSuccess(t, pair.host.status(jobID))
}

// signsFor makes a party prove itself to another one by signatures, which it sends to a URL.
func (n *testParty) signsFor(other *testParty, url string, keys, public map[string]string) {
	n.cfg.Routes[other.cfg.NodeID] = party.Route{URL: url, Auth: partners.Sign,
		Sign: party.RouteSignConfig{KeyFile: keys[n.cfg.NodeID], PartnerKeyFile: public[other.cfg.NodeID]}}
}

// post sends a request to another party as its partner, and returns the answer.
func (n *testParty) post(to *testParty, path, body string) bfia.Envelope {
	n.t.Helper()
	directory, err := party.OpenPartners(n.cfg, n.logger())
	require.NoError(n.t, err)
	client := &http.Client{Transport: directory.Transport(nil)}
	n.t.Cleanup(client.CloseIdleConnections)
	a, err := apiclient.Client{HTTP: client}.Send(n.t.Context(), http.MethodPost,
		n.cfg.Routes[to.cfg.NodeID].URL+path, []byte(body),
		sign.HeaderSource, n.cfg.NodeID, sign.HeaderTarget, to.cfg.NodeID)
	require.NoError(n.t, err)
	return a.Envelope
}
