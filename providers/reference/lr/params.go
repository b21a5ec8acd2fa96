package lr

import (
	"strings"

	"hutong-reference/channel"
	"hutong-reference/component"
)

// Parameters lists the parameters that the component reads.
var Parameters = []string{
	"id", "label", "penalty", "tol", "alpha", "optimizer", "batch_size", "learning_rate", "init_param",
	"max_iter",
	"early_stop", "predict_param", "metrics", "encrypt_param",
}

// Inputs and Outputs list the names of the data that the component reads and writes.
var (
	Inputs  = []string{"train_data"}
	Outputs = []string{"train_data", "model", "train-loss", "train-auc", "train-ks"}
)

// Params holds the parameters of a training. [ReadParams] sets the defaults.
type Params struct {
	ID    string // name of the id column
	Label string // name of the guest's label column, with the values 0 and 1

	Agreement
	Threshold float64 // predict_result is 1 if the score is at least this
	Metrics   []string
	KeyBits   int // length of the arbiter's Paillier key
}

// Agreement holds the parameters that must be equal at guest and hosts.
type Agreement struct {
	MaxIter      int     `json:"max_iter"`
	BatchSize    int     `json:"batch_size"` // 0: all rows
	LearningRate float64 `json:"learning_rate"`
	Optimizer    string  `json:"optimizer"`
	Penalty      string  `json:"penalty"` // L1, L2 or none
	Alpha        float64 `json:"alpha"`   // weight of the penalty
	EarlyStop    string  `json:"early_stop"`
	Tol          float64 `json:"tol"`
	Init         float64 `json:"init"` // initial value of every weight
	Intercept    bool    `json:"intercept"`
}

// Conditions that stop the training before max_iter.
const (
	stopDiff       = "diff"        // the loss changes by less than tol
	stopWeightDiff = "weight_diff" // the length of the weights' change is less than tol
	stopAbs        = "abs"         // the loss is less than tol
)

// ReadParams reads and checks the parameters of the task. Its errors may be sent to the partners.
func ReadParams(values map[string]string) (Params, error) {
	r := component.NewReader(values)
	p := Params{
		ID:    r.String("id", "id"),
		Label: r.String("label", "y"),
		Agreement: Agreement{
			MaxIter:      r.Int("max_iter", 30, 1, 100000),
			LearningRate: r.Float("learning_rate", 0.15, 1e-9, 1000),
			Optimizer:    r.OneOf("optimizer", "rmsprop", optimizers...),
			Penalty:      r.OneOf("penalty", "L2", "L2", "L1", "none"),
			Alpha:        r.Float("alpha", 0.01, 0, 1e6),
			EarlyStop:    r.OneOf("early_stop", stopWeightDiff, stopWeightDiff, stopDiff, stopAbs),
			Tol:          r.Float("tol", 0.0001, 0, 1e6),
			Intercept:    true,
		},
		Metrics: r.Strings("metrics", []string{"auc", "ks"}),
	}

	r.CheckSubset("metrics", p.Metrics, []string{"auc", "ks"})
	if !strings.EqualFold(r.String("batch_size", ""), "all") {
		p.BatchSize = r.Int("batch_size", 2048, -1, 1<<30)
		switch p.BatchSize {
		case -1:
			p.BatchSize = 0 // FATE writes -1 for all rows
		case 0:
			r.Fail("batch_size", "0 is not supported; supported: 1 or more, and all or -1 for all rows")
		}
	}

	// The protocol's documents contain both forms of the initial weights.
	method, name := r, "init_param"
	if r.IsObject(name) {
		method, name = r.Object(name), "init_method"
		p.Intercept = method.Bool("fit_intercept", true)
	}
	switch method.OneOf(name, "zeros", "zeros", "ones", "const") {
	case "ones":
		p.Init = 1
	case "const":
		p.Init = method.Float("init_const", 0, -1000, 1000)
	}
	p.Threshold = r.Object("predict_param").Float("threshold", 0.5, 0, 1)
	p.KeyBits = r.Paillier("encrypt_param")
	if err := r.Err(); err != nil {
		return p, channel.Errorf("%v", err)
	}
	return p, nil
}
