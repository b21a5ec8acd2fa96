package bfia

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestReusable(t *testing.T) {
	const text = `{"job_id":"j","dag":{"components":[
		{"name":"a","componentName":"A","provider":"p","version":"1","output":[{"type":"dataset","key":"d"}]},
		{"name":"b","componentName":"B","provider":"p","version":"1","input":[{"type":"dataset","key":"a.d"}]},
		{"name":"c","componentName":"C","provider":"p","version":"1"}]},
		"config":{"initiator":{"role":"guest","node_id":"A"},"role":{"guest":["A"],"host":["B"]},
		"task_params":{"common":{"a":{"x":0.1},"b":{"y":{"k":[1,2]}}},"host":{"0":{"c":{"z":"z"}}}}}}`
	plan := &Plan{Tasks: []PlannedTask{{Name: "a"}, {Name: "b", DependsOn: []string{"a"}}, {Name: "c"}}}
	parse := func(s string) *Document {
		doc, err := ParseDocument([]byte(s))
		require.NoError(t, err)
		return doc
	}
	all := func(string) bool { return true }
	now := parse(text)
	require.Equal(t, []string{"a", "b", "c"}, Reusable(plan, now, parse(text), all))
	require.Equal(t, []string{"c"}, Reusable(plan, now, now, func(task string) bool { return task != "a" }),
		"nothing after what must run")
	for change, want := range map[string][]string{
		`"y":{"k":[1,2]}=>"y": {"k": [1, 2]}`: {"a", "b", "c"},
		`"y":{"k":[1,2]}=>"y":{"k":[1,3]}`:    {"a", "c"},
		`"x":0.1=>"x":0.10`:                   {"c"},
		`"x":0.1=>"x":0.1,"more":1`:           {"c"},
		`"z":"z"=>"z":"y"`:                    {"a", "b"},
		`"componentName":"C","provider":"p","version":"1"=>"componentName":"C","provider":"p","version":"2"`: {"a", "b"},
		`"componentName":"A"=>"componentName":"X"`:                                                           {"c"},
		`"key":"d"}]=>"key":"e"}]`:                                                                           {"c"},
		`"host":["B"]=>"host":["C"]`:                                                                         nil,
		`"name":"c"=>"name":"z"`:                                                                             {"a", "b"},
	} {
		from, to, _ := strings.Cut(change, "=>")
		require.Contains(t, text, from)
		require.Equal(t, want, Reusable(plan, now, parse(strings.Replace(text, from, to, 1)), all), change)
	}
}
