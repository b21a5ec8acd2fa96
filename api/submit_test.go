package api

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"

	"hutong/activities"
	"hutong/bfia"
	"hutong/workflows"
)

// The captured job works byte for byte, in both dialects, from the platform through the scheduler to the
// workflow.
func TestSubmit(t *testing.T) {
	p := newParty(t).withProvider().withData()
	body := vector(t, "job_create_all.request.json")
	for _, path := range []string{bfia.PathPlatformCreateAll, bfia.PathV2CreateAll} {
		r := p.good(post(path, body))
		var created bfia.JobCreated
		r.into(&created)
		require.Regexp(t, `^\d{21}$`, created.JobID)
		require.Contains(t, p.engine.started(), workflows.SchedulerJobID(created.JobID))
		require.Equal(t, path == bfia.PathV2CreateAll, r.Message == "success")
		require.Equal(t, path == bfia.PathPlatformCreateAll, r.Msg == "success")
	}
	require.Len(t, p.engine.started(), 2, "a job without an id is a new one")

	// With an id of the client's it starts nothing twice, and another job under that id is a conflict.
	for range 3 {
		r := p.good(post(bfia.PathPlatformCreateAll, job(t, "own-1")))
		var created bfia.JobCreated
		r.into(&created)
		require.Equal(t, "own-1", created.JobID)
	}
	require.Len(t, p.engine.started(), 3)
	p.bad(post(bfia.PathPlatformCreateAll, job(t, "own-1", "0.5", "0.25")), 409, bfia.CodeConflict, "own-1")
	require.Len(t, p.engine.started(), 3)
}

// TestSubmitToOlderWorker checks that a job is created, at its scheduler and at a participant, by a control
// worker that knows only the older of the two updates.
func TestSubmitToOlderWorker(t *testing.T) {
	p := newParty(t).withProvider().withData()
	p.engine.older = true
	p.good(post(bfia.PathPlatformCreateAll, job(t, "j1")))
	p.good(post(bfia.PathCreate, job(t, "j1")).from(guest))
	require.Len(t, p.engine.started(), 2)
}

// Parameters that contradict the published descriptions become warnings in the answer. A strict party refuses
// the job, as initiator and as participant.
func TestSubmitWarns(t *testing.T) {
	p := newParty(t).withProvider().withData()
	var created bfia.JobCreated
	p.good(post(bfia.PathPlatformCreateAll, vector(t, "job_create_all.request.json"))).into(&created)
	require.Contains(t, created.Warnings, bfia.Warning{Task: second, Role: "guest.0, host.0",
		Parameter: "objective_param",
		Message:   "is an object, must be a string (type string)"})

	strict := newParty(t, func(c *Config) { c.StrictParameters = true }).withProvider().withData()
	words := []string{"config.task_params: task hetero_secureboost_1 at guest.0, host.0: parameter ", "more)"}
	strict.bad(post(bfia.PathPlatformCreateAll, job(t, "j1")), 400, bfia.CodeBadRequest, words...)
	strict.bad(post(bfia.PathCreate, job(t, "j1")).from(guest), 200, bfia.CodeBadRequest, words...)
	require.Empty(t, strict.engine.started())
}

