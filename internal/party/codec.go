package party

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"hutong/internal/codec"
	"hutong/internal/identity"
	"hutong/internal/limits"
)

// StartCodec starts the server that decrypts for Temporal's web UI and command line, at
// temporal.codec.listen. It returns when the server is ready. Stop stops it.
func StartCodec(ctx context.Context, cfg *Config, logger *slog.Logger) (_ *Party, err error) {
	p := &Party{cfg: cfg, base: logger, logger: logger.With("node_id", cfg.NodeID),
		failed: make(chan error, 1), limiter: cfg.Limits.limiter()}
	defer func() {
		if err != nil {
			p.Stop(context.WithoutCancel(ctx))
		}
	}()
	ring, err := cfg.OpenKeys(p.logger)
	if err != nil {
		return nil, err
	}
	if ring == nil {
		return nil, errors.New("temporal.encryption is off, so there is nothing to decrypt: set " +
			"temporal.encryption.keys_dir")
	}
	if !IsHere(cfg.Temporal.Codec.Listen) && cfg.TLS.CertFile == "" {
		return nil, errors.New("temporal.codec.listen is beyond the loopback interface, and requires " +
			"tls.cert_file: what the server decrypts would be readable on the network")
	}
	authenticate, err := p.codecClients(ctx)
	if err != nil {
		return nil, err
	}
	srv := &http.Server{
		Handler: codec.Handler(ring.Codec(), cfg.Temporal.Codec.Origins,
			limitClients(p.limiter, authenticate)),
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, WriteTimeout: time.Minute,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(p.logger.Handler(), slog.LevelWarn),
	}
	serve, err := p.clientTLS(srv.Serve)
	if err != nil {
		return nil, err
	}
	if err := p.serve(ctx, "temporal.codec.listen", cfg.Temporal.Codec.Listen, serve,
		srv.Shutdown); err != nil {
		return nil, err
	}
	return p, nil
}

// limitClients returns an authenticator that refuses clients beyond their limits, and unknown ones by their
// addresses.
func limitClients(l *limits.Limiter, authenticate codec.Authenticator) codec.Authenticator {
	return func(r *http.Request) (identity.Principal, error) {
		p, err := authenticate(r)
		counted := p
		if p.Kind == identity.KindAnonymous {
			counted.Address = hostOf(r)
		}
		if exceeded := l.Request(counted); exceeded != nil {
			return identity.Principal{}, fmt.Errorf("too many requests: %w", exceeded)
		}
		return p, err
	}
}

// hostOf returns the host from which a request came.
func hostOf(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
