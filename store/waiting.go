package store

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/uptrace/bun"

	"hutong/bfia"
)

// encode returns a value as JSON for a column. The types of this package always marshal.
func encode(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}

// cleanWaits returns waits that both databases accept.
func cleanWaits(waits []bfia.Waiting) []bfia.Waiting {
	kept := append([]bfia.Waiting{}, waits...)
	for i := range kept {
		kept[i] = *cleanWaiting(&kept[i])
	}
	return kept
}

func cleanWaiting(w *bfia.Waiting) *bfia.Waiting {
	kept := *w
	kept.Message, kept.NodeID = cleanReason(kept.Message), cleanReason(kept.NodeID)
	kept.Since = normalizeTime(kept.Since)
	if kept.Until != nil {
		until := normalizeTime(*kept.Until)
		kept.Until = &until
	}
	return &kept
}

// SetScheduleJobWaiting records what a job waits for, at its scheduler.
func (s *Store) SetScheduleJobWaiting(ctx context.Context, jobID string, waits []bfia.Waiting) error {
	return s.setJobWaiting(ctx, (*ScheduleJob)(nil), jobID, waits)
}

// SetJobWaiting records what a job waits for, at a participant.
func (s *Store) SetJobWaiting(ctx context.Context, jobID string, waits []bfia.Waiting) error {
	return s.setJobWaiting(ctx, (*Job)(nil), jobID, waits)
}

func (s *Store) setJobWaiting(ctx context.Context, model any, jobID string, waits []bfia.Waiting) error {
	_, err := s.w.NewUpdate().Model(model).Set("waiting = ?", encode(cleanWaits(waits))).
		Where("job_id = ?", jobID).Exec(ctx)
	return wrap(err, "record what job %s waits for", jobID)
}

// SetTaskWaiting records what one attempt of a part waits for, or that it no longer waits. A wait of the same
// kind keeps the time of its beginning. It does nothing if the part has ended or has another attempt.
func (s *Store) SetTaskWaiting(ctx context.Context, key TaskKey, taskID string, w *bfia.Waiting,
	shown bool) error {
	row, err := s.Task(ctx, key)
	if err != nil {
		return err
	}
	if row.TaskID != "" && row.TaskID != taskID || row.State.Terminal() {
		return nil
	}
	where := func() *bun.UpdateQuery {
		return s.w.NewUpdate().Where(taskKeyWhere+sameAttempt, append(key.args(), taskID)...)
	}
	if err := setWaiting(ctx, where(), (*Task)(nil), row.Waiting, row.Waits, w); err != nil ||
		row.WaitingShown == shown {
		return wrap(err, "record what %s waits for", key)
	}
	_, err = where().Model((*Task)(nil)).Set("waiting_shown = ?", shown).Exec(ctx)
	return wrap(err, "record that a wait of %s is shown", key)
}

// SetSchedulePartWaiting records what a party reports of its part of a task, at the scheduler. See
// [Store.SetTaskWaiting].
func (s *Store) SetSchedulePartWaiting(ctx context.Context, taskID, node string, w *bfia.Waiting) error {
	var parts []SchedulePart
	if err := s.r.NewSelect().Model(&parts).Where("task_id = ? AND node_id = ?", taskID, node).
		Scan(ctx); err != nil {
		return wrap(err, "read the parts of task %s at %s", taskID, node)
	}
	for _, part := range parts {
		if part.State.Terminal() {
			continue
		}
		q := s.w.NewUpdate().Where("task_id = ? AND role = ? AND role_index = ?", taskID, part.Role,
			part.RoleIndex)
		if err := setWaiting(ctx, q, (*SchedulePart)(nil), part.Waiting, part.Waits, w); err != nil {
			return wrap(err, "record what task %s waits for at %s", taskID, node)
		}
	}
	return nil
}

