package party

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"hutong/internal/clients"
	"hutong/internal/codec"
	"hutong/internal/identity"
)

// codecClients returns the authenticator of the codec's clients: those of the API.
func (p *Party) codecClients(ctx context.Context) (codec.Authenticator, error) {
	if p.cfg.Security.Mode == SecurityOpen {
		if !IsHere(p.cfg.Temporal.Codec.Listen) {
			return nil,
				errors.New("temporal.codec.listen must be on the loopback interface with security.mode " +
					"open: clients need no credentials there")
		}
		return func(r *http.Request) (identity.Principal, error) {
			return identity.Principal{Kind: identity.KindClient, Roles: []identity.Role{identity.Admin},
				Proof: identity.ByNothing, Address: hostOf(r)}, nil
		}, nil
	}
	db, err := p.cfg.OpenDatabase(ctx)
	if err != nil {
		return nil, fmt.Errorf("failed to open the database of party %s, which knows the tokens: %w",
			p.cfg.NodeID, err)
	}
	p.onStop(func(context.Context) error { return db.Close() })
	if err := db.CheckSchema(ctx); err != nil {
		return nil, fmt.Errorf("failed to use the database of party %s: %w", p.cfg.NodeID, err)
	}
	proven, err := p.provenClients(db)
	if err != nil {
		return nil, err
	}
	return func(r *http.Request) (identity.Principal, error) {
		request := clients.Request{Header: r.Header, Address: hostOf(r)}
		if r.TLS != nil {
			request.Chains = r.TLS.VerifiedChains
		}
		return proven.Authenticate(r.Context(), request)
	}, nil
}
