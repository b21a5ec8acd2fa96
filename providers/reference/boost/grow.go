package boost

import (
	"context"

	"golang.org/x/sync/errgroup"
)

// growingNode is a node of the current level.
type growingNode struct {
	index int // position in the tree
	rows  []int32
	sum   sum
	hists [][]histogram // by source and feature; nil if the node stays a leaf

	sibling *growingNode  // nil at the root
	parent  [][]histogram // of the parent, by source and feature
}

// grow grows one tree level by level and adds the weights of its leaves to the scores.
func grow(
	ctx context.Context, sources []source, labels []uint8, gradients []sum, p Params, scores []float64,
) (*Tree, error) {
	tree := &Tree{Nodes: []Node{{}}}
	root := &growingNode{rows: make([]int32, len(labels))}
	for i := range root.rows {
		root.rows[i] = int32(i)
		root.sum = root.sum.plus(gradients[i])
	}
	level := []*growingNode{root}
	for depth := 0; len(level) > 0; depth++ {
		if depth < p.Tree.MaxDepth {
			if err := fillHistograms(ctx, sources, level, labels, p.Tree); err != nil {
				return nil, err
			}
		}
		next, err := splitLevel(ctx, sources, level, gradients, tree, p.Tree)
		if err != nil {
			return nil, err
		}
		for _, g := range level {
			if node := &tree.Nodes[g.index]; node.Rule == nil {
				node.Weight = p.LearningRate * p.Tree.weight(g.sum)
				for _, row := range g.rows {
					scores[row] += node.Weight
				}
			}
		}

		level = next
	}
	return tree, nil
}

// canSplit reports whether a node is large enough and has rows of both labels.
func canSplit(g *growingNode, labels []uint8, t TreeParams) bool {
	if len(g.rows) < t.MinSampleSplit || len(g.rows) < 2*t.MinLeafNode {
		return false
	}
	for _, row := range g.rows[1:] {
		if labels[row] != labels[g.rows[0]] {
			return true
		}
	}
	return false
}

// fillHistograms requests the histograms of a level's nodes. For two siblings it requests only the smaller
// one and computes the other as the parent minus the sibling (histogram subtraction).
func fillHistograms(
	ctx context.Context, sources []source, level []*growingNode, labels []uint8, t TreeParams,
) error {
	var requested []*growingNode
	var nodes [][]int32
	required := map[*growingNode]bool{}
	for _, g := range level {
		if canSplit(g, labels, t) {
			required[g] = true
		}
	}
	for _, g := range level {
		pair := required[g] || required[g.sibling]
		smaller := g.sibling == nil || len(g.rows) < len(g.sibling.rows) ||
			len(g.rows) == len(g.sibling.rows) && g.index < g.sibling.index
		if pair && smaller {
			requested = append(requested, g)
			nodes = append(nodes, g.rows)
		}
	}

	if len(requested) == 0 {
		return nil
	}
	hists := make([][][]histogram, len(sources))
	err := forEachSource(ctx, sources, func(ctx context.Context, i int, s source) (err error) {
		hists[i], err = s.histograms(ctx, nodes)
		return err
	})
	if err != nil {
		return err
	}
	for _, ofSource := range hists {
		for i, g := range requested {
			g.hists = append(g.hists, ofSource[i])
		}
	}
	for _, g := range requested {
		if required[g.sibling] {
			g.sibling.hists = subtract(g.parent, g.hists)
		}
		if !required[g] {
			g.hists = nil
		}
	}
	return nil
}

// subtract returns the histograms of the parent minus those of a child.
func subtract(parent, child [][]histogram) [][]histogram {
	out := make([][]histogram, len(parent))
	for s := range parent {
		out[s] = make([]histogram, len(parent[s]))
		for f, h := range parent[s] {
			if h == nil {
				continue
			}
			rest := make(histogram, len(h))
			for b := range h {
				rest[b] = h[b].minus(child[s][f][b])
			}
			out[s][f] = rest
		}
	}
	return out
}

// splitLevel splits each node of a level by its best split, if any, and returns the next level.
func splitLevel(
	ctx context.Context, sources []source, level []*growingNode, gradients []sum, tree *Tree, t TreeParams,
) ([]*growingNode, error) {
	// The splits that each source makes, and the nodes that they split.
	cuts := make([][]split, len(sources))
	cutNodes := make([][]*growingNode, len(sources))
	gains := map[*growingNode]float64{}
	for _, g := range level {
		best := candidate{source: -1, gain: t.MinGain}
		for s, features := range g.hists {
			for f, h := range features {
				if h != nil {
					best = t.bestSplit(best, h, g.sum, s, f)
				}
			}
		}

		if best.source >= 0 {
			s := best.source
			cuts[s] = append(cuts[s], split{best.feature, best.bin, g.rows})
			cutNodes[s] = append(cutNodes[s], g)
			gains[g] = best.gain
		}
	}

	answers := map[*growingNode]splitResult{}
	for s, source := range sources {
		if len(cuts[s]) == 0 {
			continue
		}
		parts, err := source.split(ctx, cuts[s])
		if err != nil {
			return nil, err
		}
		for i, g := range cutNodes[s] {
			answers[g] = parts[i]
		}
	}

	var next []*growingNode
	for _, g := range level {
		answer, ok := answers[g]
		if !ok {
			continue // no split gains enough, so the node is a leaf
		}

		left := &growingNode{index: len(tree.Nodes), parent: g.hists}
		right := &growingNode{index: len(tree.Nodes) + 1, parent: g.hists, sibling: left}
		left.sibling = right
		tree.Nodes = append(tree.Nodes, Node{}, Node{})
		node := &tree.Nodes[g.index]
		answer.rule.Gain = gains[g]
		node.Rule, node.Left, node.Right = &answer.rule, left.index, right.index

		for i, row := range g.rows {
			side := right
			if answer.left[i] {
				side = left
			}
			side.rows = append(side.rows, row)
			side.sum = side.sum.plus(gradients[row])
		}

		next = append(next, left, right)
	}
	return next, nil
}

// forEachSource calls do for all sources concurrently, since each waits for its host.
func forEachSource(
	ctx context.Context, sources []source, do func(ctx context.Context, i int, s source) error,
) error {
	g, ctx := errgroup.WithContext(ctx)
	for i, s := range sources {
		g.Go(func() error { return do(ctx, i, s) })
	}
	return g.Wait()
}
