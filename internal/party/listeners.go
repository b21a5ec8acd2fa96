package party

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"

	"hutong/internal/certs"
)

// startAPI serves the party's API at its addresses. Stop shuts it down before the workers.
func (p *Party) startAPI(ctx context.Context) error {
	s := p.api
	serveClients, err := p.clientTLS(s.ServeClients)
	if err != nil {
		return err
	}
	return p.serve(ctx, "listen", p.cfg.Listen, serveClients, s.Shutdown)
}

// clientTLS returns a function that serves clients with TLS, if the configuration names a certificate.
func (p *Party) clientTLS(serve func(net.Listener) error) (func(net.Listener) error, error) {
	if p.cfg.TLS.CertFile == "" {
		return serve, nil
	}
	pair, err := certs.LoadKeyPair(p.cfg.TLS.CertFile, p.cfg.TLS.KeyFile, p.logger)
	if err != nil {
		return nil, fmt.Errorf("tls.cert_file: %w", err)
	}
	p.listenPair = pair
	base := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: pair.ServerCertificate,
		NextProtos: []string{"http/1.1"}}
	if p.cfg.TLS.ClientCAFile != "" {
		authorities, err := certs.LoadAuthorities(p.cfg.TLS.ClientCAFile, p.logger)
		if err != nil {
			return nil, fmt.Errorf("tls.client_ca_file: %w", err)
		}
		base.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
			c := base.Clone()
			c.ClientAuth, c.ClientCAs = tls.VerifyClientCertIfGiven, authorities.Pool()
			return c, nil
		}
	}
	return func(l net.Listener) error { return serve(tls.NewListener(l, base)) }, nil
}
