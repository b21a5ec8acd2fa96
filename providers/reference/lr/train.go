package lr

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"math/big"
	"slices"

	"hutong-reference/channel"
	"hutong-reference/component"
	"hutong-reference/parallel"
)

// run trains the model. At the guest it returns the loss of each iteration and the score of each row; at a
// host, nothing.
func (w *party) run(ctx context.Context) (losses, scores []float64, err error) {
	if err := w.handshake(ctx); err != nil {
		return nil, nil, err
	}
	for it := range w.params.MaxIter {
		before := slices.Clone(w.weights)
		objective := newPartialSum()
		for b, rows := range w.batches() {
			if err := w.step(ctx, position{it + 1, b}, rows, objective); err != nil {
				return nil, nil, fmt.Errorf("iteration %d: %w", it+1, err)
			}
		}
		stop, loss, err := w.endIteration(ctx, it+1, objective, before, losses)
		if err != nil {
			return nil, nil, fmt.Errorf("iteration %d: %w", it+1, err)
		}
		if w.labels == nil {
			slog.Info(fmt.Sprintf("iteration %d/%d", it+1, w.params.MaxIter))
		} else {
			losses = append(losses, loss)
			slog.Info(fmt.Sprintf("iteration %d/%d loss %.6f", it+1, w.params.MaxIter, loss))
		}
		if stop {
			slog.Info("stopping early", "early_stop", w.params.EarlyStop, "tol", w.params.Tol)
			break
		}
	}

	if scores, err = w.scores(ctx); err != nil {
		return nil, nil, fmt.Errorf("failed to compute scores: %w", err)
	}
	return losses, scores, w.finish(ctx)
}

// partialSum is a sum of a plaintext and an encrypted part.
type partialSum struct{ plain, encrypted *big.Int }

func newPartialSum() *partialSum { return &partialSum{new(big.Int), big.NewInt(1)} }

// forward returns this party's share of the scores of a batch.
func (w *party) forward(rows batch) ([]int64, error) {
	z := make([]int64, rows.to-rows.from)
	for i := range z {
		sum := 0.0
		for j, column := range w.columns {
			sum += w.weights[j] * column[rows.from+i]
		}
		if !(math.Abs(sum) < maxValue) { // also true for NaN
			return nil, errTooLarge(w.self)
		}
		z[i] = toFixed(sum)
	}
	return z, nil
}

// step processes one batch. It updates the weights and adds 8 times the batch's loss to the objective,
// without the constant log 2 per row.
func (w *party) step(ctx context.Context, now position, rows batch, objective *partialSum) error {
	z, err := w.forward(rows)
	if err != nil {
		return err
	}

	// A row's residual is a quarter of the sum of all parties' parts: z/4 - y/2.
	part := slices.Clone(z)
	if w.labels != nil {
		for i := range part {
			part[i] -= 2 * w.labels[rows.from+i] << precision
		}
	}
	shares, err := w.exchange(ctx, now, part)
	if err != nil {
		return err
	}
	theirs, err := w.sum(ctx, values(shares))
	if err != nil {
		return err
	}
	if err := w.addLoss(ctx, z, part, shares, theirs, objective); err != nil {
		return err
	}

	gradient := make([]*big.Int, len(w.columns))
	err = parallel.Each(ctx, len(gradient), func(j int) error {
		gradient[j] = w.key.WeightedSum(theirs, w.fixed[j][rows.from:rows.to])
		return nil
	})
	if err != nil {
		return err
	}
	if gradient, err = w.decrypt(ctx, gradient, gradientWidth(len(z), len(w.hosts)+1)); err != nil {
		return err
	}
	return w.update(gradient, part, rows)
}

