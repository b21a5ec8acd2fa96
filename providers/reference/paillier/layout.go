package paillier

import (
	"errors"
	"fmt"
	"math/big"
)

// Layout packs several numbers into one plaintext: adjacent fields, the first one lowest. Each field is wide
// enough for the sum of its values. A field may be signed: [Layout.Split] returns what it borrowed from the
// next field. Layouts nest: the result of [Layout.Join] is itself a number for a wider field.
type Layout struct {
	widths []int
}

// NewLayout returns a layout of fields with the given widths in bits, including the sign. A width is between
// 1 and 63.
func NewLayout(widths ...int) (Layout, error) {
	for _, w := range widths {
		if w < 1 || w > 63 {
			return Layout{}, fmt.Errorf("a field of %d bits: must have between 1 and 63", w)
		}
	}
	return Layout{widths}, nil
}

// Bits returns the total width of all fields.
func (l Layout) Bits() int {
	sum := 0
	for _, w := range l.widths {
		sum += w
	}
	return sum
}

// Join packs one value per field.
func (l Layout) Join(values ...int64) *big.Int {
	sum := new(big.Int)
	for i := len(values) - 1; i >= 0; i-- {
		sum.Lsh(sum, uint(l.widths[i]))
		sum.Add(sum, big.NewInt(values[i]))
	}
	return sum
}

// errTooLarge reports that a number does not have this layout, or that a field overflowed.
var errTooLarge = errors.New("the plaintext is larger than its layout")

// Split unpacks a sum of joined values.
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

// SplitRow unpacks count numbers of the given width, which [PublicKey.Pack] has packed.
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

// popSigned removes the lowest field from rest and returns it as a signed number.
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

// PackCount returns how many numbers of a width fit into one plaintext.
func (pk *PublicKey) PackCount(width int) int { return pk.PlaintextBits() / width }

// Pack packs the plaintexts of several ciphertexts into one ciphertext, the first one lowest.
func (pk *PublicKey) Pack(cs []*big.Int, width int) *big.Int {
	k := new(big.Int).Lsh(one, uint(width))
	sum := new(big.Int).Set(cs[len(cs)-1])
	for i := len(cs) - 2; i >= 0; i-- {
		sum.Exp(sum, k, pk.n2)
		pk.Add(sum, sum, cs[i])
	}
	return sum
}
