package paillier

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"math/big"
	"sync"
)

// MinKeyBits is the length of the shortest supported key. Use 2048 for real data.
const MinKeyBits = 1024

var one = big.NewInt(1)

// PublicKey encrypts and computes on ciphertexts. It is safe for concurrent use.
type PublicKey struct {
	N  *big.Int
	HS *big.Int // generator of the randomness, modulo n²

	n2    *big.Int
	half  *big.Int // n/2; larger plaintexts represent negative numbers
	table func() *fixedBase
}

// PrivateKey decrypts, and encrypts faster than the public key does. It is safe for concurrent use.
type PrivateKey struct {
	PublicKey
	p, q half
	qInv *big.Int // q² inverted modulo p², to join the halves of a ciphertext
	pInv *big.Int // q inverted modulo p, to join the halves of a plaintext
}

// half holds the values for computations modulo the square of one of the two primes.
type half struct {
	prime, square *big.Int
	minusOne      *big.Int // prime-1
	hInv          *big.Int // L(g^(prime-1)) inverted
	table         func() *fixedBase
}

// NewPublicKey returns the key that a partner sent. It refuses numbers that can't be a key.
func NewPublicKey(n, hs *big.Int) (*PublicKey, error) {
	if n.BitLen() < MinKeyBits || n.Bit(0) == 0 {
		return nil, fmt.Errorf(
			"a Paillier modulus of %d bits: must be odd and have at least %d bits", n.BitLen(), MinKeyBits,
		)
	}
	pk := &PublicKey{N: n, HS: hs, n2: new(big.Int).Mul(n, n), half: new(big.Int).Rsh(n, 1)}
	if !pk.Valid(hs) || hs.Cmp(one) == 0 {
		return nil, errors.New("the Paillier generator is not a unit modulo n²")
	}
	pk.table = sync.OnceValue(func() *fixedBase { return newFixedBase(hs, pk.n2, exponentBits(n)) })
	return pk, nil
}

// exponentBits returns the length of the random exponents, which is half of the key's.
func exponentBits(n *big.Int) int { return (n.BitLen() + 1) / 2 }

// GenerateKey generates a key of exactly the given number of bits, which must be even and at least
// [MinKeyBits].
func GenerateKey(bits int) (*PrivateKey, error) {
	if bits < MinKeyBits || bits%2 != 0 {
		return nil, fmt.Errorf(
			"a Paillier key of %d bits: must be an even number of at least %d", bits, MinKeyBits,
		)
	}
	for {
		p, err := blumPrime(bits / 2)
		if err != nil {
			return nil, err
		}
		q, err := blumPrime(bits / 2)
		if err != nil {
			return nil, err
		}
		pLess, qLess := new(big.Int).Sub(p, one), new(big.Int).Sub(q, one)
		n := new(big.Int).Mul(p, q)
		if p.Cmp(q) == 0 || n.BitLen() != bits ||
			new(big.Int).GCD(nil, nil, pLess, qLess).Cmp(big.NewInt(2)) != 0 {
			continue
		}
		return newPrivateKey(p, q)
	}
}

// blumPrime returns a prime congruent to 3 modulo 4. Its two top bits are set, so that the product of two
// such primes has the full length.
func blumPrime(bits int) (*big.Int, error) {
	for {
		p, err := rand.Prime(rand.Reader, bits)
		if err != nil {
			return nil, fmt.Errorf("failed to find a prime: %w", err)
		}
		if p.Bit(1) == 1 {
			return p, nil
		}
	}
}

func newPrivateKey(p, q *big.Int) (*PrivateKey, error) {
	n := new(big.Int).Mul(p, q)
	n2 := new(big.Int).Mul(n, n)
	x, err := randomUnit(rand.Reader, n)
	if err != nil {
		return nil, err
	}
	h := new(big.Int).Mul(x, x)
	h.Neg(h).Mod(h, n)
	pk, err := NewPublicKey(n, new(big.Int).Exp(h, n, n2))
	if err != nil {
		return nil, err
	}
	k := &PrivateKey{PublicKey: *pk}
	k.p, k.q = newHalf(p, pk), newHalf(q, pk)
	k.qInv = new(big.Int).ModInverse(k.q.square, k.p.square)
	k.pInv = new(big.Int).ModInverse(q, p)
	return k, nil
}

func newHalf(prime *big.Int, pk *PublicKey) half {
	h := half{prime: prime, square: new(big.Int).Mul(prime, prime), minusOne: new(big.Int).Sub(prime, one)}
	g := new(big.Int).Add(pk.N, one)
	h.hInv = new(big.Int).ModInverse(h.lFunction(g.Exp(g, h.minusOne, h.square)), prime)
	h.table = sync.OnceValue(func() *fixedBase {
		return newFixedBase(new(big.Int).Mod(pk.HS, h.square), h.square, exponentBits(pk.N))
	})
	return h
}

// lFunction computes L(u) = (u-1)/prime.
func (h *half) lFunction(u *big.Int) *big.Int {
	u = new(big.Int).Sub(u, one)
	return u.Quo(u, h.prime)
}

// randomUnit returns a uniformly random unit modulo n.
func randomUnit(r io.Reader, n *big.Int) (*big.Int, error) {
	for {
		x, err := rand.Int(r, n)
		if err != nil {
			return nil, fmt.Errorf("failed to draw a random number: %w", err)
		}
		if x.Sign() > 0 && new(big.Int).GCD(nil, nil, x, n).Cmp(one) == 0 {
			return x, nil
		}
	}
}
