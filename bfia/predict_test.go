package bfia

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

const trainingText = `{"job_id":"old","flow_id":"f","dag":{"version":"2","components":[
	{"name":"psi","componentName":"PSI","provider":"p","version":"1","output":[{"type":"dataset","key":"d"}]},
	{"name":"scale","componentName":"Scale","provider":"p","version":"1",
		"input":[{"type":"dataset","key":"psi.d"}],
		"output":[{"type":"training_set","key":"s"},{"type":"model","key":"sm"}]},
	{"name":"boost","componentName":"Boost","provider":"p","version":"1",
		"input":[{"type":"training_set","key":"scale.s"}],
		"output":[{"type":"dataset","key":"x"},{"type":"model","key":"m"}]},
	{"name":"after","componentName":"PSI","provider":"p","version":"1",
		"input":[{"type":"dataset","key":"boost.x"}],"output":[]}]},
	"config":{"version":"2","initiator":{"role":"guest","node_id":"A"},
	"role":{"guest":["A"],"host":["B","C"],"arbiter":["A"]},
	"job_params":{"common":{"requires":{"*":{"z":"1"},"boost":{"y":"1"},"after":{"x":"1"}}},
		"arbiter":{"0":{"resources":{}}},"host":{"0|1":{"resources":{"cpu":2}}}},
	"task_params":{"common":{"psi":{"id":"k"},"boost":{"id":"k","rounds":5},"scale":{"id":"k"}},
		"guest":{"0":{"psi":{"dataset_id":"n#ga"}}},
		"host":{"0":{"psi":{"namespace":"n","name":"hb"}},"1":{"psi":{"dataset_id":"n#hc","id":"other"}}}}}}`

func prediction(t *testing.T) Prediction {
	training, err := ParseDocument([]byte(trainingText))
	require.NoError(t, err)
	return Prediction{Model: ModelRef{JobID: "old", Task: "boost"}, Training: training, Initiator: "B",
		Datasets: map[string]string{"A": "n#g2", "host.0": "n#h2", "host.1": "n#h3"},
		Describe: describeModels}
}

// TestPrediction checks the whole document of a prediction, which runs the intersection again and applies two
// models.
func TestPrediction(t *testing.T) {
	document, tasks, err := prediction(t).Document()
	require.NoError(t, err)
	require.Equal(t, []PredictedTask{{Name: "psi", Component: "PSI"},
		{Name: "scale", Component: "Scale_predict", Model: &ModelRef{JobID: "old", Task: "scale"}},
		{Name: "boost", Component: "Boost_predict", Model: &ModelRef{JobID: "old", Task: "boost"}}}, tasks)
	text, err := json.Marshal(document)
	require.NoError(t, err)
	require.JSONEq(t, `{"flow_id":"f","dag":{"version":"2","components":[
		{"name":"psi","componentName":"PSI","provider":"p","version":"1","input":null,
			"output":[{"type":"dataset","key":"d"}]},
		{"name":"scale","componentName":"Scale_predict","provider":"p","version":"1",
			"input":[{"type":"dataset","key":"psi.d"}],"output":[{"type":"test_set","key":"out"}]},
		{"name":"boost","componentName":"Boost_predict","provider":"p","version":"1",
			"input":[{"type":"test_set","key":"scale.out"}],
			"output":[{"type":"dataset","key":"predictions"},{"type":"report","key":"auc"}]}]},
		"config":{"version":"2","initiator":{"role":"host","node_id":"B"},
		"role":{"guest":["A"],"host":["B","C"]},
		"job_params":{"common":{"requires":{"*":{"z":"1"},"boost":{"y":"1"}}},
			"host":{"0|1":{"resources":{"cpu":2}}}},
		"task_params":{
			"common":{"scale":{"model_id":"old:scale"},"boost":{"id":"k","model_id":"old:boost"}},
			"guest":{"0":{"psi":{"id":"k","dataset_id":"n#g2"}}},
			"host":{"0":{"psi":{"id":"k","dataset_id":"n#h2"}},
				"1":{"psi":{"id":"other","dataset_id":"n#h3"}}}}}}`, string(text))

	parsed, err := ParseDocument(text)
	require.NoError(t, err)
	plan, err := NewPlan(parsed, describeModels, "")
	require.NoError(t, err)
	require.Len(t, plan.Tasks, 3)
	task, _ := plan.Task("boost")
	training := prediction(t).Training
	require.NoError(t, CheckModelParties(ModelRef{JobID: "old", Task: "boost"}, training, task))
}

