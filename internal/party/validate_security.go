package party

import (
	"net"
	"strings"
)

// security checks the listeners, and what security.mode demands.
func (v *validation) security(c *Config) {
	oneOf(v, "security.mode", c.Security.Mode, SecurityStrict, SecurityOpen)
	v.address("containers.listen", c.Containers.Listen)
	optional := []struct{ field, address string }{{"partners.listen", c.Partners.Listen},
		{"partners.plain_listen", c.Partners.PlainListen}, {"ops.listen", c.Ops.Listen},
		{"transport.partner_listen", c.Transport.PartnerListen}}
	for _, l := range optional {
		if l.address != "" {
			v.address(l.field, l.address)
		}
	}
	v.distinct(c)
	if c.Security.Mode == SecurityStrict {
		for _, p := range UnsafeServices(c) {
			v.wrong(p.Field, "%s; %s", p.What, p.Remedy)
		}
	}
	if c.Security.Mode == SecurityOpen {
		v.open(c)
	} else if c.Security.OpenPartners {
		v.wrong("security.open_partners", "requires security.mode open: partners would be whom their header names")
	}
}

// distinct checks that no two listeners have the same address.
func (v *validation) distinct(c *Config) {
	used := map[string]string{}
	for _, l := range []struct{ field, address string }{{"listen", c.Listen},
		{"transport.listen", c.Transport.Listen}, {"containers.listen", c.Containers.Listen},
		{"partners.listen", c.Partners.Listen}, {"partners.plain_listen", c.Partners.PlainListen},
		{"ops.listen", c.Ops.Listen}, {"transport.partner_listen", c.Transport.PartnerListen}} {
		if l.address == "" || strings.HasSuffix(l.address, ":0") {
			continue
		}
		if other, found := used[l.address]; found {
			v.wrong(l.field, "must differ from %s, but both are %s", other, l.address)
		}
		used[l.address] = l.field
	}
}

// open checks what development without credentials demands.
func (v *validation) open(c *Config) {
	if !isLoopback(c.Listen) {
		v.wrong("listen", "must be on the loopback interface with security.mode open, but is %q: clients need no "+
			"credentials there", c.Listen)
	}
}

// isLoopback returns whether only this machine can reach an address.
func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
