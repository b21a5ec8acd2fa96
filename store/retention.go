package store

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"hutong/bfia"
)

// terminalJobs are the final states of a job, openJobs the others. Queries for open jobs name their states,
// so that an index finds the few of them among all that have ended.
var (
	terminalJobs = []bfia.JobState{bfia.JobFinished, bfia.JobRejected}
	openJobs     = []bfia.JobState{bfia.JobPending, bfia.JobReady, bfia.JobRunning}
)

// ExpiredJobs returns the ids of jobs that ended before a time on every side that this party has of them, and
// of those that are being removed: by id, those after one, at most limit.
func (s *Store) ExpiredJobs(ctx context.Context, before time.Time, after string, limit int,
) ([]string, error) {
	return s.ExpiredJobsOfProjects(ctx, before, nil, after, limit)
}

// ExpiredJobsOfProjects does the same with another time for the jobs of some projects.
func (s *Store) ExpiredJobsOfProjects(ctx context.Context, before time.Time, projects map[string]time.Time,
	after string, limit int) ([]string, error) {
	// Selects that have an index each, so that jobs that have not expired are not read, whatever the times of
	// their projects are. With UNION, or with job_id > ? alone, SQLite would read all of them in the order of
	// their ids.
	const ended = `SELECT job_id FROM %s AS j WHERE ended_at < ? AND job_id || '' > ?
		AND NOT EXISTS (SELECT 1 FROM %s AS o WHERE o.job_id = j.job_id
			AND (o.ended_at IS NULL OR o.ended_at >= ?))`
	var selects []string
	var args []any
	add := func(before time.Time, of []string) {
		before = normalizeTime(before)
		for _, sides := range [][2]any{{"t_job", "t_schedule_job"}, {"t_schedule_job", "t_job"}} {
			selects = append(selects, fmt.Sprintf(ended, sides[:]...))
			args = append(args, before, after, before)
			if len(of) > 0 {
				selects[len(selects)-1] += " AND j.project IN (?)"
				args = append(args, bun.List(of))
			}
		}
	}
	var others []string // projects that have the party's time
	if len(projects) > 0 {
		names, err := s.projectNames(ctx)
		if err != nil {
			return nil, wrap(err, "list the projects")
		}
		others = slices.DeleteFunc(names, func(name string) bool {
			_, own := projects[name]
			return own
		})
	}
	add(before, others)
	for _, name := range slices.Sorted(maps.Keys(projects)) {
		add(projects[name], []string{name})
	}
	for _, table := range []string{"t_job", "t_schedule_job"} {
		selects = append(selects, "SELECT job_id FROM "+table+" WHERE removing AND job_id > ?")
		args = append(args, after)
	}
	var ids []string
	err := s.r.NewRaw("SELECT DISTINCT job_id FROM ("+strings.Join(selects, " UNION ALL ")+
		") AS expired ORDER BY job_id LIMIT ?", append(args, limit)...).Scan(ctx, &ids)
	return ids, wrap(err, "list expired jobs")
}

// MarkRemoving marks an ended job of this party as being removed: no other job can reuse its outputs from
// then on. It does nothing for unfinished and unknown jobs.
func (s *Store) MarkRemoving(ctx context.Context, jobID string) error {
	return wrap(s.tx(ctx, func(ctx context.Context, tx bun.Tx) error {
		return markRemoving(ctx, tx, jobID)
	}), "mark job %s for removal", jobID)
}

func markRemoving(ctx context.Context, tx bun.Tx, jobID string) error {
	for _, model := range []any{(*Job)(nil), (*ScheduleJob)(nil)} {
		if _, err := tx.NewUpdate().Model(model).Set("removing = ?", true).
			Where("job_id = ? AND state IN (?)", jobID, bun.List(terminalJobs)).Exec(ctx); err != nil {
			return err
		}
	}
	return nil
}

