package lr

import (
	"math"
	"math/big"
	"math/bits"

	"hutong-reference/channel"
)

// precision is how many bits of a number lie behind the binary point: features and scores are rounded to 2^-32.
const precision = 32

// limit is how large a feature or a party's share of a score may be.
const (
	limitBits = 20
	limit     = 1 << limitBits
)

// fix rounds; v is less than limit.
func fix(v float64) int64 { return int64(math.Round(math.Ldexp(v, precision))) }

// float turns a fixed-point number with the given bits behind the point back.
func float(v *big.Int, behind int) float64 {
	f, _ := new(big.Float).SetInt(v).Float64()
	return math.Ldexp(f, -behind)
}

// bigFix is v as a fixed-point number with the given bits behind the point, for what is larger than a score.
func bigFix(v float64, behind int) *big.Int {
	f := new(big.Float).SetMantExp(big.NewFloat(v), behind)
	out, _ := f.Int(nil)
	return out
}

// dot is Σ a·b, exactly.
func dot(a, b []int64) *big.Int {
	sum, product := new(big.Int), new(big.Int)
	y := new(big.Int)
	for i := range a {
		sum.Add(sum, product.Mul(product.SetInt64(a[i]), y.SetInt64(b[i])))
	}
	return sum
}

// Widths, in bits, of what is packed beside each other for the arbiter, sign included. A party's share of a row is its score, less
// twice the label at the guest: below limit+2 in size.
func gradientWidth(rows, parties int) int {
	return 2*(precision+limitBits) + 1 + bits.Len(uint(rows)) + bits.Len(uint(parties)) + 1
}

func scoreWidth(parties int) int { return precision + limitBits + 1 + bits.Len(uint(parties)) + 1 }

// statusWidth is for 8 times the loss of all rows, and for the squared length of a step. Beyond squares of scores there is room for
// penalties: weights are below limit, alpha below 2^20, features fewer than 2^24.
func statusWidth(rows, parties int) int {
	return 2*(precision+limitBits) + 72 + bits.Len(uint(rows)) + 2*bits.Len(uint(parties))
}

// errTooLarge is told when scores run away.
func errTooLarge(who string) error {
	return channel.Errorf("the scores at %s have grown beyond %d: the training runs away; standardise the features or lower learning_rate", who, limit)
}
