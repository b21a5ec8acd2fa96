package bfia

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestThreads checks that a component is given as many threads as its job requests cores.
func TestThreads(t *testing.T) {
	for milli, want := range map[int64]string{0: "", 500: "1", 1000: "1", 2500: "2"} {
		env := Environment(&ContainerSpec{Resources: Resources{CPUMilli: milli}}, System{})
		require.Equal(t, want, env["config.n_threads"], "%d", milli)
	}
}

// TestEnvironmentOfTheReferenceJob checks that the containers of the reference job get the environments that
// FATE-Flow 2.2.0 gave them, except for the intended differences.
func TestEnvironmentOfTheReferenceJob(t *testing.T) {
	var captured []map[string]string
	require.NoError(t, json.Unmarshal(vector(t, "fateflow-2.2.0.container-env.json"), &captured))
	require.Len(t, captured, 4)
	doc := parse(t, vector(t, "job_create_all.request.json")).WithJobID("202611221759091390050")
	describe := registered(t, vector(t, "provider_register.request.json"))
	plan, err := NewPlan(doc, describe, seedNode)
	require.NoError(t, err)
	ids := map[string]string{
		"intersect_rsa_1":      "c69073f7-fec8-40c4-be77-33d1dae58da5",
		"hetero_secureboost_1": "e08c9676-0d1f-4b45-b9eb-82b7a2028a69",
	}
	compared := 0
	for _, task := range plan.Tasks {
		for _, part := range task.PartsOf(seedNode) {
			want := maps.Clone(captured[compared])
			// Ours adds the trace, and says booleans as the job does where it gave booleans ("True" in
			// n_iter_no_change is a string of the job's).
			want["config.trace_id"] = "202611221759091390050"
			// optional in the specification (part 3, 3.3.1); FATE-Flow gives none
			want["system.control_port"] = "10086"
			if task.Name == "intersect_rsa_1" {
				require.Equal(t, "False", want["runtime.component.parameter.only_output_key"])
				want["runtime.component.parameter.only_output_key"] = "false"
				want["runtime.component.parameter.sync_intersect_ids"] = "true"
			} else {
				// FATE-Flow loses two of the three reports, and with them which report is which.
				require.Contains(t, want["runtime.component.output.train-ks"], "report2")
				for i, port := range []string{"train-loss", "train-auc"} {
					require.NotContains(t, want, "runtime.component.output."+port)
					want["runtime.component.output."+port] = fmt.Sprintf(`{"name": "%s", "namespace": "%s-%s-report-report%d"}`, ids[task.Name], part.Role, seedNode, i)
				}
			}
			run, err := NewContainerSpec(doc, describe, task.Name, part, ids)
			require.NoError(t, err)
			require.Equal(t, want, Environment(run, System{
				Storage:   "s3://127.0.0.1:9000?username=admin&password=12345678",
				Transport: "127.0.0.1:9377",
				Callback:  "http://127.0.0.1:9380/v1/platform/schedule/task/callback",
				LogPath:   "/data/projects/fate/fate_flow/logs",
				SessionID: SessionID(doc.JobID),
				Token:     SessionID(doc.JobID),
				TraceID:   doc.JobID, ControlPort: DefaultControlPort,
			}), "%s %s", task.Name, part.Self())
			require.Equal(t, Resources{}, run.Resources)
			compared++
		}
	}
	require.Equal(t, len(captured), compared)
}

