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

// maxReport is the largest report that is drawn.
const maxReport = 16 << 20

// showReports draws the reports among a party's outputs, in their order. What has no numbers to draw is told in words.
func (c *client) showReports(ctx context.Context, w io.Writer, outputs []bfia.Output) error {
	shown := 0
	for _, o := range outputs {
		if o.Type != "report" && o.Type != "metric" {
			continue
		}
		body, _, err := c.download(ctx, o.Namespace, o.Name)
		if err != nil {
			return fmt.Errorf("%s of %s %s: %w", valueOr(o.Output, o.Key), o.TaskName, o.Role, err)
		}
		document, err := io.ReadAll(io.LimitReader(body, maxReport))
		_ = body.Close()
		if err != nil {
			return fmt.Errorf("%s of %s %s: %w", valueOr(o.Output, o.Key), o.TaskName, o.Role, whole(err))
		}
		text := drawReport(document)
		if text == "" {
			continue
		}
		shown++
		if _, err := fmt.Fprintf(w, "%s %s %s\n%s\n", plain(o.TaskName), plain(o.Role), plain(valueOr(o.Output, o.Key)), text); err != nil {
			return err
		}
	}
	if shown == 0 {
		_, err := fmt.Fprintln(w, "This party has no report that can be drawn.")
		return err
	}
	return nil
}

// The size of a plot, without its axis.
const (
	plotWidth  = 56
	plotHeight = 8
)

// drawReport draws one report document: a value, a curve, or values by step, whatever it has. Reports of other vendors
// have other forms; one that has none of these gives "".
func drawReport(document []byte) string {
	var report map[string]any
	decoder := json.NewDecoder(bytes.NewReader(document))
	if decoder.Decode(&report) != nil {
		return ""
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
		out.WriteString(counts(report))
	}
	for _, field := range []string{"data", "curve"} {
		list, _ := report[field].([]any)
		series, names := seriesOf(list)
		if len(series) == 0 {
			continue
		}
		if field == "data" && len(series) == 1 {
			out.WriteString(steps(metric, list, series[0]))
		}
		if len(series[0]) > 1 {
			out.WriteString(plot(series, names))
		}
	}
	return out.String()
}

// counts prints the single numbers of a report that has nothing to draw, such as how many ids an intersection found.
func counts(report map[string]any) string {
	const most = 12
	var words []string
	for _, name := range slices.Sorted(maps.Keys(report)) {
		if v, ok := number(report[name]); ok && len(words) < most {
			words = append(words, strings.ReplaceAll(plain(name), "_", " ")+" "+strconv.FormatFloat(v, 'g', 6, 64))
		}
	}
	if len(words) == 0 {
		return ""
	}
	return "  " + strings.Join(words, ", ") + "\n"
}

// steps prints the values one by one, the middle ones left out if they are many.
func steps(metric string, points []any, values []float64) string {
	by := "step"
	fields, _ := points[0].(map[string]any)
	for _, name := range abscissae {
		if fields[name] != nil {
			by = name
			break
		}
	}
	const most = 12
	var words []string
	for i, v := range values {
		if len(values) > most && i == most/2 {
			words = append(words, "…")
		}
		if len(values) <= most || i < most/2 || i >= len(values)-most/2 {
			words = append(words, fmt.Sprintf("%.4f", v))
		}
	}
	return fmt.Sprintf("  %s by %s: %s\n", metric, by, strings.Join(words, " "))
}

// abscissae are the fields of a point that say where it is, not what is there.
var abscissae = []string{"tree", "step", "iteration", "epoch", "round", "x", "threshold", "score", "part", "percent", "index"}

// seriesOf makes series of a list of numbers, or of objects with the same numbers in each.
func seriesOf(list []any) (series [][]float64, names []string) {
	if len(list) == 0 {
		return nil, nil
	}
	const mostSeries = 4 // more are no picture
	if _, ok := number(list[0]); ok {
		list = slices.Clone(list)
		for i, v := range list {
			list[i] = map[string]any{"": v}
		}
	}
	first, _ := list[0].(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(first)) {
		if slices.Contains(abscissae, name) || len(series) == mostSeries {
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

func plot(series [][]float64, names []string) string {
	options := []asciigraph.Option{asciigraph.Height(plotHeight), asciigraph.Width(plotWidth), asciigraph.Precision(3), asciigraph.Offset(2)}
	if len(series) > 1 { // told apart without colours
		sets := []asciigraph.CharSet{asciigraph.DefaultCharSet}
		for i := range names {
			sign := string([]rune("·*+x")[i%4])
			if i == 0 {
				sign = "─"
			} else {
				sets = append(sets, asciigraph.CreateCharSet(sign))
			}
			names[i] = sign + " " + names[i]
		}
		options = append(options, asciigraph.SeriesChars(sets...))
	}
	picture := asciigraph.PlotMany(series, options...)
	if len(series) > 1 {
		picture += "\n  " + strings.Join(names, ", ")
	}
	return picture + "\n"
}

// number is a value that can be drawn; no metric is larger than the bound, and plots of larger values overflow.
func number(v any) (float64, bool) {
	const bound = 1e9
	f, ok := v.(float64)
	return f, ok && math.Abs(f) <= bound
}
