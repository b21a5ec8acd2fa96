package bfia

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

func texts(warnings []Warning) []string {
	list := []string{}
	for _, w := range warnings {
		list = append(list, w.String())
	}
	return list
}

// TestUnknownFields misspells fields of the reference job.
func TestUnknownFields(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"../deploy/demo/job.json",
		"../testdata/vectors/job_create_all.request.json"} {
		raw, err := os.ReadFile(file)
		require.NoError(t, err)
		var document map[string]json.RawMessage
		require.NoError(t, json.Unmarshal(raw, &document))
		require.Empty(t, UnknownFields(document))
	}

	var document map[string]json.RawMessage
	require.NoError(t, json.Unmarshal([]byte(`{
		"flowid": "x",
		"dag": {"components": [{"name": "a", "componetName": "b", "input": [{"kind": "dataset"}]}]},
		"config": {
			"job_parms": {},
			"job_params": {
				"common": {"prioritty": 7, "sync_type": "callbak"},
				"host": {"0": {"resources": {"cpus": 2, "network": 1}}}
			},
			"task_params": {"common": {"a": {"anything": 1}}}
		}
	}`), &document))
	const ignored = ": is not a field of a job and is ignored"
	require.Equal(t, []string{
		"config.job_params.common.prioritty" + ignored + "; did you mean priority?",
		"config.job_params.host.0.resources.cpus" + ignored + "; did you mean cpu?",
		"config.job_params.host.0.resources.network" + ignored + "; known are cpu, disk, gpu, memory",
		"config.job_parms" + ignored + "; did you mean job_params?",
		"dag.components[0].componetName" + ignored + "; did you mean componentName?",
		"dag.components[0].input[0].kind" + ignored + "; known are key, type",
		"flowid" + ignored + "; did you mean flow_id?",
	}, texts(UnknownFields(document)))
}

// TestUnknownFieldsOfInvalidDocuments leaves documents of another shape to the parser.
func TestUnknownFieldsOfInvalidDocuments(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{`{}`, `{"dag": 1, "config": []}`, `{"config": {"job_params": 1}}`,
		`{"config": {"job_params": {"common": null}}}`} {
		var document map[string]json.RawMessage
		require.NoError(t, json.Unmarshal([]byte(raw), &document))
		require.Empty(t, UnknownFields(document), raw)
	}
}

// TestCheckDocument finds values that have no effect.
func TestCheckDocument(t *testing.T) {
	t.Parallel()
	check := func(config string) []string {
		doc, err := ParseDocument([]byte(`{"dag": {"version": "2.0"}, "config": ` + config + `}`))
		require.NoError(t, err)
		plan := &Plan{Tasks: []PlannedTask{{Name: "a",
			Parts: []Part{{Role: "guest", NodeID: "A"}, {Role: "host",
				NodeID: "B"}}}}}
		return texts(CheckDocument(doc, plan))
	}
	require.Empty(t, check(`{"version": "2.0.0", "role": {"guest": ["A"], "host": ["B"], "arbiter": []},
		"job_params": {"common": {"sync_type": "poll"}}}`))
	require.Equal(t, []string{
		`config.version: is "99", but the versions of the format are 1.x and 2.x; the job is read as 2.0`,
		`config.job_params.common.sync_type: is "callbak", which is ignored; must be callback or poll; ` +
			`did you mean callback?`,
		"config.role.arbiter: no component of the job runs at this role; they run at guest, host",
		"config.role.gust: no component of the job runs at this role; did you mean guest?",
	}, check(`{"version": "99", "role": {"guest": ["A"], "host": ["B"], "arbiter": ["C"], "gust": ["A"]},
		"job_params": {"common": {"sync_type": "callbak"}}}`))
}
