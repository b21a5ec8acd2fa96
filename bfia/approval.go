package bfia

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// PathJobApproval is the endpoint that describes in words what an approver decides on. It is Hutong's addition.
const PathJobApproval = "/v2/job/approval"

// Approval describes what a party gives to a job and who learns what of it, for the person who approves it.
type Approval struct {
	JobID  string `json:"job_id"`
	FlowID string `json:"flow_id"`
	NodeID string `json:"node_id"` // this party
	// Reads are this party's parts that read its datasets, or what other tasks made of them.
	Reads []ApprovalRead `json:"reads"`
	// Learns says which outputs each part of the job gets.
	Learns []ApprovalLearn `json:"learns"`
	// Previous is the last job of this flow and initiator that this party approved, or empty.
	Previous string `json:"previous"`
	// Differences are what differs from it, in words.
	Differences []string `json:"differences"`
	// Text is all of this in words.
	Text []string `json:"text"`
}

// ApprovalRead is a part of this party that reads its data.
type ApprovalRead struct {
	Task      string      `json:"task_name"`
	Role      string      `json:"role"` // guest.0
	Component string      `json:"component"`
	Provider  string      `json:"provider"` // name:version
	Images    []ImageView `json:"images"`
	// Dataset is namespace#name, or empty if the part reads only what other tasks made.
	Dataset string `json:"dataset,omitempty"`
	Rows    int64  `json:"rows,omitempty"`
	// Columns are all that the container can read, Named those that the part's parameters name.
	Columns []string `json:"columns"`
	Named   []string `json:"named_columns"`
	// Derived are the datasets of this party from which the part's inputs are made by earlier tasks.
	Derived []string `json:"derived"`
}

// ApprovalLearn is what one part of a job gets: each party stores the outputs of its own parts.
type ApprovalLearn struct {
	Party   string   `json:"party"` // JG0100001100000010 (guest.0)
	Outputs []string `json:"outputs"`
}

// ApprovalOf describes a job to the approver of a party. before is the last one of its flow that this party has
// approved, or nil.
func ApprovalOf(view, before *JobView) Approval {
	a := Approval{JobID: view.JobID, FlowID: view.FlowID, NodeID: view.Self, Reads: []ApprovalRead{},
		Learns: []ApprovalLearn{}, Differences: []string{}}
	made := map[string][]string{} // the own datasets from which a task's outputs are made
	for _, t := range view.Tasks {
		var derived []string
		for _, up := range t.DependsOn {
			derived = append(derived, made[up]...)
		}
		slices.Sort(derived)
		derived = slices.Compact(derived)
		made[t.Name] = derived
		for _, p := range t.Parts {
			if p.NodeID != view.Self || p.Dataset == nil && len(derived) == 0 {
				continue
			}
			read := ApprovalRead{Task: t.Name, Role: p.Role, Component: t.Component, Provider: t.Provider,
				Images: t.Images, Columns: []string{}, Named: []string{}, Derived: append([]string{}, derived...)}
			if d := p.Dataset; d != nil {
				read.Dataset, read.Rows = d.Namespace+"#"+d.Name, d.Rows
				made[t.Name] = append(slices.Clone(made[t.Name]), read.Dataset)
				for _, c := range d.Columns {
					read.Columns = append(read.Columns, c.Name)
				}
				read.Named = namedColumns(p.Parameters, read.Columns)
			}
			a.Reads = append(a.Reads, read)
		}
		for _, out := range t.Outputs {
			for _, party := range out.Parties {
				a.learns(party, fmt.Sprintf("%s %s of task %s", out.Type, out.Key, t.Name))
			}
		}
	}
	if before != nil {
		a.Previous, a.Differences = before.JobID, differences(before, view)
	}
	a.Text = a.words()
	return a
}

