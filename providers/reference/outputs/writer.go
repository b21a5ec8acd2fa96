package outputs

import (
	"context"
	"slices"

	"hutong-reference/component"
)

// Marker is the document at a declared output for which this role has no data. Every declared output holds a
// document.
type Marker struct {
	Component string `json:"component"`
	Role      string `json:"role"`
	Note      string `json:"note"`
}

// Loss is the report train-loss. Data has one entry per step, with the step's number, from 1, and "loss".
type Loss struct {
	Component string `json:"component"`
	Role      string `json:"role"`
	Metric    string `json:"metric"` // loss
	Data      any    `json:"data"`
}

// Metric is the format of the reports train-auc and train-ks. Value is null if the job did not request that
// metric. The report of KS has the curve, and with it what the curve needs to be drawn: AUC, if requested,
// and the number of rows of each label.
type Metric struct {
	Component string   `json:"component"`
	Role      string   `json:"role"`
	Metric    string   `json:"metric"` // auc or ks
	Value     *float64 `json:"value"`
	Threshold *float64 `json:"threshold,omitempty"` // of KS: the score at which it is reached
	AUC       *float64 `json:"auc,omitempty"`
	Ones      *int     `json:"ones,omitempty"`
	Zeros     *int     `json:"zeros,omitempty"`
	Curve     []Point  `json:"curve,omitempty"`
}

// Reports lists the names of the reports that a training component declares.
var Reports = []string{"train-loss", "train-auc", "train-ks"}

// Writer writes the outputs that the job declares and skips all others. It keeps the first error.
type Writer struct {
	ctx   context.Context
	task  component.Task
	store component.Store
	err   error
}

// NewWriter returns a writer of the outputs of a task.
func NewWriter(ctx context.Context, task component.Task, store component.Store) *Writer {
	return &Writer{ctx: ctx, task: task, store: store}
}

// Err returns the first error.
func (w *Writer) Err() error { return w.err }

// Table writes a dataset.
func (w *Writer) Table(output, description string, t *component.Table) {
	if address, ok := w.task.Outputs[output]; ok && w.err == nil {
		w.err = component.WriteTable(w.ctx, w.store, address, t, description)
	}
}

// JSON writes a document; kind is "model" or "report".
func (w *Writer) JSON(output, kind, description string, v any) {
	if address, ok := w.task.Outputs[output]; ok && w.err == nil {
		w.err = component.WriteJSON(w.ctx, w.store, address, kind, description, v)
	}
}

// Markers writes a [Marker] to each report, for a role without reports.
func (w *Writer) Markers(note string) { w.MarkersOf(Reports, note) }

// MarkersOf writes a [Marker] to each of these reports.
func (w *Writer) MarkersOf(reports []string, note string) {
	for _, report := range reports {
		w.JSON(report, "report", "marker", Marker{w.task.Component, w.task.Self.String(), note})
	}
}

// Predictions writes the outputs of the party that has the label: train_data, with id, label, predict_score
// and predict_result of each row, and the reports train-auc and train-ks for the requested metrics. It
// returns AUC and KS.
func (w *Writer) Predictions(
	idColumn, labelColumn string, ids []string, labels []uint8, probabilities []float64, threshold float64,
	metrics []string,
) (auc, ks float64) {
	w.Table("train_data", "predictions on the training data",
		predictions(idColumn, labelColumn, ids, labels, probabilities, threshold))
	return w.measure("train", labels, probabilities, metrics)
}

// measure writes the reports of AUC and KS, whose names begin with what was measured, for the requested
// metrics. It returns AUC and KS.
func (w *Writer) measure(what string, labels []uint8, probabilities []float64, metrics []string,
) (auc, ks float64) {
	m := Measure(labels, probabilities)
	name, role := w.task.Component, w.task.Self.String()
	aucReport := Metric{Component: name, Role: role, Metric: "auc"}
	ksReport := Metric{Component: name, Role: role, Metric: "ks"}
	if slices.Contains(metrics, "auc") {
		aucReport.Value = &m.AUC
	}
	if slices.Contains(metrics, "ks") {
		ksReport.Value, ksReport.Threshold, ksReport.Curve = &m.KS, &m.KSThreshold, downsample(m.Curve)
		ksReport.AUC, ksReport.Ones, ksReport.Zeros = aucReport.Value, &m.Ones, &m.Zeros
	}
	w.JSON(what+"-auc", "report", "AUC", aucReport)
	w.JSON(what+"-ks", "report", "KS and its curve", ksReport)
	return m.AUC, m.KS
}
