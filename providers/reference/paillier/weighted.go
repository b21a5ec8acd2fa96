package paillier

import (
	"math/big"
	"math/bits"
)

// WeightedSum returns a ciphertext of the weighted sum of the plaintexts. It uses Pippenger's algorithm,
// which is many times faster than scaling each ciphertext: weights are cut into digits, ciphertexts of equal
// digit are multiplied once, and all share the squarings.
//
// Without ciphertexts, or if all weights are 0, it returns 1, a ciphertext of 0 without randomness. The
// result is linkable for a party that knows the randomness of the summands; see [PublicKey.Randomise].
func (pk *PublicKey) WeightedSum(cs []*big.Int, weights []int64) *big.Int {
	var plus, minus terms
	for i, w := range weights {
		switch {
		case w > 0:
			plus.add(cs[i], uint64(w))
		case w < 0:
			minus.add(cs[i], uint64(-w))
		}
	}

	m := multiplier{modulus: pk.n2}
	sum := plus.product(&m)
	if len(minus.cs) > 0 {
		less := minus.product(&m)
		m.mul(sum, less.ModInverse(less, pk.n2))
	}
	return sum
}

type terms struct {
	cs      []*big.Int
	weights []uint64
	bits    int // of the largest weight
}

func (t *terms) add(c *big.Int, w uint64) {
	t.cs, t.weights, t.bits = append(t.cs, c), append(t.weights, w), max(t.bits, bits.Len64(w))
}

// digit returns the number of bits per digit that needs the fewest multiplications.
func (t *terms) digit() int {
	best, least := 1, 0
	for d := 1; d <= 16; d++ {
		cost := (t.bits + d - 1) / d * (len(t.cs) + 2<<d)
		if d == 1 || cost < least {
			best, least = d, cost
		}
	}
	return best
}

// product returns the product of all terms, each raised to its weight.
func (t *terms) product(m *multiplier) *big.Int {
	result := big.NewInt(1)
	d := t.digit()
	for shift := (t.bits - 1) / d * d; shift >= 0 && t.bits > 0; shift -= d {
		for range d {
			m.mul(result, result)
		}
		buckets := make([]*big.Int, 1<<d)
		for i, w := range t.weights {
			if digit := w >> shift & (1<<d - 1); digit > 0 {
				if buckets[digit] == nil {
					buckets[digit] = new(big.Int).Set(t.cs[i])
				} else {
					m.mul(buckets[digit], t.cs[i])
				}
			}
		}

		// Σ digit·bucket: running includes each bucket as many times as its digit.
		var running *big.Int
		for digit := len(buckets) - 1; digit > 0; digit-- {
			if b := buckets[digit]; b != nil && running == nil {
				running = b
			} else if b != nil {
				m.mul(running, b)
			}
			if running != nil {
				m.mul(result, running)
			}
		}
	}
	return result
}

// multiplier multiplies modulo a number without allocations.
type multiplier struct {
	modulus           *big.Int
	product, quotient big.Int
}

// mul sets a to a·b.
func (m *multiplier) mul(a, b *big.Int) {
	m.product.Mul(a, b)
	m.quotient.QuoRem(&m.product, m.modulus, a)
}
