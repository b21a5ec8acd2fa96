package party

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"hutong/gate"
	"hutong/internal/identity"
	"hutong/internal/placement"
	"hutong/store"
	"hutong/transport"
	"hutong/transport/status"
)

// standbyPoll is the interval in which a standby transport tries to lock its spool.
const standbyPoll = 500 * time.Millisecond

// openTransport opens this process's transport. A standby waits until its spool is free.
func (p *Party) openTransport(ctx context.Context, roles Roles) (*transport.Transport, error) {
	standby := p.cfg.Transport.Standby
	if standby && roles != (Roles{Transport: true}) {
		return nil, errors.New("transport.standby: requires a process of its own, `hutong transport`, since " +
			"its other roles would wait for the spool too")
	}
	const mib = 1 << 20
	cfg := transport.Config{
		NodeID: p.cfg.NodeID,
		Spool:  p.cfg.Transport.SpoolDir,
		// An empty folder, whose disk is not mounted, would make the standby a transport of its own.
		KnownSpool: standby,
		Route: func(node string) (string, bool) {
			partner, ok := p.partners.Lookup(node)
			return partner.Transport(), ok
		},
		Authorize:  p.authorizeCall,
		OnTransfer: p.metrics.Transfer, OnForwardFailure: p.metrics.ForwardFailure,
		Outgoing: p.partners.Transport(transport.TunePool),
		Logger:   p.base, // it adds the node id itself
		Limits: transport.Limits{MessageBytes: int64(p.cfg.Transport.MaxMessageMiB) * mib,
			SessionBytes: int64(p.cfg.Transport.SessionMiB) * mib,
			TotalBytes:   int64(p.cfg.Transport.TotalMiB) * mib,
			PartnerBytes: int64(p.cfg.Transport.PartnerMiB) * mib,
			SessionTTL:   p.cfg.Transport.SessionTTL},
	}
	if p.placements != nil {
		cfg.Elsewhere, cfg.Confirm = p.findElsewhere, p.placements.Confirm
	}
	for waiting := false; ; waiting = true {
		t, err := transport.New(cfg)
		if err == nil {
			return t, nil
		}
		if !standby || !errors.Is(err, transport.ErrInUse) {
			return nil, fmt.Errorf("failed to open the transport of party %s (transport.spool_dir): %w",
				p.cfg.NodeID, err)
		}
		if !waiting {
			p.logger.Info("the spool is in use; this transport waits to take it over",
				"spool_dir", p.cfg.Transport.SpoolDir)
		}
		select {
		case <-time.After(standbyPoll):
		case <-ctx.Done():
			return nil, fmt.Errorf("failed to take over the spool of party %s: %w", p.cfg.NodeID, ctx.Err())
		}
	}
}

// startTransport starts this process's transport. A transport that runs alone has no database.
func (p *Party) startTransport(ctx context.Context, db *store.Store, roles Roles) error {
	t, err := p.openTransport(ctx, roles)
	if err != nil {
		return err
	}
	p.channel = t
	p.metrics.CollectTransport(t.Stats, int64(p.cfg.Transport.TotalMiB)<<20)
	p.onStop(t.Close)
	withdraw, err := p.announceTransport(ctx, t, db)
	if err != nil {
		return err
	}
	own := t.ContainerHandler()
	if p.cfg.Security.OpenPartners {
		own = t.Handler()
	}
	srv := t.Server()
	srv.Handler = p.keys.Accept(p.withHolder(p.withRelayed(own, t)), p.recordForgedCaller)
	err = p.serve(ctx, "transport.listen", p.cfg.Transport.Listen, srv.Serve, srv.Shutdown)
	if withdraw != nil {
		p.onStop(withdraw) // before the server stops, so that it gets no new sessions
	}
	return err
}

// announceTransport records this process's transport in the database, so that no other one is started that
// does not know of it. withdraw is nil without a database.
func (p *Party) announceTransport(ctx context.Context, t *transport.Transport, db *store.Store) (
	withdraw func(context.Context) error, err error) {
	if db == nil {
		return nil, nil
	}
	directory := p.placements
	own := store.Transport{VolumeID: t.VolumeID(), Name: p.cfg.Transport.Name,
		Address: p.cfg.TransportAddress(), Single: directory == nil}
	if own.Name == "" {
		own.Name = hostname()
	}
	if own.Single {
		directory = placement.New(db, p.logger)
	} else {
		p.logger.Info("serves one of the party's transports", "transport", own.Name, "volume", own.VolumeID,
			"address", own.Address)
	}
	withdraw, err = directory.Announce(ctx, placement.Announcement{Transport: own, Spool: t,
		Sessions: t.SessionIDs, IdleSessions: t.IdleSessions, Release: t.ReleaseSession,
		SessionTTL: p.cfg.Transport.SessionTTL, OnFenced: func(err error) {
			t.Stop()
			p.failed <- err
		}})
	if err != nil {
		return nil, fmt.Errorf("failed to start the transport of party %s: %w", p.cfg.NodeID, err)
	}
	return withdraw, nil
}

// withRelayed returns a handler that also serves what other processes of the party relay to a transport. They
// have sealed the caller.
func (p *Party) withRelayed(own http.Handler, t *transport.Transport) http.Handler {
	if p.placements == nil {
		return own
	}
	relayed := t.RelayHandler()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !transport.IsRelayPath(r.URL.Path) || !gate.IsFromProcess(r.Context()) {
			own.ServeHTTP(w, r)
			return
		}
		if err := p.placements.Confirm(r.Context()); err != nil {
			gate.RefuseUnread(w, r, status.From(err).Message)
			return
		}
		// What relayed the call has counted one message. Those that follow in a stream count here.
		caller := identity.From(r.Context())
		if caller.Kind == identity.KindPartner && caller.Proof != identity.ByProcess {
			r = r.WithContext(transport.WithPace(r.Context(), p.pace))
		}
		relayed.ServeHTTP(w, r)
	})
}
