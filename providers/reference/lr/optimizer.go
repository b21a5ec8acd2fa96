package lr

import "math"

// optimizers lists the optimizers, with FATE's constants. Each treats weights independently. So parties that
// update their own weights obtain the same result as one party that has all weights.
var optimizers = []string{"rmsprop", "sgd", "nesterov_momentum_sgd", "adam", "adagrad"}

const (
	rmspropRho = 0.99
	momentum   = 0.9
	adamBeta1  = 0.9
	adamBeta2  = 0.999
	epsilon    = 1e-8
)

// optimizer holds the state of an optimizer for each weight.
type optimizer struct {
	name   string
	rate   float64
	step   int
	first  []float64 // momentum, or mean of gradients
	second []float64 // sum or mean of squared gradients
}

func newOptimizer(name string, rate float64, weights int) *optimizer {
	return &optimizer{
		name:   name,
		rate:   rate,
		first:  make([]float64, weights),
		second: make([]float64, weights),
	}
}

// deltas returns the amounts to subtract from the weights.
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
