package lr

import "fmt"

// Model holds one party's part of a trained model: the weights of its own features.
type Model struct {
	Component  string   `json:"component"`
	Role       string   `json:"role"`
	Weights    []Weight `json:"weights"`
	Intercept  *float64 `json:"intercept,omitempty"` // at the guest only, if fitted
	Iterations int      `json:"iterations,omitempty"`
}

// Weight holds the weight of one feature.
type Weight struct {
	Feature string  `json:"feature"`
	Weight  float64 `json:"weight"`
}

// Share returns this party's share of a row's score, given its features by name. The probability of label 1
// is the sigmoid of the sum of all parties' shares.
func (m Model) Share(row map[string]float64) (float64, error) {
	sum := 0.0
	for _, w := range m.Weights {
		v, ok := row[w.Feature]
		if !ok {
			return 0, fmt.Errorf("the row has no feature %q", w.Feature)
		}
		sum += w.Weight * v
	}

	if m.Intercept != nil {
		sum += *m.Intercept
	}
	return sum, nil
}

func (w *party) model(component string) Model {
	m := Model{Component: component, Role: w.self, Weights: []Weight{}}
	for j, name := range w.names {
		m.Weights = append(m.Weights, Weight{name, w.weights[j]})
	}
	if len(w.weights) > len(w.names) {
		m.Intercept = &w.weights[len(w.names)]
	}
	return m
}
