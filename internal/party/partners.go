package party

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"hutong/internal/certs"
	"hutong/internal/partners"
	"hutong/transport"
)

// loopback holds the networks of this machine.
var loopback = []string{"127.0.0.0/8", "::1/128"}

// completeRoutes sets the fields of routes that depend on others, and makes paths absolute.
func (c *Config) completeRoutes() error {
	files := []struct {
		field string
		path  *string
	}{{"partners.tls.cert_file", &c.Partners.TLS.CertFile}, {"partners.tls.key_file", &c.Partners.TLS.KeyFile},
		{"partners.tls.ca_file", &c.Partners.TLS.CAFile}}
	routes := maps.Clone(c.Routes)
	for node, route := range routes {
		if route.Auth == "" {
			route.Auth = partners.MTLS
			// A development party calls one without certificates by http, on this machine.
			if u, err := url.Parse(route.URL); err == nil && u.Scheme == "http" && c.Security.OpenPartners {
				route.Auth, route.From = partners.None, loopback
			}
		}
		if err := absolute("routes."+node+".tls.ca_file", &route.TLS.CAFile); err != nil {
			return err
		}
		routes[node] = route
	}
	c.Routes = routes
	for _, file := range files {
		if err := absolute(file.field, file.path); err != nil {
			return err
		}
	}
	return nil
}

// partnerRoutes checks the authentication of partners.
func (v *validation) partnerRoutes(c *Config) {
	t := c.Partners.TLS
	if (t.CertFile == "") != (t.KeyFile == "") {
		v.wrong("partners.tls.cert_file", "must be set together with partners.tls.key_file")
	}
	for _, u := range []struct{ field, url string }{{"partners.url", c.Partners.URL},
		{"partners.transport_url", c.Partners.TransportURL}} {
		if u.url == "" {
			continue
		}
		v.httpURL(u.field, u.url)
		if strings.HasPrefix(u.url, "http://") {
			v.wrong(u.field, "must be https: partners reach this party by mutual TLS")
		}
	}
	oneOf(v, "partners.tls.min_version", t.MinVersion, "1.2", "1.3")
	if t.CertFile == "" {
		for _, l := range []struct{ field, address string }{{"partners.listen", c.Partners.Listen},
			{"transport.partner_listen", c.Transport.PartnerListen}} {
			if l.address != "" {
				v.wrong(
					l.field,
					"requires partners.tls.cert_file and key_file, with which this party proves to be "+
						"%s: `hutong cert init` makes them, `hutong cert csr` asks an authority for them",
					c.NodeID,
				)
			}
		}
	}
	for _, node := range slices.Sorted(maps.Keys(c.Routes)) {
		if node != c.NodeID {
			v.partnerRoute(c, node, c.Routes[node])
		}
	}
}

func (v *validation) partnerRoute(c *Config, node string, route Route) {
	field := "routes." + node
	if route.Auth == "" {
		return // Complete has not been called
	}
	oneOf(v, field+".auth", route.Auth, partners.Auths()...)
	if route.Auth.UsesTLS() {
		for _, u := range []struct{ field, url string }{{field + ".url", route.URL},
			{field + ".transport_url", route.TransportURL}} {
			if strings.HasPrefix(u.url, "http://") {
				v.wrong(
					u.field,
					"must be https, because the auth of %s is %s; for a partner that can't use mutual "+
						"TLS, set %s.auth to sign, fate-site or none",
					node,
					route.Auth,
					field,
				)
			}
		}
		if c.Partners.TLS.CertFile == "" {
			v.wrong(
				field+".auth",
				"%s requires this party's certificate: set partners.tls.cert_file and key_file "+
					"(`hutong cert init` makes them)",
				route.Auth,
			)
		}
		if route.TLS.CAFile == "" && len(route.TLS.SPKISHA256) == 0 && c.Partners.TLS.CAFile == "" {
			v.wrong(
				field+".tls",
				"must name what proves %s: ca_file, spki_sha256, or partners.tls.ca_file",
				node,
			)
		}
	}
	if _, err := route.pins(); err != nil {
		v.wrong(field+".tls.spki_sha256", "%v", err)
	}
	if _, err := route.from(); err != nil {
		v.wrong(field+".from", "%v", err)
	}
	if route.Auth == partners.None && len(route.From) == 0 {
		v.wrong(
			field+".from",
			"must list the networks from which %s calls, such as [192.0.2.7/32], because nothing "+
				"else proves it",
			node,
		)
	}
	if route.Auth != partners.None && len(route.From) > 0 {
		v.wrong(field+".from", "is only for auth none")
	}
}