func (a *Approval) learns(party, output string) {
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

// words describes the approval in sentences, one a line.
func (a *Approval) words() []string {
	text := []string{}
	line := func(format string, args ...any) { text = append(text, fmt.Sprintf(format, args...)) }
	for _, r := range a.Reads {
		what := "what earlier tasks made of " + strings.Join(r.Derived, ", ")
		if r.Dataset != "" {
			what = "dataset " + r.Dataset
			switch {
			case len(r.Columns) == 0:
				what += " with all its columns"
			case len(r.Named) == 0:
				what += fmt.Sprintf(" (%d rows) with all its columns: %s", r.Rows, strings.Join(r.Columns, ", "))
			default:
				what += fmt.Sprintf(" (%d rows): its parameters name %s; its container can read all columns: %s",
					r.Rows, strings.Join(r.Named, ", "), strings.Join(r.Columns, ", "))
			}
			if len(r.Derived) > 0 {
				what += "; and what earlier tasks made of " + strings.Join(r.Derived, ", ")
			}
		}
		line("Task %s (%s) reads %s", r.Task, r.Role, what)
		for _, i := range r.Images {
			line("  by %s of %s, which runs %s", r.Component, r.Provider, i.words())
		}
	}
	if len(a.Reads) == 0 {
		line("No task reads data of %s", a.NodeID)
	}
	for _, l := range a.Learns {
		line("%s gets %s", l.Party, strings.Join(l.Outputs, ", "))
	}
	switch {
	case a.Previous == "":
		line("%s has approved no job of flow %s of this initiator before", a.NodeID, a.FlowID)
	case len(a.Differences) == 0:
		line("It is equal to job %s, which %s approved last of this flow", a.Previous, a.NodeID)
	default:
		line("It differs from job %s, which %s approved last of this flow:", a.Previous, a.NodeID)
		for _, d := range a.Differences {
			line("  %s", d)
		}
	}
	return text
}

func (i ImageView) words() string {
	if len(i.Command) > 0 {
		return "the command " + strings.Join(i.Command, " ") + " (" + i.Device + ")"
	}
	text := i.Image + " (" + i.Device
	switch {
	case len(i.ImageIDs) > 0:
		text += ", " + strings.Join(i.ImageIDs, " or ")
	case i.ImageIDs != nil:
		text += ", no id yet: the first container of the job resolves it"
	}
	return text + ")"
}

// differences returns what differs between two jobs, field by field, in words.
func differences(before, now *JobView) []string {
	list := []string{}
	add := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	compare := func(what, old, new string) {
		if old != new {
			add("%s: %s, was %s", what, orNone(new), orNone(old))
		}
	}
	compare("parties", partsText(before.Parts), partsText(now.Parts))
	tasks := map[string]TaskView{}
	for _, t := range before.Tasks {
		tasks[t.Name] = t
	}
	for _, t := range now.Tasks {
		old, known := tasks[t.Name]
		delete(tasks, t.Name)
		if !known {
			add("task %s is new: %s of %s", t.Name, t.Component, t.Provider)
			continue
		}
		task := "task " + t.Name
		compare(task+", component", old.Component+" of "+old.Provider, t.Component+" of "+t.Provider)
		compare(task+", image", imagesText(old.Images), imagesText(t.Images))
		compare(task+", inputs of tasks", strings.Join(old.DependsOn, ", "), strings.Join(t.DependsOn, ", "))
		compare(task+", outputs", outputsText(old.Outputs), outputsText(t.Outputs))
		parts := map[string]PartView{}
		for _, p := range old.Parts {
			parts[p.Role] = p
		}
		for _, p := range t.Parts {
			comparePart(compare, task+", "+p.Role, parts[p.Role], p)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(tasks)) {
		add("task %s is gone: %s of %s", name, tasks[name].Component, tasks[name].Provider)
	}
	return list
}

func comparePart(compare func(what, old, new string), part string, old, now PartView) {
	compare(part+", dataset", old.Dataset.text(), now.Dataset.text())
	compare(part+", model", old.Model.text(), now.Model.text())
	names := maps.Clone(old.Parameters)
	if names == nil {
		names = map[string]json.RawMessage{}
	}
	maps.Copy(names, now.Parameters)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		compare(part+", parameter "+name, compactText(old.Parameters[name]), compactText(now.Parameters[name]))
	}
}

func orNone(text string) string {
	if text == "" {
		return "none"
	}
	return text
}

func compactText(raw json.RawMessage) string {
	var b bytes.Buffer
	if json.Compact(&b, raw) != nil {
		return string(raw)
	}
	return b.String()
}

func partsText(parts []Part) string {
	texts := make([]string, len(parts))
	for i, p := range parts {
		texts[i] = p.NodeID + " (" + p.Self() + ")"
	}
	return strings.Join(texts, ", ")
}

func imagesText(images []ImageView) string {
	texts := make([]string, len(images))
	for i, image := range images {
		texts[i] = image.words()
	}
	return strings.Join(texts, ", ")
}

func outputsText(outputs []OutputView) string {
	texts := make([]string, len(outputs))
	for i, o := range outputs {
		texts[i] = o.Type + " " + o.Key + " to " + strings.Join(o.Parties, " and ")
	}
	return strings.Join(texts, ", ")
}

// text names a dataset with its columns, as far as they are known.
func (d *DatasetView) text() string {
	if d == nil {
		return ""
	}
	text := d.Namespace + "#" + d.Name
	if len(d.Columns) == 0 {
		return text
	}
	names := make([]string, len(d.Columns))
	for i, c := range d.Columns {
		names[i] = c.Name
	}
	return text + " (" + strings.Join(names, ", ") + ")"
}

func (m *InputModelView) text() string {
	if m == nil {
		return ""
	}
	return m.Model
}
