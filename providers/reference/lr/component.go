package lr

import (
	"context"
	"fmt"
	"log/slog"
	"slices"

	"hutong-reference/channel"
	"hutong-reference/component"
	"hutong-reference/outputs"
)

type iterationLoss struct {
	Iteration int     `json:"iteration"` // from 1
	Loss      float64 `json:"loss"`      // mean over all rows including the penalty; each batch uses the weights before its step
}

// Run runs the component in the task's role. The guest's output train_data holds id, label, predict_score and
// predict_result of each row. A host's holds only the ids. The arbiter's has no rows, and its model is a
// marker.
func Run(ctx context.Context, task component.Task, store component.Store, peers component.Peers) error {
	p, err := ReadParams(task.Parameters)
	if err != nil {
		return err
	}
	all, err := rolesOf(task)
	if err != nil {
		return err
	}
	out := outputs.NewWriter(ctx, task, store)
	if task.Self.Role == "arbiter" {
		err = runArbiter(ctx, task, p, peers, out)
	} else {
		err = runParty(ctx, task, store, p, all, peers, out)
	}
	if err != nil {
		return err
	}
	return out.Err()
}

func runArbiter(
	ctx context.Context, task component.Task, p Params, peers component.Peers, out *outputs.Writer,
) error {
	decrypted, err := serveParties(ctx, peers, p.KeyBits)
	if err != nil {
		return err
	}
	slog.Info("finished decrypting for guest and hosts", "numbers", decrypted)
	note := outputs.Marker{
		Component: task.Component,
		Role:      task.Self.String(),
		Note:      "the arbiter has no part of the model",
	}
	out.Table("train_data", "the arbiter has no rows", &component.Table{Columns: []string{p.ID}})
	out.JSON("model", "model", "marker", note)
	out.Markers("the guest has this report")
	return nil
}

// runParty runs the guest or a host.
func runParty(ctx context.Context, task component.Task, store component.Store, p Params, all roles,
	peers component.Peers, out *outputs.Writer) error {
	address, err := task.Input("train_data")
	if err != nil {
		return err
	}
	table, err := component.ReadTable(ctx, store, address)
	if err != nil {
		return err
	}
	ids, err := table.IDs(p.ID)
	if err != nil {
		return fmt.Errorf("input train_data: %w", err)
	}
	if len(ids) == 0 {
		return channel.Errorf("input train_data has no rows")
	}
	slog.Info("input read", "rows", len(ids), "columns", len(table.Columns))

	isGuest := task.Self.Role == "guest"
	var labels []uint8
	if isGuest {
		if labels, err = table.Labels(p.Label); err != nil {
			return err
		}
	} else if slices.Contains(table.Columns, p.Label) {
		return fmt.Errorf(
			"input train_data has the label column %q: a host must have no label; remove the column", p.Label,
		)
	}

	features, err := table.Features(p.ID, p.Label)
	if err != nil {
		return err
	}
	if !isGuest && len(features) == 0 {
		return channel.Errorf("%s has no features", task.Self)
	}
	w, err := newParty(task.Self.String(), all, peers, p, ids, features, labels)
	if err != nil {
		return err
	}
	losses, scores, err := w.run(ctx)
	if err != nil {
		return err
	}
	if isGuest {
		writeGuest(task, p, w.model(task.Component), ids, labels, losses, scores, out)
		return nil
	}
	return writeHost(task, p, w.model(task.Component), table, out)
}

// writeHost writes the outputs of a host.
func writeHost(task component.Task, p Params, m Model, table *component.Table, out *outputs.Writer) error {
	ids, err := table.OnlyColumn(p.ID)
	if err != nil {
		return err
	}
	out.Table("train_data", "ids of the training data", ids)
	out.JSON("model", "model", "host's part of the model", m)
	out.Markers("the guest has this report")
	return nil
}

// writeGuest writes the outputs of the guest.
func writeGuest(
	task component.Task, p Params, m Model, ids []string, labels []uint8, losses, scores []float64,
	out *outputs.Writer,
) {
	m.Iterations = len(losses)
	out.JSON("model", "model", "guest's part of the model", m)
	data := []iterationLoss{}
	for i, loss := range losses {
		data = append(data, iterationLoss{i + 1, loss})
	}
	out.JSON("train-loss", "report", "loss by iteration", outputs.Loss{
		Component: task.Component, Role: task.Self.String(), Metric: "loss", Data: data,
	})
	for i := range scores {
		scores[i] = sigmoid(scores[i])
	}
	auc, ks := out.Predictions(p.ID, p.Label, ids, labels, scores, p.Threshold, p.Metrics)
	slog.Info(fmt.Sprintf("trained %d iterations, auc %.4f, ks %.4f", len(losses), auc, ks))
}
