package bfia

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// approvalJob returns what the party B sees of a job: it reads B's dataset in the task psi, trains with what
// psi makes of it, and scores with the model of an earlier job. The tasks are not in the order of the DAG.
func approvalJob(id string) *JobView {
	party := func(role, node string, p PartView) PartView {
		p.Role, p.NodeID = role, node
		return p
	}
	both := []string{"A (guest.0)", "B (host.0)"}
	return &JobView{JobID: id, FlowID: "f", Self: "B", Initiator: Initiator{Role: "guest", NodeID: "A"},
		Parts: []Part{{Role: "guest", NodeID: "A"}, {Role: "host", NodeID: "B"}},
		Tasks: []TaskView{
			{Name: "train", Component: "LR", Provider: "p:1", DependsOn: []string{"psi"},
				Images: []ImageView{{Device: "process", Command: []string{"python3", "lr.py"}}},
				Parts: []PartView{party("guest.0", "A", PartView{}), party("host.0", "B", PartView{
					Parameters: map[string]json.RawMessage{"rate": []byte(`0.5`)}})},
				Outputs: []OutputView{{Type: "model", Key: "m", Parties: both}}},
			{Name: "psi", Component: "Intersection", Provider: "p:1", Title: "PSI",
				Description: "finds the rows\nthat \"both\" have",
				Images:      []ImageView{{Device: "docker", Image: "p:1", ImageIDs: []string{"sha256:34"}}},
				Parts: []PartView{
					party("guest.0", "A", PartView{Dataset: &DatasetView{Namespace: "n", Name: "theirs"}}),
					party("host.0", "B", PartView{
						Parameters: map[string]json.RawMessage{
							"id": []byte(`"phone, mail"`), "keep": []byte(`{"columns": ["age", "nothing"]}`)},
						Dataset: &DatasetView{Namespace: "n", Name: "ours", Rows: 7, Columns: []ColumnView{
							{Name: "phone"}, {Name: "age"}, {Name: "debt"}}}})},
				Outputs: []OutputView{{Type: "dataset", Key: "ids", Parties: both, Description: "own rows"}}},
			{Name: "score", Component: "Score", Provider: "q:2",
				Images: []ImageView{{Device: "docker", Image: "q:2", ImageIDs: []string{}}},
				Parts: []PartView{
					party("host.0", "B", PartView{Model: &InputModelView{Model: "j0:train.m"}})},
				Outputs: []OutputView{{Type: "report", Key: "r", Parties: []string{"B (host.0)"}}}},
			{Name: "check", Component: "Check", Provider: "q:2",
				Parts: []PartView{party("guest.0", "A", PartView{}), party("host.0", "B", PartView{})}}}}
}

