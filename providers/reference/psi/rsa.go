package psi

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"math/big"

	"hutong-reference/parallel"
)

var hashes = map[string]func() hash.Hash{"sha256": sha256.New, "sha512": sha512.New}

var one = big.NewInt(1)

// scheme holds the computations that both sides share.
type scheme struct {
	n, e      *big.Int
	hash      func() hash.Hash // of ids
	finalHash func() hash.Hash // of signatures
}

func (s *scheme) width() int { return (s.n.BitLen() + 7) / 8 }

// hashID maps an id to a pseudorandom number below n (full-domain hash). It hashes to 16 bytes more than n
// has, so that the remainder is nearly uniform.
func (s *scheme) hashID(id string) *big.Int {
	want := s.width() + 16
	out := make([]byte, 0, want+64)
	for block := uint32(0); len(out) < want; block++ {
		h := s.hash()
		h.Write([]byte("hutong psi id\x00"))
		h.Write(binary.BigEndian.AppendUint32(nil, block))
		h.Write(s.n.Bytes())
		h.Write([]byte(id))
		out = h.Sum(out)
	}

	x := new(big.Int).SetBytes(out[:want])
	return x.Mod(x, s.n)
}

// token hashes a signature to the value that both sides compare.
func (s *scheme) token(signature *big.Int) []byte {
	h := s.finalHash()
	h.Write([]byte("hutong psi token\x00"))
	h.Write(signature.FillBytes(make([]byte, s.width())))
	return h.Sum(nil)
}

// signer adds the private key to the scheme, at the host.
type signer struct {
	scheme
	d, p, q, dp, dq, qInv *big.Int
}

func newSigner(bits int, hashMethod, finalHashMethod string) (*signer, error) {
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		return nil, fmt.Errorf("failed to generate an RSA key: %w", err)
	}
	p, q := key.Primes[0], key.Primes[1]
	return &signer{
		scheme: scheme{key.N, big.NewInt(int64(key.E)), hashes[hashMethod], hashes[finalHashMethod]},
		d:      key.D, p: p, q: q,
		dp:   new(big.Int).Mod(key.D, new(big.Int).Sub(p, one)),
		dq:   new(big.Int).Mod(key.D, new(big.Int).Sub(q, one)),
		qInv: new(big.Int).ModInverse(q, p),
	}, nil
}

// sign replaces each number by its d-th power modulo n. All numbers must be below n.
func (s *signer) sign(ctx context.Context, xs []*big.Int) error {
	return parallel.Ranges(ctx, len(xs), func(ctx context.Context, from, to int) error {
		r, rInv, err := blindingPair(s.n, s.e)
		if err != nil {
			return err
		}
		for i := from; i < to && ctx.Err() == nil; i++ {
			x := mulMod(xs[i], r, s.n)
			y := mulMod(s.power(x), rInv, s.n)
			if new(big.Int).Exp(y, s.e, s.n).Cmp(xs[i]) != 0 {
				return errors.New("a computed signature is invalid: faulty hardware?")
			}
			xs[i] = y
			// The squares of a blinding pair are another blinding pair.
			r, rInv = mulMod(r, r, s.n), mulMod(rInv, rInv, s.n)
		}
		return context.Cause(ctx)
	})
}

// power returns x^d, computed modulo the two primes and joined by the Chinese remainder theorem.
func (s *signer) power(x *big.Int) *big.Int {
	a := new(big.Int).Mod(x, s.p)
	a.Exp(a, s.dp, s.p)
	b := new(big.Int).Mod(x, s.q)
	b.Exp(b, s.dq, s.q)
	a.Sub(a, b)
	a.Mul(a, s.qInv)
	a.Mod(a, s.p)
	a.Mul(a, s.q)
	return a.Add(a, b)
}

// blindingPair returns r^e and 1/r for a random r.
func blindingPair(n, e *big.Int) (re, rInv *big.Int, err error) {
	for {
		r, err := rand.Int(rand.Reader, n)
		if err != nil {
			return nil, nil, fmt.Errorf("failed to draw a random number: %w", err)
		}
		if rInv := new(big.Int).ModInverse(r, n); rInv != nil {
			return new(big.Int).Exp(r, e, n), rInv, nil
		}
	}
}

func mulMod(a, b, n *big.Int) *big.Int {
	c := new(big.Int).Mul(a, b)
	return c.Mod(c, n)
}

func encodeNumbers(xs []*big.Int, width int) []byte {
	out := make([]byte, len(xs)*width)
	for i, x := range xs {
		x.FillBytes(out[i*width : (i+1)*width])
	}
	return out
}

// decodeNumbers decodes numbers from a partner. All must be between 1 and n-1.
func decodeNumbers(b []byte, width int, n *big.Int) ([]*big.Int, error) {
	if len(b)%width != 0 {
		return nil, fmt.Errorf("%d bytes are not a list of numbers of %d bytes", len(b), width)
	}
	xs := make([]*big.Int, len(b)/width)
	for i := range xs {
		xs[i] = new(big.Int).SetBytes(b[i*width : (i+1)*width])
		if xs[i].Sign() == 0 || xs[i].Cmp(n) >= 0 {
			return nil, errors.New("a number is outside of the key's range")
		}
	}
	return xs, nil
}

// decodeTokens decodes tokens from a partner. They must be sorted and unique.
func decodeTokens(b []byte, width int) ([][]byte, error) {
	if len(b)%width != 0 {
		return nil, fmt.Errorf("%d bytes are not a list of tokens of %d bytes", len(b), width)
	}
	tokens := make([][]byte, len(b)/width)
	for i := range tokens {
		tokens[i] = b[i*width : (i+1)*width]
		if i > 0 && bytes.Compare(tokens[i-1], tokens[i]) >= 0 {
			return nil, errors.New("the tokens are not sorted or not unique")
		}
	}
	return tokens, nil
}
