package store

import (
	"context"
	"time"

	"github.com/uptrace/bun"

	"hutong/bfia"
)

// RunnerUse is a runner with its reserved resources and its containers.
type RunnerUse struct {
	Runner
	// Deregistered: the row only records that the runner is draining.
	Deregistered bool
	// UsedSlots are the reserved slots, with the resources reserved for them, in the units of [Runner].
	UsedSlots                                   int
	UsedCPUMilli, UsedMemory, UsedDisk, UsedGPU int64
	// RunningParts are the parts of tasks whose containers run there.
	RunningParts int
}

// endedContainers is for how long the containers of an ended job may still run.
const endedContainers = 24 * time.Hour

// RunnerUses returns all runners that have a row, by id, also silent ones.
func (s *Store) RunnerUses(ctx context.Context) ([]RunnerUse, error) {
	var runners []Runner
	if err := s.r.NewSelect().Model(&runners).Order("runner_id").Scan(ctx); err != nil {
		return nil, wrap(err, "list runners")
	}
	uses := make([]RunnerUse, len(runners))
	byID := map[string]*RunnerUse{}
	for i, h := range runners {
		uses[i] = RunnerUse{Runner: h, Deregistered: h.Slots == 0}
		byID[h.RunnerID] = &uses[i]
	}
	used, err := readUsedResources(ctx, s.r)
	if err != nil {
		return nil, wrap(err, "read the used resources of runners")
	}
	for _, t := range used {
		if u := byID[t.RunnerID]; u != nil {
			u.UsedSlots, u.UsedCPUMilli, u.UsedMemory, u.UsedDisk = t.Slots, t.CPUMilli, t.Memory, t.Disk
			u.UsedGPU = t.GPU
		}
	}
	var parts []struct {
		RunnerID string
		Parts    int
	}
	if err := s.r.NewSelect().Model((*Task)(nil)).ColumnExpr("runner_id, COUNT(*) AS parts").
		Where("state = ? AND container_id <> '' AND exit_code IS NULL", bfia.TaskRunning).
		// The jobs whose containers may run: otherwise the tasks of all jobs would be read. With UNION,
		// SQLite would read all jobs in their order.
		Where("job_id IN (SELECT job_id FROM t_job WHERE state IN (?) UNION ALL SELECT job_id FROM t_job "+
			"WHERE ended_at >= ?)",
			bun.List(openJobs),
			normalizeTime(time.Now().Add(-endedContainers))).Group("runner_id").
		Scan(ctx, &parts); err != nil {
		return nil, wrap(err, "count the containers of runners")
	}
	for _, r := range parts {
		if u := byID[r.RunnerID]; u != nil {
			u.RunningParts = r.Parts
		}
	}
	return uses, nil
}

// ForgetRunners deletes runners whose last heartbeat is older than age and that have no running parts, and
// returns how many. It also deletes that they are draining.
func (s *Store) ForgetRunners(ctx context.Context, age time.Duration) (int, error) {
	where, arg := s.olderThan(age)
	n, err := affected(s.w.NewDelete().Model((*Runner)(nil)).Where(where, arg).
		Where("NOT EXISTS (SELECT 1 FROM t_task AS t WHERE t.runner_id = r.runner_id AND t.state = ?)",
			bfia.TaskRunning).
		Exec(ctx))
	return n, wrap(err, "delete silent runners")
}

// usedResources sums up the reserved slots of one runner.
type usedResources struct {
	RunnerID                    string
	Slots                       int
	CPUMilli, Memory, Disk, GPU int64
}

// readUsedResources returns the used resources of all runners with reserved slots.
func readUsedResources(ctx context.Context, db bun.IDB) (used []usedResources, err error) {
	err = db.NewSelect().Model((*ReservedSlot)(nil)).
		ColumnExpr("runner_id, COUNT(*) AS slots, CAST(SUM(cpu_milli) AS BIGINT) AS cpu_milli").
		ColumnExpr("CAST(SUM(memory) AS BIGINT) AS memory, CAST(SUM(disk) AS BIGINT) AS disk").
		ColumnExpr("CAST(SUM(gpu) AS BIGINT) AS gpu").
		Group("runner_id").Scan(ctx, &used)
	return used, err
}
