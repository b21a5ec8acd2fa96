package bfia

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseDocumentVector(t *testing.T) {
	doc := parse(t, vector(t, "job_create_all.request.json"))
	require.Empty(t, doc.JobID)
	require.Equal(t, "JG0100001100000000", doc.FlowID)
	require.Equal(t, "2.0", doc.DAG.Version)
	require.Equal(t, "2.0.0", doc.Config.Version)
	require.Equal(t, Initiator{Role: "guest", NodeID: "JG0100001100000010"}, doc.Config.Initiator)
	require.Equal(t, map[string][]string{"guest": {"JG0100001100000010"}, "host": {"JG0100001100000010"}},
		doc.Config.Role)
	require.Equal(t, []Component{
		{
			Name: "intersect_rsa_1", ComponentName: "Intersection", Provider: "unionpay", Version: "2.0.0",
			Input:  []Port{},
			Output: []Port{{"dataset", "train_data"}, {"report", "report0"}},
		},
		{
			Name: "hetero_secureboost_1", ComponentName: "HeteroSecureBoost", Provider: "unionpay",
			Version: "2.0.0",
			Input:   []Port{{"dataset", "intersect_rsa_1.train_data"}},
			Output: []Port{
				{"dataset", "data0"},
				{"model", "model0"},
				{"report", "report0"},
				{"report", "report1"},
				{"report", "report2"},
			},
		},
	}, doc.DAG.Components)
	require.JSONEq(t, `"poll"`, string(doc.Config.JobParams.Common["sync_type"]))
}

// TestSchedulerWireVector checks that our types read every body that a FATE-Flow scheduler sent.
func TestSchedulerWireVector(t *testing.T) {
	var wire []struct {
		Path    string
		Headers map[string]string
		Body    json.RawMessage
	}
	require.NoError(t, json.Unmarshal(vector(t, "fateflow-2.2.0.scheduler-wire.json"), &wire))
	seen := map[string]int{}
	for _, m := range wire {
		seen[m.Path]++
		require.Equal(t, "JG0100001100000010", Sender(func(name string) string { return m.Headers[name] }))
		switch m.Path {
		case PathCreate:
			doc := parse(t, m.Body)
			require.Equal(t, "202611221815369700790", doc.JobID)
			require.NotEqual(t, doc.Config.Role["guest"], doc.Config.Role["host"])
			require.Equal(t, []string{"JG0100001100000010", "JG0110017800000000"}, doc.Config.Nodes())
			require.JSONEq(t, string(m.Body), string(doc.Bytes()))
			_, err := NewPlan(doc, registered(t, vector(t, "provider_register.request.json")),
				"JG0110017800000000")
			require.NoError(t, err)
		case PathStart, PathStop:
			var ref JobRef
			require.NoError(t, DecodeJSON(m.Body, &ref))
			require.Equal(t, "202611221815369700790", ref.JobID)
		case PathTaskStart:
			var ref TaskRef
			require.NoError(t, DecodeJSON(m.Body, &ref))
			require.NotEmpty(t, ref.TaskID)
			require.NotEmpty(t, ref.TaskName)
		case PathTaskPoll:
			var poll TaskPoll
			require.NoError(t, DecodeJSON(m.Body, &poll))
			require.NotEmpty(t, poll.TaskID)
			require.Empty(t, poll.Role)
		default:
			t.Errorf("a path that Hutong does not know: %s", m.Path)
		}
	}
	require.Equal(t,
		map[string]int{PathCreate: 1, PathStart: 1, PathTaskStart: 2, PathTaskPoll: 2, PathStop: 3}, seen)
}

const smallDocument = `{"dag":{"components":[]},"config":{}`

