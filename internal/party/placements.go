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

// transportClient returns a client for this party's own transports, as which the control worker ends
// sessions.
func (p *Party) transportClient(timeout time.Duration) *http.Client {
	return &http.Client{Transport: p.keys.Sender(p.self(), httpclient.Direct()), Timeout: timeout}
}

// sessionHolders returns the base URLs of the transports at which to release a session at its job's end: that
// of the one that holds it, "" if none does, and those of the others that are online.
func (p *Party) sessionHolders(ctx context.Context, session string) (holder string, others []string,
	err error) {
	if p.placements == nil {
		return "http://" + p.cfg.TransportAddress(), nil, nil
	}
	at, rest, err := p.placements.Holders(ctx, session)
	if err != nil {
		return "", nil, err
	}
	if at != nil {
		holder = targetOf(*at).url().String()
	}
	for _, t := range rest {
		others = append(others, targetOf(t).url().String())
	}
	return holder, others, nil
}