// ClaimJobRemoval marks a job as being removed, as [Store.MarkRemoving] does, because a user deletes it. It
// returns CodeNotFound for an unknown job, and CodeConflict for one that has not ended, or whose outputs
// another job reuses or may reuse.
func (s *Store) ClaimJobRemoval(ctx context.Context, jobID string) error {
	return wrap(s.actTx(ctx, func(ctx context.Context, tx bun.Tx) error {
		if err := checkJobProject(ctx, tx, jobID); err != nil {
			return err
		}
		// The mark comes first: it locks the row against jobs that reuse the outputs.
		if err := markRemoving(ctx, tx, jobID); err != nil {
			return err
		}
		known := false
		for _, table := range []string{"t_job", "t_schedule_job"} {
			var state []bfia.JobState
			if err := tx.NewSelect().TableExpr("?", bun.Ident(table)).Column("state").
				Where("job_id = ?", jobID).Scan(ctx, &state); err != nil {
				return err
			}
			known = known || len(state) > 0
			if len(state) > 0 && !state[0].Terminal() {
				return bfia.Errorf(bfia.CodeConflict, "job_id: job %s is %s; stop it, or wait for its end",
					jobID,
					state[0])
			}
		}
		if !known {
			return bfia.Errorf(bfia.CodeNotFound, "job_id: job %q is not known", jobID)
		}

		users, err := jobUses(WithoutProjects(ctx), tx, "t_job", false, `
			j.job_id <> ?0 AND NOT j.removing AND j.job_id IN (
			SELECT job_id FROM t_job WHERE old_job_id = ?0 AND old_job_id <> '' AND state IN (?1)
			UNION SELECT job_id FROM t_task WHERE reused_job_id = ?0 AND reused_job_id <> '')`,
			jobID, bun.List(openJobs))
		if err != nil || len(users) == 0 {
			return err
		}
		text, err := describeUses(ctx, tx, users)
		if err != nil {
			return err
		}
		return bfia.Errorf(bfia.CodeConflict,
			"job_id: outputs of job %s are reused by %s; delete those first", jobID, text)
	}), "claim job %s for removal", jobID)
}

// checkNotRemoving locks the job whose outputs a new job may reuse, and returns CodeUnavailable if it is
// being removed.
func checkNotRemoving(ctx context.Context, tx bun.Tx, oldJobID string) error {
	if oldJobID == "" {
		return nil
	}
	if _, err := tx.NewUpdate().Model((*Job)(nil)).Set("removing = removing").Where("job_id = ?", oldJobID).
		Exec(ctx); err != nil {
		return err
	}
	removing, err := tx.NewSelect().Model((*Job)(nil)).Where("job_id = ? AND removing", oldJobID).Exists(ctx)
	if err == nil && removing {
		return bfia.Errorf(bfia.CodeConflict,
			"old_job_id: job %s is being deleted; submit the job again later",
			oldJobID)
	}
	return err
}

// OutputsInUse reports whether a job other than the given one, which is not being removed, wrote or reuses
// the outputs under a task id.
func (s *Store) OutputsInUse(ctx context.Context, jobID, taskID string) (bool, error) {
	used, err := s.w.NewSelect().Model((*Task)(nil)).Join("JOIN t_job AS j ON j.job_id = t.job_id").
		Where("t.job_id <> ? AND NOT j.removing AND (t.task_id = ? OR t.reused_task_id = ?)", jobID, taskID,
			taskID).
		Exists(ctx)
	return used, wrap(err, "find the jobs that use the outputs of task %s", taskID)
}

// RemoveJob deletes a job in one transaction: the rows of both sides, and its document. There may be none.
func (s *Store) RemoveJob(ctx context.Context, jobID string) error {
	return wrap(s.tx(ctx, func(ctx context.Context, tx bun.Tx) error {
		for _, model := range []any{(*ScheduleJob)(nil), (*Job)(nil), (*document)(nil), (*JobClient)(nil),
			(*submission)(nil), (*jobPermit)(nil), (*jobNote)(nil), (*ruleDecision)(nil),
			(*Notification)(nil)} {
			if _, err := tx.NewDelete().Model(model).Where("job_id = ?", jobID).Exec(ctx); err != nil {
				return err
			}
		}
		// Its row in t_job_project stays, since its account does, and so that nobody creates the job again.
		_, err := tx.NewUpdate().Model((*jobProjectRow)(nil)).
			Set("removed_at = ?", normalizeTime(time.Now())).
			Where("job_id = ? AND removed_at IS NULL", jobID).Exec(ctx)
		return err
	}), "remove job %s", jobID)
}

