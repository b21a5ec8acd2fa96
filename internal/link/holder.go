package link

//lint:file-ignore SA1019 The keeper's server is of this package; see there.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
)

// Holder holds the links that partners have made to this process. It is safe for concurrent use.
type Holder struct {
	logger *slog.Logger

	mu       sync.Mutex
	links    map[string][]*held // by partner
	entering map[string]int     // by partner: the links that were allowed and are not among them yet
	connects map[string]int64   // by partner
	closed   bool
}

// held is a link that is up.
type held struct {
	id       string
	address  string
	services []Service
	since    time.Time
	local    net.Addr
	conn     net.Conn
	client   *http2.ClientConn
	// open counts the connections over the link. HTTP/2 knows them too, but does not say while it waits for a
	// partner that reads nothing.
	open atomic.Int64
	// ended is set when the connection was closed. The holder's lock guards it.
	ended bool
}

// NewHolder returns a holder without links.
func NewHolder(logger *slog.Logger) *Holder {
	return &Holder{logger: logger, links: map[string][]*held{}, entering: map[string]int{},
		connects: map[string]int64{}}
}

// Accept makes the connection of a request a link with a partner. The caller has determined that the request
// comes from the partner, and that it may have a link.
func (h *Holder) Accept(w http.ResponseWriter, r *http.Request, partner string) {
	services, err := parseServices(r.Header.Get(headerServices))
	id := r.Header.Get(headerID)
	if err == nil && (id == "" || len(id) > 64) {
		err = fmt.Errorf("header %s: must have 1 to 64 characters", headerID)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if err := h.enter(partner, id); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	defer h.leave(partner)
	conn, err := acceptUpgrade(w, upgradeLink)
	if err != nil {
		h.logger.Warn("failed to accept a link", "partner", partner, "error", err)
		return
	}
	l := &held{id: id, address: conn.RemoteAddr().String(), services: services, since: time.Now(),
		local: conn.LocalAddr()}
	// HTTP/2 closes it when the partner has gone, or does not answer its pings.
	l.conn = &onClose{Conn: conn, closed: sync.OnceFunc(func() { h.remove(partner, l) })}
	transport := &http2.Transport{AllowHTTP: true, DisableCompression: true, ReadIdleTimeout: pingAfter,
		PingTimeout: pingTimeout, WriteByteTimeout: pingTimeout, MaxHeaderListSize: maxHeaders,
		StrictMaxConcurrentStreams: true}
	if l.client, err = transport.NewClientConn(l.conn); err != nil {
		_ = l.conn.Close()
		h.logger.Warn("failed to accept a link", "partner", partner, "error", err)
		return
	}
	h.add(partner, l)
}

// enter returns why a partner can't have another link with this process. If it can, leave must follow.
func (h *Holder) enter(partner, id string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	known := slices.ContainsFunc(h.links[partner], func(l *held) bool { return l.id == id })
	switch {
	case h.closed:
		return errors.New("the transport is stopping")
	case len(h.links[partner])+h.entering[partner] >= maxLinks && !known:
		return fmt.Errorf("node %s already has %d links here", partner, maxLinks)
	}
	h.entering[partner]++
	return nil
}

// leave ends what enter began, after the link was added or has failed.
func (h *Holder) leave(partner string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.entering[partner]--; h.entering[partner] == 0 {
		delete(h.entering, partner)
	}
}

// add adds a link. One with the same id has ended, although this process has not noticed it.
func (h *Holder) add(partner string, l *held) {
	h.mu.Lock()
	if h.closed || l.ended {
		h.mu.Unlock()
		_ = l.conn.Close()
		return
	}
	links := h.links[partner]
	var former []*held
	h.links[partner] = append(slices.DeleteFunc(links, func(o *held) bool {
		if o.id == l.id {
			former = append(former, o)
		}
		return o.id == l.id
	}), l)
	h.connects[partner]++
	h.mu.Unlock()
	h.logger.Info("holds a link with a partner", "partner", partner, "address", l.address,
		"services", formatServices(l.services))
	for _, o := range former {
		_ = o.conn.Close()
	}
}

// remove removes a link that was closed, or keeps it from being added.
func (h *Holder) remove(partner string, l *held) {
	h.mu.Lock()
	l.ended = true
	links := h.links[partner]
	i := slices.Index(links, l)
	if i >= 0 {
		h.links[partner] = slices.Delete(links, i, i+1)
	}
	stopping := h.closed
	h.mu.Unlock()
	if i >= 0 && !stopping {
		h.logger.Warn("a link with a partner has ended; the partner makes another one", "partner", partner,
			"address", l.address, "after", time.Since(l.since).Round(time.Second).String())
	}
}

// Close closes all links. The partners make others, to other processes.
func (h *Holder) Close() {
	h.mu.Lock()
	h.closed = true
	var all []*held
	for _, links := range h.links {
		all = append(all, links...)
	}
	h.mu.Unlock()
	for _, l := range all {
		_ = l.conn.Close()
	}
}

// States returns the links, by partner and age.
func (h *Holder) States() []State {
	h.mu.Lock()
	defer h.mu.Unlock()
	states := []State{}
	for partner, links := range h.links {
		for _, l := range links {
			states = append(states, State{Node: partner, Services: l.services, Address: l.address,
				Since: l.since, Connections: int(l.open.Load())})
		}
	}
	slices.SortFunc(states, func(a, b State) int {
		return cmp.Or(strings.Compare(a.Node, b.Node), a.Since.Compare(b.Since))
	})
	return states
}

// Connects returns how many links each partner has made to this process.
func (h *Holder) Connects() map[string]int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	connects := make(map[string]int64, len(h.connects))
	for partner, n := range h.connects {
		connects[partner] = n
	}
	return connects
}

