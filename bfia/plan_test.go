package bfia

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const seedNode = "JG0100001100000010"

func TestPlanOfTheReferenceJob(t *testing.T) {
	doc := parse(t, vector(t, "job_create_all.request.json")).WithJobID("202611221759091390050")
	plan, err := NewPlan(doc, registered(t, vector(t, "provider_register.request.json")), "")
	require.NoError(t, err)
	parts := []Part{{"guest", 0, seedNode}, {"host", 0, seedNode}}
	require.Equal(t, &Plan{
		JobID: "202611221759091390050", FlowID: "JG0100001100000000", Initiator: Initiator{"guest",
			seedNode}, SyncType: SyncPoll,
		Tasks: []PlannedTask{
			{
				Name:      "intersect_rsa_1",
				Component: "Intersection",
				Provider:  "unionpay",
				Version:   "2.0.0",
				Parts:     parts,
			},
			{
				Name:      "hetero_secureboost_1",
				Component: "HeteroSecureBoost",
				Provider:  "unionpay",
				Version:   "2.0.0",
				DependsOn: []string{"intersect_rsa_1"},
				Parts:     parts,
			},
		},
	}, plan)
	task, ok := plan.Task("hetero_secureboost_1")
	require.True(t, ok)
	require.Equal(t, []string{seedNode}, task.Nodes())
	require.Equal(t, parts, task.PartsOf(seedNode))
	require.Empty(t, task.PartsOf("other"))
	_, ok = plan.Task("other")
	require.False(t, ok)
	require.Equal(t, []string{"intersect_rsa_1", "hetero_secureboost_1"},
		plan.WithDependents("intersect_rsa_1"))
	require.Equal(t, []string{"hetero_secureboost_1"}, plan.WithDependents("hetero_secureboost_1"))
	require.Empty(t, plan.WithDependents("other"))
}

// TestPlanWithAnEmptyRole checks that a role without nodes takes no part: the specification's config names
// all three roles (part 2, 6.6).
func TestPlanWithAnEmptyRole(t *testing.T) {
	for _, arbiter := range []string{`[]`, `null`} {
		body := strings.Replace(string(vector(t, "job_create_all.request.json")), `"role": {`,
			`"role": {"arbiter": `+arbiter+`,`, 1)
		body = strings.ReplaceAll(body, `"common": {`, `"arbiter": {}, "common": {`)
		plan, err := NewPlan(parse(t, []byte(body)),
			registered(t, vector(t, "provider_register.request.json")), "")
		require.NoError(t, err)
		require.Len(t, plan.Tasks[0].Parts, 2)
	}
}

// TestPlanRolesAreTheIntersection checks that a component runs at the roles that both its description and the
// job have.
func TestPlanRolesAreTheIntersection(t *testing.T) {
	body := vector(t, "job_create_all.request.json")
	body = edit(t, body, "config.role.host", []any{"B", "C"})
	body = edit(t, body, "config.role.arbiter", []any{"D"})
	body = edit(t, body, "config.role.auditor", []any{"E"})
	body = edit(t, body, "dag.components.1.componentName", "HeteroLR")
	body = edit(t, body, "dag.components.1.output", []any{})
	plan, err := NewPlan(parse(t, body), registered(t, vector(t, "provider_register.request.json")), "")
	require.NoError(t, err)
	require.Equal(t, []Part{{"guest", 0, seedNode}, {"host", 0, "B"}, {"host", 1, "C"}}, plan.Tasks[0].Parts)
	require.Equal(t, []string{"B", "C", "D", seedNode}, plan.Tasks[1].Nodes())
	require.Equal(t, []Part{{"arbiter", 0, "D"}}, plan.Tasks[1].PartsOf("D"))
}

