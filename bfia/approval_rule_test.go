package bfia

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var ruleTime = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// ruleJob returns the job of [approvalJob] with images that have ids, and its scope at B.
func ruleJob() (*JobView, ApprovalScope) {
	view := approvalJob("j1")
	view.Tasks[2].Images[0].ImageIDs = []string{"sha256:56"}
	view.Tasks[3].Images = []ImageView{{Device: "kubernetes", Image: "q:2"}}
	return view, ScopeOf(view, "A", "A")
}

// TestScopeOf checks what a job does at a party, as a rule would allow it.
func TestScopeOf(t *testing.T) {
	_, scope := ruleJob()
	require.Equal(t, []string{"A"}, scope.Parties)
	require.Equal(t, ApprovalUse{Task: "psi", Role: "host.0", Provider: "p", Version: "1",
		Component: "Intersection", Images: []string{"docker sha256:34"}, Dataset: "n#ours",
		Columns: []string{"phone", "age", "debt"}, Named: []string{"phone", "age"}, Derived: []string{},
		Parameters: map[string]json.RawMessage{"id": []byte(`"phone, mail"`),
			"keep": []byte(`{"columns": ["age", "nothing"]}`)}}, scope.Uses[1])
	require.Equal(t, []string{`process ["python3","lr.py"]`}, scope.Uses[0].Images)
	require.Equal(t, []string{"n#ours"}, scope.Uses[0].Derived)
	require.Equal(t, []string{"kubernetes q:2"}, scope.Uses[3].Images)
	require.Equal(t, []ApprovalLearned{{"A", "p", "LR", "model", "m"}, {"A", "p", "Intersection", "dataset",
		"ids"}}, scope.Learns, "the report of score stays at B")
	require.Equal(t, []string{
		"Jobs that A initiates and A schedules, of flow f",
		"  with no other parties than A",
		`LR of p:1 may run as host.0, only with process ["python3","lr.py"]`,
		"  reads what earlier tasks make of n#ours",
		"  with the parameters rate = 0.5",
		"Intersection of p:1 may run as host.0, only with docker sha256:34",
		"  reads dataset n#ours with no other columns than phone, age, debt",
		"  its parameters name no other columns than phone, age",
		`  with the parameters id = "phone, mail", keep = {"columns":["age","nothing"]}`,
		"Score of q:2 may run as host.0, only with docker sha256:56",
		"  uses model j0:train.m",
		"  without parameters",
		"Check of q:2 may run as host.0, only with kubernetes q:2",
		"  without parameters",
		"A may get model m of LR, dataset ids of Intersection",
	}, scope.Sentences())
	open, err := scope.Open([]string{AnyFlow, AnyParties, AnyOutputs, AnyColumns, AnyImage, AnyParameters})
	require.NoError(t, err)
	require.Equal(t, []string{
		"Intersection of p:1 may run as host.0, with any image",
		"  reads dataset n#ours with any columns",
		"  with any parameters",
	}, open.Sentences()[5:8])
	_, err = scope.Open([]string{"everything"})
	require.ErrorContains(t, err, `any: "everything" is none of flow, parties, outputs, version`)
}

