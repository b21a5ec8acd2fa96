package model

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"

	"hutong/bfia"
	"hutong/internal/certs"
)

// Trust decides whose signature makes an archive acceptable.
type Trust struct {
	// Known returns the node that a chain of certificates proves, the leaf first: this party, or a partner.
	Known func(chain []*x509.Certificate) (node string, err error)
	// Key, if set, is the key that must have signed. Its owner does not matter.
	Key *certs.Pin
	// Unsigned also accepts an archive without a signature. A signature that is there is checked.
	Unsigned bool
}

// Signature says who signed an archive.
type Signature struct {
	Node string     // "" if nobody known has the key
	Key  *certs.Pin // nil if the archive has no signature
}

func untrusted(format string, args ...any) error {
	return bfia.Errorf(bfia.CodeConflict, "archive: "+format, args...)
}

// checkSigned checks the signature of the manifest, and that its key is one that may sign for this party.
// Only this party knows what its parts of models are, so the key of a partner needs the user's consent.
func (a *archive) checkSigned(node string, trust Trust) error {
	if a.entries[signatureName] == nil && a.entries[certificatesName] == nil {
		if trust.Unsigned {
			return nil
		}
		return untrusted("is not signed, so anybody may have made it; import it with unsigned (--unsigned) " +
			"if you know where it comes from")
	}
	chain, err := a.checkSignature()
	if err != nil {
		return err
	}
	key := certs.PinOf(chain[0])
	by, unknown := trust.Known(chain)
	a.signedBy = Signature{Node: by, Key: &key}
	switch {
	case trust.Key != nil && !trust.Key.Equal(key):
		return untrusted("the key %s signed it, not the named one", key)
	case trust.Key != nil:
		return nil
	case unknown != nil:
		return untrusted("no known key signed it, but the key %s: %v; compare the key with the party "+
			"that exported the archive, and import it with signer (--signer %s)", key, unknown, key.Hex())
	case by != node:
		return untrusted("partner %s signed it with the key %s, but only %s can say what its parts of "+
			"models are; import it with signer (--signer %s) if you agreed on that", by, key, node, key.Hex())
	}
	return nil
}

// checkSignature returns the certificates of the key that signed the manifest.
func (a *archive) checkSignature() ([]*x509.Certificate, error) {
	signature, err := a.read(signatureName, maxProof)
	if err != nil {
		return nil, err
	}
	text, err := a.read(certificatesName, maxProof)
	if err != nil {
		return nil, err
	}
	chain, err := certs.ParseCertificates(text)
	if err != nil {
		return nil, badArchive("%s: %v", certificatesName, err)
	}
	if err := certs.CheckSignature(chain[0], Format, a.text, signature); err != nil {
		return nil, badArchive("the signature is not valid: %s was altered, or another key signed it: %v",
			manifestName, err)
	}
	if sum := sha256.Sum256(text); hex.EncodeToString(sum[:]) != a.CertificatesSHA256 {
		return nil, badArchive("%s is not what its manifest says: the hashes differ", certificatesName)
	}
	return chain, nil
}
