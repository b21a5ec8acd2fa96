package store

import (
	"context"

	"github.com/uptrace/bun"
)

// EarlierAttempt is the record of an attempt of a part of a task that a later attempt has replaced in its
// [Task]. Its log stays readable.
type EarlierAttempt struct {
	bun.BaseModel `bun:"table:t_earlier_attempt,alias:e" json:"-"`

	JobID         string `bun:"job_id,pk"`
	Name          string `bun:"name,pk"`
	Role          string `bun:"role,pk"`
	RoleIndex     int    `bun:"role_index,pk"`
	Attempt       int    `bun:"attempt,pk"`
	TaskID        string `bun:"task_id"`
	ContainerName string `bun:"container_name"`
}

// recordEarlierAttempts copies what is needed of the rows that a later attempt is about to reset.
func recordEarlierAttempts(ctx context.Context, tx bun.Tx, jobID, name, taskID string, attempt int) error {
	var rows []Task
	if err := tx.NewSelect().Model(&rows).
		Where("job_id = ? AND name = ? AND task_id NOT IN ('', ?) AND attempt < ?", jobID, name, taskID,
			attempt).
		Scan(ctx); err != nil || len(rows) == 0 {
		return err
	}
	var earlier []EarlierAttempt
	for _, t := range rows {
		earlier = append(earlier, EarlierAttempt{JobID: t.JobID, Name: t.Name, Role: t.Role,
			RoleIndex: t.RoleIndex,
			Attempt:   t.Attempt, TaskID: t.TaskID, ContainerName: t.ContainerName})
	}
	_, err := tx.NewInsert().Model(&earlier).On("CONFLICT DO NOTHING").Exec(ctx)
	return err
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
	err := s.r.NewSelect().Model(&attempts).Where(where, args...).Order("attempt", "role",
		"role_index").Scan(ctx)
	return attempts, wrap(err, "read earlier attempts of %v", args)
}
