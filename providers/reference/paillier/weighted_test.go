package paillier

import (
	"math"
	"math/big"
	mrand "math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestWeightedSum(t *testing.T) {
	k := testKey()
	const most = 40
	var plain []int64
	var hidden []*big.Int
	for i := range most {
		plain = append(plain, mrand.Int64()-math.MaxInt64/2)
		c, err := k.Encrypt(big.NewInt(plain[i]))
		require.NoError(t, err)
		hidden = append(hidden, c)
	}
	rapid.Check(t, func(t *rapid.T) {
		weights := rapid.SliceOfN(rapid.OneOf(rapid.Int64(), rapid.Int64Range(-3, 3)), 0, most).
			Draw(t, "weights")
		want := new(big.Int)
		for i, w := range weights {
			want.Add(want, new(big.Int).Mul(big.NewInt(plain[i]), big.NewInt(w)))
		}
		got, err := k.Decrypt(k.WeightedSum(hidden[:len(weights)], weights))
		require.NoError(t, err)
		require.Zero(t, want.Cmp(got), "%v: %v, not %v", weights, got, want)
	})

	c, err := k.Decrypt(k.WeightedSum(hidden[:1], []int64{math.MinInt64}))
	require.NoError(t, err)
	require.Zero(t, c.Cmp(new(big.Int).Mul(big.NewInt(math.MinInt64), big.NewInt(plain[0]))))
}

func TestMask(t *testing.T) {
	k := testKey()
	for _, m := range []*big.Int{
		big.NewInt(0), big.NewInt(-5), new(big.Int).Neg(new(big.Int).Rsh(k.N, 2)), new(big.Int).Rsh(k.N, 2),
	} {
		c, err := k.PublicKey.Encrypt(m)
		require.NoError(t, err)
		masked, mask, err := k.PublicKey.Mask(c)
		require.NoError(t, err)
		seen, err := k.Decrypt(masked)
		require.NoError(t, err)
		require.NotZero(t, seen.Cmp(m))
		require.Zero(t, m.Cmp(k.Unmask(seen, mask)))

		sum, err := k.Decrypt(k.AddPlain(c, big.NewInt(-3)))
		require.NoError(t, err)
		require.Zero(t, sum.Cmp(new(big.Int).Add(m, big.NewInt(-3))))
	}
}

func FuzzDecodeCiphertexts(f *testing.F) {
	k := testKey()
	f.Add(make([]byte, k.CiphertextBytes()), 1)
	f.Add([]byte{1}, 0)
	f.Fuzz(func(t *testing.T, body []byte, count int) {
		if cs, err := k.DecodeCiphertexts(body, count); err == nil {
			require.Len(t, cs, count)
			require.Equal(t, append([]byte{}, body...), append([]byte{}, k.EncodeCiphertexts(cs)...))
		}
	})
}

func BenchmarkWeightedSum2048(b *testing.B) {
	k, err := GenerateKey(2048)
	require.NoError(b, err)
	var cs []*big.Int
	var weights []int64
	for range 569 {
		c, err := k.Encrypt(big.NewInt(mrand.Int64()))
		require.NoError(b, err)
		cs, weights = append(cs, c), append(weights, mrand.Int64N(1<<35)-1<<34)
	}
	for b.Loop() {
		k.WeightedSum(cs, weights)
	}
}
