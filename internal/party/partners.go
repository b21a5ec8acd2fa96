package party

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"slices"

	"hutong/internal/certs"
	"hutong/internal/link"
	"hutong/internal/partners"
	"hutong/store"
	"hutong/transport"
)

// maxPartnerHeaderBytes bounds the line and headers of a partner's request together.
const maxPartnerHeaderBytes = 64 << 10

// openPartners reads who the partners are.
func (p *Party) openPartners() error {
	methods, err := p.cfg.openMethods(&p.nonces, p.logger)
	if err != nil {
		return fmt.Errorf("failed to read the keys of party %s: %w", p.cfg.NodeID, err)
	}
	gateways, err := p.cfg.Partners.TrustedProxies.gateways()
	if err != nil {
		return err
	}
	cfg := partners.Config{Node: p.cfg.NodeID, Gateways: gateways,
		AllowTLS12: p.cfg.Partners.TLS.MinVersion == "1.2",
		Strangers:  p.pending.Load, StrangerPaths: strangerPaths, Methods: methods, DialLink: p.dialLink,
		OnRefusal: p.recordRefusal, OnRefusedConnection: p.recordRefusedConnection}
	files := p.cfg.Partners.TLS
	if files.CertFile != "" {
		pair, err := certs.LoadKeyPair(files.CertFile, files.KeyFile, p.logger)
		if err != nil {
			return fmt.Errorf("partners.tls.cert_file: %w", err)
		}
		cfg.KeyPair, p.partnerPair = pair, pair
	}
	configured, err := p.configuredPartners()
	if err != nil {
		return err
	}
	p.partners, err = partners.New(cfg, p.cfg.Proxy.Rule(), configured, p.logger)
	if err != nil {
		return fmt.Errorf("invalid partners of party %s: %w", p.cfg.NodeID, err)
	}
	return nil
}

// OpenPartners returns the directory of the partners of a valid configuration, for requests to them.
func OpenPartners(cfg *Config, logger *slog.Logger) (*partners.Directory, error) {
	p := &Party{cfg: cfg, logger: logger}
	err := p.openPartners()
	return p.partners, err
}

// OpenPartnersWithLinks returns a directory as [OpenPartners], and a function that makes it reach partners
// with link inbound, by the transports that the party's database names now.
func OpenPartnersWithLinks(cfg *Config, logger *slog.Logger) (*partners.Directory,
	func(context.Context, *store.Store) (*link.Dialer, error), error) {
	p := &Party{cfg: cfg, logger: logger}
	if err := p.openPartners(); err != nil {
		return nil, nil, err
	}
	return p.partners, func(ctx context.Context, db *store.Store) (*link.Dialer, error) {
		if err := p.readKeys(ctx, db); err != nil {
			return nil, err
		}
		holders, err := p.otherHolders(ctx, db)
		if err != nil {
			return nil, err
		}
		p.links.dialer = p.linkDialer(db)
		p.links.dialer.Others = func(context.Context) ([]string, error) { return holders, nil }
		return p.links.dialer, nil
	}, nil
}

