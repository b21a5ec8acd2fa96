package partners

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/bfia/sign"
	"hutong/internal/certs"
	"hutong/transport/status"
)

// signatures returns the method of a node with one partner.
func signatures(t *testing.T, node, partner string, own, theirs keyFiles, nonces Nonces) *Signatures {
	t.Helper()
	keys, err := LoadSignKeys(own.private, theirs.public, quiet)
	require.NoError(t, err)
	return &Signatures{Node: node, Keys: map[string]SignKeys{partner: keys}, Nonces: nonces,
		Bodies: Bodies{Control: testControlLimit, Transport: testTransportLimit, Dir: t.TempDir()}}
}

// echo answers with the principal, as whoami does, and the length of the body.
func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("X-Body-Length", strconv.Itoa(len(body)))
	w.Header().Set("X-Body-End", string(body[max(len(body)-10, 0):]))
	whoami(w, r)
}

// signedParties are the party B, which verifies signatures without TLS, and the sender A.
type signedParties struct {
	a, b   *Signatures
	url    string // of B
	toB    Partner
	client *http.Client // of A
}

func newSignedParties(t *testing.T, aKeys keyFiles, nonces Nonces) signedParties {
	t.Helper()
	bKeys := newKeyFiles(t)
	p := signedParties{
		a: signatures(t, "A", "B", aKeys, bKeys, &MemoryNonces{}),
		b: signatures(t, "B", "A", bKeys, aKeys, nonces),
	}
	p.url = p.serveB(t)
	p.toB = Partner{Node: "B", URL: p.url, Auth: Sign}
	d := newDirectory(t, Config{Node: "A", Methods: map[Auth]Method{Sign: p.a}}, p.toB)
	p.client = &http.Client{Transport: d.Transport(nil), Timeout: 10 * time.Second}
	return p
}

// serveB starts one process of B, and returns its URL.
func (p signedParties) serveB(t *testing.T) string {
	t.Helper()
	d := newDirectory(t, Config{Node: "B", Methods: map[Auth]Method{Sign: p.b}},
		Partner{Node: "A", URL: "http://a.invalid", Auth: Sign})
	return "http://" + listen(t, d, http.HandlerFunc(echo), (*Server).ServePlain)
}

func (p signedParties) request(t *testing.T, method, url, body string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	bfia.SetHeaders(req.Header, "A", "B", "J", time.Now())
	return req
}

// signed returns a request with A's signature, as a recorder between the parties would see it.
func (p signedParties) signed(t *testing.T, method, url, body string) *http.Request {
	t.Helper()
	req := p.request(t, method, url, body)
	require.NoError(t, p.a.Prove(req, p.toB))
	return req
}

// do sends a request as it is, and returns the HTTP status and the answer.
func do(t *testing.T, c *http.Client, req *http.Request) (int, map[string]any, http.Header) {
	t.Helper()
	resp, err := c.Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	var answer map[string]any
	require.NoError(t, json.Unmarshal(body, &answer), string(body))
	return resp.StatusCode, answer, resp.Header
}

func TestSignedRequests(t *testing.T) {
	for name, algorithm := range map[string]sign.Algorithm{"rsa": sign.RSA, "ecdsa": sign.ECDSA,
		"sm2": sign.SM2} {
		t.Run(name, func(t *testing.T) {
			p := newSignedParties(t, vectorKeys(name), &MemoryNonces{})
			for range 2 { // the same content again, as a retry after a lost answer
				httpStatus, answer, header := do(t, p.client, p.request(t, "POST", p.url+startPath+"?a=%2F",
					`{"job_id":"J"}`))
				require.Equal(t, http.StatusOK, httpStatus, answer)
				require.Equal(t, "A", answer["node"])
				require.Equal(t, "signature", answer["proof"])
				require.Regexp(t, "^"+string(algorithm)+" [0-9a-f]{64}$", answer["credential"])
				require.Equal(t, "14", header.Get("X-Body-Length"))
			}
			httpStatus, answer, _ := do(t, p.client, p.request(t, "GET", p.url+startPath, ""))
			require.Equal(t, http.StatusOK, httpStatus, answer)

			// Messages of the transport are larger than a process keeps in memory.
			for _, size := range []int{inMemory - 1, inMemory, inMemory + 1, testTransportLimit} {
				req := p.request(t, "POST", p.url+invokePath, strings.Repeat("m", size-3)+"end")
				req.Header.Set("x-ptp-session-id", "session_J")
				httpStatus, answer, header := do(t, p.client, req)
				require.Equal(t, http.StatusOK, httpStatus, answer)
				require.Equal(t, strconv.Itoa(size), header.Get("X-Body-Length"))
				require.Equal(t, "mmmmmmmend", header.Get("X-Body-End"))
			}
		})
	}
}

