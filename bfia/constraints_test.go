package bfia

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestConstraints(t *testing.T) {
	c := Config{JobParams: params(t, `{
		"common": {"requires": {"*": {"region": "north"}, "train": {"gpu": "1", "region": "south"}}},
		"host": {
			"0|1": {"requires": {"train": {"gpu": "2"}, "*": {"disk": "ssd"}}},
			"1": {"requires": {"*": {"gpu": "none"}}},
			"2": {"requires": null}
		}
	}`)}
	for _, test := range []struct {
		task  string
		role  string
		index int
		want  map[string]string
	}{
		{"psi", "guest", 0, map[string]string{"region": "north"}},
		{"train", "guest", 0, map[string]string{"region": "south", "gpu": "1"}},
		{"psi", "host", 0, map[string]string{"region": "north", "disk": "ssd"}},
		{"train", "host", 0, map[string]string{"region": "south", "gpu": "2", "disk": "ssd"}},
		{"train", "host", 1, map[string]string{"region": "south", "gpu": "none", "disk": "ssd"}},
		{"train", "host", 2, map[string]string{"region": "south", "gpu": "1"}},
	} {
		got, err := c.Constraints(test.task, Part{Role: test.role, Index: test.index})
		require.NoError(t, err)
		require.Equal(t, test.want, got, "%s at %s.%d", test.task, test.role, test.index)
	}
	got, err := (&Config{}).Constraints("train", Part{Role: "host"})
	require.NoError(t, err)
	require.Empty(t, got)
}

func TestConstraintsRefusals(t *testing.T) {
	form := ` can contain only letters, digits, '_', '-' and '.', and must start with a letter or digit`
	for _, test := range []struct{ text, message string }{
		{`{"common":{"requires":["gpu"]}}`,
			"config.job_params.common.requires: is a JSON array, must be an object"},
		{`{"common":{"requires":{"t":"gpu"}}}`,
			"config.job_params.common.requires.t: is a JSON string, must be an object"},
		{`{"host":{"0|1":{"requires":{"t":{"gpu":1}}}}}`,
			"config.job_params.host.0|1.requires.t.gpu: is a JSON number, must be a string"},
		{`{"host":{"1":{"requires":{"*":{"g u":"1"}}}}}`, `config.job_params.host.1.requires.*.g u: "g u"` +
			form},
		{`{"host":{"1":{"requires":{"*":{"gpu":""}}}}}`,
			`config.job_params.host.1.requires.*.gpu: is required`},
	} {
		c := Config{JobParams: params(t, test.text)}
		_, err := c.Constraints("t", Part{Role: "host", Index: 1})
		requireRefusal(t, err, CodeBadRequest, test.message)
		requireRefusal(t, checkConstraints(&c, map[string]int{"t": 0}), CodeBadRequest, test.message)
	}
	c := Config{JobParams: params(t, `{"host":{"1":{"requires":{"*":{"gpu":"1"},"u":{}}}}}`)}
	requireRefusal(t, checkConstraints(&c, map[string]int{"t": 0}), CodeBadRequest,
		"config.job_params.host.1.requires.u: the DAG has no task of that name")
	require.NoError(t, checkConstraints(&c, map[string]int{"u": 0}))
}

func TestProviderConstraints(t *testing.T) {
	for metadata, want := range map[string]map[string]string{
		``:                                 nil,
		`{}`:                               nil,
		`{"image":"i","requires":null}`:    nil,
		`{"requires":{}}`:                  {},
		`{"requires":{"gpu":"1","a":"b"}}`: {"gpu": "1", "a": "b"},
	} {
		got, err := ProviderConstraints(json.RawMessage(metadata))
		require.NoError(t, err)
		require.Equal(t, want, got, metadata)
	}
	for metadata, message := range map[string]string{
		`{"requires":"gpu"}`:        "metadata.requires: is a JSON string, must be an object",
		`{"requires":{"gpu":1}}`:    "metadata.requires.gpu: is a JSON number, must be a string",
		`{"requires":{"gpu":null}}`: "metadata.requires.gpu: is required",
	} {
		_, err := ProviderConstraints(json.RawMessage(metadata))
		requireRefusal(t, err, CodeBadRequest, message)
	}
}
