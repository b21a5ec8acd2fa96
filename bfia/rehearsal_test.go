package bfia

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRehearse(t *testing.T) {
	const document = `{"job_id": "j", "old_job_id": "i", "flow_id": "f", "config": {"version": "2.0", "task_params": {
		"common": {"a": {"rate": 0.10, "n": 12345678901234567890}},
		"guest": {"0": {"a": {"dataset_id": "bank#train", "nested": {"dataset_id": "bank#kept"}}, "b": {"dataset_id": ""}}},
		"host": {"0|1": {"a": {"dataset_id": "bank#other"}}}}}}`
	var object map[string]json.RawMessage
	require.NoError(t, json.Unmarshal([]byte(document), &object))
	require.NoError(t, Rehearse(object))
	text, err := json.Marshal(object)
	require.NoError(t, err)
	require.JSONEq(t, `{"flow_id": "f.rehearsal", "config": {"version": "2.0", "task_params": {
		"common": {"a": {"rate": 0.10, "n": 12345678901234567890}},
		"guest": {"0": {"a": {"dataset_id": "rehearsal.bank#train", "nested": {"dataset_id": "bank#kept"}}, "b": {"dataset_id": ""}}},
		"host": {"0|1": {"a": {"dataset_id": "rehearsal.bank#other"}}}}}}`, string(text))
	require.Contains(t, string(text), "12345678901234567890", "numbers stay as they are written")

	for params, words := range map[string]string{
		`{"guest": {"0": {"a": {"dataset_id": "bank"}}}}`:             "guest.0.a.dataset_id: bank is not of the form",
		`{"guest": {"0": {"a": {"dataset_id": 7}}}}`:                  "guest.0.a.dataset_id: 7 is not of the form",
		`{"common": {"a": {"dataset_id": "rehearsal.bank#t"}}}`:       `common.a.dataset_id: "rehearsal.bank#t" is synthetic`,
		`{"guest": {"0": {"a": {"namespace": "bank", "name": "t"}}}}`: "no task names a dataset_id",
		`[]`: "config.task_params: is not a JSON object",
	} {
		object := map[string]json.RawMessage{"config": json.RawMessage(`{"task_params": ` + params + `}`)}
		require.ErrorContains(t, Rehearse(object), words, params)
	}
	require.ErrorContains(t, Rehearse(map[string]json.RawMessage{}), "config: is missing")
}
