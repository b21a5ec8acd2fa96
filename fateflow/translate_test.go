package fateflow

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
)

// catalog has two components: Split makes two datasets from a dataset, Train a model from one or two.
func catalog(t testing.TB) Catalog {
	described := map[string]string{
		"Split": `{"componentName":"Split","title":"Split","provider":"p","version":"1","roleList":["guest","host"],"storageEngine":["s3"],"result":[],"inputParam":[],
			"inputData":[{"name":"in","category":"dataset"}],"outputData":[{"name":"left","category":"dataset"},{"name":"right","category":"dataset"}]}`,
		"Train": `{"componentName":"Train","title":"Train","provider":"p","version":"1","roleList":["guest","host"],"storageEngine":["s3"],"result":[],"inputParam":[{"name":"rounds","type":"integer","optional":"false"}],
			"inputData":[{"name":"rows","category":"dataset"},{"name":"check","category":"dataset"}],"outputData":[{"name":"model","category":"model"}]}`,
	}
	return Catalog{
		Describe: func(provider, version, component string) (*bfia.Description, error) {
			if provider != "p" && provider != "q" || version != "1" || described[component] == "" {
				return nil, bfia.Errorf(bfia.CodeNotFound, "provider: %s:%s has no %s", provider, version,
					component)
			}
			return bfia.ParseDescription(component, []byte(described[component]))
		},
		Find: func(component string) ([]Provider, error) {
			switch component {
			case "Split":
				return []Provider{{"p", "1"}}, nil
			case "Train":
				return []Provider{{"p", "1"}, {"q", "1"}}, nil
			}
			return nil, nil
		},
	}
}

const exampleJob = `{
	"parties": [{"role":"guest","party_id":["9999"]},{"role":"host","party_id":["8888","7777"]},{"role":"arbiter","party_id":["9999"]}],
	"conf": {"scheduler_party_id":"9999","initiator_party_id":"9999","priority":3,"sync_type":"callback","auto_retries":0,"cores":2,"model_id":"m","task":{"provider":null},"inheritance":null},
	"stage": "train",
	"tasks": {
		"cut": {"component_ref":"Split","dependent_tasks":null,"parameters":{"share":0.50},"parties":[{"role":"guest","party_id":["9999"]},{"role":"host","party_id":["8888"]}],
			"inputs":{"data":{"in":{"data_warehouse":[
				{"namespace":"bank","name":"guest","parties":[{"role":"guest","party_id":["9999"]}]},
				{"namespace":"bank","name":"host","parties":[{"role":"host","party_id":["8888"]}]}]}},"model":null},
			"outputs":{"data":{"right":{"output_artifact_key_alias":"rest","output_artifact_type_alias":"dataframe","parties":null}},"model":null,"metric":null}},
		"fit": {"component_ref":"Train","dependent_tasks":["cut"],"parameters":{"rounds":7},"conf":{"provider":"q:1@docker"},"parties":[{"role":"guest","party_id":["9999"]},{"role":"host","party_id":["8888"]}],
			"inputs":{"data":{
				"check":{"task_output_artifact":{"producer_task":"cut","output_artifact_key":"rest","output_artifact_type_alias":null,"parties":null}},
				"rows":{"task_output_artifact":[{"producer_task":"cut","output_artifact_key":"left"}]}}}},
		"psi_0": {"component_ref":"psi","parties":[{"role":"host","party_id":["7777"]}]}
	},
	"party_tasks": {"host_8888":{"parties":[{"role":"host","party_id":["8888"]}],"tasks":{"fit":{"parameters":{"rounds":9},"conf":null},"psi_0":{"parameters":{"x":1}}},"conf":{}}}
}`

func TestTranslate(t *testing.T) {
	for node, own := range map[string]string{"8888": `"host":{"0":{"cut":{"dataset_id":"bank#host"},"fit":{"rounds":9}}}`,
		"9999": `"guest":{"0":{"cut":{"dataset_id":"bank#guest"}}}`} {
		job, err := Translate([]byte(exampleJob), "j1", node, catalog(t))
		require.NoError(t, err)
		require.Equal(t, "9999", job.Scheduler)
		require.True(t, Scheduled(job.Document))
		require.JSONEq(t, `{"job_id":"j1","protocol":"fate","dag":{"version":"2.0","components":[
			{"name":"cut","componentName":"Split","provider":"p","version":"1","input":[],"output":[{"type":"dataset","key":"left"},{"type":"dataset","key":"right"}]},
			{"name":"fit","componentName":"Train","provider":"q","version":"1",
				"input":[{"type":"dataset","key":"cut.left"},{"type":"dataset","key":"cut.right"}],"output":[{"type":"model","key":"model"}]}]},
		"config":{"version":"2.0.0","initiator":{"role":"guest","node_id":"9999"},"role":{"guest":["9999"],"host":["8888"]},
			"job_params":{"common":{"sync_type":"callback","priority":3},"guest":{"0":{"resources":{"cpu":2,"memory":-1,"disk":-1}}},"host":{"0":{"resources":{"cpu":2,"memory":-1,"disk":-1}}}},
			"task_params":{"common":{"cut":{"share":0.50},"fit":{"rounds":7}},`+own+`}}}`, string(job.Document.Bytes()))
		require.Contains(t, string(job.Document.Bytes()), `"share":0.50`, "numbers keep their spelling")
		plan, err := bfia.NewPlan(job.Document, catalog(t).Describe, node)
		require.NoError(t, err)
		require.Equal(t, []string{"cut", "fit"}, []string{plan.Tasks[0].Name, plan.Tasks[1].Name})
		require.Equal(t, []string{"cut"}, plan.Tasks[1].DependsOn)
		require.Equal(t, 3, plan.Priority)
	}
}

