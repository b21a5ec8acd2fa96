package boost

import (
	"context"
	"fmt"
	"log/slog"
	"math"
)

// trainResult holds the result of a training.
type trainResult struct {
	trees  []*Tree
	scores []float64 // of each row, before the sigmoid
	losses []float64 // after each tree
}

// train runs gradient boosting over the features of all sources. With one local source it trains on a
// plaintext table. With a local source and one for each host it is SecureBoost.
func train(ctx context.Context, sources []source, labels []uint8, p Params) (*trainResult, error) {
	out := &trainResult{scores: make([]float64, len(labels))}
	last := logLoss(labels, out.scores)
	gradients := make([]sum, len(labels))
	for t := range p.Trees {
		for i, label := range labels {
			gradients[i] = gradientOf(label, out.scores[i])
		}
		err := forEachSource(ctx, sources, func(ctx context.Context, _ int, s source) error {
			return s.startTree(ctx, t, gradients)
		})
		if err != nil {
			return nil, fmt.Errorf("tree %d: %w", t+1, err)
		}
		tree, err := grow(ctx, sources, labels, gradients, p, out.scores)
		if err != nil {
			return nil, fmt.Errorf("tree %d: %w", t+1, err)
		}
		loss := logLoss(labels, out.scores)
		out.trees = append(out.trees, tree)
		out.losses = append(out.losses, loss)
		slog.Info(fmt.Sprintf("tree %d/%d loss %.6f", t+1, p.Trees, loss), "nodes", len(tree.Nodes))
		if p.StopEarly && math.Abs(last-loss) < p.Tol {
			slog.Info("stopping early: the loss changes by less than tol", "tol", p.Tol)
			break
		}
		last = loss
	}
	return out, nil
}
