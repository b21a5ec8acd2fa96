package certs

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	authorityLife = 10 * 365 * 24 * time.Hour
	leafLife      = 397 * 24 * time.Hour
	// renewBefore is how long before the end of a development certificate a new one replaces it.
	renewBefore = 30 * 24 * time.Hour
	// backdate makes certificates valid for clocks that are a little behind.
	backdate = 5 * time.Minute
)

// Authority signs certificates, for development and tests. A bank uses its own authority, or the keys that
// `hutong partner` exchanges.
type Authority struct {
	Certificate *x509.Certificate
	key         crypto.Signer
}

// NewAuthority makes an authority with a new key. It exists in memory only.
func NewAuthority(name string) (*Authority, error) {
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-backdate), NotAfter: time.Now().Add(authorityLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	cert, err := sign(template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return &Authority{cert, key}, nil
}

// authorityFile holds an authority's certificate and key. authorityCertificates holds its certificate only.
const (
	authorityFile         = "authority.key.pem"
	authorityCertificates = "authority.pem"
)

// OpenAuthority reads the authority in a folder, or makes one there. Several processes may do so at once: all
// get the same authority. caFile is the path of its certificate, for ca_file.
func OpenAuthority(dir, name string) (_ *Authority, caFile string, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, "", fmt.Errorf("failed to create the folder of certificates: %w", err)
	}
	path := filepath.Join(dir, authorityFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		var made *Authority
		if made, err = NewAuthority(name); err != nil {
			return nil, "", err
		}
		var content []byte
		if content, err = encodePair([]*x509.Certificate{made.Certificate}, made.key); err != nil {
			return nil, "", err
		}
		// Whichever process links first has made the authority; the others read it.
		if err := createOnce(path, content); err != nil {
			return nil, "", fmt.Errorf("failed to store the authority: %w", err)
		}
		text, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, "", fmt.Errorf("failed to read the authority: %w", err)
	}
	pair, err := tls.X509KeyPair(text, text)
	if err != nil {
		return nil, "", fmt.Errorf(
			"%s does not hold an authority: %w; remove the file to make another one",
			path,
			err,
		)
	}
	a := &Authority{pair.Leaf, pair.PrivateKey.(crypto.Signer)}
	caFile = filepath.Join(dir, authorityCertificates)
	if err := replaceUnlessEqual(caFile, EncodeCertificate(a.Certificate), 0o644); err != nil {
		return nil, "", fmt.Errorf("failed to store the authority's certificate: %w", err)
	}
	return a, caFile, nil
}

// Leaf describes a certificate to sign.
type Leaf struct {
	// Node is the node that it names, by URI and, if it may be a DNS name, by DNS name.
	Node string
	// Hosts are further DNS names and addresses, for servers that also prove their host.
	Hosts []string
	// NotBefore and NotAfter are by default now and 397 days later.
	NotBefore, NotAfter time.Time
}

func (l Leaf) template() *x509.Certificate {
	t := &x509.Certificate{
		Subject:               pkix.Name{CommonName: l.Node},
		NotBefore:             l.NotBefore,
		NotAfter:              l.NotAfter,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if t.NotBefore.IsZero() {
		t.NotBefore = time.Now().Add(-backdate)
	}
	if t.NotAfter.IsZero() {
		t.NotAfter = time.Now().Add(leafLife)
	}
	t.URIs, t.DNSNames, t.IPAddresses = l.names()
	return t
}

func (l Leaf) names() (uris []*url.URL, hosts []string, addresses []net.IP) {
	if l.Node != "" {
		uris = []*url.URL{{Scheme: Scheme, Host: l.Node}}
		hosts = []string{l.Node}
	}
	for _, host := range l.Hosts {
		if ip := net.ParseIP(host); ip != nil {
			addresses = append(addresses, ip)
		} else {
			hosts = append(hosts, host)
		}
	}
	return uris, hosts, addresses
}

// Issue makes a key and signs a certificate for it. The result is PEM: the certificate, then its key.
func (a *Authority) Issue(leaf Leaf) ([]byte, error) {
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	cert, err := sign(leaf.template(), a.Certificate, key.Public(), a.key)
	if err != nil {
		return nil, err
	}
	return encodePair([]*x509.Certificate{cert}, key)
}

// IssueFile writes a certificate with its key for a leaf to a file, unless the file has one of this authority
// for this node that is valid for another 30 days. The file replaces an earlier one in one step.
func (a *Authority) IssueFile(path string, leaf Leaf) error {
	if text, err := os.ReadFile(path); err == nil && a.holds(text, leaf) {
		return nil
	}
	content, err := a.Issue(leaf)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("failed to create the folder of certificates: %w", err)
	}
	if err := replaceFile(path, content, 0o600); err != nil {
		return fmt.Errorf("failed to store the certificate of %s: %w", leaf.Node, err)
	}
	return nil
}

