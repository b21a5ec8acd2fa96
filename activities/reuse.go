package activities

import (
	"context"
	"fmt"
	"time"

	"hutong/bfia"
	"hutong/store"
)

// Reusable are the tasks of a job that need not run here: this party's parts of them have succeeded in the job's
// old_job_id with the same parameters and inputs, and what they left is still there. A task of which this party has no
// part needs nothing of it.
func (r *Records) Reusable(ctx context.Context, doc *bfia.Document, plan *bfia.Plan) ([]string, error) {
	if doc.OldJobID == "" {
		return nil, nil
	}
	rows, err := r.Store.Tasks(ctx, doc.OldJobID)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	body, err := r.Store.Document(ctx, doc.OldJobID)
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
			if held[row.Name], err = r.holds(ctx, old, row); err != nil {
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
func (r *Records) holds(ctx context.Context, old *bfia.Document, row store.Task) (bool, error) {
	if row.State != bfia.TaskSuccess || row.StartedAt == nil {
		return false, nil
	}
	part := bfia.Part{Role: row.Role, Index: row.RoleIndex}
	values, err := old.Config.TaskParameters(row.Name, part)
	if err != nil {
		return false, nil
	}
	if root, err := bfia.RootDataset(values); err == nil && root != nil {
		table, err := r.Store.DataTable(ctx, root.Namespace, root.Name)
		switch {
		case bfia.CodeOf(err) == bfia.CodeNotFound: // it is kept elsewhere, or gone: nobody knows whether it changed
			return false, nil
		case err != nil:
			return false, err
		case table.Generation != row.DatasetGeneration: // it was uploaded again
			return false, nil
		}
	}
	outputs, err := r.Store.Outputs(ctx, row.JobID)
	if err != nil {
		return false, err
	}
	for _, o := range outputs {
		if o.TaskName != row.Name || o.Role != row.Role || o.RoleIndex != row.RoleIndex {
			continue
		}
		objects, err := r.Blobs.List(ctx, o.Namespace+"/"+o.Name)
		if err != nil {
			return false, fmt.Errorf("listing output %s of task %s: %w", o.Port, row.TaskID, err)
		}
		if len(objects) == 0 {
			return false, nil
		}
	}
	return true, nil
}

// ReuseTask makes the parts of a task stand for those of the job's old_job_id, in place of a run. What is no longer held
// is refused.
func (r *Records) ReuseTask(ctx context.Context, ref bfia.TaskRef, plan bfia.Plan, at time.Time) error {
	body, err := r.Store.Document(ctx, ref.JobID)
	if err != nil {
		return final(err)
	}
	doc, err := bfia.ParseDocument(body)
	if err != nil {
		return final(err)
	}
	names, err := r.Reusable(ctx, doc, &plan)
	if err != nil {
		return final(err)
	}
	held := false
	for _, name := range names {
		held = held || name == ref.TaskName
	}
	if !held {
		return refused(bfia.Errorf(bfia.CodeNotFound, "the outputs of task %s of job %s are no longer here, or not for these parameters and inputs", ref.TaskName, doc.OldJobID))
	}
	if _, err := r.Store.StartTask(ctx, ref.JobID, ref.TaskName, ref.TaskID, ref.AttemptNumber(), at); err != nil {
		return final(err)
	}
	return final(r.Store.ReuseTask(ctx, ref.JobID, ref.TaskName, doc.OldJobID))
}
