package activities

import (
	"context"

	"hutong/bfia"
	"hutong/store"
	"hutong/store/dataset"
)

// ResolveGenerations fills in which generation of its dataset each part of a new job reads: that which is
// current now.
func ResolveGenerations(ctx context.Context, db *store.Store, jobID string, tasks []store.Task) error {
	doc, err := db.JobDocument(ctx, jobID)
	if bfia.CodeOf(err) == bfia.CodeNotFound {
		return nil
	}
	if err != nil {
		return err
	}

	current := map[bfia.Address]string{} // parts of one job read the same
	describe := db.Describe(ctx)
	for i := range tasks {
		t := &tasks[i]
		root, err := rootDataset(doc, describe, t.Name, bfia.Part{Role: t.Role, Index: t.RoleIndex})
		if err != nil {
			return err
		}
		if root == nil {
			continue
		}
		if _, ok := current[*root]; !ok {
			if current[*root], err = currentGeneration(ctx, db, *root); err != nil {
				return err
			}
		}
		t.DatasetGeneration = current[*root]
	}
	return nil
}

// RecordGeneration records which generation of its dataset a part reads, if that was not known when the job
// was created: the dataset may have been uploaded since.
func RecordGeneration(ctx context.Context, db *store.Store, key TaskKey, part bfia.Part) error {
	doc, err := JobDocument(ctx, db, key.JobID)
	if err != nil {
		return err
	}
	root, err := rootDataset(doc, db.Describe(ctx), key.Task, part)
	if err != nil || root == nil {
		return err
	}
	row, err := db.Task(ctx, key.Row())
	if err != nil || row.DatasetGeneration != "" {
		return err
	}

	generation, err := currentGeneration(ctx, db, *root)
	if err != nil || generation == "" {
		return err
	}
	_, err = db.SetTaskGeneration(ctx, key.Row(), generation)
	return err
}

// rootDataset returns the root dataset of a part, or nil. A job that can't be planned has none; its plan
// refused it.
func rootDataset(doc *bfia.Document, describe bfia.Describe, task string, part bfia.Part) (*bfia.Address,
	error) {
	root, err := doc.RootDataset(describe, task, part)
	switch bfia.CodeOf(err) {
	case bfia.CodeInternal, bfia.CodeUnavailable: // the database
		return nil, err
	}
	return root, nil
}

// currentGeneration returns the current generation of a dataset; empty for one that was not uploaded here.
func currentGeneration(ctx context.Context, db *store.Store, address bfia.Address) (string, error) {
	table, err := db.DataTable(ctx, address.Namespace, address.Name)
	if bfia.CodeOf(err) == bfia.CodeNotFound {
		return "", nil
	}
	return table.Generation, err
}

// setGeneration points the input that is an uploaded dataset to the generation that is recorded for the part.
func setGeneration(spec *bfia.ContainerSpec, generation string) {
	for i, in := range spec.Inputs {
		if in.Key == "" {
			spec.Inputs[i].Address = dataset.GenerationAddress(in.Address.Namespace, in.Address.Name,
				generation)
		}
	}
}
