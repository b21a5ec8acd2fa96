package activities

import (
	"hutong/bfia"
	"hutong/store"
	"hutong/store/dataset"
)

// setGeneration points the input that is an uploaded dataset to the generation that is recorded for the part.
func setGeneration(spec *bfia.ContainerSpec, generation string) {
	for i, in := range spec.Inputs {
		if in.Key == "" {
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
