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
	Devices     []string  `bun:"devices"`    // what it can run: docker, process
	TaskQueue   string    `bun:"task_queue"` // its own task queue
	Slots       int       `bun:"slots"`      // how many tasks it runs at once
	HeartbeatAt time.Time `bun:"heartbeat_at"`

	// What it has for runs, in thousandths of a core and in bytes; 0 is not known, and bounds nothing.
	CPUMilli int64 `bun:"cpu_milli"`
	Memory   int64 `bun:"memory"`
	Disk     int64 `bun:"disk"`
	// Labels are what a provider or a task can require of it, such as gpu: "1".
	Labels map[string]string `bun:"labels"`
	// Draining: an operator wants no new runs on it. A host's heartbeat leaves it as it is; see [Store.DrainRunner].
	Draining bool `bun:"draining"`
}

var _ bun.AfterScanRowHook = (*Runner)(nil)

// AfterScanRow puts the time into UTC.
func (h *Runner) AfterScanRow(context.Context) error {
	truncateTimes(&h.HeartbeatAt)
	return nil
}

// PutRunner records that a host is there, as of its HeartbeatAt, or of now when that is not set. It is the host's heartbeat.
func (s *Store) PutRunner(ctx context.Context, h Runner) error {
	if err := checkText(append(fieldValues("devices", h.Devices), "runner_id", h.RunnerID, "node_id", h.NodeID, "queue", h.TaskQueue)...); err != nil {
		return err
	}
	h.HeartbeatAt = timeOrNow(h.HeartbeatAt)
	if h.Devices == nil {
		h.Devices = []string{}
	}
	if h.Labels == nil {
		h.Labels = map[string]string{}
	}
	for k, v := range h.Labels {
		if err := checkText("labels", k, "labels."+k, v); err != nil {
			return err
		}
	}
	h.Draining = false
	_, err := s.w.NewInsert().Model(&h).On("CONFLICT (runner_id) DO UPDATE").
		Set("node_id = EXCLUDED.node_id, devices = EXCLUDED.devices, task_queue = EXCLUDED.task_queue").
		Set("slots = EXCLUDED.slots, heartbeat_at = EXCLUDED.heartbeat_at").
		Set("cpu_milli = EXCLUDED.cpu_milli, memory = EXCLUDED.memory, disk = EXCLUDED.disk, labels = EXCLUDED.labels").Exec(ctx)
	return wrap(err, "keep host %s", h.RunnerID)
}

// Runners are the hosts whose last heartbeat is not before seenSince, by id, without those that have left.
func (s *Store) Runners(ctx context.Context, seenSince time.Time) ([]Runner, error) {
	var hosts []Runner
	err := s.r.NewSelect().Model(&hosts).Where("heartbeat_at >= ? AND slots > 0", truncateTime(seenSince)).Order("runner_id").Scan(ctx)
	return hosts, wrap(err, "list hosts")
}

// LastHeartbeat is when a host was last heard of; zero for one that nobody knows, such as one that has left in order.
func (s *Store) LastHeartbeat(ctx context.Context, hostID string) (time.Time, error) {
	var host Runner
	err := selectOne(ctx, s.r.NewSelect().Where("runner_id = ?", hostID), &host, "host %q", hostID)
	if bfia.CodeOf(err) == bfia.CodeNotFound {
		return time.Time{}, nil
	}
	if host.Slots == 0 {
		return time.Time{}, err
	}
	return host.HeartbeatAt, err
}

// DeregisterRunner forgets a host that leaves in order. Of one that is drained the operator's word is kept, for when it comes back:
// it has no slots then. One that nobody knows is no error.
func (s *Store) DeregisterRunner(ctx context.Context, hostID string) error {
	return wrap(s.tx(ctx, func(ctx context.Context, tx bun.Tx) error {
		if _, err := tx.NewUpdate().Model((*Runner)(nil)).Set("slots = 0").Where("runner_id = ?", hostID).Exec(ctx); err != nil {
			return err
		}
		return deleteDeregistered(ctx, tx, hostID)
	}), "forget host %s", hostID)
}

// deleteDeregistered forgets a host that has left and of which nothing is to be kept.
func deleteDeregistered(ctx context.Context, tx bun.Tx, hostID string) error {
	_, err := tx.NewDelete().Model((*Runner)(nil)).Where("runner_id = ? AND slots = 0 AND NOT draining", hostID).Exec(ctx)
	return err
}

// DrainRunner makes a host take no new runs, or take them again. An unknown host is CodeNotFound.
func (s *Store) DrainRunner(ctx context.Context, hostID string, draining bool) error {
	var n int
	err := s.tx(ctx, func(ctx context.Context, tx bun.Tx) (err error) {
		if n, err = affected(tx.NewUpdate().Model((*Runner)(nil)).Set("draining = ?", draining).Where("runner_id = ?", hostID).Exec(ctx)); err != nil {
			return err
		}
		return deleteDeregistered(ctx, tx, hostID)
	})
	if err == nil && n == 0 {
		return bfia.Errorf(bfia.CodeNotFound, "runner_id: runner %q is not known", hostID)
	}
	return wrap(err, "drain host %s", hostID)
}

// ReservationView is the host, with nothing taken of it, as admissions are decided on.
func (h Runner) AdmissionRunner() admission.Runner {
	return admission.Runner{ID: h.RunnerID, Devices: h.Devices, Labels: h.Labels, Slots: h.Slots, Draining: h.Draining,
		Total: admission.Resources{CPUMilli: h.CPUMilli, Memory: h.Memory, Disk: h.Disk}}
}
