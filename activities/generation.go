package activities

import (
	"hutong/bfia"
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

// RootDataset returns the dataset that a part's parameters name, as namespace#name, or an empty string.
// Malformed parameters name none; the job's plan refused them.
func RootDataset(doc *bfia.Document, task string, part bfia.Part) string {
	values, err := doc.Config.TaskParameters(task, part)
	if err != nil {
		return ""
	}
	root, err := bfia.RootDataset(values)
	if err != nil || root == nil {
		return ""
	}
	return root.String()
}
