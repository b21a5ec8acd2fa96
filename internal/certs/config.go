package certs

import (
	"crypto/tls"
	"crypto/x509"
	"time"
)

// ServerOptions configure the server's side of mutual TLS.
type ServerOptions struct {
	KeyPair *KeyPair
	// Check returns why a client's certificates, the leaf first, are not a partner's, or nil. It decides
	// alone; nobody else verifies them.
	Check func(chain []*x509.Certificate) error
	// OptionalClientCertificate also accepts clients without a certificate, which prove who they are by
	// another method.
	OptionalClientCertificate bool
	// AllowTLS12 also accepts TLS 1.2. The least version is 1.3 otherwise.
	AllowTLS12 bool
}

// ServerConfig returns the configuration of a server that demands a partner's certificate of each client.
// Sessions are not resumed, so that each connection proves the possession of the key.
func ServerConfig(o ServerOptions) *tls.Config {
	c := &tls.Config{
		MinVersion:             minVersion(o.AllowTLS12),
		NextProtos:             []string{"h2", "http/1.1"},
		GetCertificate:         o.KeyPair.ServerCertificate,
		ClientAuth:             tls.RequireAnyClientCert,
		SessionTicketsDisabled: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			if len(state.PeerCertificates) == 0 {
				return nil // only with OptionalClientCertificate
			}
			return o.Check(state.PeerCertificates)
		},
	}
	if o.OptionalClientCertificate {
		c.ClientAuth = tls.RequestClientCert
	}
	return c
}

// ClientConfig returns the configuration of a connection to a peer, whose certificate must prove its node.
// pair is this party's own certificate.
func ClientConfig(peer Peer, pair *KeyPair, allowTLS12 bool) *tls.Config {
	c := &tls.Config{
		MinVersion: minVersion(allowTLS12),
		// VerifyConnection verifies the certificate in place of the check of the host's name: what counts is
		// the node.
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			if len(state.PeerCertificates) == 0 {
				return errNoCertificate
			}
			return peer.Verify(state.PeerCertificates, time.Now(), AsServer)
		},
	}
	if pair != nil {
		c.GetClientCertificate = pair.ClientCertificate
	}
	return c
}

// HostConfig returns the configuration of a connection to a server that proves its host's name, as on the
// web, under authorities, or under those of the system if they are nil. With pins, its key must also be one
// of them. It serves partners behind a gateway that ends TLS. pair is this party's own certificate, or nil.
func HostConfig(authorities *Authorities, pins []Pin, pair *KeyPair) *tls.Config {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if pair != nil {
		c.GetClientCertificate = pair.ClientCertificate
	}
	if authorities != nil {
		c.RootCAs = authorities.Pool()
	}
	if len(pins) > 0 {
		c.VerifyConnection = func(state tls.ConnectionState) error {
			return Peer{
				Node: state.ServerName,
				Pins: pins,
			}.Verify(
				state.PeerCertificates,
				time.Now(),
				AsServer,
			)
		}
	}
	return c
}

func minVersion(allowTLS12 bool) uint16 {
	if allowTLS12 {
		return tls.VersionTLS12
	}
	return tls.VersionTLS13
}