// testComponents describes components for cases that the reference job does not have.
func testComponents(t testing.TB) Describe {
	ports := func(list ...string) []DataPort {
		var out []DataPort
		for i := 0; i < len(list); i += 2 {
			out = append(out, DataPort{Name: list[i], Category: list[i+1]})
		}
		return out
	}
	components := map[string]*Description{
		"psi": {
			RoleList:   []string{"guest", "host"},
			InputData:  ports("data", "dataset"),
			OutputData: ports("data", "dataset", "size", "metric"),
		},
		"split": {
			RoleList:   []string{"guest", "host"},
			InputData:  ports("data", "dataset"),
			OutputData: ports("test", "test_set", "train", "training_set"),
		},
		"lr": {
			RoleList:  []string{"guest", "host", "arbiter"},
			InputData: ports("train_data", "training_set", "test_data", "test_set", "warm", "model"),
			OutputData: ports("data", "dataset", "model", "model", "loss", "report", "auc", "metric", "ks",
				"report"),
		},
		"read": {RoleList: []string{"guest", "host"}, OutputData: ports("data", "dataset")},
		"two": {
			RoleList:  []string{"guest"},
			InputData: ports("model", "model", "first", "dataset", "second", "datasets"),
		},
	}
	return func(provider, version, component string) (*Description, error) {
		d, ok := components[component]
		if !ok || provider != "lab" || version != "1" {
			return nil, Errorf(CodeNotFound, "component %s is not registered here", component)
		}
		d.ComponentName = component
		return d, nil
	}
}

const testJob = `{
	"job_id": "j1",
	"dag": {"components": [
		{"name": "psi_0", "componentName": "psi", "provider": "lab", "version": "1", "output": [{"type": "dataset", "key": "d"}, {"type": "report", "key": "n"}]},
		{"name": "split_0", "componentName": "split", "provider": "lab", "version": "1",
			"input": [{"type": "dataset", "key": "psi_0.d"}],
			"output": [{"type": "training_set", "key": "train"}, {"type": "test_set", "key": "test"}]},
		{"name": "lr_0", "componentName": "lr", "provider": "lab", "version": "1",
			"input": [{"type": "dataset", "key": "split_0.train"}, {"type": "test_set", "key": "split_0.test"}],
			"output": [{"type": "metric", "key": "r0"}, {"type": "model", "key": "m"}, {"type": "report", "key": "r1"}, {"type": "dataset", "key": "d"}]},
		{"name": "lr_1", "componentName": "lr", "provider": "lab", "version": "1",
			"input": [{"type": "model", "key": "lr_0.m"}, {"type": "dataset", "key": "split_0.test"}]}
	]},
	"config": {
		"initiator": {"role": "guest", "node_id": "A"},
		"role": {"guest": ["A"], "host": ["B", "A"], "arbiter": ["C"]},
		"job_params": {"host": {"1": {"resources": {"cpu": 2, "memory": 4}}}},
		"task_params": {
			"common": {"psi_0": {"ids": ["id"], "big": 12345678901234567890, "x": 1e400}},
			"guest": {"0": {"psi_0": {"dataset_id": "ns#guest"}}},
			"host": {"0|1": {"psi_0": {"name": "hosts", "namespace": "ns", "label": "y"}}, "1": {"psi_0": {"name": "host1"}}}
		}
	}
}`

var labIDs = map[string]string{"psi_0": "t-psi", "split_0": "t-split", "lr_0": "t-lr0", "lr_1": "t-lr1"}

func specOf(t testing.TB, job, task string, part Part) *ContainerSpec {
	t.Helper()
	doc := parse(t, []byte(job))
	_, err := NewPlan(doc, testComponents(t), "")
	require.NoError(t, err)
	run, err := NewContainerSpec(doc, testComponents(t), task, part, labIDs)
	require.NoError(t, err)
	return run
}

