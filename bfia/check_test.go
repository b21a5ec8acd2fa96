package bfia

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// inputParam returns one parameter of a description.
func inputParam(t testing.TB, text string) InputParam {
	t.Helper()
	var p InputParam
	require.NoError(t, DecodeJSON([]byte(text), &p))
	return p
}

func TestContradictions(t *testing.T) {
	for _, test := range []struct{ param, value, message string }{
		{`{"type":"string"}`, `"a"`, ""},
		{`{"type":"string"}`, `5`, ""}, // the component reads the same text
		{`{"type":"string"}`, `{"objective":"x"}`, "is an object, must be a string (type string)"},
		{`{"type":"string"}`, `["auc","ks"]`, "is a list, must be a string (type string)"},
		{`{"type":"int"}`, `5`, ""},
		{`{"type":"int"}`, `"5"`, ""},
		{`{"type":"int"}`, `12345678901234567890`, ""},
		{`{"type":"int"}`, `1e3`, ""},
		{`{"type":"int"}`, `0.5`, "is 0.5, must be a whole number (type int)"},
		{`{"type":"int"}`, `""`, `is "", must be a whole number (type int)`},
		{`{"type":"int"}`, `"0x10"`, `is "0x10", must be a whole number (type int)`},
		{`{"type":"int"}`, `null`, "is null, must be a whole number (type int)"},
		{`{"type":"integer"}`, `null`, ""},
		{`{"type":"integer"}`, `"all"`, `is "all", must be a whole number or null (type integer)`},
		{`{"type":"integer","bindingData":[{"label":"all","value":"all"},{"value":"2048"}]}`, `"all"`, ""},
		{`{"type":"integer","bindingData":[{"label":"all","value":"all"},{"value":"2048"}]}`, `2048`, ""},
		{`{"type":"integer","bindingData":[{"label":"all","value":"all"},{"value":"2048"}]}`, `7`,
			"is 7, must be one of its bindingData: all, 2048"},
		{`{"type":"string","bindingData":"[{\"label\":\"L1\",\"value\":\"L1\"}]"}`, `"L2"`,
			`is "L2", must be one of its bindingData: L1`},
		{`{"type":"object","bindingData":[{"value":"auc"},{"value":"ks"}]}`, `["ks","auc"]`, ""},
		{`{"type":"object","bindingData":[{"value":"auc"},{"value":"ks"}]}`, `["ks","f1"]`,
			"is a list, must be one of its bindingData: auc, ks"},
		{`{"type":"string","bindingData":"call_function getKV()"}`, `"x"`, ""},
		{`{"type":"float"}`, `0.0001`, ""},
		{`{"type":"float"}`, `true`, "is true, must be a number (type float)"},
		{`{"type":"number"}`, `"1e-3"`, ""},
		{`{"type":"boolean"}`, `true`, ""},
		{`{"type":"boolean"}`, `"false"`, ""},
		{`{"type":"boolean"}`, `"True"`, `is "True", must be true or false (type boolean)`},
		{`{"type":"object"}`, `{"a":1}`, ""},
		{`{"type":"object"}`, `"{\"a\":1}"`, ""},
		{`{"type":"object"}`, `"a"`, `is "a", must be an object or a list (type object)`},
		{`{"type":"matrix"}`, `"a"`, ""},
		{`{"type":"int","validator":"(0,1000)"}`, `2048`,
			`is 2048, which its validator "(0,1000)" does not allow`},
		{`{"type":"int","validator":"(0,1000)"}`, `1000`,
			`is 1000, which its validator "(0,1000)" does not allow`},
		{`{"type":"int","validator":"(0,1000]"}`, `1000`, ""},
		{`{"type":"float","validator":"（0，+∞）"}`, `0`, `is 0, which its validator "（0，+∞）" does not allow`},
		{`{"type":"float","validator":"[-1e-3, sup)"}`, `"-0.001"`, ""},
		{`{"type":"float","validator":"(inf,0)"}`, `-1e400`, ""},
		{`{"type":"string","validator":"(0,1)"}`, `"text"`, ""},
		{`{"type":"string","validator":"regular:'^[a-z]+$'"}`, `"abc"`, ""},
		{`{"type":"string","validator":"regular:'^[a-z]+$'"}`, `"a1"`,
			`is "a1", which its validator "regular:'^[a-z]+$'" does not allow`},
		{`{"type":"string","validator":"regular:/^[0-9]+$/"}`, `7`, ""},
		{`{"type":"string","validator":"regular:(?=x)"}`, `"y"`, ""}, // another regular expression dialect
		{`{"type":"string","validator":"regular-正则项"}`, `"y"`, ""},
		{`{"type":"string","validator":7}`, `"y"`, ""},
	} {
		p := inputParam(t, test.param)
		require.Equal(t, test.message, p.contradiction(json.RawMessage(test.value), &Description{}, nil),
			"%s %s", test.param, test.value)
	}
}