// RemoveUnusedDocuments deletes documents that were stored before a time and belong to no job, and returns
// how many. Such a document remains if the creation of a job fails and its workflow ends before it deletes
// the document.
func (s *Store) RemoveUnusedDocuments(ctx context.Context, before time.Time) (int, error) {
	var ids []string
	if err := s.r.NewSelect().Model((*document)(nil)).Column("job_id").
		Where("created_at < ?", normalizeTime(before)).
		Where("NOT EXISTS (SELECT 1 FROM t_job AS j WHERE j.job_id = d.job_id)").
		Where("NOT EXISTS (SELECT 1 FROM t_schedule_job AS j WHERE j.job_id = d.job_id)").
		Scan(ctx, &ids); err != nil {
		return 0, wrap(err, "list unused documents")
	}
	removed := 0
	for _, id := range ids { // one by one, with the projects of their jobs
		deleted, err := s.deleteUnusedDocument(ctx, id)
		if err != nil {
			return removed, err
		}
		if deleted {
			removed++
		}
	}
	return removed, nil
}

// RemoveUnusedJobClients deletes the records of clients who submitted jobs before a time that were not
// created, and what approval rules decided on such jobs. It returns how many clients.
func (s *Store) RemoveUnusedJobClients(ctx context.Context, before time.Time) (int, error) {
	if _, err := s.w.NewDelete().Model((*ruleDecision)(nil)).Where("created_at < ?", normalizeTime(before)).
		Where("NOT EXISTS (SELECT 1 FROM t_job AS j WHERE j.job_id = rd.job_id)").Exec(ctx); err != nil {
		return 0, wrap(err, "remove what rules decided on jobs that were not created")
	}
	n, err := affected(
		s.w.NewDelete().Model((*JobClient)(nil)).Where("created_at < ?", normalizeTime(before)).
			Where("NOT EXISTS (SELECT 1 FROM t_job AS j WHERE j.job_id = c.job_id)").
			Where("NOT EXISTS (SELECT 1 FROM t_schedule_job AS j WHERE j.job_id = c.job_id)").Exec(ctx),
	)
	return n, wrap(err, "remove the clients of jobs that were not created")
}

// UnfinishedJobs returns the ids of jobs in which this party takes part, that were created before a time and
// have not ended: by id, those after one, at most limit.
func (s *Store) UnfinishedJobs(ctx context.Context, before time.Time, after string, limit int,
) ([]string, error) {
	return s.unfinishedJobs(ctx, (*Job)(nil), before, after, limit)
}

// UnfinishedScheduleJobs does the same for the jobs that this party schedules.
func (s *Store) UnfinishedScheduleJobs(ctx context.Context, before time.Time, after string, limit int,
) ([]string, error) {
	return s.unfinishedJobs(ctx, (*ScheduleJob)(nil), before, after, limit)
}

func (s *Store) unfinishedJobs(ctx context.Context, model any, before time.Time, after string, limit int,
) ([]string, error) {
	var ids []string
	// Read from the writing connection: the caller compares with an earlier answer of Temporal.
	err := s.w.NewSelect().Model(model).Column("job_id").
		Where("state IN (?) AND created_at < ? AND job_id > ?", bun.List(openJobs),
			normalizeTime(before), after).
		Order("job_id").Limit(limit).Scan(ctx, &ids)
	return ids, wrap(err, "list unfinished jobs")
}

// HasUnfinishedJobLike reports whether a job in which this party takes part, and whose id begins with a
// prefix, has not ended.
func (s *Store) HasUnfinishedJobLike(ctx context.Context, prefix string) (bool, error) {
	found, err := s.r.NewSelect().Model((*Job)(nil)).
		Where("state IN (?)", bun.List(openJobs)).
		Where("substr(job_id, 1, ?) = ?", len(prefix), prefix).Exists(ctx)
	return found, wrap(err, "look for jobs whose id begins with %s", prefix)
}

