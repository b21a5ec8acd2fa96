package store

import (
	"context"
	"time"

	"github.com/uptrace/bun"
)

// Usage is what the container of one attempt of a part has used, as this party's runner has measured it. A
// nil value is unknown.
type Usage struct {
	bun.BaseModel `bun:"table:t_usage,alias:u" json:"-"`

	JobID     string `bun:"job_id,pk"`
	Name      string `bun:"name,pk"` // of the task
	Role      string `bun:"role,pk"`
	RoleIndex int    `bun:"role_index,pk"`
	Attempt   int    `bun:"attempt,pk"`
	TaskID    string `bun:"task_id"`
	RunnerID  string `bun:"runner_id"`
	Device    string `bun:"device"`
	CPUMillis *int64 `bun:"cpu_millis"`
	// PeakMemory is in bytes.
	PeakMemory *int64 `bun:"peak_memory"`
	// Final says that CPUMillis and PeakMemory are those at the container's end. Before, and if nobody could
	// read them then, they are lower bounds.
	Final bool `bun:"final"`
	// StartedAt and EndedAt are the times of the container.
	StartedAt  *time.Time `bun:"started_at"`
	EndedAt    *time.Time `bun:"ended_at"`
	RecordedAt time.Time  `bun:"recorded_at"`
}

var _ bun.AfterScanRowHook = (*Usage)(nil)

// AfterScanRow normalizes the times.
func (u *Usage) AfterScanRow(context.Context) error {
	normalizeTimes(u.StartedAt, u.EndedAt, &u.RecordedAt)
	return nil
}

// RecordUsage records what the container of an attempt has used. What is recorded only grows, and never gets
// unknown again: repeated and late records of the same container do no harm. The rows stay after the deletion
// of the job: they are its account.
func (s *Store) RecordUsage(ctx context.Context, u Usage) error {
	if err := checkText("job_id", u.JobID, "task_name", u.Name, "role", u.Role, "task_id", u.TaskID,
		"runner_id", u.RunnerID, "device", u.Device); err != nil {
		return err
	}
	u.RecordedAt = normalizeTime(time.Now())
	normalizeTimes(u.StartedAt, u.EndedAt)
	const larger = "?0 = CASE WHEN u.?0 IS NULL OR EXCLUDED.?0 > u.?0 THEN EXCLUDED.?0 ELSE u.?0 END"
	_, err := s.w.NewInsert().Model(&u).
		On("CONFLICT (job_id, name, role, role_index, attempt) DO UPDATE").
		Set(larger, bun.Ident("cpu_millis")).
		Set(larger, bun.Ident("peak_memory")).
		Set("final = (u.final OR EXCLUDED.final)").
		Set("started_at = COALESCE(EXCLUDED.started_at, u.started_at)").
		Set("ended_at = COALESCE(EXCLUDED.ended_at, u.ended_at)").
		Set("task_id = EXCLUDED.task_id, runner_id = EXCLUDED.runner_id, device = EXCLUDED.device").
		Set("recorded_at = EXCLUDED.recorded_at").Exec(ctx)
	return wrap(err, "record the use of resources of task %s of job %s", u.Name, u.JobID)
}

// Usages returns what the containers of a job have used at this party, by their start.
func (s *Store) Usages(ctx context.Context, jobID string) ([]Usage, error) {
	usages := []Usage{}
	err := jobsOf(ctx, "u.job_id").addTo(s.r.NewSelect().Model(&usages)).Where("job_id = ?", jobID).
		OrderExpr("started_at IS NULL, started_at, name, role, role_index, attempt").Scan(ctx)
	return usages, wrap(err, "read the use of resources of job %s", jobID)
}
