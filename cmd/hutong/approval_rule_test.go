package main

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/bfia"
)

// TestApprovalRuleCommands checks that a rule is made of a job or a file, after its words are shown, and how
// rules are listed, shown and removed.
func TestApprovalRuleCommands(t *testing.T) {
	view := jobToApprove()
	approval := bfia.ApprovalOf(view, nil)
	scope := bfia.ScopeOf(view, "A", "A")
	approval.AddRules(&scope, nil, nil)
	at := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	rules := []bfia.ApprovalRule{{ID: "r1", Scope: scope, Until: time.Now().Add(time.Hour), Note: "weekly",
		CreatedBy: "ann", Used: 3}, {ID: "r2", Scope: scope, Until: at}}
	p := newParty(t, map[string]http.HandlerFunc{
		"GET " + bfia.PathJobApproval:         data(approval),
		"GET " + bfia.PathApprovalRuleQuery:   data(rules),
		"POST " + bfia.PathApprovalRuleAdd:    data(rules[0]),
		"POST " + bfia.PathApprovalRuleRemove: data(bfia.ApprovalRuleRef{ID: "r1"}),
	})
	for _, args := range [][]string{
		{"--until", "1d"}, {"--from", "j", "--file", "f", "--until", "1d"}, {"--from", "j"},
		{"--from", "j", "--until", "soon"}, {"--from", "j", "--until", "1d", "--any", "all"},
	} {
		status, _, stderr := p.run(t, append([]string{"approval", "rule", "add"}, args...)...)
		assert.Equal(t, exitUsage, status, "%v: %s", args, stderr)
	}
	status, stdout, stderr := p.run(t, "approval", "rule", "add", "--from", "j",
		"--until", "2999-01-31T00:00:00Z", "--note", "weekly")
	assert.Equal(t, exitUsage, status)
	assert.Contains(t, stdout, "  reads dataset n#ours with no other columns than phone, age\n")
	assert.Contains(t, stdout, "Until 2999-01-31T00:00:00Z\nNote: weekly\n")
	assert.Contains(t, stderr, "nobody was asked")
	assert.Empty(t, posted(p), "nothing was added")

	status, stdout, stderr = p.run(t, "approval", "rule", "add", "--from", "j",
		"--until", "2999-01-31T00:00:00Z", "--note", "weekly", "--any", "columns,flow", "--yes")
	require.Equal(t, exitOK, status, stderr)
	assert.Contains(t, stdout, "  reads dataset n#ours with any columns\n")
	assert.Contains(t, stdout, "added; to end it: hutong approval rule remove r1\n")
	var sent ruleRequest
	require.NoError(t, json.Unmarshal([]byte(posted(p)[0].body), &sent))
	want, err := scope.Open([]string{"columns", "flow"})
	require.NoError(t, err)
	assert.Equal(t, want.Sentences(), sent.Scope.Sentences())
	assert.Equal(t, "j", sent.JobID)
	assert.Equal(t, "weekly", sent.Note)
	assert.Equal(t, "2999-01-31T00:00:00Z", sent.Until.UTC().Format(time.RFC3339))

	file := filepath.Join(t.TempDir(), "scope.json")
	text, err := json.Marshal(scope)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, text, 0o600))
	status, _, stderr = p.run(t, "approval", "rule", "add", "--file", file, "--until", "1d", "--yes")
	require.Equal(t, exitOK, status, stderr)
	var second ruleRequest
	require.NoError(t, json.Unmarshal([]byte(posted(p)[1].body), &second))
	assert.Equal(t, scope.Sentences(), second.Scope.Sentences())
	require.NoError(t, os.WriteFile(file, []byte(`{"initiater": "A"}`), 0o600))
	status, _, stderr = p.run(t, "approval", "rule", "add", "--file", file, "--until", "1d", "--yes")
	assert.Equal(t, exitFailed, status)
	assert.Contains(t, stderr, `unknown field "initiater"`)

	status, stdout, _ = p.run(t, "approval", "rule", "list")
	assert.Equal(t, exitOK, status)
	assert.Regexp(t, `r1 +A +f +Intersection +active +\S.* 3 +ann +weekly`, stdout)
	assert.NotContains(t, stdout, "r2")
	_, stdout, _ = p.run(t, "approval", "rule", "ls", "--all")
	assert.Regexp(t, `r2 +A +f +Intersection +expired`, stdout)
	status, stdout, _ = p.run(t, "approval", "rule", "get", "r1")
	assert.Equal(t, exitOK, status)
	assert.Contains(t, stdout, "created_by: ann\n")
	status, _, stderr = p.run(t, "approval", "rule", "show", "r9")
	assert.Equal(t, exitFailed, status)
	assert.Contains(t, stderr, `this party has no rule "r9"`)
	status, stdout, _ = p.run(t, "approval", "rule", "rm", "r1")
	assert.Equal(t, exitOK, status)
	assert.Equal(t, "r1 is removed\n", stdout)
	assert.JSONEq(t, `{"rule_id":"r1"}`, posted(p)[2].body)
}

