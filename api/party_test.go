package api

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/activities/participant"
	"hutong/activities/scheduler"
	"hutong/bfia"
	"hutong/bfia/client"
	"hutong/internal/certs"
	"hutong/internal/httpclient"
	"hutong/store"
	"hutong/store/blob"
	"hutong/store/dataset"
	"hutong/store/storetest"
)

const (
	guest = "JG0100001100000010"
	host  = "JG0110017800000000"
)

// party is a server on a real listener, with a real store and storage.
type party struct {
	t        testing.TB
	server   *Server
	engine   *fakeTemporal
	store    *store.Store
	blobs    blob.Store
	database string
	address  string // host:port
	uploads  string
	temp     string
	storage  string
	log      *logBuffer
	// key signs the party's archives. known has the keys of partners, by their nodes.
	key   certs.Signer
	known map[certs.Pin]string

	mu    sync.Mutex
	peers map[string]string
}

// knownSigner returns the party itself, or the partner with a key.
func (p *party) knownSigner(chain []*x509.Certificate) (string, error) {
	pin := certs.PinOf(chain[0])
	if pin == certs.PinOf(p.key.Chain[0]) {
		return guest, nil
	}
	if node := p.known[pin]; node != "" {
		return node, nil
	}
	return "", errors.New("nobody has this key")
}

// newParty serves the guest's API until the test ends. change edits its configuration.
func newParty(t testing.TB, change ...func(*Config)) *party {
	t.Helper()
	dir := t.TempDir()
	p := &party{t: t, uploads: filepath.Join(dir, "upload"), temp: filepath.Join(dir, "tmp"),
		storage: filepath.Join(dir, "storage"),
		peers:   map[string]string{}, log: &logBuffer{}, key: newSigner(t, guest)}
	for _, d := range []string{p.uploads, p.temp, p.storage} {
		require.NoError(t, os.Mkdir(d, 0o755))
	}
	p.database = storetest.SQLite(t)
	p.store = storetest.Open(t, p.database)
	blobs, err := blob.Open(t.Context(), (&url.URL{Scheme: "file",
		Path: filepath.ToSlash(p.storage)}).String())
	require.NoError(t, err)
	p.blobs = blobs
	p.engine = &fakeTemporal{
		jobs: &scheduler.Activities{Store: p.store}, parts: &participant.Activities{Store: p.store,
			Blobs: blobs}}
	cfg := Config{Node: guest, Scheduler: guest, CheckDatasets: true, MaxDocumentBytes: 1 << 20,
		UploadDir:      p.uploads,
		MaxUploadBytes: 4 << 20, TempDir: p.temp, ClientTimeout: time.Minute,
		Clients: OpenClients, OpenPartners: true,
		Signer: func() (certs.Signer, error) { return p.key, nil }, KnownSigner: p.knownSigner,
		Schedulers: map[string][]string{guest: {host, "JG999"}},
		AllowCommand: func(command []string) error {
			return bfia.Errorf(bfia.CodeForbidden,
				"%s is not allowed", command[0])
		}}
	for _, c := range change {
		c(&cfg)
	}
	remote := client.New(guest, func(node string) (string, bool) {
		p.mu.Lock()
		defer p.mu.Unlock()
		u, ok := p.peers[node]
		return u, ok
	}, httpclient.Direct(), time.Minute)
	p.server = New(cfg, Dependencies{Store: p.store, Blobs: blobs, Datasets: dataset.New(blobs, p.store),
		Temporal: p.engine, Remote: remote,
		DeleteWorkflows: func(context.Context, string) error { return nil },
		Logger:          slog.New(slog.NewTextHandler(p.log, nil))})
	p.address = p.serve(p.server.ServeClients)
	p.peer(guest, "http://"+p.address)
	p.peer(host, "http://127.0.0.1:1") // nothing listens there
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := p.server.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
	})
	return p
}

func (p *party) serve(serve func(net.Listener) error) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(p.t, err)
	ended := make(chan error, 1)
	go func() { ended <- serve(l) }()
	p.t.Cleanup(func() {
		if err := <-ended; err != nil { // after Shutdown, whose cleanup runs before
			p.t.Errorf("serve: %v", err)
		}
	})
	return l.Addr().String()
}

func (p *party) peer(node, url string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.peers[node] = url
}

// answering starts a partner that gives every request the same answer. It returns the paths of the requests.
func (p *party) answering(node string, status int, body string) func() []string {
	var mu sync.Mutex
	var paths []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		mu.Lock()
		paths = append(paths, r.URL.Path)
		mu.Unlock()
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	p.t.Cleanup(srv.Close)
	p.peer(node, srv.URL)
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return append([]string{}, paths...)
	}
}

