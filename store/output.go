package store

import (
	"context"
	"slices"
	"time"

	"github.com/uptrace/bun"

	"hutong/bfia"
)

// Output is a dataset, model or report that one part of a task wrote, with its address in the blob store.
type Output struct {
	bun.BaseModel `bun:"table:t_task_output,alias:o" json:"-"`

	JobID     string    `bun:"job_id,pk"`
	TaskName  string    `bun:"task_name,pk"`
	Role      string    `bun:"role,pk"`
	RoleIndex int       `bun:"role_index,pk"`
	Type      string    `bun:"type,pk"` // as in the DAG: dataset, model, report
	Key       string    `bun:"key,pk"`  // as in the DAG
	Port      string    `bun:"port"`    // its name in the component's description
	TaskID    string    `bun:"task_id"`
	Namespace string    `bun:"namespace"`
	Name      string    `bun:"name"`
	Bytes     int64     `bun:"bytes"`
	CreatedAt time.Time `bun:"created_at"`
}

var _ bun.AfterScanRowHook = (*Output)(nil)

// AfterScanRow normalizes the time.
func (o *Output) AfterScanRow(context.Context) error {
	normalizeTimes(&o.CreatedAt)
	return nil
}

// PutOutputs records outputs and replaces earlier ones of the same keys. It returns CodeNotFound for an
// unknown job.
func (s *Store) PutOutputs(ctx context.Context, outputs []Output) error {
	if len(outputs) == 0 {
		return nil
	}
	rows := slices.Clone(outputs)
	for i := range rows {
		o := &rows[i]
		o.CreatedAt = timeOrNow(o.CreatedAt)
		if err := checkText("task_name", o.TaskName, "role", o.Role, "type", o.Type, "key", o.Key, "port",
			o.Port, "task_id", o.TaskID, "namespace", o.Namespace, "name", o.Name); err != nil {
			return err
		}
	}
	_, err := s.w.NewInsert().
		Model(&rows).
		On("CONFLICT (job_id, task_name, role, role_index, type, key) DO UPDATE").
		Set("port = EXCLUDED.port, task_id = EXCLUDED.task_id, namespace = EXCLUDED.namespace, name = " +
			"EXCLUDED.name").
		Set("bytes = EXCLUDED.bytes, created_at = EXCLUDED.created_at").
		Exec(ctx)
	if isMissingParent(err) {
		return bfia.Wrap(bfia.CodeNotFound, err, "job_id: the job of an output is not known")
	}
	return wrap(err, "record outputs of job %s", rows[0].JobID)
}

// Outputs returns what this party's parts of a job's tasks wrote, by task, role, type and key.
func (s *Store) Outputs(ctx context.Context, jobID string) ([]Output, error) {
	var outputs []Output
	err := jobsOf(ctx, "o.job_id").addTo(s.r.NewSelect().Model(&outputs)).Where("job_id = ?", jobID).
		Order("task_name", "role", "role_index", "type", "key").Scan(ctx)
	return outputs, wrap(err, "read the outputs of job %s", jobID)
}
