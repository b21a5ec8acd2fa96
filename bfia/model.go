package bfia

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// ModelParam is the parameter that names the model of an earlier job for the first model input that the DAG
// does not feed: job:task, or job:task.output. It is Hutong's addition, in the place of dataset_id: another
// implementation passes it on to its component as a parameter.
const ModelParam = "model_id"

// PredictSuffix follows the name of a training component in that of the component that applies its model.
const PredictSuffix = "_predict"

// ModelRef names the model that a task of a job trained. Each party of the job keeps its own part.
type ModelRef struct {
	JobID string
	Task  string
	// Output is the key of the output in the DAG of the job; empty for the task's only model.
	Output string
}

// String returns the reference as a document has it.
func (r ModelRef) String() string {
	if r.Output == "" {
		return r.JobID + ":" + r.Task
	}
	return r.JobID + ":" + r.Task + "." + r.Output
}

// ParseModelRef parses job:task or job:task.output.
func ParseModelRef(text string) (ModelRef, error) {
	job, rest, _ := strings.Cut(text, ":")
	task, output, named := strings.Cut(rest, ".")
	if CheckID("", job) != nil || CheckID("", task) != nil || named && CheckID("", output) != nil {
		return ModelRef{}, Errorf(CodeBadRequest, "%s: %q is not of the form job:task or job:task.output",
			ModelParam, text)
	}
	return ModelRef{JobID: job, Task: task, Output: output}, nil
}

// IsModel reports whether a type of an output counts as a model.
func IsModel(kind string) bool { return familyOf(kind) == familyModel }

// RootModel returns the model of an earlier job that the parameters of a part name for the first model input
// that the DAG does not feed. It returns nil if they name none, or if there is no such input: then the
// parameter is the component's own.
func (d *Document) RootModel(describe Describe, task string, part Part) (*ModelRef, error) {
	inputs, values, err := d.rootInputs(describe, task, part)
	if err != nil {
		return nil, err
	}
	ref, err := rootModel(inputs, values)
	return ref, prefixedTask(task, part, err)
}

// rootModel returns the model that parameters name, if the DAG leaves a model input free.
func rootModel(inputs []Binding, values map[string]json.RawMessage) (*ModelRef, error) {
	if !slices.ContainsFunc(inputs, Binding.IsRootModel) {
		return nil, nil
	}
	var text string
	if err := DecodeFields(values, Optional(ModelParam, &text)); err != nil || text == "" {
		return nil, err
	}
	ref, err := ParseModelRef(text)
	return &ref, err
}

// CheckModelParties refuses a task that uses a model with other parties than those which trained it: the
// roles of the task must be held by the same nodes. training is the document of the job that trained it.
func CheckModelParties(ref ModelRef, training *Document, task *PlannedTask) error {
	nodes := map[string][]string{}
	for _, p := range task.Parts {
		nodes[p.Role] = append(nodes[p.Role], p.NodeID)
	}
	for _, role := range sortedKeys(nodes) {
		if trained := training.Config.Role[role]; !slices.Equal(nodes[role], trained) {
			return Errorf(CodeConflict, "model %s was trained with %s, but task %s runs with %s: "+
				"each party has its own part of a model, so the parties must be the same", ref,
				describeRole(role, trained), task.Name, describeRole(role, nodes[role]))
		}
	}
	return nil
}

func describeRole(role string, nodes []string) string {
	if len(nodes) == 0 {
		return "no " + role
	}
	return fmt.Sprintf("%s %s", role, strings.Join(nodes, ", "))
}

// Ancestors returns the names of the tasks on which a task depends, directly or not, and of the task itself,
// in the DAG's order.
func (d *DAG) Ancestors(task string) []string {
	found := map[string]bool{}
	var visit func(name string)
	visit = func(name string) {
		c, ok := d.component(name)
		if !ok || found[name] {
			return
		}
		found[name] = true
		for _, up := range c.Upstreams() {
			visit(up)
		}
	}
	visit(task)
	var names []string
	for _, c := range d.Components {
		if found[c.Name] {
			names = append(names, c.Name)
		}
	}
	return names
}

// PredictionView is a prediction as the API returns it.
type PredictionView struct {
	Document map[string]any      `json:"document"`
	Tasks    []PredictedTaskView `json:"tasks"`
}

// PredictedTaskView is a task of a [PredictionView].
type PredictedTaskView struct {
	Name      string `json:"name"`
	Component string `json:"component"`
	Model     string `json:"model,omitempty"` // that it applies
}