func TestDependsOn(t *testing.T) {
	desc := &Description{InputParam: []InputParam{
		inputParam(t, `{"name":"optimizer","type":"string","defaultValue":"rmsprop"}`),
		inputParam(t, `{"name":"init.param","type":"string","defaultValue":" "}`),
	}}
	for _, test := range []struct{ dependsOn, values, message string }{
		{`["optimizer.sgd","optimizer.adam"]`, `{"optimizer":"adam"}`, ""},
		{`["optimizer.sgd","optimizer.adam"]`, `{}`,
			"is given, but only has an effect with optimizer = sgd or optimizer = adam"},
		{`["optimizer.rmsprop",""]`, `{}`, ""}, // by its default
		{`["init.param"]`, `{}`, "is given, but only has an effect with init.param"},
		{`["init.param"]`, `{"init.param":{"a":1}}`, ""},
		{`"init.param.x"`, `{"init.param":"x"}`, ""},
		{`""`, `{}`, ""},
		{`[]`, `{}`, ""},
		{`null`, `{}`, ""},
		{`["somewhere.else"]`, `{}`, ""},
		{`{"a":1}`, `{}`, ""},
	} {
		p := inputParam(t, `{"name":"rate","type":"float","dependsOn":`+test.dependsOn+`}`)
		var values map[string]json.RawMessage
		require.NoError(t, json.Unmarshal([]byte(test.values), &values))
		require.Equal(t, test.message, p.contradiction(json.RawMessage(`0.1`), desc, values), "%s %s",
			test.dependsOn, test.values)
	}
}

// TestCheckParametersVector checks a published registration and a published job that contradict each other:
// one warning for all roles, and no refusal.
func TestCheckParametersVector(t *testing.T) {
	doc := parse(t, vector(t, "job_create_all.request.json"))
	describe := registered(t, vector(t, "provider_register.request.json"))
	plan, err := NewPlan(doc, describe, "")
	require.NoError(t, err)
	warnings, err := CheckParameters(doc, plan, describe, "")
	require.NoError(t, err)
	var warned []string
	for _, w := range warnings {
		require.Equal(t, "guest.0, host.0", w.Role)
		warned = append(warned, w.String())
	}
	require.Contains(t, warned,
		"task hetero_secureboost_1 at guest.0, host.0: parameter objective_param is an object, must be a string (type string)")
	require.Contains(t, strings.Join(warned, "\n"), `parameter n_iter_no_change is "True"`)
	require.ErrorContains(t, RefuseWarnings(warnings), "config.task_params: task ")
	require.NoError(t, RefuseWarnings(nil))

	none, err := CheckParameters(doc, plan, describe, "another node")
	require.NoError(t, err)
	require.Empty(t, none)
}

// TestMisspeltParameters warns of names that resemble a described parameter, and of no others.
func TestMisspeltParameters(t *testing.T) {
	desc := &Description{InputParam: []InputParam{
		inputParam(t, `{"name":"num_trees","type":"int"}`),
		inputParam(t, `{"name":"max_depth","type":"int"}`),
		inputParam(t, `{"name":"id","type":"string"}`),
	}}
	for _, test := range []struct{ name, values, meant string }{
		{"num_tree", `{"num_tree":1}`, "num_trees"},
		{"Num_Trees", `{"Num_Trees":1}`, "num_trees"},
		{"maxdepht", `{"maxdepht":1}`, "max_depth"}, // a swap of neighbours is one edit
		{"mxdepht", `{"mxdepht":1}`, ""},            // three edits
		{"max_dept", `{"max_dept":1}`, "max_depth"},
		{"max_dept", `{"max_dept":1,"max_depth":2}`, ""}, // both are given
		{"num_trees", `{"num_trees":1}`, ""},
		{"ids", `{"ids":1}`, ""}, // too short to judge
		{"dataset_id", `{"dataset_id":"a#b"}`, ""},
	} {
		var values map[string]json.RawMessage
		require.NoError(t, json.Unmarshal([]byte(test.values), &values))
		require.Equal(t, test.meant, desc.misspelt(test.name, values), test.name)
	}
}