// TestRuleMismatches checks that each thing in which a job exceeds a rule is found and named.
func TestRuleMismatches(t *testing.T) {
	for name, c := range map[string]struct {
		change func(v *JobView)
		want   string
	}{
		"flow": {func(v *JobView) { v.FlowID = "g" }, "flow differs: g, the rule allows f"},
		"party": {func(v *JobView) { v.Parts = append(v.Parts, Part{Role: "host", NodeID: "C", Index: 1}) },
			"there are further parties: C, the rule allows A"},
		"output": {func(v *JobView) {
			v.Tasks[1].Outputs = append(v.Tasks[1].Outputs, OutputView{Type: "dataset", Key: "all"})
		}, "a further output goes to another party: A gets dataset all of Intersection"},
		"component": {func(v *JobView) { v.Tasks[0].Component = "Export" },
			"task train, host.0: component is not in the rule: Export of p:1"},
		"version": {func(v *JobView) { v.Tasks[1].Provider = "p:2" },
			"task psi, host.0: version differs: 2, the rule allows 1"},
		"image digest": {func(v *JobView) {
			v.Tasks[1].Images[0].ImageIDs = []string{"sha256:34", "sha256:35"}
		}, "task psi, host.0: image digest differs: docker sha256:35, the rule allows docker sha256:34"},
		"no digest": {func(v *JobView) { v.Tasks[1].Images[0].ImageIDs = []string{} },
			"task psi, host.0: image digest differs: docker, the rule allows docker sha256:34"},
		"no image": {func(v *JobView) { v.Tasks[1].Images = nil },
			"task psi, host.0: image digest differs: none, the rule allows docker sha256:34"},
		"unknown columns": {func(v *JobView) {
			v.Tasks[1].Parts[1].Dataset = &DatasetView{Namespace: "n", Name: "ours"}
		}, "task psi, host.0: there are further columns: not known, the rule allows phone, age, debt"},
		"dataset": {func(v *JobView) { v.Tasks[1].Parts[1].Dataset.Name = "more" },
			"task psi, host.0: dataset differs: n#more, the rule allows n#ours"},
		"column": {func(v *JobView) {
			d := v.Tasks[1].Parts[1].Dataset
			d.Columns = append(d.Columns, ColumnView{Name: "iban"})
		}, "task psi, host.0: there are further columns: iban, the rule allows phone, age, debt"},
		"model": {func(v *JobView) { v.Tasks[2].Parts[0].Model.Model = "j9:train.m" },
			"task score, host.0: model differs: j9:train.m, the rule allows j0:train.m"},
		"parameter": {func(v *JobView) { v.Tasks[0].Parts[1].Parameters["rate"] = []byte(`0.7`) },
			"task train, host.0: parameter rate differs: 0.7, the rule allows 0.5"},
		"new parameter": {func(v *JobView) {
			v.Tasks[0].Parts[1].Parameters["deep"] = []byte(`{"b": 1, "a": [ 2 ]}`)
		}, `task train, host.0: parameter deep differs: {"a":[2],"b":1}, the rule allows none`},
		"role": {func(v *JobView) { v.Tasks[2].Parts[0].Role = "host.1" },
			"task score, host.1: component is not in the rule: Score of q:2"},
	} {
		t.Run(name, func(t *testing.T) {
			_, scope := ruleJob()
			view, _ := ruleJob()
			c.change(view)
			mismatches := scope.Mismatches(ScopeOf(view, "A", "A"))
			var sentences []string
			for _, m := range mismatches {
				sentences = append(sentences, m.sentence())
			}
			require.Contains(t, sentences, c.want)
		})
	}
	view, scope := ruleJob()
	view.Tasks[1].Parts[1].Parameters["keep"] = []byte(`"debt"`)
	open, err := scope.Open([]string{AnyParameters})
	require.NoError(t, err)
	mismatches := open.Mismatches(ScopeOf(view, "A", "A"))
	require.Len(t, mismatches, 1)
	require.Equal(t, "task psi, host.0: parameters name further columns: debt, the rule allows phone, age",
		mismatches[0].sentence(), "also if the parameters are left open")
	same, _ := ruleJob()
	require.Equal(t, []RuleMismatch{{Field: FieldInitiator, Job: "C", Rule: "A"},
		{Field: FieldScheduler, Job: "D", Rule: "A"}}, scope.Mismatches(ScopeOf(same, "C", "D")))
}

