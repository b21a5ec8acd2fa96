package party

import (
	"context"
	"net/http"
	"time"

	"hutong/gate"
	"hutong/internal/httpclient"
	"hutong/internal/placement"
	"hutong/store"
	"hutong/transport/status"
	"hutong/transport/wire"
)

// openPlacements opens the directory of the party's transports, if it has several.
func (p *Party) openPlacements(db *store.Store) {
	if p.cfg.Transport.Several {
		p.placements = placement.New(db, p.logger)
		p.relays = newRelays(gate.NewRemote(p.keys, p.logger, p.placements.Refresh), p.placements,
			p.keys.Sender(p.self(), httpclient.Direct()), p.logger)
	}
}

// findElsewhere returns a handler that relays calls of a session to the transport that holds it, or nil if
// this process does. Without a session it is any transport.
func (p *Party) findElsewhere(ctx context.Context, session string) (http.Handler, error) {
	at, err := p.findTransport(ctx, session)
	if err != nil || at.VolumeID == p.placements.Own().VolumeID {
		return nil, err
	}
	return p.relays.to(at), nil
}

func (p *Party) findTransport(ctx context.Context, session string) (store.Transport, error) {
	if session == "" {
		return p.placements.Any(ctx)
	}
	return p.placements.Find(ctx, session)
}

// placedTransport returns the transport of the party for the containers of a process without one, if there
// are several: each call goes to the transport that holds its session.
func (p *Party) placedTransport() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		to, err := p.findElsewhere(r.Context(), wire.ReadHeaders(r.Header)[wire.HeaderSessionID])
		if err != nil {
			gate.RefuseUnread(w, r, status.From(err).Message)
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
	at, err := s.p.findTransport(r.Context(), r.Header.Get(wire.HeaderSessionID))
	if err != nil {
		if r.Body != nil {
			_ = r.Body.Close() // as each RoundTripper does
		}
		return nil, err
	}
	target := targetOf(at).url()
	r = r.Clone(r.Context())
	r.URL.Scheme, r.URL.Host, r.Host = target.Scheme, target.Host, ""
	r.URL.Path = target.Path + r.URL.Path
	resp, err := s.next.RoundTrip(r)
	if err != nil || resp.StatusCode == http.StatusServiceUnavailable {
		s.p.placements.Refresh()
	}
	return resp, err
}
