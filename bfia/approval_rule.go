package bfia

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Endpoints for approvers of a party; Hutong's additions.
const (
	PathApprovalRuleAdd    = "/v2/approval/rule/add"
	PathApprovalRuleQuery  = "/v2/approval/rule/query"
	PathApprovalRuleRemove = "/v2/approval/rule/remove"
)

// What an approval rule may leave open, see [ApprovalScope.Any] and [ApprovalUse.Any].
const (
	AnyFlow       = "flow"
	AnyParties    = "parties"
	AnyOutputs    = "outputs"
	AnyVersion    = "version" // of the component, and with it the image
	AnyImage      = "image"
	AnyColumns    = "columns"
	AnyModel      = "model"
	AnyParameters = "parameters"
)

var (
	anyOfScope = []string{AnyFlow, AnyParties, AnyOutputs}
	anyOfUse   = []string{AnyVersion, AnyImage, AnyColumns, AnyModel, AnyParameters}
)

// ApprovalRule approves the jobs of a party that its scope covers, until it ends or is removed.
type ApprovalRule struct {
	ID    string        `json:"rule_id"`
	Scope ApprovalScope `json:"scope"`
	Until time.Time     `json:"until"`
	Note  string        `json:"note"`
	// Project is the project of whose jobs the rule decides. Empty: all.
	Project string `json:"project,omitempty"`
	// FromJob is the job from which the rule was made, or empty.
	FromJob   string     `json:"job_id,omitempty"`
	CreatedBy string     `json:"created_by"`
	CreatedAt time.Time  `json:"created_at"`
	RemovedAt *time.Time `json:"removed_at"`
	RemovedBy string     `json:"removed_by,omitempty"`
	// Used is how many jobs the rule has approved, LastUsedAt when it approved the last one.
	Used       int        `json:"used"`
	LastUsedAt *time.Time `json:"last_used_at"`
	// Text is what the rule allows in English sentences, one a line.
	Text []string `json:"text"`
	// Credential identifies the proof of who made the rule, without revealing it.
	Credential string `json:"-"`
}

// ApprovalRuleRef names an approval rule.
type ApprovalRuleRef struct {
	ID string `json:"rule_id"`
}

// ApprovalScope is what a job does at a party, or what a rule lets jobs do there. A job's scope leaves
// nothing open.
type ApprovalScope struct {
	Initiator string `json:"initiator"`
	Scheduler string `json:"scheduler"`
	FlowID    string `json:"flow_id"`
	// Parties are the other parties with a role.
	Parties []string `json:"parties"`
	// Uses has an element for each part at the party.
	Uses []ApprovalUse `json:"uses"`
	// Learns are the outputs that the other parties get.
	Learns []ApprovalLearned `json:"learns"`
	// Any lists what a rule leaves open: flow, parties, outputs.
	Any []string `json:"any,omitempty"`
}

// ApprovalUse is what one part of a job runs and reads at a party, or what a rule lets a part run and read.
type ApprovalUse struct {
	// Task is the part's task. A rule has it for its reader only, and covers tasks of any name.
	Task      string `json:"task_name,omitempty"`
	Role      string `json:"role"` // guest.0
	Provider  string `json:"provider"`
	Version   string `json:"version,omitempty"`
	Component string `json:"component"`
	// Images are what the party's runners may run: a device and the id of an image, a command, or where
	// neither is known the reference of an image. A device alone is an image that nobody has resolved.
	Images []string `json:"images,omitempty"`
	// Dataset is namespace#name, or empty. Columns are those that the container can read, Named those that
	// the parameters name; none means all.
	Dataset string   `json:"dataset,omitempty"`
	Columns []string `json:"columns,omitempty"`
	Named   []string `json:"named_columns,omitempty"`
	// Derived are the party's datasets from which earlier tasks make the part's inputs.
	Derived    []string                   `json:"derived,omitempty"`
	Model      string                     `json:"model,omitempty"`
	Parameters map[string]json.RawMessage `json:"parameters,omitempty"`
	// Any lists what a rule leaves open: version, image, columns, model, parameters.
	Any []string `json:"any,omitempty"`
}

// ApprovalLearned is an output of a component that another party gets.
type ApprovalLearned struct {
	NodeID    string `json:"node_id"`
	Provider  string `json:"provider"`
	Component string `json:"component"`
	Type      string `json:"type"`
	Key       string `json:"key"`
}

