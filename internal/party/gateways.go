package party

import (
	"fmt"
	"slices"

	"hutong/internal/certs"
	"hutong/internal/partners"
)

// ProxiesConfig says which gateways may name the certificates of partners, and how.
type ProxiesConfig struct {
	// Header is the header in which they do.
	Header string `yaml:"header" env:"HEADER"`
	// SPKI holds the SHA-256 of the keys of their certificates, which they show to this party.
	SPKI []string `yaml:"spki_sha256" env:"SPKI_SHA256"`
}

// gateways returns the gateways of a valid configuration.
func (c ProxiesConfig) gateways() (partners.Gateways, error) {
	g := partners.Gateways{Header: c.Header}
	for i, text := range c.SPKI {
		pin, err := certs.ParsePin(text)
		if err != nil {
			return g, fmt.Errorf("partners.trusted_proxies.spki_sha256[%d]: %w", i, err)
		}
		g.Pins = append(g.Pins, pin)
	}
	return g, nil
}

// trustedProxies checks the gateways that name the certificates of partners.
func (v *validation) trustedProxies(c *Config) {
	const field = "partners.trusted_proxies"
	proxies := c.Partners.TrustedProxies
	if proxies.Header == "" && len(proxies.SPKI) == 0 {
		return
	}
	if len(proxies.SPKI) == 0 {
		v.wrong(field+".spki_sha256", "is required with header: the keys of the gateways, which "+
			"'hutong cert show' prints; nobody else may send the header")
	}
	gateways, err := proxies.gateways()
	if err != nil {
		v.errors = append(v.errors, err)
	}
	if err := gateways.Check(); err != nil {
		v.wrong(field+".header", "%v", err)
	}
	if c.Partners.Listen == "" && c.Transport.PartnerListen == "" {
		v.wrong(field, "requires partners.listen or transport.partner_listen, where gateways connect by "+
			"mutual TLS")
	}
	for node, r := range c.Routes {
		for _, text := range r.TLS.SPKI {
			pin, err := certs.ParsePin(text)
			if err == nil && r.authentication().UsesTLS() && slices.ContainsFunc(gateways.Pins, pin.Equal) {
				v.wrong("routes."+node+".tls.spki_sha256", "has the key of a gateway in %s", field)
			}
		}
	}
}
