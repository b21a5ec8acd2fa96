package partners

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"hutong/internal/certs"
	"hutong/internal/link"
)

// Auth is how a partner and this party prove to each other who they are.
type Auth string

// The kinds of authentication. Those without mutual TLS are for partners that can't use it.
const (
	// MTLS is mutual TLS: both sides have a certificate of their node.
	MTLS Auth = "mtls"
	// MTLSSign is mutual TLS, and a signature on each request.
	MTLSSign Auth = "mtls+sign"
	// Sign is a signature on each request, for partners behind a gateway that ends TLS.
	Sign Auth = "sign"
	// FATESite is FATE-Flow's site authentication.
	FATESite Auth = "fate-site"
	// None is no proof but the network address from which a partner calls.
	None Auth = "none"
)

// Auths returns all kinds of authentication.
func Auths() []Auth { return []Auth{MTLS, MTLSSign, Sign, FATESite, None} }

// UsesTLS reports whether the connection proves the node. Its URLs must be https.
func (a Auth) UsesTLS() bool { return a == MTLS || a == MTLSSign }

// Link says which side keeps links to the other one (package [link]).
type Link string

// The kinds of links. The empty one is none: each side connects to the other.
const (
	// Inbound is for a partner that can't be reached: it keeps links to this party.
	Inbound Link = "inbound"
	// Outbound is for a party that can't be reached: it keeps links to its partner.
	Outbound Link = "outbound"
)

// Partner is another party. It is a value; a change makes another one.
type Partner struct {
	Node string
	// URL and TransportURL are the base URLs of its API and its transport.
	URL, TransportURL string
	Auth              Auth
	// Peer says which certificates prove the node. With an Auth without mutual TLS, its authorities and pins
	// verify the server at the URL.
	Peer certs.Peer
	// Link is the side that keeps links to the other one's transports, if the partner's network allows only
	// that. With [Inbound], the URLs are those of [link.Service.URL].
	Link Link
	// From holds the networks from which a partner without proof calls.
	From []netip.Prefix
	// Contract is the id of the contract that made it a partner; "" for one of the configuration.
	Contract string
	// Until is the end of the contract; zero is none.
	Until time.Time
}

// Transport returns the base URL of the partner's transport.
func (p Partner) Transport() string {
	if p.TransportURL != "" {
		return p.TransportURL
	}
	return p.URL
}

// Method proves the node of a request by something in the request, such as a signature. A directory has one
// for each [Auth] that needs it. It is safe for concurrent use.
type Method interface {
	// Claims returns the node that a request claims to come from, if it uses this method. That proves
	// nothing. The error says why no node can be named.
	Claims(r *http.Request) (node string, ok bool, err error)
	// Verify returns why a request does not prove to come from a partner, or a text that identifies the proof
	// without revealing it. If it reads the body, it replaces it by one with the same content.
	Verify(r *http.Request, from Partner) (credential string, err error)
	// Prove adds to a request to a partner what proves this party. The request is a copy that it may change,
	// except for the content of the body.
	Prove(r *http.Request, to Partner) error
}

// Config configures a [Directory].
type Config struct {
	// Node is this party.
	Node string
	// KeyPair is this party's certificate. Without one, no partner can use mutual TLS.
	KeyPair *certs.KeyPair
	// AllowTLS12 also accepts TLS 1.2.
	AllowTLS12 bool
	// Gateways may name the certificates of partners in a header, which nobody else may send.
	Gateways Gateways
	// Methods are the methods of the kinds of authentication that need one.
	Methods map[Auth]Method
	// Strangers returns whether nodes that are not partners may connect now, to apply for a contract. nil:
	// never.
	Strangers func() bool
	// StrangerPaths are the paths that they may then call. Their principal is anonymous, with the fingerprint
	// of their key.
	StrangerPaths map[string]bool
	// DialLink opens a connection to a service of a partner with [Inbound]. nil: no partner may be that.
	DialLink func(ctx context.Context, node string, service link.Service) (net.Conn, error)
	// OnRefusal, if set, records each request that is refused because its sender is not known. It must not
	// wait.
	OnRefusal func(r *http.Request, err error)
	// OnRefusedConnection, if set, records each TLS handshake of a peer that is refused. It must not wait.
	OnRefusedConnection func(address net.Addr, err error)
}

// CheckPartner returns why a partner can't be one of this party, or nil.
func (c Config) CheckPartner(p Partner) error {
	if slices.ContainsFunc(p.Peer.Pins, func(pin certs.Pin) bool {
		return slices.ContainsFunc(c.Gateways.Pins, pin.Equal)
	}) && p.Auth.UsesTLS() {
		return errors.New("the pinned key is that of a gateway in partners.trusted_proxies")
	}
	switch p.Auth {
	case MTLS, MTLSSign:
		if c.KeyPair == nil {
			return fmt.Errorf(
				"auth %s requires this party's own certificate: set partners.tls.cert_file and key_file, "+
					"or make one with `hutong cert init`",
				p.Auth,
			)
		}
		if p.Peer.Authorities == nil && len(p.Peer.Pins) == 0 {
			return fmt.Errorf(
				"auth %s requires the partner's authorities or keys: set tls.ca_file, tls.spki_sha256 or "+
					"partners.tls.ca_file",
				p.Auth,
			)
		}
	case None:
		if len(p.From) == 0 {
			return fmt.Errorf(
				"auth none requires the networks from which the partner calls: set from, such as " +
					"[192.0.2.7/32]",
			)
		}
	case Sign, FATESite:
	default:
		return fmt.Errorf("auth must be one of %v, but is %q", Auths(), string(p.Auth))
	}
	if p.Link != "" && !p.Auth.UsesTLS() {
		return fmt.Errorf("link %s requires auth mtls or mtls+sign, but auth is %s", p.Link, p.Auth)
	}
	if p.Auth == MTLSSign || p.Auth == Sign || p.Auth == FATESite {
		if c.Methods[p.Auth] == nil {
			return fmt.Errorf("auth %s is not configured at this party", p.Auth)
		}
	}
	return nil
}