// TestSignatureRefusals sends requests that someone between the parties has changed or made.
func TestSignatureRefusals(t *testing.T) {
	p := newSignedParties(t, newKeyFiles(t), &MemoryNonces{})
	body := `{"job_id":"J"}`
	refused := func(req *http.Request, want string) {
		t.Helper()
		httpStatus, answer, header := do(t, http.DefaultClient, req)
		require.Equal(t, http.StatusUnauthorized, httpStatus, answer)
		require.EqualValues(t, bfia.CodeUnauthenticated, answer["code"])
		require.Contains(t, answer["msg"], want)
		require.Empty(t, header.Get("X-Body-Length"), "no handler sees the request")
	}
	replaced := func(req *http.Request, body string) *http.Request {
		req.Body, req.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
		req.GetBody = nil
		return req
	}
	const mismatch = "the signature does not match"

	refused(p.request(t, "POST", p.url+startPath, body), "the sender is not known") // not signed
	refused(replaced(p.signed(t, "POST", p.url+startPath, body), `{"job_id":"K"}`), mismatch)
	refused(replaced(p.signed(t, "POST", p.url+startPath, body), ""), mismatch)

	moved := p.signed(t, "POST", p.url+startPath, body)
	moved.URL.Path = "/v1/interconn/schedule/job/stop"
	refused(moved, mismatch)
	moved = p.signed(t, "POST", p.url+startPath, body)
	moved.URL.RawQuery = "a=b"
	refused(moved, mismatch)
	moved = p.signed(t, "POST", p.url+startPath, body)
	moved.Method = http.MethodPut
	refused(moved, mismatch)

	for name, value := range map[string]string{
		sign.HeaderNonce:     "another",
		sign.HeaderTimestamp: strconv.FormatInt(time.Now().UnixMilli()+1000, 10),
		"x-ptp-topic":        "added",
		bfia.HeaderTokenSet:  "bank#train/1/STOLEN",
	} {
		req := p.signed(t, "POST", p.url+startPath, body)
		req.Header.Set(name, value)
		refused(req, mismatch)
	}
	for _, permits := range []string{"", "bank#train/1/another"} { // taken away, or exchanged, on the way
		req := p.request(t, "POST", p.url+startPath, body)
		req.Header.Set(bfia.HeaderTokenSet, "bank#train/1/PERMIT")
		require.NoError(t, p.a.Prove(req, p.toB))
		if req.Header.Del(bfia.HeaderTokenSet); permits != "" {
			req.Header.Set(bfia.HeaderTokenSet, permits)
		}
		refused(req, mismatch)
	}
	for _, name := range []string{sign.HeaderTarget, sign.HeaderNonce, sign.HeaderTimestamp} {
		req := p.signed(t, "POST", p.url+startPath, body)
		req.Header.Del(name)
		refused(req, "header "+name+" is missing")
	}
	req := p.signed(t, "POST", p.url+startPath, body)
	req.Header.Add(sign.HeaderNonce, "second")
	refused(req, "header x-nonce occurs 2 times")
	req = p.signed(t, "POST", p.url+startPath, body)
	req.Header.Set(sign.HeaderSource, "C")
	refused(req, `no route says that node "C"`)
	req = p.signed(t, "POST", p.url+startPath, body)
	req.Header.Del(sign.HeaderSource)
	req.Header.Del("x-node-id")
	refused(req, "the sender is not known")

	stranger := *p.a
	stranger.Keys = signatures(t, "A", "B", newKeyFiles(t), newKeyFiles(t), nil).Keys
	req = p.request(t, "POST", p.url+startPath, body)
	require.NoError(t, stranger.Prove(req, p.toB))
	refused(req, mismatch)

	other := *p.a // a request to node C, sent to B
	other.Keys = map[string]SignKeys{"C": p.a.Keys["B"]}
	req = p.request(t, "POST", p.url+startPath, body)
	require.NoError(t, other.Prove(req, Partner{Node: "C", URL: p.url, Auth: Sign}))
	refused(req, "names node \"C\": this is node B")

	for offset, want := range map[time.Duration]string{-6 * time.Minute: "ago",
		6 * time.Minute: "in the future"} {
		req = p.request(t, "POST", p.url+startPath, body)
		bfia.SetTimestamp(req.Header, time.Now().Add(offset))
		resign(t, p, req, body)
		refused(req, want)
	}
}