func TestPlanRefusals(t *testing.T) {
	type change struct {
		path  string
		value any
	}
	const registration = "registration."
	port := func(typ, key string) any { return map[string]any{"type": typ, "key": key} }
	form := ` can contain only letters, digits, '_', '-' and '.', and must start with a letter or digit`
	for _, test := range []struct {
		name    string
		changes []change
		message string
		code    Code // 0 is CodeBadRequest
	}{
		{name: "no component", changes: []change{{"dag.components", []any{}}},
			message: "dag.components: at least one component is required"},
		{name: "self-loop", changes: []change{{"dag.components.0.input",
			[]any{port("dataset", "intersect_rsa_1.train_data")}}},
			message: "dag.components: task intersect_rsa_1 depends on itself"},
		{name: "cycle", changes: []change{{"dag.components.0.input",
			[]any{port("dataset", "hetero_secureboost_1.data0")}}},
			message: "dag.components: the tasks intersect_rsa_1, hetero_secureboost_1 form a cycle"},
		{name: "unknown upstream", changes: []change{{"dag.components.1.input.0.key",
			"intersect.train_data"}},
			message: `dag.components[1].input[0].key: the DAG has no task "intersect"; did you mean intersect_rsa_1?`},
		{name: "unknown output", changes: []change{{"dag.components.1.input.0.key", "intersect_rsa_1.data"}},
			message: `dag.components[1].input[0].key: task "intersect_rsa_1" has no dataset output "data"`},
		{name: "output of another type", changes: []change{{"dag.components.1.input.0.type", "model"}},
			message: `dag.components[1].input[0].key: task "intersect_rsa_1" has no model output "train_data"`},
		{name: "input without a task", changes: []change{{"dag.components.1.input.0.key", "train_data"}},
			message: `dag.components[1].input[0].key: "train_data" is not of the form task.output`},
		{name: "input without an output", changes: []change{{"dag.components.1.input.0.key",
			"intersect_rsa_1."}},
			message: `dag.components[1].input[0].key: "intersect_rsa_1." is not of the form task.output`},
		{name: "an input too many", changes: []change{{"dag.components.1.input",
			[]any{port("dataset", "intersect_rsa_1.train_data"),
				port("dataset", "intersect_rsa_1.train_data")}}},
			message: "dag.components[1] (hetero_secureboost_1).input[1]: HeteroSecureBoost has no further input for a dataset (its inputs: dataset train_data)"},
		{name: "an input of a type that the component doesn't take", changes: []change{
			{"dag.components.0.output", []any{port("report", "report0")}},
			{"dag.components.1.input", []any{port("report", "intersect_rsa_1.report0")}}},
			message: "dag.components[1] (hetero_secureboost_1).input[0]: HeteroSecureBoost has no further input for a report (its inputs: dataset train_data)"},
		{name: "an input to a component without any",
			changes: []change{{registration + "components_description.HeteroSecureBoost.inputData", []any{}}},
			message: "dag.components[1] (hetero_secureboost_1).input[0]: HeteroSecureBoost has no further input for a dataset (its inputs: none)"},
		{name: "an output too many", changes: []change{{"dag.components.0.output",
			[]any{port("dataset", "train_data"), port("report", "a"), port("metric", "b")}}},
			message: "dag.components[0] (intersect_rsa_1).output[2]: Intersection has no further output for a metric (its outputs: dataset train_data, report train-intersection)"},
		{name: "an output whose type is no data because of its capital letter, before a report",
			changes: []change{{"dag.components.0.output", []any{port("Data", "a"), port("report", "b")}},
				{"dag.components.1.input", []any{}}},
			message: `dag.components[0] (intersect_rsa_1).output[0].type: "Data" counts as a metric, because it contains neither "data" nor "model" in lower case; so Intersection has no further output for output[1] (report) (its outputs: dataset train_data, report train-intersection)`},
		{name: "such an output after a report",
			changes: []change{{"dag.components.0.output", []any{port("report", "b"), port("Data", "a")}},
				{"dag.components.1.input", []any{}}},
			message: `dag.components[0] (intersect_rsa_1).output[1].type: "Data" counts as a metric, because it contains neither "data" nor "model" in lower case; so Intersection has no further output (its outputs: dataset train_data, report train-intersection)`},
		{name: "an output's type", changes: []change{{"dag.components.0.output.0.type", "../x"}},
			message: `dag.components[0].output[0].type: "../x"` + form},
		{name: "an output of a family that the component doesn't have",
			changes: []change{{"dag.components.0.output.0.type", "model"},
				{"dag.components.1.input.0.type", "model"}},
			message: "dag.components[0] (intersect_rsa_1).output[0]: Intersection has no further output for a model (its outputs: dataset train_data, report train-intersection)"},
		{name: "an output twice", changes: []change{{"dag.components.1.output.3.key", "report0"}},
			message: `dag.components[1].output[3]: report "report0" is given twice`},
		{name: "an output's key", changes: []change{{"dag.components.0.output.0.key", "../x"}},
			message: `dag.components[0].output[0].key: "../x"` + form},
		{name: "duplicate names", changes: []change{{"dag.components.1.name", "intersect_rsa_1"}},
			message: `dag.components[1].name: "intersect_rsa_1" is already the name of components[0]`},
		{name: "name missing", changes: []change{{"dag.components.1.name", nil}},
			message: `dag.components[1].name: is required`},
		{name: "name with a dot", changes: []change{{"dag.components.1.name", "a.b"}},
			message: `dag.components[1].name: "a.b" contains a '.', which separates a task from its output`},
		{name: "component missing", changes: []change{{"dag.components.0.componentName", ""}},
			message: `dag.components[0].componentName: is required`},
		{name: "provider missing", changes: []change{{"dag.components.0.provider", nil}},
			message: `dag.components[0].provider: is required`},
		{name: "version unfit", changes: []change{{"dag.components.0.version", "2/0"}},
			message: `dag.components[0].version: "2/0"` + form},
		{name: "unknown provider", changes: []change{{"dag.components.1.version", "3.0.0"}},
			code:    CodeNotFound,
			message: "dag.components[1] (hetero_secureboost_1): provider unionpay:3.0.0 is not registered here"},
		{name: "unknown component", changes: []change{{"dag.components.0.componentName", "PSI"}},
			code:    CodeNotFound,
			message: "dag.components[0] (intersect_rsa_1): provider unionpay:2.0.0 has no component PSI"},
		{name: "no role", changes: []change{{"config.role", map[string]any{}}},
			message: "config.role: at least one role with a node is required"},
		{name: "only empty roles", changes: []change{{"config.role.guest", []any{}},
			{"config.role.host", []any{}}},
			message: "config.role: at least one role with a node is required"},
		{name: "a role without a node, with parameters", changes: []change{{"config.role.host", []any{}}},
			message: "config.job_params.host: config.role has no node of that role"},
		{name: "parameters of an unknown role",
			changes: []change{{"config.task_params.arbiter.0.intersect_rsa_1.a", 1}},
			message: "config.task_params.arbiter: config.role has no node of that role"},
		{name: "component without a matching role",
			changes: []change{{registration + "components_description.Intersection.roleList",
				[]any{"arbiter", "auditor"}}},
			message: "dag.components[0] (intersect_rsa_1): Intersection runs at the roles arbiter, auditor, but config.role has no node for any of them"},
		{name: "a role's name", changes: []change{{"config.role.a/b", []any{"A"}}},
			message: `config.role: "a/b"` + form},
		{name: "a node's id", changes: []change{{"config.role.host", []any{"A", "b c"}}},
			message: `config.role.host[1]: "b c"` + form},
		{name: "an empty node's id", changes: []change{{"config.role.host", []any{""}}},
			message: `config.role.host[0]: is required`},
		{name: "a node twice in a role", changes: []change{{"config.role.host", []any{"A", "B", "A"}}},
			message: `config.role.host[2]: A has this role twice`},
		{name: "no initiator", changes: []change{{"config.initiator", nil}},
			message: "config.initiator.node_id: is required"},
		{name: "index beyond the nodes", changes: []change{{"config.task_params.host.0|1.intersect_rsa_1.a",
			1}},
			message: "config.task_params.host.0|1: index 1 is out of range: the role has the indexes 0 to 0"},
		{name: "resources", changes: []change{{"config.job_params.host.0.resources.cpu", "2"}},
			message: "config.job_params.host.0.resources.cpu: is a JSON string, must be a number"},
		{name: "requirements of an unknown task",
			changes: []change{{"config.job_params.common.requires",
				map[string]any{"intersect": map[string]any{"gpu": "1"}}}},
			message: "config.job_params.common.requires.intersect: the DAG has no task of that name; did you mean intersect_rsa_1?"},
		{name: "common parameters of an unknown task",
			changes: []change{{"config.task_params.common.intersect.a", 1}},
			message: "config.task_params.common.intersect: the DAG has no task of that name; did you mean intersect_rsa_1?"},
		{name: "parameters of a misspelt task",
			changes: []change{{"config.task_params.common.intersect_rsa1.a", 1}},
			message: "config.task_params.common.intersect_rsa1: the DAG has no task of that name; " +
				"did you mean intersect_rsa_1?"},
		{name: "a role's parameters of an unknown task",
			changes: []change{{"config.task_params.host.0.intersect.a", 1}},
			message: "config.task_params.host.0.intersect: the DAG has no task of that name; did you mean intersect_rsa_1?"},
		{name: "parameters that are no object",
			changes: []change{{"config.task_params.host.0.intersect_rsa_1", "x"}},
			message: "config.task_params.host.0.intersect_rsa_1: is a JSON string, must be an object"},
		{name: "missing required parameter", changes: []change{
			{registration + "components_description.Intersection.inputParam.6.optional", false},
			{registration + "components_description.Intersection.inputParam.6.defaultValue", nil}},
			message: `config.task_params: task intersect_rsa_1 at guest.0 has no parameter "salt", which Intersection requires`},
		{name: "required parameter missing at one part", changes: []change{
			{registration + "components_description.Intersection.inputParam.6.optional", "false"},
			{registration + "components_description.Intersection.inputParam.6.defaultValue", nil},
			{"config.task_params.guest.0.intersect_rsa_1.salt", "1"}},
			message: `config.task_params: task intersect_rsa_1 at host.0 has no parameter "salt", which Intersection requires`},
		{name: "too large a parameter", changes: []change{{"config.task_params.common.intersect_rsa_1.id",
			strings.Repeat("x",
				MaxParameterBytes-len("runtime.component.parameter.id=")+1)}}, code: CodeTooLarge,
			message: fmt.Sprintf("config.task_params: task intersect_rsa_1 at guest.0: id takes %d bytes, but an environment variable holds only %d", 131072, 131071)},
		{name: "too large only with its spaces",
			changes: []change{{"config.task_params.common.intersect_rsa_1.id",
				make([]int, 45000)}}, code: CodeTooLarge,
			message: fmt.Sprintf("config.task_params: task intersect_rsa_1 at guest.0: id takes %d bytes, but an environment variable holds only %d", 31+3*45000, 131071)},
		{name: "NUL", changes: []change{{"config.task_params.host.0.intersect_rsa_1.id", "a\x00b"}},
			message: "config.task_params: task intersect_rsa_1 at host.0: id contains a NUL character"},
		{name: "a parameter's name with =",
			changes: []change{{"config.task_params.common.intersect_rsa_1.a=b", 1}},
			message: `config.task_params: task intersect_rsa_1: "a=b" is not a valid parameter name`},
		{name: "a parameter's name with NUL",
			changes: []change{{"config.task_params.common.intersect_rsa_1.a\x00", 1}},
			message: `config.task_params: task intersect_rsa_1: "a\x00" is not a valid parameter name`},
		{name: "a parameter without a name",
			changes: []change{{"config.task_params.common.intersect_rsa_1.", 1}},
			message: `config.task_params: task intersect_rsa_1: "" is not a valid parameter name`},
		{name: "dataset_id without #",
			changes: []change{{"config.task_params.host.0.intersect_rsa_1.dataset_id", "test_host"}},
			message: `config.task_params.host.0.intersect_rsa_1.dataset_id: "test_host" is not of the form namespace#name`},
		{name: "dataset_id that leaves its folder",
			changes: []change{{"config.task_params.host.0.intersect_rsa_1.dataset_id", "a#../../b"}},
			message: `config.task_params.host.0.intersect_rsa_1.dataset_id: "a#../../b" is not of the form namespace#name`},
		{name: "dataset_id of a wrong type",
			changes: []change{{"config.task_params.host.0.intersect_rsa_1.dataset_id", 7}},
			message: `config.task_params.host.0.intersect_rsa_1.dataset_id: is a JSON number, must be a string`},
	} {
		t.Run(test.name, func(t *testing.T) {
			job, registration := vector(t, "job_create_all.request.json"), vector(t,
				"provider_register.request.json")
			for _, c := range test.changes {
				if path, ok := strings.CutPrefix(c.path, "registration."); ok {
					registration = edit(t, registration, path, c.value)
				} else {
					job = edit(t, job, c.path, c.value)
				}
			}
			if test.code == 0 {
				test.code = CodeBadRequest
			}
			_, err := NewPlan(parse(t, job), registered(t, registration), "")
			requireRefusal(t, err, test.code, test.message)
		})
	}
}

