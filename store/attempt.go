package store

import (
	"context"
	"slices"
	"time"

	"github.com/uptrace/bun"

	"hutong/bfia"
)

// EarlierAttempt is the record of an attempt of a part of a task that a later attempt has replaced in its
// [Task]. Its log stays readable. Those of before migration 0006 have no times.
type EarlierAttempt struct {
	bun.BaseModel `bun:"table:t_earlier_attempt,alias:e" json:"-"`

	JobID         string `bun:"job_id,pk"`
	Name          string `bun:"name,pk"`
	Role          string `bun:"role,pk"`
	RoleIndex     int    `bun:"role_index,pk"`
	Attempt       int    `bun:"attempt,pk"`
	TaskID        string `bun:"task_id"`
	ContainerName string `bun:"container_name"`
	// State is FAILED also for a part that ran when another part lost the attempt. It has no failure then.
	State     bfia.TaskState `bun:"state"`
	Reason    string         `bun:"reason"`
	Failure   *bfia.Failure  `bun:"failure"`
	Waits     []bfia.Waited  `bun:"waits"`
	StartedAt *time.Time     `bun:"started_at"`
	EndedAt   *time.Time     `bun:"ended_at"`
	// Cause is the failure that ended the attempt, at whichever party, as the scheduler reports it; nil if it
	// does not.
	Cause *bfia.Failure `bun:"cause"`
}

var _ bun.AfterScanRowHook = (*EarlierAttempt)(nil)

// AfterScanRow normalizes the times.
func (e *EarlierAttempt) AfterScanRow(context.Context) error {
	normalizeTimes(e.StartedAt, e.EndedAt)
	return nil
}

// recordEarlierAttempts copies what is needed of the rows that a later attempt is about to reset. An attempt
// that has not ended ends at the given time, since another one follows.
func recordEarlierAttempts(ctx context.Context, tx bun.Tx, jobID, name, taskID string, attempt int,
	at time.Time) error {
	var rows []Task
	if err := tx.NewSelect().Model(&rows).
		Where("job_id = ? AND name = ? AND task_id NOT IN ('', ?) AND attempt < ?", jobID, name, taskID,
			attempt).
		Scan(ctx); err != nil || len(rows) == 0 {
		return err
	}
	var earlier []EarlierAttempt
	for _, t := range rows {
		e := EarlierAttempt{JobID: t.JobID, Name: t.Name, Role: t.Role, RoleIndex: t.RoleIndex,
			Attempt: t.Attempt, TaskID: t.TaskID, ContainerName: t.ContainerName,
			Reason: t.Reason, Failure: t.Failure, StartedAt: t.StartedAt}
		e.State, e.EndedAt = endAttempt(t.State, t.EndedAt, at)
		e.Waits = endWait(t.Waits, t.Waiting, *e.EndedAt)
		earlier = append(earlier, e)
	}
	_, err := tx.NewInsert().Model(&earlier).On("CONFLICT DO NOTHING").Exec(ctx)
	return err
}

// ExplainAttempt records why the attempt before the given one ended, as its scheduler reports it in
// next.Lost. The first report stays. An attempt whose start never arrived here gets a record as well, in
// which the parts are READY and have neither task id nor times.
func (s *Store) ExplainAttempt(ctx context.Context, next bfia.TaskRef) error {
	number := next.AttemptNumber() - 1
	text, err := encodeFailure(next.Lost)
	if err != nil {
		return wrap(err, "record the cause of an attempt of task %s", next.TaskName)
	}
	err = s.tx(ctx, func(ctx context.Context, tx bun.Tx) error {
		parts := tx.NewSelect().Model((*Task)(nil)).
			Column("job_id", "name", "role", "role_index").ColumnExpr("?, '', '', ?", number, bfia.TaskReady).
			Where("job_id = ? AND name = ?", next.JobID, next.TaskName)
		if _, err := tx.NewRaw("INSERT INTO t_earlier_attempt (job_id, name, role, role_index, "+
			"attempt, task_id, container_name, state) ? ON CONFLICT DO NOTHING", parts).Exec(ctx); err != nil {
			return err
		}
		_, err := tx.NewUpdate().Model((*EarlierAttempt)(nil)).Set("cause = ?", text).
			Where("job_id = ? AND name = ?", next.JobID, next.TaskName).
			Where("attempt = ? AND cause IS NULL", number).
			Exec(ctx)
		return err
	})
	return wrap(err, "record the cause of attempt %d of task %s", number, next.TaskName)
}

// EarlierAttempts returns the attempts of this party's parts of a task before the latest one, by attempt and
// role.
func (s *Store) EarlierAttempts(ctx context.Context, jobID, name string) ([]EarlierAttempt, error) {
	return s.earlierAttempts(ctx, "job_id = ? AND name = ?", jobID, name)
}

// EarlierAttemptsOfJob returns the attempts of this party's parts of a job's tasks before the latest ones.
func (s *Store) EarlierAttemptsOfJob(ctx context.Context, jobID string) ([]EarlierAttempt, error) {
	return s.earlierAttempts(ctx, "job_id = ?", jobID)
}

// EarlierAttemptByTaskID returns this party's parts of the attempt that a task id named before a later
// attempt followed; none for an unknown id.
func (s *Store) EarlierAttemptByTaskID(ctx context.Context, taskID string) ([]EarlierAttempt, error) {
	return s.earlierAttempts(ctx, "task_id = ?", taskID)
}

