package certs

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
)

// Pin is the SHA-256 of a public key in the form of certificates (SubjectPublicKeyInfo, RFC 5280). A new
// certificate for the same key has the same pin.
type Pin [sha256.Size]byte

// PinOf returns the pin of a certificate's key.
func PinOf(cert *x509.Certificate) Pin { return sha256.Sum256(cert.RawSubjectPublicKeyInfo) }

// ParsePin parses a pin of 64 hexadecimal digits, with spaces or colons between them, or of base64. Both may
// begin with "sha256:" or "sha256/".
func ParsePin(text string) (Pin, error) {
	bare := strings.TrimSpace(text)
	if len(bare) > 7 && strings.EqualFold(bare[:6], "sha256") && (bare[6] == ':' || bare[6] == '/') {
		bare = bare[7:]
	}
	digits := strings.NewReplacer(" ", "", ":", "", "-", "", "\t", "", "\n", "").Replace(bare)
	b, err := hex.DecodeString(digits)
	if err != nil || len(b) != sha256.Size {
		b, err = base64.StdEncoding.DecodeString(bare)
	}
	if err != nil || len(b) != sha256.Size {
		return Pin{}, fmt.Errorf(
			"%.100q is not the SHA-256 of a public key: write its 64 hexadecimal digits, as "+
				"`hutong cert show` prints them",
			text,
		)
	}
	return Pin(b), nil
}

// String returns the pin as 16 groups of four hexadecimal digits, which two people can compare by telephone.
func (p Pin) String() string {
	digits := strings.ToUpper(hex.EncodeToString(p[:]))
	groups := make([]string, 0, len(digits)/4)
	for i := 0; i < len(digits); i += 4 {
		groups = append(groups, digits[i:i+4])
	}
	return strings.Join(groups, " ")
}

// Hex returns the pin as 64 hexadecimal digits, in lower case.
func (p Pin) Hex() string { return hex.EncodeToString(p[:]) }

// Equal compares two pins in constant time.
func (p Pin) Equal(other Pin) bool { return subtle.ConstantTimeCompare(p[:], other[:]) == 1 }

// MarshalText returns [Pin.Hex].
func (p Pin) MarshalText() ([]byte, error) { return []byte(p.Hex()), nil }

// UnmarshalText is [ParsePin].
func (p *Pin) UnmarshalText(text []byte) (err error) {
	*p, err = ParsePin(string(text))
	return err
}