func TestContainerSpecWithSeveralHosts(t *testing.T) {
	for _, test := range []struct {
		part      Part
		data      Address
		params    map[string]string
		resources Resources
	}{
		{Part{"guest", 0, "A"}, Address{"guest", "ns"}, map[string]string{}, Resources{}},
		{Part{"host", 0, "B"}, Address{"hosts", "ns"}, map[string]string{"label": "y"}, Resources{}},
		{Part{"host", 1, "A"}, Address{"host1", "ns"}, map[string]string{"label": "y"},
			Resources{2000, 4 << 30, 0, 0}},
	} {
		run := specOf(t, testJob, "psi_0", test.part)
		maps.Copy(test.params,
			map[string]string{"ids": `["id"]`, "big": "12345678901234567890", "x": "1e400"})
		require.Equal(t, test.params, run.Params, "what named the dataset is no parameter")
		require.Equal(t, []Binding{{Port: "data", Type: "dataset", Address: test.data}}, run.Inputs)
		require.Equal(t, []Binding{
			{"data", "dataset", "d",
				Address{"t-psi", test.part.Role + "-" + test.part.NodeID + "-dataset-d"}},
			{"size", "report", "n", Address{"t-psi", test.part.Role + "-" + test.part.NodeID + "-report-n"}},
		}, run.Outputs)
		require.Equal(t, test.resources, run.Resources)
		env := Environment(run, System{})
		require.Equal(t, test.part.Self(), env["config.self_role"])
		for self, node := range map[string]string{"guest.0": "A", "host.0": "B", "host.1": "A"} {
			require.Equal(t, node, env["config.node_id."+self])
			require.Equal(t, node, env["config.inst_id."+self])
		}
		require.NotContains(t, env, "config.node_id.arbiter.0", "the component does not run there")
	}
}

// TestContainerSpecOfAnArbiterWithoutData checks that inputs from tasks that do not run at the part's role
// are left out, whether or not the node knows those tasks: an arbiter has no data.
func TestContainerSpecOfAnArbiterWithoutData(t *testing.T) {
	doc := parse(t, []byte(testJob))
	for _, ids := range []map[string]string{labIDs, {"lr_1": "t-lr1", "lr_0": "t-lr0"}} {
		run, err := NewContainerSpec(doc, testComponents(t), "lr_1", Part{"arbiter", 0, "C"}, ids)
		require.NoError(t, err)
		require.Equal(t, []Binding{{"warm", "model", "lr_0.m", Address{"t-lr0", "arbiter-C-model-m"}}},
			run.Inputs)
	}
	env := Environment(specOf(t, testJob, "lr_0", Part{"arbiter", 0, "C"}), System{})
	for name := range env {
		require.NotContains(t, name, "runtime.component.input.")
	}
	require.Equal(t, `{"name": "t-lr0", "namespace": "arbiter-C-model-m"}`,
		env["runtime.component.output.model"])
	require.Equal(t, "C", env["config.node_id.arbiter.0"])
}

func TestContainerSpecOfModelsAndSets(t *testing.T) {
	host := Part{"host", 1, "A"}
	split := specOf(t, testJob, "split_0", host)
	require.Equal(t, []Binding{
		{"train", "training_set", "train", Address{"t-split", "host-A-training_set-train"}},
		{"test", "test_set", "test", Address{"t-split", "host-A-test_set-test"}},
	}, split.Outputs, "by the name of the kind, not by the position in the list")

	lr := specOf(t, testJob, "lr_0", host)
	require.Equal(t, []Binding{
		{"train_data", "dataset", "split_0.train", Address{"t-split", "host-A-training_set-train"}},
		{"test_data", "test_set", "split_0.test", Address{"t-split", "host-A-test_set-test"}},
	}, lr.Inputs, "the address has the type of the task that wrote it")
	require.Equal(t, []Binding{
		{"loss", "metric", "r0", Address{"t-lr0", "host-A-metric-r0"}},
		{"model", "model", "m", Address{"t-lr0", "host-A-model-m"}},
		{"auc", "report", "r1", Address{"t-lr0", "host-A-report-r1"}},
		{"data", "dataset", "d", Address{"t-lr0", "host-A-dataset-d"}},
	}, lr.Outputs, "report and metric are one kind, the n-th fills the n-th")

	warm := specOf(t, testJob, "lr_1", host)
	require.Equal(t, []Binding{
		{"warm", "model", "lr_0.m", Address{"t-lr0", "host-A-model-m"}},
		{"train_data", "dataset", "split_0.test", Address{"t-split", "host-A-test_set-test"}},
	}, warm.Inputs)
}

