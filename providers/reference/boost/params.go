package boost

import (
	"hutong-reference/channel"
	"hutong-reference/component"
)

// Parameters lists the parameters that the component reads.
var Parameters = []string{
	"id", "label", "objective_param", "learning_rate", "num_trees", "subsample_feature_rate", "random_seed",
	"bin_num",
	"tree_param", "n_iter_no_change", "tol", "early_stopping_rounds", "predict_param", "metrics", "cv_param",
	"encrypt_param",
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

	LearningRate float64
	Trees        int
	Tree         TreeParams
	Bins         int     // maximum number of bins of a feature
	FeatureRate  float64 // share of each party's features that are sampled for a tree
	Seed         uint64  // of that sample

	StopEarly bool // stop if a tree changes the loss by less than Tol
	Tol       float64

	Threshold float64 // predict_result is 1 if the score is at least this
	Metrics   []string
	KeyBits   int // length of the Paillier key
}

// TreeParams limits the growth of a tree.
type TreeParams struct {
	MaxDepth       int     // maximum number of splits from the root to a leaf
	Lambda         float64 // L2 regularisation of leaf weights
	MinSampleSplit int     // a node with fewer rows is a leaf
	MinLeafNode    int     // minimum number of rows of a leaf
	MinGain        float64 // min_impurity_split: a split must have a greater gain
}

// ReadParams reads and checks the parameters of the task. Its errors may be sent to the partners.
func ReadParams(values map[string]string) (Params, error) {
	r := component.NewReader(values)
	p := Params{
		ID:           r.String("id", "id"),
		Label:        r.String("label", "y"),
		LearningRate: r.Float("learning_rate", 0.3, 1e-6, 10),
		Trees:        r.Int("num_trees", 5, 1, 10000),
		Bins:         r.Int("bin_num", 32, 2, 4096),
		FeatureRate:  r.Float("subsample_feature_rate", 1, 1e-6, 1),
		Seed:         uint64(r.Int("random_seed", 0, 0, 1<<53)),
		StopEarly:    r.Bool("n_iter_no_change", true),
		Tol:          r.Float("tol", 0.0001, 0, 1e6),
		Metrics:      r.Strings("metrics", []string{"auc", "ks"}),
	}

	r.CheckSubset("metrics", p.Metrics, []string{"auc", "ks"})

	// The protocol's documents contain both forms of the objective.
	objective, name := r, "objective_param"
	if r.IsObject(name) {
		objective, name = r.Object(name), "objective"
	}
	objective.OneOf(name, "cross_entropy", "cross_entropy")

	t := r.Object("tree_param")
	p.Tree = TreeParams{
		MaxDepth:       t.Int("max_depth", 3, 1, 16),
		Lambda:         t.Float("lambda", 0.1, 0, 1e9),
		MinSampleSplit: t.Int("min_sample_split", 2, 2, 1<<30),
		MinLeafNode:    t.Int("min_leaf_node", 1, 1, 1<<30),
		MinGain:        t.Float("min_impurity_split", 0.001, 0, 1e9),
	}

	p.Threshold = r.Object("predict_param").Float("threshold", 0.5, 0, 1)

	p.KeyBits = r.Paillier("encrypt_param")
	if r.Object("cv_param").Bool("need_cv", false) {
		r.Object("cv_param").
			Fail("need_cv", "cross-validation is not supported; remove the parameter or set it to false")
	}
	if r.Has("early_stopping_rounds") {
		r.Fail("early_stopping_rounds", "validation data is not supported; remove the parameter "+
			"(n_iter_no_change and tol stop on the training loss)")
	}
	if err := r.Err(); err != nil {
		return p, channel.Errorf("%v", err)
	}
	return p, nil
}