// TestApprovalRuleByFlags checks that a rule made of flags covers the job that they describe and no other,
// and that an error names the flag.
func TestApprovalRuleByFlags(t *testing.T) {
	view := jobToApprove()
	job := bfia.ScopeOf(view, "A", "A")
	use := job.Uses[0]
	p := newParty(t, map[string]http.HandlerFunc{
		"POST " + bfia.PathApprovalRuleAdd: data(bfia.ApprovalRule{ID: "r1"})})
	add := func(args ...string) (bfia.ApprovalScope, string) {
		t.Helper()
		before := len(posted(p))
		status, stdout, stderr := p.run(t, append([]string{"approval", "rule", "add", "--until", "30d",
			"--yes", "--note", "weekly", "--role", use.Role}, args...)...)
		require.Equal(t, exitOK, status, stderr)
		var sent ruleRequest
		require.NoError(t, json.Unmarshal([]byte(posted(p)[before].body), &sent))
		assert.Equal(t, "weekly", sent.Note)
		assert.Empty(t, sent.JobID)
		rule := bfia.ApprovalRule{Scope: sent.Scope, Until: *sent.Until, Note: sent.Note}
		require.NoError(t, rule.Check(view.Self, time.Now()))
		return sent.Scope, stdout
	}
	component := use.Provider + ":" + use.Version + "/" + use.Component
	args := []string{"--partner", "A", "--flow", job.FlowID, "--component", component, "--dataset", "n#ours"}
	scope, stdout := add(args...)
	assert.Empty(t, scope.Mismatches(job))
	assert.Contains(t, stdout, "  reads dataset n#ours with any columns\n")
	assert.Contains(t, stdout, ", with any image\n")
	assert.Contains(t, stdout, "Other parties may get any outputs\n")

	fields := func(s bfia.ApprovalScope) (names []string) {
		for _, m := range s.Mismatches(job) {
			names = append(names, m.Field)
		}
		return names
	}
	for name, args := range map[string][]string{
		bfia.FieldFlow:      {"--flow", "other", "--component", component, "--dataset", "n#ours"},
		bfia.FieldDataset:   {"--flow", job.FlowID, "--component", component},
		bfia.FieldComponent: {"--flow", job.FlowID, "--component", "p/Other", "--dataset", "n#ours"},
		bfia.FieldVersion: {"--flow", job.FlowID, "--component", use.Provider + ":9/" + use.Component,
			"--dataset", "n#ours"},
	} {
		scope, _ := add(append([]string{"--partner", "A"}, args...)...)
		assert.Equal(t, []string{name}, fields(scope))
	}
	scope, _ = add("--partner", "Z", "--flow", job.FlowID, "--component", component, "--dataset", "n#ours")
	assert.Subset(t, fields(scope), []string{bfia.FieldInitiator, bfia.FieldScheduler})
	scope, _ = add("--partner", "A", "--any", "flow", "--component", use.Provider+"/"+use.Component,
		"--dataset", "n#other,n#ours")
	assert.Empty(t, scope.Mismatches(job), "any version, any flow, one of two datasets")

	for want, args := range map[string][]string{
		"one of --from, --file and --partner": {"--partner", "A", "--from", "j"},
		"--flow goes with --partner only":     {"--from", "j", "--flow", "f"},
		"--dataset goes with --partner only":  {"--file", "f", "--dataset", "n#d"},
		"--partner: ":                         {"--partner", "not a node", "--flow", "f"},
		"--flow is missing":                   {"--partner", "A", "--component", component},
		"--component is missing":              {"--partner", "A", "--flow", "f"},
	} {
		p.refusesRule(t, want, args...)
	}
	for want, args := range map[string][]string{
		"--flow contradicts --any flow":         {"--any", "flow"},
		`--component: "HeteroLR" is neither`:    {"--component", "HeteroLR"},
		`--component: "p:/X" is neither`:        {"--component", "p:/X"},
		`--component: "p/*" is neither`:         {"--component", "p/*"},
		`--dataset: "ours" is not`:              {"--dataset", "ours"},
		`--role: "host" is not a role`:          {"--role", "host"},
		"--until is missing: a rule must end":   {"--until", ""},
		`--any: "everything" is none of flow, `: {"--any", "everything"},
	} {
		p.refusesRule(t, want,
			append([]string{"--partner", "A", "--flow", "f", "--component", component}, args...)...)
	}
}

// refusesRule checks that the command refuses flags of a new rule, and how.
func (p *stubParty) refusesRule(t *testing.T, want string, args ...string) {
	t.Helper()
	args = append([]string{"approval", "rule", "add", "--until", "1d", "--yes"}, args...)
	status, _, stderr := p.run(t, args...)
	assert.Equal(t, exitUsage, status, "%v", args)
	assert.Contains(t, stderr, want)
}

// posted returns the requests that change something.
func posted(p *stubParty) []request {
	return slices.DeleteFunc(p.requests(), func(r request) bool { return r.body == "" })
}
