package participant

import (
	"context"
	"fmt"
	"strings"
	"time"

	"hutong/activities"
	"hutong/bfia"
	"hutong/store"
	"hutong/store/blob"
)

// Reusable returns the tasks of a job that need not run at this party. Its parts of them succeeded in the
// job's old_job_id with the same parameters and inputs, and their outputs still exist. Tasks without a part
// at this party are included.
func Reusable(ctx context.Context, db *store.Store, blobs blob.Store, doc *bfia.Document,
	plan *bfia.Plan) ([]string, error) {
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
	holds := map[string]bool{}
	for _, row := range rows {
		if _, seen := holds[row.Name]; !seen {
			holds[row.Name] = true
		}
		if holds[row.Name] {
			if holds[row.Name], err = canReuse(ctx, db, blobs, row); err != nil {
				return nil, err
			}
		}
	}
	return bfia.Reusable(plan, doc, old, func(task string) bool {
		still, own := holds[task]
		return still || !own
	}), nil
}

// canReuse reports whether a part of an earlier job succeeded, its outputs still exist, and its dataset is
// unchanged.
func canReuse(ctx context.Context, db *store.Store, blobs blob.Store, row store.Task) (bool, error) {
	if row.State != bfia.TaskSuccess || row.StartedAt == nil {
		return false, nil
	}
	if namespace, name, ok := strings.Cut(row.Dataset, "#"); ok {
		table, err := db.DataTable(ctx, namespace, name)
		switch {
		case bfia.CodeOf(err) == bfia.CodeNotFound: // deleted
			return false, nil
		case err != nil:
			return false, err
		case table.Generation != row.DatasetGeneration: // uploaded again
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
			return false, fmt.Errorf("failed to list output %s of task %s: %w", o.Port, row.TaskID, err)
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

// ReuseTask makes the parts of a task use the outputs of the job's old_job_id, without a container. It
// refuses a task whose outputs no longer exist.
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
	reusable := false
	for _, name := range names {
		reusable = reusable || name == ref.TaskName
	}
	if !reusable {
		return activities.Refuse(bfia.Errorf(bfia.CodeNotFound,
			"the outputs of task %s of job %s no longer exist, or have other parameters and inputs",
			ref.TaskName, doc.OldJobID))
	}
	if _, err := a.Store.StartTask(ctx, ref.JobID, ref.TaskName, ref.TaskID, ref.AttemptNumber(),
		in.At); err != nil {
		return activities.Classify(err)
	}
	return activities.Classify(a.Store.ReuseTask(ctx, ref.JobID, ref.TaskName, doc.OldJobID))
}
