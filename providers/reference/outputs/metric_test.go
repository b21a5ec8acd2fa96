package outputs

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMeasure(t *testing.T) {
	m := Measure([]uint8{1, 1, 0, 0}, []float64{0.9, 0.8, 0.2, 0.1})
	require.Equal(t, 1.0, m.AUC)
	require.Equal(t, 1.0, m.KS)
	require.Equal(t, 0.8, m.KSThreshold)
	require.Equal(t, 2, m.Ones)
	require.Equal(t, 2, m.Zeros)
	require.Equal(t, []Point{
		{Threshold: 0.9, TPR: 0.5, FPR: 0, Share: 0.25, Precision: 1},
		{Threshold: 0.8, TPR: 1, FPR: 0, Share: 0.5, Precision: 1},
		{Threshold: 0.2, TPR: 1, FPR: 0.5, Share: 0.75, Precision: 2.0 / 3},
		{Threshold: 0.1, TPR: 1, FPR: 1, Share: 1, Precision: 0.5},
	}, m.Curve)
	m = Measure([]uint8{1, 0, 1, 0}, []float64{0.5, 0.5, 0.5, 0.5})
	require.Equal(t, 0.5, m.AUC)
	require.Zero(t, m.KS)
	require.Len(t, m.Curve, 1)
	m = Measure([]uint8{0, 1, 1}, []float64{0.9, 0.8, 0.7})
	require.Zero(t, m.AUC)

	var curve []Point
	for i := range 1001 {
		curve = append(curve, Point{Threshold: float64(i)})
	}
	thinned := downsample(curve)
	require.Len(t, thinned, maxPoints)
	require.Equal(t, curve[0], thinned[0])
	require.Equal(t, curve[1000], thinned[maxPoints-1])
}
