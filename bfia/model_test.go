package bfia

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseModelRef(t *testing.T) {
	for text, want := range map[string]ModelRef{
		"j1:boost":         {JobID: "j1", Task: "boost"},
		"j.1:boost.model0": {JobID: "j.1", Task: "boost", Output: "model0"},
		"j:t.a.b":          {JobID: "j", Task: "t", Output: "a.b"},
	} {
		got, err := ParseModelRef(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got)
		require.Equal(t, text, got.String())
	}
	for _, text := range []string{"", "j", "j:", ":t", "j:t.", "j:../t", "j#t", "j:t:u", "j:a/b"} {
		_, err := ParseModelRef(text)
		require.ErrorContains(t, err, "model_id: ", text)
		require.Equal(t, CodeBadRequest, CodeOf(err))
	}
}

// describeModels describes a training and a predicting component.
func describeModels(provider, version, component string) (*Description, error) {
	both := []string{"guest", "host"}
	id := InputParam{Name: "id", Type: "string", Optional: "true"}
	all := []*Description{
		{ComponentName: "PSI", RoleList: both, InputParam: []InputParam{id},
			InputData:  []DataPort{{Name: "data", Category: "dataset"}},
			OutputData: []DataPort{{Name: "data", Category: "dataset"}}},
		{ComponentName: "Scale", RoleList: both, InputParam: []InputParam{id},
			InputData: []DataPort{{Name: "data", Category: "training_set"}},
			OutputData: []DataPort{{Name: "data", Category: "training_set"},
				{Name: "model", Category: "model"}}},
		{ComponentName: "Scale_predict", RoleList: both,
			InputData:  []DataPort{{Name: "model", Category: "model"}, {Name: "data", Category: "test_set"}},
			OutputData: []DataPort{{Name: "out", Category: "test_set"}}},
		{ComponentName: "Boost", RoleList: both,
			InputData: []DataPort{{Name: "data", Category: "dataset"}},
			OutputData: []DataPort{{Name: "scores", Category: "dataset"},
				{Name: "model", Category: "model"}}},
		{ComponentName: "Boost_predict", RoleList: both, InputParam: []InputParam{id},
			InputData: []DataPort{{Name: "model", Category: "model"}, {Name: "data", Category: "dataset"}},
			OutputData: []DataPort{{Name: "predictions", Category: "dataset"},
				{Name: "auc", Category: "report"}}},
	}
	i := slices.IndexFunc(all, func(d *Description) bool { return d.ComponentName == component })
	if i < 0 || provider != "p" || version != "1" {
		return nil, Errorf(CodeNotFound, "componentName: %s:%s has no component %q", provider, version,
			component)
	}
	return all[i], nil
}

func TestRootModel(t *testing.T) {
	describe := Describe(describeModels)
	document := func(component, params string) *Document {
		doc, err := ParseDocument([]byte(`{"job_id":"now","dag":{"components":[{"name":"use",
			"componentName":"` + component + `","provider":"p","version":"1",
			"output":[{"type":"dataset","key":"d"}]}]},
			"config":{"initiator":{"role":"guest","node_id":"A"},"role":{"guest":["A"],"host":["B"]},
			"task_params":{"common":{"use":` + params + `}}}}`))
		require.NoError(t, err)
		return doc
	}
	part := Part{Role: "guest", NodeID: "A"}
	doc := document("Boost_predict", `{"model_id":"old:boost","dataset_id":"n#d","id":"x"}`)
	ref, err := doc.RootModel(describe, "use", part)
	require.NoError(t, err)
	require.Equal(t, &ModelRef{JobID: "old", Task: "boost"}, ref)
	address, err := doc.RootDataset(describe, "use", part)
	require.NoError(t, err)
	require.Equal(t, "n#d", address.String())

	spec, err := NewContainerSpec(doc, describe, "use", part, map[string]string{"use": "id"})
	require.NoError(t, err)
	require.Equal(t, map[string]string{"id": "x"}, spec.Params, "neither dataset_id nor model_id")
	require.Equal(t, ref, spec.Model)
	require.Len(t, spec.Inputs, 2)
	require.True(t, spec.Inputs[0].IsRootDataset())
	require.True(t, spec.Inputs[1].IsRootModel())
	require.Equal(t, "model", spec.Inputs[1].Port)

	// A component without a model input has the parameter for itself; another one may do without a model.
	doc = document("Boost", `{"model_id":"anything at all"}`)
	ref, err = doc.RootModel(describe, "use", part)
	require.NoError(t, err)
	require.Nil(t, ref)
	spec, err = NewContainerSpec(doc, describe, "use", part, map[string]string{"use": "id"})
	require.NoError(t, err)
	require.Equal(t, "anything at all", spec.Params["model_id"])
	spec, err = NewContainerSpec(document("Boost_predict", `{}`), describe, "use", part,
		map[string]string{"use": "id"})
	require.NoError(t, err)
	require.Empty(t, spec.Inputs)

	_, err = NewPlan(document("Boost_predict", `{"model_id":"no model"}`), describe, "")
	require.ErrorContains(t, err, `config.task_params.guest.0.use.model_id: "no model" is not of the form`)
}

func TestCheckModelParties(t *testing.T) {
	training := &Document{Config: Config{Role: map[string][]string{"guest": {"A"}, "host": {"B", "C"},
		"arbiter": {"A"}}}}
	ref := ModelRef{JobID: "j", Task: "t"}
	task := func(parts ...Part) *PlannedTask { return &PlannedTask{Name: "use", Parts: parts} }
	guest, b, c := Part{"guest", 0, "A"}, Part{"host", 0, "B"}, Part{"host", 1, "C"}
	require.NoError(t, CheckModelParties(ref, training, task(guest, b, c)), "the arbiter need not predict")
	for want, parts := range map[string][]Part{
		"was trained with host B, C, but task use runs with host B:": {guest, b},
		"was trained with host B, C, but task use runs with host C, B:": {guest, {"host", 0, "C"},
			{"host", 1, "B"}},
		"was trained with guest A, but task use runs with guest D:":  {{"guest", 0, "D"}, b, c},
		"was trained with no judge, but task use runs with judge A:": {{"judge", 0, "A"}, b, c},
	} {
		err := CheckModelParties(ref, training, task(parts...))
		require.ErrorContains(t, err, "model j:t "+want)
		require.Equal(t, CodeConflict, CodeOf(err))
	}
}
