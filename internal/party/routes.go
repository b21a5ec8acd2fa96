package party

import (
	"fmt"
	"strings"

	"hutong/internal/partners"
)

// Route holds the URLs of a partner.
type Route struct {
	// URL is the base URL of its API, http or https. A path in it is prepended to the paths of the protocol.
	URL string `yaml:"url"`
	// TransportURL is the base URL of its transport. Empty: the same as URL, for a partner behind one
	// gateway.
	TransportURL string `yaml:"transport_url,omitempty"`
	// Auth is how the partner and this party prove to each other who they are: mtls (the default), mtls+sign,
	// sign, fate-site, or none for a partner that can't prove anything.
	Auth partners.Auth `yaml:"auth,omitempty"`
	// TLS says which certificates prove the partner.
	TLS RouteTLSConfig `yaml:"tls,omitempty"`
	// From lists the networks from which a partner with auth none calls, such as 192.0.2.7/32.
	From []string `yaml:"from"`
}

// RouteTLSConfig says which certificates prove a partner. A certificate must be of an authority, and have the
// partner's name or one of the keys; with keys alone, the key suffices.
type RouteTLSConfig struct {
	// CAFile is a PEM file with the partner's authorities. Empty: those of partners.tls.ca_file, unless
	// SPKISHA256 is set.
	CAFile string `yaml:"ca_file,omitempty"`
	// SAN is the name that the partner's certificate must have, a URI or a DNS name. Empty: the URI
	// hutong://NODE or the DNS name NODE.
	SAN string `yaml:"san,omitempty"`
	// SPKISHA256 lists the partner's keys: their SHA-256, as hutong cert show prints it. Name the present and
	// the next one to change a key without an interruption.
	SPKISHA256 []string `yaml:"spki_sha256"`
}

// Transport returns the base URL of the transport.
func (r Route) Transport() string {
	if r.TransportURL != "" {
		return r.TransportURL
	}
	return r.URL
}

// Routes holds the routes of the partners by node id.
type Routes map[string]Route

// UnmarshalText parses the format of the environment variable: NODE=URL or NODE=URL|TRANSPORT_URL, separated
// by white space.
func (r *Routes) UnmarshalText(text []byte) error {
	routes := Routes{}
	for _, entry := range strings.Fields(string(text)) {
		node, urls, ok := strings.Cut(entry, "=")
		if !ok || node == "" || urls == "" {
			return fmt.Errorf("%q is not of the form NODE=URL or NODE=URL|TRANSPORT_URL", entry)
		}
		if _, found := routes[node]; found {
			return fmt.Errorf("node %s is given twice", node)
		}
		url, transport, _ := strings.Cut(urls, "|")
		routes[node] = Route{URL: url, TransportURL: transport}
	}
	*r = routes
	return nil
}
