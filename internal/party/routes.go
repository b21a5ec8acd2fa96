package party

import (
	"fmt"
	"strings"

	"hutong/internal/partners"
)

// Route holds the URLs of a partner.
type Route struct {
	// URL is the base URL of its API, http or https. A path in it is prepended to the paths of the protocol.
	// Empty for a partner with link inbound.
	URL string `yaml:"url"`
	// TransportURL is the base URL of its transport. Empty: the same as URL, for a partner behind one
	// gateway.
	TransportURL string `yaml:"transport_url,omitempty"`
	// Link is inbound for a partner whose network allows it only to dial out, and which therefore keeps links
	// to this party's transports, or outbound if this party is the one. Empty: each connects to the other.
	Link partners.Link `yaml:"link,omitempty"`
	// LinkURLs are the base URLs of the partner's transports to which this party keeps links, with link
	// outbound. Empty: that of its transport above.
	LinkURLs []string `yaml:"link_urls"`
	// Schedulers are the node ids of other parties that may schedule the jobs of this partner. Empty: the
	// partner's jobs come from the partner itself only.
	Schedulers []string `yaml:"schedulers"`
	// Auth chooses how the partner and this party prove to each other who they are. Empty: mutual TLS, which
	// an https URL requires.
	Auth partners.Auth `yaml:"auth,omitempty"`
	// TLS says which certificates prove the node.
	TLS RouteTLS `yaml:"tls"`
	// Sign names the keys for auth sign and mtls+sign.
	Sign RouteSignConfig `yaml:"sign,omitempty"`
	// FATE names the apps for auth fate-site.
	FATE RouteFATEConfig `yaml:"fate,omitempty"`
	// From lists the networks from which a partner with auth none calls, such as 192.0.2.7/32.
	From []string `yaml:"from"`
}

// RouteTLS says which certificates prove a node. Both may be set; if both are empty, partners.tls.ca_file
// counts.
type RouteTLS struct {
	// CAFile contains the authorities of the partner, as PEM. A certificate must name the node, by the URI
	// hutong://NODE or the DNS name NODE.
	CAFile string `yaml:"ca_file"`
	// SAN is another name that the certificate must have in place of the node's: a URI or a DNS name.
	SAN string `yaml:"san"`
	// SPKI lists the SHA-256 of the public keys that the partner may use, as `hutong cert show` prints them.
	SPKI []string `yaml:"spki_sha256"`
}

// authentication returns how the partner proves who it is.
func (r Route) authentication() partners.Auth {
	switch {
	case r.Auth != "":
		return r.Auth
	case strings.HasPrefix(r.URL, "https:"), r.Link == partners.Inbound:
		return partners.MTLS
	}
	return partners.None
}

// networks returns the networks from which a partner without proof may call.
func (r Route) networks(mode SecurityMode) []string {
	if len(r.From) == 0 && mode == SecurityOpen && r.authentication() == partners.None {
		return []string{"127.0.0.0/8", "::1/128"}
	}
	return r.From
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

// schedulers returns the parties that may schedule the jobs of each partner.
func (r Routes) schedulers() map[string][]string {
	all := map[string][]string{}
	for node, route := range r {
		all[node] = route.Schedulers
	}
	return all
}

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
