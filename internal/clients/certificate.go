package clients

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"slices"
	"strings"

	"hutong/bfia"
	"hutong/internal/identity"
)

// Certificate gives roles to the holder of a certificate that one of the party's authorities for clients has
// issued.
type Certificate struct {
	// Subject is the certificate's common name, or one of its alternative names: a DNS name, an e-mail
	// address or a URI. Letter case counts.
	Subject string
	// Name is the client's name. Empty: the subject.
	Name  string
	Roles []identity.Role
}

// byCertificate returns the client that holds a verified certificate.
func (a *Authenticator) byCertificate(leaf *x509.Certificate) (identity.Principal, error) {
	subjects := append([]string{leaf.Subject.CommonName}, leaf.DNSNames...)
	subjects = append(subjects, leaf.EmailAddresses...)
	for _, uri := range leaf.URIs {
		subjects = append(subjects, uri.String())
	}
	subjects = slices.DeleteFunc(subjects, func(s string) bool { return s == "" })
	for _, c := range a.certificates {
		if !slices.Contains(subjects, c.Subject) {
			continue
		}
		sum := sha256.Sum256(leaf.Raw)
		name := c.Name
		if name == "" {
			name = c.Subject
		}
		return identity.Principal{Kind: identity.KindClient, Name: name, Roles: c.Roles,
			Proof: identity.ByCertificate, Credential: "sha256:" + hex.EncodeToString(sum[:]),
			Expires: leaf.NotAfter}, nil
	}
	return identity.Principal{}, bfia.Wrap(bfia.CodeForbidden, &Refusal{"unknown certificate"},
		"the certificate of %s is valid, but client_certificates gives its holder no roles",
		strings.Join(subjects, ", "))
}
