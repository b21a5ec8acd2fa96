package bfia

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// sentences describes the approval in sentences, one a line.
func (a *Approval) sentences() []string {
	text := []string{}
	line := func(format string, args ...any) { text = append(text, fmt.Sprintf(format, args...)) }
	for _, r := range a.Reads {
		line("Task %s (%s) reads %s", r.Task, r.Role, cmp.Or(r.what(), "nothing of "+a.NodeID))
		if len(r.Images) == 0 {
			line("  by %s of %s", r.Component, r.Provider)
		}
		for _, i := range r.Images {
			line("  by %s of %s, which runs %s", r.Component, r.Provider, i.text())
		}
		if text := parametersText(r.Parameters); text != "" {
			line("  with %s", text)
		}
	}
	if len(a.Reads) == 0 {
		line("No task runs at %s", a.NodeID)
	}
	for _, m := range a.Makes {
		text = append(text, m.sentences(a.NodeID)...)
	}
	switch {
	case a.FlowID == "":
		line("The job belongs to no flow, so there is no earlier job to compare it with")
	case a.Previous == "":
		line("%s has approved no earlier job of flow %s of this initiator", a.NodeID, a.FlowID)
	case len(a.Differences) == 0:
		line("Its parties, tasks, images, inputs, parameters and outputs are those of job %s, which %s approved "+
			"last of this flow", a.Previous, a.NodeID)
	default:
		line("It differs from job %s, which %s approved last of this flow:", a.Previous, a.NodeID)
		for _, d := range a.Differences {
			line("  %s", d.sentence())
		}
	}
	return text
}

// kindTexts are what the kinds of outputs hold, for people who know none of the components.
var kindTexts = map[family]string{
	familyData:   "rows of data",
	familyModel:  "what a training has learned from data, to predict with",
	familyMetric: "figures on data or a model, such as counts, measures or curves",
}

// sentences describes what a task makes and who gets it. node is this party.
func (m ApprovalMade) sentences(node string) []string {
	text := []string{}
	line := func(format string, args ...any) { text = append(text, fmt.Sprintf(format, args...)) }
	parties := strings.Join(m.Parties, ", ")
	if len(m.Parties) > 1 {
		parties += ", each for its own part"
	}
	line("Task %s makes for %s:", m.Task, parties)
	for _, o := range m.Outputs {
		described := ""
		if o.Description != "" {
			described = ", described as " + quoted(o.Description)
		}
		line("  %s %s: %s%s", o.Type, o.Key, kindTexts[family(o.Kind)], described)
	}
	from := slices.Clone(m.Own)
	for _, model := range m.OwnModels {
		from = append(from, "model "+model)
	}
	if len(from) > 0 {
		line("  from %s of %s", strings.Join(from, ", "), node)
	}
	by := "  by " + m.Component + " of " + m.Provider
	if m.Title != "" {
		by += ", titled " + quoted(m.Title)
	}
	if m.Description != "" {
		by += ", described as " + quoted(m.Description)
	}
	return append(text, by)
}

// shownDescription bounds the characters of a provider's text in a sentence.
const shownDescription = 400

// quoted returns a provider's text as one line in quotes, so that nobody takes it for what Hutong says.
func quoted(text string) string {
	characters := []rune(strings.Join(strings.Fields(text), " "))
	if len(characters) > shownDescription {
		characters = append(characters[:shownDescription], '…')
	}
	return strconv.Quote(string(characters))
}

// what describes the data that a part reads, or returns "".
func (r ApprovalRead) what() string {
	var what []string
	if r.Dataset != "" {
		text := "dataset " + r.Dataset
		switch all := strings.Join(r.Columns, ", "); {
		case len(r.Columns) == 0:
			text += " with all its columns"
		case len(r.Named) == 0:
			text += fmt.Sprintf(" (%d rows) with all its columns: %s", r.Rows, all)
		default:
			text += fmt.Sprintf(" (%d rows): its parameters name %s; its container can read all columns: %s",
				r.Rows, strings.Join(r.Named, ", "), all)
		}
		what = append(what, text)
	}
	if r.Model != "" {
		what = append(what, "model "+r.Model)
	}
	if len(r.Derived) > 0 {
		what = append(what, "what earlier tasks make of "+strings.Join(r.Derived, ", "))
	}
	return strings.Join(what, "; and ")
}

// shownParameter bounds the characters of a parameter's value in a sentence.
const shownParameter = 200

// parametersText returns parameters by their names, as in the job's document.
func parametersText(parameters map[string]json.RawMessage) string {
	texts := make([]string, 0, len(parameters))
	for _, name := range slices.Sorted(maps.Keys(parameters)) {
		var value bytes.Buffer
		if json.Compact(&value, parameters[name]) != nil {
			continue
		}
		text := []rune(value.String())
		if len(text) > shownParameter {
			text = append(text[:shownParameter], '…')
		}
		texts = append(texts, name+" = "+string(text))
	}
	return strings.Join(texts, ", ")
}

// sentence describes a difference.
func (d ApprovalDifference) sentence() string {
	if d.Field == FieldTask {
		if d.Was == "" {
			return fmt.Sprintf("task %s is new: %s", d.Task, d.Now)
		}
		return fmt.Sprintf("task %s is gone: %s", d.Task, d.Was)
	}
	var place []string
	if d.Task != "" {
		place = append(place, "task "+d.Task)
	}
	if d.Role != "" {
		place = append(place, d.Role)
	}
	field := d.Field
	if d.Parameter != "" {
		field += " " + d.Parameter
	}
	place = append(place, field)
	return fmt.Sprintf("%s: %s, was %s", strings.Join(place, ", "), orNone(d.Now), orNone(d.Was))
}

func orNone(text string) string {
	if text == "" {
		return "none"
	}
	return text
}

func (i ImageView) text() string {
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

// text names a dataset.
func (d *DatasetView) text() string {
	if d == nil {
		return ""
	}
	return d.Namespace + "#" + d.Name
}

// text names a model.
func (m *InputModelView) text() string {
	if m == nil {
		return ""
	}
	return m.Model
}
