package partners

import (
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"hutong/internal/certs"
	"hutong/internal/httpclient"
)

// Directory holds a party's partners. It is safe for concurrent use.
type Directory struct {
	cfg        Config
	proxy      httpclient.Proxy
	logger     *slog.Logger
	configured map[string]Partner

	current atomic.Pointer[snapshot]
	refused logLimit
	// unusable holds the nodes of contracts that can't be used, of which the log says so.
	unusable sync.Map

	mu       sync.Mutex
	servers  map[*serverConn]struct{}
	outgoing []*Outgoing
}

// New returns a directory of the partners of the configuration. An entry of this party itself is ignored. It
// warns of partners that prove nothing.
func New(
	cfg Config,
	proxy httpclient.Proxy,
	configured []Partner,
	logger *slog.Logger,
) (*Directory, error) {
	d := &Directory{cfg: cfg, proxy: proxy, logger: logger, configured: map[string]Partner{},
		servers: map[*serverConn]struct{}{}}
	for _, p := range configured {
		if p.Node == cfg.Node {
			continue
		}
		if err := cfg.CheckPartner(p); err != nil {
			return nil, fmt.Errorf("routes.%s: %w", p.Node, err)
		}
		if p.Auth == None {
			logger.Warn(
				"a partner proves only its network address, which others there can use too; use another "+
					"auth if it can",
				"partner",
				p.Node,
				"from",
				p.From,
			)
		}
		d.configured[p.Node] = p
	}
	if err := checkPins(slices.Collect(maps.Values(d.configured))); err != nil {
		return nil, err
	}
	d.current.Store(newSnapshot(d.configured))
	return d, nil
}

// checkPins checks that no key proves two nodes.
func checkPins(all []Partner) error {
	nodes := map[certs.Pin]string{}
	slices.SortFunc(all, func(a, b Partner) int { return strings.Compare(a.Node, b.Node) })
	for _, p := range all {
		if !p.Auth.UsesTLS() {
			continue // its pins are those of a gateway, which may serve several nodes
		}
		for _, pin := range p.Peer.Pins {
			if other := nodes[pin]; other != "" && other != p.Node {
				return fmt.Errorf(
					"routes.%s.tls.spki_sha256: the key %s is also that of %s: a key proves one node",
					p.Node,
					pin,
					other,
				)
			}
			nodes[pin] = p.Node
		}
	}
	return nil
}

// SetContracts replaces the partners that come from contracts. A partner of the configuration has precedence.
// It closes the connections of those that are no longer partners, or have other keys, before it returns.
// Partners that the configuration does not allow are left out, with a warning.
func (d *Directory) SetContracts(contracts []Partner) {
	all := maps.Clone(d.configured)
	for _, p := range contracts {
		if _, found := all[p.Node]; found || p.Node == d.cfg.Node {
			continue
		}
		err := d.cfg.CheckPartner(p)
		if err == nil {
			err = checkPins(append(slices.Collect(maps.Values(all)), p))
		}
		if err != nil {
			if _, known := d.unusable.Swap(p.Node, err.Error()); !known {
				d.logger.Warn("failed to use a partner of a contract", "partner", p.Node, "error", err)
			}
			continue
		}
		d.unusable.Delete(p.Node)
		all[p.Node] = p
	}
	if maps.EqualFunc(all, d.current.Load().partners, samePartner) {
		return
	}
	d.current.Store(newSnapshot(all))
	d.Sweep()
}

// samePartner reports whether a partner is unchanged.
func samePartner(a, b Partner) bool {
	return a.Node == b.Node && a.URL == b.URL && a.TransportURL == b.TransportURL && a.Auth == b.Auth &&
		a.Link == b.Link && a.Peer.Name == b.Peer.Name && a.Peer.Authorities == b.Peer.Authorities &&
		slices.Equal(
			a.Peer.Pins,
			b.Peer.Pins,
		) && slices.Equal(a.From, b.From) && a.Contract == b.Contract &&
		a.Until.Equal(b.Until)
}

// Lookup returns a partner.
func (d *Directory) Lookup(node string) (Partner, bool) {
	p, found := d.current.Load().partners[node]
	return p, found && !p.expired(time.Now())
}

// Partners returns all partners, by node id.
func (d *Directory) Partners() []Partner {
	partners := d.current.Load().partners
	var all []Partner
	for _, node := range slices.Sorted(maps.Keys(partners)) {
		all = append(all, partners[node])
	}
	return all
}

// Configured reports whether a partner comes from the configuration.
func (d *Directory) Configured(node string) bool {
	_, found := d.configured[node]
	return found
}

func (p Partner) expired(now time.Time) bool { return !p.Until.IsZero() && now.After(p.Until) }

// NodeOf returns the partner with mutual TLS whose node a chain of certificates proves, the leaf first.
func (d *Directory) NodeOf(chain []*x509.Certificate) (string, error) {
	p, err := d.current.Load().identify(chain, time.Now())
	return p.Node, err
}