func TestParseDocumentRefusals(t *testing.T) {
	for _, test := range []struct{ body, message string }{
		{`null`, "body: is null, must be an object"},
		{`[1]`, "body: is a JSON array, must be an object"},
		{`{"config":{}}`, "dag: is required"},
		{`{"dag":null,"config":{}}`, "dag: is required"},
		{`{"dag":{}}`, "config: is required"},
		{smallDocument + `,"job_id":1}`, "job_id: is a JSON number, must be a string"},
		{smallDocument + `,"job_id":"a b"}`,
			`job_id: "a b" can contain only letters, digits, '_', '-' and '.', and must start with a letter or digit`},
		{smallDocument + `,"flow_id":{}}`, "flow_id: is a JSON object, must be a string"},
		{smallDocument + `,"flow_id":"a\u0000"}`,
			"flow_id: is longer than 256 bytes or contains a control character"},
		{smallDocument + `,"flow_id":"` + strings.Repeat("x", 257) + `"}`,
			"flow_id: is longer than 256 bytes or contains a control character"},
		{smallDocument + `,"old_job_id":[]}`, "old_job_id: is a JSON array, must be a string"},
		{`{"dag":"x","config":{}}`, "dag: is a JSON string, must be an object"},
		{`{"dag":{"version":2},"config":{}}`, "dag.version: is a JSON number, must be a string"},
		{`{"dag":{"components":"x"},"config":{}}`, "dag.components: is a JSON string, must be a list"},
		{`{"dag":{"components":[{},7]},"config":{}}`,
			"dag.components[1]: is a JSON number, must be an object"},
		{`{"dag":{"components":[{},{"name":7}]},"config":{}}`,
			"dag.components[1].name: is a JSON number, must be a string"},
		{`{"dag":{"components":[{"input":{}}]},"config":{}}`,
			"dag.components[0].input: is a JSON object, must be a list"},
		{`{"dag":{"components":[{"input":[{"key":"a"},{"key":[]}]}]},"config":{}}`,
			"dag.components[0].input[1].key: is a JSON array, must be a string"},
		{`{"dag":{"components":[{"output":["x"]}]},"config":{}}`,
			"dag.components[0].output[0]: is a JSON string, must be an object"},
		{`{"dag":{},"config":[]}`, "config: is a JSON array, must be an object"},
		{`{"dag":{},"config":{"initiator":"guest"}}`,
			"config.initiator: is a JSON string, must be an object"},
		{`{"dag":{},"config":{"initiator":{"node_id":1}}}`,
			"config.initiator.node_id: is a JSON number, must be a string"},
		{`{"dag":{},"config":{"role":["a"]}}`, "config.role: is a JSON array, must be an object"},
		{`{"dag":{},"config":{"role":{"guest":"a"}}}`, "config.role.guest: is a JSON string, must be a list"},
		{`{"dag":{},"config":{"role":{"guest":["a",1]}}}`,
			"config.role.guest[1]: is a JSON number, must be a string"},
		{`{"dag":{},"config":{"job_params":[]}}`, "config.job_params: is a JSON array, must be an object"},
		{`{"dag":{},"config":{"task_params":{"common":[]}}}`,
			"config.task_params.common: is a JSON array, must be an object"},
		{`{"dag":{},"config":{"task_params":{"guest":[]}}}`,
			"config.task_params.guest: is a JSON array, must be an object"},
		{`{"dag":{},"config":{"task_params":{"guest":{"0":7}}}}`,
			"config.task_params.guest.0: is a JSON number, must be an object"},
		{`{"dag":{},"config":{"job_params":{"host":{"x":{}}}}}`,
			`config.job_params.host.x: the key must be an index such as "0" or "0|1"`},
	} {
		t.Run(test.message, func(t *testing.T) {
			_, err := ParseDocument([]byte(test.body))
			requireRefusal(t, err, CodeBadRequest, test.message)
		})
	}
}

func TestDocumentKeepsUnknownFields(t *testing.T) {
	body := `{
		"vendor": {"x": [1, 2.50, {"deep": null}], "html": "<a&b>", "escape": "\u00e9\/\u2028"},
		"config": {"more": true, "task_params": {"common": {"t": {"tol": 0.0001, "huge": 1e400, "id": 12345678901234567890, "one": 1.0}}}},
		"dag": {"extra": "中", "components": []},
		"flow_id": "f"
	}`
	doc := parse(t, []byte(body))
	want := `{"config":{"more":true,"task_params":{"common":{"t":{"tol":0.0001,"huge":1e400,"id":12345678901234567890,"one":1.0}}}},` +
		`"dag":{"extra":"中","components":[]},"flow_id":"f",` +
		`"vendor":{"x":[1,2.50,{"deep":null}],"html":"<a&b>","escape":"\u00e9\/\u2028"}}`
	require.Equal(t, want, string(doc.Bytes()))
	require.Equal(t, want, string(parse(t, doc.Bytes()).Bytes()),
		"the same through as many parties as it likes")
}

func TestWithJobID(t *testing.T) {
	doc := parse(t, vector(t, "job_create_all.request.json"))
	before := string(doc.Bytes())
	named := doc.WithJobID("202611221759091390050")
	require.Equal(t, "202611221759091390050", named.JobID)
	require.Equal(t, before, string(doc.Bytes()), "the first one is as it was")
	require.Empty(t, doc.JobID)
	again := parse(t, named.Bytes())
	require.Equal(t, named.JobID, again.JobID)
	require.Equal(t, parse(t, doc.Bytes()).Config, again.Config)
	require.Equal(t, doc.DAG, again.DAG)
	require.Equal(t, string(named.Bytes()), string(again.Bytes()))
	require.Equal(t, string(named.Bytes()), string(again.WithJobID(named.JobID).Bytes()))
	other := named.WithJobID("2")
	require.Equal(t, "2", parse(t, other.Bytes()).JobID)
	require.JSONEq(t, string(edit(t, vector(t, "job_create_all.request.json"), "job_id", "2")),
		string(other.Bytes()))
}

func TestConfigParts(t *testing.T) {
	c := Config{Role: map[string][]string{
		"trainer": {"E"}, "arbiter": {"C"}, "host": {"B", "A"}, "guest": {"A"}, "auditor": {"D"},
	}}
	require.Equal(t, []string{"guest", "host", "arbiter", "auditor", "trainer"}, c.Roles())
	require.Equal(t, []string{"A", "B", "C", "D", "E"}, c.Nodes())
	require.Equal(t, []Part{
		{
			"guest",
			0,
			"A",
		}, {"host", 0, "B"}, {"host", 1, "A"}, {"arbiter", 0, "C"}, {"auditor", 0, "D"}, {"trainer", 0, "E"},
	}, c.Parts())
	require.Equal(t, []Part{{"guest", 0, "A"}, {"host", 1, "A"}}, c.PartsOf("A"))
	require.Empty(t, c.PartsOf("X"))
	require.Equal(t, "host.1", Part{"host", 1, "A"}.Self())
}
