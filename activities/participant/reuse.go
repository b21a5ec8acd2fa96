package participant

import (
	"context"
	"fmt"
	"time"

	"hutong/activities"
	"hutong/bfia"
	"hutong/store"
	"hutong/store/blob"
)

// Reusable are the tasks of a job that need not run here: this party's parts of them have succeeded in the job's
// old_job_id with the same parameters and inputs, and what they left is still there. A task of which this party has no
// part needs nothing of it.
func Reusable(ctx context.Context, db *store.Store, blobs blob.Store, doc *bfia.Document, plan *bfia.Plan) ([]string, error) {
	if doc.OldJobID == "" {
		return nil, nil
	}
	rows, err := db.Tasks(ctx, doc.OldJobID)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	body, err := db.Document(ctx, doc.OldJobID)
	if bfia.CodeOf(err) == bfia.CodeNotFound {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	old, err := bfia.ParseDocument(body)
	if err != nil {
		return nil, err
	}
	held := map[string]bool{}
	for _, row := range rows {
		if _, seen := held[row.Name]; !seen {
			held[row.Name] = true
		}
		if held[row.Name] {
			if held[row.Name], err = holds(ctx, db, blobs, old, row); err != nil {
				return nil, err
			}
		}
	}
	return bfia.Reusable(plan, doc, old, func(task string) bool {
		still, own := held[task]
		return still || !own
	}), nil
}

// holds tells whether a part of an earlier job has succeeded, left its outputs here, and would read the same data again.
func holds(ctx context.Context, db *store.Store, blobs blob.Store, old *bfia.Document, row store.Task) (bool, error) {
	if row.State != bfia.TaskSuccess || row.StartedAt == nil {
		return false, nil
	}
	part := bfia.Part{Role: row.Role, Index: row.RoleIndex}
	values, err := old.Config.TaskParameters(row.Name, part)
	if err != nil {
		return false, nil
	}
	if root, err := bfia.RootDataset(values); err == nil && root != nil {
		table, err := db.DataTable(ctx, root.Namespace, root.Name)
		switch {
		case bfia.CodeOf(err) == bfia.CodeNotFound: // it is kept elsewhere, or gone: nobody knows whether it changed
			return false, nil
		case err != nil:
			return false, err
		case table.Generation != row.DatasetGeneration: // it was uploaded again
			return false, nil
		}
	}
	outputs, err := db.Outputs(ctx, row.JobID)
	if err != nil {
		return false, err
	}
	for _, o := range outputs {
		if o.TaskName != row.Name || o.Role != row.Role || o.RoleIndex != row.RoleIndex {
			continue
		}
		objects, err := blobs.List(ctx, o.Namespace+"/"+o.Name)
		if err != nil {
			return false, fmt.Errorf("listing output %s of task %s: %w", o.Port, row.TaskID, err)
		}
		if len(objects) == 0 {
			return false, nil
		}
	}
	return true, nil
}

// ReuseTaskInput names an attempt of a task whose outputs an earlier job holds.
type ReuseTaskInput struct {
	Task bfia.TaskRef `json:"task"`
	Plan bfia.Plan    `json:"plan"`
	At   time.Time    `json:"at"`
}

// ReuseTask makes the parts of a task stand for those of the job's old_job_id, in place of a run. What is no longer held
// is refused.
func (a *Activities) ReuseTask(ctx context.Context, in ReuseTaskInput) error {
	ref := in.Task
	body, err := a.Store.Document(ctx, ref.JobID)
	if err != nil {
		return activities.Classify(err)
	}
	doc, err := bfia.ParseDocument(body)
	if err != nil {
		return activities.Classify(err)
	}
	names, err := Reusable(ctx, a.Store, a.Blobs, doc, &in.Plan)
	if err != nil {
		return activities.Classify(err)
	}
	held := false
	for _, name := range names {
		held = held || name == ref.TaskName
	}
	if !held {
		return activities.Refuse(bfia.Errorf(bfia.CodeNotFound, "the outputs of task %s of job %s are no longer here, or not for these parameters and inputs", ref.TaskName, doc.OldJobID))
	}
	if _, err := a.Store.StartTask(ctx, ref.JobID, ref.TaskName, ref.TaskID, ref.AttemptNumber(), in.At); err != nil {
		return activities.Classify(err)
	}
	return activities.Classify(a.Store.ReuseTask(ctx, ref.JobID, ref.TaskName, doc.OldJobID))
}