// TestMissingDataset warns of a root part whose dataset nothing names, and names what was meant for it.
func TestMissingDataset(t *testing.T) {
	const absent = "parameter dataset_id is not given, and no other task feeds the component's input train; " +
		"add it, with the value namespace#name"
	desc := &Description{ComponentName: "psi", InputParam: []InputParam{
		inputParam(t, `{"name":"id","type":"string"}`), inputParam(t, `{"name":"label","type":"string"}`)},
		InputData: []DataPort{{Name: "train", Category: "dataset"},
			{Name: "validate", Category: "dataset"}},
		OutputData: []DataPort{{Name: "out", Category: "dataset"}}}
	meant := func(name string) []string {
		return []string{"parameter " + name + " is not in the component's description; did you mean dataset_id?"}
	}
	for _, c := range []struct {
		role, input, params string
		warned              []string
	}{
		{"guest", ``, `{"dataset_id":"a#b"}`, nil},
		{"guest", ``, `{"name":"b","namespace":"a"}`, nil},
		{"guest", ``, `{"datasetid":"a#b"}`, meant("datasetid")},
		{"guest", ``, `{"dataset-id":"a#b"}`, meant("dataset-id")},
		{"guest", ``, `{"dataset":"a#b"}`, meant("dataset")},
		{"guest", ``, `{"DATASET_ID":"a#b"}`, meant("DATASET_ID")},
		{"guest", ``, `{"table":"a#b"}`, meant("table")},
		{"guest", ``, `{"frame":"b","id":"a#b"}`, []string{absent}},
		{"guest", ``, `{}`, []string{absent}},
		{"guest", ``, `{"dataset_id":""}`, []string{absent}},
		{"arbiter", ``, `{}`, nil},
		{"guest", `{"type":"dataset","key":"a.out"}`, `{}`, nil},
	} {
		doc := parse(t, []byte(`{"dag":{"components":[{"name":"t","componentName":"psi","input":[`+c.input+`]}]},
			"config":{"task_params":{"`+c.role+`":{"0":{"t":`+c.params+`}}}}}`))
		plan := &Plan{Tasks: []PlannedTask{{Name: "t", Component: "psi",
			Parts: []Part{{Role: c.role, NodeID: "A"}}}}}
		describe := func(string, string, string) (*Description, error) { return desc, nil }
		warnings, err := CheckParameters(doc, plan, describe, "")
		require.NoError(t, err)
		var warned []string
		for _, w := range warnings {
			warned = append(warned, strings.TrimPrefix(w.String(), "task t at "+c.role+".0: "))
		}
		require.Equal(t, c.warned, warned, "%s %s %s", c.role, c.input, c.params)
	}
}

func FuzzContradiction(f *testing.F) {
	for _, seed := range [][3]string{
		{`{"type":"int","validator":"(0,1000)","bindingData":[{"value":1}],"dependsOn":["a.b"]}`, `5`,
			`{"a":"b"}`},
		{`{"type":"float","validator":"[-1e999999999,∞】"}`, `1e999999999`, `{}`},
		{`{"type":"object","validator":"regular:'(a+)+$'","bindingData":"[{\"value\":[1]}]","dependsOn":"[\"x\"]"}`, `"\u0000"`, `null`},
	} {
		f.Add([]byte(seed[0]), []byte(seed[1]), []byte(seed[2]))
	}
	desc := &Description{
		InputParam: []InputParam{{Name: "a"}, {Name: "x.y", DefaultValue: json.RawMessage(`" "`)}},
	}
	f.Fuzz(func(t *testing.T, param, value, values []byte) {
		var p InputParam
		var given map[string]json.RawMessage
		var raw json.RawMessage
		if DecodeJSON(param, &p) != nil || DecodeJSON(value, &raw) != nil ||
			json.Unmarshal(values, &given) != nil {
			return
		}
		if message := p.contradiction(raw, desc, given); len(message) > 4<<10+len(param) {
			t.Fatalf("%d bytes of words about one parameter", len(message))
		}
	})
}