// TestChooseRule checks which rule approves, and which comes nearest.
func TestChooseRule(t *testing.T) {
	_, scope := ruleJob()
	other := scope
	other.FlowID, other.Scheduler = "g", "C"
	one := scope
	one.FlowID = "g"
	rule := func(id string, s ApprovalScope, hours int) ApprovalRule {
		return ApprovalRule{ID: id, Scope: s, Until: ruleTime.Add(time.Duration(hours) * time.Hour),
			CreatedBy: "ann", Credential: "t1", Note: "for " + id}
	}
	c := RuleConditions{Now: ruleTime, FourEyes: true, Submitters: []RuleClient{{"bob", "t2"}}}
	chosen, near := ChooseRule([]ApprovalRule{rule("r1", scope, 1), rule("r2", scope, 2),
		rule("r3", other, 9)}, scope, c)
	require.Equal(t, "r2", chosen.ID)
	require.Nil(t, near)

	chosen, near = ChooseRule([]ApprovalRule{rule("r1", other, 1), rule("r2", one, 1)}, scope, c)
	require.Nil(t, chosen)
	require.Equal(t, "r2", near.ID)
	a := Approval{}
	a.AddRules(&scope, nil, near)
	require.Equal(t, []string{"No approval rule covers the job. Rule r2 (for r2) comes nearest:",
		"  flow differs: f, the rule allows g"}, a.Text)
	require.Equal(t, scope.Sentences(), a.ScopeText)

	_, near = ChooseRule([]ApprovalRule{rule("r1", scope, -1)}, scope, c)
	require.Equal(t, "it has ended at 2026-01-02T02:04:05Z", near.Mismatches[0].sentence())
	c.Submitters = []RuleClient{{"ann", "t9"}}
	_, near = ChooseRule([]ApprovalRule{rule("r1", scope, 1)}, scope, c)
	require.Equal(t, "ann made it and submitted the job, and four eyes are required",
		near.Mismatches[0].sentence())
	c.FourEyes = false
	chosen, _ = ChooseRule([]ApprovalRule{rule("r1", scope, 1)}, scope, c)
	require.NotNil(t, chosen)
	a = Approval{}
	a.AddRules(nil, chosen, nil)
	require.Equal(t, []string{"Approval rule r1 (for r1) of ann has approved the job"}, a.Text)
}

// TestApprovalRuleCheck checks that what is wrong in a new rule is named.
func TestApprovalRuleCheck(t *testing.T) {
	use := func(change func(u *ApprovalUse)) func(r *ApprovalRule) {
		return func(r *ApprovalRule) { change(&r.Scope.Uses[1]) }
	}
	for want, change := range map[string]func(r *ApprovalRule){
		"until: is required":                   func(r *ApprovalRule) { r.Until = time.Time{} },
		"until: 2026-01-02T03:04:05Z is over":  func(r *ApprovalRule) { r.Until = ruleTime },
		"note: is longer than 500 bytes":       func(r *ApprovalRule) { r.Note = string(make([]byte, 501)) },
		"job_id: ":                             func(r *ApprovalRule) { r.FromJob = "a b" },
		"scope.initiator: is required":         func(r *ApprovalRule) { r.Scope.Initiator = "" },
		"scope.scheduler: ":                    func(r *ApprovalRule) { r.Scope.Scheduler = "*" },
		"scope.uses: is required":              func(r *ApprovalRule) { r.Scope.Uses = nil },
		`scope.any: "columns" is none of flow`: func(r *ApprovalRule) { r.Scope.Any = []string{"columns"} },
		"scope.learns[0]: node_id":             func(r *ApprovalRule) { r.Scope.Learns[0].Key = "" },

		`scope.uses[1].any: "flow" is none of`:   use(func(u *ApprovalUse) { u.Any = []string{"flow"} }),
		"scope.uses[1].role: is required":        use(func(u *ApprovalUse) { u.Role = "" }),
		"scope.uses[1].version: is required":     use(func(u *ApprovalUse) { u.Version = "" }),
		"scope.uses[1].images: is required":      use(func(u *ApprovalUse) { u.Images = nil }),
		"scope.uses[1].images: nobody has":       use(func(u *ApprovalUse) { u.Images[0] = "docker" }),
		"scope.uses[1].columns: those of datase": use(func(u *ApprovalUse) { u.Columns = nil }),
	} {
		_, scope := ruleJob()
		r := ApprovalRule{Scope: scope, Until: ruleTime.Add(time.Hour)}
		require.NoError(t, r.Check("B", ruleTime))
		change(&r)
		require.ErrorContains(t, r.Check("B", ruleTime), want)
	}
	r := ApprovalRule{Until: ruleTime, Note: "weekly"}
	require.Equal(t, "expired", r.State(ruleTime))
	require.Equal(t, "active", r.State(ruleTime.Add(-1)))
	r.RemovedAt = &ruleTime
	require.Equal(t, "removed", r.State(ruleTime.Add(-1)))
	r.Describe()
	require.Equal(t, []string{"Until 2026-01-02T03:04:05Z", "Note: weekly"}, r.Text[len(r.Text)-2:])
}
