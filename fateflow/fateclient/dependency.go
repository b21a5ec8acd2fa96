package fateclient

import (
	"strings"

	"hutong/bfia"
)

// Dependencies are the tasks of a job and how they depend on each other, as FATE-Board draws them.
type Dependencies struct {
	Components []ComponentName         `json:"component_list"`
	Modules    map[string]string       `json:"component_module"`
	Stages     map[string]string       `json:"component_stage"`
	NeedRun    map[string]bool         `json:"component_need_run"`
	Edges      map[string][]Dependency `json:"dependencies"`
}

// ComponentName names a task.
type ComponentName struct {
	Name string `json:"component_name"`
}

// Dependency is an output of an earlier task that a task reads.
type Dependency struct {
	Type      string `json:"type"`       // the key of the output
	ModelType string `json:"model_type"` // data or model
	Component string `json:"component_name"`
	// Output is the kind of the output and its position among those of the kind.
	Output [2]any `json:"up_output_info"`
}

// DependenciesOf returns the dependencies of a document's tasks.
func DependenciesOf(doc *bfia.Document) Dependencies {
	d := Dependencies{Components: []ComponentName{}, Modules: map[string]string{},
		Stages:  map[string]string{},
		NeedRun: map[string]bool{}, Edges: map[string][]Dependency{}}
	outputs := map[string][]bfia.Port{}
	for _, c := range doc.DAG.Components {
		outputs[c.Name] = c.Output
	}
	for _, c := range doc.DAG.Components {
		d.Components = append(d.Components, ComponentName{c.Name})
		d.Modules[c.Name], d.Stages[c.Name], d.NeedRun[c.Name] = c.ComponentName, "default", true
		for _, in := range c.Input {
			from, key, _ := strings.Cut(in.Key, ".")
			position := 0
			for _, out := range outputs[from] {
				if out.Key == key && bfia.SameFamily(out.Type, in.Type) {
					break
				}
				if bfia.SameFamily(out.Type, in.Type) {
					position++
				}
			}
			kind := KindOf(in.Type)
			d.Edges[c.Name] = append(d.Edges[c.Name],
				Dependency{Type: key, ModelType: kind, Component: from, Output: [2]any{kind, position}})
		}
	}
	return d
}

// KindOf returns data, model or metric for a type of BFIA.
func KindOf(kind string) string {
	for _, word := range []string{"data", "model"} {
		if bfia.SameFamily(kind, word) {
			return word
		}
	}
	return "metric"
}
