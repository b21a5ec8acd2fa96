package lr

import (
	"math/big"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestReadParams(t *testing.T) {
	p, err := ReadParams(nil)
	require.NoError(t, err)
	require.Equal(t, Params{
		ID: "id", Label: "y", Threshold: 0.5, Metrics: []string{"auc", "ks"}, KeyBits: 2048,
		Agreement: Agreement{
			MaxIter: 30, BatchSize: 2048, LearningRate: 0.15, Optimizer: "rmsprop", Penalty: "L2",
			Alpha:     0.01,
			EarlyStop: "weight_diff", Tol: 0.0001, Intercept: true,
		},
	}, p)

	// Variants that occur in real jobs: other case, strings for numbers, Python's booleans, objects for plain
	// values.
	p, err = ReadParams(map[string]string{
		"optimizer": "Adam", "penalty": "l1", "batch_size": "ALL", "max_iter": "2.0", "tol": `"1e-4"`,
		"init_param":    `{"init_method": "ones", "fit_intercept": "False"}`,
		"encrypt_param": `{"method": "paillier", "key_length": "1024"}`,
		"predict_param": `{"threshold": 0.3}`, "metrics": `["ks"]`, "early_stop": "None",
		"unknown": "ignored",
	})
	require.NoError(t, err)
	require.Equal(t, "adam", p.Optimizer)
	require.Equal(t, "L1", p.Penalty)
	require.Zero(t, p.BatchSize)
	require.Equal(t, 2, p.MaxIter)
	require.Equal(t, 1.0, p.Init)
	require.False(t, p.Intercept)
	require.Equal(t, 1024, p.KeyBits)
	require.Equal(t, 0.3, p.Threshold)
	require.Equal(t, stopWeightDiff, p.EarlyStop)
	for value, want := range map[string]int{"-1": 0, `"all"`: 0, "7": 7} {
		p, err := ReadParams(map[string]string{"batch_size": value})
		require.NoError(t, err, value)
		require.Equal(t, want, p.BatchSize, value)
	}

	for name, value := range map[string]string{
		"optimizer": "sqn", "batch_size": "0", "penalty": "L3", "max_iter": "1.5", "learning_rate": "0",
		"init_param": "random",
		"early_stop": "x", "metrics": `["f1"]`, "encrypt_param": `{"key_length": 512}`, "alpha": "-1",
	} {
		_, err := ReadParams(map[string]string{name: value})
		require.ErrorContains(t, err, "parameter "+name)
	}
}

// TestBatches checks that batches hold each row once, have about the same size, and that the first one is the
// smallest.
func TestBatches(t *testing.T) {
	for _, c := range []struct{ rows, size, count int }{
		{10, 0, 1}, {10, 3, 4}, {10, 10, 1}, {10, 100, 1}, {7, 1, 7}, {1000, 333, 4},
	} {
		w := party{rows: c.rows, params: Params{Agreement: Agreement{BatchSize: c.size}}}
		list := w.batches()
		require.Len(t, list, c.count)
		at := 0
		shortest := list[0].to - list[0].from
		for _, b := range list {
			require.Equal(t, at, b.from)
			require.Contains(t, []int{shortest, shortest + 1}, b.to-b.from)
			at = b.to
		}
		require.Equal(t, c.rows, at)
	}
}

// TestWidths checks that the largest permitted numbers fit into their fields.
func TestWidths(t *testing.T) {
	const rows, parties = 1000, 4
	x := toFixed(maxValue - 1)
	part := x + 2<<precision // of the guest, label -1
	all := func(v int64) []int64 {
		out := make([]int64, rows)
		for i := range out {
			out[i] = v
		}
		return out
	}

	gradient := dot(all(x), all(part))
	require.Less(
		t, gradient.BitLen()+2, gradientWidth(rows, parties), "with %d times as much, and a sign", parties,
	)
	require.Less(t, fixBits(x)+2, scoreWidth(parties))
	squares := dot(all(part), all(part)) // times parties², and more for penalties
	require.Less(t, squares.BitLen()+4+1, statusWidth(rows, parties))
	require.LessOrEqual(
		t, 2*statusWidth(1<<30, 1<<10), 1022, "both numbers in one ciphertext of the shortest key",
	)
}

func fixBits(v int64) int { return dot([]int64{v}, []int64{1}).BitLen() }

func TestModelShare(t *testing.T) {
	intercept := 0.5
	m := Model{Weights: []Weight{{"a", 2}, {"b", -1}}, Intercept: &intercept}
	share, err := m.Share(map[string]float64{"a": 1, "b": 3, "c": 9})
	require.NoError(t, err)
	require.InDelta(t, -0.5, share, 1e-15)
	_, err = m.Share(map[string]float64{"a": 1})
	require.ErrorContains(t, err, `no feature "b"`)
}

func FuzzReadParams(f *testing.F) {
	f.Add("batch_size", "all")
	f.Add("init_param", `{"init_method": "const", "init_const": 1e300}`)
	f.Add("encrypt_param", `{"key_length": 1e9}`)
	f.Fuzz(func(t *testing.T, name, value string) {
		p, err := ReadParams(map[string]string{name: value})
		if err != nil {
			return
		}
		require.GreaterOrEqual(t, p.BatchSize, 0)
		require.Positive(t, p.MaxIter)
		require.Contains(t, optimizers, p.Optimizer)
		require.GreaterOrEqual(t, p.KeyBits, 1024)
		require.NotEmpty(t, (&party{rows: 10, params: p}).batches())
	})
}

func FuzzDecodePlain(f *testing.F) {
	n := big.NewInt(1<<40 + 15)
	f.Add([]byte{0, 0, 0, 0, 0, 1}, 1)
	f.Add([]byte{255, 255, 255, 255, 255, 255}, 1)
	f.Fuzz(func(t *testing.T, body []byte, count int) {
		if numbers, err := decodePlain(body, n, count); err == nil {
			require.Len(t, numbers, count)
			require.Equal(t, append([]byte{}, body...), append([]byte{}, encodePlain(numbers, n)...))
		}
	})
}
