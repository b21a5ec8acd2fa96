package outputs

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"

	"hutong-reference/channel"
	"hutong-reference/component"
)

// OfPrediction lists the outputs that a predicting component declares, and PredictReports the reports among
// them.
var (
	OfPrediction   = append([]string{"predictions"}, PredictReports...)
	PredictReports = []string{"predict-auc", "predict-ks"}
)

// PredictParams holds the parameters that all predicting components have.
type PredictParams struct {
	ID        string // name of the id column
	Label     string // name of the guest's label column, which may be absent
	Threshold float64
	Metrics   []string
}

// ReadPredictParams reads the parameters of a prediction.
func ReadPredictParams(r *component.Reader) PredictParams {
	p := PredictParams{
		ID:        r.String("id", "id"),
		Label:     r.String("label", "y"),
		Threshold: r.Object("predict_param").Float("threshold", 0.5, 0, 1),
		Metrics:   r.Strings("metrics", []string{"auc", "ks"}),
	}
	r.CheckSubset("metrics", p.Metrics, []string{"auc", "ks"})
	return p
}

// Labels returns the labels of the rows, or nil if the table has no label column.
func (p PredictParams) Labels(t *component.Table) ([]uint8, error) {
	if !slices.Contains(t.Columns, p.Label) {
		return nil, nil
	}
	labels, _, err := t.LabelValues(p.Label)
	return labels, err
}

// ReadRows reads a dataset of a component, and its ids. It refuses one without rows.
func ReadRows(ctx context.Context, task component.Task, store component.Store, input, idColumn string,
) (*component.Table, []string, error) {
	address, err := task.Input(input)
	if err != nil {
		return nil, nil, err
	}
	table, err := component.ReadTable(ctx, store, address)
	if err != nil {
		return nil, nil, err
	}
	ids, err := table.IDs(idColumn)
	if err != nil {
		return nil, nil, fmt.Errorf("input %s: %w", input, err)
	}
	if len(ids) == 0 {
		return nil, nil, channel.Errorf("input %s has no rows", input)
	}
	slog.Info("input read", "rows", len(ids), "columns", len(table.Columns))
	return table, ids, nil
}

// NumericColumns returns the columns of these names as numbers. The table may have others.
func NumericColumns(t *component.Table, names []string) (map[string][]float64, error) {
	for _, name := range names {
		if _, err := t.Column(name); err != nil {
			return nil, channel.Errorf("input test_data lacks a feature of the model")
		}
	}
	others := slices.DeleteFunc(slices.Clone(t.Columns),
		func(c string) bool { return slices.Contains(names, c) })
	features, err := t.Features(others...)
	if err != nil {
		return nil, err
	}
	columns := map[string][]float64{}
	for _, f := range features {
		columns[f.Name] = f.Values
	}
	return columns, nil
}

// Scores writes the outputs of the party that predicts: predictions, with id, label if there is one,
// predict_score and predict_result of each row, and the reports of the requested metrics, which need labels.
func (w *Writer) Scores(p PredictParams, ids []string, labels []uint8, probabilities []float64) {
	w.Table("predictions", "predictions",
		predictions(p.ID, p.Label, ids, labels, probabilities, p.Threshold))
	if !slices.Contains(labels, 0) || !slices.Contains(labels, 1) {
		w.MarkersOf(PredictReports, "the data has no labels, or only one")
		return
	}
	w.measure("predict", labels, probabilities, p.Metrics)
}

// predictions returns the table of predicted rows. labels may be nil.
func predictions(idColumn, labelColumn string, ids []string, labels []uint8, probabilities []float64,
	threshold float64) *component.Table {
	t := &component.Table{
		Columns: []string{idColumn},
		Types:   map[string]string{labelColumn: "int", "predict_score": "float", "predict_result": "int"},
		Rows:    make([][]string, len(ids)),
	}
	if labels != nil {
		t.Columns = append(t.Columns, labelColumn)
	}
	t.Columns = append(t.Columns, "predict_score", "predict_result")
	for i, p := range probabilities {
		row := []string{ids[i]}
		if labels != nil {
			row = append(row, strconv.Itoa(int(labels[i])))
		}
		predicted := "0"
		if p >= threshold {
			predicted = "1"
		}
		t.Rows[i] = append(row, strconv.FormatFloat(p, 'g', -1, 64), predicted)
	}
	return t
}
