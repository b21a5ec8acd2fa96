package paillier

import (
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
)

// Valid reports whether c can be a ciphertext under this key: a unit modulo n². Use it on everything that a
// partner sent.
func (pk *PublicKey) Valid(c *big.Int) bool {
	return c.Sign() > 0 && c.Cmp(pk.n2) < 0 && new(big.Int).GCD(nil, nil, c, pk.N).Cmp(one) == 0
}

// CiphertextBytes returns the length of an encoded ciphertext.
func (pk *PublicKey) CiphertextBytes() int { return (pk.n2.BitLen() + 7) / 8 }

// PlaintextBits returns the maximum length of a plaintext in bits, without its sign.
func (pk *PublicKey) PlaintextBits() int { return pk.N.BitLen() - 2 }

// Add adds the plaintexts of a and b. It writes the ciphertext to dst, which may be a or b, and returns it.
func (pk *PublicKey) Add(dst, a, b *big.Int) *big.Int {
	dst.Mul(a, b)
	return dst.Rem(dst, pk.n2)
}

// Shift multiplies the plaintext of c by 2^bits.
func (pk *PublicKey) Shift(c *big.Int, bits int) *big.Int {
	return pk.Scale(c, new(big.Int).Lsh(one, uint(bits)))
}

// Scale multiplies the plaintext of c by k, which must not be negative.
func (pk *PublicKey) Scale(c, k *big.Int) *big.Int {
	return new(big.Int).Exp(c, k, pk.n2)
}

// Randomise re-randomises c: the result is unlinkable to c and has the same plaintext.
func (pk *PublicKey) Randomise(c *big.Int) (*big.Int, error) {
	r, err := randomExponent(pk.N)
	if err != nil {
		return nil, err
	}
	return pk.Add(new(big.Int), c, pk.table().exp(r)), nil
}

// Encrypt encrypts m, which may be negative.
func (pk *PublicKey) Encrypt(m *big.Int) (*big.Int, error) {
	g, err := pk.embed(m)
	if err != nil {
		return nil, err
	}
	return pk.Randomise(g)
}

// embed returns g^m = 1 + m·n modulo n².
func (pk *PublicKey) embed(m *big.Int) (*big.Int, error) {
	if m.CmpAbs(pk.half) >= 0 {
		return nil, fmt.Errorf("a plaintext of %d bits does not fit a key of %d", m.BitLen(), pk.N.BitLen())
	}
	g := new(big.Int).Mul(m, pk.N)
	g.Add(g, one)
	return g.Mod(g, pk.n2), nil
}

// Encrypt encrypts m like [PublicKey.Encrypt], but faster: modulo p² and q².
func (k *PrivateKey) Encrypt(m *big.Int) (*big.Int, error) {
	g, err := k.embed(m)
	if err != nil {
		return nil, err
	}
	r, err := randomExponent(k.N)
	if err != nil {
		return nil, err
	}
	p := k.p.table().exp(r)
	q := k.q.table().exp(r)

	// Garner: q + q²·((p-q)/q² mod p²).
	p.Sub(p, q)
	p.Mul(p, k.qInv)
	p.Mod(p, k.p.square)
	p.Mul(p, k.q.square)
	p.Add(p, q)
	return k.Add(g, g, p), nil
}

// Decrypt returns the plaintext of c, which may be negative.
func (k *PrivateKey) Decrypt(c *big.Int) (*big.Int, error) {
	if !k.Valid(c) {
		return nil, errors.New("not a ciphertext of this key")
	}
	p, q := k.p.decrypt(c), k.q.decrypt(c)
	p.Sub(p, q)
	p.Mul(p, k.pInv)
	p.Mod(p, k.p.prime)
	p.Mul(p, k.q.prime)
	p.Add(p, q)
	if p.Cmp(k.half) > 0 {
		p.Sub(p, k.N)
	}
	return p, nil
}

func (h *half) decrypt(c *big.Int) *big.Int {
	u := new(big.Int).Mod(c, h.square)
	m := h.lFunction(u.Exp(u, h.minusOne, h.square))
	m.Mul(m, h.hInv)
	return m.Mod(m, h.prime)
}

func randomExponent(n *big.Int) (*big.Int, error) {
	r, err := rand.Int(rand.Reader, new(big.Int).Lsh(one, uint(exponentBits(n))))
	if err != nil {
		return nil, fmt.Errorf("failed to draw a random exponent: %w", err)
	}
	return r, nil
}

// AddPlain adds m, which may be negative, to the plaintext of c. It does not re-randomise c.
func (pk *PublicKey) AddPlain(c, m *big.Int) *big.Int {
	g := new(big.Int).Mul(m, pk.N)
	g.Add(g, one)
	g.Mod(g, pk.n2)
	return pk.Add(g, g, c)
}

// Mask adds a uniformly random number to the plaintext of c and re-randomises it. The party that decrypts the
// result learns nothing. [PublicKey.Unmask] removes the mask from the decrypted number.
func (pk *PublicKey) Mask(c *big.Int) (masked, mask *big.Int, err error) {
	if mask, err = rand.Int(rand.Reader, pk.N); err != nil {
		return nil, nil, fmt.Errorf("failed to draw a mask: %w", err)
	}
	masked, err = pk.Randomise(pk.AddPlain(c, mask))
	return masked, mask, err
}

// Unmask removes a mask from a decrypted number.
func (pk *PublicKey) Unmask(m, mask *big.Int) *big.Int {
	d := new(big.Int).Sub(m, mask)
	d.Mod(d, pk.N)
	if d.Cmp(pk.half) > 0 {
		d.Sub(d, pk.N)
	}
	return d
}

// EncodeCiphertexts concatenates ciphertexts, each with the length [PublicKey.CiphertextBytes].
func (pk *PublicKey) EncodeCiphertexts(cs []*big.Int) []byte {
	width := pk.CiphertextBytes()
	body := make([]byte, len(cs)*width)
	for i, c := range cs {
		c.FillBytes(body[i*width : (i+1)*width])
	}
	return body
}

// DecodeCiphertexts decodes the expected number of ciphertexts from a partner. It does not check them with
// [PublicKey.Valid].
func (pk *PublicKey) DecodeCiphertexts(body []byte, count int) ([]*big.Int, error) {
	width := pk.CiphertextBytes()
	if count < 0 || len(body)%width != 0 || len(body)/width != count {
		return nil, fmt.Errorf(
			"received %d bytes; expected %d ciphertexts of %d bytes", len(body), count, width,
		)
	}
	cs := make([]*big.Int, count)
	for i := range cs {
		cs[i] = new(big.Int).SetBytes(body[i*width : (i+1)*width])
	}
	return cs, nil
}