// TestContainerSpecOfFATEsTypes checks that the types of FATE's pipeline are taken and reach the addresses as
// they came.
func TestContainerSpecOfFATEsTypes(t *testing.T) {
	host := Part{"host", 1, "A"}
	fates := strings.NewReplacer(`{"type": "training_set", "key": "train"}`, `{"type": "data", "key": "train"}`,
		`{"type": "test_set", "key": "test"}`, `{"type": "validate_set", "key": "test"}`,
		`"type": "metric"`, `"type": "summary"`).Replace(testJob)
	require.NotEqual(t, testJob, fates)
	require.Equal(t, []Binding{
		{"test", "data", "train", Address{"t-split", "host-A-data-train"}},
		{"train", "validate_set", "test", Address{"t-split", "host-A-validate_set-test"}},
	}, specOf(t, fates, "split_0", host).Outputs, "by the position in the list, as in FATE-Flow")
	require.Equal(t, []Binding{
		{"train_data", "dataset", "split_0.train", Address{"t-split", "host-A-data-train"}},
		{"test_data", "test_set", "split_0.test", Address{"t-split", "host-A-validate_set-test"}},
	}, specOf(t, fates, "lr_0", host).Inputs)
	require.Equal(t, Binding{"loss", "summary", "r0", Address{"t-lr0", "host-A-summary-r0"}},
		specOf(t, fates, "lr_0", host).Outputs[0])
}

func TestAssign(t *testing.T) {
	ports := func(categories ...string) (list []DataPort) {
		for _, c := range categories {
			list = append(list, DataPort{Category: c})
		}
		return list
	}
	for _, test := range []struct {
		ports []DataPort
		kinds []string
		want  []int
	}{
		{ports("dataset"), []string{"dataset"}, []int{0}},
		{ports("dataset"), []string{"dataset", "dataset"}, []int{0, -1}},
		{ports("test_set", "training_set"), []string{"training_set", "test_set"}, []int{1, 0}},
		// The one that names its port exactly gets it, even if the vaguer one comes before it.
		{ports("test_set", "training_set"), []string{"dataset", "test_set"}, []int{1, 0}},
		{ports("training_set", "test_set"), []string{"dataset", "dataset"}, []int{0, 1}},
		{ports("datasets"), []string{"training_set"}, []int{0}},
		{ports("report", "metric", "report"), []string{"metric", "report", "report", "report"},
			[]int{0, 1, 2, -1}},
		{ports("model", "dataset"), []string{"report", "model"}, []int{-1, 0}},
		{ports("training_set", "dataset"), []string{"data", "validate_set"}, []int{0, 1}},
		{ports("data", "model", "anything"), []string{"dataset", "lr_model", "metrics"}, []int{0, 1, 2}},
		{nil, []string{"model"}, []int{-1}},
		{ports("model"), nil, []int{}},
	} {
		require.Equal(t, test.want, assign(test.ports, test.kinds), "%v for %v", test.ports, test.kinds)
	}
}

// TestFamilyOf checks FATE-Flow's rule, get_source_type of its translator.
func TestFamilyOf(t *testing.T) {
	for kind, want := range map[string]family{
		"data": familyData, "dataset": familyData, "datasets": familyData, "training_set": familyData,
		"test_set": familyData, "validate_set": familyData, "metadata": familyData,
		"dataframe": familyData, "dataset_model": familyData,
		"model": familyModel, "lr_model": familyModel, "models": familyModel,
		"report": familyMetric, "metric": familyMetric, "metrics": familyMetric, "anything": familyMetric,
		"Data": familyMetric, "train_set": familyMetric, "": familyMetric,
	} {
		require.Equal(t, want, familyOf(kind), kind)
	}
}

