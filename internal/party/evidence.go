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

	"hutong/internal/certs"
	"hutong/internal/evidence"
)

// evidenceFile is the file in the data folder with the key that signs evidence, and its certificate, of a
// party without a certificate for partners.
const evidenceFile = "evidence.pem"

// evidenceSigner returns the key that signs evidence: that of the party's certificate for partners, or one
// that is made for it. It is read again for each archive, so that a renewed certificate is used.
func (c *Config) evidenceSigner() (evidence.Signer, error) {
	certFile, keyFile := c.Partners.TLS.CertFile, c.Partners.TLS.KeyFile
	if certFile == "" {
		own := filepath.Join(c.DataDir, evidenceFile)
		if err := createEvidenceKey(own, c.NodeID); err != nil {
			return evidence.Signer{}, err
		}
		certFile, keyFile = own, own
	}
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return evidence.Signer{}, fmt.Errorf("failed to load the key that signs evidence: %w", err)
	}
	key, ok := pair.PrivateKey.(crypto.Signer)
	if !ok {
		return evidence.Signer{}, fmt.Errorf("the key in %s can't sign", keyFile)
	}
	signer := evidence.Signer{Key: key}
	for _, der := range pair.Certificate {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return evidence.Signer{}, fmt.Errorf("failed to read the certificate in %s: %w", certFile, err)
		}
		signer.Chain = append(signer.Chain, cert)
	}
	return signer, nil
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