// exchange sends this party's encrypted parts to all others and receives theirs.
func (w *party) exchange(ctx context.Context, now position, part []int64) (map[string][]*big.Int, error) {
	encrypted, err := w.encrypt(ctx, part)
	if err != nil {
		return nil, err
	}
	body := w.key.EncodeCiphertexts(encrypted)
	type share struct {
		who string
		cs  []*big.Int
	}
	got := make(chan share, len(w.others))
	err = w.exchangeAll(ctx, func(ctx context.Context, _ string, peer component.Peer) error {
		return peer.Send(ctx, stepShares, now, body)
	}, func(ctx context.Context, who string, peer component.Peer) error {
		cs, err := receiveCiphertexts(ctx, peer, who, stepShares, now, w.key, len(part))
		got <- share{who, cs}
		return err
	})
	if err != nil {
		return nil, err
	}
	shares := map[string][]*big.Int{}
	for range w.others {
		s := <-got
		shares[s.who] = s.cs
	}
	return shares, nil
}

func values(shares map[string][]*big.Int) [][]*big.Int {
	var out [][]*big.Int
	for _, s := range shares {
		out = append(out, s)
	}
	return out
}

// addLoss adds this party's terms of Σ z² - 4yz, where z is the sum of all shares, and of the penalty. The
// guest adds its own terms and its products with all hosts. A host adds its own square and its products with
// the hosts of lower number.
func (w *party) addLoss(ctx context.Context, z, part []int64, shares map[string][]*big.Int, theirs []*big.Int,
	objective *partialSum) error {
	penalty := 0.0
	for j, weight := range w.weights {
		switch {
		case !w.isPenalised(j):
		case w.params.Penalty == "L2":
			penalty += weight * weight / 2
		case w.params.Penalty == "L1":
			penalty += math.Abs(weight)
		}
	}

	penalty *= 8 * w.params.Alpha * float64(len(z))
	objective.plain.Add(objective.plain, toBigFixed(penalty, 2*precision))

	double := make([]int64, len(z))
	with := theirs
	if w.labels != nil {
		rest := make([]int64, len(z)) // z - 4y
		for i := range z {
			rest[i] = 2*part[i] - z[i]
			double[i] = 2 * part[i]
		}
		objective.plain.Add(objective.plain, dot(z, rest))
	} else {
		objective.plain.Add(objective.plain, dot(z, z))
		for i := range z {
			double[i] = 2 * z[i]
		}
		var before [][]*big.Int
		for _, host := range w.hosts[:slices.Index(w.hosts, w.self)] {
			before = append(before, shares[host])
		}
		if len(before) == 0 {
			return nil
		}
		var err error
		if with, err = w.sum(ctx, before); err != nil {
			return err
		}
	}

	w.key.Add(objective.encrypted, objective.encrypted, w.key.WeightedSum(with, double))
	return nil
}

// update adds the own part to the decrypted part of the gradient and updates the weights.
func (w *party) update(theirs []*big.Int, part []int64, rows batch) error {
	gradient := make([]float64, len(theirs))
	count := float64(rows.to - rows.from)
	for j, g := range theirs {
		g = new(big.Int).Add(g, dot(w.fixed[j][rows.from:rows.to], part))
		gradient[j] = fromFixed(g, 2*precision) / (4 * count)
		if w.params.Penalty == "L2" && w.isPenalised(j) {
			gradient[j] += w.params.Alpha * w.weights[j]
		}
	}

	for j, delta := range w.deltas(gradient) {
		v := w.weights[j] - delta
		if w.params.Penalty == "L1" && w.isPenalised(j) {
			v = math.Copysign(max(0, math.Abs(v)-w.params.Alpha*w.params.LearningRate), v)
		}
		if !(math.Abs(v) < maxValue) {
			return errTooLarge(w.self)
		}
		w.weights[j] = v
	}
	return nil
}

