package bfia

import (
	"encoding/json"
	"slices"
	"strings"
)

// PathJobApproval is the endpoint that describes what an approver decides on. It is Hutong's addition.
const PathJobApproval = "/v2/job/approval"

// Approval describes what a party gives to a job and who learns what of it, for the person who approves it.
type Approval struct {
	JobID  string `json:"job_id"`
	FlowID string `json:"flow_id"`
	NodeID string `json:"node_id"` // this party
	// Reads are this party's parts: what each runs, and what it reads of the party's datasets and models and
	// of what other tasks made of them. That may be nothing.
	Reads []ApprovalRead `json:"reads"`
	// Makes are the outputs of the job's tasks, with the parties that get them.
	Makes []ApprovalMade `json:"makes"`
	// Previous is the job of this flow and initiator that this party approved last before this one, or empty.
	Previous string `json:"previous"`
	// Differences are what differs from it. Datasets are compared by name: a party keeps no earlier columns.
	Differences []ApprovalDifference `json:"differences"`
	// Scope is what a rule for exactly this job would allow, ScopeText the same in sentences. It is absent if
	// the job is not created here.
	Scope     *ApprovalScope `json:"scope,omitempty"`
	ScopeText []string       `json:"scope_text,omitempty"`
	// Rule is the rule that has approved the job. NearRule is the one that comes nearest to it, while the job
	// waits for an approval. One without mismatches was made after the job arrived.
	Rule     *ApprovalRule `json:"rule,omitempty"`
	NearRule *NearRule     `json:"near_rule,omitempty"`
	// Text is all of this in English sentences, one a line.
	Text []string `json:"text"`
}

// ApprovalRead is a part of this party, with the data of the party that it reads.
type ApprovalRead struct {
	Task      string      `json:"task_name"`
	Role      string      `json:"role"` // guest.0
	Component string      `json:"component"`
	Provider  string      `json:"provider"` // name:version
	Title     string      `json:"title,omitempty"`
	Images    []ImageView `json:"images"`
	// Parameters are those of the part.
	Parameters map[string]json.RawMessage `json:"parameters,omitempty"`
	// Dataset is namespace#name, or empty if the part reads only what other tasks made.
	Dataset string `json:"dataset,omitempty"`
	Rows    int64  `json:"rows,omitempty"`
	// Columns are all that the container can read, Named those that the part's parameters name.
	Columns []string `json:"columns"`
	Named   []string `json:"named_columns"`
	// Model is the model of an earlier job that the part uses, as model_id names it, or empty.
	Model string `json:"model,omitempty"`
	// Derived are the datasets of this party from which earlier tasks make the part's inputs.
	Derived []string `json:"derived"`
}

// ApprovalMade is what a task makes for the same parties. Each of them stores the outputs of its own parts.
type ApprovalMade struct {
	Task      string `json:"task_name"`
	Component string `json:"component"`
	Provider  string `json:"provider"` // name:version
	// Title and Description are the provider's own texts on the component.
	Title       string `json:"title,omitempty"`
	Description string `json:"description,omitempty"`
	// Own and OwnModels are the datasets and models of this party that the outputs are made of, directly or
	// by way of earlier tasks.
	Own       []string         `json:"own"`
	OwnModels []string         `json:"own_models"`
	Parties   []string         `json:"parties"` // JG0100001100000010 (guest.0)
	Outputs   []ApprovalOutput `json:"outputs"`
}

// ApprovalOutput is an output of a task.
type ApprovalOutput struct {
	Type string `json:"type"` // as the job's document has it
	Key  string `json:"key"`
	// Kind is dataset, model, or metric for all else.
	Kind string `json:"kind"`
	// Description is the provider's own text on the output.
	Description string `json:"description,omitempty"`
}

// ApprovalDifference is one difference between a job and the one that was approved before.
type ApprovalDifference struct {
	Task string `json:"task_name,omitempty"`
	Role string `json:"role,omitempty"` // guest.0
	// Field is what differs: parties, task (which is new or gone), component, images, upstreams, outputs,
	// dataset, model, or parameter.
	Field     string `json:"field"`
	Parameter string `json:"parameter,omitempty"` // its name
	Now       string `json:"now"`                 // empty: there is none
	Was       string `json:"was"`
}