// resign signs a request with the headers that it has.
func resign(t *testing.T, p signedParties, req *http.Request, body string) {
	t.Helper()
	signed, err := sign.FromHeader(req.Method, req.URL.RequestURI(), req.Header)
	require.NoError(t, err)
	own := p.a.Keys["B"].own.Get()
	h := own.Algorithm().NewHash()
	_, _ = io.WriteString(h, body)
	signature, err := own.Sign(signed, h.Sum(nil))
	require.NoError(t, err)
	req.Header.Set(sign.HeaderSignature, signature)
}

// TestReplay sends a recorded request again, to the same process and to another one of the same party.
func TestReplay(t *testing.T) {
	p := newSignedParties(t, newKeyFiles(t), &MemoryNonces{})
	second := p.serveB(t)
	recorded := p.signed(t, "POST", p.url+startPath, `{"job_id":"J"}`)
	httpStatus, answer, _ := do(t, http.DefaultClient, recorded)
	require.Equal(t, http.StatusOK, httpStatus, answer)
	for _, address := range []string{p.url, second} {
		again := recorded.Clone(t.Context())
		to, err := url.Parse(address)
		require.NoError(t, err)
		again.URL.Host = to.Host
		again.Body, err = recorded.GetBody()
		require.NoError(t, err)
		httpStatus, answer, _ = do(t, http.DefaultClient, again)
		require.Equal(t, http.StatusUnauthorized, httpStatus)
		require.Contains(t, answer["msg"], "is a replay")
	}
}

// failingNonces is a database that does not answer.
type failingNonces struct{}

func (failingNonces) UseNonce(context.Context, string, string, string) (bool, error) {
	return false, errors.New("the database is down")
}

func TestNonceCantBeRecorded(t *testing.T) {
	p := newSignedParties(t, newKeyFiles(t), failingNonces{})
	httpStatus, answer, _ := do(t, p.client, p.request(t, "POST", p.url+startPath, "{}"))
	require.Equal(t, http.StatusServiceUnavailable, httpStatus, "the sender may retry")
	require.EqualValues(t, bfia.CodeUnavailable, answer["code"])
	require.NotContains(t, answer["msg"], "database is down")
}

