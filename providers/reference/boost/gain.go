package boost

import "math"

// precision is the number of fractional bits of gradients and hessians.
const precision = 36

// maxRows keeps all sums of gradients within 63 bits.
const maxRows = 1 << 25

// sum holds the sums over a set of rows. Gradients and hessians are fixed-point numbers.
type sum struct {
	count, hessian, gradient int64
}

func (s sum) plus(o sum) sum {
	return sum{s.count + o.count, s.hessian + o.hessian, s.gradient + o.gradient}
}

func (s sum) minus(o sum) sum {
	return sum{s.count - o.count, s.hessian - o.hessian, s.gradient - o.gradient}
}

// gradientOf returns the first and second derivative of the cross entropy of one row.
func gradientOf(label uint8, score float64) sum {
	p := sigmoid(score)
	return sum{1, toFixed(p * (1 - p)), toFixed(p - float64(label))}
}

func toFixed(x float64) int64   { return int64(math.Round(x * (1 << precision))) }
func fromFixed(x int64) float64 { return float64(x) / (1 << precision) }

func sigmoid(score float64) float64 { return 1 / (1 + math.Exp(-score)) }

// logLoss returns the mean cross entropy.
func logLoss(labels []uint8, scores []float64) float64 {
	total := 0.0
	for i, s := range scores {
		if labels[i] == 1 {
			s = -s
		}
		// log(1+e^s) without overflow
		total += math.Max(s, 0) + math.Log1p(math.Exp(-math.Abs(s)))
	}
	return total / float64(len(scores))
}

// weight returns the optimal weight of a leaf.
func (t TreeParams) weight(s sum) float64 {
	d := fromFixed(s.hessian) + t.Lambda
	if d <= 0 {
		return 0
	}
	return -fromFixed(s.gradient) / d
}

// score returns the quality of a node with these sums, G²/(H+λ). The gain of a split is a difference of
// scores.
func (t TreeParams) score(s sum) float64 {
	d := fromFixed(s.hessian) + t.Lambda
	if d <= 0 {
		return 0
	}
	return fromFixed(s.gradient) * fromFixed(s.gradient) / d
}

// gain returns the reduction of the loss by a split.
func (t TreeParams) gain(left, right, both sum) float64 {
	return (t.score(left) + t.score(right) - t.score(both)) / 2
}

// histogram holds the sums of each bin of a feature.
type histogram []sum

// candidate is a possible split: rows in bins up to bin of a source's feature go left.
type candidate struct {
	source, feature, bin int
	gain                 float64
}

// bestSplit returns the best split of one histogram if it has a greater gain than best, else best. So the
// first of several equal splits wins.
func (t TreeParams) bestSplit(best candidate, h histogram, both sum, source, feature int) candidate {
	var left sum
	for b := range len(h) - 1 {
		left = left.plus(h[b])
		right := both.minus(left)
		if left.count < int64(t.MinLeafNode) || right.count < int64(t.MinLeafNode) {
			continue
		}
		if g := t.gain(left, right, both); g > best.gain {
			best = candidate{source, feature, b, g}
		}
	}
	return best
}
