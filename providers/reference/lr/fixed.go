package lr

import (
	"math"
	"math/big"
	"math/bits"

	"hutong-reference/channel"
)

// precision is the number of fractional bits. Features and scores are rounded to 2^-32.
const precision = 32

// maxValue limits the absolute value of a feature and of a party's share of a score.
const (
	maxValueBits = 20
	maxValue     = 1 << maxValueBits
)

// toFixed converts v, whose absolute value must be below maxValue, to a fixed-point number.
func toFixed(v float64) int64 { return int64(math.Round(math.Ldexp(v, precision))) }

// fromFixed converts a fixed-point number with the given number of fractional bits to a float.
func fromFixed(v *big.Int, behind int) float64 {
	f, _ := new(big.Float).SetInt(v).Float64()
	return math.Ldexp(f, -behind)
}

// toBigFixed converts v to a fixed-point number with the given number of fractional bits. v may be larger
// than a score.
func toBigFixed(v float64, behind int) *big.Int {
	f := new(big.Float).SetMantExp(big.NewFloat(v), behind)
	out, _ := f.Int(nil)
	return out
}

// dot returns the exact dot product.
func dot(a, b []int64) *big.Int {
	sum, product := new(big.Int), new(big.Int)
	y := new(big.Int)
	for i := range a {
		sum.Add(sum, product.Mul(product.SetInt64(a[i]), y.SetInt64(b[i])))
	}
	return sum
}

// gradientWidth returns the width of a packed gradient in bits, including the sign. A party's share of a row
// is its score, at the guest minus twice the label. Its absolute value is below maxValue+2.
func gradientWidth(rows, parties int) int {
	return 2*(precision+maxValueBits) + 1 + bits.Len(uint(rows)) + bits.Len(uint(parties)) + 1
}

// scoreWidth returns the width of a packed score in bits, including the sign.
func scoreWidth(parties int) int { return precision + maxValueBits + 1 + bits.Len(uint(parties)) + 1 }

// statusWidth returns the width of 8 times the loss of all rows, and of the squared length of a step. It
// includes bits for penalties: weights are below maxValue, alpha is below 2^20, and there are fewer than 2^24
// features.
func statusWidth(rows, parties int) int {
	return 2*(precision+maxValueBits) + 72 + bits.Len(uint(rows)) + 2*bits.Len(uint(parties))
}

// errTooLarge reports that the training diverges.
func errTooLarge(who string) error {
	return channel.Errorf(
		"the training diverges: scores at %s exceed %d; standardise the features or lower learning_rate", who,
		maxValue,
	)
}
