package fateclient

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/fateflow"
)

const (
	guest = "JG1"
	host  = "JG2"
)

// description returns a component's self-description with these ports, each as "category name".
func description(name, version string, roles string, inputs, outputs []string) *bfia.Description {
	ports := func(list []string) (ports []bfia.DataPort) {
		for _, p := range list {
			category, name, _ := strings.Cut(p, " ")
			ports = append(ports, bfia.DataPort{Name: name, Category: category})
		}
		return ports
	}
	return &bfia.Description{ComponentName: name, Provider: "p", Version: version,
		RoleList: strings.Fields(roles), InputData: ports(inputs), OutputData: ports(outputs)}
}

// catalog has an intersection, a training with an arbiter, an evaluation, and a component of two versions.
func catalog() fateflow.Catalog {
	list := []*bfia.Description{
		description("psi", "1", "guest host", []string{"dataset input_data"},
			[]string{"dataset output_data", "metric metric"}),
		description("lr", "1", "guest host arbiter", []string{"training_set train_data",
			"validate_set validate_data", "test_set test_data", "model warm_start_model",
			"model input_model"},
			[]string{"dataset train_output_data", "dataset validate_output_data", "model output_model",
				"metric metric"}),
		description("lr_predict", "1", "guest host arbiter", []string{"test_set test_data",
			"model input_model"},
			[]string{"dataset test_output_data"}),
		description("two", "1", "guest", []string{"dataset a", "dataset b"}, nil),
		description("two", "2", "guest", []string{"dataset a", "dataset b"}, nil),
	}
	return fateflow.Catalog{
		Describe: func(provider, version, component string) (*bfia.Description, error) {
			for _, d := range list {
				if provider == "p" && d.Version == version && d.ComponentName == component {
					return d, nil
				}
			}
			return nil, bfia.Errorf(bfia.CodeNotFound, "no %s", component)
		},
		Find: func(component string) (found []fateflow.Provider, err error) {
			for _, d := range list {
				if d.ComponentName == component {
					found = append(found, fateflow.Provider{Name: "p", Version: d.Version})
				}
			}
			return found, nil
		},
	}
}

// pipeline is a job of two tasks as the pipeline writes it: ids as numbers are in other tests.
const pipeline = `{"dag_schema": {"schema_version": "2.2.0", "kind": "bfia", "dag": {
	"parties": [{"role": "guest", "party_id": ["JG1"]}, {"role": "host", "party_id": ["JG2", "JG3"]},
		{"role": "arbiter", "party_id": ["JG2"]}],
	"conf": {"sync_type": "poll", "priority": 3, "computing_partitions": 8,
		"extra": {"flow_id": "f", "initiator": {"party_id": "JG1", "role": "guest"}}},
	"stage": "train",
	"tasks": {
		"psi_0": {"component_ref": "psi", "parameters": {}, "stage": "default",
			"inputs": {"data": {"input_data": {"data_warehouse": [
				{"dataset_id": "e#g", "parties": [{"role": "guest", "party_id": ["JG1"]}]},
				{"namespace": "e", "name": "h", "parties": [{"role": "host", "party_id": ["JG2", "JG3"]}]}]}}},
			"outputs": {
				"data": {"output_data": {"output_artifact_key_alias": "output_data", "output_artifact_type_alias": "data"}},
				"metric": {"metric": {"output_artifact_key_alias": "metric", "output_artifact_type_alias": "metric"}}},
			"conf": {"provider": "p", "version": "1"}},
		"lr_0": {"component_ref": "lr", "dependent_tasks": ["psi_0"],
			"parameters": {"epochs": 2, "alpha": 0.0100},
			"inputs": {"data": {"train_data": {"task_output_artifact":
				{"producer_task": "psi_0", "output_artifact_key": "output_data"}}}, "model": {}},
			"outputs": {
				"metric": {"metric": {"output_artifact_key_alias": "metric", "output_artifact_type_alias": "metric"}},
				"model": {"output_model": {"output_artifact_key_alias": "m", "output_artifact_type_alias": "model"}},
				"data": {"train_output_data": {"output_artifact_key_alias": "out", "output_artifact_type_alias": "data"},
					"validate_output_data": {"output_artifact_key_alias": "validate_output_data", "output_artifact_type_alias": "data"}}},
			"conf": {"provider": "p", "version": "1"}}},
	"party_tasks": {
		"all": {"parties": [{"role": "host", "party_id": ["JG3", "JG2"]}, {"role": "guest", "party_id": ["JG1"]}],
			"conf": {"resources": {"cpu": -1}}},
		"h": {"parties": [{"role": "host", "party_id": ["JG3"]}],
			"tasks": {"psi_0": {"parameters": {"id": "uid"}}}}}}}}`