func (s *Store) earlierAttempts(ctx context.Context, where string, args ...any) ([]EarlierAttempt, error) {
	var attempts []EarlierAttempt
	err := jobsOf(ctx, "e.job_id").addTo(s.r.NewSelect().Model(&attempts)).Where(where, args...).
		Order("attempt", "role",
			"role_index").Scan(ctx)
	return attempts, wrap(err, "read earlier attempts of %v", args)
}

// endAttempt returns how and when an attempt of a part ended that another one follows at the given time.
func endAttempt(state bfia.TaskState, ended *time.Time, at time.Time) (bfia.TaskState, *time.Time) {
	if state.Terminal() && ended != nil {
		return state, ended
	}
	end := normalizeTime(at)
	return bfia.TaskFailed, &end
}

// EarlierSchedulePart is the record of a part of an attempt of a task, at its scheduler, that a later attempt
// has replaced in its [SchedulePart].
type EarlierSchedulePart struct {
	bun.BaseModel `bun:"table:t_earlier_schedule_part,alias:e" json:"-"`

	JobID     string         `bun:"job_id,pk"`
	Name      string         `bun:"name,pk"` // of the task
	Attempt   int            `bun:"attempt,pk"`
	Role      string         `bun:"role,pk"`
	RoleIndex int            `bun:"role_index,pk"`
	NodeID    string         `bun:"node_id"`
	TaskID    string         `bun:"task_id"`
	State     bfia.TaskState `bun:"state"` // as in [EarlierAttempt]
	Reason    string         `bun:"reason"`
	Failure   *bfia.Failure  `bun:"failure"`
	Waits     []bfia.Waited  `bun:"waits"`
	StartedAt *time.Time     `bun:"started_at"`
	EndedAt   *time.Time     `bun:"ended_at"`
}

var _ bun.AfterScanRowHook = (*EarlierSchedulePart)(nil)

// AfterScanRow normalizes the times.
func (e *EarlierSchedulePart) AfterScanRow(context.Context) error {
	normalizeTimes(e.StartedAt, e.EndedAt)
	return nil
}

// LostAttempt describes an attempt of a task that another one follows: its times at the scheduler, and the
// failure of the part that lost it.
type LostAttempt struct {
	StartedAt time.Time
	EndedAt   time.Time
	Failure   *bfia.Failure
}

// recordLostAttempt copies the parts of an attempt that a later one is about to replace.
func recordLostAttempt(ctx context.Context, tx bun.Tx, task ScheduleTask, parts []SchedulePart,
	lost LostAttempt) error {
	var earlier []EarlierSchedulePart
	for i := range parts {
		p := &parts[i]
		e := EarlierSchedulePart{JobID: task.JobID, Name: task.Name, Attempt: task.Attempt, Role: p.Role,
			RoleIndex: p.RoleIndex, NodeID: p.NodeID, TaskID: task.TaskID,
			Reason: p.Reason, Failure: p.Failure, StartedAt: p.StartedAt}
		if e.StartedAt == nil && !lost.StartedAt.IsZero() {
			started := normalizeTime(lost.StartedAt) // the write of its start was lost, or came too late
			e.StartedAt = &started
		}
		e.State, e.EndedAt = endAttempt(p.State, p.EndedAt, lost.EndedAt)
		e.Waits = endWait(p.Waits, p.Waiting, *e.EndedAt)
		self := bfia.Part{Role: p.Role, Index: p.RoleIndex}.Self()
		if f := lost.Failure; f != nil && f.NodeID == p.NodeID && f.Role == self && e.Failure == nil {
			e.Failure, e.Reason = cleanFailure(f), cleanReason(f.Text())
		}
		earlier = append(earlier, e)
	}
	if len(earlier) == 0 {
		return nil
	}
	_, err := tx.NewInsert().Model(&earlier).On("CONFLICT DO NOTHING").Exec(ctx)
	return err
}

// EarlierScheduleParts returns the parts of the attempts of a job's tasks before the latest ones, at its
// scheduler: by task, attempt, role and index.
func (s *Store) EarlierScheduleParts(ctx context.Context, jobID string) ([]EarlierSchedulePart, error) {
	var parts []EarlierSchedulePart
	err := jobsOf(ctx, "e.job_id").addTo(s.r.NewSelect().Model(&parts)).Where("job_id = ?", jobID).
		Order("name", "attempt", "role", "role_index").Scan(ctx)
	return parts, wrap(err, "read earlier attempts of job %s", jobID)
}

const (
	// maxWaits bounds the ended waits of an attempt that are kept: the latest.
	maxWaits = 16
	// shortestWait is the shortest wait that is kept.
	shortestWait = 500 * time.Millisecond
)

// EndedWaits returns what the attempt has waited for, with the wait in which it ended.
func (t *Task) EndedWaits() []bfia.Waited { return endedWaits(t.State, t.Waits, t.Waiting, t.EndedAt) }

// EndedWaits returns what the part has waited for, as its party reports it, with the wait in which it ended.
func (p *SchedulePart) EndedWaits() []bfia.Waited {
	return endedWaits(p.State, p.Waits, p.Waiting, p.EndedAt)
}

func endedWaits(state bfia.TaskState, waits []bfia.Waited, last *bfia.Waiting, at *time.Time) []bfia.Waited {
	if !state.Terminal() || at == nil {
		return waits
	}
	return endWait(waits, last, *at)
}

// endWait returns the waits of an attempt after the end of the last one, if there is one.
func endWait(waits []bfia.Waited, last *bfia.Waiting, at time.Time) []bfia.Waited {
	if last == nil || at.Sub(last.Since) < shortestWait {
		return waits
	}
	waits = append(slices.Clone(waits), bfia.Waited{Waiting: *last, EndedAt: normalizeTime(at)})
	return waits[max(0, len(waits)-maxWaits):]
}
