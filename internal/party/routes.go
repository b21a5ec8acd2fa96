package party

import (
	"fmt"
	"strings"
)

// Route is where another party is reached.
type Route struct {
	// URL is the base of its protocol endpoints, http or https; a path in it goes before the protocol's.
	URL string `yaml:"url"`
	// TransportURL is the base of its transport's endpoints. Empty: the same as URL, for a party behind one gateway.
	TransportURL string `yaml:"transport_url,omitempty"`
}

// Transport is the base of the transport's endpoints.
func (r Route) Transport() string {
	if r.TransportURL != "" {
		return r.TransportURL
	}
	return r.URL
}

// Routes are the other parties by node id.
type Routes map[string]Route

// UnmarshalText reads the form of the environment: NODE=URL or NODE=URL|TRANSPORT_URL, separated by white space.
func (r *Routes) UnmarshalText(text []byte) error {
	routes := Routes{}
	for _, entry := range strings.Fields(string(text)) {
		node, urls, ok := strings.Cut(entry, "=")
		if !ok || node == "" || urls == "" {
			return fmt.Errorf("%q is not NODE=URL or NODE=URL|TRANSPORT_URL", entry)
		}
		if _, twice := routes[node]; twice {
			return fmt.Errorf("node %s is there twice", node)
		}
		url, transport, _ := strings.Cut(urls, "|")
		routes[node] = Route{URL: url, TransportURL: transport}
	}
	*r = routes
	return nil
}