func (r Route) pins() ([]certs.Pin, error) {
	var pins []certs.Pin
	for _, text := range r.TLS.SPKISHA256 {
		pin, err := certs.ParsePin(text)
		if err != nil {
			return nil, err
		}
		pins = append(pins, pin)
	}
	return pins, nil
}

func (r Route) from() ([]netip.Prefix, error) {
	var networks []netip.Prefix
	for _, text := range r.From {
		network, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("%q is not a network such as 192.0.2.0/24", text)
		}
		networks = append(networks, network.Masked())
	}
	return networks, nil
}

// OpenPartners reads the certificates that the configuration names and returns the directory of its partners.
// The configuration must be valid. methods are those of signatures; nil is none.
func (c *Config) OpenPartners(methods map[partners.Auth]partners.Method, logger *slog.Logger) (
	*partners.Directory, error) {
	return c.openPartners(partners.Config{Methods: methods}, logger)
}

func (c *Config) openPartners(base partners.Config, logger *slog.Logger) (*partners.Directory, error) {
	t := c.Partners.TLS
	base.Node, base.AllowTLS12 = c.NodeID, t.MinVersion == "1.2"
	var err error
	if t.CertFile != "" {
		if base.KeyPair, err = certs.LoadKeyPair(t.CertFile, t.KeyFile, logger); err != nil {
			return nil, fmt.Errorf("partners.tls.cert_file: %w", err)
		}
	}
	files := map[string]*certs.Authorities{}
	load := func(field, file string) (*certs.Authorities, error) {
		if file == "" || files[file] != nil {
			return files[file], nil
		}
		loaded, err := certs.LoadAuthorities(file, logger)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", field, err)
		}
		files[file] = loaded
		return loaded, nil
	}
	var all []partners.Partner
	for _, node := range slices.Sorted(maps.Keys(c.Routes)) {
		route := c.Routes[node]
		p := partners.Partner{Node: node, URL: route.URL, TransportURL: route.TransportURL, Auth: route.Auth,
			Peer: certs.Peer{Node: node, Name: route.TLS.SAN}}
		var errPins, errFrom, errFile error
		p.Peer.Pins, errPins = route.pins()
		p.From, errFrom = route.from()
		p.Peer.Authorities, errFile = load("routes."+node+".tls.ca_file", route.TLS.CAFile)
		if errFile == nil && p.Peer.Authorities == nil && len(p.Peer.Pins) == 0 && p.Auth.UsesTLS() {
			p.Peer.Authorities, errFile = load("partners.tls.ca_file", t.CAFile)
		}
		if err := errors.Join(errPins, errFrom, errFile); err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return partners.New(base, c.Proxy.Rule(), all, logger)
}

// tuneTransport sets what the pool of the transport's connections to partners needs.
func tuneTransport(t *http.Transport) {
	t.DisableCompression = true
	t.WriteBufferSize = 64 << 10
}

// partnerHeaderBytes bounds the headers of a request of a partner.
const partnerHeaderBytes = 64 << 10

// servePartners serves the partners at the addresses for them: control commands, if this process has the role
// API, and messages, if it has the role transport.
func (p *Party) servePartners(ctx context.Context, roles Roles) error {
	var control, messages http.Handler = http.NotFoundHandler(), http.NotFoundHandler()
	if roles.API {
		control = p.api.PartnerHandler()
	}
	if p.transport != nil {
		messages = p.transport.PartnerHandler()
	}
	both := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if transport.IsPath(r.URL.Path) {
			messages.ServeHTTP(w, r)
		} else {
			control.ServeHTTP(w, r)
		}
	})
	for _, l := range []struct {
		field, address string
		serves, plain  bool
		handler        http.Handler
	}{
		{"partners.listen", p.cfg.Partners.Listen, roles.API, false, both},
		{"partners.plain_listen", p.cfg.Partners.PlainListen, roles.API, true, both},
		{"transport.partner_listen", p.cfg.Transport.PartnerListen, roles.Transport, false, messages},
	} {
		if !l.serves || l.address == "" {
			continue
		}
		server := p.directory.Server(l.handler, partnerHeaderBytes)
		serve := server.ServeTLS
		if l.plain {
			serve = server.ServePlain
		}
		if err := p.serve(ctx, l.field, l.address, serve, server.Shutdown); err != nil {
			return err
		}
	}
	return nil
}

// absolute makes the path of a file absolute, unless it is empty.
func absolute(field string, path *string) error {
	if *path == "" {
		return nil
	}
	full, err := filepath.Abs(*path)
	if err != nil {
		return fmt.Errorf("%s: %w", field, err)
	}
	*path = full
	return nil
}
