package boost

import (
	"cmp"
	"slices"
)

// Point of the KS curve: the share of each label that scores at least the threshold.
type Point struct {
	Threshold float64 `json:"threshold"`
	TPR       float64 `json:"tpr"`
	FPR       float64 `json:"fpr"`
}

// metrics of scores against labels, of which both kinds occur.
type metrics struct {
	auc         float64
	ks          float64
	ksThreshold float64
	curve       []Point
}

// measure goes through the scores from the highest; rows of one score count at once.
func measure(labels []uint8, scores []float64) metrics {
	order := make([]int, len(scores))
	var ones, zeros float64
	for i := range order {
		order[i] = i
		if labels[i] == 1 {
			ones++
		} else {
			zeros++
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(scores[b], scores[a]) })
	m := metrics{}
	var tp, fp float64
	for i := 0; i < len(order); {
		score := scores[order[i]]
		tpBefore, fpBefore := tp, fp
		for ; i < len(order) && scores[order[i]] == score; i++ {
			if labels[order[i]] == 1 {
				tp++
			} else {
				fp++
			}
		}
		m.auc += (fp - fpBefore) * (tp + tpBefore) / 2
		point := Point{score, tp / ones, fp / zeros}
		m.curve = append(m.curve, point)
		if d := point.TPR - point.FPR; d > m.ks {
			m.ks, m.ksThreshold = d, score
		}
	}
	m.auc /= ones * zeros
	return m
}

// maxPoints is how long a curve in a report gets.
const maxPoints = 200

// thin keeps evenly chosen points of a curve, the first and the last among them.
func thin(curve []Point) []Point {
	if len(curve) <= maxPoints {
		return curve
	}
	out := make([]Point, maxPoints)
	for i := range out {
		out[i] = curve[i*(len(curve)-1)/(maxPoints-1)]
	}
	return out
}
