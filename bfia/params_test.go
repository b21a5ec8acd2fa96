package bfia

import (
	"encoding/json"
	"errors"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func params(t testing.TB, text string) Params {
	t.Helper()
	var p Params
	require.NoError(t, json.Unmarshal([]byte(text), &p))
	return p
}

func TestIndexes(t *testing.T) {
	for key, want := range map[string][]int{"0": {0}, "0|1": {0, 1}, "2 | 10": {2, 10}, "1|1": {1, 1}} {
		got, err := indexes(key)
		require.NoError(t, err, key)
		require.Equal(t, want, got)
	}
	for _, key := range []string{"", "|", "0|", "-1", "-0", "+1", "01", "1.0", "a", "0,1",
		"99999999999999999999"} {
		_, err := indexes(key)
		require.Error(t, err, key)
	}
}

func TestTaskParametersPrecedence(t *testing.T) {
	c := Config{TaskParams: params(t, `{
		"common": {"t": {"a": "common", "b": "common", "c": "common", "d": "common", "n": 0.10}, "u": {"a": "other task"}},
		"host": {
			"0": {"t": {"d": "just 0"}},
			"0|1|2": {"t": {"b": "three", "c": "three", "d": "three"}},
			"0|1": {"t": {"c": "two", "d": "two"}},
			"2": {"u": {"a": "2"}, "t": null},
			"3": null
		},
		"guest": null
	}`)}
	for _, test := range []struct {
		role  string
		index int
		want  string
	}{
		{"guest", 0, `{"a":"common","b":"common","c":"common","d":"common","n":0.10}`},
		{"host", 0, `{"a":"common","b":"three","c":"two","d":"just 0","n":0.10}`},
		{"host", 1, `{"a":"common","b":"three","c":"two","d":"two","n":0.10}`},
		{"host", 2, `{"a":"common","b":"three","c":"three","d":"three","n":0.10}`},
		{"host", 3, `{"a":"common","b":"common","c":"common","d":"common","n":0.10}`},
		{"arbiter", 0, `{"a":"common","b":"common","c":"common","d":"common","n":0.10}`},
	} {
		got, err := c.TaskParameters("t", Part{Role: test.role, Index: test.index})
		require.NoError(t, err)
		b, err := json.Marshal(got)
		require.NoError(t, err)
		require.Equal(t, test.want, string(b), "%s.%d", test.role, test.index)
	}
	got, err := c.TaskParameters("unknown", Part{Role: "host"})
	require.NoError(t, err)
	require.Empty(t, got)
	require.Len(t, c.TaskParams.For("host", 0), 4)
	require.JSONEq(t, `{"d":"just 0"}`, string(c.TaskParams.For("host", 0)[3]["t"]))
}

func TestTaskParametersRefusals(t *testing.T) {
	for _, test := range []struct{ text, message string }{
		{`{"common":{"t":7}}`, "config.task_params.common.t: is a JSON number, must be an object"},
		{`{"host":{"0|1":{"t":[]}}}`, "config.task_params.host.0|1.t: is a JSON array, must be an object"},
	} {
		c := Config{TaskParams: params(t, test.text)}
		_, err := c.TaskParameters("t", Part{Role: "host", Index: 1})
		requireRefusal(t, err, CodeBadRequest, test.message)
	}
}

func TestParamsReadTwiceForgetsTheFirst(t *testing.T) {
	p := params(t, `{"common":{"a":1},"host":{"0":{"a":2}}}`)
	require.NoError(t, json.Unmarshal([]byte(`{"guest":{}}`), &p))
	require.Empty(t, p.Common)
	require.NotContains(t, p.Roles, "host")
}

func TestResources(t *testing.T) {
	for _, test := range []struct {
		text string
		want Resources
	}{
		{`{}`, Resources{}},
		{`{"host":{"1":{"resources":{"cpu":0.5,"memory":2,"disk":-1}}}}`, Resources{500, 2 << 30, 0, 0}},
		{`{"host":{"0":{"resources":{"cpu":4}}}}`, Resources{}},
		{`{"host":{"0|1":{"resources":{"cpu":4,"memory":null}}}}`, Resources{4000, 0, 0, 0}},
		{`{"common":{"resources":{"cpu":1,"disk":10}},"host":{"1":{"resources":{"cpu":2}}}}`,
			Resources{2000, 0, 10 << 30, 0}},
		{`{"common":{"resources":null}}`, Resources{}},
		{`{"common":{"resources":{"gpu":2}}}`, Resources{GPU: 2}},
		{`{"common":{"resources":{"gpu":2}},"host":{"1":{"resources":{"gpu":-1}}}}`, Resources{}},
		{`{"common":{"resources":{"cpu":0,"memory":0.0078125,"disk":1000000}}}`,
			Resources{0, 1 << 23, 1000000 << 30, 0}},
	} {
		c := Config{JobParams: params(t, test.text)}
		got, err := c.Resources(Part{Role: "host", Index: 1})
		require.NoError(t, err)
		require.Equal(t, test.want, got, test.text)
	}
	for _, test := range []struct{ text, message string }{
		{`{"host":{"0|1":{"resources":[]}}}`,
			"config.job_params.host.0|1.resources: is a JSON array, must be an object"},
		{`{"host":{"1":{"resources":{"cpu":"2"}}}}`,
			"config.job_params.host.1.resources.cpu: is a JSON string, must be a number"},
		{`{"common":{"resources":{"cpu":-2}}}`,
			"config.job_params.common.resources.cpu: is -2, must be -1 (no limit) or at least 0.01 cores"},
		{`{"common":{"resources":{"cpu":0.001}}}`,
			"config.job_params.common.resources.cpu: is 0.001 cores, must be at least 0.01"},
		{`{"common":{"resources":{"cpu":1e300}}}`,
			"config.job_params.common.resources.cpu: is 1e+300 cores, must be at most 1000000"},
		{`{"host":{"1":{"resources":{"memory":0.001}}}}`,
			"config.job_params.host.1.resources.memory: is 0.001 GiB, must be at least 0.0078125"},
		{`{"host":{"1":{"resources":{"disk":1e10}}}}`,
			"config.job_params.host.1.resources.disk: is 1e+10 GiB, must be at most 1000000"},
		{`{"common":{"resources":{"gpu":0.5}}}`,
			"config.job_params.common.resources.gpu: the number 0.5 is too large or not whole"},
		{`{"common":{"resources":{"gpu":-2}}}`,
			"config.job_params.common.resources.gpu: is -2, must be a number " +
				"of GPUs from 0 to 1000, or -1 for none"},
		{`{"common":{"resources":{"memory":1e400}}}`,
			"config.job_params.common.resources.memory: the number 1e400 is too large or not whole"},
	} {
		c := Config{JobParams: params(t, test.text)}
		_, err := c.Resources(Part{Role: "host", Index: 1})
		requireRefusal(t, err, CodeBadRequest, test.message)
	}
}

func TestParameterText(t *testing.T) {
	for raw, want := range map[string]string{
		`"text"`:                            `text`,
		`""`:                                ``,
		`"a \"quoted\" \u4e2d\n"`:           "a \"quoted\" 中\n",
		`"True"`:                            `True`,
		`true`:                              `true`,
		`false`:                             `false`,
		`null`:                              `null`,
		`0.0001`:                            `0.0001`,
		`1.0`:                               `1.0`,
		`1e400`:                             `1e400`,
		`-0`:                                `-0`,
		`12345678901234567890`:              `12345678901234567890`,
		`[]`:                                `[]`,
		`{ }`:                               `{}`,
		`["auc","ks"]`:                      `["auc", "ks"]`,
		"{\n\t\"a\" : [ 1 ,2 ],\r\"b\":{}}": `{"a": [1, 2], "b": {}}`,
		`{"a:b,c":"x, y:\"z\\"}`:            `{"a:b,c": "x, y:\"z\\"}`,
		`{"html":"<&>","u":"\u00e9"}`:       `{"html": "<&>", "u": "\u00e9"}`,
		`{"k":"\" : ,\t\\","l":1}`:          `{"k": "\" : ,\t\\", "l": 1}`,
		`[0.10,1E5,-1.50]`:                  `[0.10, 1E5, -1.50]`,
	} {
		got, err := ParameterText(json.RawMessage(raw))
		require.NoError(t, err, raw)
		require.Equal(t, want, got, raw)
	}
	_, err := ParameterText(json.RawMessage(`"open`))
	require.Error(t, err)
}

// TestMaxParameterBytes checks the limit against the kernel: a process can be started with a variable of that
// size, but not with one more byte.
func TestMaxParameterBytes(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the limit is Linux's")
	}
	run := func(bytes int) error {
		cmd := exec.Command("true")
		cmd.Env = []string{"a=" + strings.Repeat("x", bytes-2)}
		return cmd.Run()
	}
	require.NoError(t, run(MaxParameterBytes))
	err := run(MaxParameterBytes + 1)
	require.True(t, errors.Is(err, syscall.E2BIG), "%v", err)
}
