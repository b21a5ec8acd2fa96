package store

import (
	"context"
	"time"

	"github.com/uptrace/bun"

	"hutong/bfia"
)

// terminalJobs are the states in which a job stays.
var terminalJobs = []bfia.JobState{bfia.JobFinished, bfia.JobRejected}

// ExpiredJobs are the ids of jobs that had ended before a time, on each side that this node has of them, and of those whose
// removal has begun: by id, those after one, at most limit.
func (s *Store) ExpiredJobs(ctx context.Context, before time.Time, after string, limit int) ([]string, error) {
	var ids []string
	before = truncateTime(before)
	err := s.r.NewRaw(`SELECT job_id FROM t_job AS j WHERE (ended_at < ? OR removing) AND job_id > ?
		AND NOT EXISTS (SELECT 1 FROM t_schedule_job AS o WHERE o.job_id = j.job_id AND (o.ended_at IS NULL OR o.ended_at >= ?) AND NOT j.removing)
		UNION SELECT job_id FROM t_schedule_job AS j WHERE ended_at < ? AND job_id > ?
		AND NOT EXISTS (SELECT 1 FROM t_job AS o WHERE o.job_id = j.job_id AND (o.ended_at IS NULL OR o.ended_at >= ?))
		ORDER BY job_id LIMIT ?`, before, after, before, before, after, before, limit).Scan(ctx, &ids)
	return ids, wrap(err, "list expired jobs")
}

// MarkRemoving marks a job of this node's that has ended as one that is being removed: from here on no other job can take
// over its outputs. Other jobs, and unknown ones, stay as they are.
func (s *Store) MarkRemoving(ctx context.Context, jobID string) error {
	_, err := s.w.NewUpdate().Model((*Job)(nil)).Set("removing = ?", true).
		Where("job_id = ? AND state IN (?)", jobID, bun.List(terminalJobs)).Exec(ctx)
	return wrap(err, "begin the removal of job %s", jobID)
}

// OutputsInUse tells whether what lies under a task's id belongs to another job too, one that is kept: it made it, or has taken
// it over.
func (s *Store) OutputsInUse(ctx context.Context, jobID, dataID string) (bool, error) {
	used, err := s.w.NewSelect().Model((*Task)(nil)).Join("JOIN t_job AS j ON j.job_id = t.job_id").
		Where("t.job_id <> ? AND NOT j.removing AND (t.task_id = ? OR t.reused_task_id = ?)", jobID, dataID, dataID).Exists(ctx)
	return used, wrap(err, "look who uses the outputs of task %s", dataID)
}

// RemoveJob forgets all of a job at once: the rows of both sides, and its document. There may be none.
func (s *Store) RemoveJob(ctx context.Context, jobID string) error {
	return wrap(s.tx(ctx, func(ctx context.Context, tx bun.Tx) error {
		for _, model := range []any{(*ScheduleJob)(nil), (*Job)(nil), (*document)(nil)} {
			if _, err := tx.NewDelete().Model(model).Where("job_id = ?", jobID).Exec(ctx); err != nil {
				return err
			}
		}
		return nil
	}), "remove job %s", jobID)
}

// RemoveUnusedDocuments forgets documents that came before a time and are of no job that is known here, and answers how
// many: those of jobs that were never created, whose workflow did not come as far as to say so.
func (s *Store) RemoveUnusedDocuments(ctx context.Context, before time.Time) (int, error) {
	n, err := affected(s.w.NewDelete().Model((*document)(nil)).Where("created_at < ?", truncateTime(before)).
		Where("NOT EXISTS (SELECT 1 FROM t_job AS j WHERE j.job_id = d.job_id)").
		Where("NOT EXISTS (SELECT 1 FROM t_schedule_job AS j WHERE j.job_id = d.job_id)").Exec(ctx))
	return n, wrap(err, "remove unused documents")
}

// UnfinishedJobs are the ids of jobs in which this node takes part, were created before a time, and have not ended: by id, those
// after one, at most limit.
func (s *Store) UnfinishedJobs(ctx context.Context, before time.Time, after string, limit int) ([]string, error) {
	return s.unfinishedJobs(ctx, (*Job)(nil), before, after, limit)
}