// TestPlanChecksTheParametersOfOneNode checks that a party checks the parameters of its own parts only.
func TestPlanChecksTheParametersOfOneNode(t *testing.T) {
	job := edit(t, vector(t, "job_create_all.request.json"), "config.role.host", []any{"B"})
	job = edit(t, job, "config.task_params.host.0.intersect_rsa_1.id", "a\x00b")
	describe := registered(t, vector(t, "provider_register.request.json"))
	_, err := NewPlan(parse(t, job), describe, seedNode)
	require.NoError(t, err)
	for _, node := range []string{"", "B"} {
		_, err = NewPlan(parse(t, job), describe, node)
		requireRefusal(t, err, CodeBadRequest,
			"config.task_params: task intersect_rsa_1 at host.0: id contains a NUL character")
	}
}

// TestPlanLargestParameter checks that a parameter of exactly the limit is accepted.
func TestPlanLargestParameter(t *testing.T) {
	value := strings.Repeat("x", MaxParameterBytes-len("runtime.component.parameter.id="))
	job := edit(t, vector(t, "job_create_all.request.json"), "config.task_params.common.intersect_rsa_1.id",
		value)
	_, err := NewPlan(parse(t, job), registered(t, vector(t, "provider_register.request.json")), "")
	require.NoError(t, err)
}

