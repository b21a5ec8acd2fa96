package party

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"hutong/bfia"
	"hutong/gate"
	"hutong/internal/audit"
	"hutong/internal/httpclient"
	"hutong/internal/identity"
	"hutong/internal/link"
	"hutong/internal/metrics"
	"hutong/internal/partners"
	"hutong/internal/placement"
	"hutong/store"
)

// links are those of this process with partners, see package link.
type links struct {
	// holder has those that partners keep to this process; nil unless the process runs the role Transport.
	holder *link.Holder
	// dialer finds those that partners keep to any process of this party; nil before the keys are known.
	dialer *link.Dialer
	// keepers have those that this process keeps to partners.
	keepers []*link.Keeper
}

// describeLink says whether a partner that keeps links to this party has some.
func (p *Party) describeLink(node string) string {
	ctx, cancel := context.WithTimeout(context.Background(), describeTimeout)
	defer cancel()
	up := 0
	if p.links.dialer != nil {
		states, err := p.links.dialer.States(ctx)
		if err != nil {
			p.logger.Warn("failed to ask all transports for their links", "error", err)
		}
		for _, s := range states {
			if s.Node == node {
				up++
			}
		}
	}
	return fmt.Sprintf("link inbound, %d up", up)
}

// describeTimeout bounds the question to the party's transports.
const describeTimeout = 2 * time.Second

// KeptLinks returns the base URLs of a partner's transports to which this party keeps links, if it does.
func (r Route) KeptLinks() []string {
	if r.Link != partners.Outbound {
		return nil
	}
	if len(r.LinkURLs) > 0 {
		return r.LinkURLs
	}
	return []string{r.Transport()}
}

// link checks the link of a route.
func (v *validation) link(c *Config, field string, r Route) {
	switch r.Link {
	case partners.Inbound, partners.Outbound:
	case "":
		if len(r.LinkURLs) > 0 {
			v.wrong(field+".link_urls", "requires link outbound")
		}
		return
	default:
		v.wrong(field+".link", "must be %s, %s or empty, but is %q", partners.Inbound, partners.Outbound,
			r.Link)
		return
	}
	if auth := r.authentication(); !auth.UsesTLS() {
		v.wrong(field+".link", "requires auth mtls or mtls+sign, but auth is %s", auth)
	}
	if c.Transport.Sessions == SessionsAll {
		v.wrong(field+".link", "requires transport.sessions jobs: links belong to parties with a database")
	}
	if r.Link == partners.Outbound {
		for i, url := range r.LinkURLs {
			name := fmt.Sprintf("%s.link_urls[%d]", field, i)
			v.httpURL(name, url)
			if !strings.HasPrefix(url, "https:") {
				v.wrong(name, "must be https, because the link proves both parties, but is %q", url)
			}
			if slices.Contains(r.LinkURLs[:i], url) {
				v.wrong(name, "is given twice: %q", url)
			}
		}
		return
	}
	for _, u := range []struct{ name, url string }{{"url", r.URL}, {"transport_url", r.TransportURL}} {
		if u.url != "" {
			v.wrong(field+"."+u.name, "must be empty with link inbound, because the partner can't be reached "+
				"at a URL, but is %q", u.url)
		}
	}
	if len(r.LinkURLs) > 0 {
		v.wrong(field+".link_urls", "requires link outbound: the partner chooses where it keeps its links")
	}
	if c.Partners.Listen == "" && c.Transport.PartnerListen == "" {
		v.wrong(field+".link", "inbound requires transport.partner_listen or partners.listen, to which the "+
			"partner connects")
	}
}

// withLink returns a partner with the URLs of its link, if it keeps links to this party.
func withLink(p partners.Partner, r Route) partners.Partner {
	p.Link = r.Link
	if p.Link == partners.Inbound {
		p.URL, p.TransportURL = link.Commands.URL(), link.Messages.URL()
	}
	return p
}

// hasLinks reports whether a partner of the configuration has a link of a kind.
func (c *Config) hasLinks(kind partners.Link) bool {
	for _, r := range c.Routes {
		if r.Link == kind {
			return true
		}
	}
	return false
}

// openLinks prepares the use of the links of partners, if any partner has some.
func (p *Party) openLinks(db *store.Store, roles Roles) {
	if p.cfg.hasLinks(partners.Inbound) {
		if roles.Transport {
			p.links.holder = link.NewHolder(p.logger)
			p.onStop(func(context.Context) error { p.links.holder.Close(); return nil })
		}
		p.links.dialer = p.linkDialer(db)
	}
	if p.cfg.hasLinks(partners.Inbound) || p.cfg.hasLinks(partners.Outbound) {
		p.metrics.CollectLinks(p.linkStates)
	}
}

// linkDialer returns what reaches partners over the links that this party's processes hold.
func (p *Party) linkDialer(db *store.Store) *link.Dialer {
	return &link.Dialer{Own: p.links.holder, Sender: p.keys.Sender(p.self(), httpclient.Direct()),
		Others: func(ctx context.Context) ([]string, error) { return p.otherHolders(ctx, db) }}
}

// otherHolders returns the addresses of the party's transports, without that of this process.
func (p *Party) otherHolders(ctx context.Context, db *store.Store) ([]string, error) {
	own := p.cfg.TransportAddress()
	if !p.cfg.Transport.Several {
		if p.links.holder != nil {
			return nil, nil
		}
		return []string{own}, nil
	}
	all, err := db.Transports(ctx)
	var addresses []string
	for _, t := range all {
		if placement.Live(t) && (p.links.holder == nil || t.Address != own) {
			addresses = append(addresses, t.Address)
		}
	}
	return addresses, err
}