// Certificate returns this party's certificate, or nil.
func (d *Directory) Certificate() *x509.Certificate {
	if d.cfg.KeyPair == nil {
		return nil
	}
	return d.cfg.KeyPair.Certificate().Leaf
}

// Sweep closes the open connections, of both directions, that their partner's entry no longer permits.
// Changes call it; so does a [Server], for certificates and contracts that expire.
func (d *Directory) Sweep() {
	d.mu.Lock()
	var condemned []*serverConn
	for c := range d.servers {
		if err := d.checkOpen(c); err != nil {
			d.logger.Info(
				"closing a connection of a partner",
				"address",
				c.RemoteAddr().String(),
				"reason",
				err,
			)
			condemned = append(condemned, c)
		}
	}
	outgoing := slices.Clone(d.outgoing)
	d.mu.Unlock()

	for _, c := range condemned {
		c.abort()
	}
	for _, o := range outgoing {
		o.sweep()
	}
}

// snapshot is a state of the directory.
type snapshot struct {
	partners map[string]Partner
	verified sync.Map // certificateKey to verification: the successful ones
}

func newSnapshot(partners map[string]Partner) *snapshot { return &snapshot{partners: partners} }

// certificateKey identifies a certificate and the state of the authorities.
type certificateKey struct {
	hash  [sha256.Size]byte
	epoch uint64
}

type verification struct {
	node string
	at   time.Time
}

// verifiedFor is how long the verification of a certificate is remembered: requests on one connection would
// otherwise verify it again and again.
const verifiedFor = time.Minute

// epoch returns a number that changes with the authorities.
func (s *snapshot) epoch() uint64 {
	var sum uint64
	for _, p := range s.partners {
		if p.Peer.Authorities != nil {
			sum += p.Peer.Authorities.Generation()
		}
	}
	return sum
}

var errUnknownCertificate = errors.New("the certificate belongs to no partner")

// identify returns the only partner whose node a chain of certificates proves.
func (s *snapshot) identify(chain []*x509.Certificate, now time.Time) (Partner, error) {
	key := certificateKey{sha256.Sum256(chain[0].Raw), s.epoch()}
	if v, ok := s.verified.Load(key); ok {
		v := v.(verification)
		p := s.partners[v.node]
		if now.Sub(v.at).Abs() < verifiedFor && now.Before(chain[0].NotAfter) && !p.expired(now) {
			return p, nil
		}
		s.verified.Delete(key)
	}

	var found []Partner
	var reasons []error
	for _, node := range slices.Sorted(maps.Keys(s.partners)) {
		p := s.partners[node]
		if !p.Auth.UsesTLS() {
			continue
		}
		err := p.Peer.Verify(chain, now, certs.AsClient)
		if err == nil && p.expired(now) {
			err = fmt.Errorf(
				"the contract with node %s has ended on %s",
				node,
				p.Until.UTC().Format(time.DateOnly),
			)
		}
		if err != nil {
			reasons = append(reasons, err)
			continue
		}
		found = append(found, p)
	}
	switch len(found) {
	case 1:
		s.verified.Store(key, verification{found[0].Node, now})
		return found[0], nil
	case 0:
		if len(reasons) == 1 {
			return Partner{}, reasons[0]
		}
		return Partner{}, fmt.Errorf(
			"%w; its names are: %s; its fingerprint is %s",
			errUnknownCertificate,
			certs.Names(chain[0]),
			certs.PinOf(chain[0]),
		)
	}
	return Partner{}, fmt.Errorf(
		"the certificate proves to be both %s and %s: a certificate is for one node",
		found[0].Node,
		found[1].Node,
	)
}

// byAddress returns the partner without proof that calls from an address. claimed is the node that the
// request names; without one, the address must be that of one partner only.
func (s *snapshot) byAddress(claimed string, address netip.Addr) (Partner, error) {
	var found []Partner
	for _, node := range slices.Sorted(maps.Keys(s.partners)) {
		p := s.partners[node]
		if p.Auth != None || claimed != "" && claimed != node {
			continue
		}
		if slices.ContainsFunc(p.From, func(n netip.Prefix) bool { return n.Contains(address) }) {
			found = append(found, p)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return Partner{}, errors.New(
			"several partners call from this address: the request must name its node in " +
				"the header x-source-node-id",
		)
	case claimed != "":
		return Partner{}, fmt.Errorf(
			"node %.128q does not prove who it is, and no route permits that from this "+
				"address",
			claimed,
		)
	}
	return Partner{}, errors.New("the request proves no node, by a certificate or otherwise")
}

// addressOf returns the IP address of a remote address such as 192.0.2.7:4711.
func addressOf(remote string) netip.Addr {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		host = remote
	}
	address, _ := netip.ParseAddr(host)
	return address.Unmap().WithZone("")
}