// TestContainerSpecRootDatasetWithInputs checks that a root dataset gets the first dataset port without an
// input of the DAG. If there is none, the job's values stay parameters.
func TestContainerSpecRootDatasetWithInputs(t *testing.T) {
	body := `{"job_id": "j1", "dag": {"components": [
		{"name": "psi_0", "componentName": "psi", "provider": "lab", "version": "1", "output": [{"type": "dataset", "key": "d"}]},
		{"name": "t", "componentName": %q, "provider": "lab", "version": "1", "input": [%s]}]},
		"config": {"initiator": {"node_id": "A"}, "role": {"guest": ["A"]}, "task_params": {"guest": {"0": {"t": %s}}}}}`
	fromPSI := Address{"t-psi", "guest-A-dataset-d"}
	input := `{"type": "dataset", "key": "psi_0.d"}`
	for _, test := range []struct {
		component, input, params string
		inputs                   []Binding
		left                     map[string]string
	}{
		{"two", input, `{"dataset_id": "ns#x", "a": 1}`,
			[]Binding{{"first", "dataset", "psi_0.d", fromPSI},
				{"second", "dataset", "", Address{"x", "ns"}}}, map[string]string{"a": "1"}},
		{"two", ``, `{"dataset_id": "ns#x"}`, []Binding{{"first", "dataset", "", Address{"x", "ns"}}},
			map[string]string{}},
		{"psi", input, `{"dataset_id": "ns#x"}`, []Binding{{"data", "dataset", "psi_0.d", fromPSI}},
			map[string]string{"dataset_id": "ns#x"}},
		{"psi", input, `{"name": "x", "namespace": "ns"}`, []Binding{{"data", "dataset", "psi_0.d", fromPSI}},
			map[string]string{"name": "x", "namespace": "ns"}},
		// FATE's Writer: where to write to is its own business, and need not be valid as a dataset's name.
		{"psi", input, `{"name": "../x", "namespace": "a b"}`,
			[]Binding{{"data", "dataset", "psi_0.d", fromPSI}},
			map[string]string{"name": "../x", "namespace": "a b"}},
		{"psi", input, `{"dataset_id": "no hash"}`, []Binding{{"data", "dataset", "psi_0.d", fromPSI}},
			map[string]string{"dataset_id": "no hash"}},
		{"read", ``, `{"name": "x", "namespace": "ns"}`, nil,
			map[string]string{"name": "x", "namespace": "ns"}},
		{"psi", ``, `{"dataset_id": "ns#x", "name": "n", "namespace": "m"}`,
			[]Binding{{"data", "dataset", "", Address{"x", "ns"}}}, map[string]string{"name": "n",
				"namespace": "m"}},
		{"psi", ``, `{"dataset_id": null, "name": "n", "namespace": "m"}`,
			[]Binding{{"data", "dataset", "", Address{"n", "m"}}}, map[string]string{"dataset_id": "null"}},
		{"psi", ``, `{"name": "n", "namespace": 7}`, nil, map[string]string{"name": "n", "namespace": "7"}},
	} {
		run := specOf(t, fmt.Sprintf(body, test.component, test.input, test.params), "t",
			Part{"guest", 0, "A"})
		require.Equal(t, test.inputs, run.Inputs, test.params)
		require.Equal(t, test.left, run.Params, test.params)
	}
}

func init() { labIDs["t"] = "t-t" }