// A job that can't run is refused before anything is created, with an error that names the field.
func TestSubmitRefuses(t *testing.T) {
	p := newParty(t).withProvider().withData()
	component := func(i int, more ...any) []any { return append([]any{"dag", "components", i}, more...) }
	config := func(more ...any) []any { return append([]any{"config"}, more...) }
	for name, c := range map[string]struct {
		place  []any
		value  any
		status int
		words  string
	}{
		"cycle": {component(0, "input"), []any{map[string]any{"type": "dataset", "key": second + ".data0"}},
			400,
			"dag.components: the tasks intersect_rsa_1, hetero_secureboost_1 form a cycle"},
		"itself": {component(0, "input"), []any{map[string]any{"type": "dataset", "key": first +
			".train_data"}}, 400,
			"dag.components: task intersect_rsa_1 depends on itself"},
		"unknown upstream": {component(1, "input", 0, "key"), "nobody.data", 400,
			`dag.components[1].input[0].key: the DAG has no task "nobody"`},
		"unknown output": {component(1, "input", 0, "key"), first + ".nothing", 400,
			`dag.components[1].input[0].key: task "intersect_rsa_1" has no dataset output "nothing"`},
		"output's kind": {component(1, "input", 0, "type"), "model", 400, "dag.components[1].input[0]"},
		"key's form": {component(1, "input", 0, "key"), "train_data", 400,
			"is not of the form task.output"},
		"unknown component": {component(1, "componentName"), "HeteroMagic", 404,
			`dag.components[1] (hetero_secureboost_1)`},
		"unknown provider": {component(1, "provider"), "nobody", 404,
			`dag.components[1] (hetero_secureboost_1)`},
		"unknown version": {component(1, "version"), "9.9.9", 404,
			`dag.components[1] (hetero_secureboost_1)`},
		"same name":         {component(1, "name"), first, 400, "dag.components[1].name"},
		"name's characters": {component(1, "name"), "a/b", 400, "dag.components[1].name"},
		"too many outputs": {component(0, "output", 1, "type"), "model", 400,
			"dag.components[0] (intersect_rsa_1)"},
		"no components": {[]any{"dag", "components"}, []any{}, 400, "dag.components: at least one"},
		"no dag":        {[]any{"dag"}, nil, 400, "dag: is required"},
		"dag's type":    {[]any{"dag"}, "graph", 400, "dag: is a JSON string, must be an object"},
		"components' type": {[]any{"dag", "components"}, map[string]any{}, 400,
			"dag.components: is a JSON object, must be a list"},
		"a component's type": {component(1), 7, 400,
			"dag.components[1]: is a JSON number, must be an object"},
		"a name's type": {component(1, "name"), true, 400,
			"dag.components[1].name: is a JSON bool, must be a string"},
		"a key's type": {component(1, "input", 0, "key"), 1, 400,
			"dag.components[1].input[0].key: is a JSON number"},
		"no config": {config(), nil, 400, "config: is required"},
		"no role":   {config("role"), map[string]any{}, 400, "config.role: at least one role"},
		"no node for a role": {config("role", "host"), []any{}, 400,
			"config.job_params.host: config.role has no node of that role"},
		"role's type": {config("role", "host"), "x", 400,
			"config.role.host: is a JSON string, must be a list"},
		"node's type": {config("role", "host"), []any{5}, 400,
			"config.role.host[0]: is a JSON number, must be a string"},
		"role twice":      {config("role", "host"), []any{guest, guest}, 400, "config.role.host[1]"},
		"role for no one": {config("role"), map[string]any{"observer": []any{guest}}, 400, ""},
		"no index": {config("task_params", "host"), map[string]any{"1": map[string]any{}}, 400,
			"config.task_params.host.1: index 1"},
		"index's form": {config("task_params", "host"), map[string]any{"first": map[string]any{}}, 400,
			"config.task_params.host.first"},
		"unknown task": {config("task_params", "common"), map[string]any{"intersekt": map[string]any{}},
			400, "config.task_params.common.intersekt: the DAG has no task of that name"},
		"resources": {config("job_params", "guest", "0", "resources", "cpu"), "all", 400,
			"config.job_params.guest.0.resources.cpu"},
		"large parameter": {config("task_params", "common", first, "id"), strings.Repeat("x", 130<<10),
			413, "intersect_rsa_1"},
		"NUL": {config("task_params", "common", first, "id"), "a\x00b", 400, "NUL"},
		"unknown dataset": {config("task_params", "guest", "0", first, "dataset_id"), "testspace#nothing",
			404, `config.task_params.guest.0.intersect_rsa_1.dataset_id: JG0100001100000010 has no dataset "testspace#nothing"`},
		"host's dataset": {config("task_params", "host", "0", first, "dataset_id"), "testspace#nothing",
			404, "config.task_params.host.0.intersect_rsa_1.dataset_id"},
		"dataset's form": {config("task_params", "guest", "0", first, "dataset_id"), "no-namespace", 400,
			"dataset_id"},
		"no route": {config("role", "host"), []any{"JG999"}, 404,
			"config.role: the route table has no node JG999; correct the node id, or make it a partner of " +
				"JG0100001100000010: with 'hutong partner invite JG999', or in routes of its configuration"},
		"initiator": {config("initiator", "node_id"), host, 400,
			"config.initiator.node_id: is \"JG0110017800000000\", this party is JG0100001100000010"},
		"no initiator":    {config("initiator"), nil, 400, "config.initiator.node_id"},
		"job_id's form":   {[]any{"job_id"}, "../x", 400, "job_id:"},
		"job_id's type":   {[]any{"job_id"}, 5, 400, "job_id: is a JSON number, must be a string"},
		"job_id's length": {[]any{"job_id"}, strings.Repeat("1", 129), 413, "job_id:"},
		"flow_id's type": {[]any{"flow_id"}, []any{}, 400,
			"flow_id: is a JSON array, must be a string"},
		"flow_id's NUL": {[]any{"flow_id"}, "\x00", 400, "flow_id:"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, path := range []string{bfia.PathPlatformCreateAll, bfia.PathV2CreateAll} {
				r := p.send(post(path, edited(t, "refused", c.value, c.place...)))
				require.Equal(t, c.status, r.Status, "%s", r.Body)
				require.Contains(t, r.Text(), c.words)
				require.Equal(t, path == bfia.PathV2CreateAll, r.Msg == "", "%s", r.Body)
			}
			if name == "initiator" {
				return // another party's job is right between parties
			}
			// Between parties the same is refused by code, where the body could be read.
			r := p.send(post(bfia.PathCreateAll, edited(t, "refused", c.value, c.place...)).from(guest))
			require.NotEqual(t, bfia.CodeOK, r.Code, "%s", r.Body)
			require.Contains(t, r.Text(), c.words)
		})
	}
	require.Empty(t, p.engine.started())
	_, err := p.store.Document(t.Context(), "refused")
	require.Equal(t, bfia.CodeNotFound, bfia.CodeOf(err), "nothing of it is kept")
}