// TestMTLSAndSignature requires both proofs, of the same node.
func TestMTLSAndSignature(t *testing.T) {
	ca := newAuthority(t)
	aPair, _ := ca.keyPair(t, certs.Leaf{Node: "A"})
	bPair, _ := ca.keyPair(t, certs.Leaf{Node: "B"})
	cPair, _ := ca.keyPair(t, certs.Leaf{Node: "C"})
	aKeys, bKeys := newKeyFiles(t), newKeyFiles(t)
	a := signatures(t, "A", "B", aKeys, bKeys, &MemoryNonces{})
	b := signatures(t, "B", "A", bKeys, aKeys, &MemoryNonces{})
	dB := newDirectory(t, Config{Node: "B", KeyPair: bPair, Methods: map[Auth]Method{MTLSSign: b, Sign: b}},
		Partner{Node: "A", URL: "https://a.invalid", Auth: MTLSSign, Peer: ca.peer("A")},
		Partner{Node: "C", URL: "https://c.invalid", Auth: MTLS, Peer: ca.peer("C")})
	p := signedParties{a: a, b: b, url: serve(t, dB, echo)}
	p.toB = Partner{Node: "B", URL: p.url, Auth: MTLSSign, Peer: ca.peer("B")}
	dA := newDirectory(t, Config{Node: "A", KeyPair: aPair, Methods: map[Auth]Method{MTLSSign: a}}, p.toB)
	p.client = &http.Client{Transport: dA.Transport(nil), Timeout: 10 * time.Second}

	httpStatus, answer, _ := do(t, p.client, p.request(t, "POST", p.url+startPath, "{}"))
	require.Equal(t, http.StatusOK, httpStatus, answer)
	require.Equal(t, "signature", answer["proof"])
	require.Regexp(t, "^[0-9a-f]{64} SHA256_ECDSA [0-9a-f]{64}$", answer["credential"])

	certificate := clientWith(t, aPair, nil)
	httpStatus, answer, _ = do(t, certificate, p.request(t, "POST", p.url+startPath, "{}"))
	require.Equal(t, http.StatusUnauthorized, httpStatus)
	require.Contains(t, answer["msg"], "header x-auth-sign is missing")

	httpStatus, answer, _ = do(t, clientWith(t, cPair, nil), p.signed(t, "POST", p.url+startPath, "{}"))
	require.Equal(t, http.StatusForbidden, httpStatus, "A's signature over C's connection")
	require.Contains(t, answer["msg"], "names node \"A\", but the sender is node C")
}

// TestSignatureDoesNotReplaceACertificate checks that a partner whose route demands a certificate can't be
// named by a signature alone.
func TestSignatureDoesNotReplaceACertificate(t *testing.T) {
	ca := newAuthority(t)
	bPair, _ := ca.keyPair(t, certs.Leaf{Node: "B"})
	aKeys, bKeys := newKeyFiles(t), newKeyFiles(t)
	a := signatures(t, "A", "B", aKeys, bKeys, &MemoryNonces{})
	b := signatures(t, "B", "A", bKeys, aKeys, &MemoryNonces{})
	d := newDirectory(t, Config{Node: "B", KeyPair: bPair, Methods: map[Auth]Method{Sign: b, MTLSSign: b}},
		Partner{Node: "A", URL: "https://a.invalid", Auth: MTLSSign, Peer: ca.peer("A")},
		Partner{Node: "D", URL: "https://d.invalid", Auth: Sign})
	p := signedParties{a: a, url: "http://" + listen(t, d, http.HandlerFunc(echo), (*Server).ServePlain)}
	p.toB = Partner{Node: "B", URL: p.url, Auth: Sign}
	httpStatus, answer, _ := do(t, http.DefaultClient, p.signed(t, "POST", p.url+startPath, "{}"))
	require.Equal(t, http.StatusUnauthorized, httpStatus)
	require.Contains(t, answer["msg"], `no route says that node "A" proves who it is by sign alone`)
}

func TestTransportRefusalHasItsForm(t *testing.T) {
	p := newSignedParties(t, newKeyFiles(t), &MemoryNonces{})
	httpStatus, answer, _ := do(t, http.DefaultClient, p.request(t, "POST", p.url+invokePath, "x"))
	require.Equal(t, http.StatusUnauthorized, httpStatus)
	require.EqualValues(t, status.Forbidden, answer["code"])
}

func TestMemoryNonces(t *testing.T) { synctest.Test(t, testMemoryNonces) }

func testMemoryNonces(t *testing.T) {
	m := &MemoryNonces{For: time.Minute}
	use := func(node, nonce, request string) bool {
		accepted, err := m.UseNonce(t.Context(), node, nonce, request)
		require.NoError(t, err)
		return accepted
	}
	require.True(t, use("A", "1", ""))
	require.True(t, use("B", "1", "r"))
	require.True(t, use("B", "1", "r"))
	require.False(t, use("B", "1", "s"))
	time.Sleep(time.Minute - time.Second)
	require.False(t, use("A", "1", ""))
	time.Sleep(3 * time.Minute)
	require.True(t, use("A", "1", ""))
	require.LessOrEqual(t, len(m.current)+len(m.former), 2)
}