// setWaiting writes a wait if it differs from the recorded one, and keeps that one among the ended waits if
// it was of another kind. A part that has ended keeps none.
func setWaiting(ctx context.Context, q *bun.UpdateQuery, model any, before *bfia.Waiting,
	waits []bfia.Waited, now *bfia.Waiting) error {
	if now.Same(before) {
		return nil
	}
	q.Model(model).Where("state NOT IN (?, ?)", bfia.TaskSuccess, bfia.TaskFailed)
	if before != nil && (now == nil || now.Kind != before.Kind) {
		if waits = endWait(waits, before, time.Now()); len(waits) > 0 {
			q.Set("waits = ?", encode(waits))
		}
	}
	if now == nil {
		q.Set("waiting = NULL")
	} else {
		kept := *cleanWaiting(now)
		if before != nil && before.Kind == kept.Kind {
			kept.Since = before.Since
		}
		q.Set("waiting = ?", encode(kept))
	}
	_, err := q.Exec(ctx)
	return err
}

// ScheduleJobs returns the scheduler's records of these jobs. It leaves out those that it does not schedule.
func (s *Store) ScheduleJobs(ctx context.Context, jobIDs []string) ([]ScheduleJob, error) {
	var jobs []ScheduleJob
	const chunk = 500 // databases limit the length of a statement
	for ids := range slices.Chunk(jobIDs, chunk) {
		var some []ScheduleJob
		if err := s.r.NewSelect().Model(&some).Where("job_id IN (?)", bun.List(ids)).Scan(ctx); err != nil {
			return nil, wrap(err, "read schedule jobs")
		}
		jobs = append(jobs, some...)
	}
	return jobs, nil
}

// RequestsOf returns the requests with which these jobs wait for a reservation at this party.
func (s *Store) RequestsOf(ctx context.Context, jobIDs []string) ([]ReservationRequest, error) {
	var requests []ReservationRequest
	const chunk = 500
	for ids := range slices.Chunk(jobIDs, chunk) {
		var some []ReservationRequest
		if err := s.r.NewSelect().Model(&some).Where("job_id IN (?)", bun.List(ids)).Scan(ctx); err != nil {
			return nil, wrap(err, "read reservation requests")
		}
		requests = append(requests, some...)
	}
	return requests, nil
}

// PartWait is what a part of a task waits for.
type PartWait struct {
	JobID     string        `bun:"job_id"`
	Task      string        `bun:"name"`
	NodeID    string        `bun:"node_id"`
	Role      string        `bun:"role"`
	RoleIndex int           `bun:"role_index"`
	Waiting   *bfia.Waiting `bun:"waiting"`
}

// PartWaits returns what parts of these jobs wait for, by job id: this party's own parts as it knows them,
// and the others of the jobs that it schedules as their parties report them.
func (s *Store) PartWaits(ctx context.Context, node string, jobIDs []string) (map[string][]PartWait, error) {
	waits := map[string][]PartWait{}
	ended := bun.List([]bfia.TaskState{bfia.TaskSuccess, bfia.TaskFailed})
	const chunk = 500
	for ids := range slices.Chunk(jobIDs, chunk) {
		var own, others []PartWait
		err := s.r.NewSelect().TableExpr("t_task AS t").
			ColumnExpr("t.job_id, t.name, ? AS node_id, t.role, t.role_index, t.waiting", node).
			Where("t.job_id IN (?) AND t.waiting IS NOT NULL AND t.state NOT IN (?)", bun.List(ids), ended).
			OrderExpr("t.job_id, t.seq, t.role, t.role_index").Scan(ctx, &own)
		if err != nil {
			return nil, wrap(err, "read what parts wait for")
		}
		err = s.r.NewSelect().TableExpr("t_schedule_part AS p").
			Join("JOIN t_schedule_task AS t ON t.task_id = p.task_id").
			ColumnExpr("p.job_id, t.name, p.node_id, p.role, p.role_index, p.waiting").
			Where("p.job_id IN (?) AND p.waiting IS NOT NULL AND p.state NOT IN (?)", bun.List(ids), ended).
			Where("p.node_id <> ?", node).
			OrderExpr("p.job_id, t.seq, p.role, p.role_index").Scan(ctx, &others)
		if err != nil {
			return nil, wrap(err, "read what parts of other parties wait for")
		}
		for _, w := range append(own, others...) {
			waits[w.JobID] = append(waits[w.JobID], w)
		}
	}
	return waits, nil
}