// TestApprovalOf checks what an approver sees: the datasets, columns and models that the party's parts read,
// directly and by way of earlier tasks, who gets which outputs, and what differs from the job before.
func TestApprovalOf(t *testing.T) {
	a := ApprovalOf(approvalJob("j2"), nil)
	require.Equal(t, []string{"train", "psi", "score", "check"}, tasksOf(a))
	require.Equal(t, []string{"n#ours"}, a.Reads[0].Derived)
	require.Empty(t, a.Reads[0].Dataset)
	require.Equal(t, "n#ours", a.Reads[1].Dataset)
	require.Equal(t, []string{"phone", "age", "debt"}, a.Reads[1].Columns)
	require.Equal(t, []string{"phone", "age"}, a.Reads[1].Named)
	require.Equal(t, "j0:train.m", a.Reads[2].Model)
	both := []string{"A (guest.0)", "B (host.0)"}
	require.Equal(t, []ApprovalMade{
		{Task: "train", Component: "LR", Provider: "p:1", Own: []string{"n#ours"}, OwnModels: []string{},
			Parties: both, Outputs: []ApprovalOutput{{"model", "m", "model", ""}}},
		{Task: "psi", Component: "Intersection", Provider: "p:1", Title: "PSI",
			Description: "finds the rows\nthat \"both\" have", Own: []string{"n#ours"},
			OwnModels: []string{}, Parties: both,
			Outputs: []ApprovalOutput{{"dataset", "ids", "dataset", "own rows"}}},
		{Task: "score", Component: "Score", Provider: "q:2", Own: []string{},
			OwnModels: []string{"j0:train.m"},
			Parties:   []string{"B (host.0)"}, Outputs: []ApprovalOutput{{"report", "r", "metric", ""}}},
	}, a.Makes)
	require.Equal(t, []string{
		"Task train (host.0) reads what earlier tasks make of n#ours",
		"  by LR of p:1, which runs the command python3 lr.py (process)",
		"  with rate = 0.5",
		"Task psi (host.0) reads dataset n#ours (7 rows): its parameters name phone, age; its container can " +
			"read all columns: phone, age, debt",
		"  by Intersection of p:1, which runs p:1 (docker, sha256:34)",
		`  with id = "phone, mail", keep = {"columns":["age","nothing"]}`,
		"Task score (host.0) reads model j0:train.m",
		"  by Score of q:2, which runs q:2 (docker, no id yet: the first container of the job resolves it)",
		"Task check (host.0) reads nothing of B",
		"  by Check of q:2",
		"Task train makes for A (guest.0), B (host.0), each for its own part:",
		"  model m: what a training has learned from data, to predict with",
		"  from n#ours of B",
		"  by LR of p:1",
		"Task psi makes for A (guest.0), B (host.0), each for its own part:",
		`  dataset ids: rows of data, described as "own rows"`,
		"  from n#ours of B",
		`  by Intersection of p:1, titled "PSI", described as "finds the rows that \"both\" have"`,
		"Task score makes for B (host.0):",
		"  report r: figures on data or a model, such as counts, measures or curves",
		"  from model j0:train.m of B",
		"  by Score of q:2",
		"B has approved no earlier job of flow f of this initiator",
	}, a.Text)

	a = ApprovalOf(approvalJob("j2"), approvalJob("j1"))
	require.Equal(t, "j1", a.Previous)
	require.Empty(t, a.Differences)
	require.Equal(t, "Its parties, tasks, images, inputs, parameters and outputs are those of job j1, which B "+
		"approved last of this flow", a.Text[len(a.Text)-1])
}

// TestApprovalOfNothing checks a job that reads nothing of the party and belongs to no flow.
func TestApprovalOfNothing(t *testing.T) {
	a := ApprovalOf(&JobView{JobID: "j", Self: "B"}, nil)
	require.Equal(t, []string{"No task runs at B",
		"The job belongs to no flow, so there is no earlier job to compare it with"}, a.Text)
}

