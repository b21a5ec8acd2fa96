package boost

// Model is the guest's part of a trained model. Rows are scored by summing up the weight of the leaf that they reach in each
// tree; the probability of label 1 is the sigmoid of that sum.
type Model struct {
	Component    string   `json:"component"`
	Role         string   `json:"role"`
	Objective    string   `json:"objective"`
	LearningRate float64  `json:"learning_rate"` // is in the weights already
	Features     []string `json:"features"`
	Trees        []*Tree  `json:"trees"`
}

// Tree is a list of nodes; the first is the root.
type Tree struct {
	Nodes []Node `json:"nodes"`
}

// Node is a leaf with a weight, or has a rule and two children, by their positions in the tree.
type Node struct {
	Rule   *Rule   `json:"rule,omitempty"`
	Left   int     `json:"left,omitempty"`
	Right  int     `json:"right,omitempty"`
	Weight float64 `json:"weight,omitempty"`
}

// Rule tells which rows go left: those whose feature is not above the threshold. Of a partner's rule only the number
// is known.
type Rule struct {
	Owner     string   `json:"owner"` // guest.0
	Feature   string   `json:"feature,omitempty"`
	Threshold *float64 `json:"threshold,omitempty"`
	Split     *int     `json:"split,omitempty"` // number in the partner's HostModel
}

// HostModel is the host's part: what the numbers in the guest's model mean.
type HostModel struct {
	Component string      `json:"component"`
	Role      string      `json:"role"`
	Features  []string    `json:"features"`
	Splits    []HostSplit `json:"splits"` // the number of a split is its position
}

// HostSplit is a rule of the host.
type HostSplit struct {
	Feature   string  `json:"feature"`
	Threshold float64 `json:"threshold"`
}
