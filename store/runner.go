package store

import (
	"context"
	"time"

	"github.com/uptrace/bun"

	"hutong/admission"
	"hutong/bfia"
)

// Runner is a machine of this party that runs tasks.
type Runner struct {
	bun.BaseModel `bun:"table:t_runner,alias:r" json:"-"`

	RunnerID    string    `bun:"runner_id,pk"`
	NodeID      string    `bun:"node_id"`
	Devices     []string  `bun:"devices"`    // the devices of its drivers, such as docker
	TaskQueue   string    `bun:"task_queue"` // its own Temporal task queue
	Slots       int       `bun:"slots"`      // containers at once; 0 for a drained runner that deregistered
	HeartbeatAt time.Time `bun:"heartbeat_at"`

	// Resources for containers, in thousandths of a core and in bytes; 0 is unknown and limits nothing.
	CPUMilli int64 `bun:"cpu_milli"`
	Memory   int64 `bun:"memory"`
	Disk     int64 `bun:"disk"`
	// Labels are what a provider or a task can require, such as gpu: "1".
	Labels map[string]string `bun:"labels"`
	// Draining: the runner gets no new containers. Heartbeats don't change it; see [Store.DrainRunner].
	Draining bool `bun:"draining"`
}

var _ bun.AfterScanRowHook = (*Runner)(nil)

// AfterScanRow normalizes the time.
func (r *Runner) AfterScanRow(context.Context) error {
	normalizeTimes(&r.HeartbeatAt)
	return nil
}

// PutRunner records a runner with a heartbeat at HeartbeatAt, by default now.
func (s *Store) PutRunner(ctx context.Context, runner Runner) error {
	if err := checkText(append(fieldValues("devices", runner.Devices), "runner_id", runner.RunnerID,
		"node_id", runner.NodeID, "queue", runner.TaskQueue)...); err != nil {
		return err
	}
	runner.HeartbeatAt = timeOrNow(runner.HeartbeatAt)
	if runner.Devices == nil {
		runner.Devices = []string{}
	}
	if runner.Labels == nil {
		runner.Labels = map[string]string{}
	}
	for k, v := range runner.Labels {
		if err := checkText("labels", k, "labels."+k, v); err != nil {
			return err
		}
	}
	runner.Draining = false
	_, err := s.w.NewInsert().Model(&runner).On("CONFLICT (runner_id) DO UPDATE").
		Set("node_id = EXCLUDED.node_id, devices = EXCLUDED.devices, task_queue = EXCLUDED.task_queue").
		Set("slots = EXCLUDED.slots, heartbeat_at = EXCLUDED.heartbeat_at").
		Set("cpu_milli = EXCLUDED.cpu_milli, memory = EXCLUDED.memory, disk = EXCLUDED.disk, labels = " +
			"EXCLUDED.labels").
		Exec(ctx)
	return wrap(err, "record runner %s", runner.RunnerID)
}

// Runners returns the runners with a heartbeat since a time, by id, without those that deregistered.
func (s *Store) Runners(ctx context.Context, heartbeatSince time.Time) ([]Runner, error) {
	var runners []Runner
	err := s.r.NewSelect().
		Model(&runners).
		Where("heartbeat_at >= ? AND slots > 0", normalizeTime(heartbeatSince)).
		Order("runner_id").
		Scan(ctx)
	return runners, wrap(err, "list runners")
}

// LastHeartbeat returns the time of a runner's last heartbeat; zero for an unknown runner, or one that
// deregistered.
func (s *Store) LastHeartbeat(ctx context.Context, runnerID string) (time.Time, error) {
	var runner Runner
	err := selectOne(ctx, s.r.NewSelect().Where("runner_id = ?", runnerID), &runner, "runner %q", runnerID)
	if bfia.CodeOf(err) == bfia.CodeNotFound {
		return time.Time{}, nil
	}
	if runner.Slots == 0 {
		return time.Time{}, err
	}
	return runner.HeartbeatAt, err
}

// DeregisterRunner deletes a runner. If it is draining, its row stays, with no slots, so that it is drained
// when it comes back. An unknown runner is no error.
func (s *Store) DeregisterRunner(ctx context.Context, runnerID string) error {
	return wrap(s.tx(ctx, func(ctx context.Context, tx bun.Tx) error {
		if _, err := tx.NewUpdate().Model((*Runner)(nil)).Set("slots = 0").Where("runner_id = ?", runnerID).
			Exec(ctx); err != nil {
			return err
		}
		return deleteDeregistered(ctx, tx, runnerID)
	}), "deregister runner %s", runnerID)
}

// deleteDeregistered deletes a runner that has deregistered and is not draining.
func deleteDeregistered(ctx context.Context, tx bun.Tx, runnerID string) error {
	_, err := tx.NewDelete().
		Model((*Runner)(nil)).
		Where("runner_id = ? AND slots = 0 AND NOT draining", runnerID).
		Exec(ctx)
	return err
}

// DrainRunner drains a runner, so that it gets no new containers, or ends that. It returns CodeNotFound for
// an unknown runner.
func (s *Store) DrainRunner(ctx context.Context, runnerID string, draining bool) error {
	var n int
	err := s.tx(ctx, func(ctx context.Context, tx bun.Tx) (err error) {
		if n, err = affected(tx.NewUpdate().Model((*Runner)(nil)).Set("draining = ?", draining).
			Where("runner_id = ?", runnerID).Exec(ctx)); err != nil {
			return err
		}
		return deleteDeregistered(ctx, tx, runnerID)
	})
	if err == nil && n == 0 {
		return bfia.Errorf(bfia.CodeNotFound, "runner_id: runner %q is not known", runnerID)
	}
	return wrap(err, "drain runner %s", runnerID)
}

// AdmissionRunner returns the runner as decisions on reservations need it, with nothing used.
func (r Runner) AdmissionRunner() admission.Runner {
	return admission.Runner{
		ID:       r.RunnerID,
		Devices:  r.Devices,
		Labels:   r.Labels,
		Slots:    r.Slots,
		Draining: r.Draining,
		Total:    bfia.Resources{CPUMilli: r.CPUMilli, Memory: r.Memory, Disk: r.Disk},
	}
}
