package interop

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// proxy is a reverse proxy in front of a party. It disturbs requests, and records those that it forwards.
type proxy struct {
	address string
	target  string
	http    *http.Client

	mu          sync.Mutex
	server      *http.Server // nil while the party seems down
	disturbance disturbance
	requests    []exchange
}

// disturbance describes what the proxy does to requests.
type disturbance struct {
	before, after time.Duration                   // delays of requests and of answers
	slow          func(path string) time.Duration // additional delay of answers by path; nil for none
	duplicate     func(path string) bool          // whether a request is delivered twice; nil for none
	echo          bool                            // whether answers are sent twice on their connection
	// garble returns another answer, and whether to send it. It may be nil.
	garble func(path string, count int) (status int, body string, garbled bool)
}

// exchange is a forwarded request and its answer.
type exchange struct {
	at     time.Time
	method string
	path   string
	body   string
	status int
	answer string
}

func newProxy(t *testing.T, target string) *proxy {
	p := &proxy{target: "http://" + target, http: &http.Client{Timeout: 2 * time.Minute}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p.address = l.Addr().String()
	p.serve(l)
	atExit(p.down)
	return p
}

func (p *proxy) url() string { return "http://" + p.address }

func (p *proxy) serve(l net.Listener) {
	p.server = &http.Server{Handler: http.HandlerFunc(p.handle)}
	go func(s *http.Server) { _ = s.Serve(l) }(p.server)
}

// down refuses connections and drops existing ones, like a machine whose process has died.
func (p *proxy) down() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.server != nil {
		_ = p.server.Close()
		p.server = nil
	}
}

// reset ends all disturbances and forgets the recorded exchanges.
func (p *proxy) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.disturbance, p.requests = disturbance{}, nil
	if p.server == nil {
		l, err := net.Listen("tcp", p.address)
		if err != nil {
			panic(fmt.Sprintf("failed to listen on the proxy's address %s again: %v", p.address, err))
		}
		p.serve(l)
	}
}

func (p *proxy) disturb(t disturbance) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.disturbance = t
}

func (p *proxy) handle(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client went away
	}
	p.mu.Lock()
	bad := p.disturbance
	p.mu.Unlock()
	time.Sleep(bad.before)
	x := exchange{at: time.Now(), method: r.Method, path: r.URL.Path, body: string(body)}
	status, header, answer, err := p.forward(r, body)
	if bad.duplicate != nil && bad.duplicate(r.URL.Path) && err == nil {
		status, header, answer, err = p.forward(r, body)
	}
	if err != nil {
		x.answer = err.Error()
		p.record(x)
		panic(http.ErrAbortHandler) // the connection breaks, like the party's
	}
	x.status, x.answer = status, string(answer)
	count := p.record(x)
	time.Sleep(bad.after)
	if bad.slow != nil {
		time.Sleep(bad.slow(r.URL.Path))
	}
	if bad.garble != nil {
		if s, text, garbled := bad.garble(r.URL.Path, count); garbled {
			w.WriteHeader(s)
			_, _ = io.WriteString(w, text)
			return
		}
	}
	if bad.echo {
		answerTwice(w, status, answer)
		return
	}
	maps.Copy(w.Header(), header)
	w.WriteHeader(status)
	_, _ = w.Write(answer)
}

// answerTwice sends the answer twice on the same connection.
func answerTwice(w http.ResponseWriter, status int, answer []byte) {
	conn, buffered, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err) // HTTP/1 servers support it
	}
	defer func() { _ = conn.Close() }()
	for range 2 {
		_, _ = fmt.Fprintf(buffered,
			"HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", status,
			http.StatusText(status), len(answer), answer)
	}
	_ = buffered.Flush()
}

// record records an exchange and returns how many there have been with its path.
func (p *proxy) record(x exchange) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests = append(p.requests, x)
	n := 0
	for _, other := range p.requests {
		if other.path == x.path {
			n++
		}
	}
	return n
}

func (p *proxy) forward(r *http.Request, body []byte) (int, http.Header, []byte, error) {
	req, err := http.NewRequest(r.Method, p.target+r.URL.RequestURI(), bytes.NewReader(body))
	if err != nil {
		return 0, nil, nil, err
	}
	req.Header = r.Header.Clone() // unchanged, also names with underscores
	resp, err := p.http.Do(req)
	if err != nil {
		return 0, nil, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header, answer, err
}

// exchangesWith returns the exchanges with a path whose request body contains a text.
func (p *proxy) exchangesWith(path, word string) []exchange {
	p.mu.Lock()
	defer p.mu.Unlock()
	var found []exchange
	for _, x := range p.requests {
		if x.path == path && strings.Contains(x.body, word) {
			found = append(found, x)
		}
	}
	return found
}

// recentExchanges formats the last exchanges, for the log of a failed test.
func (p *proxy) recentExchanges() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var b strings.Builder
	cut := func(s string) string { return s[:min(len(s), 300)] }
	for _, x := range p.requests[max(0, len(p.requests)-60):] {
		fmt.Fprintf(&b, "%s %s %s %s\n    -> %d %s\n", x.at.Format("15:04:05.000"), x.method, x.path,
			cut(x.body), x.status, cut(x.answer))
	}
	return b.String()
}