// TestTranslateRefuses checks that what BFIA can't express is refused with the field.
func TestTranslateRefuses(t *testing.T) {
	const at = "8888"
	for name, c := range map[string]struct {
		node     string
		from, to string
		words    string
	}{
		"no party of it": {node: "5555", words: "dag.parties: 5555 has no role"},
		"no task": {node: "7777", from: `"parties":[{"role":"host","party_id":["7777"]}]`,
			to:    `"parties":[{"role":"host","party_id":["8888"]}]`,
			words: "dag.tasks: none of them runs at 7777"},
		"unknown component": {node: "7777",
			words: "dag.tasks.psi_0.component_ref: no provider that is registered at 7777 has psi"},
		"several providers": {node: at, from: `"q:1@docker"`, to: `null`,
			words: "dag.tasks.fit.conf.provider: 8888 has Train of several providers; name one of p:1, q:1"},
		"any version": {node: at, from: `"q:1@docker"`, to: `"r:*@*"`,
			words: "dag.tasks.fit.component_ref: no provider"},
		"unregistered provider": {node: at, from: `"q:1@docker"`, to: `"r:1@docker"`,
			words: "dag.tasks.fit.component_ref: provider: r:1 has no Train"},
		"no provider's name": {node: at, from: `"q:1@docker"`, to: `":1"`,
			words: "dag.tasks.fit.conf.provider_name:"},
		"unknown input": {node: at, from: `"check":{`, to: `"test":{`,
			words: "dag.tasks.fit.inputs.data.test: Train has no such input (its inputs: dataset rows, dataset check)"},
		"second without first": {node: at, from: `,
				"rows":{"task_output_artifact":[{"producer_task":"cut","output_artifact_key":"left"}]}`, words: "dag.tasks.fit.inputs: Train fills its inputs in their order (dataset rows, dataset check); check can't be given without rows"},
		"unknown output": {node: at, from: `"right":{"output`, to: `"middle":{"output`,
			words: "dag.tasks.cut.outputs.data.middle: Split has no such output"},
		"several for one": {node: at, from: `[{"producer_task":"cut","output_artifact_key":"left"}]`,
			to: `[{"producer_task":"cut","output_artifact_key":"left"},{"producer_task":"cut","output_artifact_key":"right"}]`, words: "several outputs for one input"},
		"another job's output": {node: at, from: `"namespace":"bank","name":"host"`,
			to:    `"job_id":"j0","producer_task":"cut","output_artifact_key":"left"`,
			words: "data_warehouse.producer_task: outputs of other jobs"},
		"a bad dataset": {node: at, from: `"name":"host"`, to: `"name":"../x"`,
			words: "dag.tasks.cut.inputs.data.in.data_warehouse.name:"},
		"a model of another job": {node: at, from: `"rows":{"task_output_artifact"`,
			to: `"rows":{"model_warehouse"`, words: "models of other jobs"},
		"an unknown source": {node: at, from: `"rows":{"task_output_artifact"`, to: `"rows":{"air"`,
			words: "rows.air: is none of"},
		"an unknown task": {node: at, from: `[{"producer_task":"cut"`, to: `[{"producer_task":"cat"`,
			words: `producer_task: 8888 runs no task "cat"`},
		"a party left out": {node: "9999",
			from:  `"conf":{"provider":"q:1@docker"},"parties":[{"role":"guest","party_id":["9999"]},{"role":"host","party_id":["8888"]}]`,
			to:    `"conf":{"provider":"q:1@docker"},"parties":[{"role":"guest","party_id":["9999"]}]`,
			words: "dag.tasks.fit.parties: leaves out host 8888"},
		"a role too many": {node: at, from: `"parties":[{"role":"guest","party_id":["9999"]},{"role":"host","party_id":["8888"]}],
			"inputs":{"data":{"in"`, to: `"parties":[{"role":"guest","party_id":["9999"]},{"role":"arbiter","party_id":["9999"]},{"role":"host","party_id":["8888"]}],
			"inputs":{"data":{"in"`, words: "dag.tasks.cut.parties: Split does not run at arbiter 9999; its roles are guest, host"},
		"a party that is none": {node: at, from: `"parties":[{"role":"host","party_id":["7777"]}]`,
			to:    `"parties":[{"role":"host","party_id":["6666"]}]`,
			words: "dag.tasks.psi_0.parties: dag.parties has no host 6666"},
		"prediction": {node: at, from: `"stage": "train"`, to: `"stage": "predict"`,
			words: "dag.tasks.cut.stage: predict"},
		"inheritance": {node: at, from: `"inheritance":null`,
			to: `"inheritance":{"job_id":"j0","task_list":["cut"]}`, words: "dag.conf.inheritance:"},
		"no scheduler": {node: at, from: `"scheduler_party_id":"9999",`,
			words: "dag.conf.scheduler_party_id: is required"},
		"no conf": {node: at, from: `"conf": {"scheduler`, to: `"c": {"scheduler`,
			words: "dag.conf: is required"},
		"a wrong type": {node: at, from: `"component_ref":"Split"`, to: `"component_ref":1`,
			words: "dag.tasks.cut.component_ref: is a JSON number"},
		"two values": {node: at, from: `"party_tasks": {`,
			to:    `"party_tasks": {"a":{"parties":[{"role":"host","party_id":["8888"]}],"tasks":{"fit":{"parameters":{"rounds":8}}}},`,
			words: "dag.party_tasks.host_8888.tasks.fit.parameters.rounds: is given twice"},
	} {
		t.Run(name, func(t *testing.T) {
			text := exampleJob
			if c.from != "" {
				require.Contains(t, text, c.from)
				text = strings.Replace(text, c.from, c.to, 1)
			}
			_, err := Translate([]byte(text), "j1", c.node, catalog(t))
			require.ErrorContains(t, err, c.words)
			require.NotEqual(t, bfia.CodeInternal, bfia.CodeOf(err))
		})
	}
}