// translated returns the document of a submission as JSON.
func translated(t *testing.T, body string) (string, error) {
	t.Helper()
	s, err := ParseSubmission([]byte(body))
	if err != nil {
		return "", err
	}
	doc, err := s.Document(guest, catalog())
	if err != nil {
		return "", err
	}
	return string(doc.Bytes()), nil
}

func TestPipelineIsTranslated(t *testing.T) {
	got, err := translated(t, pipeline)
	require.NoError(t, err)
	require.JSONEq(t, `{
		"flow_id": "f",
		"dag": {"version": "2.2.0", "components": [
			{"name": "lr_0", "componentName": "lr", "provider": "p", "version": "1",
				"input": [{"type": "data", "key": "psi_0.output_data"}],
				"output": [{"type": "data", "key": "out"}, {"type": "data", "key": "validate_output_data"},
					{"type": "model", "key": "m"}, {"type": "metric", "key": "metric"}]},
			{"name": "psi_0", "componentName": "psi", "provider": "p", "version": "1", "input": [],
				"output": [{"type": "data", "key": "output_data"}, {"type": "metric", "key": "metric"}]}]},
		"config": {"version": "2.2.0", "initiator": {"role": "guest", "node_id": "JG1"},
			"role": {"guest": ["JG1"], "host": ["JG2", "JG3"], "arbiter": ["JG2"]},
			"job_params": {"common": {"sync_type": "poll", "priority": 3},
				"guest": {"0": {"resources": {"cpu": -1}}}, "host": {"0|1": {"resources": {"cpu": -1}}}},
			"task_params": {"common": {"psi_0": {}, "lr_0": {"epochs": 2, "alpha": 0.0100}},
				"guest": {"0": {"psi_0": {"dataset_id": "e#g"}}},
				"host": {"0": {"psi_0": {"dataset_id": "e#h"}},
					"1": {"psi_0": {"dataset_id": "e#h", "id": "uid"}}}}}}`, got)
	require.Contains(t, got, `"alpha":0.0100`, "numbers keep their spelling")

	doc, err := bfia.ParseDocument([]byte(got))
	require.NoError(t, err)
	plan, err := bfia.NewPlan(doc, catalog().Describe, "")
	require.NoError(t, err)
	require.Equal(t, []string{"psi_0"}, plan.Tasks[1].DependsOn)
}

// change returns the pipeline's job with texts replaced.
func change(t *testing.T, replace ...string) string {
	t.Helper()
	text := pipeline
	for i := 0; i < len(replace); i += 2 {
		require.Contains(t, text, replace[i])
		text = strings.ReplaceAll(text, replace[i], replace[i+1])
	}
	return text
}

