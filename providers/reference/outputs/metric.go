package outputs

import (
	"cmp"
	"slices"
)

// Point is a point of the KS curve: for each label, the share of rows that score at least the threshold.
type Point struct {
	Threshold float64 `json:"threshold"`
	TPR       float64 `json:"tpr"`
	FPR       float64 `json:"fpr"`
}

// Metrics measures how well scores separate the labels.
type Metrics struct {
	AUC         float64
	KS          float64
	KSThreshold float64 // the score at which KS is reached
	Curve       []Point // from the highest score down
}

// Measure compares scores with labels. Both labels must occur. It processes scores in descending order and
// treats rows of equal score as one step.
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

// maxPoints limits the length of a curve in a report.
const maxPoints = 200

// downsample returns evenly spaced points of a curve, including the first and the last.
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