// TestApprovalDifferences checks that each field in which two jobs differ is found.
func TestApprovalDifferences(t *testing.T) {
	for name, c := range map[string]struct {
		change func(v *JobView)
		want   ApprovalDifference
		text   string
	}{
		"parties": {func(v *JobView) { v.Parts = append(v.Parts, Part{Role: "host", NodeID: "C", Index: 1}) },
			ApprovalDifference{Field: FieldParties, Now: "A (guest.0), B (host.0), C (host.1)",
				Was: "A (guest.0), B (host.0)"},
			"parties: A (guest.0), B (host.0), C (host.1), was A (guest.0), B (host.0)"},
		"a new task": {func(v *JobView) {
			v.Tasks = append(v.Tasks, TaskView{Name: "leak", Component: "Copy", Provider: "x:1"})
		}, ApprovalDifference{Task: "leak", Field: FieldTask, Now: "Copy of x:1"},
			"task leak is new: Copy of x:1"},
		"a task that is gone": {func(v *JobView) { v.Tasks = slices.Delete(v.Tasks, 2, 3) },
			ApprovalDifference{Task: "score", Field: FieldTask, Was: "Score of q:2"},
			"task score is gone: Score of q:2"},
		"component": {func(v *JobView) { v.Tasks[1].Provider = "p:2" },
			ApprovalDifference{Task: "psi", Field: FieldComponent, Now: "Intersection of p:2",
				Was: "Intersection of p:1"},
			"task psi, component: Intersection of p:2, was Intersection of p:1"},
		"an image under the same tag": {func(v *JobView) { v.Tasks[1].Images[0].ImageIDs[0] = "sha256:99" },
			ApprovalDifference{Task: "psi", Field: FieldImages, Now: "p:1 (docker, sha256:99)",
				Was: "p:1 (docker, sha256:34)"},
			"task psi, images: p:1 (docker, sha256:99), was p:1 (docker, sha256:34)"},
		"upstreams": {func(v *JobView) { v.Tasks[0].DependsOn = nil },
			ApprovalDifference{Task: "train", Field: FieldUpstreams, Was: "psi"},
			"task train, upstreams: none, was psi"},
		"outputs": {func(v *JobView) { v.Tasks[2].Outputs[0].Parties = []string{"A (guest.0)"} },
			ApprovalDifference{Task: "score", Field: FieldOutputs, Now: "report r to A (guest.0)",
				Was: "report r to B (host.0)"},
			"task score, outputs: report r to A (guest.0), was report r to B (host.0)"},
		"dataset": {func(v *JobView) { v.Tasks[1].Parts[1].Dataset.Name = "more" },
			ApprovalDifference{Task: "psi", Role: "host.0", Field: FieldDataset, Now: "n#more",
				Was: "n#ours"},
			"task psi, host.0, dataset: n#more, was n#ours"},
		"model": {func(v *JobView) { v.Tasks[2].Parts[0].Model.Model = "j9:train.m" },
			ApprovalDifference{Task: "score", Role: "host.0", Field: FieldModel, Now: "j9:train.m",
				Was: "j0:train.m"},
			"task score, host.0, model: j9:train.m, was j0:train.m"},
		"parameter": {func(v *JobView) { v.Tasks[1].Parts[1].Parameters["keep"] = []byte(`[ "debt" ]`) },
			ApprovalDifference{Task: "psi", Role: "host.0", Field: FieldParameter, Parameter: "keep",
				Now: `["debt"]`, Was: `{"columns":["age","nothing"]}`},
			`task psi, host.0, parameter keep: ["debt"], was {"columns":["age","nothing"]}`},
		"a parameter that is gone": {func(v *JobView) { delete(v.Tasks[0].Parts[1].Parameters, "rate") },
			ApprovalDifference{Task: "train", Role: "host.0", Field: FieldParameter, Parameter: "rate",
				Was: "0.5"},
			"task train, host.0, parameter rate: none, was 0.5"},
	} {
		t.Run(name, func(t *testing.T) {
			now := approvalJob("j2")
			c.change(now)
			a := ApprovalOf(now, approvalJob("j1"))
			require.Equal(t, []ApprovalDifference{c.want}, a.Differences)
			require.Equal(t, []string{"It differs from job j1, which B approved last of this flow:",
				"  " + c.text}, a.Text[len(a.Text)-2:])
		})
	}
}

func tasksOf(a Approval) []string {
	var names []string
	for _, r := range a.Reads {
		names = append(names, r.Task)
	}
	return names
}

// TestQuoted checks that a provider's text is one line of limited length, in quotes.
func TestQuoted(t *testing.T) {
	require.Equal(t, `"交集 rows"`, quoted(" 交集\n\trows "))
	require.Equal(t, `"a\"\x1b"`, quoted("a\"\x1b"))
	require.Equal(t, `"`+strings.Repeat("字", shownDescription)+`…"`,
		quoted(strings.Repeat("字", shownDescription+1)))
}

// TestParametersText checks that an approver sees each parameter, a long one by its beginning.
func TestParametersText(t *testing.T) {
	require.Empty(t, parametersText(nil))
	long := strings.Repeat("字", shownParameter)
	require.Equal(t, "a = [1,2], b = \""+long[:3*(shownParameter-1)]+"…",
		parametersText(map[string]json.RawMessage{"b": []byte(`"` + long + `"`), "a": []byte("[1,\n2]")}))
}
