package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/guptarohit/asciigraph"

	"hutong/bfia"
)

// maxReport limits the size of a report that is drawn.
const maxReport = 16 << 20

// showReports draws the reports among a party's outputs, in their order. It skips reports without numbers.
func (c *client) showReports(ctx context.Context, w io.Writer, outputs []bfia.Output) error {
	shown := 0
	for _, o := range outputs {
		if !bfia.SameFamily(o.Type, "report") {
			continue
		}
		body, _, err := c.download(ctx, o.Namespace, o.Name)
		if err != nil {
			return fmt.Errorf("failed to download output %s of task %s %s: %w",
				valueOr(o.Output, o.Key), o.TaskName, o.Role, err)
		}
		document, err := io.ReadAll(io.LimitReader(body, maxReport))
		_ = body.Close()
		if err != nil {
			return fmt.Errorf("failed to read output %s of task %s %s: %w",
				valueOr(o.Output, o.Key), o.TaskName, o.Role, explainTransfer(err))
		}
		text := drawReport(document)
		if text == "" {
			continue
		}
		shown++
		output := plain(valueOr(o.Output, o.Key))
		if _, err := fmt.Fprintf(w, "%s %s %s\n%s\n", plain(o.TaskName), plain(o.Role), output,
			text); err != nil {
			return err
		}
	}
	if shown == 0 {
		_, err := fmt.Fprintln(w, "This party has no reports with numbers. See the outputs without --show.")
		return err
	}
	return nil
}

// The size of a plot without its axis, in characters.
const (
	plotWidth  = 56
	plotHeight = 8
)

// drawReport draws the values, curves and series of a report. The format of a report is up to its vendor, so
// drawReport returns "" for a report in which it recognises nothing.
func drawReport(document []byte) string {
	var report map[string]any
	decoder := json.NewDecoder(bytes.NewReader(document))
	if decoder.Decode(&report) != nil {
		return drawFATEReport(document)
	}
	metric, _ := report["metric"].(string)
	metric = valueOr(plain(metric), "value")
	var out strings.Builder
	if value, ok := number(report["value"]); ok {
		fmt.Fprintf(&out, "  %s %.4f", metric, value)
		if threshold, ok := number(report["threshold"]); ok {
			fmt.Fprintf(&out, " at score %.4f", threshold)
		}
		out.WriteString("\n")
	}
	if out.Len() == 0 && report["data"] == nil && report["curve"] == nil {
		out.WriteString(listNumbers(report))
	}
	for _, field := range []string{"data", "curve"} {
		list, _ := report[field].([]any)
		series, names := extractSeries(list)
		if len(series) == 0 {
			continue
		}
		if field == "data" && len(series) == 1 {
			out.WriteString(listValues(metric, list, series[0]))
		}
		if len(series[0]) > 1 {
			out.WriteString(plot(series, names))
		}
	}
	return out.String()
}

// listNumbers lists the numbers of a report without a series, such as the number of ids in an intersection.
func listNumbers(report map[string]any) string {
	const maxNumbers = 12
	var numbers []string
	for _, name := range sortedNames(report) {
		if v, ok := number(report[name]); ok && len(numbers) < maxNumbers {
			label := strings.ReplaceAll(plain(name), "_", " ")
			numbers = append(numbers, label+" "+strconv.FormatFloat(v, 'g', 6, 64))
		}
	}
	if len(numbers) == 0 {
		return ""
	}

	return "  " + strings.Join(numbers, ", ") + "\n"
}

// sortedNames returns the names of the fields of an object.
func sortedNames(object map[string]any) []string { return slices.Sorted(maps.Keys(object)) }

// listValues lists the values of a series. It omits the middle of a long one.
func listValues(metric string, points []any, values []float64) string {
	by := "step"
	fields, _ := points[0].(map[string]any)
	for _, name := range abscissae {
		if fields[name] != nil {
			by = name
			break
		}
	}
	return fmt.Sprintf("  %s by %s: %s\n", metric, by, shortValues(values))
}

// shortValues lists numbers, without the middle of many.
func shortValues(values []float64) string {
	const maxValues = 12
	var shown []string
	for i, v := range values {
		if len(values) > maxValues && i == maxValues/2 {
			shown = append(shown, "…")
		}
		if len(values) <= maxValues || i < maxValues/2 || i >= len(values)-maxValues/2 {
			shown = append(shown, fmt.Sprintf("%.4f", v))
		}
	}
	return strings.Join(shown, " ")
}

// abscissae are the fields that hold the position of a point, not its value.
var abscissae = []string{"tree", "step", "iteration", "epoch", "round", "x", "threshold", "score", "part",
	"percent", "index"}

// extractSeries returns the series in a list of numbers, or in a list of objects with the same numeric
// fields.
func extractSeries(list []any) (series [][]float64, names []string) {
	if len(list) == 0 {
		return nil, nil
	}
	const maxSeries = 4 // more can't be distinguished
	if _, ok := number(list[0]); ok {
		list = slices.Clone(list)
		for i, v := range list {
			list[i] = map[string]any{"": v}
		}
	}
	first, _ := list[0].(map[string]any)
	fields := sortedNames(first)
	if rates := []string{"fpr", "tpr"}; first["fpr"] != nil && first["tpr"] != nil {
		fields = rates // the KS curve; its points may have more, such as the precision
	}
	for _, name := range fields {
		if slices.Contains(abscissae, name) || len(series) == maxSeries {
			continue
		}
		values := make([]float64, 0, len(list))
		for _, point := range list {
			fields, _ := point.(map[string]any)
			if v, ok := number(fields[name]); ok {
				values = append(values, v)
			}
		}
		if len(values) == len(list) {
			series, names = append(series, values), append(names, plain(name))
		}
	}
	return series, names
}

// plot draws the series into one text chart, with a legend if there are several. It prepends the series'
// symbols to names.
func plot(series [][]float64, names []string) string {
	options := []asciigraph.Option{asciigraph.Height(plotHeight), asciigraph.Width(plotWidth),
		asciigraph.Precision(3), asciigraph.Offset(2)}
	if len(series) > 1 { // different characters distinguish the series without colours
		sets := []asciigraph.CharSet{asciigraph.DefaultCharSet}
		for i := range names {
			symbol := string([]rune("·*+x")[i%4])
			if i == 0 {
				symbol = "─"
			} else {
				sets = append(sets, asciigraph.CreateCharSet(symbol))
			}
			names[i] = symbol + " " + names[i]
		}
		options = append(options, asciigraph.SeriesChars(sets...))
	}
	graph := asciigraph.PlotMany(series, options...)
	if len(series) > 1 {
		graph += "\n  " + strings.Join(names, ", ")
	}
	return graph + "\n"
}

// number returns a number that can be drawn. Plots of values beyond the bound overflow; no metric is that
// large.
func number(v any) (float64, bool) {
	const bound = 1e9
	f, ok := v.(float64)
	return f, ok && math.Abs(f) <= bound
}
