package fateclient

import (
	"cmp"
	"slices"
	"strings"

	"hutong/bfia"
)

// Dependencies are the tasks of a job and how they depend on each other, as FATE-Board draws them.
type Dependencies struct {
	Components []string                `json:"component_list"`   // the names of the tasks
	Modules    map[string]string       `json:"component_module"` // FATE's components, without the stage
	Stages     map[string]string       `json:"component_stage"`
	NeedRun    map[string]bool         `json:"component_need_run"`
	Edges      map[string][]Dependency `json:"dependencies"`
}

// Dependency is an output of an earlier task that a task reads.
type Dependency struct {
	Type      string   `json:"type"`       // the port of the task that reads it
	ModelType string   `json:"model_type"` // data or model
	Component string   `json:"component_name"`
	Output    []string `json:"up_output_info"` // the port of the earlier task
}

// DependenciesOf returns the dependencies of those tasks of a document that run in a role. describe returns
// the description of a task's component, or nil if none is known.
func DependenciesOf(doc *bfia.Document, describe func(bfia.Component) *bfia.Description,
	role string,
) Dependencies {
	d := Dependencies{Components: []string{}, Modules: map[string]string{}, Stages: map[string]string{},
		NeedRun: map[string]bool{}, Edges: map[string][]Dependency{}}
	outputs := map[string]string{}
	for _, c := range doc.DAG.Components {
		for i, port := range outputPorts(c, describe(c)) {
			outputs[c.Name+"."+c.Output[i].Key] = port
		}
	}
	for _, c := range doc.DAG.Components {
		desc := describe(c)
		// FATE-Board asks for each task of the list, and shows none if one of them has no part in the role.
		if role != "" && desc != nil && !slices.Contains(desc.RoleList, role) {
			continue
		}
		d.Components = append(d.Components, c.Name)
		d.Modules[c.Name], d.Stages[c.Name] = moduleAndStage(c, desc)
		d.NeedRun[c.Name] = true
		ports := inputPorts(c, desc)
		for i, in := range c.Input {
			from, key, _ := strings.Cut(in.Key, ".")
			d.Edges[c.Name] = append(d.Edges[c.Name], Dependency{Type: cmp.Or(ports[i], key),
				ModelType: KindOf(in.Type), Component: from, Output: []string{cmp.Or(outputs[in.Key], key)}})
		}
	}
	return d
}

// moduleAndStage returns FATE's component and its stage. FATE-Board finds the component's ports by both, and
// draws no line to a port that it does not find.
func moduleAndStage(c bfia.Component, desc *bfia.Description) (module, stage string) {
	for _, stage := range sortedKeys(stages) {
		if suffix := stages[stage]; suffix != "" {
			if module, found := strings.CutSuffix(c.ComponentName, suffix); found && module != "" {
				return module, stage
			}
		}
	}
	trains := desc != nil && slices.ContainsFunc(desc.OutputData,
		func(p bfia.DataPort) bool { return KindOf(p.Category) == "model" })
	if trains {
		return c.ComponentName, "train"
	}
	return c.ComponentName, "default"
}

// inputPorts returns the names of the ports that the inputs of a task feed, in the order of the inputs.
func inputPorts(c bfia.Component, desc *bfia.Description) []string {
	if desc == nil {
		return make([]string, len(c.Input))
	}
	bound, err := bfia.BindInputs(c, desc, false)
	return portsOf(bound, err, len(c.Input))
}

// outputPorts returns the names of the ports that write the outputs of a task, in the order of the outputs.
func outputPorts(c bfia.Component, desc *bfia.Description) []string {
	if desc == nil {
		return make([]string, len(c.Output))
	}
	bound, err := bfia.BindOutputs(c, desc)
	return portsOf(bound, err, len(c.Output))
}

// portsOf returns the ports of n inputs or outputs. If they could not be bound, their names are empty:
// FATE-Board draws the tasks of a job without lines better than none.
func portsOf(bound []bfia.Binding, err error, n int) []string {
	ports := make([]string, n)
	if err != nil {
		return ports
	}
	for i, b := range bound {
		ports[i] = b.Port
	}
	return ports
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
