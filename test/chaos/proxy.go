package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// link is the network between two parties, in both directions. Each party reaches the other through proxies
// of this process.
type link struct {
	signed bool // each request has a signature, which counts once

	mu      sync.Mutex
	kind    FaultKind // empty without a fault
	cleared chan struct{}
	cut     chan struct{} // closed while the link is cut
	hits    int           // requests that the current fault affected
	replays []string      // signed requests that were accepted twice
}

func newLink() *link { return &link{cleared: make(chan struct{}), cut: make(chan struct{})} }

// setFault applies a fault to the link until it is cleared.
func (l *link) setFault(kind FaultKind) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kind, l.hits = kind, 0
	if kind == faultCut {
		close(l.cut)
	}
}

// clearFault ends the link's fault, and returns how many requests it affected.
func (l *link) clearFault() (hits int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.kind == faultCut {
		l.cut = make(chan struct{})
	}
	l.kind = ""
	close(l.cleared)
	l.cleared = make(chan struct{})
	return l.hits
}

// currentFault returns the link's fault, and channels that are closed when it is cleared and when the link is
// cut. It counts a request that the fault affects.
func (l *link) currentFault() (kind FaultKind, healed, cut <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.kind != "" {
		l.hits++
	}
	return l.kind, l.cleared, l.cut
}

// addReplay records that a party accepted a signed request twice.
func (l *link) addReplay(path string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.replays = append(l.replays, path)
}

// acceptedReplays returns the paths of the signed requests that were accepted twice.
func (l *link) acceptedReplays() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.replays)
}

// proxy forwards requests to a target, subject to the faults of its link. With TLS it is a man in the middle:
// the authority of the deployment lets it show the certificates of both sides.
type proxy struct {
	link   *link
	target string // base URL
	client *http.Client
	server *http.Server
	addr   string
}

// newProxy serves a proxy to a base URL. server and client are its TLS towards both sides; nil is none.
func newProxy(l *link, target string, server, client *tls.Config) (*proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{link: l, target: target, addr: listener.Addr().String(),
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16, DisableCompression: true,
			TLSClientConfig: client},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	if server != nil {
		listener = tls.NewListener(listener, server)
	}
	p.server = &http.Server{Handler: p, ReadHeaderTimeout: time.Minute,
		ErrorLog: log.New(io.Discard, "", 0)} // connections of processes that are killed
	go func() { _ = p.server.Serve(listener) }()
	return p, nil
}

// maxDelay bounds the delay of one request on a slow link.
const maxDelay = 2 * time.Second

// ServeHTTP forwards one request, with the link's fault applied to it.
func (p *proxy) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	kind, healed, cut := p.link.currentFault()
	body, err := io.ReadAll(req.Body)
	if err != nil {
		closeConnection(w)
		return
	}
	pause := func(d time.Duration) {
		select {
		case <-time.After(d):
		case <-req.Context().Done():
		}
	}
	switch kind {
	case faultCut:
		closeConnection(w)
		return
	case faultStall:
		select { // neither delivered nor refused while the fault lasts
		case <-healed:
		case <-req.Context().Done():
		}
		closeConnection(w)
		return
	case faultDelay:
		pause(rand.N(maxDelay))
	case faultReorder:
		if rand.IntN(2) == 0 { // later requests overtake it
			pause(rand.N(maxDelay))
		}
	}
	ctx, cancel := context.WithCancel(req.Context())
	defer cancel()
	go func() {
		select {
		case <-cut: // aborts requests in flight
			cancel()
		case <-ctx.Done():
		}
	}()
	status, header, answer, err := p.forward(ctx, req, body)
	if kind == faultDuplicate && err == nil {
		again, againHeader, againAnswer, againErr := p.forward(ctx, req, body)
		switch {
		case p.link.signed:
			// The second one is a replay. Its refusal is no answer to the sender.
			if againErr == nil && again == http.StatusOK {
				p.link.addReplay(req.URL.Path)
			}
		case rand.IntN(2) == 0: // either of the two answers is returned
			status, header, answer, err = again, againHeader, againAnswer, againErr
		}
	}
	if err != nil || kind == faultLoseAnswers && rand.IntN(2) == 0 {
		closeConnection(w)
		return
	}
	for name, values := range header {
		w.Header()[name] = values
	}
	w.WriteHeader(status)
	_, _ = w.Write(answer)
}

func (p *proxy) forward(ctx context.Context, req *http.Request,
	body []byte) (int, http.Header, []byte, error) {
	out, err := http.NewRequestWithContext(ctx, req.Method, p.target+req.URL.RequestURI(),
		bytes.NewReader(body))
	if err != nil {
		return 0, nil, nil, err
	}
	for name, values := range req.Header {
		if !strings.EqualFold(name, "Connection") {
			out.Header[name] = values
		}
	}
	resp, err := p.client.Do(out)
	if err != nil {
		return 0, nil, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header, answer, err
}

// closeConnection closes the connection of a request without an answer.
func closeConnection(w http.ResponseWriter) {
	if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
		_ = conn.Close()
	}
}
