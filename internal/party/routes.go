package party

import (
	"fmt"
	"strings"
)

// Route holds the URLs of a partner.
type Route struct {
	// URL is the base URL of its API, http or https. A path in it is prepended to the paths of the protocol.
	URL string `yaml:"url"`
	// TransportURL is the base URL of its transport. Empty: the same as URL, for a partner behind one
	// gateway.
	TransportURL string `yaml:"transport_url,omitempty"`
	// Schedulers are the node ids of other parties that may schedule the jobs of this partner. Empty: the
	// partner's jobs come from the partner itself only.
	Schedulers []string `yaml:"schedulers"`
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
