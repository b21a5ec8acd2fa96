package bfia

import (
	"bytes"
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"
)

// The fields of a [RuleMismatch] besides those of [ApprovalDifference].
const (
	FieldInitiator    = "initiator"
	FieldScheduler    = "scheduler"
	FieldFlow         = "flow"
	FieldVersion      = "version"
	FieldColumns      = "columns"
	FieldNamedColumns = "named_columns"
	FieldDerived      = "derived"
	FieldUntil        = "until"
	FieldFourEyes     = "four_eyes"
)

// RuleMismatch is one reason why a rule does not cover a job.
type RuleMismatch struct {
	Task      string `json:"task_name,omitempty"`
	Role      string `json:"role,omitempty"` // guest.0
	Field     string `json:"field"`
	Parameter string `json:"parameter,omitempty"` // its name
	// Job is what the job has, Rule what the rule allows. Both may be empty.
	Job  string `json:"job"`
	Rule string `json:"rule"`
}

// NearRule is the rule that comes nearest to covering a job, and what it lacks.
type NearRule struct {
	ID         string         `json:"rule_id"`
	Note       string         `json:"note"`
	CreatedBy  string         `json:"created_by"`
	Mismatches []RuleMismatch `json:"mismatches"`
}

// RuleClient is a client of this party who made a rule or submitted a job.
type RuleClient struct{ Name, Credential string }

// RuleConditions are the conditions under which rules are applied to a job.
type RuleConditions struct {
	Now time.Time
	// FourEyes excludes rules that one of the job's submitters made.
	FourEyes   bool
	Submitters []RuleClient
}

// ChooseRule returns the rule that approves a job, or nil, and then the one that comes nearest to it, if
// there is one. It is a pure function. A rule approves a job if it is not removed, has not ended, and covers
// all parts of the job at the party. Of several, the one that ends last does.
func ChooseRule(rules []ApprovalRule, job ApprovalScope, c RuleConditions) (*ApprovalRule, *NearRule) {
	var chosen *ApprovalRule
	var near *NearRule
	for i := range rules {
		r := &rules[i]
		if r.RemovedAt != nil {
			continue
		}
		mismatches := r.mismatches(job, c)
		switch {
		case len(mismatches) == 0:
			if chosen == nil || r.Until.After(chosen.Until) {
				chosen = r
			}
		case near == nil || len(mismatches) < len(near.Mismatches):
			near = &NearRule{ID: r.ID, Note: r.Note, CreatedBy: r.CreatedBy, Mismatches: mismatches}
		}
	}
	if chosen != nil {
		return chosen, nil
	}
	return nil, near
}

func (r *ApprovalRule) mismatches(job ApprovalScope, c RuleConditions) []RuleMismatch {
	list := r.Scope.Mismatches(job)
	if !c.Now.Before(r.Until) {
		list = append(list, RuleMismatch{Field: FieldUntil, Job: c.Now.UTC().Format(time.RFC3339),
			Rule: r.Until.UTC().Format(time.RFC3339)})
	}
	if !c.FourEyes {
		return list
	}
	for _, s := range c.Submitters {
		// Without a known maker nobody could say that these were four eyes.
		if r.CreatedBy == "" && r.Credential == "" || s.Name == r.CreatedBy || s.Credential == r.Credential {
			return append(list, RuleMismatch{Field: FieldFourEyes, Job: s.Name, Rule: r.CreatedBy})
		}
	}
	return list
}

// Mismatches returns why a rule's scope does not cover a job's; it is empty if it does.
func (s *ApprovalScope) Mismatches(job ApprovalScope) []RuleMismatch {
	var list []RuleMismatch
	differ := func(field, job, rule string) {
		if job != rule {
			list = append(list, RuleMismatch{Field: field, Job: job, Rule: rule})
		}
	}
	differ(FieldInitiator, job.Initiator, s.Initiator)
	differ(FieldScheduler, job.Scheduler, s.Scheduler)
	if !s.leaves(AnyFlow) {
		differ(FieldFlow, job.FlowID, s.FlowID)
	}
	if more := without(job.Parties, s.Parties); len(more) > 0 && !s.leaves(AnyParties) {
		differ(FieldParties, strings.Join(more, ", "), strings.Join(s.Parties, ", "))
	}
	if len(job.Uses) == 0 { // a job without a part here is none that this party accepts
		differ(FieldTask, "none", "")
	}
	for i := range job.Uses {
		list = append(list, s.nearestUse(&job.Uses[i])...)
	}
	if !s.leaves(AnyOutputs) {
		for _, l := range job.Learns {
			if !slices.Contains(s.Learns, l) {
				differ(FieldOutputs, l.text(), "")
			}
		}
	}
	return list
}