// UnfinishedScheduleJobs is [Store.UnfinishedJobs] of the jobs that this node schedules.
func (s *Store) UnfinishedScheduleJobs(ctx context.Context, before time.Time, after string, limit int) ([]string, error) {
	return s.unfinishedJobs(ctx, (*ScheduleJob)(nil), before, after, limit)
}

func (s *Store) unfinishedJobs(ctx context.Context, model any, before time.Time, after string, limit int) ([]string, error) {
	var ids []string
	// From the database that is written to: the caller has the engine's word that came before.
	err := s.w.NewSelect().Model(model).Column("job_id").
		Where("state NOT IN (?) AND created_at < ? AND job_id > ?", bun.List(terminalJobs), truncateTime(before), after).
		Order("job_id").Limit(limit).Scan(ctx, &ids)
	return ids, wrap(err, "list jobs that have not ended")
}

// EndLostJob ends a job in which this node takes part, and that nothing brings to its end any more: it is FINISHED, what ran
// is FAILED, and both tell why; the room that it held is free. A job that has ended stays as it is, and so does an unknown one; ended tells whether it was
// this call that ended it.
func (s *Store) EndLostJob(ctx context.Context, jobID string, why *bfia.Failure, at time.Time) (ended bool, err error) {
	err = s.tx(ctx, func(ctx context.Context, tx bun.Tx) error {
		if ended, err = endLostJob(ctx, tx, (*Job)(nil), jobID, why, at); err != nil || !ended {
			return err
		}
		tasks, err := s.tasks(ctx, tx, "job_id = ? AND state = ?", jobID, bfia.TaskRunning)
		if err != nil {
			return err
		}
		for _, model := range []any{(*ReservedSlot)(nil), (*ReservationRequest)(nil)} {
			if _, err := tx.NewDelete().Model(model).Where("job_id = ?", jobID).Exec(ctx); err != nil {
				return err
			}
		}
		for _, t := range tasks {
			placed := *why
			placed.Role, placed.Task = bfia.Part{Role: t.Role, Index: t.RoleIndex}.Self(), t.Name
			text, err := encodeFailure(&placed)
			if err != nil {
				return err
			}
			q := tx.NewUpdate().Model((*Task)(nil)).Set("state = ?", bfia.TaskFailed).Set("stop_requested = ?", true).
				Set("failure = COALESCE(failure, ?)", text).Where(taskKeyWhere, t.Key().args()...)
			setTransition(q, placed.Text(), at, false, true)
			if _, err := q.Exec(ctx); err != nil {
				return err
			}
		}
		return nil
	})
	return ended, wrap(err, "end the lost job %s", jobID)
}

// EndLostScheduleJob is [Store.EndLostJob] of a job that this node schedules.
func (s *Store) EndLostScheduleJob(ctx context.Context, jobID string, why *bfia.Failure, at time.Time) (ended bool, err error) {
	err = s.tx(ctx, func(ctx context.Context, tx bun.Tx) error {
		if ended, err = endLostJob(ctx, tx, (*ScheduleJob)(nil), jobID, why, at); err != nil || !ended {
			return err
		}
		for _, model := range []any{(*ScheduleTask)(nil), (*SchedulePart)(nil)} {
			q := tx.NewUpdate().Model(model).Set("state = ?", bfia.TaskFailed).Where("job_id = ? AND state = ?", jobID, bfia.TaskRunning)
			setTransition(q, why.Text(), at, false, true)
			if _, err := q.Exec(ctx); err != nil {
				return err
			}
		}
		return nil
	})
	return ended, wrap(err, "end the lost job %s", jobID)
}

func endLostJob(ctx context.Context, tx bun.Tx, model any, jobID string, why *bfia.Failure, at time.Time) (bool, error) {
	text, err := encodeFailure(why)
	if err != nil {
		return false, err
	}
	q := tx.NewUpdate().Model(model).Set("state = ?", bfia.JobFinished).Set("failure = COALESCE(failure, ?)", text).
		Where("job_id = ? AND state NOT IN (?)", jobID, bun.List(terminalJobs))
	setTransition(q, why.String(), at, false, true)
	n, err := affected(q.Exec(ctx))
	return n > 0, err
}
