package main

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestUnknownFields misspells fields of the reference job.
func TestUnknownFields(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../../deploy/demo/job.json")
	require.NoError(t, err)
	var document map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(raw, &document))
	require.Empty(t, unknownFields(document))

	document = nil
	require.NoError(t, json.Unmarshal([]byte(`{
		"flowid": "x",
		"dag": {"components": [{"name": "a", "componetName": "b", "input": [{"kind": "dataset"}]}]},
		"config": {
			"job_parms": {},
			"job_params": {
				"common": {"prioritty": 7, "sync_type": "callbak"},
				"host": {"0": {"resources": {"cpus": 2}}}
			},
			"task_params": {"common": {"a": {"anything": 1}}}
		}
	}`), &document))
	require.Equal(t, []string{
		"config.job_params.common.prioritty: is not a field of a job and is ignored; known are " +
			"priority, requires, resources, sync_type",
		"config.job_params.host.0.resources.cpus: is not a field of a job and is ignored; known are " +
			"cpu, disk, memory",
		"config.job_parms: is not a field of a job and is ignored; known are " +
			"initiator, job_params, role, task_params, version",
		"dag.components[0].componetName: is not a field of a job and is ignored; known are " +
			"componentName, input, name, output, provider, version",
		"dag.components[0].input[0].kind: is not a field of a job and is ignored; known are key, type",
		"flowid: is not a field of a job and is ignored; known are config, dag, flow_id, job_id, old_job_id",
		`config.job_params.common.sync_type: is "callbak", which is ignored; must be "callback" or "poll"`,
	}, unknownFields(document))
}

// TestUnknownFieldsOfInvalidDocuments leaves documents of another shape to the party.
func TestUnknownFieldsOfInvalidDocuments(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{`{}`, `{"dag": 1, "config": []}`, `{"config": {"job_params": 1}}`,
		`{"config": {"job_params": {"common": null}}}`} {
		var document map[string]json.RawMessage
		require.NoError(t, json.Unmarshal([]byte(raw), &document))
		require.Empty(t, unknownFields(document), raw)
	}
}
