package boost

import (
	"fmt"
	"slices"
)

// Model holds the guest's part of a trained model. The score of a row is the sum of the weights of the leaves
// that it reaches, one per tree. The probability of label 1 is the sigmoid of the score.
type Model struct {
	Component    string   `json:"component"`
	Role         string   `json:"role"`
	Objective    string   `json:"objective"`
	LearningRate float64  `json:"learning_rate"` // already included in the weights
	Features     []string `json:"features"`
	Trees        []*Tree  `json:"trees"`
}

// Tree is a list of nodes. The first one is the root.
type Tree struct {
	Nodes []Node `json:"nodes"`
}

// Node is a leaf with a weight, or an inner node with a rule and the positions of two children.
type Node struct {
	Rule   *Rule   `json:"rule,omitempty"`
	Left   int     `json:"left,omitempty"`
	Right  int     `json:"right,omitempty"`
	Weight float64 `json:"weight,omitempty"`
}

// Rule decides which rows go left: those whose feature is at most the threshold. For a host's rule, only the
// number of the split is set. Gain is how much the split improves the objective. The guest computes it for
// the rules of all parties.
type Rule struct {
	Owner     string   `json:"owner"` // guest.0
	Feature   string   `json:"feature,omitempty"`
	Threshold *float64 `json:"threshold,omitempty"`
	Split     *int     `json:"split,omitempty"` // position in the owner's HostModel.Splits
	Gain      float64  `json:"gain,omitempty"`
}

// HostModel holds a host's part of a trained model: the meaning of the split numbers in the guest's model.
type HostModel struct {
	Component string      `json:"component"`
	Role      string      `json:"role"`
	Features  []string    `json:"features"`
	Splits    []HostSplit `json:"splits"` // a split's number is its position
}

// HostSplit is the rule of a host's split.
type HostSplit struct {
	Feature   string  `json:"feature"`
	Threshold float64 `json:"threshold"`
}

// HostRow holds a host's part of a model and a row of its features, by name.
type HostRow struct {
	Model HostModel
	Row   map[string]float64
}

// Score returns the probability of label 1 for a row, given all parts of the model and all parties' features
// by name. It is usable only where all parts may be joined: in a test, or if the hosts have given away their
// parts.
func (m Model) Score(guestRow map[string]float64, hosts ...HostRow) (float64, error) {
	score := 0.0
	for t, tree := range m.Trees {
		at := 0
		for steps := 0; ; steps++ {
			if at < 0 || at >= len(tree.Nodes) || steps > len(tree.Nodes) {
				return 0, fmt.Errorf("tree %d: a node refers to an invalid position or forms a cycle", t)
			}
			node := tree.Nodes[at]
			if node.Rule == nil {
				score += node.Weight
				break
			}
			value, threshold := 0.0, 0.0
			known := false
			switch r := node.Rule; {
			case r.Threshold != nil:
				value, known = guestRow[r.Feature]
				threshold = *r.Threshold
			case r.Split != nil:
				i := slices.IndexFunc(hosts, func(h HostRow) bool { return h.Model.Role == r.Owner })
				if i < 0 || *r.Split < 0 || *r.Split >= len(hosts[i].Model.Splits) {
					break
				}
				split := hosts[i].Model.Splits[*r.Split]
				value, known = hosts[i].Row[split.Feature]
				threshold = split.Threshold
			}
			if !known {
				return 0, fmt.Errorf("tree %d, node %d: unknown split or feature", t, at)
			}
			if value <= threshold {
				at = node.Left
			} else {
				at = node.Right
			}
		}
	}
	return sigmoid(score), nil
}
