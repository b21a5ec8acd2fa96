package store

import (
	"cmp"
	"context"

	"github.com/uptrace/bun"

	"hutong/bfia"
)

// ReuseTask records that this party's parts of a task reuse the outputs of the parts of the same name of an
// earlier job. It returns CodeNotFound if the earlier job has no such parts here.
func (s *Store) ReuseTask(ctx context.Context, jobID, name, oldJobID string) error {
	return wrap(s.tx(ctx, func(ctx context.Context, tx bun.Tx) error {
		// The update locks the row: housekeeping can't begin to remove the job before this transaction ends.
		kept, err := affected(
			tx.NewUpdate().
				Model((*Job)(nil)).
				Set("removing = removing").
				Where("job_id = ? AND NOT removing", oldJobID).
				Exec(ctx),
		)
		if err != nil {
			return err
		}
		project, _, err := jobProject(ctx, tx, jobID)
		if err != nil {
			return err
		}
		oldProject, _, err := jobProject(ctx, tx, oldJobID)
		if err != nil {
			return err
		}
		if kept == 0 || oldProject != project {
			return bfia.Errorf(bfia.CodeNotFound,
				"old_job_id: job %q does not exist at this party, or no longer", oldJobID)
		}
		parts, err := s.tasks(ctx, tx, "job_id = ? AND name = ?", jobID, name)
		if err != nil {
			return err
		}
		old, err := s.tasks(ctx, tx, "job_id = ? AND name = ?", oldJobID, name)
		if err != nil {
			return err
		}
		for _, part := range parts {
			found := false
			for _, o := range old {
				if o.Role != part.Role || o.RoleIndex != part.RoleIndex {
					continue
				}
				found = true
				if _, err := tx.NewUpdate().Model((*Task)(nil)).Where(taskKeyWhere, part.Key().args()...).
					Set("reused_job_id = ?", cmp.Or(o.ReusedJobID, oldJobID)).
					Set("reused_task_id = ?", o.OutputTaskID()).Exec(ctx); err != nil {
					return err
				}
			}
			if !found {
				return bfia.Errorf(bfia.CodeNotFound,
					"old_job_id: job %q has no task %q in the role %s.%d at this party", oldJobID, name,
					part.Role, part.RoleIndex)
			}
		}
		return nil
	}), "reuse task %s of job %s", name, oldJobID)
}

// OutputTaskID returns the task id under which the outputs of the part are stored: its own, or that of the
// reused task.
func (t Task) OutputTaskID() string { return cmp.Or(t.ReusedTaskID, t.TaskID) }