// ApprovalOf describes a job to the approver of a party. before is the job of its flow that this party
// approved last, or nil.
func ApprovalOf(view, before *JobView) Approval {
	a := Approval{JobID: view.JobID, FlowID: view.FlowID, NodeID: view.Self, Reads: []ApprovalRead{},
		Makes: []ApprovalMade{}, Differences: []ApprovalDifference{}}
	datasets := ownSources(view, datasetOf)
	models := ownSources(view, modelOf)
	for _, t := range view.Tasks {
		var derived []string
		for _, up := range t.DependsOn {
			derived = append(derived, datasets(up)...)
		}
		for _, p := range t.Parts {
			if p.NodeID == view.Self {
				a.Reads = append(a.Reads, readOf(t, p, sorted(derived)))
			}
		}
		a.Makes = append(a.Makes, madeBy(t, datasets(t.Name), models(t.Name))...)
	}
	if before != nil {
		a.Previous, a.Differences = before.JobID, differences(before, view)
	}
	a.Text = a.sentences()
	return a
}

func datasetOf(p PartView) string { return p.Dataset.text() }

func modelOf(p PartView) string { return p.Model.text() }

// ownSources returns a function that returns what of this party the outputs of a task are made of, at any
// depth: what source names of a part, such as its dataset. The tasks of a job are in any order.
func ownSources(view *JobView, source func(PartView) string) func(task string) []string {
	tasks := map[string]TaskView{}
	for _, t := range view.Tasks {
		tasks[t.Name] = t
	}
	known := map[string][]string{}
	var of func(name string) []string
	of = func(name string) []string {
		if list, ok := known[name]; ok {
			return list
		}
		known[name] = nil // a job with a cycle is refused, yet this must end
		var list []string
		for _, p := range tasks[name].Parts {
			if name := source(p); p.NodeID == view.Self && name != "" {
				list = append(list, name)
			}
		}
		for _, up := range tasks[name].DependsOn {
			list = append(list, of(up)...)
		}
		known[name] = sorted(list)
		return known[name]
	}
	return of
}

// sorted returns a list in order, without duplicates.
func sorted(list []string) []string {
	list = append([]string{}, list...)
	slices.Sort(list)
	return slices.Compact(list)
}

func readOf(t TaskView, p PartView, derived []string) ApprovalRead {
	read := ApprovalRead{Task: t.Name, Role: p.Role, Component: t.Component, Provider: t.Provider,
		Title: t.Title, Images: t.Images, Parameters: p.Parameters, Dataset: p.Dataset.text(),
		Columns: []string{}, Named: []string{}, Model: p.Model.text(), Derived: derived}
	if d := p.Dataset; d != nil {
		read.Rows = d.Rows
		for _, c := range d.Columns {
			read.Columns = append(read.Columns, c.Name)
		}
		read.Named = namedColumns(p.Parameters, read.Columns)
	}
	return read
}

// madeBy returns what a task makes, one element for each group of parties, of datasets and models of this
// party.
func madeBy(t TaskView, datasets, models []string) []ApprovalMade {
	var made []ApprovalMade
	for _, out := range t.Outputs {
		i := slices.IndexFunc(made, func(m ApprovalMade) bool { return slices.Equal(m.Parties, out.Parties) })
		if i < 0 {
			i = len(made)
			made = append(made, ApprovalMade{Task: t.Name, Component: t.Component, Provider: t.Provider,
				Title: t.Title, Description: t.Description, Own: datasets, OwnModels: models,
				Parties: out.Parties})
		}
		made[i].Outputs = append(made[i].Outputs, ApprovalOutput{Type: out.Type, Key: out.Key,
			Kind: string(familyOf(out.Type)), Description: out.Description})
	}
	return made
}

// namedColumns returns the columns that parameters name, in the order of the dataset.
func namedColumns(parameters map[string]json.RawMessage, columns []string) []string {
	named := map[string]bool{}
	var visit func(v any)
	visit = func(v any) {
		switch v := v.(type) {
		case string:
			for name := range strings.SplitSeq(v, ",") {
				named[strings.TrimSpace(name)] = true
			}
		case []any:
			for _, e := range v {
				visit(e)
			}
		case map[string]any:
			for name, e := range v {
				named[name] = true
				visit(e)
			}
		}
	}
	for _, raw := range parameters {
		var v any
		if json.Unmarshal(raw, &v) == nil {
			visit(v)
		}
	}
	return slices.DeleteFunc(slices.Clone(columns), func(c string) bool { return !named[c] })
}
