package certs

import (
	"crypto"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestSigner signs with each kind of key. A signature counts for its message, purpose and key only.
func TestSigner(t *testing.T) {
	ec, err := NewKey()
	require.NoError(t, err)
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	signerOf := func(key crypto.Signer) Signer {
		text, err := SelfSignedFor(key, Leaf{Node: "A"})
		require.NoError(t, err)
		chain, err := ParseCertificates(text)
		require.NoError(t, err)
		return Signer{Key: key, Chain: chain}
	}
	other := signerOf(ec)
	for name, key := range map[string]crypto.Signer{"ECDSA": ec, "Ed25519": ed, "RSA": rsaKey} {
		t.Run(name, func(t *testing.T) {
			s := signerOf(key)
			chain, err := ParseCertificates(s.Certificates())
			require.NoError(t, err)
			signature, err := s.Sign("p", []byte("m"))
			require.NoError(t, err)
			require.NoError(t, CheckSignature(chain[0], "p", []byte("m"), signature))
			require.Error(t, CheckSignature(chain[0], "p", []byte("n"), signature))
			require.Error(t, CheckSignature(chain[0], "q", []byte("m"), signature))
			require.Error(t, CheckSignature(chain[0], "p", []byte("m"), nil))
			if name != "ECDSA" {
				require.Error(t, CheckSignature(other.Chain[0], "p", []byte("m"), signature))
			}
		})
	}
	_, err = Signer{Key: ec}.Sign("p", nil)
	require.ErrorContains(t, err, "the key has no certificate")
	unknown := signerOf(ec)
	unknown.Key = curve{ec}
	_, err = unknown.Sign("p", nil)
	require.ErrorContains(t, err, "can't sign; use ECDSA, RSA or Ed25519")
}

// curve is a key of a kind that can't sign.
type curve struct{ crypto.Signer }

func (curve) Public() crypto.PublicKey { return elliptic.P256() }
