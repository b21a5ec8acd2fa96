package certs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
)

// Signer is the key of a node with the certificates that name the node. It signs what a party attests.
type Signer struct {
	Key   crypto.Signer
	Chain []*x509.Certificate // the node's own first
}

// Sign signs a message: ECDSA with SHA-256 (deterministic, RFC 6979), RSA with SHA-256 (PKCS #1), or Ed25519.
// A signature for one purpose can't be taken for one of another.
func (s Signer) Sign(purpose string, message []byte) ([]byte, error) {
	if len(s.Chain) == 0 {
		return nil, errors.New("the key has no certificate")
	}
	message = withPurpose(purpose, message)
	switch s.Key.Public().(type) {
	case ed25519.PublicKey:
		return s.Key.Sign(nil, message, crypto.Hash(0))
	case *ecdsa.PublicKey, *rsa.PublicKey:
		sum := sha256.Sum256(message)
		return s.Key.Sign(nil, sum[:], crypto.SHA256)
	}
	return nil, fmt.Errorf("keys of type %T can't sign; use ECDSA, RSA or Ed25519", s.Key.Public())
}

// Certificates returns the certificates in PEM.
func (s Signer) Certificates() []byte {
	var chain []byte
	for _, cert := range s.Chain {
		chain = append(chain, EncodeCertificate(cert)...)
	}
	return chain
}

// CheckSignature returns why a signature is not that of a certificate's key by [Signer.Sign], or nil. Whose
// certificate it is, is for the caller to decide.
func CheckSignature(cert *x509.Certificate, purpose string, message, signature []byte) error {
	algorithm := x509.ECDSAWithSHA256
	switch cert.PublicKey.(type) {
	case ed25519.PublicKey:
		algorithm = x509.PureEd25519
	case *rsa.PublicKey:
		algorithm = x509.SHA256WithRSA
	}
	return cert.CheckSignature(algorithm, withPurpose(purpose, message), signature)
}

func withPurpose(purpose string, message []byte) []byte {
	return append([]byte(purpose+"\n"), message...)
}