func TestTranslationTakes(t *testing.T) {
	for name, c := range map[string]struct {
		body string
		want []string
	}{
		"numbers as ids": {change(t, `"JG1"`, `9999`, `"JG2"`, `10000`),
			[]string{`"guest":["9999"]`, `"node_id":"9999"`, `"host":["10000","JG3"]`}},
		"no initiator": {change(t, `"initiator": {"party_id": "JG1", "role": "guest"}`, `"x": 1`),
			[]string{`"initiator":{"role":"guest","node_id":"JG1"}`}},
		"a list of one source": {change(t, `{"task_output_artifact":
				{"producer_task": "psi_0", "output_artifact_key": "output_data"}}`,
			`{"task_output_artifact": [{"producer_task": "psi_0", "output_artifact_key": "output_data"}]}`),
			[]string{`"key":"psi_0.output_data"`}},
		"a version that is not registered": {change(t, `"version": "1"`, `"version": "2.1.0"`),
			[]string{`"version":"1"`}},
		"a number as version": {change(t, `"version": "1"`, `"version": 1`), []string{`"version":"1"`}},
		"a full provider name": {change(t, `"provider": "p", "version": "1"`, `"provider": "p:1@docker"`),
			[]string{`"version":"1"`}},
		"no provider": {change(t, `"provider": "p", "version": "1"`, `"x": 1`), []string{`"version":"1"`}},
		// Only the second data output: BFIA would take it for the first.
		"outputs with a gap": {change(t,
			`"train_output_data": {"output_artifact_key_alias": "out", "output_artifact_type_alias": "data"},`, ``),
			[]string{`{"key":"train_output_data","type":"dataset"},{"key":"validate_output_data","type":"dataset"}`}},
		// Only the test data: its type in the description says so.
		"inputs with a gap": {change(t, `"train_data": {"task`, `"test_data": {"task`),
			[]string{`"input":[{"key":"psi_0.output_data","type":"test_set"}]`}},
		"the port's name instead of its alias": {change(t, `"output_artifact_key_alias": "output_data"`,
			`"output_artifact_key_alias": "joined"`), []string{`"key":"psi_0.joined"`}},
		"null, as the pipeline writes it": {change(t, `"namespace": "e", "name": "h"`,
			`"namespace": null, "name": null, "dataset_id": "e#h"`), []string{`"dataset_id":"e#h"`}},
		"old job": {change(t, `"flow_id": "f"`, `"flow_id": 7, "old_job_id": 20260101`),
			[]string{`"old_job_id":"20260101"`, `"flow_id":"7"`}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := translated(t, c.body)
			require.NoError(t, err)
			for _, want := range c.want {
				require.Contains(t, got, want)
			}
			doc, err := bfia.ParseDocument([]byte(got))
			require.NoError(t, err)
			_, err = bfia.NewPlan(doc, catalog().Describe, "")
			require.NoError(t, err)
		})
	}
}