// EndLostJob ends a job in which this party takes part and whose workflow no longer exists. It sets the job
// to FINISHED and its running parts to FAILED, both with the failure, and releases the job's reservation. It
// ignores a job that has ended or is unknown. ended reports whether this call ended the job.
func (s *Store) EndLostJob(ctx context.Context, jobID string, failure *bfia.Failure, at time.Time,
) (ended bool, err error) {
	err = s.tx(ctx, func(ctx context.Context, tx bun.Tx) error {
		if ended, err = endLostJob(ctx, tx, (*Job)(nil), jobID, failure, at); err != nil || !ended {
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
			partFailure := *failure
			partFailure.Role, partFailure.Task = bfia.Part{Role: t.Role, Index: t.RoleIndex}.Self(), t.Name
			text, err := encodeFailure(&partFailure)
			if err != nil {
				return err
			}
			q := tx.NewUpdate().
				Model((*Task)(nil)).
				Set("state = ?", bfia.TaskFailed).
				Set("stop_requested = ?", true).
				Set("failure = COALESCE(failure, ?)", text).
				Where(taskKeyWhere, t.Key().args()...)
			setTransition(q, partFailure.Text(), at, false, true)
			if _, err := q.Exec(ctx); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil && ended {
		s.observeJobEnd(ctx, (*Job)(nil), jobID)
	}
	return ended, wrap(err, "end the lost job %s", jobID)
}

// EndLostScheduleJob does the same for a job that this party schedules.
func (s *Store) EndLostScheduleJob(ctx context.Context, jobID string, failure *bfia.Failure, at time.Time,
) (ended bool, err error) {
	err = s.tx(ctx, func(ctx context.Context, tx bun.Tx) error {
		if ended, err = endLostJob(ctx, tx, (*ScheduleJob)(nil), jobID, failure, at); err != nil || !ended {
			return err
		}
		for _, model := range []any{(*ScheduleTask)(nil), (*SchedulePart)(nil)} {
			q := tx.NewUpdate().
				Model(model).
				Set("state = ?", bfia.TaskFailed).
				Where("job_id = ? AND state = ?", jobID, bfia.TaskRunning)
			setTransition(q, failure.Text(), at, false, true)
			if _, err := q.Exec(ctx); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil && ended {
		s.observeJobEnd(ctx, (*ScheduleJob)(nil), jobID)
	}
	return ended, wrap(err, "end the lost job %s", jobID)
}

func endLostJob(ctx context.Context, tx bun.Tx, model any, jobID string, failure *bfia.Failure, at time.Time,
) (bool, error) {
	text, err := encodeFailure(failure)
	if err != nil {
		return false, err
	}
	q := tx.NewUpdate().
		Model(model).
		Set("state = ?, outcome = ?, waiting = '[]'", bfia.JobFinished, bfia.OutcomeFailed).
		Set("failure = COALESCE(failure, ?)", text).
		Where("job_id = ? AND state NOT IN (?)", jobID, bun.List(terminalJobs))
	setTransition(q, failure.String(), at, false, true)
	n, err := affected(q.Exec(ctx))
	return n > 0, err
}

// SetRemovalFailure records why an expired job of this party could not be removed. The record goes with the
// job.
func (s *Store) SetRemovalFailure(ctx context.Context, jobID, reason string) error {
	_, err := s.w.NewUpdate().Model((*Job)(nil)).Set("removal_failure = ?", cleanReason(reason)).
		Where("job_id = ?", jobID).Exec(ctx)
	return wrap(err, "record that job %s could not be removed", jobID)
}

// RemovalFailures returns the jobs that could not be removed, with the reasons, at most limit.
func (s *Store) RemovalFailures(ctx context.Context, limit int) ([]Job, error) {
	var jobs []Job
	err := s.r.NewSelect().Model(&jobs).Where("removal_failure <> ''").Order("job_id").Limit(limit).Scan(ctx)
	return jobs, wrap(err, "list the jobs that could not be removed")
}
