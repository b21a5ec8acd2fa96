package boost

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"

	"hutong/deploy/provider/channel"
	"hutong/deploy/provider/component"
)

const name = "HeteroSecureBoost"

// note is what the host writes where only the guest has something to tell: every declared address holds a document.
type note struct {
	Component string `json:"component"`
	Role      string `json:"role"`
	Note      string `json:"note"`
}

// lossReport is train-loss.
type lossReport struct {
	Component string     `json:"component"`
	Role      string     `json:"role"`
	Metric    string     `json:"metric"`
	Data      []treeLoss `json:"data"`
}

type treeLoss struct {
	Tree int     `json:"tree"` // from 1
	Loss float64 `json:"loss"` // mean cross entropy over all rows
}

// metricReport is train-auc and train-ks. Value is missing when the job didn't ask for that metric.
type metricReport struct {
	Component string   `json:"component"`
	Role      string   `json:"role"`
	Metric    string   `json:"metric"`
	Value     *float64 `json:"value"`
	Threshold *float64 `json:"threshold,omitempty"` // of KS: the score at which it is reached
	Curve     []Point  `json:"curve,omitempty"`
}

// Run trains with the partner and writes one's own part of the outputs. The guest's train_data is id, label, predict_score
// and predict_result of each row; the host's is the ids alone, since scores are the guest's.
func Run(ctx context.Context, task component.Task, store component.Store, peer Peer) error {
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
	out := outputs{ctx: ctx, task: task, store: store}
	if task.Self.Role == "guest" {
		err = runGuest(ctx, task, table, ids, p, peer, &out)
	} else {
		err = runHost(ctx, task, table, ids, p, peer, &out)
	}
	if err != nil {
		return err
	}
	return out.err
}

func runGuest(ctx context.Context, task component.Task, table *component.Table, ids []string, p Params, peer Peer, out *outputs) error {
	labels, err := readLabels(table, p.Label)
	if err != nil {
		return err
	}
	features, err := readFeatures(table, p.Bins, p.ID, p.Label)
	if err != nil {
		return err
	}
	partner, err := task.Partner("host")
	if err != nil {
		return err
	}
	hosts, err := newRemote(ctx, peer, partner.String(), ids, p)
	if err != nil {
		return err
	}
	result, err := train(ctx, []source{newLocal(task.Self.String(), features, p), hosts}, labels, p)
	if err != nil {
		return err
	}
	if err := hosts.end(ctx); err != nil {
		return err
	}

	probabilities := make([]float64, len(ids))
	rows := make([][]string, len(ids))
	for i, score := range result.scores {
		probabilities[i] = sigmoid(score)
		predicted := "0"
		if probabilities[i] >= p.Threshold {
			predicted = "1"
		}
		rows[i] = []string{ids[i], strconv.Itoa(int(labels[i])), strconv.FormatFloat(probabilities[i], 'g', -1, 64), predicted}
	}
	out.table("train_data", "predictions on the training data", &component.Table{
		Columns: []string{p.ID, p.Label, "predict_score", "predict_result"},
		Types:   map[string]string{p.Label: "int", "predict_score": "float", "predict_result": "int"},
		Rows:    rows,
	})
	role := task.Self.String()
	out.json("model", "model", "guest's part of the model", Model{
		name, role, "cross_entropy", p.LearningRate, names(features), result.trees,
	})
	losses := lossReport{name, role, "loss", nil}
	for i, loss := range result.losses {
		losses.Data = append(losses.Data, treeLoss{i + 1, loss})
	}
	out.json("train-loss", "report", "loss by tree", losses)

	m := measure(labels, probabilities)
	slog.Info(fmt.Sprintf("trained %d trees, auc %.4f, ks %.4f", len(result.trees), m.auc, m.ks))
	auc, ks := metricReport{Component: name, Role: role, Metric: "auc"}, metricReport{Component: name, Role: role, Metric: "ks"}
	if slices.Contains(p.Metrics, "auc") {
		auc.Value = &m.auc
	}
	if slices.Contains(p.Metrics, "ks") {
		ks.Value, ks.Threshold, ks.Curve = &m.ks, &m.ksThreshold, thin(m.curve)
	}
	out.json("train-auc", "report", "AUC on the training data", auc)
	out.json("train-ks", "report", "KS and its curve on the training data", ks)
	return nil
}

func runHost(ctx context.Context, task component.Task, table *component.Table, ids []string, p Params, peer Peer, out *outputs) error {
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
	h := &host{peer: peer, owner: task.Self.String(), features: features, params: p}
	splits, err := h.serve(ctx, ids)
	if err != nil {
		return err
	}
	only, err := table.Only(p.ID)
	if err != nil {
		return err
	}
	role := task.Self.String()
	out.table("train_data", "ids of the training data", only)
	out.json("model", "model", "host's part of the model", HostModel{name, role, names(features), splits})
	for _, report := range []string{"train-loss", "train-auc", "train-ks"} {
		out.json(report, "report", "marker", note{name, role, "the guest has this report"})
	}
	return nil
}

func names(features []*feature) []string {
	out := []string{}
	for _, f := range features {
		out = append(out, f.name)
	}
	return out
}

// outputs writes what the job declared and skips the rest; it keeps the first error.
type outputs struct {
	ctx   context.Context
	task  component.Task
	store component.Store
	err   error
}

func (o *outputs) table(output, description string, t *component.Table) {
	if address, ok := o.task.Outputs[output]; ok && o.err == nil {
		o.err = component.WriteTable(o.ctx, o.store, address, t, description)
	}
}

func (o *outputs) json(output, kind, description string, v any) {
	if address, ok := o.task.Outputs[output]; ok && o.err == nil {
		o.err = component.WriteJSON(o.ctx, o.store, address, kind, description, v)
	}
}