// Dial opens a connection to a service of a partner, over the link that has the fewest.
func (h *Holder) Dial(ctx context.Context, partner string, service Service) (net.Conn, error) {
	h.mu.Lock()
	links := slices.DeleteFunc(slices.Clone(h.links[partner]), func(l *held) bool {
		return !slices.Contains(l.services, service)
	})
	slices.SortStableFunc(links, func(a, b *held) int {
		return cmp.Compare(a.open.Load(), b.open.Load())
	})
	h.mu.Unlock()
	err := errNoLink
	for _, l := range links {
		var conn net.Conn
		if conn, err = l.dial(ctx, partner, service); err == nil {
			return conn, nil
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, dialError(partner, service, err)
}

var errSilent = errors.New("the partner does not answer over the link")

func (l *held) dial(ctx context.Context, partner string, service Service) (net.Conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, dialTimeout, errSilent)
	defer cancel()
	l.open.Add(1)
	conn, err := openStream(ctx, l.local, Address{Node: partner, Address: l.address},
		func(ctx context.Context, body io.ReadCloser) (*http.Response, error) {
			r := &http.Request{Method: http.MethodPost, URL: &url.URL{Scheme: "http", Host: "link",
				Path: "/" + string(service)}, Header: http.Header{}, Body: body, ContentLength: -1}
			resp, err := l.client.RoundTrip(r.WithContext(ctx))
			if err != nil {
				return nil, err
			}
			if resp.StatusCode != http.StatusOK {
				reason, _ := io.ReadAll(io.LimitReader(resp.Body, maxRefusal))
				_ = resp.Body.Close()
				return nil, fmt.Errorf("the partner refuses the connection: HTTP %d: %s", resp.StatusCode,
					strings.TrimSpace(string(reason)))
			}
			return resp, nil
		})
	ended := sync.OnceFunc(func() { l.open.Add(-1) })
	if err != nil {
		ended()
		return nil, err
	}
	return &onClose{Conn: conn, closed: ended}, nil
}
