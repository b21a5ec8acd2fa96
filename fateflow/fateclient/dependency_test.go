package fateclient

import (
	"testing"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
)

// TestDependencies checks what FATE-Board draws lines with: components and stages of FATE, and ports. An
// output may feed two ports.
func TestDependencies(t *testing.T) {
	rows := bfia.Port{Type: "dataset", Key: "join.rows"}
	model := bfia.Port{Type: "model", Key: "train.model"}
	task := func(name, component string, in ...bfia.Port) bfia.Component {
		return bfia.Component{Name: name, ComponentName: component, Provider: "p", Version: "1", Input: in}
	}
	join, train := task("join", "psi"), task("train", "lr", rows, rows)
	join.Output = []bfia.Port{{Type: "dataset", Key: "rows"}}
	train.Output = []bfia.Port{{Type: "dataset", Key: "d"}, {Type: "model", Key: "model"}}
	doc := &bfia.Document{DAG: bfia.DAG{Components: []bfia.Component{
		join, train, task("apply", "lr_predict", rows, model),
		task("fold", "other_cv", rows), task("_cv", "_cv"),
	}}}
	describe := func(c bfia.Component) *bfia.Description {
		desc, err := catalog().Describe(c.Provider, c.Version, c.ComponentName)
		if err != nil {
			return nil
		}
		return desc
	}
	got := DependenciesOf(doc, describe, "guest")
	require.Equal(t, []string{"join", "train", "apply", "fold", "_cv"}, got.Components)
	require.Equal(t, map[string]string{"join": "psi", "train": "lr", "apply": "lr", "fold": "other",
		"_cv": "_cv"}, got.Modules)
	require.Equal(t, map[string]string{"join": "default", "train": "train", "apply": "predict",
		"fold": "cross_validation", "_cv": "default"}, got.Stages)
	line := func(port, kind, from, key string) Dependency {
		return Dependency{Type: port, ModelType: kind, Component: from, Output: []string{key}}
	}
	require.Equal(t, map[string][]Dependency{
		"train": {line("train_data", "data", "join", "output_data"),
			line("validate_data", "data", "join", "output_data")},
		"apply": {line("test_data", "data", "join", "output_data"),
			line("input_model", "model", "train", "output_model")},
		"fold": {line("rows", "data", "join", "output_data")}, // no description: the key of the output
	}, got.Edges)
	require.Equal(t, []string{"train", "apply", "fold", "_cv"},
		DependenciesOf(doc, describe, "arbiter").Components)
	require.Len(t, DependenciesOf(doc, describe, "").Components, 5)
}
