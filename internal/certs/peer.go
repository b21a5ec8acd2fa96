package certs

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Scheme is the scheme of the URI that binds a certificate to a node: hutong://NODE.
const Scheme = "hutong"

// Purpose is what a certificate is shown for.
type Purpose x509.ExtKeyUsage

// The purposes.
const (
	AsClient = Purpose(x509.ExtKeyUsageClientAuth)
	AsServer = Purpose(x509.ExtKeyUsageServerAuth)
)

// Peer says which certificates prove to be a node.
//
// With Authorities, a certificate needs a signature of one of them and the node's name; with Pins too, also a
// pinned key. With Pins alone, the pinned key suffices, without regard to its names and who signed it.
// Without both, no certificate proves anything.
type Peer struct {
	Node string
	// Name is another name that the certificate must have in place of the node's: a URI or a DNS name.
	Name        string
	Authorities *Authorities
	Pins        []Pin
}

// Verify returns why a chain of certificates, the leaf first, does not prove at a time to be the node, or
// nil.
func (p Peer) Verify(chain []*x509.Certificate, now time.Time, purpose Purpose) error {
	if len(chain) == 0 {
		return fmt.Errorf("no certificate was shown, but node %s must prove who it is by one", p.Node)
	}
	leaf := chain[0]
	if now.Before(leaf.NotBefore) {
		return fmt.Errorf(
			"the certificate of %s is not valid before %s",
			p.describe(leaf),
			date(leaf.NotBefore),
		)
	}
	if now.After(leaf.NotAfter) {
		return fmt.Errorf("the certificate of %s has expired on %s", p.describe(leaf), date(leaf.NotAfter))
	}
	if p.Authorities == nil && len(p.Pins) == 0 {
		return fmt.Errorf("no authority and no key is configured for node %s", p.Node)
	}
	if len(p.Pins) > 0 && !slices.ContainsFunc(p.Pins, PinOf(leaf).Equal) {
		return fmt.Errorf(
			"the key of the certificate is not the one that is pinned for node %s; its fingerprint "+
				"is %s",
			p.Node,
			PinOf(leaf),
		)
	}
	if p.Authorities == nil {
		return nil
	}
	if err := p.checkNames(leaf); err != nil {
		return err
	}
	intermediates := x509.NewCertPool()
	for _, cert := range chain[1:] {
		intermediates.AddCert(cert)
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: p.Authorities.Pool(), Intermediates: intermediates,
		CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsage(purpose)}})
	if err != nil {
		return fmt.Errorf("the certificate of %s is not valid under the authorities of node %s: %w",
			p.describe(leaf), p.Node, err)
	}
	return nil
}

// checkNames checks that a certificate names the node, and no other one.
func (p Peer) checkNames(leaf *x509.Certificate) error {
	named := false
	for _, uri := range leaf.URIs {
		if p.Name != "" {
			named = named || uri.String() == p.Name
			continue
		}
		if uri.Scheme != Scheme {
			continue
		}
		if !strings.EqualFold(uri.String(), Scheme+"://"+p.Node) {
			return fmt.Errorf("the certificate is for %s, not for node %s", uri, p.Node)
		}
		named = true
	}
	if named {
		return nil
	}
	want := p.Node
	if p.Name != "" {
		want = p.Name
	}
	if slices.ContainsFunc(leaf.DNSNames, func(name string) bool { return strings.EqualFold(name, want) }) {
		return nil
	}
	if p.Name != "" {
		return fmt.Errorf(
			"the certificate does not have the name %s, which the route of node %s requires",
			p.Name,
			p.Node,
		)
	}
	return fmt.Errorf(
		"the certificate does not name node %s: it needs the URI %s://%s or the DNS name %s, and "+
			"has %s",
		p.Node,
		Scheme,
		p.Node,
		p.Node,
		Names(leaf),
	)
}

func (p Peer) describe(leaf *x509.Certificate) string {
	if names := Names(leaf); names != "no name" {
		return names
	}
	return "node " + p.Node
}

// Names returns the names in a certificate's extension for alternative names, for people.
func Names(cert *x509.Certificate) string {
	var names []string
	for _, uri := range cert.URIs {
		names = append(names, uri.String())
	}
	names = append(names, cert.DNSNames...)
	for _, ip := range cert.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 {
		return "no name"
	}
	return strings.Join(names, ", ")
}

func date(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }

// errNoCertificate refuses a server that shows no certificate, which TLS itself rules out.
var errNoCertificate = errors.New("the server showed no certificate")
