package bfia

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDecodeJSON(t *testing.T) {
	for _, test := range []struct{ body, message string }{
		{``, "body: the JSON is incomplete"},
		{`{"job_id":`, "body: the JSON is incomplete"},
		{`{job_id}`,
			"body: is not valid JSON: invalid character 'j' looking for beginning of object key string at byte 2"},
		{`"x"`, "body: is a JSON string, must be an object"},
		{`[]`, "body: is a JSON array, must be an object"},
		{`{"job_id":1}`, "job_id: is a JSON number, must be a string"},
		{`{"job_id":"1"} {}`, "body: the JSON value ends at byte 14, but more text follows"},
		{`{"job_id":"1"}x`, "body: the JSON value ends at byte 14, but more text follows"},
	} {
		var ref JobRef
		requireRefusal(t, DecodeJSON([]byte(test.body), &ref), CodeBadRequest, test.message)
	}
	var ref JobRef
	require.NoError(t, DecodeJSON([]byte(" {\"job_id\":\"1\",\"more\":[]}\n"), &ref))
	require.Equal(t, JobRef{JobID: "1"}, ref)
}

func TestDecodeJSONExpectedKind(t *testing.T) {
	var v struct {
		Number  float64
		Whole   int
		Truth   bool
		List    []string
		Object  map[string]string
		Nothing chan int
	}
	for _, test := range []struct{ body, message string }{
		{`{"Number":"1"}`, "Number: is a JSON string, must be a number"},
		{`{"Number":1e400}`, "Number: the number 1e400 is too large or not whole"},
		{`{"Whole":1.5}`, "Whole: the number 1.5 is too large or not whole"},
		{`{"Truth":1}`, "Truth: is a JSON number, must be true or false"},
		{`{"List":{}}`, "List: is a JSON object, must be a list"},
		{`{"Object":[]}`, "Object: is a JSON array, must be an object"},
	} {
		requireRefusal(t, DecodeJSON([]byte(test.body), &v), CodeBadRequest, test.message)
	}
	requireRefusal(t, DecodeJSON([]byte(strings.Repeat("[", 20000)), new(json.RawMessage)), CodeBadRequest,
		"body: is not valid JSON: invalid character '[' exceeded max depth at byte 10001")
	// What encoding/json itself can't do is no field's fault.
	requireRefusal(t, DecodeJSON([]byte(`{}`), nil), CodeBadRequest, "body: is not readable as JSON")
}
