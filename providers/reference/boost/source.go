package boost

import (
	"context"

	"hutong-reference/parallel"
)

// source is features that a tree can split by, wherever they lie. Rows are numbered alike in all sources of a training.
type source interface {
	// begin starts a tree with the gradients of all rows.
	begin(ctx context.Context, tree int, gradients []sum) error
	// histograms adds up the gradients of each node's rows: by node, feature, bin. A feature that this tree does not
	// draw has a nil histogram.
	histograms(ctx context.Context, nodes [][]int32) ([][]histogram, error)
	// split parts the rows of nodes. The nodes that come back know how to part other rows the same way.
	split(ctx context.Context, cuts []cut) ([]parted, error)
}

// cut asks to part rows: those in bins up to bin of the feature go left.
type cut struct {
	feature, bin int
	rows         []int32
}

// parted is the answer to a cut: what the model keeps of it, and which of the rows go left, in their order.
type parted struct {
	rule Rule
	left []bool
}

// local is a source that one has oneself.
type local struct {
	owner     string // "guest.0"
	features  []*feature
	rate      float64
	seed      uint64
	drawn     []bool
	gradients []sum
}

func newLocal(owner string, features []*feature, p Params) *local {
	return &local{owner: owner, features: features, rate: p.FeatureRate, seed: p.Seed}
}

func (l *local) begin(_ context.Context, tree int, gradients []sum) error {
	l.drawn = draw(len(l.features), l.rate, l.seed, tree, l.owner)
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
		if !l.drawn[f] {
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

func (l *local) split(_ context.Context, cuts []cut) ([]parted, error) {
	out := make([]parted, len(cuts))
	for i, c := range cuts {
		f := l.features[c.feature]
		threshold := f.cuts[c.bin]
		out[i] = parted{Rule{Owner: l.owner, Feature: f.name, Threshold: &threshold}, f.part(c)}
	}
	return out, nil
}

func (f *feature) part(c cut) []bool {
	left := make([]bool, len(c.rows))
	for i, row := range c.rows {
		left[i] = int(f.bin[row]) <= c.bin
	}
	return left
}
