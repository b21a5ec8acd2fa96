package boost

import "math"

// precision is how many binary digits after the point a gradient and a hessian have.
const precision = 36

// maxRows keeps every sum of gradients within 63 bits.
const maxRows = 1 << 25

// sum is what a set of rows adds up to; gradients and hessians are fixed-point numbers of that precision.
type sum struct {
	count, hessian, gradient int64
}

func (s sum) plus(o sum) sum {
	return sum{s.count + o.count, s.hessian + o.hessian, s.gradient + o.gradient}
}

func (s sum) minus(o sum) sum {
	return sum{s.count - o.count, s.hessian - o.hessian, s.gradient - o.gradient}
}

// gradientOf is the first and second derivative of the loss of one row.
func gradientOf(label uint8, score float64) sum {
	p := sigmoid(score)
	return sum{1, toFixed(p * (1 - p)), toFixed(p - float64(label))}
}

func toFixed(x float64) int64   { return int64(math.Round(x * (1 << precision))) }
func fromFixed(x int64) float64 { return float64(x) / (1 << precision) }

func sigmoid(score float64) float64 { return 1 / (1 + math.Exp(-score)) }

// logLoss is the mean cross entropy.
func logLoss(labels []uint8, scores []float64) float64 {
	total := 0.0
	for i, s := range scores {
		if labels[i] == 1 {
			s = -s
		}
		// log(1+e^s) that does not overflow
		total += math.Max(s, 0) + math.Log1p(math.Exp(-math.Abs(s)))
	}
	return total / float64(len(scores))
}

// weight is the best score of a leaf.
func (t TreeParams) weight(s sum) float64 {
	d := fromFixed(s.hessian) + t.Lambda
	if d <= 0 {
		return 0
	}
	return -fromFixed(s.gradient) / d
}

func (t TreeParams) score(s sum) float64 {
	d := fromFixed(s.hessian) + t.Lambda
	if d <= 0 {
		return 0
	}
	return fromFixed(s.gradient) * fromFixed(s.gradient) / d
}

// gain is by how much a split lowers the loss.
func (t TreeParams) gain(left, right, both sum) float64 {
	return (t.score(left) + t.score(right) - t.score(both)) / 2
}

// histogram is the sums of each bin of a feature.
type histogram []sum

// candidate is a split: the rows in bins up to bin of a feature of a source go left.
type candidate struct {
	source, feature, bin int
	gain                 float64
}

// bestSplit returns the best split of one histogram, if it is better than what was found before. Of equals, the first stays.
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
