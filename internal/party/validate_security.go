package party

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	"hutong/internal/certs"
	"hutong/internal/imageref"
	"hutong/internal/partners"
)

// security checks the listeners, and what security.mode demands.
func (v *validation) security(c *Config) {
	oneOf(v, "security.mode", c.Security.Mode, SecurityStrict, SecurityOpen)
	oneOf(v, "grants", c.Grants, GrantsRequired, GrantsPermits, GrantsOpen)
	for i, registry := range c.Images.Registries {
		if err := imageref.CheckRegistry(registry); err != nil {
			v.wrong(fmt.Sprintf("images.registries[%d]", i), "%v", err)
		}
	}
	v.address("containers.listen", c.Containers.Listen)
	optional := []struct{ field, address string }{{"partners.listen", c.Partners.Listen},
		{"partners.plain_listen", c.Partners.PlainListen}, {"ops.listen", c.Ops.Listen},
		{"transport.partner_listen", c.Transport.PartnerListen},
		{"transport.partner_plain_listen", c.Transport.PartnerPlainListen}}
	for _, l := range optional {
		if l.address != "" {
			v.address(l.field, l.address)
		}
	}
	v.distinct(c)
	if t := c.Partners.TLS; (t.CertFile == "") != (t.KeyFile == "") {
		v.wrong("partners.tls", "requires both cert_file and key_file, or neither")
	}
	if c.Partners.Listen != "" && c.Partners.TLS.CertFile == "" {
		v.wrong("partners.listen",
			"requires this party's certificate: set partners.tls.cert_file and key_file")
	}
	if c.Transport.PartnerListen != "" && c.Partners.TLS.CertFile == "" {
		v.wrong("transport.partner_listen",
			"requires this party's certificate: set partners.tls.cert_file and key_file")
	}
	v.trustedProxies(c)
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		v.wrong("tls", "requires both cert_file and key_file, or neither")
	}
	if c.TLS.ClientCAFile != "" && c.TLS.CertFile == "" {
		v.wrong("tls.client_ca_file", "requires tls.cert_file and tls.key_file")
	}
	if c.Security.Mode == SecurityOpen {
		v.open(c)
	} else {
		v.strict(c)
	}
}

// distinct checks that no two listeners have the same address.
func (v *validation) distinct(c *Config) {
	used := map[string]string{}
	for _, l := range []struct{ field, address string }{{"listen", c.Listen},
		{"transport.listen", c.Transport.Listen}, {"containers.listen", c.Containers.Listen},
		{"partners.listen", c.Partners.Listen}, {"partners.plain_listen", c.Partners.PlainListen},
		{"ops.listen", c.Ops.Listen}, {"transport.partner_listen", c.Transport.PartnerListen},
		{"transport.partner_plain_listen", c.Transport.PartnerPlainListen}} {
		if l.address == "" || strings.HasSuffix(l.address, ":0") {
			continue
		}
		if other, found := used[l.address]; found {
			v.wrong(l.field, "must differ from %s, but both are %s", other, l.address)
		}
		used[l.address] = l.field
	}
}

// strict refuses what is not safe outside development. Each error names the remedy.
func (v *validation) strict(c *Config) {
	for _, p := range UnsafeServices(c) {
		v.wrong(p.Field, "%s; %s", p.What, p.Remedy)
	}
	if c.Security.OpenPartners {
		v.wrong("security.open_partners",
			"requires security.mode open: partners would be whom their header names")
	}
	if !isLoopback(c.Listen) && c.TLS.CertFile == "" {
		v.wrong("listen", "must have TLS beyond the loopback interface, but is %q: set tls.cert_file and "+
			"tls.key_file, or listen on 127.0.0.1 behind a gateway that ends TLS", c.Listen)
	}
	if !c.Runner.Unsafe && len(c.Runner.Process.Allow) > 0 {
		v.wrong("runner.process.allow",
			"must be empty: its programs run as this party's own user. Use containers, or set runner.unsafe to true")
	}
	if !c.Runner.Unsafe && c.Runner.Docker.HostNetwork {
		v.wrong("runner.docker.host_network",
			"must be false: containers would reach all that this machine reaches. Or set runner.unsafe to true")
	}
}

// open checks what development without credentials demands.
func (v *validation) open(c *Config) {
	if !isLoopback(c.Listen) {
		v.wrong("listen",
			"must be on the loopback interface with security.mode open, but is %q: clients need no "+
				"credentials there", c.Listen)
	}
}

// proof checks how a partner and this party prove to each other who they are.
func (v *validation) proof(c *Config, field string, r Route) {
	auth := r.authentication()
	oneOf(v, field+".auth", auth, partners.Auths()...)
	for _, u := range []struct{ field, url string }{{"url", r.URL}, {"transport_url", r.TransportURL}} {
		if auth.UsesTLS() && u.url != "" && !strings.HasPrefix(u.url, "https:") {
			v.wrong(field+"."+u.field, "must be https, because auth is %s", auth)
		}
	}
	if auth.UsesTLS() && r.TLS.CAFile == "" && len(r.TLS.SPKI) == 0 && c.Partners.TLS.CAFile == "" {
		v.wrong(field+".tls",
			"requires ca_file or spki_sha256, which prove the partner; or set partners.tls.ca_file")
	}
	if auth.UsesTLS() && c.Partners.TLS.CertFile == "" {
		v.wrong("partners.tls", "requires cert_file and key_file, because auth of %s is %s", field, auth)
	}
	for i, text := range r.TLS.SPKI {
		if _, err := certs.ParsePin(text); err != nil {
			v.wrong(fmt.Sprintf("%s.tls.spki_sha256[%d]", field, i), "%v", err)
		}
	}
	for i, text := range r.From {
		if _, err := netip.ParsePrefix(text); err != nil {
			v.wrong(fmt.Sprintf("%s.from[%d]", field, i),
				"must be a network such as 192.0.2.0/24, but is %q", text)
		}
	}
	if auth == partners.None && len(r.networks(c.Security.Mode)) == 0 {
		v.wrong(field+".from",
			"is required, because auth is none: list the networks from which the partner calls, "+
				"or use https with mutual TLS")
	}
}

// isLoopback returns whether only this machine can reach an address.
func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return true // another check refuses it
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