func TestTranslationRefuses(t *testing.T) {
	for name, c := range map[string]struct{ body, want string }{
		"no dag_schema": {`{}`, "dag_schema: is required"},
		"no dag":        {`{"dag_schema": {"kind": "bfia"}}`, "dag_schema.dag: is required"},
		"not JSON":      {`{`, "body: "},
		"kind": {change(t, `"kind": "bfia"`, `"kind": "x"`),
			`dag_schema.kind: is "x", must be "fate" or "bfia"`},
		"toy": {change(t, `"component_ref": "psi"`, `"component_ref": "toy_example"`),
			"toy_example: not at Hutong: hutong job probe"},
		"stage": {change(t, `"stage": "default"`, `"stage": "predict"`),
			`dag_schema.dag.tasks.psi_0.component_ref: no provider that is registered at JG1 has psi_predict`},
		"stage of the job": {change(t, `"stage": "train"`, `"stage": "cross_validation"`),
			`dag_schema.dag.tasks.lr_0.component_ref: no provider that is registered at JG1 has lr_cv`},
		"unknown stage": {change(t, `"stage": "train"`, `"stage": "test"`),
			`stage: "test" is none of cross_validation, default, predict, train`},
		"component": {change(t, `"component_ref": "lr"`, `"component_ref": "svm"`),
			"dag_schema.dag.tasks.lr_0.component_ref: no provider that is registered at JG1 has svm"},
		"provider": {change(t, `"provider": "p"`, `"provider": "q"`),
			`dag_schema.dag.tasks.lr_0.conf.provider: JG1 has no provider "q" with lr; it has p:1`},
		"which provider": {change(t, `"component_ref": "lr"`, `"component_ref": "two"`, `"version": "1"`,
			`"version": "3"`), "name one of p:1, p:2"},
		// FATE-Flow leaves it out, and the job has no model.
		"output": {change(t, `"output_model": {`, `"trained": {`),
			"tasks.lr_0.outputs.model.trained: lr of p:1 has no such output (its outputs: dataset train_output_data,"},
		"type of an output": {change(t, `"output_artifact_type_alias": "model"`,
			`"output_artifact_type_alias": "data"`), "tasks.lr_0.outputs.the types of the outputs don't fit"},
		"input": {change(t, `"train_data": {"task`, `"data": {"task`),
			"tasks.lr_0.inputs.data.data: lr of p:1 has no such input"},
		"producer": {change(t, `"producer_task": "psi_0"`, `"producer_task": "psi_1"`),
			`tasks.lr_0.inputs.data.train_data.task_output_artifact.producer_task: the DAG has no task "psi_1"`},
		"output of the producer": {change(t, `"output_artifact_key": "output_data"`,
			`"output_artifact_key": "rows"`), `output_artifact_key: the task psi_0 does not list an output "rows"`},
		"model_warehouse": {change(t, `"model": {}`,
			`"model": {"warm_start_model": {"model_warehouse": {"model_id": "1"}}}`),
			"tasks.lr_0.inputs.model.warm_start_model.model_warehouse.producer_task: is required"},
		"a later model": {change(t, `"model": {}`, `"model": {"input_model": {"model_warehouse":
			{"model_id": "1", "producer_task": "lr_0"}}}`), "tasks.lr_0.inputs.lr takes its inputs in their order"},
		"source": {change(t, `"model": {}`, `"model": {"input_model": {"file": {}}}`),
			"input_model.file: is none of task_output_artifact, data_warehouse, model_warehouse"},
		"two sources": {change(t, `{"task_output_artifact":`,
			`{"data_warehouse": {"dataset_id": "e#x"}, "task_output_artifact":`),
			"task_output_artifact: another source feeds the input already"},
		"two datasets": {`{"dag_schema": {"kind": "bfia", "dag": {"parties": [{"role": "guest", "party_id": "JG1"}],
			"tasks": {"t": {"component_ref": "two", "conf": {"version": "2"}, "inputs": {"data": {
			"a": {"data_warehouse": {"dataset_id": "e#x"}}, "b": {"data_warehouse": {"dataset_id": "e#x"}}}}}}}}}`,
			"dag_schema.dag.tasks.t.inputs.a and b both name a dataset"},
		"a later dataset": {`{"dag_schema": {"kind": "bfia", "dag": {"parties": [{"role": "guest", "party_id": "JG1"}],
			"tasks": {"t": {"component_ref": "two", "conf": {"version": "2"}, "inputs": {"data": {
			"b": {"data_warehouse": {"dataset_id": "e#x"}}}}}}}}}`,
			"dag_schema.dag.tasks.t.inputs.two takes its inputs in their order"},
		"dataset without a name": {change(t, `"name": "h",`, ``), "data_warehouse[1].name: is required"},
		"two datasets of a party": {change(t,
			`"dataset_id": "e#g", "parties": [{"role": "guest", "party_id": ["JG1"]}]`,
			`"dataset_id": "e#g"`), "dataset_id: is given twice, with different values, to host.0"},
		"party of a dataset": {change(t,
			`"dataset_id": "e#g", "parties": [{"role": "guest", "party_id": ["JG1"]}]`,
			`"dataset_id": "e#g", "parties": [{"role": "guest", "party_id": ["JG7"]}]`),
			"parties.guest: dag.parties has no guest JG7"},
		"party of party_tasks": {change(t, `["JG3", "JG2"]`, `["JG4"]`),
			"dag_schema.dag.party_tasks.all.parties.host: dag.parties has no host JG4"},
		"task of party_tasks": {change(t, `"psi_0": {"parameters"`, `"psi_1": {"parameters"`),
			"party_tasks.h.tasks.psi_1: the DAG has no task of that name"},
		"initiators": {change(t, `"party_id": "JG1", "role": "guest"`,
			`"party_id": ["JG1", "JG2"], "role": "guest"`),
			"conf.extra.initiator.party_id: names 2 parties"},
		"id": {change(t, `"party_id": ["JG2"]`, `"party_id": [{}]`), "must be a string or a number"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := translated(t, c.body)
			require.ErrorContains(t, err, c.want)
			require.Less(t, bfia.CodeOf(err), bfia.CodeInternal, err)
		})
	}
}

