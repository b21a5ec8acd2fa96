package activities

import (
	"strings"

	"hutong/bfia"
	"hutong/store"
	"hutong/store/dataset"
)

// setGeneration points the input that is an uploaded dataset to the generation that is recorded for the part.
func setGeneration(spec *bfia.ContainerSpec, generation string) {
	for i, in := range spec.Inputs {
		if in.IsRootDataset() {
			spec.Inputs[i].Address = dataset.GenerationAddress(in.Address.Namespace, in.Address.Name,
				generation)
		}
	}
}

// RootDataset returns the dataset that a part reads, as namespace#name, or an empty string. A job that can't
// be planned reads none; its plan refused it.
func RootDataset(record *store.JobRecord, task string, part bfia.Part) string {
	root, err := record.Document.RootDataset(record.Registry.Describe, task, part)
	if err != nil || root == nil {
		return ""
	}
	return root.String()
}

// setModel points the input that is a model of an earlier job to this party's part of it. A task without one
// on record has none.
func setModel(spec *bfia.ContainerSpec, address string) {
	namespace, name, _ := strings.Cut(address, "#")
	for i, in := range spec.Inputs {
		if in.IsRootModel() {
			spec.Inputs[i].Address = bfia.Address{Namespace: namespace, Name: name}
		}
	}
}

// RootModel returns the model of an earlier job that a part uses, or an empty string. A job that can't be
// planned uses none; its plan refused it.
func RootModel(record *store.JobRecord, task string, part bfia.Part) string {
	ref, err := record.Document.RootModel(record.Registry.Describe, task, part)
	if err != nil || ref == nil {
		return ""
	}
	return ref.String()
}
