package store

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/uptrace/bun"

	"hutong/bfia"
)

// UpdateScheduleTasks moves tasks and parts of them forward, as of at, in one transaction. It skips those
// that are in that state or a later one. For an unknown task or part it returns CodeNotFound and changes
// nothing.
func (s *Store) UpdateScheduleTasks(ctx context.Context, changes []ScheduleTaskChange, at time.Time) error {
	// Sort, so that two callers do not deadlock on each other's rows.
	changes = slices.Clone(changes)
	slices.SortStableFunc(changes,
		func(a, b ScheduleTaskChange) int { return cmp.Compare(a.TaskID, b.TaskID) })
	for _, c := range changes {
		if err := checkTaskStateOrEmpty(c.State); err != nil {
			return err
		}
		for _, p := range c.Parts {
			if err := checkTaskStateOrEmpty(p.State); err != nil {
				return err
			}
		}
	}
	return wrap(s.tx(ctx, func(ctx context.Context, tx bun.Tx) error {
		for _, c := range changes {
			_, err := advanceTask(ctx, tx, (*ScheduleTask)(nil), c.State, c.Reason, at, "task_id = ?",
				c.TaskID)
			if err != nil {
				return err
			}
			parts := slices.Clone(c.Parts)
			slices.SortStableFunc(parts, func(a, b SchedulePartChange) int {
				return cmp.Or(cmp.Compare(a.Role, b.Role), cmp.Compare(a.RoleIndex, b.RoleIndex))
			})
			for _, p := range parts {
				_, err := advanceTask(ctx, tx, (*SchedulePart)(nil), p.State, p.Reason, at,
					"task_id = ? AND role = ? AND role_index = ?", c.TaskID, p.Role, p.RoleIndex)
				if err != nil {
					return err
				}
			}
		}
		return nil
	}), "update tasks")
}

// FailRunningScheduleTasks sets all RUNNING tasks of a job, and their RUNNING parts, to FAILED. Tasks and
// parts that have not started keep their state, as the protocol requires for a stopped job. Parts without a
// failure get this one.
func (s *Store) FailRunningScheduleTasks(ctx context.Context, jobID string, failure *bfia.Failure,
	at time.Time) error {
	text, err := encodeFailure(failure)
	if err != nil {
		return wrap(err, "fail the running tasks of job %s", jobID)
	}
	return wrap(s.tx(ctx, func(ctx context.Context, tx bun.Tx) error {
		for _, model := range []any{(*ScheduleTask)(nil), (*SchedulePart)(nil)} {
			q := tx.NewUpdate().
				Model(model).
				Set("state = ?", bfia.TaskFailed).
				Where("job_id = ? AND state = ?", jobID, bfia.TaskRunning)
			if _, isPart := model.(*SchedulePart); isPart {
				q.Set("failure = COALESCE(failure, ?)", text)
			}
			setTransition(q, failure.Text(), at, false, true)
			if _, err := q.Exec(ctx); err != nil {
				return err
			}
		}
		return nil
	}), "fail the running tasks of job %s", jobID)
}

func checkTaskStateOrEmpty(s bfia.TaskState) error {
	if s == "" {
		return nil
	}
	return checkTaskState(s)
}

// advanceTask moves a task's row forward, on either side; where and args select the row. It reports whether
// the state has changed.
func advanceTask(ctx context.Context, db bun.IDB, model any, state bfia.TaskState, reason string,
	at time.Time, where string, args ...any) (changed bool, err error) {
	if before := taskStatesBefore(state); len(before) > 0 {
		q := db.NewUpdate().
			Model(model).
			Set("state = ?", state).
			Where(where, args...).
			Where("state IN (?)", bun.List(before))
		setTransition(q, reason, at, state == bfia.TaskRunning, state.Terminal())
		if n, err := affected(q.Exec(ctx)); err != nil || n > 0 {
			return err == nil, err
		}
	}
	exists, err := db.NewSelect().Model(model).Where(where, args...).Exists(ctx)
	if err == nil && !exists {
		return false, bfia.Errorf(bfia.CodeNotFound, "task %v is not known", args)
	}
	return false, err
}

