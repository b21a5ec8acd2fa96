package lr

import "math"

// optimizers are the ways of stepping, with the constants that FATE gives them. Each looks at one weight at a time, so parties
// that step by themselves step as one that has all weights.
var optimizers = []string{"rmsprop", "sgd", "nesterov_momentum_sgd", "adam", "adagrad"}

const (
	rmspropRho = 0.99
	momentum   = 0.9
	adamBeta1  = 0.9
	adamBeta2  = 0.999
	epsilon    = 1e-8
)

// optimizer keeps what one way of stepping remembers of each weight.
type optimizer struct {
	name   string
	rate   float64
	step   int
	first  []float64 // momentum, or mean of gradients
	second []float64 // sum or mean of squared gradients
}

func newOptimizer(name string, rate float64, weights int) *optimizer {
	return &optimizer{name: name, rate: rate, first: make([]float64, weights), second: make([]float64, weights)}
}

// deltas is how much is to be taken from each weight.
func (o *optimizer) deltas(gradient []float64) []float64 {
	o.step++
	out := make([]float64, len(gradient))
	for i, g := range gradient {
		m, v := &o.first[i], &o.second[i]
		switch o.name {
		case "nesterov_momentum_sgd":
			before := *m
			*m = momentum**m - o.rate*g
			out[i] = momentum*before - (1+momentum)**m
		case "adagrad":
			*v += g * g
			out[i] = o.rate * g / math.Sqrt(*v+epsilon)
		case "rmsprop":
			*v = rmspropRho**v + (1-rmspropRho)*g*g
			out[i] = o.rate * g / math.Sqrt(*v+epsilon)
		case "adam":
			*m = adamBeta1**m + (1-adamBeta1)*g
			*v = adamBeta2**v + (1-adamBeta2)*g*g
			mean := *m / (1 - math.Pow(adamBeta1, float64(o.step)))
			square := *v / (1 - math.Pow(adamBeta2, float64(o.step)))
			out[i] = o.rate * mean / (math.Sqrt(square) + epsilon)
		default: // sgd
			out[i] = o.rate * g
		}
	}
	return out
}