// holds reports whether a PEM text has a certificate for a leaf that needs no renewal.
func (a *Authority) holds(text []byte, leaf Leaf) bool {
	pair, err := tls.X509KeyPair(text, text)
	if err != nil || pair.Leaf.CheckSignatureFrom(a.Certificate) != nil ||
		time.Now().Add(renewBefore).After(pair.Leaf.NotAfter) {
		return false
	}
	return Names(pair.Leaf) == Names(leaf.template())
}

// SelfSigned makes a key and a certificate for it that only its key proves. The result is PEM: the
// certificate, then its key.
func SelfSigned(leaf Leaf) (certificate, key []byte, err error) {
	signer, err := NewKey()
	if err != nil {
		return nil, nil, err
	}
	template := leaf.template()
	cert, err := sign(template, template, signer.Public(), signer)
	if err != nil {
		return nil, nil, err
	}
	key, err = EncodeKey(signer)
	return EncodeCertificate(cert), key, err
}

// Request returns a request for a certificate in PEM form (PKCS #10), for an authority to sign.
func Request(leaf Leaf, key crypto.Signer) ([]byte, error) {
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: leaf.Node}}
	template.URIs, template.DNSNames, template.IPAddresses = leaf.names()
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		return nil, fmt.Errorf("failed to make a certificate request for %s: %w", leaf.Node, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}

// NewKey returns a new private key, of ECDSA on P-256.
func NewKey() (crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("failed to generate a key: %w", err)
	}
	return key, nil
}

// EncodeKey returns a private key in PEM form (PKCS #8).
func EncodeKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("failed to encode a key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// sign signs a template with a random serial number.
func sign(template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) (*x509.Certificate,
	error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("failed to choose a serial number: %w", err)
	}
	template.SerialNumber = serial
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, fmt.Errorf("failed to sign the certificate of %s: %w", template.Subject.CommonName, err)
	}
	return x509.ParseCertificate(der)
}

func encodePair(chain []*x509.Certificate, key crypto.Signer) ([]byte, error) {
	var out bytes.Buffer
	for _, cert := range chain {
		out.Write(EncodeCertificate(cert))
	}
	encoded, err := EncodeKey(key)
	out.Write(encoded)
	return out.Bytes(), err
}

// replaceUnlessEqual writes a file unless it has this content.
func replaceUnlessEqual(path string, content []byte, mode fs.FileMode) error {
	if text, err := os.ReadFile(path); err == nil && bytes.Equal(text, content) {
		return nil
	}
	return replaceFile(path, content, mode)
}

// replaceFile replaces a file in one step, so that a reader sees the content of before or all of the new one.
func replaceFile(path string, content []byte, mode fs.FileMode) error {
	return withTemporary(path, content, mode, os.Rename)
}

// createOnce creates a file with its content in one step, unless it exists.
func createOnce(path string, content []byte) error {
	err := withTemporary(path, content, 0o600, os.Link)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// withTemporary writes a temporary file in the folder of path, and publishes it as path.
func withTemporary(path string, content []byte, mode fs.FileMode, publish func(from, to string) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.Write(content)
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	return publish(f.Name(), path)
}

// SelfSignedFor returns a certificate that only its key proves, and the key, in PEM form.
func SelfSignedFor(key crypto.Signer, leaf Leaf) ([]byte, error) {
	template := leaf.template()
	cert, err := sign(template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return encodePair([]*x509.Certificate{cert}, key)
}

// ParseKey returns the private key in a PEM text: PKCS #8, or the older forms of RSA and ECDSA keys.
func ParseKey(text []byte) (crypto.Signer, error) {
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return nil, errors.New("it contains no private key in PEM form")
		}
		if !strings.HasSuffix(block.Type, "PRIVATE KEY") {
			continue
		}
		if key, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
			if signer, ok := key.(crypto.Signer); ok {
				return signer, nil
			}
		}
		if key, err := x509.ParseECPrivateKey(block.Bytes); err == nil {
			return key, nil
		}
		if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
			return key, nil
		}
		return nil, fmt.Errorf("its %s has an unknown form, or is encrypted", block.Type)
	}
}

// WriteFile replaces a file with a key in one step. Only its owner can read it.
func WriteFile(path string, content []byte) error {
	if err := replaceFile(path, content, 0o600); err != nil {
		return fmt.Errorf("failed to write %s: %w", path, err)
	}
	return nil
}