// nearestUse returns what the nearest use of a rule lacks for a part of a job.
func (s *ApprovalScope) nearestUse(part *ApprovalUse) []RuleMismatch {
	var nearest []RuleMismatch
	found := false
	for i := range s.Uses {
		u := &s.Uses[i]
		if u.Component != part.Component || u.Provider != part.Provider || u.Role != part.Role {
			continue
		}
		mismatches := u.mismatches(part)
		if !found || len(mismatches) < len(nearest) {
			nearest, found = mismatches, true
		}
	}
	if !found {
		return []RuleMismatch{{Task: part.Task, Role: part.Role, Field: FieldComponent,
			Job: part.component()}}
	}
	return nearest
}

func (u *ApprovalUse) component() string {
	return u.Component + " of " + u.Provider + ":" + u.Version
}

// mismatches returns what a use of a rule lacks for a part that runs its component.
func (u *ApprovalUse) mismatches(part *ApprovalUse) []RuleMismatch {
	var list []RuleMismatch
	add := func(field, job, rule string) {
		list = append(list, RuleMismatch{Task: part.Task, Role: part.Role, Field: field, Job: job,
			Rule: rule})
	}
	if !u.leaves(AnyVersion) {
		if part.Version != u.Version {
			add(FieldVersion, part.Version, u.Version)
		}
		if !u.leaves(AnyImage) && !u.coversImages(part) {
			add(FieldImages, strings.Join(without(part.Images, u.Images), ", "),
				strings.Join(u.Images, ", "))
		}
	}
	if part.Dataset != u.Dataset {
		add(FieldDataset, part.Dataset, u.Dataset)
	} else if part.Dataset != "" && !u.leaves(AnyColumns) {
		more := without(part.Columns, u.Columns)
		if len(part.Columns) == 0 || len(more) > 0 {
			add(FieldColumns, cmp.Or(strings.Join(more, ", "), "not known"), strings.Join(u.Columns, ", "))
		}
		if more := without(part.named(), u.named()); len(more) > 0 {
			add(FieldNamedColumns, strings.Join(more, ", "), strings.Join(u.named(), ", "))
		}
	}
	if more := without(part.Derived, u.Derived); len(more) > 0 {
		add(FieldDerived, strings.Join(more, ", "), strings.Join(u.Derived, ", "))
	}
	if part.Model != u.Model && !u.leaves(AnyModel) {
		add(FieldModel, part.Model, u.Model)
	}
	if u.leaves(AnyParameters) {
		return list
	}
	names := maps.Clone(part.Parameters)
	if names == nil {
		names = map[string]json.RawMessage{}
	}
	maps.Copy(names, u.Parameters)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		job, rule := canonicalText(part.Parameters[name]), canonicalText(u.Parameters[name])
		if job != rule {
			list = append(list, RuleMismatch{Task: part.Task, Role: part.Role, Field: FieldParameter,
				Parameter: name, Job: job, Rule: rule})
		}
	}
	return list
}

// coversImages reports whether a use of a rule has all images of a part, which are known.
func (u *ApprovalUse) coversImages(part *ApprovalUse) bool {
	for _, image := range part.Images {
		if _, what, _ := strings.Cut(image, " "); what == "" || !slices.Contains(u.Images, image) {
			return false
		}
	}
	return len(part.Images) > 0
}

// named returns the columns that parameters name. Parameters that name none mean all.
func (u *ApprovalUse) named() []string {
	if len(u.Named) == 0 {
		return u.Columns
	}
	return u.Named
}

// without returns the elements of a list that another one lacks.
func without(list, other []string) []string {
	var more []string
	for _, e := range list {
		if !slices.Contains(other, e) {
			more = append(more, e)
		}
	}
	return more
}

// canonicalText returns a JSON value with sorted keys and without spaces. Numbers keep their digits.
func canonicalText(raw json.RawMessage) string {
	if len(raw) == 0 {
		return ""
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil {
		return string(raw)
	}
	text, err := json.Marshal(v)
	if err != nil {
		return string(raw)
	}
	return string(text)
}
