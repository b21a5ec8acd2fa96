package boost

import (
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestReadParams(t *testing.T) {
	p, err := ReadParams(map[string]string{
		"objective_param": "cross_entropy", "tree_param": `{"max_depth": "5", "lambda": 1}`,
		"num_trees": "2.0",
		"cv_param":  `{"need_cv": "False"}`, "encrypt_param": `{"method": "paillier", "key_length": 1024}`,
		"n_iter_no_change": `"True"`, "metrics": `["ks"]`, "unknown": "ignored",
	})
	require.NoError(t, err)
	require.Equal(t, 5, p.Tree.MaxDepth)
	require.Equal(t, 1.0, p.Tree.Lambda)
	require.Equal(t, 2, p.Trees)
	require.Equal(t, 32, p.Bins)
	require.Equal(t, 1024, p.KeyBits)
	require.True(t, p.StopEarly)

	for name, value := range map[string]string{
		"cv_param":               `{"need_cv": true}`,
		"early_stopping_rounds":  "5",
		"encrypt_param":          `{"key_length": 1022}`,
		"objective_param":        `{"objective": "lse"}`,
		"metrics":                `["auc", "f1"]`,
		"num_trees":              "0",
		"learning_rate":          "fast",
		"tree_param":             `[5]`,
		"bin_num":                "1",
		"subsample_feature_rate": "1.5",
		"n_iter_no_change":       "5",
	} {
		_, err := ReadParams(map[string]string{name: value})
		require.ErrorContains(t, err, "parameter "+name)
	}

	_, err = ReadParams(map[string]string{"encrypt_param": `{"method": "IterativeAffine"}`})
	require.ErrorContains(
		t, err, `parameter encrypt_param.method: "IterativeAffine" is not supported; supported: Paillier`,
	)
}

// TestNewFeature checks that bins follow the order of values, keep equal values together, and do not exceed
// the maximum.
func TestNewFeature(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(
			rapid.OneOf(rapid.Float64Range(-5, 5),
				rapid.Map(rapid.IntRange(0, 4), func(i int) float64 { return float64(i) })),
			1, 60,
		).
			Draw(t, "values")
		bins := rapid.IntRange(2, 12).Draw(t, "bins")
		f := newFeature("x", values, bins)
		require.LessOrEqual(t, f.bins(), bins)
		require.True(t, slices.IsSorted(f.cuts))
		used := map[uint16]bool{}
		for i, v := range values {
			b := int(f.bin[i])
			used[f.bin[i]] = true
			if b > 0 {
				require.Greater(t, v, f.cuts[b-1])
			}
			if b < len(f.cuts) {
				require.LessOrEqual(t, v, f.cuts[b])
			}
		}

		require.Len(t, used, f.bins(), "no bin is empty")
		distinct := slices.Compact(slices.Sorted(slices.Values(values)))
		if len(distinct) <= bins {
			require.Equal(t, len(distinct), f.bins())
		} else {
			require.Greater(t, f.bins(), 1)
		}
	})
}

// TestBestSplit compares the search with one that evaluates every split from its rows, including the order of
// equal splits.
func TestBestSplit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		params := TreeParams{Lambda: 0.1, MinLeafNode: rapid.IntRange(1, 3).Draw(t, "leaf")}
		h := histogram{}
		var both sum
		for range rapid.IntRange(1, 8).Draw(t, "bins") {
			n := rapid.Int64Range(0, 4).Draw(t, "count")
			s := sum{n, n << 34, rapid.Int64Range(-2, 2).Draw(t, "g") * n << 35}
			h = append(h, s)
			both = both.plus(s)
		}
		want := candidate{source: -1}
		for b := 0; b < len(h)-1; b++ {
			var left, right sum
			for i, s := range h {
				if i <= b {
					left = left.plus(s)
				} else {
					right = right.plus(s)
				}
			}
			score := func(s sum) float64 {
				g := float64(s.gradient) / (1 << 36)
				return g * g / (float64(s.hessian)/(1<<36) + 0.1)
			}
			if g := (score(left) + score(right) - score(both)) / 2; left.count >= int64(params.MinLeafNode) &&
				right.count >= int64(params.MinLeafNode) && g > want.gain {
				want = candidate{0, 3, b, g}
			}
		}

		require.Equal(t, want, params.bestSplit(candidate{source: -1}, h, both, 0, 3))
	})
}

func TestGradients(t *testing.T) {
	for _, label := range []uint8{0, 1} {
		for _, score := range []float64{-3, 0, 0.7, 40} {
			loss := func(s float64) float64 { return logLoss([]uint8{label}, []float64{s}) }
			const e = 1e-4
			s := gradientOf(label, score)
			require.InDelta(t, (loss(score+e)-loss(score-e))/(2*e), fromFixed(s.gradient), 1e-6)
			require.InDelta(t, (loss(score+e)-2*loss(score)+loss(score-e))/(e*e), fromFixed(s.hessian), 1e-5)
		}
	}

	require.InDelta(t, 800, logLoss([]uint8{1}, []float64{-800}), 1e-9, "no overflow")
	require.Zero(t, TreeParams{}.weight(sum{1, 0, 5}), "no division by zero")
}

func TestSampleFeatures(t *testing.T) {
	count := func(b []bool) (n int) {
		for _, x := range b {
			if x {
				n++
			}
		}
		return n
	}

	require.Equal(t, 5, count(sampleFeatures(10, 0.45, 1, 0, "guest.0")))
	require.Equal(t, 1, count(sampleFeatures(3, 0.01, 1, 0, "guest.0")))
	require.Empty(t, sampleFeatures(0, 0.5, 1, 0, "guest.0"))
	require.Equal(t, sampleFeatures(50, 0.5, 1, 2, "host.0"), sampleFeatures(50, 0.5, 1, 2, "host.0"))
	require.NotEqual(t, sampleFeatures(50, 0.5, 1, 2, "host.0"), sampleFeatures(50, 0.5, 1, 3, "host.0"))
	require.NotEqual(t, sampleFeatures(50, 0.5, 1, 2, "host.0"), sampleFeatures(50, 0.5, 1, 2, "guest.0"))
}

func TestLayoutHoldsTheWorstSums(t *testing.T) {
	for _, rows := range []int{1, 2, 3, 509, 1 << 20, maxRows} {
		l, err := layout(rows)
		require.NoError(t, err)
		n := int64(rows)
		for _, g := range []int64{-1 << precision * n, 1 << precision * n} {
			want := []int64{n, toFixed(0.25) * n, g}
			got, err := l.Split(l.Join(want...))
			require.NoError(t, err)
			require.Equal(t, want, got)
		}
		require.LessOrEqual(t, l.Bits(), 200)
	}

	require.Equal(t, int64(math.Round(0.3*(1<<precision))), toFixed(0.3))
}

func FuzzDecodeRows(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 0, 0, 0, 2}, 2, 0)
	f.Add([]byte{0, 0, 0, 9}, 1, 1)
	f.Fuzz(func(t *testing.T, body []byte, a, b int) {
		const total = 10
		nodes, err := decodeRows([]int{a, b}, body, total)
		if err != nil {
			return
		}
		counts, again := encodeRows(nodes)
		require.Equal(t, []int{a, b}, counts)
		require.Equal(t, body, again)
		for _, rows := range nodes {
			require.True(t, slices.IsSorted(rows))
			require.Less(t, rows[len(rows)-1], int32(total))
		}
	})
}
