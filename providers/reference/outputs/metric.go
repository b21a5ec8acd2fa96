package outputs

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

// Metrics of scores against labels.
type Metrics struct {
	AUC         float64
	KS          float64
	KSThreshold float64 // the score at which KS is reached
	Curve       []Point // from the highest score down
}

// Measure compares scores with labels, of which both kinds must occur. It goes through the scores from the highest; rows of one score count at once.
func Measure(labels []uint8, scores []float64) Metrics {
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
	m := Metrics{}
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
		m.AUC += (fp - fpBefore) * (tp + tpBefore) / 2
		point := Point{score, tp / ones, fp / zeros}
		m.Curve = append(m.Curve, point)
		if d := point.TPR - point.FPR; d > m.KS {
			m.KS, m.KSThreshold = d, score
		}
	}
	m.AUC /= ones * zeros
	return m
}

// maxPoints is how long a curve in a report gets.
const maxPoints = 200

// downsample keeps evenly chosen points of a curve, the first and the last among them.
func downsample(curve []Point) []Point {
	if len(curve) <= maxPoints {
		return curve
	}
	out := make([]Point, maxPoints)
	for i := range out {
		out[i] = curve[i*(len(curve)-1)/(maxPoints-1)]
	}
	return out
}
