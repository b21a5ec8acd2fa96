package boost

import (
	"context"

	"hutong-reference/parallel"
)

// source provides features by which a tree can split, at this party or another. All sources of a training
// number rows alike.
type source interface {
	// startTree starts a tree with the gradients of all rows.
	startTree(ctx context.Context, tree int, gradients []sum) error
	// histograms sums the gradients of each node's rows by node, feature and bin. The histogram of a feature
	// that is not sampled for this tree is nil.
	histograms(ctx context.Context, nodes [][]int32) ([][]histogram, error)
	// split divides the rows of nodes. The rules in the results can divide other rows the same way.
	split(ctx context.Context, cuts []split) ([]splitResult, error)
}

// split is a request to divide rows: those in bins up to bin of the feature go left.
type split struct {
	feature, bin int
	rows         []int32
}

// splitResult is the result of a split: the rule for the model, and for each row whether it goes left.
type splitResult struct {
	rule Rule
	left []bool
}

// local is a source of this party's own features.
type local struct {
	owner     string // "guest.0"
	features  []*feature
	rate      float64
	seed      uint64
	sampled   []bool
	gradients []sum
}

func newLocal(owner string, features []*feature, p Params) *local {
	return &local{owner: owner, features: features, rate: p.FeatureRate, seed: p.Seed}
}

func (l *local) startTree(_ context.Context, tree int, gradients []sum) error {
	l.sampled = sampleFeatures(len(l.features), l.rate, l.seed, tree, l.owner)
	l.gradients = gradients
	return nil
}

func (l *local) histograms(ctx context.Context, nodes [][]int32) ([][]histogram, error) {
	out := make([][]histogram, len(nodes))
	for n := range nodes {
		out[n] = make([]histogram, len(l.features))
	}
	err := parallel.Each(ctx, len(nodes)*len(l.features), func(i int) error {
		n, f := i/len(l.features), i%len(l.features)
		if !l.sampled[f] {
			return nil
		}
		feature := l.features[f]
		h := make(histogram, feature.bins())
		for _, row := range nodes[n] {
			b := feature.bin[row]
			h[b] = h[b].plus(l.gradients[row])
		}
		out[n][f] = h
		return nil
	})
	return out, err
}

func (l *local) split(_ context.Context, cuts []split) ([]splitResult, error) {
	out := make([]splitResult, len(cuts))
	for i, c := range cuts {
		f := l.features[c.feature]
		threshold := f.cuts[c.bin]
		out[i] = splitResult{Rule{Owner: l.owner, Feature: f.name, Threshold: &threshold}, f.splitRows(c)}
	}
	return out, nil
}

// splitRows reports for each row of a split whether it goes left.
func (f *feature) splitRows(c split) []bool {
	left := make([]bool, len(c.rows))
	for i, row := range c.rows {
		left[i] = int(f.bin[row]) <= c.bin
	}
	return left
}
