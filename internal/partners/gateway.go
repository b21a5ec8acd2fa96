package partners

import (
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"hutong/bfia"
	"hutong/internal/certs"
)

// Gateways are those of this party that end the TLS of partners and pass their requests on, over mutual TLS
// of their own. They name the partner's certificate in a header.
type Gateways struct {
	// Header is the header. Its value is the certificate as in RFC 9440 (:BASE64:), the certificate as
	// URL-encoded PEM, or the fingerprint of its key.
	Header string
	// Pins are the keys of the gateways' certificates. Without one, no gateway is trusted.
	Pins []certs.Pin
}

// Check returns why a header can't name certificates, or nil.
func (g Gateways) Check() error {
	name := strings.ToLower(g.Header)
	valid := name != "" && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
	if !valid {
		return fmt.Errorf("must be the name of a header, of letters, digits and -, but is %q", g.Header)
	}
	if slices.Contains(otherHeaders, name) || slices.Contains(senderHeaders, name) ||
		strings.HasPrefix(name, "x-ptp-") {
		return fmt.Errorf("must be a header of its own, but %s has another meaning", g.Header)
	}
	return nil
}

// otherHeaders have a meaning in HTTP or in the protocol.
var otherHeaders = []string{"host", "connection", "content-type", "content-length", "transfer-encoding", "te",
	"trailer", "upgrade", "authorization", "x-target-node-id", "x-auth-sign", "x-nonce", "x-timestamp",
	"appid", "signature", "nonce", "timestamp"}

// trust returns why a chain of certificates is not that of a gateway, or nil.
func (g Gateways) trust(chain []*x509.Certificate, now time.Time) error {
	if len(g.Pins) == 0 {
		return errNoGateway
	}
	return certs.Peer{Node: "a gateway", Pins: g.Pins}.Verify(chain, now, certs.AsClient)
}

var errNoGateway = errors.New("no gateway is configured")

// isKey reports whether a certificate has the key of a gateway, valid or not.
func (g Gateways) isKey(leaf *x509.Certificate) bool {
	return slices.ContainsFunc(g.Pins, certs.PinOf(leaf).Equal)
}

// named returns the values of the header in a request.
func (g Gateways) named(r *http.Request) []string {
	if len(g.Pins) == 0 {
		return nil
	}
	return headerValues(r.Header, g.Header)
}

// drop removes the header from a request.
func (g Gateways) drop(r *http.Request) {
	if len(g.Pins) == 0 {
		return
	}
	r.Header.Del(g.Header)
	r.Header.Del(strings.ReplaceAll(g.Header, "-", "_"))
}

// identifyBehind returns the partner whose certificate a trusted gateway names, and the fingerprint of its
// key. The partner is the zero value if the certificate belongs to none, with the reason.
func (d *Directory) identifyBehind(r *http.Request, now time.Time) (p Partner, fingerprint string,
	err error) {
	values := d.cfg.Gateways.named(r)
	if len(values) != 1 || values[0] == "" {
		return Partner{}, "", bfia.Errorf(bfia.CodeForbidden, "the header %s must be given once by the "+
			"gateway, with the certificate of the sender, but is given %d times", d.cfg.Gateways.Header,
			len(values))
	}
	leaf, pin, err := parseNamed(values[0])
	if err != nil {
		return Partner{}, "", bfia.Errorf(bfia.CodeForbidden, "the header %s of the gateway %v",
			d.cfg.Gateways.Header, err)
	}
	snapshot := d.current.Load()
	if leaf != nil {
		p, err = snapshot.identify([]*x509.Certificate{leaf}, now)
		return p, pin.Hex(), err
	}
	p, err = snapshot.byPin(pin, now)
	return p, pin.Hex(), err
}

// parseNamed reads the value of the gateways' header: a certificate, or the fingerprint of its key alone.
func parseNamed(value string) (*x509.Certificate, certs.Pin, error) {
	var leaf *x509.Certificate
	switch {
	case strings.HasPrefix(value, ":"):
		der, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(value[1:], ":"))
		if err != nil || len(value) < 2 || !strings.HasSuffix(value, ":") {
			return nil, certs.Pin{}, errors.New("is no certificate between colons in base64 (RFC 9440)")
		}
		if leaf, err = x509.ParseCertificate(der); err != nil {
			return nil, certs.Pin{}, errors.New("holds no certificate")
		}
	case strings.HasPrefix(value, "-----BEGIN"):
		text, err := url.PathUnescape(value) // base64 has + in it
		if err != nil {
			return nil, certs.Pin{}, errors.New("is not URL-encoded")
		}
		found, err := certs.ParseCertificates([]byte(text))
		if err != nil || len(found) == 0 {
			return nil, certs.Pin{}, errors.New("holds no certificate")
		}
		leaf = found[0]
	default:
		pin, err := certs.ParsePin(value)
		if err != nil {
			return nil, certs.Pin{}, errors.New("is neither a certificate nor the SHA-256 of a key")
		}
		return nil, pin, nil
	}
	return leaf, certs.PinOf(leaf), nil
}

// byPin returns the partner with a pinned key. Without the certificate nothing proves what an authority
// signs, so a partner with authorities is not found.
func (s *snapshot) byPin(pin certs.Pin, now time.Time) (Partner, error) {
	for _, p := range s.partners {
		switch {
		case !p.Auth.UsesTLS() || !slices.ContainsFunc(p.Peer.Pins, pin.Equal):
			continue
		case p.Peer.Authorities != nil:
			return Partner{}, fmt.Errorf("node %s has an authority, so the gateway must name the whole "+
				"certificate, not only its fingerprint", p.Node)
		case p.expired(now):
			return Partner{}, fmt.Errorf("the contract with node %s has ended", p.Node)
		}
		return p, nil
	}
	return Partner{}, fmt.Errorf("%w; its fingerprint is %s", errUnknownCertificate, pin)
}
