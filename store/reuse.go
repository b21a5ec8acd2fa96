package store

import (
	"cmp"
	"context"

	"github.com/uptrace/bun"

	"hutong/bfia"
)

// ReuseTask records that this node's parts of a task stand for those of the same name of an earlier job: their outputs
// lie where that job's do. CodeNotFound when the earlier job has no such parts here.
func (s *Store) ReuseTask(ctx context.Context, jobID, name, oldJobID string) error {
	return wrap(s.tx(ctx, func(ctx context.Context, tx bun.Tx) error {
		// Not while its outputs are being removed; and until this is written, nobody begins with that.
		kept, err := affected(tx.NewUpdate().Model((*Job)(nil)).Set("removing = removing").Where("job_id = ? AND NOT removing", oldJobID).Exec(ctx))
		if err != nil {
			return err
		}
		if kept == 0 {
			return bfia.Errorf(bfia.CodeNotFound, "old_job_id: job %q is not known at this node, or not any more", oldJobID)
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
					Set("reused_job_id = ?", cmp.Or(o.ReusedJobID, oldJobID)).Set("reused_task_id = ?", o.OutputTaskID()).Exec(ctx); err != nil {
					return err
				}
			}
			if !found {
				return bfia.Errorf(bfia.CodeNotFound, "old_job_id: job %q has no task %q in the role %s.%d at this node", oldJobID, name, part.Role, part.RoleIndex)
			}
		}
		return nil
	}), "reuse task %s of job %s", name, oldJobID)
}

// OutputTaskID is the task id under which the outputs of a part lie: its own, or that of the earlier task that it stands for.
func (t Task) OutputTaskID() string { return cmp.Or(t.ReusedTaskID, t.TaskID) }
