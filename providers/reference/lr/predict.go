package lr

import (
	"context"
	"fmt"
	"log/slog"

	"hutong-reference/channel"
	"hutong-reference/component"
	"hutong-reference/outputs"
)

// name is the training component, and PredictName the one that applies its model to other rows.
const (
	name        = "HeteroLR"
	PredictName = name + "_predict"
)

// PredictParameters lists the parameters that the component reads, PredictInputs and PredictOutputs the names
// of the data that it reads and writes.
var (
	PredictParameters = []string{"id", "label", "predict_param", "metrics", "encrypt_param"}
	PredictInputs     = []string{"model", "test_data"}
	PredictOutputs    = outputs.OfPrediction
)

// Predict applies a trained model to the rows of the parties. Scores are computed as at a training's end:
// under the arbiter's key, so that the guest learns only the sum of the hosts' shares. The guest's output
// predictions holds id, label if there is one, predict_score and predict_result of each row. A host's holds
// only the ids, the arbiter's no rows.
func Predict(ctx context.Context, task component.Task, store component.Store, peers component.Peers) error {
	r := component.NewReader(task.Parameters)
	p := outputs.ReadPredictParams(r)
	keyBits := r.Paillier("encrypt_param")
	if err := r.Err(); err != nil {
		return channel.Errorf("%v", err)
	}
	all, err := rolesOf(task)
	if err != nil {
		return err
	}
	out := outputs.NewWriter(ctx, task, store)
	if task.Self.Role == "arbiter" {
		if _, err := serveParties(ctx, peers, keyBits); err != nil {
			return err
		}
		out.Table("predictions", "the arbiter has no rows", &component.Table{Columns: []string{p.ID}})
		out.MarkersOf(outputs.PredictReports, "the guest has this report")
		return out.Err()
	}
	if err := predictParty(ctx, task, store, p, keyBits, all, peers, out); err != nil {
		return err
	}
	return out.Err()
}

// predictParty runs the guest or a host.
func predictParty(ctx context.Context, task component.Task, store component.Store, p outputs.PredictParams,
	keyBits int, all roles, peers component.Peers, out *outputs.Writer) error {
	address, err := task.Input("model")
	if err != nil {
		return channel.Errorf("%v", err)
	}
	var m Model
	if err := component.ReadJSON(ctx, store, address, &m); err != nil {
		return err
	}
	self := task.Self.String()
	if m.Component != name || m.Role != self {
		return channel.Errorf("input model: is of %s at %s; %s at %s needs that of %s at the same role",
			m.Component, m.Role, task.Component, self, name)
	}
	table, ids, err := outputs.ReadRows(ctx, task, store, "test_data", p.ID)
	if err != nil {
		return err
	}
	w, err := m.scorer(table, self, all, peers, keyBits, ids)
	if err != nil {
		return err
	}
	var labels []uint8
	if self == all.guest {
		if labels, err = p.Labels(table); err != nil {
			return err
		}
	}
	scores, err := w.predict(ctx)
	if err != nil {
		return err
	}
	if self == all.guest {
		for i := range scores {
			scores[i] = sigmoid(scores[i])
		}
		out.Scores(p, ids, labels, scores)
		slog.Info("predicted", "rows", len(ids))
		return nil
	}
	only, err := table.OnlyColumn(p.ID)
	if err != nil {
		return err
	}
	out.Table("predictions", "ids of the predicted rows", only)
	out.MarkersOf(outputs.PredictReports, "the guest has this report")
	return nil
}

// scorer returns a party that has the model's weights.
func (m Model) scorer(table *component.Table, self string, all roles, peers component.Peers, keyBits int,
	ids []string) (*party, error) {
	var names []string
	for _, w := range m.Weights {
		names = append(names, w.Feature)
	}
	values, err := outputs.NumericColumns(table, names)
	if err != nil {
		return nil, err
	}
	var features []component.NumericColumn
	var weights []float64
	for _, w := range m.Weights {
		features = append(features, component.NumericColumn{Name: w.Feature, Values: values[w.Feature]})
		weights = append(weights, w.Weight)
	}
	if m.Intercept != nil {
		weights = append(weights, *m.Intercept)
	}
	w, err := newScorer(self, all, peers, Params{KeyBits: keyBits}, ids, features, m.Intercept != nil)
	if err != nil {
		return nil, err
	}
	w.weights = weights
	return w, nil
}

// predict returns, at the guest, the scores of all rows; at a host, nothing.
func (w *party) predict(ctx context.Context) ([]float64, error) {
	if err := w.handshake(ctx); err != nil {
		return nil, err
	}
	scores, err := w.scores(ctx)
	if err != nil {
		return nil, fmt.Errorf("failed to compute scores: %w", err)
	}
	return scores, w.finish(ctx)
}

// rolesOf returns the parties of a task.
func rolesOf(task component.Task) (roles, error) {
	var all roles
	guest, err := task.OnlyParty("guest")
	if err != nil {
		return all, err
	}
	arbiter, err := task.OnlyParty("arbiter")
	if err != nil {
		return all, err
	}
	hosts, err := task.RequireParties("host")
	if err != nil {
		return all, err
	}
	all = roles{guest: guest.String(), arbiter: arbiter.String()}
	for _, h := range hosts {
		all.hosts = append(all.hosts, h.String())
	}
	return all, nil
}
