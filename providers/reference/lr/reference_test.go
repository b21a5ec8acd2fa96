package lr

import "math"

// reference is a textbook implementation of regression by gradient descent on the joined table, in floating
// point. It is given the loss of a row as a function of its score, and the function's slope. It shares no
// code with the component. If there is an intercept, the last column is its column.
type reference struct {
	loss, slope func(y, z float64) float64 // of label 1 or -1
	weights     []float64
	losses      []float64
	scores      []float64
}

func newTaylor() *reference {
	return &reference{
		loss:  func(y, z float64) float64 { return math.Ln2 - y*z/2 + z*z/8 },
		slope: func(y, z float64) float64 { return z/4 - y/2 },
	}
}

func newExact() *reference {
	return &reference{
		loss:  func(y, z float64) float64 { return math.Log1p(math.Exp(-y * z)) },
		slope: func(y, z float64) float64 { return -y / (1 + math.Exp(y*z)) },
	}
}

func (r *reference) train(columns [][]float64, labels []uint8, p Params, batches [][2]int) {
	n := len(columns)
	free := n // columns from here on have no penalty
	if p.Intercept {
		free--
	}
	r.weights = make([]float64, n)
	for j := range r.weights {
		r.weights[j] = p.Init
	}
	m, v := make([]float64, n), make([]float64, n)
	score := func(i int) (z float64) {
		for j := range columns {
			z += r.weights[j] * columns[j][i]
		}
		return z
	}
	t := 0.0
	for range p.MaxIter {
		sum, moved := 0.0, make([]float64, n)
		for _, b := range batches {
			t++
			count := float64(b[1] - b[0])
			g := make([]float64, n)
			for i := b[0]; i < b[1]; i++ {
				y := 2*float64(labels[i]) - 1
				z := score(i)
				sum += r.loss(y, z)
				for j := range g {
					g[j] += r.slope(y, z) * columns[j][i] / count
				}
			}
			for j := range free {
				switch p.Penalty {
				case "L2":
					sum += count * p.Alpha / 2 * r.weights[j] * r.weights[j]
					g[j] += p.Alpha * r.weights[j]
				case "L1":
					sum += count * p.Alpha * math.Abs(r.weights[j])
				}
			}
			for j := range g {
				step := p.LearningRate * g[j]
				switch p.Optimizer {
				case "rmsprop":
					v[j] = 0.99*v[j] + 0.01*g[j]*g[j]
					step /= math.Sqrt(v[j] + 1e-8)
				case "adagrad":
					v[j] += g[j] * g[j]
					step /= math.Sqrt(v[j] + 1e-8)
				case "adam":
					m[j] = 0.9*m[j] + 0.1*g[j]
					v[j] = 0.999*v[j] + 0.001*g[j]*g[j]
					mean, square := m[j]/(1-math.Pow(0.9, t)), v[j]/(1-math.Pow(0.999, t))
					step = p.LearningRate * mean / (math.Sqrt(square) + 1e-8)
				case "nesterov_momentum_sgd":
					was := m[j]
					m[j] = 0.9*m[j] - p.LearningRate*g[j]
					step = 0.9*was - 1.9*m[j]
				}
				before := r.weights[j]
				r.weights[j] -= step
				if p.Penalty == "L1" && j < free {
					size := math.Abs(r.weights[j]) - p.Alpha*p.LearningRate
					if size < 0 {
						size = 0
					}
					r.weights[j] = math.Copysign(size, r.weights[j])
				}
				moved[j] += r.weights[j] - before
			}
		}

		loss := sum / float64(len(labels))
		r.losses = append(r.losses, loss)
		length := 0.0
		for _, d := range moved {
			length += d * d
		}
		if p.EarlyStop == "abs" && loss < p.Tol ||
			p.EarlyStop == "weight_diff" && math.Sqrt(length) < p.Tol ||
			p.EarlyStop == "diff" && len(r.losses) > 1 && math.Abs(r.losses[len(r.losses)-2]-loss) < p.Tol {
			break
		}
	}

	for i := range labels {
		r.scores = append(r.scores, score(i))
	}
}
