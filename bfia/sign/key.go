package sign

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"hash"
	"strings"

	"github.com/emmansun/gmsm/sm2"
	"github.com/emmansun/gmsm/sm3"
	"github.com/emmansun/gmsm/smx509"
)

// Algorithm is an algorithm of signatures, with the names that BFIA gives to auth_type. The key determines
// it, so that a request can't choose a weaker one.
type Algorithm string

// The algorithms.
const (
	RSA   Algorithm = "SHA256_RSA"   // RSASSA-PKCS1-v1_5 with SHA-256; keys of at least 2048 bits
	ECDSA Algorithm = "SHA256_ECDSA" // ECDSA on P-256 with SHA-256; the signature is DER
	SM2   Algorithm = "SM2_SM3"      // GB/T 32918 with SM3, the default user id; the signature is DER
)

// NewHash returns a hash function for the bodies of requests.
func (a Algorithm) NewHash() hash.Hash {
	if a == SM2 {
		return sm3.New()
	}
	return sha256.New()
}

// userID is the user id of SM2 signatures that GB/T 35276 prescribes where the parties have agreed on none.
var userID = []byte("1234567812345678")

// minRSA is the least size of an RSA key, in bits.
const minRSA = 2048

// PrivateKey signs requests. It never prints its key.
type PrivateKey struct {
	algorithm Algorithm
	sign      func(message []byte) ([]byte, error)
	public    any
}

// PublicKey verifies requests.
type PublicKey struct {
	algorithm Algorithm
	key       any // *rsa.PublicKey or *ecdsa.PublicKey, also for SM2
}

// Algorithm returns the algorithm of the key.
func (k *PrivateKey) Algorithm() Algorithm { return k.algorithm }

// Algorithm returns the algorithm of the key.
func (k *PublicKey) Algorithm() Algorithm { return k.algorithm }

// String returns the algorithm.
func (k *PrivateKey) String() string { return string(k.algorithm) + " private key" }

// GoString returns the algorithm.
func (k *PrivateKey) GoString() string { return k.String() }

// Public returns the public key.
func (k *PrivateKey) Public() *PublicKey { return &PublicKey{k.algorithm, k.public} }

// ParsePrivateKey parses a private key in PEM: PKCS #8, PKCS #1 or SEC 1, not encrypted. An error never
// repeats a part of the key.
func ParsePrivateKey(text []byte) (*PrivateKey, error) {
	block, _, err := decodePEM(text)
	if err != nil {
		return nil, err
	}
	var key any
	switch block.Type {
	case "PRIVATE KEY":
		key, err = smx509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = smx509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY", "SM2 PRIVATE KEY":
		key, err = smx509.ParseTypedECPrivateKey(block.Bytes)
	case "ENCRYPTED PRIVATE KEY":
		return nil, errors.New("the key is encrypted; decrypt it with openssl pkey, and protect the file")
	default:
		return nil, fmt.Errorf("the PEM block is a %s, must be a PRIVATE KEY", block.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("failed to parse the %s: %w", block.Type, err)
	}
	return newPrivateKey(key)
}

func newPrivateKey(key any) (*PrivateKey, error) {
	switch k := key.(type) {
	case *rsa.PrivateKey:
		public, err := newPublicKey(&k.PublicKey)
		if err != nil {
			return nil, err
		}
		return &PrivateKey{RSA, func(message []byte) ([]byte, error) {
			digest := sha256.Sum256(message)
			return rsa.SignPKCS1v15(rand.Reader, k, crypto.SHA256, digest[:])
		}, public.key}, nil
	case *ecdsa.PrivateKey:
		public, err := newPublicKey(&k.PublicKey)
		if err != nil {
			return nil, err
		}
		return &PrivateKey{ECDSA, func(message []byte) ([]byte, error) {
			digest := sha256.Sum256(message)
			return ecdsa.SignASN1(rand.Reader, k, digest[:])
		}, public.key}, nil
	case *sm2.PrivateKey:
		public, err := newPublicKey(&k.PublicKey)
		if err != nil {
			return nil, err
		}
		return &PrivateKey{SM2, func(message []byte) ([]byte, error) {
			return k.SignWithSM2(rand.Reader, userID, message)
		}, public.key}, nil
	}
	return nil, fmt.Errorf("a key of type %T can't sign requests; use RSA, EC on P-256, or SM2", key)
}

// ParsePublicKeys parses the public keys and certificates of a PEM file: one, or several while a partner
// replaces its key. It uses a certificate's key only, and checks neither its names nor its validity: a pinned
// key.
func ParsePublicKeys(text []byte) ([]*PublicKey, error) {
	var keys []*PublicKey
	for {
		block, rest, err := decodePEM(text)
		if err != nil {
			if len(keys) > 0 {
				return keys, nil
			}
			return nil, err
		}
		key, err := parsePublicKey(block)
		if err != nil {
			return nil, err
		}
		keys, text = append(keys, key), rest
	}
}

func parsePublicKey(block *pem.Block) (*PublicKey, error) {
	var key any
	var err error
	switch {
	case block.Type == "PUBLIC KEY":
		key, err = smx509.ParsePKIXPublicKey(block.Bytes)
	case block.Type == "RSA PUBLIC KEY":
		key, err = smx509.ParsePKCS1PublicKey(block.Bytes)
	case block.Type == "CERTIFICATE":
		var certificate *smx509.Certificate
		if certificate, err = smx509.ParseCertificate(block.Bytes); err == nil {
			key = certificate.PublicKey
		}
	case strings.HasSuffix(block.Type, "PRIVATE KEY"):
		return nil, errors.New("the file has a private key; ask the partner for the public key")
	default:
		return nil, fmt.Errorf("the PEM block is a %s, must be a PUBLIC KEY or a CERTIFICATE", block.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("failed to parse the %s: %w", block.Type, err)
	}
	return newPublicKey(key)
}

func newPublicKey(key any) (*PublicKey, error) {
	switch k := key.(type) {
	case *rsa.PublicKey:
		if k.N.BitLen() < minRSA {
			return nil, fmt.Errorf("the RSA key has %d bits, must have at least %d", k.N.BitLen(), minRSA)
		}
		return &PublicKey{RSA, k}, nil
	case *ecdsa.PublicKey:
		switch {
		case sm2.IsSM2PublicKey(k):
			return &PublicKey{SM2, k}, nil
		case k.Curve == elliptic.P256():
			return &PublicKey{ECDSA, k}, nil
		}
		return nil, fmt.Errorf("the key is on the curve %s, must be on P-256 or SM2", k.Params().Name)
	}
	return nil, fmt.Errorf("a key of type %T can't verify requests; use RSA, EC on P-256, or SM2", key)
}

// decodePEM returns the next block of a PEM file that is not the parameters of a curve, and the rest.
func decodePEM(text []byte) (*pem.Block, []byte, error) {
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return nil, nil, errors.New("the file has no PEM block")
		}
		if !strings.HasSuffix(block.Type, "PARAMETERS") {
			return block, text, nil
		}
	}
}