// ScopeOf returns the scope of a job at the party that has its view. owner and scheduler are the initiator
// and the scheduler as far as they have proved that they are.
func ScopeOf(view *JobView, owner, scheduler string) ApprovalScope {
	scope := ApprovalScope{Initiator: owner, Scheduler: scheduler, FlowID: view.FlowID, Parties: []string{},
		Uses: []ApprovalUse{}, Learns: []ApprovalLearned{}}
	for _, p := range view.Parts {
		if p.NodeID != view.Self {
			scope.Parties = append(scope.Parties, p.NodeID)
		}
	}
	scope.Parties = sorted(scope.Parties)
	sources := ownSources(view, datasetOf)
	for _, t := range view.Tasks {
		provider, version, _ := strings.Cut(t.Provider, ":")
		var derived []string
		for _, up := range t.DependsOn {
			derived = append(derived, sources(up)...)
		}
		for _, p := range t.Parts {
			if p.NodeID == view.Self {
				use := useOf(t, p)
				use.Provider, use.Version, use.Derived = provider, version, sorted(derived)
				scope.Uses = append(scope.Uses, use)
				continue
			}
			for _, out := range t.Outputs {
				learned := ApprovalLearned{NodeID: p.NodeID, Provider: provider, Component: t.Component,
					Type: out.Type, Key: out.Key}
				if !slices.Contains(scope.Learns, learned) {
					scope.Learns = append(scope.Learns, learned)
				}
			}
		}
	}
	return scope
}

func useOf(t TaskView, p PartView) ApprovalUse {
	use := ApprovalUse{Task: t.Name, Role: p.Role, Component: t.Component, Dataset: p.Dataset.text(),
		Model: p.Model.text(), Parameters: maps.Clone(p.Parameters)}
	for _, i := range t.Images {
		use.Images = append(use.Images, i.runs()...)
	}
	use.Images = sorted(use.Images)
	if p.Dataset != nil {
		for _, c := range p.Dataset.Columns {
			use.Columns = append(use.Columns, c.Name)
		}
		use.Named = namedColumns(p.Parameters, use.Columns)
	}
	return use
}

// runs returns what a container may run: an element of [ApprovalUse.Images] each.
func (i ImageView) runs() []string {
	switch {
	case len(i.Command) > 0:
		command, err := json.Marshal(i.Command) // the arguments may have spaces
		if err != nil {
			return []string{i.Device}
		}
		return []string{i.Device + " " + string(command)}
	case i.ImageIDs == nil && i.Image != "":
		return []string{i.Device + " " + i.Image}
	case len(i.ImageIDs) == 0:
		return []string{i.Device}
	}
	runs := make([]string, len(i.ImageIDs))
	for n, id := range i.ImageIDs {
		runs[n] = i.Device + " " + id
	}
	return runs
}

// State is active, removed or expired.
func (r *ApprovalRule) State(now time.Time) string {
	switch {
	case r.RemovedAt != nil:
		return "removed"
	case !now.Before(r.Until):
		return "expired"
	}
	return "active"
}

// Bounds of an approval rule.
const (
	maxRuleNote     = 500
	maxRuleElements = 10_000
)

// Check returns an error that names the field which is wrong in a new rule of a party.
func (r *ApprovalRule) Check(node string, now time.Time) error {
	switch {
	case r.Until.IsZero():
		return Errorf(CodeBadRequest, "until: is required: a rule must end")
	case !r.Until.After(now):
		return Errorf(CodeBadRequest, "until: %s is over", r.Until.Format(time.RFC3339))
	case len(r.Note) > maxRuleNote:
		return Errorf(CodeTooLarge, "note: is longer than %d bytes", maxRuleNote)
	}
	if r.FromJob != "" {
		if err := CheckID("job_id", r.FromJob); err != nil {
			return err
		}
	}
	if err := r.Scope.check(node); err != nil {
		return PrefixField("scope", err)
	}
	return nil
}

