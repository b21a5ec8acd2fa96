package partners

import (
	"errors"
	"fmt"
	"hash"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"

	"hutong/bfia"
	"hutong/bfia/sign"
	"hutong/internal/certs"
)

// SignKeys are the keys for signatures between this party and a partner. They are read again when their files
// change.
type SignKeys struct {
	own     *certs.File[*sign.PrivateKey]
	partner *certs.File[[]*sign.PublicKey]
}

// LoadSignKeys reads the key with which this party signs what it sends to a partner, and the keys with which
// the partner signs: one, or several while the partner replaces its key. The error names the field of the
// route, the file and the reason.
func LoadSignKeys(keyFile, partnerKeyFile string, logger *slog.Logger) (SignKeys, error) {
	own, err := certs.LoadFile("the signing key "+keyFile, keyFile, sign.ParsePrivateKey, logger)
	if err != nil {
		return SignKeys{}, fmt.Errorf("sign.key_file: %w", err)
	}
	partner, err := certs.LoadFile("the partner's signing key "+partnerKeyFile, partnerKeyFile,
		sign.ParsePublicKeys, logger)
	if err != nil {
		return SignKeys{}, fmt.Errorf("sign.partner_key_file: %w", err)
	}
	return SignKeys{own, partner}, nil
}

// Signatures signs requests and verifies signatures by the profile hutong-1 of [hutong/bfia/sign]. It is the
// [Method] of [Sign] and of [MTLSSign].
type Signatures struct {
	// Node is this party.
	Node string
	// Keys holds the keys by partner.
	Keys map[string]SignKeys
	// Nonces remembers what partners have sent.
	Nonces Nonces
	// Bodies bounds what is read before a signature is verified.
	Bodies Bodies
}

var _ Method = (*Signatures)(nil)

// Claims implements [Method]: a request with a signature claims to come from its x-source-node-id.
func (s *Signatures) Claims(r *http.Request) (node string, ok bool, err error) {
	return r.Header.Get(sign.HeaderSource), r.Header.Get(sign.HeaderSignature) != "", nil
}

// Verify implements [Method]. It reads the body, refuses a request that is for another node, too old or too
// new, or a replay, and identifies the proof by the algorithm and the partner's key.
func (s *Signatures) Verify(r *http.Request, from Partner) (credential string, err error) {
	keys, found := s.Keys[from.Node]
	if !found {
		return "", fmt.Errorf("this party has no keys for node %s: set sign of its route", from.Node)
	}
	signature, err := sign.Signature(r.Header)
	if err != nil {
		return "", err
	}
	signed, err := sign.FromHeader(r.Method, r.URL.RequestURI(), r.Header)
	if err != nil {
		return "", err
	}
	switch {
	case signed.Source != from.Node:
		return "", fmt.Errorf("header %s names node %.128q, not node %s", sign.HeaderSource, signed.Source,
			from.Node)
	case signed.Destination != s.Node:
		return "", fmt.Errorf("header %s names node %.128q: this is node %s", sign.HeaderTarget,
			signed.Destination, s.Node)
	}
	if err := signed.CheckTime(time.Now()); err != nil {
		return "", err
	}

	// Partners may change from one algorithm to another, so each has a hash of its own.
	hashes := map[sign.Algorithm]hash.Hash{}
	var all []hash.Hash
	candidates := keys.partner.Get()
	for _, key := range candidates {
		if hashes[key.Algorithm()] == nil {
			hashes[key.Algorithm()] = key.Algorithm().NewHash()
			all = append(all, hashes[key.Algorithm()])
		}
	}
	if err := s.Bodies.read(r, all...); err != nil {
		return "", err
	}
	err = sign.ErrSignature
	for _, key := range candidates {
		if err = key.Verify(signed, hashes[key.Algorithm()].Sum(nil), signature); err == nil {
			credential = string(key.Algorithm()) + " " + key.Fingerprint()
			break
		}
	}
	if err != nil {
		return "", err
	}
	return credential, useNonce(r, s.Nonces, from.Node, signed.Nonce, "", errReplay)
}

var errReplay = errors.New("header " + sign.HeaderNonce + ": the request is a replay of an earlier one; " +
	"a retry must have a new nonce and a new signature")

// Prove implements [Method]: it signs a request, with a new nonce and the time of now.
func (s *Signatures) Prove(r *http.Request, to Partner) error {
	keys, found := s.Keys[to.Node]
	if !found {
		return fmt.Errorf("this party has no keys for node %s: set sign of its route", to.Node)
	}
	target, err := protocolTarget(r.URL, to)
	if err != nil {
		return err
	}
	r.Header.Set(sign.HeaderSource, s.Node)
	r.Header.Set(sign.HeaderTarget, to.Node)
	r.Header.Set(sign.HeaderNonce, uuid.NewString())
	bfia.SetTimestamp(r.Header, time.Now())
	signed, err := sign.FromHeader(r.Method, target, r.Header)
	if err != nil {
		return fmt.Errorf("failed to sign a request: %w", err)
	}
	own := keys.own.Get()
	sum, err := digest(r, own.Algorithm().NewHash())
	if err != nil {
		return fmt.Errorf("failed to sign a request: %w", err)
	}
	signature, err := own.Sign(signed, sum)
	if err != nil {
		return err
	}
	r.Header.Set(sign.HeaderSignature, signature)
	return nil
}

// protocolTarget returns the path and query of a request without the prefix of the partner's URL, which its
// gateway removes.
func protocolTarget(u *url.URL, to Partner) (string, error) {
	for _, base := range []string{to.URL, to.Transport()} {
		parsed, err := url.Parse(base)
		if err != nil {
			return "", fmt.Errorf("the URL %q of node %s is not valid: %w", base, to.Node, err)
		}
		if parsed.Host != u.Host || parsed.Scheme != u.Scheme {
			continue
		}
		prefix := strings.TrimRight(parsed.EscapedPath(), "/")
		if rest, ok := strings.CutPrefix(u.RequestURI(), prefix); ok && strings.HasPrefix(rest, "/") {
			return rest, nil
		}
	}
	return "", fmt.Errorf("the request is to %s, which is not a URL of node %s", u.Redacted(), to.Node)
}
