package boost

import (
	"context"
	"fmt"
	"log/slog"
	"slices"

	"hutong-reference/channel"
	"hutong-reference/component"
	"hutong-reference/outcome"
)

const name = "HeteroSecureBoost"

type treeLoss struct {
	Tree int     `json:"tree"` // from 1
	Loss float64 `json:"loss"` // mean cross entropy over all rows
}

// Run trains with the partners and writes one's own part of the outputs. The guest's train_data is id, label, predict_score
// and predict_result of each row; the host's is the ids alone, since scores are the guest's.
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
		return channel.Errorf("there are no rows to train on")
	}
	if len(ids) > maxRows {
		return channel.Errorf("%d rows are more than the %d that can be trained on", len(ids), maxRows)
	}
	slog.Info("input read", "rows", len(ids), "columns", len(table.Columns))
	out := outcome.NewWriter(ctx, task, store)
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

func runGuest(ctx context.Context, task component.Task, table *component.Table, ids []string, p Params, peers component.Peers, out *outcome.Writer) error {
	labels, err := table.Labels(p.Label)
	if err != nil {
		return err
	}
	features, err := readFeatures(table, p.Bins, p.ID, p.Label)
	if err != nil {
		return err
	}
	hosts, err := task.Some("host")
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
	out.JSON("train-loss", "report", "loss by tree", outcome.Loss{Component: name, Role: role, Metric: "loss", Data: losses})
	probabilities := make([]float64, len(ids))
	for i, score := range result.scores {
		probabilities[i] = sigmoid(score)
	}
	auc, ks := out.Predictions(p.ID, p.Label, ids, labels, probabilities, p.Threshold, p.Metrics)
	slog.Info(fmt.Sprintf("trained %d trees, auc %.4f, ks %.4f", len(result.trees), auc, ks))
	return nil
}

func runHost(ctx context.Context, task component.Task, table *component.Table, ids []string, p Params, peers component.Peers, out *outcome.Writer) error {
	if slices.Contains(table.Columns, p.Label) {
		return fmt.Errorf("input train_data has the label column %q: at a host all columns but the id are features; leave the label out", p.Label)
	}
	features, err := readFeatures(table, p.Bins, p.ID)
	if err != nil {
		return err
	}
	if len(features) == 0 {
		return channel.Errorf("the host has no features")
	}
	guest, err := task.Only("guest")
	if err != nil {
		return err
	}
	h := &host{peer: peers[guest.String()], owner: task.Self.String(), features: features, params: p}
	splits, err := h.serve(ctx, ids)
	if err != nil {
		return err
	}
	only, err := table.Only(p.ID)
	if err != nil {
		return err
	}
	out.Table("train_data", "ids of the training data", only)
	out.JSON("model", "model", "host's part of the model", HostModel{name, task.Self.String(), names(features), splits})
	out.Notes("the guest has this report")
	return nil
}

func names(features []*feature) []string {
	out := []string{}
	for _, f := range features {
		out = append(out, f.name)
	}
	return out
}