func TestContainerSpecRefusals(t *testing.T) {
	guest := Part{"guest", 0, "A"}
	for _, test := range []struct {
		name    string
		task    string
		part    Part
		ids     map[string]string
		change  string
		value   any
		message string
		code    Code
	}{
		{name: "unknown task", task: "x", message: `task_name: job j1 has no task "x"`, code: CodeNotFound},
		{name: "no id", task: "psi_0", ids: map[string]string{}, message: `task psi_0: has no task id yet`,
			code: CodeConflict},
		{name: "upstream that did not run", task: "split_0", ids: map[string]string{"split_0": "t"},
			message: `task split_0: its input psi_0.d comes from a task that did not run here`,
			code:    CodeConflict},
		{name: "role that it doesn't run at", task: "psi_0", part: Part{"arbiter", 0, "C"},
			message: `task psi_0: does not run at arbiter.0 of C`, code: CodeConflict},
		{name: "node that doesn't play the part", task: "psi_0", part: Part{"host", 0, "A"},
			message: `task psi_0: does not run at host.0 of A`, code: CodeConflict},
		{name: "unknown component", task: "psi_0", change: "dag.components.0.componentName", value: "x",
			message: `task psi_0: component x is not registered here`, code: CodeNotFound},
		{name: "unknown upstream component", task: "split_0", change: "dag.components.0.componentName",
			value: "x", message: `task psi_0: component x is not registered here`, code: CodeNotFound},
		{name: "unknown upstream", task: "split_0", change: "dag.components.0.name", value: "x",
			message: `task split_0: its input psi_0.d comes from a task that the DAG does not have`,
			code:    CodeConflict},
		{name: "parameters", task: "psi_0", change: "config.task_params.guest.0.psi_0", value: "x",
			message: `config.task_params.guest.0.psi_0: is a JSON string, must be an object`,
			code:    CodeBadRequest},
		{name: "dataset", task: "psi_0", change: "config.task_params.guest.0.psi_0.dataset_id", value: "x",
			message: `config.task_params.guest.0.psi_0.dataset_id: "x" is not of the form namespace#name`,
			code:    CodeBadRequest},
		{name: "resources", task: "psi_0", change: "config.job_params.guest.0.resources", value: 1,
			message: `config.job_params.guest.0.resources: is a JSON number, must be an object`,
			code:    CodeBadRequest},
		{name: "input", task: "split_0", change: "dag.components.1.componentName", value: "read",
			message: `task split_0: input[0]: read has no further input for a dataset (its inputs: none)`,
			code:    CodeBadRequest},
		{name: "output", task: "psi_0", change: "dag.components.0.componentName", value: "read",
			message: `task psi_0: output[1]: read has no further output for a report (its outputs: dataset data)`, code: CodeBadRequest},
	} {
		t.Run(test.name, func(t *testing.T) {
			job := []byte(testJob)
			if test.change != "" {
				job = edit(t, job, test.change, test.value)
			}
			if test.part == (Part{}) {
				test.part = guest
			}
			if test.ids == nil {
				test.ids = labIDs
			}
			_, err := NewContainerSpec(parse(t, job), testComponents(t), test.task, test.part, test.ids)
			requireRefusal(t, err, test.code, test.message)
		})
	}
}

func TestNamedDataset(t *testing.T) {
	for text, want := range map[string]*Address{
		`{}`:                              nil,
		`{"dataset_id": "a#b"}`:           {"b", "a"},
		`{"dataset_id": ""}`:              nil,
		`{"dataset_id": null}`:            nil,
		`{"name": "b"}`:                   nil,
		`{"namespace": "a"}`:              nil,
		`{"name": "b", "namespace": "a"}`: {"b", "a"},
		`{"name": "b", "namespace": "a", "dataset_id": "c#d"}`: {"d", "c"},
		`{"name": "b", "namespace": ""}`:                       nil,
		`{"name": ["b"], "namespace": "a"}`:                    nil,
	} {
		var values map[string]json.RawMessage
		require.NoError(t, json.Unmarshal([]byte(text), &values))
		got, _, err := namedDataset(values)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
	require.Equal(t, "a#b", Address{Name: "b", Namespace: "a"}.String())
	form := ` can contain only letters, digits, '_', '-' and '.', and must start with a letter or digit`
	for text, message := range map[string]string{
		`{"dataset_id": "a"}`:                `dataset_id: "a" is not of the form namespace#name`,
		`{"dataset_id": "#b"}`:               `dataset_id: "#b" is not of the form namespace#name`,
		`{"dataset_id": "a#"}`:               `dataset_id: "a#" is not of the form namespace#name`,
		`{"dataset_id": "a#b#c"}`:            `dataset_id: "a#b#c" is not of the form namespace#name`,
		`{"dataset_id": "../x#b"}`:           `dataset_id: "../x#b" is not of the form namespace#name`,
		`{"dataset_id": 1}`:                  `dataset_id: is a JSON number, must be a string`,
		`{"name": "../b", "namespace": "a"}`: `name: "../b"` + form,
		`{"name": "b", "namespace": "/etc"}`: `namespace: "/etc"` + form,
	} {
		var values map[string]json.RawMessage
		require.NoError(t, json.Unmarshal([]byte(text), &values))
		_, _, err := namedDataset(values)
		requireRefusal(t, err, CodeBadRequest, message)
	}
}