// logBuffer is a log that can be read while it is written.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.buf.Reset()
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// reply is an answer of a server.
type reply struct {
	t      testing.TB
	Status int
	Header http.Header
	Body   []byte
	Close  bool
	bfia.Envelope
	Fields map[string]json.RawMessage // of the envelope
}

// call is a request to send.
type call struct {
	method, path string
	body         any // nil, a string or []byte as it is, or anything as JSON
	header       map[string]string
}

func get(path string) call            { return call{method: http.MethodGet, path: path} }
func post(path string, body any) call { return call{method: http.MethodPost, path: path, body: body} }
func (c call) from(node string) call  { return c.with("x-source-node-id", node) }

// unnamed names no sender, in place of the guest.
func (c call) unnamed() call { return c.from("") }

// sender returns the party that a call to an endpoint for partners names unless the call says otherwise: the
// guest, or for FATE-Flow's commands their scheduler.
func (c call) sender() (node string, ok bool) {
	if !slices.ContainsFunc([]string{"/v1/interconn/", "/v2/partner/", "/v2/scheduler/"},
		func(prefix string) bool { return strings.HasPrefix(c.path, prefix) }) {
		return "", false
	}
	for name := range c.header {
		switch strings.ReplaceAll(strings.ToLower(name), "_", "-") {
		case "x-source-node-id", "x-node-id":
			return "", false
		}
	}
	if strings.HasPrefix(c.path, "/v2/partner/") {
		return fateScheduler, true
	}
	return guest, true
}

func (c call) with(name, value string) call {
	header := map[string]string{name: value}
	for k, v := range c.header {
		header[k] = v
	}
	c.header = header
	return c
}

// send sends the request and checks the answer against the OpenAPI document.
func (p *party) send(c call) *reply {
	p.t.Helper()
	var body io.Reader
	switch b := c.body.(type) {
	case nil:
	case string:
		body = strings.NewReader(b)
	case []byte:
		body = bytes.NewReader(b)
	case io.Reader:
		body = b
	default:
		raw, err := json.Marshal(b)
		require.NoError(p.t, err)
		body = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(p.t.Context(), c.method, "http://"+p.address+c.path, body)
	require.NoError(p.t, err)
	for k, v := range c.header {
		req.Header[k] = []string{v} // as it is spelt
	}
	if sender, ok := c.sender(); ok {
		req.Header.Set("x-source-node-id", sender)
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(p.t, err, "%s %s", c.method, c.path)
	return p.read(req, resp)
}

func (p *party) read(req *http.Request, resp *http.Response) *reply {
	p.t.Helper()
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	require.NoError(p.t, err)
	r := &reply{t: p.t, Status: resp.StatusCode, Header: resp.Header, Body: raw}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
		_ = json.Unmarshal(raw, &r.Envelope)
		_ = json.Unmarshal(raw, &r.Fields)
	}
	described(p.t, req, resp, raw)
	return r
}

// good requires an answer with code 0.
func (p *party) good(c call) *reply {
	p.t.Helper()
	r := p.send(c)
	require.Equal(p.t, 200, r.Status, "%s %s: %s", c.method, c.path, r.Body)
	require.Equal(p.t, bfia.CodeOK, r.Code, "%s %s: %s", c.method, c.path, r.Body)
	return r
}

// bad requires a refusal whose message contains text.
func (p *party) bad(c call, status int, code bfia.Code, words ...string) *reply {
	p.t.Helper()
	r := p.send(c)
	require.Equal(p.t, status, r.Status, "%s %s: %s", c.method, c.path, r.Body)
	require.Equal(p.t, code, r.Code, "%s %s: %s", c.method, c.path, r.Body)
	for _, w := range words {
		require.Contains(p.t, r.Text(), w, "%s %s", c.method, c.path)
	}
	return r
}

// into decodes the answer's data.
func (r *reply) into(v any) {
	r.t.Helper()
	require.NoError(r.t, json.Unmarshal(r.Data, v), "%s", r.Body)
}

// vector returns a captured file.
func vector(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "testdata", "vectors", name))
	require.NoError(t, err)
	return b
}

// empty requires that the temporary folder and the storage are empty.
func (p *party) empty() {
	p.t.Helper()
	for _, dir := range []string{p.temp, p.storage} {
		require.NoError(p.t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				p.t.Errorf("%s is left", path)
			}
			return err
		}))
	}
}
