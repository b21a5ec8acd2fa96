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

// strict refuses what is not safe outside development. Each error names the remedy.
func (v *validation) strict(c *Config) {
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
