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
	// Learns are the outputs that each part of the job gets.
	Learns []ApprovalLearn `json:"learns"`
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

// ApprovalLearn is what one part of a job gets: each party stores the outputs of its own parts.
type ApprovalLearn struct {
	Party   string           `json:"party"` // JG0100001100000010 (guest.0)
	Outputs []ApprovalOutput `json:"outputs"`
}

// ApprovalOutput is an output of a task.
type ApprovalOutput struct {
	Type string `json:"type"`
	Key  string `json:"key"`
	Task string `json:"task_name"`
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
		Learns: []ApprovalLearn{}, Differences: []ApprovalDifference{}}
	sources := ownSources(view)
	for _, t := range view.Tasks {
		var derived []string
		for _, up := range t.DependsOn {
			derived = append(derived, sources(up)...)
		}
		for _, p := range t.Parts {
			if p.NodeID == view.Self {
				a.Reads = append(a.Reads, readOf(t, p, sorted(derived)))
			}
		}
		for _, out := range t.Outputs {
			for _, party := range out.Parties {
				a.learns(party, ApprovalOutput{Type: out.Type, Key: out.Key, Task: t.Name})
			}
		}
	}
	if before != nil {
		a.Previous, a.Differences = before.JobID, differences(before, view)
	}
	a.Text = a.sentences()
	return a
}

// ownSources returns a function that returns the datasets of this party from which the outputs of a task are
// made, at any depth. The tasks of a job are in any order.
func ownSources(view *JobView) func(task string) []string {
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
			if p.NodeID == view.Self && p.Dataset != nil {
				list = append(list, p.Dataset.text())
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
		Images: t.Images, Parameters: p.Parameters, Dataset: p.Dataset.text(), Columns: []string{},
		Named: []string{},
		Model: p.Model.text(), Derived: derived}
	if d := p.Dataset; d != nil {
		read.Rows = d.Rows
		for _, c := range d.Columns {
			read.Columns = append(read.Columns, c.Name)
		}
		read.Named = namedColumns(p.Parameters, read.Columns)
	}
	return read
}

func (a *Approval) learns(party string, output ApprovalOutput) {
	i := slices.IndexFunc(a.Learns, func(l ApprovalLearn) bool { return l.Party == party })
	if i < 0 {
		a.Learns = append(a.Learns, ApprovalLearn{Party: party})
		i = len(a.Learns) - 1
	}
	a.Learns[i].Outputs = append(a.Learns[i].Outputs, output)
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
