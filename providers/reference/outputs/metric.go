package outputs

import (
	"cmp"
	"slices"
)

// Point says what predicting label 1 from a threshold up would achieve. The points are those of the KS and
// ROC curves. Precision by TPR is the precision-recall curve, TPR by Share the gain, and TPR/Share by Share
// the lift.
type Point struct {
	Threshold float64 `json:"threshold"`
	TPR       float64 `json:"tpr"`       // share of the rows of label 1 that score at least the threshold
	FPR       float64 `json:"fpr"`       // the same of label 0
	Share     float64 `json:"share"`     // the same of all rows
	Precision float64 `json:"precision"` // share of label 1 among these rows
}

// Metrics measures how well scores separate the labels.
type Metrics struct {
	AUC         float64
	KS          float64
	KSThreshold float64 // the score at which KS is reached
	Ones, Zeros int     // rows of each label
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
	m := Metrics{Ones: int(ones), Zeros: int(zeros)}
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
		point := Point{Threshold: score, TPR: tp / ones, FPR: fp / zeros,
			Share: (tp + fp) / (ones + zeros), Precision: tp / (tp + fp)}
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