// A parameter is required if it is not optional and has no default.
func TestSubmitRequiresParameters(t *testing.T) {
	p := newParty(t).withData()
	var reg map[string]any
	require.NoError(t, json.Unmarshal(vector(t, "provider_register.request.json"), &reg))
	component := reg["components_description"].(map[string]any)["Intersection"].(map[string]any)
	param := component["inputParam"].([]any)[0].(map[string]any)
	param["optional"] = "false"
	delete(param, "defaultValue")
	p.good(post(bfia.PathProviderRegister, reg))
	p.good(post(bfia.PathPlatformCreateAll, job(t, "with")))
	p.bad(
		post(bfia.PathPlatformCreateAll, edited(t, "without", nil, "config", "task_params", "common", first,
			"id")),
		400,
		bfia.CodeBadRequest,
		`config.task_params: task intersect_rsa_1 at guest.0 has no parameter "id", which Intersection requires`,
	)
}

// A party whose vendors keep data elsewhere can turn the check off.
// TestSubmitFATEsTypes checks that the types that FATE's pipeline and its UnionPay job write are taken, from
// clients and from partners.
func TestSubmitFATEsTypes(t *testing.T) {
	p := newParty(t).withProvider().withData()
	for i, kind := range []string{"data", "datasets", "validate_set", "training_set"} {
		document := edited(t, fmt.Sprintf("types-%d", i), kind, "dag", "components", 0, "output", 0, "type")
		document = strings.Replace(document, `"type":"report"`, `"type":"summary"`, 1)
		require.Contains(t, document, "summary")
		p.good(post(bfia.PathPlatformCreateAll, document))
		p.good(post(bfia.PathCreateAll, strings.Replace(document, "types-", "scheduled-", 1)).from(guest))
		p.good(post(bfia.PathCreate, strings.Replace(document, "types-", "created-", 1)).from(host))
	}
}