// TestPredictionOfTrainingDatasets predicts for the datasets of the training, except for one.
func TestPredictionOfTrainingDatasets(t *testing.T) {
	p := prediction(t)
	p.Datasets, p.TrainingDatasets = map[string]string{"host.1": "n#h3"}, true
	document, _, err := p.Document()
	require.NoError(t, err)
	text, err := json.Marshal(document)
	require.NoError(t, err)
	parsed, err := ParseDocument(text)
	require.NoError(t, err)
	for part, want := range map[Part]string{{Role: "guest", NodeID: "A"}: "n#ga",
		{Role: "host", NodeID: "B"}: "n#hb", {Role: "host", Index: 1, NodeID: "C"}: "n#h3"} {
		address, err := parsed.RootDataset(describeModels, "psi", part)
		require.NoError(t, err)
		require.Equal(t, want, address.String())
	}
}

// TestPredictionOfRoot predicts with a model whose training read an uploaded dataset.
func TestPredictionOfRoot(t *testing.T) {
	training, err := ParseDocument([]byte(`{"job_id":"old","dag":{"components":[{"name":"boost",
		"componentName":"Boost","provider":"p","version":"1",
		"output":[{"type":"dataset","key":"x"},{"type":"model","key":"m"}]}]},
		"config":{"initiator":{"role":"guest","node_id":"A"},"role":{"guest":["A"],"host":["B"]},
		"task_params":{"guest":{"0":{"boost":{"dataset_id":"n#a"}}},
			"host":{"0":{"boost":{"dataset_id":"n#b"}}}}}}`))
	require.NoError(t, err)
	document, _, err := Prediction{Model: ModelRef{JobID: "old", Task: "boost", Output: "m"},
		Training: training, Initiator: "A", Datasets: map[string]string{"A": "n#a", "B": "n#c"},
		Describe: describeModels}.Document()
	require.NoError(t, err)
	text, err := json.Marshal(document)
	require.NoError(t, err)
	parsed, err := ParseDocument(text)
	require.NoError(t, err)
	host := Part{Role: "host", NodeID: "B"}
	address, err := parsed.RootDataset(describeModels, "boost", host)
	require.NoError(t, err)
	require.Equal(t, "n#c", address.String())
	ref, err := parsed.RootModel(describeModels, "boost", host)
	require.NoError(t, err)
	require.Equal(t, "old:boost.m", ref.String())
}

func TestPredictionRefuses(t *testing.T) {
	for want, change := range map[string]func(*Prediction){
		`model: job old has no task "bost"`: func(p *Prediction) { p.Model.Task = "bost" },
		`model: no component that applies it: componentName: p:1 has no component "PSI_predict"`: func(
			p *Prediction) {
			p.Model.Task = "psi"
		},
		`has no component "Other"`:        func(p *Prediction) { p.Component = "Other" },
		"model: D has no role in job old": func(p *Prediction) { p.Initiator = "D" },
		"data: no dataset is given for host.1 (C, which trained with n#hc)": func(p *Prediction) {
			delete(p.Datasets, "host.1")
		},
		"data: D reads no dataset":             func(p *Prediction) { p.Datasets["D"] = "n#d" },
		`data: "nd" of A is not of the form`:   func(p *Prediction) { p.Datasets["A"] = "nd" },
		"data: no dataset is given for host.0": func(p *Prediction) { p.Datasets["host.0"] = "" },
	} {
		p := prediction(t)
		change(&p)
		_, _, err := p.Document()
		require.ErrorContains(t, err, want)
	}
}