// TestPlanWhenDescribeBreaks checks that a failing Describe is an internal error, not the document's.
func TestPlanWhenDescribeBreaks(t *testing.T) {
	broken := errors.New("connection refused")
	_, err := NewPlan(parse(t, vector(t, "job_create_all.request.json")),
		func(string, string, string) (*Description, error) { return nil, broken }, "")
	require.ErrorIs(t, err, broken)
	require.Equal(t, CodeInternal, CodeOf(err))
	require.EqualError(t, err, "dag.components[0] (intersect_rsa_1): connection refused")
}

func testComponent(name string, upstreams ...string) Component {
	c := Component{
		Name:          name,
		ComponentName: "any",
		Provider:      "p",
		Version:       "1",
		Output:        []Port{{"dataset", "out"}},
	}
	for _, u := range upstreams {
		c.Input = append(c.Input, Port{"dataset", u + ".out"})
	}
	return c
}

func order(t testing.TB, components []Component) []string {
	t.Helper()
	place := map[string]int{}
	for i, c := range components {
		place[c.Name] = i
	}
	indexes, err := topological(components, place)
	require.NoError(t, err)
	var names []string
	for _, i := range indexes {
		names = append(names, components[i].Name)
	}
	return names
}

func TestTopologicalKeepsTheDocumentsOrder(t *testing.T) {
	require.Equal(t, []string{"a", "b", "c"},
		order(t, []Component{testComponent("a"), testComponent("b"), testComponent("c", "a")}))
	require.Equal(t, []string{"a", "b", "c"},
		order(t, []Component{testComponent("b", "a"), testComponent("a"), testComponent("c")}))
	require.Equal(
		t,
		[]string{"c", "b", "a", "d"},
		order(
			t,
			[]Component{
				testComponent("a", "b"),
				testComponent("b", "c"),
				testComponent("c"),
				testComponent("d", "a"),
			},
		),
	)
}