// Sign returns the value of x-auth-sign for a request and the digest of its body, which must be of
// [Algorithm.NewHash].
func (k *PrivateKey) Sign(r Request, digest []byte) (string, error) {
	if err := r.check(); err != nil {
		return "", fmt.Errorf("failed to sign a request: %w", err)
	}
	signature, err := k.sign(r.canonical(k.algorithm.NewHash(), digest))
	if err != nil {
		return "", fmt.Errorf("failed to sign a request: %w", err)
	}
	return base64.StdEncoding.EncodeToString(signature), nil
}

// ErrSignature is the error for a signature that does not match the request.
var ErrSignature = errors.New("header " + HeaderSignature + ": the signature does not match the request " +
	"and the partner's key; compare keys and algorithms, and look for a gateway that changes requests")

// Verify returns [ErrSignature], or another error for a malformed request or signature, unless the owner of
// the key has signed the request. It checks neither the node ids nor the time nor the nonce.
func (k *PublicKey) Verify(r Request, digest []byte, signature string) error {
	if err := r.check(); err != nil {
		return err
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(signature)
	if err != nil || strings.ContainsAny(signature, "\r\n") {
		return errors.New("header " + HeaderSignature + ": is not base64")
	}
	message := r.canonical(k.algorithm.NewHash(), digest)
	var good bool
	switch k.algorithm {
	case RSA:
		sum := sha256.Sum256(message)
		good = rsa.VerifyPKCS1v15(k.key.(*rsa.PublicKey), crypto.SHA256, sum[:], raw) == nil
	case ECDSA:
		sum := sha256.Sum256(message)
		good = ecdsa.VerifyASN1(k.key.(*ecdsa.PublicKey), sum[:], raw)
	case SM2:
		good = sm2.VerifyASN1WithSM2(k.key.(*ecdsa.PublicKey), userID, message, raw)
	}
	if !good {
		return ErrSignature
	}
	return nil
}

// Fingerprint identifies the key without revealing more than the key itself does: the hexadecimal SHA-256 of
// its public form (SubjectPublicKeyInfo).
func (k *PublicKey) Fingerprint() string {
	der, err := smx509.MarshalPKIXPublicKey(k.key)
	if err != nil {
		return "" // never: the key was parsed from that form, or a certificate
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}
