package boost

import (
	"fmt"
	"slices"
)

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

// Rule tells which rows go left: those whose feature is not above the threshold. Of a host's rule only the number
// is known.
type Rule struct {
	Owner     string   `json:"owner"` // guest.0
	Feature   string   `json:"feature,omitempty"`
	Threshold *float64 `json:"threshold,omitempty"`
	Split     *int     `json:"split,omitempty"` // number in the owner's HostModel
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

// HostRow is a host's part of a model and a row of its features, by name.
type HostRow struct {
	Model HostModel
	Row   map[string]float64
}

// Score is the probability of label 1 for a row, from all parts of the model and all parties' features by name. It is for
// where all parts may come together: a test, or hosts that gave their parts away.
func (m Model) Score(guestRow map[string]float64, hosts ...HostRow) (float64, error) {
	score := 0.0
	for t, tree := range m.Trees {
		at := 0
		for steps := 0; ; steps++ {
			if at < 0 || at >= len(tree.Nodes) || steps > len(tree.Nodes) {
				return 0, fmt.Errorf("tree %d: a node points outside of the tree or back", t)
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
				return 0, fmt.Errorf("tree %d, node %d: its split or feature is unknown", t, at)
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