func TestStatesAndVersions(t *testing.T) {
	for _, s := range []bfia.TaskState{bfia.TaskReady, bfia.TaskRunning, bfia.TaskSuccess, bfia.TaskFailed} {
		back, err := ParseState(StateOf(s))
		require.NoError(t, err)
		require.Equal(t, s, back)
	}
	_, err := ParseState("SUCCESS")
	require.ErrorContains(t, err, "status:")
	require.Equal(t, bfia.TaskRef{JobID: "j", TaskID: "j_a", TaskName: "a"}, Attempt("j", "a", 0))
	require.Equal(t, bfia.TaskRef{JobID: "j", TaskID: "j_a.v2", TaskName: "a", Attempt: 3},
		Attempt("j", "a", 2))
	require.True(
		t,
		JobEnded("canceled") && JobEnded("success") && !JobEnded("waiting") && !JobEnded("running") &&
			!JobEnded("ready"),
	)
}

// FuzzTranslate checks that any input is refused as a bad request or as not found, or translates to a
// document of which only this node's tasks can be planned.
func FuzzTranslate(f *testing.F) {
	f.Add(exampleJob, "8888")
	f.Add(
		`{"parties":[{"role":"guest","party_id":["9999"]}],"conf":{"scheduler_party_id":"9999","initiator_party_id":"9999"},"tasks":{"a":{"component_ref":"Split","inputs":{"data":{"in":{"task_output_artifact":{"producer_task":"a","output_artifact_key":"left"}}}}}}}`,
		"9999")
	b, err := os.ReadFile(filepath.Join("..", "testdata", "fate", "native-wire.json"))
	require.NoError(f, err)
	var captured []struct{ Body struct{ DAG json.RawMessage } }
	require.NoError(f, json.Unmarshal(b, &captured))
	f.Add(string(captured[0].Body.DAG), "JG0100001100000071")
	f.Fuzz(func(t *testing.T, dag, node string) {
		job, err := Translate([]byte(dag), "j1", node, catalog(t))
		if err != nil {
			require.Contains(t, []bfia.Code{bfia.CodeBadRequest, bfia.CodeNotFound, bfia.CodeTooLarge},
				bfia.CodeOf(err), "%v", err)
			return
		}
		again, err := Translate([]byte(dag), "j1", node, catalog(t))
		require.NoError(t, err)
		require.Equal(t, job.Document.Bytes(), again.Document.Bytes(),
			"the second role's call must find the same")
		plan, err := bfia.NewPlan(job.Document, catalog(t).Describe, node)
		if err != nil {
			require.NotEqual(t, bfia.CodeInternal, bfia.CodeOf(err), "%v", err)
			return
		}
		for _, task := range plan.Tasks {
			require.True(t,
				slices.ContainsFunc(task.Parts, func(p bfia.Part) bool { return p.NodeID == node }), "%s",
				task.Name)
		}
	})
}
