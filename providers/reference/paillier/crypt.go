package paillier

import (
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
)

// Valid tells whether c can be a ciphertext under this key: a unit modulo n². Check what a partner sent.
func (pk *PublicKey) Valid(c *big.Int) bool {
	return c.Sign() > 0 && c.Cmp(pk.n2) < 0 && new(big.Int).GCD(nil, nil, c, pk.N).Cmp(one) == 0
}

// CiphertextBytes is the length of every encoded ciphertext.
func (pk *PublicKey) CiphertextBytes() int { return (pk.n2.BitLen() + 7) / 8 }

// PlaintextBits is how many bits a plaintext may have beside its sign.
func (pk *PublicKey) PlaintextBits() int { return pk.N.BitLen() - 2 }

// Add is the sum of what a and b hide. It writes to dst, which may be a or b, and returns it.
func (pk *PublicKey) Add(dst, a, b *big.Int) *big.Int {
	dst.Mul(a, b)
	return dst.Rem(dst, pk.n2)
}

// Shift multiplies what c hides by 2^bits.
func (pk *PublicKey) Shift(c *big.Int, bits int) *big.Int {
	return pk.Scale(c, new(big.Int).Lsh(one, uint(bits)))
}

// Scale multiplies what c hides by k, which is not negative.
func (pk *PublicKey) Scale(c, k *big.Int) *big.Int {
	return new(big.Int).Exp(c, k, pk.n2)
}

// Randomise makes c unrecognisable without changing what it hides.
func (pk *PublicKey) Randomise(c *big.Int) (*big.Int, error) {
	r, err := randomExponent(pk.N)
	if err != nil {
		return nil, err
	}
	return pk.Add(new(big.Int), c, pk.table().exp(r)), nil
}

// Encrypt hides m, which may be negative, with the public key alone.
func (pk *PublicKey) Encrypt(m *big.Int) (*big.Int, error) {
	g, err := pk.embed(m)
	if err != nil {
		return nil, err
	}
	return pk.Randomise(g)
}

// embed is g^m = 1 + m·n modulo n².
func (pk *PublicKey) embed(m *big.Int) (*big.Int, error) {
	if m.CmpAbs(pk.half) >= 0 {
		return nil, fmt.Errorf("a plaintext of %d bits does not fit a key of %d", m.BitLen(), pk.N.BitLen())
	}
	g := new(big.Int).Mul(m, pk.N)
	g.Add(g, one)
	return g.Mod(g, pk.n2), nil
}

// Encrypt hides m like the public key does, but by halves.
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

// Decrypt returns what c hides, negative numbers as such.
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
		return nil, fmt.Errorf("draw a random exponent: %w", err)
	}
	return r, nil
}

// AddPlain adds m, which may be negative, to what c hides. It does not make c unrecognisable.
func (pk *PublicKey) AddPlain(c, m *big.Int) *big.Int {
	g := new(big.Int).Mul(m, pk.N)
	g.Add(g, one)
	g.Mod(g, pk.n2)
	return pk.Add(g, g, c)
}

// Mask adds a random number to what c hides, drawn evenly from all plaintexts, and makes c unrecognisable: who decrypts
// it learns nothing. [PublicKey.Unmask] takes the mask off what was decrypted.
func (pk *PublicKey) Mask(c *big.Int) (masked, mask *big.Int, err error) {
	if mask, err = rand.Int(rand.Reader, pk.N); err != nil {
		return nil, nil, fmt.Errorf("draw a mask: %w", err)
	}
	masked, err = pk.Randomise(pk.AddPlain(c, mask))
	return masked, mask, err
}

// Unmask takes a mask off a decrypted number.
func (pk *PublicKey) Unmask(m, mask *big.Int) *big.Int {
	d := new(big.Int).Sub(m, mask)
	d.Mod(d, pk.N)
	if d.Cmp(pk.half) > 0 {
		d.Sub(d, pk.N)
	}
	return d
}

// EncodeCiphertexts writes ciphertexts one after the other, each of [PublicKey.CiphertextBytes].
func (pk *PublicKey) EncodeCiphertexts(cs []*big.Int) []byte {
	width := pk.CiphertextBytes()
	body := make([]byte, len(cs)*width)
	for i, c := range cs {
		c.FillBytes(body[i*width : (i+1)*width])
	}
	return body
}

// DecodeCiphertexts reads as many ciphertexts as expected from a partner. They are not yet checked to be valid.
func (pk *PublicKey) DecodeCiphertexts(body []byte, count int) ([]*big.Int, error) {
	width := pk.CiphertextBytes()
	if count < 0 || len(body)%width != 0 || len(body)/width != count {
		return nil, fmt.Errorf("%d bytes where %d ciphertexts of %d bytes are expected", len(body), count, width)
	}
	cs := make([]*big.Int, count)
	for i := range cs {
		cs[i] = new(big.Int).SetBytes(body[i*width : (i+1)*width])
	}
	return cs, nil
}
