package party

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"hutong/internal/certs"
)

// evidenceFile is the file in the data folder with the key that signs evidence, and its certificate, of a
// party without a certificate for partners.
const evidenceFile = "evidence.pem"

// signer returns the key that signs evidence and exported models: that of the party's certificate for
// partners, or one that is made for it. It is read again for each archive, so that a renewed certificate is
// used.
func (c *Config) signer() (certs.Signer, error) {
	certFile, keyFile := c.Partners.TLS.CertFile, c.Partners.TLS.KeyFile
	if certFile == "" {
		own := filepath.Join(c.DataDir, evidenceFile)
		if err := createEvidenceKey(own, c.NodeID); err != nil {
			return certs.Signer{}, err
		}
		certFile, keyFile = own, own
	}
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return certs.Signer{}, fmt.Errorf("failed to load the key that signs archives: %w", err)
	}
	key, ok := pair.PrivateKey.(crypto.Signer)
	if !ok {
		return certs.Signer{}, fmt.Errorf("the key in %s can't sign", keyFile)
	}
	signer := certs.Signer{Key: key}
	for _, der := range pair.Certificate {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return certs.Signer{}, fmt.Errorf("failed to read the certificate in %s: %w", certFile, err)
		}
		signer.Chain = append(signer.Chain, cert)
	}
	return signer, nil
}

// knownSigner returns the node that the certificates of a signature prove: this party, by its present key or
// by a certificate of partners.tls.ca_file that names it, or a partner with mutual TLS.
func (p *Party) knownSigner(chain []*x509.Certificate) (node string, err error) {
	own, err := p.cfg.signer()
	if err != nil {
		return "", err
	}
	if certs.PinOf(chain[0]) == certs.PinOf(own.Chain[0]) {
		return p.cfg.NodeID, nil
	}
	self := certs.Peer{Node: p.cfg.NodeID, Authorities: p.authorities}
	if p.authorities != nil && self.Verify(chain, time.Now(), certs.AsClient) == nil {
		return p.cfg.NodeID, nil
	}
	return p.partners.NodeOf(chain)
}

// createEvidenceKey makes the key and its certificate, unless the file exists. Of several processes one makes
// it.
func createEvidenceKey(path, node string) error {
	if _, err := os.Stat(path); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	cert, key, err := certs.SelfSigned(certs.Leaf{Node: node})
	if err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(path), ".evidence-*") // only its owner can read it
	if err != nil {
		return fmt.Errorf("failed to create the key that signs evidence: %w", err)
	}
	_, err = file.Write(append(cert, key...))
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil {
		// Unlike a rename, a link does not replace the key of another process.
		if err = os.Link(file.Name(), path); errors.Is(err, fs.ErrExist) {
			err = nil
		}
	}
	if err = errors.Join(err, os.Remove(file.Name())); err != nil {
		return fmt.Errorf("failed to create the key that signs evidence: %w", err)
	}
	return nil
}

// softwareVersion returns the version of this program with its commit, as the build has recorded them.
func softwareVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	text := info.Main.Version
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" || setting.Key == "vcs.modified" && setting.Value == "true" {
			text += " " + setting.Key + "=" + setting.Value
		}
	}
	return text
}
