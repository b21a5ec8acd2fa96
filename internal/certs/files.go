package certs

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
)

// KeyPair is a certificate with its key, from two PEM files, or from one that holds both. It reads them again
// when they change. It is safe for concurrent use.
type KeyPair struct{ files *reloaded[*tls.Certificate] }

// LoadKeyPair reads a certificate and its key. Later changes of the files are logged.
func LoadKeyPair(certFile, keyFile string, logger *slog.Logger) (*KeyPair, error) {
	k := &KeyPair{&reloaded[*tls.Certificate]{
		what: "the certificate " + certFile, paths: []string{certFile, keyFile}, every: checkEvery,
		logger: logger,
		parse: func(contents [][]byte) (*tls.Certificate, error) {
			pair, err := tls.X509KeyPair(contents[0], contents[1])
			if err != nil {
				return nil, fmt.Errorf(
					"%s and %s are not a certificate and its key: %w",
					certFile,
					keyFile,
					err,
				)
			}
			return &pair, nil
		}}}
	if err := k.files.load(); err != nil {
		return nil, err
	}
	return k, nil
}

// Certificate returns the current certificate, with its key. Its Leaf is set.
func (k *KeyPair) Certificate() *tls.Certificate {
	pair, _ := k.files.get()
	return pair
}

// Generation returns a number that grows when the files change. Connections of an older generation show the
// certificate of before.
func (k *KeyPair) Generation() uint64 {
	_, generation := k.files.get()
	return generation
}

// ServerCertificate implements [tls.Config.GetCertificate].
func (k *KeyPair) ServerCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return k.Certificate(), nil
}

// ClientCertificate implements [tls.Config.GetClientCertificate]. It returns the certificate whichever
// authorities the server names, because a partner may know this party by its key alone.
func (k *KeyPair) ClientCertificate(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return k.Certificate(), nil
}

// Authorities are certificate authorities from a PEM file, which is read again when it changes. It is safe
// for concurrent use.
type Authorities struct{ files *reloaded[authorities] }

type authorities struct {
	pool  *x509.CertPool
	certs []*x509.Certificate
}

// LoadAuthorities reads certificate authorities. Later changes of the file are logged.
func LoadAuthorities(file string, logger *slog.Logger) (*Authorities, error) {
	a := &Authorities{&reloaded[authorities]{
		what: "the authorities " + file, paths: []string{file}, every: checkEvery, logger: logger,
		parse: func(contents [][]byte) (authorities, error) {
			certs, err := ParseCertificates(contents[0])
			if err != nil {
				return authorities{}, fmt.Errorf("%s: %w", file, err)
			}
			a := authorities{x509.NewCertPool(), certs}
			for _, cert := range certs {
				a.pool.AddCert(cert)
			}
			return a, nil
		}}}
	if err := a.files.load(); err != nil {
		return nil, err
	}
	return a, nil
}

// Pool returns the current authorities.
func (a *Authorities) Pool() *x509.CertPool {
	current, _ := a.files.get()
	return current.pool
}

// Certificates returns the current authorities' certificates.
func (a *Authorities) Certificates() []*x509.Certificate {
	current, _ := a.files.get()
	return current.certs
}

// Generation returns a number that grows when the file changes.
func (a *Authorities) Generation() uint64 {
	_, generation := a.files.get()
	return generation
}

// ParseCertificates parses the certificates of a PEM text. It ignores other blocks. Without a certificate it
// returns an error.
func ParseCertificates(text []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("failed to parse certificate %d: %w", len(certs)+1, err)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, errors.New("contains no certificate in PEM form")
	}
	return certs, nil
}

// EncodeCertificate returns a certificate in PEM form.
func EncodeCertificate(cert *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
}
