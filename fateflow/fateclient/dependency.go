package fateclient

import (
	"strings"

	"hutong/bfia"
)

// Dependencies are the tasks of a job and how they depend on each other, as FATE-Board draws them.
type Dependencies struct {
	Components []string                `json:"component_list"` // the names of the tasks
	Modules    map[string]string       `json:"component_module"`
	Stages     map[string]string       `json:"component_stage"`
	NeedRun    map[string]bool         `json:"component_need_run"`
	Edges      map[string][]Dependency `json:"dependencies"`
}

// Dependency is an output of an earlier task that a task reads.
type Dependency struct {
	Type      string   `json:"type"`       // the key of the output
	ModelType string   `json:"model_type"` // data or model
	Component string   `json:"component_name"`
	Output    []string `json:"up_output_info"` // the key of the output
}

// DependenciesOf returns the dependencies of a document's tasks.
func DependenciesOf(doc *bfia.Document) Dependencies {
	d := Dependencies{Components: []string{}, Modules: map[string]string{}, Stages: map[string]string{},
		NeedRun: map[string]bool{}, Edges: map[string][]Dependency{}}
	for _, c := range doc.DAG.Components {
		d.Components = append(d.Components, c.Name)
		d.Modules[c.Name], d.Stages[c.Name], d.NeedRun[c.Name] = c.ComponentName, "default", true
		for _, in := range c.Input {
			from, key, _ := strings.Cut(in.Key, ".")
			d.Edges[c.Name] = append(d.Edges[c.Name],
				Dependency{Type: key, ModelType: KindOf(in.Type), Component: from, Output: []string{key}})
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