// RestartScheduleTask makes a task RUNNING again, as a further attempt under an id of its own. Its parts are
// READY. The attempt before moves to the earlier ones; lost describes it. It does nothing if the task has
// this attempt or a later one. It returns CodeNotFound for an unknown task.
func (s *Store) RestartScheduleTask(ctx context.Context, jobID, name, taskID string, attempt int,
	lost LostAttempt, at time.Time) error {
	if lost.EndedAt.IsZero() { // of a workflow from before migration 0006
		lost.EndedAt = at
	}
	var before []SchedulePart // of the attempt before; nil if this one is recorded already
	err := s.tx(ctx, func(ctx context.Context, tx bun.Tx) error {
		before = nil
		var task ScheduleTask
		if err := selectOne(ctx, tx.NewSelect().Where("job_id = ? AND name = ?", jobID, name), &task,
			"task_name: task %q of job %q", name, jobID); err != nil {
			return err
		}
		if task.Attempt >= attempt {
			return nil
		}
		var parts []SchedulePart
		if err := tx.NewSelect().Model(&parts).Where("task_id = ?", task.TaskID).Scan(ctx); err != nil {
			return err
		}
		before = slices.Clone(parts)
		if err := recordLostAttempt(ctx, tx, task, parts, lost); err != nil {
			return err
		}
		if _, err := tx.NewDelete().Model((*ScheduleTask)(nil)).Where("task_id = ?", task.TaskID).
			Exec(ctx); err != nil { // and, by the foreign key, its parts
			return err
		}
		task.TaskID, task.Attempt, task.State, task.Reason, task.EndedAt = taskID, attempt, bfia.TaskRunning,
			"", nil
		if task.StartedAt == nil {
			startedAt := normalizeTime(at)
			task.StartedAt = &startedAt
		}
		for i := range parts {
			parts[i] = SchedulePart{
				TaskID:    taskID,
				Role:      parts[i].Role,
				RoleIndex: parts[i].RoleIndex,
				JobID:     jobID,
				NodeID:    parts[i].NodeID,
				State:     bfia.TaskReady,
			}
		}
		if _, err := tx.NewInsert().Model(&task).Exec(ctx); err != nil {
			return err
		}
		_, err := tx.NewInsert().Model(&parts).Exec(ctx)
		return err
	})
	if err == nil && before != nil {
		s.observeAttempt(before, lost.Failure)
	}
	return wrap(err, "start attempt %d of task %s of job %s", attempt, name, jobID)
}

// ScheduleTasks returns the tasks of a job, in the DAG's order; none for an unknown job.
func (s *Store) ScheduleTasks(ctx context.Context, jobID string) ([]ScheduleTask, error) {
	return scheduleTasks(ctx, s.r, jobID)
}

func scheduleTasks(ctx context.Context, db bun.IDB, jobID string) ([]ScheduleTask, error) {
	var tasks []ScheduleTask
	err := db.NewSelect().Model(&tasks).Where("job_id = ?", jobID).Order("seq", "name").Scan(ctx)
	return tasks, wrap(err, "read the tasks of job %s", jobID)
}

// ScheduleParts returns the parts of all tasks of a job, by task, role and index; none for an unknown job.
func (s *Store) ScheduleParts(ctx context.Context, jobID string) ([]SchedulePart, error) {
	return scheduleParts(ctx, s.r, jobID)
}

func scheduleParts(ctx context.Context, db bun.IDB, jobID string) ([]SchedulePart, error) {
	var parts []SchedulePart
	err := db.NewSelect().
		Model(&parts).
		Where("job_id = ?", jobID).
		Order("task_id", "role", "role_index").
		Scan(ctx)
	return parts, wrap(err, "read the parts of the tasks of job %s", jobID)
}

// ScheduleTaskByID returns one task by its id, or CodeNotFound if there is none.
func (s *Store) ScheduleTaskByID(ctx context.Context, taskID string) (ScheduleTask, error) {
	var task ScheduleTask
	err := selectOne(ctx, s.r.NewSelect().Where("task_id = ?", taskID), &task, "task_id: task %q", taskID)
	return task, err
}