// endIteration ends an iteration. The guest learns the loss and, for early_stop weight_diff, the length of
// the step of all weights together. It sends to the hosts whether the training continues.
func (w *party) endIteration(
	ctx context.Context, iteration int, objective *partialSum, before, losses []float64,
) (stop bool, loss float64, err error) {
	now := position{Iteration: iteration}
	numbers := []*big.Int{w.key.AddPlain(objective.encrypted, objective.plain)}
	if w.params.EarlyStop == stopWeightDiff {
		squared := 0.0
		for j := range before {
			squared += (w.weights[j] - before[j]) * (w.weights[j] - before[j])
		}
		numbers = append(numbers, w.key.AddPlain(big.NewInt(1), toBigFixed(squared, 2*precision)))
	}

	if w.labels == nil {
		stop, err := w.reportToGuest(ctx, now, numbers)
		return stop, 0, err
	}
	for _, host := range w.hosts {
		cs, err := receiveCiphertexts(ctx, w.others[host], host, stepStatus, now, w.key, len(numbers))
		if err != nil {
			return false, 0, err
		}
		for i, c := range cs {
			w.key.Add(numbers[i], numbers[i], c)
		}
	}

	if numbers, err = w.decrypt(ctx, numbers, statusWidth(w.rows, len(w.hosts)+1)); err != nil {
		return false, 0, err
	}
	loss = math.Ln2 + fromFixed(numbers[0], 2*precision)/(8*float64(w.rows))
	switch w.params.EarlyStop {
	case stopAbs:
		stop = loss < w.params.Tol
	case stopDiff:
		stop = len(losses) > 0 && math.Abs(loss-losses[len(losses)-1]) < w.params.Tol
	case stopWeightDiff:
		stop = math.Sqrt(fromFixed(numbers[1], 2*precision)) < w.params.Tol
	}

	for _, host := range w.hosts {
		if err := w.others[host].Send(ctx, stepNext, nextHead{now, stop}, nil); err != nil {
			return false, 0, err
		}
	}
	return stop, loss, nil
}

// reportToGuest sends a host's part of loss and step length to the guest, and receives whether to stop.
func (w *party) reportToGuest(ctx context.Context, now position, numbers []*big.Int) (stop bool, err error) {
	for i := range numbers {
		if numbers[i], err = w.key.Randomise(numbers[i]); err != nil {
			return false, err
		}
	}
	peer := w.others[w.guest]
	if err := peer.Send(ctx, stepStatus, now, w.key.EncodeCiphertexts(numbers)); err != nil {
		return false, err
	}
	var next nextHead
	if _, err := peer.Receive(ctx, stepNext, &next); err != nil {
		return false, err
	}
	if next.position != now {
		return false, channel.Errorf(
			"the guest sent the decision for iteration %d; expected iteration %d", next.Iteration,
			now.Iteration,
		)
	}
	return next.Stop, nil
}

// scores returns, at the guest, the scores of all rows under the final weights. With several hosts the guest
// learns only the sum of their shares.
func (w *party) scores(ctx context.Context) ([]float64, error) {
	z, err := w.forward(batch{0, w.rows})
	if err != nil {
		return nil, err
	}
	if w.self != w.guest {
		cs, err := w.encrypt(ctx, z)
		if err != nil {
			return nil, err
		}
		return nil, w.others[w.guest].Send(ctx, stepScores, position{}, w.key.EncodeCiphertexts(cs))
	}

	var shares [][]*big.Int
	for _, host := range w.hosts {
		cs, err := receiveCiphertexts(ctx, w.others[host], host, stepScores, position{}, w.key, w.rows)
		if err != nil {
			return nil, err
		}
		shares = append(shares, cs)
	}

	sum, err := w.sum(ctx, shares)
	if err != nil {
		return nil, err
	}
	theirs, err := w.decrypt(ctx, sum, scoreWidth(len(w.hosts)))
	if err != nil {
		return nil, err
	}
	scores := make([]float64, w.rows)
	for i, t := range theirs {
		scores[i] = fromFixed(t.Add(t, big.NewInt(z[i])), precision)
	}
	return scores, nil
}

func sigmoid(x float64) float64 { return 1 / (1 + math.Exp(-x)) }
