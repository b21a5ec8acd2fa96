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
	Devices     []string  `bun:"devices"`      // the devices of its drivers, such as docker
	TaskQueue   string    `bun:"task_queue"`   // its own Temporal task queue
	Slots       int       `bun:"slots"`        // containers at once; 0 for a drained runner that deregistered
	HeartbeatAt time.Time `bun:"heartbeat_at"` // by the database's clock
	// Clock is the time at the runner when it sends a heartbeat. PutRunner keeps how far it is ahead of the
	// database's clock, or behind if negative.
	Clock       time.Time `bun:"-"`
	ClockSkewMS int64     `bun:"clock_skew_ms"`

	// Resources for containers, in thousandths of a core and in bytes; 0 is unknown and limits nothing.
	CPUMilli int64 `bun:"cpu_milli"`
	Memory   int64 `bun:"memory"`
	Disk     int64 `bun:"disk"`
	GPU      int64 `bun:"gpu"` // GPUs; 0 is none
	// Labels are what a provider or a task can require, such as gpu: "1".
	Labels map[string]string `bun:"labels"`
	// Machine is the name of its machine, for people.
	Machine string `bun:"machine"`
	// Images holds the ids of the images that it has, by reference and by id, of those that registered
	// providers name; nil without Docker.
	Images map[string]string `bun:"images"`
	// Draining: the runner gets no new containers. Heartbeats don't change it; see [Store.DrainRunner].
	Draining bool `bun:"draining"`
}

var _ bun.AfterScanRowHook = (*Runner)(nil)

// AfterScanRow normalizes the time.
func (r *Runner) AfterScanRow(context.Context) error {
	normalizeTimes(&r.HeartbeatAt)
	if len(r.Images) == 0 {
		r.Images = nil
	}
	return nil
}

// PutRunner records a runner with a heartbeat at HeartbeatAt, by default now by the database's clock: the
// clocks of machines differ, and a runner must not look silent for that.
func (s *Store) PutRunner(ctx context.Context, runner Runner) error {
	if err := checkText(append(fieldValues("devices", runner.Devices), "runner_id", runner.RunnerID,
		"node_id", runner.NodeID, "queue", runner.TaskQueue)...); err != nil {
		return err
	}
	if runner.Devices == nil {
		runner.Devices = []string{}
	}
	if runner.Labels == nil {
		runner.Labels = map[string]string{}
	}
	if runner.Images == nil {
		runner.Images = map[string]string{}
	}
	for k, v := range runner.Labels {
		if err := checkText("labels", k, "labels."+k, v); err != nil {
			return err
		}
	}
	runner.Draining = false
	insert := s.w.NewInsert().Model(&runner)
	switch {
	case !runner.HeartbeatAt.IsZero():
		runner.HeartbeatAt = normalizeTime(runner.HeartbeatAt)
	case s.pg:
		insert = insert.Value("heartbeat_at", "clock_timestamp()")
	default:
		runner.HeartbeatAt = normalizeTime(time.Now()) // SQLite is in this process
	}
	runner.ClockSkewMS = 0
	if s.pg && !runner.Clock.IsZero() {
		insert = insert.Value("clock_skew_ms",
			"CAST(EXTRACT(EPOCH FROM CAST(? AS TIMESTAMPTZ) - clock_timestamp()) * 1000 AS BIGINT)",
			normalizeTime(runner.Clock))
	}
	_, err := insert.On("CONFLICT (runner_id) DO UPDATE").
		Set("node_id = EXCLUDED.node_id, devices = EXCLUDED.devices, task_queue = EXCLUDED.task_queue").
		Set("machine = EXCLUDED.machine, images = EXCLUDED.images").
		Set("slots = EXCLUDED.slots, heartbeat_at = EXCLUDED.heartbeat_at, clock_skew_ms = " +
			"EXCLUDED.clock_skew_ms").
		Set("cpu_milli = EXCLUDED.cpu_milli, memory = EXCLUDED.memory, disk = EXCLUDED.disk, gpu = EXCLUDED.gpu, labels = " +
			"EXCLUDED.labels").
		Exec(ctx)
	return wrap(err, "record runner %s", runner.RunnerID)
}

// Runners returns the runners whose last heartbeat is not older than within, by id, without those that
// deregistered.
func (s *Store) Runners(ctx context.Context, within time.Duration) ([]Runner, error) {
	runners, err := s.onlineRunners(ctx, s.r, within)
	return runners, wrap(err, "list runners")
}

func (s *Store) onlineRunners(ctx context.Context, db bun.IDB, within time.Duration) ([]Runner, error) {
	var runners []Runner
	where, age := s.olderThan(within)
	err := db.NewSelect().Model(&runners).Where("NOT ("+where+") AND slots > 0", age).Order("runner_id").
		Scan(ctx)
	return runners, err
}

// olderThan returns a condition on a runner's heartbeat, with its argument. It compares by the database's
// clock.
func (s *Store) olderThan(age time.Duration) (condition string, arg any) {
	if s.pg {
		return "heartbeat_at < clock_timestamp() - make_interval(secs => ?)", age.Seconds()
	}
	return "heartbeat_at < ?", normalizeTime(time.Now().Add(-age))
}

// Now returns the time by the database's clock.
func (s *Store) Now(ctx context.Context) (time.Time, error) {
	now := time.Now() // SQLite is in this process
	if s.pg {
		if err := s.r.NewSelect().ColumnExpr("clock_timestamp()").Scan(ctx, &now); err != nil {
			return now, wrap(err, "read the database's clock")
		}
	}
	return normalizeTime(now), nil
}

// RunnerSilence returns the time since a runner's last heartbeat. found is false for an unknown runner, or
// one that deregistered.
func (s *Store) RunnerSilence(ctx context.Context, runnerID string) (silence time.Duration, found bool,
	err error) {
	var runner Runner
	err = selectOne(ctx, s.r.NewSelect().Where("runner_id = ?", runnerID), &runner, "runner %q", runnerID)
	if bfia.CodeOf(err) == bfia.CodeNotFound || err == nil && runner.Slots == 0 {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	now, err := s.Now(ctx)
	return max(now.Sub(runner.HeartbeatAt), 0), true, err
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
	return wrap(s.actTx(ctx, func(ctx context.Context, tx bun.Tx) error {
		n, err := affected(tx.NewUpdate().Model((*Runner)(nil)).Set("draining = ?", draining).
			Where("runner_id = ?", runnerID).Exec(ctx))
		if err != nil {
			return err
		}
		if n == 0 {
			return bfia.Errorf(bfia.CodeNotFound, "runner_id: runner %q is not known", runnerID)
		}
		return deleteDeregistered(ctx, tx, runnerID)
	}), "drain runner %s", runnerID)
}

// AdmissionRunner returns the runner as decisions on reservations need it, with nothing used.
func (r Runner) AdmissionRunner() admission.Runner {
	return admission.Runner{
		ID:       r.RunnerID,
		Devices:  r.Devices,
		Labels:   r.Labels,
		Slots:    r.Slots,
		Draining: r.Draining,
		Images:   r.Images,
		Total:    bfia.Resources{CPUMilli: r.CPUMilli, Memory: r.Memory, Disk: r.Disk, GPU: r.GPU},
	}
}
