package paillier

import "math/big"

// window is the number of exponent bits per multiplication. 6 balances the cost of building the table (63
// multiplications per window) against the cost of using it.
const window = 6

// fixedBase raises one base to many exponents: table[i][d-1] is base^(d·2^(i·window)).
type fixedBase struct {
	modulus *big.Int
	table   [][]*big.Int
}

func newFixedBase(base, modulus *big.Int, bits int) *fixedBase {
	f := &fixedBase{modulus: modulus, table: make([][]*big.Int, (bits+window-1)/window)}
	b := base
	for i := range f.table {
		row := make([]*big.Int, 1<<window-1)
		row[0] = b
		for d := 1; d < len(row); d++ {
			row[d] = f.mul(row[d-1], b)
		}
		f.table[i] = row
		b = f.mul(row[len(row)-1], b)
	}
	return f
}

func (f *fixedBase) mul(a, b *big.Int) *big.Int {
	c := new(big.Int).Mul(a, b)
	return c.Rem(c, f.modulus)
}

// exp returns base^e. The exponent must not be longer than the table allows.
func (f *fixedBase) exp(e *big.Int) *big.Int {
	result := big.NewInt(1)
	m := multiplier{modulus: f.modulus}
	for i := range f.table {
		digit := 0
		for b := range window {
			digit |= int(e.Bit(i*window+b)) << b
		}
		if digit > 0 {
			m.mul(result, f.table[i][digit-1])
		}
	}
	return result
}