// TestTopologicalNamesTheCycle checks that only the tasks of the cycle are named, not those that depend on
// it.
func TestTopologicalNamesTheCycle(t *testing.T) {
	components := []Component{
		testComponent("behind", "b"),
		testComponent("a", "b", "free"),
		testComponent("b", "c"),
		testComponent("c", "a"),
		testComponent("free"),
	}
	place := map[string]int{"behind": 0, "a": 1, "b": 2, "c": 3, "free": 4}
	_, err := topological(components, place)
	requireRefusal(t, err, CodeBadRequest, "dag.components: the tasks b, c, a form a cycle")
}

// TestTopologicalLongChain checks that a long chain in reverse order is sorted in less than quadratic time. A
// partner's document can be as long as the limit of its body.
func TestTopologicalLongChain(t *testing.T) {
	const n = 50000
	components := make([]Component, n)
	for i := range components {
		if i < n-1 {
			components[i] = testComponent(fmt.Sprint("t", i), fmt.Sprint("t", i+1))
		} else {
			components[i] = testComponent(fmt.Sprint("t", i))
		}
	}
	begin := time.Now()
	names := order(t, components)
	require.Less(t, time.Since(begin), 10*time.Second,
		"linear takes a few hundredths of a second, quadratic minutes")
	require.Equal(t, fmt.Sprint("t", n-1), names[0])
	require.Equal(t, "t0", names[n-1])
}