// A job of kind fate: readers, a training whose outputs of other stages are listed too, and a prediction with
// the model of an earlier job.
func TestFATEKindIsTranslated(t *testing.T) {
	got, err := translated(t, `{"dag_schema": {"schema_version": "2.2.0", "dag": {
		"parties": [{"role": "guest", "party_id": ["JG1"]}, {"role": "host", "party_id": ["JG2"]}, {"role": "arbiter", "party_id": ["JG2"]}],
		"conf": {"model_warehouse": {"model_id": "202601010000000000001", "model_version": "0"}}, "stage": "train",
		"tasks": {
			"reader_0": {"component_ref": "reader", "parties": [{"role": "guest", "party_id": ["JG1"]}, {"role": "host", "party_id": ["JG2"]}],
				"parameters": {"namespace": "e"}, "outputs": {"data": {"output_data": {}}}},
			"lr_0": {"component_ref": "lr", "inputs": {"data": {"train_data": {"task_output_artifact": [
					{"producer_task": "reader_0", "output_artifact_key": "output_data"}]}}},
				"outputs": {"data": {"train_output_data": {}, "test_output_data": {}, "cv_output_datas": {}},
					"model": {"output_model": {}}, "metric": {"metric": {}}}},
			"lr_1": {"component_ref": "lr", "stage": "predict", "inputs": {
					"data": {"test_data": {"task_output_artifact": {"producer_task": "reader_0", "output_artifact_key": "output_data"}}},
					"model": {"input_model": {"model_warehouse": {"producer_task": "lr_0", "output_artifact_key": "output_model"}}}},
				"outputs": {"data": {"test_output_data": {}, "train_output_data": {}}, "model": {"output_model": {}}, "metric": {"metric": {}}}}},
		"party_tasks": {
			"guest_JG1": {"parties": [{"role": "guest", "party_id": ["JG1"]}], "tasks": {"reader_0": {"parameters": {"name": "g"}}}},
			"host_JG2": {"parties": [{"role": "host", "party_id": ["JG2"]}], "tasks": {"reader_0": {"parameters": {"namespace": "f", "name": "h"}}}}}}}}`)
	require.NoError(t, err)
	require.JSONEq(t, `{"flow_id": "",
		"dag": {"version": "2.2.0", "components": [
			{"name": "lr_0", "componentName": "lr", "provider": "p", "version": "1", "input": [], "output": [
				{"type": "data", "key": "train_output_data"}, {"type": "model", "key": "output_model"}, {"type": "metric", "key": "metric"}]},
			{"name": "lr_1", "componentName": "lr_predict", "provider": "p", "version": "1", "input": [], "output": [
				{"type": "data", "key": "test_output_data"}]}]},
		"config": {"version": "2.2.0", "initiator": {"role": "guest", "node_id": "JG1"},
			"role": {"guest": ["JG1"], "host": ["JG2"], "arbiter": ["JG2"]}, "job_params": {"common": {}},
			"task_params": {"common": {"lr_0": {}, "lr_1": {"model_id": "202601010000000000001:lr_0.output_model"}},
				"guest": {"0": {"lr_0": {"dataset_id": "e#g"}, "lr_1": {"dataset_id": "e#g"}}},
				"host": {"0": {"lr_0": {"dataset_id": "f#h"}, "lr_1": {"dataset_id": "f#h"}}}}}}`, got)
	doc, err := bfia.ParseDocument([]byte(got))
	require.NoError(t, err)
	_, err = bfia.NewPlan(doc, catalog().Describe, "")
	require.NoError(t, err)
}

// The pipeline lists no outputs in a job of kind fate, and an output may feed two inputs.
func TestFATEKindListsNoOutputs(t *testing.T) {
	const job = `{"dag_schema": {"schema_version": "2.2.0", "kind": "%s", "dag": {
		"parties": [{"role": "guest", "party_id": ["JG1"]}, {"role": "host", "party_id": ["JG2"]}], "stage": "train",
		"tasks": {
			"psi_0": {"component_ref": "psi", "stage": "default", "inputs": {"data": {"input_data": {"data_warehouse":
				{"namespace": "e", "name": "x"}}}}},
			"lr_0": {"component_ref": "lr", "inputs": {"data": {
				"train_data": {"task_output_artifact": [{"producer_task": "psi_0", "output_artifact_key": "output_data"}]},
				"validate_data": {"task_output_artifact": {"producer_task": "psi_0", "output_artifact_key": "output_data"}}}}}}}}}`
	got, err := translated(t, fmt.Sprintf(job, "fate"))
	require.NoError(t, err)
	doc, err := bfia.ParseDocument([]byte(got))
	require.NoError(t, err)
	_, err = bfia.NewPlan(doc, catalog().Describe, "")
	require.NoError(t, err)
	require.Equal(t, []bfia.Port{{Type: "dataset", Key: "train_output_data"},
		{Type: "dataset", Key: "validate_output_data"}, {Type: "model", Key: "output_model"},
		{Type: "metric", Key: "metric"}}, doc.DAG.Components[0].Output)
	require.Len(t, doc.DAG.Components[0].Input, 2)
	for _, in := range doc.DAG.Components[0].Input {
		require.Equal(t, "psi_0.output_data", in.Key)
	}
	_, err = translated(t, fmt.Sprintf(job, "bfia"))
	require.ErrorContains(t, err, `the task psi_0 does not list an output "output_data"`)
}