// configuredPartners returns the partners of the configuration.
func (p *Party) configuredPartners() ([]partners.Partner, error) {
	loaded := map[string]*certs.Authorities{}
	load := func(field, file string) (*certs.Authorities, error) {
		if file == "" {
			return nil, nil
		}
		if loaded[file] == nil {
			a, err := certs.LoadAuthorities(file, p.logger)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", field, err)
			}
			loaded[file] = a
		}
		return loaded[file], nil
	}
	shared, err := load("partners.tls.ca_file", p.cfg.Partners.TLS.CAFile)
	if err != nil {
		return nil, err
	}
	p.authorities = shared

	var list []partners.Partner
	for _, node := range slices.Sorted(maps.Keys(p.cfg.Routes)) {
		r := p.cfg.Routes[node]
		field := "routes." + node
		partner := partners.Partner{Node: node, URL: r.URL, TransportURL: r.TransportURL,
			Auth: r.authentication(), Peer: certs.Peer{Node: node, Name: r.TLS.SAN}}
		if partner.Peer.Authorities, err = load(field+".tls.ca_file", r.TLS.CAFile); err != nil {
			return nil, err
		}
		for i, text := range r.TLS.SPKI {
			pin, err := certs.ParsePin(text)
			if err != nil {
				return nil, fmt.Errorf("%s.tls.spki_sha256[%d]: %w", field, i, err)
			}
			partner.Peer.Pins = append(partner.Peer.Pins, pin)
		}
		if partner.Auth.UsesTLS() && partner.Peer.Authorities == nil && len(partner.Peer.Pins) == 0 {
			partner.Peer.Authorities = shared
		}
		for _, text := range r.networks(p.cfg.Security.Mode) {
			network, err := netip.ParsePrefix(text)
			if err != nil {
				return nil, fmt.Errorf("%s.from: %w", field, err)
			}
			partner.From = append(partner.From, network)
		}
		list = append(list, withLink(partner, r))
	}
	return list, nil
}

// startPartners serves the partners: control commands, if this process serves them, and the messages of the
// transport, or nil.
func (p *Party) startPartners(ctx context.Context, control bool, channel *transport.Transport) error {
	var commands, messages http.Handler
	if control {
		commands = p.api.PartnerHandler()
	}
	if channel != nil {
		messages = p.queueMessages(channel.PartnerHandler())
	}
	if err := p.keepLinks(ctx, commands, messages); err != nil {
		return err
	}
	if channel != nil && p.cfg.Transport.PartnerListen != "" {
		s := p.partners.Server(p.acceptLinks(messages), maxPartnerHeaderBytes)
		if err := p.serve(ctx, "transport.partner_listen", p.cfg.Transport.PartnerListen, s.ServeTLS,
			s.Shutdown); err != nil {
			return err
		}
		channel = nil
	}
	if p.channel != nil && p.cfg.Transport.PartnerPlainListen != "" {
		s := p.partners.Server(p.queueMessages(p.channel.PartnerHandler()), maxPartnerHeaderBytes)
		if err := p.serve(ctx, "transport.partner_plain_listen", p.cfg.Transport.PartnerPlainListen,
			s.ServePlain, s.Shutdown); err != nil {
			return err
		}
	}
	handler := p.partnerHandler(control, channel)
	if handler == nil {
		t := p.cfg.Transport
		if channel != nil && t.PartnerPlainListen == "" && !p.cfg.Security.OpenPartners &&
			!p.cfg.hasLinks(partners.Outbound) {
			p.logger.Warn("no partner can send messages to this transport: set transport.partner_listen")
		}
		return nil
	}
	if address := p.cfg.Partners.Listen; address != "" {
		s := p.partners.Server(handler, maxPartnerHeaderBytes)
		if err := p.serve(ctx, "partners.listen", address, s.ServeTLS, s.Shutdown); err != nil {
			return err
		}
	}
	if address := p.cfg.Partners.PlainListen; address != "" {
		s := p.partners.Server(handler, maxPartnerHeaderBytes)
		if err := p.serve(ctx, "partners.plain_listen", address, s.ServePlain, s.Shutdown); err != nil {
			return err
		}
	}
	return nil
}

// partnerHandler returns the handler of partners' requests, or nil if this process has none for them at
// partners.listen. A transport in a process of its own serves transport.partner_listen only.
func (p *Party) partnerHandler(control bool, channel *transport.Transport) http.Handler {
	if !control {
		return nil
	}
	commands := p.acceptLinks(p.api.PartnerHandler())
	if channel == nil {
		return commands
	}
	messages := p.queueMessages(channel.PartnerHandler())
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if transport.IsPartnerPath(r.URL.Path) {
			messages.ServeHTTP(w, r)
			return
		}
		commands.ServeHTTP(w, r)
	})
}
