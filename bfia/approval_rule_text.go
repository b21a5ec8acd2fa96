package bfia

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Sentences describes in English sentences, one a line, what a rule with this scope approves.
func (s *ApprovalScope) Sentences() []string {
	text := []string{}
	line := func(format string, args ...any) { text = append(text, fmt.Sprintf(format, args...)) }
	flow := "of flow " + s.FlowID
	switch {
	case s.leaves(AnyFlow):
		flow = "of any flow"
	case s.FlowID == "":
		flow = "that belong to no flow"
	}
	line("Jobs that %s initiates and %s schedules, %s", s.Initiator, s.Scheduler, flow)
	switch {
	case s.leaves(AnyParties):
		line("  with any other parties")
	case len(s.Parties) > 0:
		line("  with no other parties than %s", strings.Join(s.Parties, ", "))
	default:
		line("  with no other parties")
	}
	for i := range s.Uses {
		text = append(text, s.Uses[i].sentences()...)
	}
	switch {
	case s.leaves(AnyOutputs):
		line("Other parties may get any outputs")
	case len(s.Learns) == 0:
		line("Other parties get no outputs")
	}
	for _, node := range s.learners() {
		var outputs []string
		for _, l := range s.Learns {
			if l.NodeID == node {
				outputs = append(outputs, fmt.Sprintf("%s %s of %s", l.Type, l.Key, l.Component))
			}
		}
		line("%s may get %s", node, strings.Join(outputs, ", "))
	}
	return text
}

// learners returns the parties that get outputs, in the order of the scope.
func (s *ApprovalScope) learners() []string {
	var nodes []string
	for _, l := range s.Learns {
		if !slices.Contains(nodes, l.NodeID) {
			nodes = append(nodes, l.NodeID)
		}
	}
	return nodes
}

func (u *ApprovalUse) sentences() []string {
	text := []string{}
	line := func(format string, args ...any) { text = append(text, fmt.Sprintf(format, args...)) }
	switch {
	case u.leaves(AnyVersion):
		line("%s of %s in any version may run as %s", u.Component, u.Provider, u.Role)
	case u.leaves(AnyImage):
		line("%s of %s:%s may run as %s, with any image", u.Component, u.Provider, u.Version, u.Role)
	default:
		line("%s of %s:%s may run as %s, only with %s", u.Component, u.Provider, u.Version, u.Role,
			strings.Join(u.Images, " or "))
	}
	switch {
	case u.Dataset != "" && u.leaves(AnyColumns):
		line("  reads dataset %s with any columns", u.Dataset)
	case u.Dataset != "":
		line("  reads dataset %s with no other columns than %s", u.Dataset, strings.Join(u.Columns, ", "))
		if len(u.Named) > 0 {
			line("  its parameters name no other columns than %s", strings.Join(u.Named, ", "))
		}
	}
	if len(u.Derived) > 0 {
		line("  reads what earlier tasks make of %s", strings.Join(u.Derived, ", "))
	}
	switch {
	case u.leaves(AnyModel):
		line("  uses any model of an earlier job")
	case u.Model != "":
		line("  uses model %s", u.Model)
	}
	switch {
	case u.leaves(AnyParameters):
		line("  with any parameters")
	case len(u.Parameters) == 0:
		line("  without parameters")
	default:
		var parameters []string
		for _, name := range slices.Sorted(maps.Keys(u.Parameters)) {
			parameters = append(parameters, name+" = "+canonicalText(u.Parameters[name]))
		}
		line("  with the parameters %s", strings.Join(parameters, ", "))
	}
	return text
}

func (l ApprovalLearned) text() string {
	return fmt.Sprintf("%s gets %s %s of %s", l.NodeID, l.Type, l.Key, l.Component)
}

// AddRules adds to an approval what rules have to do with the job: its scope here, the rule that approved it,
// or the one that comes nearest.
func (a *Approval) AddRules(scope *ApprovalScope, rule *ApprovalRule, near *NearRule) {
	a.Scope, a.Rule, a.NearRule = scope, rule, near
	if scope != nil {
		a.ScopeText = scope.Sentences()
	}
	line := func(format string, args ...any) { a.Text = append(a.Text, fmt.Sprintf(format, args...)) }
	switch {
	case rule != nil:
		line("Approval rule %s of %s has approved the job", rule.title(), orNone(rule.CreatedBy))
	case near != nil && len(near.Mismatches) == 0:
		line("Approval rule %s covers the job, but was made after the job arrived", near.title())
	case near != nil:
		line("No approval rule covers the job. Rule %s comes nearest:", near.title())
		for _, m := range near.Mismatches {
			line("  %s", m.sentence())
		}
	}
}

func (r *ApprovalRule) title() string { return ruleTitle(r.ID, r.Note) }

func (n *NearRule) title() string { return ruleTitle(n.ID, n.Note) }

func ruleTitle(id, note string) string {
	if note == "" {
		return id
	}
	return fmt.Sprintf("%s (%s)", id, note)
}

// mismatchTexts say what differs, by field.
var mismatchTexts = map[string]string{
	FieldInitiator:    "initiator differs",
	FieldScheduler:    "scheduler differs",
	FieldFlow:         "flow differs",
	FieldParties:      "there are further parties",
	FieldOutputs:      "a further output goes to another party",
	FieldTask:         "there is no task here",
	FieldComponent:    "component is not in the rule",
	FieldVersion:      "version differs",
	FieldImages:       "image digest differs",
	FieldDataset:      "dataset differs",
	FieldColumns:      "there are further columns",
	FieldNamedColumns: "parameters name further columns",
	FieldDerived:      "inputs are made of further datasets",
	FieldModel:        "model differs",
	FieldParameter:    "parameter differs",
}

// sentence says what the rule lacks.
func (m RuleMismatch) sentence() string {
	switch m.Field {
	case FieldUntil:
		return fmt.Sprintf("it has ended at %s", m.Rule)
	case FieldFourEyes:
		if m.Rule == "" {
			return fmt.Sprintf("nobody knows who made it, and four eyes are required: %s submitted the job",
				m.Job)
		}
		return fmt.Sprintf("%s made it and submitted the job, and four eyes are required", m.Job)
	}
	var place string
	if m.Task != "" {
		place = fmt.Sprintf("task %s, %s: ", m.Task, m.Role)
	}
	what := mismatchTexts[m.Field]
	if m.Parameter != "" {
		what = "parameter " + m.Parameter + " differs"
	}
	text := fmt.Sprintf("%s%s: %s", place, what, orNone(m.Job))
	if m.Rule != "" || m.Field == FieldParameter {
		text += ", the rule allows " + orNone(m.Rule)
	}
	return text
}

// Describe sets the text of a rule: what it allows, until when, and why.
func (r *ApprovalRule) Describe() {
	r.Text = r.Scope.Sentences()
	if r.Project != "" {
		r.Text = append(r.Text, "Only jobs of the project "+r.Project)
	}
	r.Text = append(r.Text, "Until "+r.Until.UTC().Format(time.RFC3339))
	if r.Note != "" {
		r.Text = append(r.Text, "Note: "+r.Note)
	}
}