// A BFIA document is submitted as it is.
func TestDocumentIsSubmitted(t *testing.T) {
	const document = `{"flow_id":"f","x":1.50,"dag":{"components":[]},"config":{"role":{"guest":["JG1"]}}}`
	got, err := translated(t, `{"dag_schema": `+document+`}`)
	require.NoError(t, err)
	require.JSONEq(t, document, got)
	require.Contains(t, got, `"x":1.50`)
	_, err = translated(t, `{"dag_schema": {"config": {"role": 1}, "dag": {}}}`)
	require.ErrorContains(t, err, "dag_schema.config.role: ")
}

func TestStatus(t *testing.T) {
	words := []string{Waiting, Running, Success, Failed, Canceled}
	for _, state := range []bfia.JobState{bfia.JobPending, bfia.JobReady, bfia.JobRunning, bfia.JobRejected,
		bfia.JobFinished, "OTHER"} {
		for _, outcome := range []bfia.Outcome{"", bfia.OutcomeSuccess, bfia.OutcomeFailed,
			bfia.OutcomeStopped, bfia.OutcomeRejected} {
			require.True(t, slices.Contains(words, StatusOfJob(state, outcome)))
		}
	}
	require.Equal(t, Failed, StatusOfJob(bfia.JobFinished, bfia.OutcomeFailed))
	require.Equal(t, Failed, StatusOfJob(bfia.JobFinished, ""))
	require.Equal(t, Success, StatusOfJob(bfia.JobFinished, bfia.OutcomeSuccess))
	require.Equal(t, Canceled, StatusOfJob(bfia.JobFinished, bfia.OutcomeStopped))
	require.Equal(t, Failed, StatusOfJob(bfia.JobRejected, bfia.OutcomeRejected))
	require.Equal(t, Waiting, StatusOfJob(bfia.JobReady, ""))
	require.Equal(t, Canceled, StatusOfTask(bfia.TaskFailed, true))
	require.Equal(t, Failed, StatusOfTask(bfia.TaskFailed, false))
	require.Equal(t, Success, StatusOfTask(bfia.TaskSuccess, true))
	require.Equal(t, Waiting, StatusOfTask(bfia.TaskReady, true))
}

// FuzzSubmission checks that any submission becomes a document that says what it says, or is refused.
func FuzzSubmission(f *testing.F) {
	f.Add(pipeline)
	f.Add(`{"dag_schema": {"dag": {"components": []}, "config": {}}}`)
	f.Add(`{"dag_schema": {"kind": "bfia", "dag": {"parties": [{"role": "guest", "party_id": [1]}], "tasks": {"a":
		{"component_ref": "psi", "inputs": {"data": {"input_data": {"data_warehouse": {"namespace": 1, "name": 2}}}}}}}}}`)
	f.Fuzz(func(t *testing.T, body string) {
		s, err := ParseSubmission([]byte(body))
		if err != nil {
			require.Less(t, bfia.CodeOf(err), bfia.CodeInternal, err)
			return
		}
		doc, err := s.Document(guest, catalog())
		if err != nil {
			require.Less(t, bfia.CodeOf(err), bfia.CodeInternal, err)
			return
		}
		if s.document != nil {
			return
		}
		for _, c := range doc.DAG.Components {
			desc, err := catalog().Describe(c.Provider, c.Version, c.ComponentName)
			require.NoError(t, err)
			_, err = bfia.BindInputs(c, desc, true)
			require.NoError(t, err)
			_, err = bfia.BindOutputs(c, desc)
			require.NoError(t, err)
			for _, part := range doc.Config.Parts() {
				values, err := doc.Config.TaskParameters(c.Name, part)
				if err != nil {
					continue // the plan refuses it
				}
				for name, value := range s.dag.Tasks[c.Name].Parameters {
					if name != "dataset_id" && len(s.dag.PartyTasks) == 0 {
						require.JSONEq(t, string(value), string(values[name]))
					}
				}
			}
		}
		_, err = json.Marshal(doc.DAG)
		require.NoError(t, err)
	})
}
