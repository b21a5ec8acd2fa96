package boost

import (
	"context"
	"fmt"
	"log/slog"
	"slices"

	"hutong-reference/channel"
	"hutong-reference/component"
	"hutong-reference/outputs"
)

const name = "HeteroSecureBoost"

type treeLoss struct {
	Tree int     `json:"tree"` // from 1
	Loss float64 `json:"loss"` // mean cross entropy over all rows
}

// Run trains with the partners and writes the own part of the outputs. The guest's output train_data holds
// id, label, predict_score and predict_result of each row. A host's holds only the ids.
func Run(ctx context.Context, task component.Task, store component.Store, peers component.Peers) error {
	p, err := ReadParams(task.Parameters)
	if err != nil {
		return err
	}
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
	if len(ids) > maxRows {
		return channel.Errorf("input train_data has %d rows; at most %d are supported", len(ids), maxRows)
	}
	slog.Info("input read", "rows", len(ids), "columns", len(table.Columns))
	out := outputs.NewWriter(ctx, task, store)
	if task.Self.Role == "guest" {
		err = runGuest(ctx, task, table, ids, p, peers, out)
	} else {
		err = runHost(ctx, task, table, ids, p, peers, out)
	}
	if err != nil {
		return err
	}
	return out.Err()
}

func runGuest(ctx context.Context, task component.Task, table *component.Table, ids []string, p Params,
	peers component.Peers, out *outputs.Writer) error {
	labels, err := table.Labels(p.Label)
	if err != nil {
		return err
	}
	features, err := readFeatures(table, p.Bins, p.ID, p.Label)
	if err != nil {
		return err
	}
	hosts, err := task.RequireParties("host")
	if err != nil {
		return err
	}

	sources := []source{newLocal(task.Self.String(), features, p)}
	remotes := make([]*remote, len(hosts))
	for i, h := range hosts {
		if remotes[i], err = newRemote(ctx, peers[h.String()], h.String(), ids, p); err != nil {
			return err
		}
		sources = append(sources, remotes[i])
	}
	result, err := train(ctx, sources, labels, p)
	if err != nil {
		return err
	}
	for _, r := range remotes {
		if err := r.end(ctx); err != nil {
			return err
		}
	}

	role := task.Self.String()
	out.JSON("model", "model", "guest's part of the model", Model{
		name, role, "cross_entropy", p.LearningRate, names(features), result.trees,
	})
	losses := []treeLoss{}
	for i, loss := range result.losses {
		losses = append(losses, treeLoss{i + 1, loss})
	}
	out.JSON("train-loss", "report", "loss by tree",
		outputs.Loss{Component: name, Role: role, Metric: "loss", Data: losses})
	probabilities := make([]float64, len(ids))
	for i, score := range result.scores {
		probabilities[i] = sigmoid(score)
	}
	auc, ks := out.Predictions(p.ID, p.Label, ids, labels, probabilities, p.Threshold, p.Metrics)
	slog.Info(fmt.Sprintf("trained %d trees, auc %.4f, ks %.4f", len(result.trees), auc, ks))
	return nil
}

func runHost(ctx context.Context, task component.Task, table *component.Table, ids []string, p Params,
	peers component.Peers, out *outputs.Writer) error {
	if slices.Contains(table.Columns, p.Label) {
		return fmt.Errorf(
			"input train_data has the label column %q: a host must have no label; remove the column", p.Label,
		)
	}
	features, err := readFeatures(table, p.Bins, p.ID)
	if err != nil {
		return err
	}
	if len(features) == 0 {
		return channel.Errorf("the host has no features")
	}
	guest, err := task.OnlyParty("guest")
	if err != nil {
		return err
	}
	h := &host{peer: peers[guest.String()], owner: task.Self.String(), features: features, params: p}
	splits, err := h.serve(ctx, ids)
	if err != nil {
		return err
	}
	only, err := table.OnlyColumn(p.ID)
	if err != nil {
		return err
	}
	out.Table("train_data", "ids of the training data", only)
	out.JSON("model", "model", "host's part of the model", HostModel{
		name, task.Self.String(), names(features), splits,
	})
	out.Markers("the guest has this report")
	return nil
}

func names(features []*feature) []string {
	out := []string{}
	for _, f := range features {
		out = append(out, f.name)
	}
	return out
}
