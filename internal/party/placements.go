package party

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"hutong/gate"
	"hutong/internal/httpclient"
	"hutong/internal/placement"
	"hutong/store"
	"hutong/transport"
	"hutong/transport/status"
	"hutong/transport/wire"
)

// openPlacements opens the directory of the party's transports, if it has several. A transport that does not
// know of the others must not start: their sessions would be mixed up.
func (p *Party) openPlacements(ctx context.Context, db *store.Store, roles Roles) error {
	if p.cfg.Transport.Several {
		p.placements = placement.New(db, p.logger)
		p.peers = &peers{remote: gate.NewRemote(p.keys, p.logger, p.placements.Refresh),
			handlers: map[peer]http.Handler{}}
		return nil
	}
	if !roles.Transport {
		return nil
	}
	all, err := db.Transports(ctx)
	if err != nil {
		return err
	}
	var names []string
	for _, t := range all {
		if placement.Live(t) {
			names = append(names, t.Name)
		}
	}
	if len(names) > 0 {
		return fmt.Errorf("transport.several: must be true, since party %s has other transports: %s",
			p.cfg.NodeID, strings.Join(names, ", "))
	}
	return nil
}

// findElsewhere returns a handler that passes calls of a session on to the transport that holds it, or nil if
// this process does. Without a session it is any transport.
func (p *Party) findElsewhere(ctx context.Context, session string) (http.Handler, error) {
	holder, err := p.findTransport(ctx, session)
	if err != nil || holder.VolumeID == p.placements.Own().VolumeID {
		return nil, err
	}
	return p.peers.to(holder), nil
}

func (p *Party) findTransport(ctx context.Context, session string) (store.Transport, error) {
	if session == "" {
		return p.placements.Any(ctx)
	}
	return p.placements.Find(ctx, session)
}

// peer is a transport at an address.
type peer struct{ volume, address string }

func (t peer) url() *url.URL {
	return &url.URL{Scheme: "http", Host: t.address, Path: transport.PeerPath(t.volume)}
}

// peers passes calls on to the party's transports.
type peers struct {
	remote *gate.Remote

	mu       sync.Mutex
	handlers map[peer]http.Handler
}

// maxPeers bounds the addresses that are remembered.
const maxPeers = 1000

// to returns the handler of a transport.
func (p *peers) to(t store.Transport) http.Handler {
	key := peer{t.VolumeID, t.Address}
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.handlers[key]
	if h == nil {
		if len(p.handlers) >= maxPeers {
			clear(p.handlers)
		}
		h = p.remote.To(key.url())
		p.handlers[key] = h
	}
	return h
}

// placedTransport returns the transport of the party for the containers of a process without one, if there
// are several: each call goes to the transport that holds its session.
func (p *Party) placedTransport() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		to, err := p.findElsewhere(r.Context(), wire.ReadHeaders(r.Header)[wire.HeaderSessionID])
		if err != nil {
			gate.RefuseUnavailable(w, r, status.From(err).Message)
			return
		}
		to.ServeHTTP(w, r)
	})
}

// transportClient returns a client for this party's own transport, as which the control worker ends sessions.
func (p *Party) transportClient(timeout time.Duration) *http.Client {
	sender := p.keys.Sender(p.self(), httpclient.Direct())
	if p.placements != nil {
		sender = &placedSender{p, sender}
	}
	return &http.Client{Transport: sender, Timeout: timeout}
}

// placedSender sends each request to the transport that holds its session.
type placedSender struct {
	p    *Party
	next http.RoundTripper
}

// RoundTrip implements [http.RoundTripper].
func (s *placedSender) RoundTrip(r *http.Request) (*http.Response, error) {
	holder, err := s.p.findTransport(r.Context(), r.Header.Get(wire.HeaderSessionID))
	if err != nil {
		return nil, err
	}
	target := peer{holder.VolumeID, holder.Address}.url()
	r = r.Clone(r.Context())
	r.URL.Scheme, r.URL.Host, r.Host = target.Scheme, target.Host, ""
	r.URL.Path = target.Path + r.URL.Path
	resp, err := s.next.RoundTrip(r)
	if err != nil || resp.StatusCode == http.StatusServiceUnavailable {
		s.p.placements.Refresh()
	}
	return resp, err
}
