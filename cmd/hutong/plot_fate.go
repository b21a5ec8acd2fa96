package main

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// fateMetric is one metric of a report of FATE's: a list of them. A metric with a step axis has one value for
// each step. The data of others has any form, such as an object of numbers or a curve of pairs.
type fateMetric struct {
	Name     string
	Type     string
	Groups   []fateGroup
	StepAxis string `json:"step_axis"`
	Data     json.RawMessage
}

type fateGroup struct {
	Name  string
	Index *int
}

// drawFATEReport draws a report of FATE's components. It returns "" if the document is none.
func drawFATEReport(document []byte) string {
	var metrics []fateMetric
	if json.Unmarshal(document, &metrics) != nil {
		return ""
	}
	var out strings.Builder
	for _, m := range metrics {
		var data any
		if m.Name == "" || json.Unmarshal(m.Data, &data) != nil {
			continue
		}
		name := valueOr(m.label(), "value")
		switch data := data.(type) {
		case map[string]any:
			drawFATENumbers(&out, name, data)
		case []any:
			if m.StepAxis != "" {
				drawFATESteps(&out, name, plain(m.StepAxis), data)
			} else if series := pairs(data); len(series) > 1 {
				fmt.Fprintf(&out, "  %s\n%s", name, plot([][]float64{series}, []string{name}))
			}
		}
	}
	return out.String()
}

// label returns the name of a metric with the groups that distinguish it from others of the name.
func (m fateMetric) label() string {
	name := plain(m.Name)
	for _, g := range m.Groups {
		if g.Index != nil {
			name += " " + plain(g.Name) + " " + strconv.Itoa(*g.Index)
		}
	}
	return name
}

// drawFATESteps draws a metric with one value, or a list of them, for each step.
func drawFATESteps(out *strings.Builder, name, axis string, steps []any) {
	var points []any
	for _, s := range steps {
		step, _ := s.(map[string]any)
		value := step["metric"]
		if list, ok := value.([]any); ok && len(list) == 1 {
			value = list[0]
		}
		if v, ok := number(value); ok {
			points = append(points, map[string]any{axis: step["step"], "metric": v})
		}
	}
	series := make([]float64, 0, len(points))
	for _, p := range points {
		series = append(series, p.(map[string]any)["metric"].(float64))
	}
	if len(series) == 0 {
		return
	}
	fmt.Fprintf(out, "  %s by %s: %s\n", name, axis, shortValues(series))
	if len(series) > 1 {
		out.WriteString(plot([][]float64{series}, []string{name}))
	}
}

// drawFATENumbers lists the numbers of an object, and of the objects in it, such as an evaluation for each
// part of a dataset, to a depth of three.
func drawFATENumbers(out *strings.Builder, name string, data map[string]any) {
	var list func(place string, data map[string]any, depth int)
	list = func(place string, data map[string]any, depth int) {
		if line := listNumbers(data); line != "" {
			fmt.Fprintf(out, "  %s:%s", place, strings.TrimPrefix(line, " "))
		}
		for _, key := range sortedNames(data) {
			if inner, ok := data[key].(map[string]any); ok && depth < 3 {
				list(place+" "+plain(key), inner, depth+1)
			}
		}
	}
	list(name, data, 1)
}

// pairs returns the second numbers of a list of pairs, such as the points of a ROC curve.
func pairs(list []any) []float64 {
	var values []float64
	for _, p := range list {
		pair, _ := p.([]any)
		if len(pair) != 2 {
			return nil
		}
		v, ok := number(pair[1])
		if !ok {
			return nil
		}
		values = append(values, v)
	}
	return values
}
