package paillier

import (
	"math/big"
	mrand "math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

var testKey = sync.OnceValue(func() *PrivateKey {
	k, err := GenerateKey(1024)
	if err != nil {
		panic(err)
	}
	return k
})

func TestGenerateKey(t *testing.T) {
	k := testKey()
	require.Equal(t, 1024, k.N.BitLen())
	require.Equal(t, 0, new(big.Int).Mul(k.p.prime, k.q.prime).Cmp(k.N))
	for _, bits := range []int{0, 512, 1022, 1025} {
		_, err := GenerateKey(bits)
		require.Error(t, err, bits)
	}
}

func TestNewPublicKeyRefuses(t *testing.T) {
	k := testKey()
	pk, err := NewPublicKey(k.N, k.HS)
	require.NoError(t, err)
	c, err := pk.Encrypt(big.NewInt(-7))
	require.NoError(t, err)
	m, err := k.Decrypt(c)
	require.NoError(t, err)
	require.Equal(t, int64(-7), m.Int64())

	for name, n := range map[string][2]*big.Int{
		"short":             {big.NewInt(35), big.NewInt(2)},
		"even":              {new(big.Int).Lsh(one, 1100), k.HS},
		"generator 0":       {k.N, new(big.Int)},
		"generator 1":       {k.N, one},
		"generator large":   {k.N, k.n2},
		"generator no unit": {k.N, k.p.prime},
	} {
		_, err := NewPublicKey(n[0], n[1])
		require.Error(t, err, name)
	}
}

// TestHomomorphism compares both kinds of encryption and all operations with the same operations on plain
// numbers.
func TestHomomorphism(t *testing.T) {
	k := testKey()
	rapid.Check(t, func(t *rapid.T) {
		a := big.NewInt(rapid.Int64().Draw(t, "a"))
		b := big.NewInt(rapid.Int64().Draw(t, "b"))
		scale := big.NewInt(rapid.Int64Min(0).Draw(t, "scale"))
		shift := rapid.IntRange(0, 500).Draw(t, "shift")
		ca, err := k.Encrypt(a)
		require.NoError(t, err)
		cb, err := k.PublicKey.Encrypt(b)
		require.NoError(t, err)
		equal := func(want, c *big.Int) {
			got, err := k.Decrypt(c)
			require.NoError(t, err)
			require.Equal(t, 0, want.Cmp(got), "want %v, got %v", want, got)
		}
		equal(a, ca)
		equal(b, cb)
		sum := k.Add(new(big.Int), ca, cb)
		equal(new(big.Int).Add(a, b), sum)
		equal(new(big.Int).Mul(a, scale), k.Scale(ca, scale))
		equal(new(big.Int).Lsh(b, uint(shift)), k.Shift(cb, shift))
		again, err := k.Randomise(sum)
		require.NoError(t, err)
		require.NotEqual(t, 0, sum.Cmp(again))
		equal(new(big.Int).Add(a, b), again)
	})
}

func TestCiphertextsDiffer(t *testing.T) {
	k := testKey()
	a, err := k.Encrypt(one)
	require.NoError(t, err)
	b, err := k.Encrypt(one)
	require.NoError(t, err)
	require.NotEqual(t, 0, a.Cmp(b))
}

func TestRefuses(t *testing.T) {
	k := testKey()
	_, err := k.Encrypt(k.N)
	require.Error(t, err)
	_, err = k.PublicKey.Encrypt(new(big.Int).Neg(k.N))
	require.Error(t, err)
	for name, c := range map[string]*big.Int{
		"zero": new(big.Int), "negative": big.NewInt(-3), "too large": k.n2, "no unit": k.p.prime,
	} {
		_, err := k.Decrypt(c)
		require.Error(t, err, name)
	}
}

func TestFixedBase(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		modulus := new(big.Int).SetUint64(rapid.Uint64Min(3).Draw(t, "modulus"))
		base := new(big.Int).SetUint64(rapid.Uint64().Draw(t, "base"))
		base.Mod(base, modulus)
		bits := rapid.IntRange(1, 100).Draw(t, "bits")
		e := new(big.Int).SetBytes(rapid.SliceOfN(rapid.Byte(), 13, 13).Draw(t, "e"))
		e.Mod(e, new(big.Int).Lsh(one, uint(bits)))
		want := new(big.Int).Exp(base, e, modulus)
		require.Equal(t, 0, want.Cmp(newFixedBase(base, modulus, bits).exp(e)))
	})
}

// TestLayout unpacks sums of signed fields after encryption and packing.
func TestLayout(t *testing.T) {
	k := testKey()
	l, err := NewLayout(11, 48, 50)
	require.NoError(t, err)
	rng := mrand.New(mrand.NewPCG(1, 2))
	width := l.Bits()
	count := k.PackCount(width)
	require.GreaterOrEqual(t, count, 9)

	var cells []*big.Int
	want := make([][3]int64, count)
	for i := range want {
		cell := new(big.Int).Set(one)
		for range 1 + rng.IntN(5) {
			v := [3]int64{1, rng.Int64N(1 << 40), rng.Int64N(1<<41) - 1<<40}
			c, err := k.Encrypt(l.Join(v[:]...))
			require.NoError(t, err)
			k.Add(cell, cell, c)
			for j := range v {
				want[i][j] += v[j]
			}
		}

		cells = append(cells, cell)
	}

	m, err := k.Decrypt(k.Pack(cells, width))
	require.NoError(t, err)
	row, err := SplitRow(m, width, count)
	require.NoError(t, err)
	for i := range row {
		got, err := l.Split(row[i])
		require.NoError(t, err)
		require.Equal(t, want[i][:], got)
	}
	_, err = l.Split(new(big.Int).Lsh(one, uint(width)))
	require.ErrorIs(t, err, errTooLarge)
	_, err = SplitRow(m, width, count-1)
	require.ErrorIs(t, err, errTooLarge)
	_, err = NewLayout(64)
	require.Error(t, err)
}

func BenchmarkPaillier2048(b *testing.B) {
	k, err := GenerateKey(2048)
	require.NoError(b, err)
	m := big.NewInt(1 << 40)
	c, err := k.Encrypt(m)
	require.NoError(b, err)
	_, err = k.Randomise(c)
	require.NoError(b, err)
	b.Run("encrypt", func(b *testing.B) {
		for b.Loop() {
			_, _ = k.Encrypt(m)
		}
	})
	b.Run("randomise", func(b *testing.B) {
		for b.Loop() {
			_, _ = k.Randomise(c)
		}
	})
	b.Run("decrypt", func(b *testing.B) {
		for b.Loop() {
			_, _ = k.Decrypt(c)
		}
	})
	b.Run("add", func(b *testing.B) {
		d := new(big.Int)
		for b.Loop() {
			k.Add(d, c, c)
		}
	})
	b.Run("shift 110", func(b *testing.B) {
		for b.Loop() {
			k.Shift(c, 110)
		}
	})
	b.Run("generate", func(b *testing.B) {
		for b.Loop() {
			_, _ = GenerateKey(2048)
		}
	})
}
