package boost

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

// reference is a textbook implementation of gradient boosting: it is recursive, computes each sum from its
// rows, and shares only the bins with the trainer. It rounds gradients to the same precision, since that is
// part of the promise.
func reference(features []*feature, labels []uint8, p Params) []float64 {
	round := func(x float64) float64 { return math.Round(x*(1<<36)) / (1 << 36) }
	scores := make([]float64, len(labels))
	for range p.Trees {
		g, h := make([]float64, len(labels)), make([]float64, len(labels))
		var all []int
		for i, y := range labels {
			q := 1 / (1 + math.Exp(-scores[i]))
			g[i], h[i] = round(q-float64(y)), round(q*(1-q))
			all = append(all, i)
		}
		sums := func(rows []int) (sg, sh float64) {
			for _, i := range rows {
				sg, sh = sg+g[i], sh+h[i]
			}
			return sg, sh
		}
		score := func(rows []int) float64 {
			sg, sh := sums(rows)
			return sg * sg / (sh + p.Tree.Lambda)
		}
		var grow func(rows []int, depth int)
		grow = func(rows []int, depth int) {
			ones := 0
			for _, i := range rows {
				ones += int(labels[i])
			}
			var bestLeft, bestRight []int
			if depth < p.Tree.MaxDepth && len(rows) >= p.Tree.MinSampleSplit && ones > 0 && ones < len(rows) {
				best := p.Tree.MinGain
				for _, f := range features {
					for cut := range f.cuts {
						var left, right []int
						for _, i := range rows {
							if int(f.bin[i]) <= cut {
								left = append(left, i)
							} else {
								right = append(right, i)
							}
						}
						if len(left) < p.Tree.MinLeafNode || len(right) < p.Tree.MinLeafNode {
							continue
						}
						if gain := (score(left) + score(right) - score(rows)) / 2; gain > best {
							best, bestLeft, bestRight = gain, left, right
						}
					}
				}
			}
			if bestLeft != nil {
				grow(bestLeft, depth+1)
				grow(bestRight, depth+1)
				return
			}
			sg, sh := sums(rows)
			for _, i := range rows {
				scores[i] -= p.LearningRate * sg / (sh + p.Tree.Lambda)
			}
		}

		grow(all, 0)
	}
	return scores
}

// TestReference compares the federated trainer with the textbook implementation.
func TestReference(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			p := testParams(t, map[string]string{
				"tree_param": fmt.Sprintf(
					`{"max_depth": %d, "min_leaf_node": %d}`, 2+seed, 1+seed,
				), "learning_rate": "0.5",
			})
			d := makeDataset(20+seed, 90, 2, 3)
			d.host[1] = d.host[2] // no equal columns at both sides: float sums here may break ties otherwise
			d.host = d.host[:2]
			joined := append(asFeatures(d.guest, "g", p.Bins), asFeatures(d.host, "h", p.Bins)...)
			want := reference(joined, d.labels, p)
			got, _, err := federate(t.Context(), d, p)
			require.NoError(t, err)
			for i := range want {
				require.InDelta(t, sigmoid(want[i]), sigmoid(got.scores[i]), 1e-9, "row %d", i)
			}
		})
	}
}
