package paillier

import (
	"errors"
	"fmt"
	"math/big"
)

// Layout is how several numbers lie in one plaintext: fields side by side, the first one lowest, each as wide as its sum
// can grow. A field may be signed: what it borrows from its upper neighbour is given back when the fields are
// taken apart. Layouts nest: what [Layout.Join] makes is itself a number for a wider field.
type Layout struct {
	widths []int
}

// NewLayout takes the width of each field in bits, the sign's included, from 1 to 63.
func NewLayout(widths ...int) (Layout, error) {
	for _, w := range widths {
		if w < 1 || w > 63 {
			return Layout{}, fmt.Errorf("a field of %d bits; from 1 to 63 can be", w)
		}
	}
	return Layout{widths}, nil
}

// Bits is the width of all fields together.
func (l Layout) Bits() int {
	sum := 0
	for _, w := range l.widths {
		sum += w
	}
	return sum
}

// Join puts values side by side, one for each field.
func (l Layout) Join(values ...int64) *big.Int {
	sum := new(big.Int)
	for i := len(values) - 1; i >= 0; i-- {
		sum.Lsh(sum, uint(l.widths[i]))
		sum.Add(sum, big.NewInt(values[i]))
	}
	return sum
}

// errTooLarge: the number doesn't come from this layout, or a field overflowed.
var errTooLarge = errors.New("a plaintext larger than its layout")

// Split takes apart a sum of joined values.
func (l Layout) Split(sum *big.Int) ([]int64, error) {
	values := make([]int64, len(l.widths))
	rest := new(big.Int).Set(sum)
	for i, w := range l.widths {
		values[i] = popSigned(rest, w).Int64()
	}
	if rest.Sign() != 0 {
		return nil, errTooLarge
	}
	return values, nil
}

// SplitRow takes apart count numbers of the given width that [PublicKey.Pack] laid side by side.
func SplitRow(sum *big.Int, width, count int) ([]*big.Int, error) {
	row := make([]*big.Int, count)
	rest := new(big.Int).Set(sum)
	for i := range row {
		row[i] = popSigned(rest, width)
	}
	if rest.Sign() != 0 {
		return nil, errTooLarge
	}
	return row, nil
}

// popSigned removes the lowest field from rest and returns it: the number of that width, with its sign, that rest is
// congruent to.
func popSigned(rest *big.Int, width int) *big.Int {
	span := new(big.Int).Lsh(one, uint(width))
	low := new(big.Int).And(rest, new(big.Int).Sub(span, one)) // And treats rest as two's complement
	if low.Bit(width-1) == 1 {
		low.Sub(low, span)
	}
	rest.Sub(rest, low)
	rest.Rsh(rest, uint(width))
	return low
}

// PackCount is how many numbers of a width one plaintext holds.
func (pk *PublicKey) PackCount(width int) int { return pk.PlaintextBits() / width }

// Pack lays the contents of several ciphertexts side by side in one, the first lowest.
func (pk *PublicKey) Pack(cs []*big.Int, width int) *big.Int {
	k := new(big.Int).Lsh(one, uint(width))
	sum := new(big.Int).Set(cs[len(cs)-1])
	for i := len(cs) - 2; i >= 0; i-- {
		sum.Exp(sum, k, pk.n2)
		pk.Add(sum, sum, cs[i])
	}
	return sum
}