// TestSubmitParametersThatNameNoDataset checks that name, namespace and dataset_id of a task whose dataset
// input the DAG feeds are its own parameters, as those of FATE's dataframe_transformer and Writer.
func TestSubmitParametersThatNameNoDataset(t *testing.T) {
	p := newParty(t).withProvider().withData()
	for i, params := range []map[string]any{
		{"namespace": "experiment", "name": "breast_hetero_guest"},
		{"namespace": "any where", "name": "../x"},
		{"dataset_id": "experiment#breast_hetero_guest"},
	} {
		document := edited(t, fmt.Sprintf("writer-%d", i), map[string]any{"intersect_rsa_1": map[string]any{
			"dataset_id": "testspace#test_guest"}, second: params}, "config", "task_params", "guest", "0")
		p.good(post(bfia.PathPlatformCreateAll, document))
		p.good(post(bfia.PathCreate, strings.Replace(document, "writer-", "created-", 1)).from(host))
	}
}

func TestSubmitWithoutCheckOfDatasets(t *testing.T) {
	p := newParty(t, func(c *Config) { c.CheckDatasets = false }).withProvider()
	p.good(post(bfia.PathPlatformCreateAll, job(t, "")))
	p.good(post(bfia.PathCreateAll, job(t, "a")).from(guest))
	p.good(post(bfia.PathCreate, job(t, "b")).from(host))
}

// The scheduler's refusal is returned with its message. An unreachable scheduler and a missing answer give
// different errors.
func TestSubmitToAnotherScheduler(t *testing.T) {
	p := newParty(t, func(c *Config) { c.Scheduler = host }).withProvider().withData()
	submit := post(bfia.PathPlatformCreateAll, job(t, "x"))
	p.bad(submit, 503, bfia.CodeUnavailable, "the scheduler, "+host, "failed to reach the scheduler")
	asked := p.answering(host, 200, `{"code":0,"msg":"success","data":{"job_id":"x"}}`)
	p.good(submit)
	require.Equal(t, []string{bfia.PathCreateAll}, asked())
	for _, c := range []struct {
		status int
		body   string
		want   int
		code   bfia.Code
		words  string
	}{
		{200, `{"code":4040,"msg":"no such provider"}`, 404, 4040, "no such provider"},
		{200, `{"code":1,"message":"no"}`, 422, bfia.CodeRefused, "no"},
		{200, `{"code":5000,"msg":"broken"}`, 422, bfia.CodeRefused, "broken"},
		{500, `oops`, 503, bfia.CodeUnavailable, ""},
		{200, `<html>`, 0, 0, ""},
	} {
		p.answering(host, c.status, c.body)
		if c.want == 0 {
			r := p.send(submit)
			require.NotEqual(t, 500, r.Status, "%s", r.Body)
			require.NotEqual(t, bfia.CodeOK, r.Code)
			continue
		}
		p.bad(submit, c.want, c.code, c.words)
	}
}

// If a workflow's create update refuses, its message and code are the answer. If Temporal does not answer, it
// is a 503.
func TestSubmitRefusedByTheWorkflow(t *testing.T) {
	p := newParty(t).withProvider().withData()
	p.engine.set(temporal.NewNonRetryableApplicationError("JG0110017800000000: no such image",
		activities.FailureRefused, nil, bfia.CodeNotFound), nil)
	p.bad(post(bfia.PathPlatformCreateAll, job(t, "x")), 404, bfia.CodeNotFound, "no such image")
	p.engine.set(nil, errDown)
	p.bad(post(bfia.PathPlatformCreateAll, job(t, "x")), 503, bfia.CodeUnavailable)
	p.bad(post(bfia.PathCreateAll, job(t, "x")).from(guest), 503, bfia.CodeUnavailable,
		"Temporal of "+guest)
	p.bad(post(bfia.PathCreate, job(t, "x")).from(guest), 503, bfia.CodeUnavailable, "Temporal of "+guest)
	p.engine.set(nil, nil)
	p.good(post(bfia.PathPlatformCreateAll, job(t, "x")))
}