// dialLink opens a connection to a partner over one of its links.
func (p *Party) dialLink(ctx context.Context, node string, service link.Service) (net.Conn, error) {
	if p.links.dialer == nil {
		return nil, errors.New("this process does not use the links of partners")
	}
	return p.links.dialer.Dial(ctx, node, service)
}

// withHolder returns a handler of transport.listen that also connects other processes of this party to
// partners, over the links of this process.
func (p *Party) withHolder(next http.Handler) http.Handler {
	if p.links.holder == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		caller := identity.From(r.Context())
		own := gate.IsFromProcess(r.Context()) && caller.Proof == identity.ByProcess &&
			caller.Node == p.cfg.NodeID
		if !own || !link.IsPath(r.URL.Path) {
			next.ServeHTTP(w, r)
			return
		}
		p.links.holder.ServeHTTP(w, r)
	})
}

// acceptLinks returns a handler of partners' requests that also accepts their links. These requests count as
// others of the partner, not as messages.
func (p *Party) acceptLinks(next http.Handler) http.Handler {
	accept := p.limiter.Handler(http.HandlerFunc(p.acceptLink), p.refuseExceeded)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == bfia.PathNodeLink {
			accept.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// acceptLink answers a request of a partner for a link, or for the states of its links.
func (p *Party) acceptLink(w http.ResponseWriter, r *http.Request) {
	caller := identity.From(r.Context())
	partner, found := p.partners.Lookup(caller.Node)
	switch {
	case caller.Kind != identity.KindPartner || !found || partner.Link != partners.Inbound:
		reason := fmt.Sprintf("routes.%s of party %s must have link inbound for a link", caller.Node,
			p.cfg.NodeID)
		p.refusals.Refuse(caller, r.Method+" "+r.URL.Path, audit.Object{}, reason)
		p.logger.Warn("refused a link", "partner", caller.Node, "address", r.RemoteAddr, "reason", reason)
		http.Error(w, reason, http.StatusForbidden)
	case r.Method != http.MethodGet:
		http.Error(w, "must be GET", http.StatusMethodNotAllowed)
	case p.links.holder == nil:
		http.Error(w, "links go to a transport of the party, but this is none: correct transport_url or "+
			"link_urls", http.StatusNotFound)
	case link.IsUpgrade(r):
		p.links.holder.Accept(w, r, caller.Node)
	default:
		link.WriteStates(w, slices.DeleteFunc(p.links.holder.States(), func(s link.State) bool {
			return s.Node != caller.Node
		}))
	}
}

// keepLinks keeps links to the partners that this process serves by them: what their own listeners would
// serve, by the handlers of commands and messages. Each may be nil.
func (p *Party) keepLinks(ctx context.Context, commands, messages http.Handler) error {
	if !p.cfg.hasLinks(partners.Outbound) {
		return nil
	}
	services := map[link.Service]*link.Listener{}
	for service, handler := range map[link.Service]http.Handler{link.Commands: commands,
		link.Messages: messages} {
		if handler != nil {
			services[service] = link.NewListener()
		}
	}
	if len(services) == 0 {
		return nil
	}
	outgoing := p.partners.Transport(nil)
	for _, node := range slices.Sorted(maps.Keys(p.cfg.Routes)) {
		route := p.cfg.Routes[node]
		if node == p.cfg.NodeID {
			continue
		}
		for _, url := range route.KeptLinks() {
			p.links.keepers = append(p.links.keepers, link.Keep(link.KeeperConfig{Node: node, URL: url,
				Services: services, Outgoing: outgoing, Logger: p.logger}))
		}
	}
	p.onStop(func(context.Context) error { // after the servers
		for _, k := range p.links.keepers {
			k.Close()
		}
		return nil
	})
	for service, listener := range services {
		handler := commands
		if service == link.Messages {
			handler = messages
		}
		s := p.partners.Server(handler, maxPartnerHeaderBytes)
		p.serveListener(listener, "the links with partners", s.ServeTLS, s.Shutdown)
	}
	return nil
}

// linkStates returns the links of this process, in both directions, for its metrics.
func (p *Party) linkStates() []metrics.Link {
	byPartner := map[[2]string]*metrics.Link{}
	add := func(node string, kind partners.Link) *metrics.Link {
		key := [2]string{node, string(kind)}
		if byPartner[key] == nil {
			byPartner[key] = &metrics.Link{Partner: node, Direction: string(kind)}
		}
		return byPartner[key]
	}
	up := func(l *metrics.Link, s link.State) {
		l.Up++
		l.Connections += s.Connections
		if l.Since.IsZero() || s.Since.Before(l.Since) {
			l.Since = s.Since
		}
	}
	for node, route := range p.cfg.Routes {
		if route.Link == partners.Inbound && p.links.holder != nil {
			add(node, partners.Inbound)
		}
	}
	if p.links.holder != nil {
		for node, connects := range p.links.holder.Connects() {
			add(node, partners.Inbound).Connects = connects
		}
		for _, s := range p.links.holder.States() {
			up(add(s.Node, partners.Inbound), s)
		}
	}
	if p.started.Load() { // until then Start may add keepers
		for _, k := range p.links.keepers {
			l := add(k.Node(), partners.Outbound)
			state, isUp, connects := k.State()
			l.Connects += connects
			if isUp {
				up(l, state)
			}
		}
	}
	var all []metrics.Link
	for _, l := range byPartner {
		all = append(all, *l)
	}
	return all
}