func (s *ApprovalScope) check(node string) error {
	for _, f := range []struct{ name, value string }{{"initiator", s.Initiator}, {"scheduler", s.Scheduler}} {
		if err := CheckID(f.name, f.value); err != nil {
			return err
		}
	}
	if err := checkAny(s.Any, anyOfScope); err != nil {
		return err
	}
	elements := len(s.Parties) + len(s.Uses) + len(s.Learns)
	for _, u := range s.Uses {
		elements += len(u.Images) + len(u.Columns) + len(u.Named) + len(u.Derived) + len(u.Parameters)
	}
	switch {
	case elements > maxRuleElements:
		return Errorf(CodeTooLarge, "uses: the rule has more than %d elements", maxRuleElements)
	case len(s.Uses) == 0:
		return Errorf(CodeBadRequest, "uses: is required: a rule lists what a job may run at %s", node)
	}
	for i := range s.Uses {
		if err := s.Uses[i].check(); err != nil {
			return PrefixField(fmt.Sprintf("uses[%d]", i), err)
		}
	}
	for i, l := range s.Learns {
		if l.NodeID == "" || l.Component == "" || l.Type == "" || l.Key == "" {
			return Errorf(CodeBadRequest, "learns[%d]: node_id, component, type and key are required", i)
		}
	}
	return nil
}

func (u *ApprovalUse) check() error {
	for _, f := range []struct{ name, value string }{{"role", u.Role}, {"provider", u.Provider},
		{"component", u.Component}} {
		if f.value == "" {
			return Errorf(CodeBadRequest, "%s: is required", f.name)
		}
	}
	if err := checkAny(u.Any, anyOfUse); err != nil {
		return err
	}
	if !u.leaves(AnyVersion) {
		if u.Version == "" {
			return Errorf(CodeBadRequest, `version: is required, unless "any" lists version`)
		}
		if err := u.checkImages(); err != nil {
			return err
		}
	}
	if u.Dataset != "" && len(u.Columns) == 0 && !u.leaves(AnyColumns) {
		return Errorf(CodeBadRequest, `columns: those of dataset %s are not known; name them, or let "any" `+
			`list columns`, u.Dataset)
	}
	return nil
}

func (u *ApprovalUse) checkImages() error {
	if u.leaves(AnyImage) {
		return nil
	}
	if len(u.Images) == 0 {
		return Errorf(CodeBadRequest, `images: is required, unless "any" lists image`)
	}
	for _, image := range u.Images {
		if _, what, _ := strings.Cut(image, " "); what == "" {
			return Errorf(CodeBadRequest, "images: nobody has resolved the image of %s for %s to an id yet; "+
				`make the rule of a job after the image has run once, or let "any" list image`,
				u.Component, image)
		}
	}
	return nil
}

func checkAny(list, known []string) error {
	for _, name := range list {
		if !slices.Contains(known, name) {
			return Errorf(CodeBadRequest, "any: %q is none of %s", name, strings.Join(known, ", "))
		}
	}
	return nil
}

func (s *ApprovalScope) leaves(what string) bool { return slices.Contains(s.Any, what) }

func (u *ApprovalUse) leaves(what string) bool { return slices.Contains(u.Any, what) }

// Open returns a scope that leaves more open: each name is one that [ApprovalScope.Any] or [ApprovalUse.Any]
// knows. What is left open is removed from the scope.
func (s ApprovalScope) Open(names []string) (ApprovalScope, error) {
	if err := checkAny(names, slices.Concat(anyOfScope, anyOfUse)); err != nil {
		return s, err
	}
	in := func(known []string) []string {
		return sorted(slices.DeleteFunc(slices.Clone(names),
			func(n string) bool { return !slices.Contains(known, n) }))
	}
	s.Any = sorted(slices.Concat(s.Any, in(anyOfScope)))
	s.Uses = slices.Clone(s.Uses)
	for i := range s.Uses {
		s.Uses[i].Any = sorted(slices.Concat(s.Uses[i].Any, in(anyOfUse)))
	}
	s.drop()
	return s, nil
}

// drop removes from a scope what it leaves open.
func (s *ApprovalScope) drop() {
	if s.leaves(AnyFlow) {
		s.FlowID = ""
	}
	if s.leaves(AnyParties) {
		s.Parties = []string{}
	}
	if s.leaves(AnyOutputs) {
		s.Learns = []ApprovalLearned{}
	}
	for i := range s.Uses {
		u := &s.Uses[i]
		if u.leaves(AnyVersion) {
			u.Version, u.Images = "", nil
		}
		if u.leaves(AnyImage) {
			u.Images = nil
		}
		if u.leaves(AnyColumns) {
			u.Columns, u.Named = nil, nil
		}
		if u.leaves(AnyModel) {
			u.Model = ""
		}
		if u.leaves(AnyParameters) {
			u.Parameters = nil
		}
	}
}
