package store

import (
	"context"
	"time"

	"github.com/uptrace/bun"

	"hutong/bfia"
)

// RunnerUse is a host with what is taken of it.
type RunnerUse struct {
	Runner
	// Left: it has left in order, and only an operator's word on it is kept.
	Deregistered bool
	// ReservedSlots are the containers' rooms that jobs hold there, with what is taken for them, in the units of [Runner].
	UsedSlots                          int
	UsedCPUMilli, UsedMemory, UsedDisk int64
	// Holders are the parts of tasks whose containers are there now.
	RunningParts int
}

// RunnerUses are all hosts that are remembered, by id, also those that were not heard of for long.
func (s *Store) RunnerUses(ctx context.Context) ([]RunnerUse, error) {
	var hosts []Runner
	if err := s.r.NewSelect().Model(&hosts).Order("runner_id").Scan(ctx); err != nil {
		return nil, wrap(err, "list hosts")
	}
	uses := make([]RunnerUse, len(hosts))
	byID := map[string]*RunnerUse{}
	for i, h := range hosts {
		uses[i] = RunnerUse{Runner: h, Deregistered: h.Slots == 0}
		byID[h.RunnerID] = &uses[i]
	}
	taken, err := readUsedResources(ctx, s.r)
	if err != nil {
		return nil, wrap(err, "read what is taken of hosts")
	}
	for _, t := range taken {
		if u := byID[t.RunnerID]; u != nil {
			u.UsedSlots, u.UsedCPUMilli, u.UsedMemory, u.UsedDisk = t.Slots, t.CPUMilli, t.Memory, t.Disk
		}
	}
	var running []struct {
		RunnerID string
		Parts    int
	}
	if err := s.r.NewSelect().Model((*Task)(nil)).ColumnExpr("runner_id, COUNT(*) AS parts").
		Where("state = ? AND container_id <> '' AND exit_code IS NULL", bfia.TaskRunning).Group("runner_id").Scan(ctx, &running); err != nil {
		return nil, wrap(err, "count what runs on hosts")
	}
	for _, r := range running {
		if u := byID[r.RunnerID]; u != nil {
			u.RunningParts = r.Parts
		}
	}
	return uses, nil
}

// ForgetRunners forgets hosts that were last heard of before a time and that run nothing as far as is known, and answers how
// many they were. With them goes the word that they are drained.
func (s *Store) ForgetRunners(ctx context.Context, before time.Time) (int, error) {
	n, err := affected(s.w.NewDelete().Model((*Runner)(nil)).Where("heartbeat_at < ?", truncateTime(before)).
		Where("NOT EXISTS (SELECT 1 FROM t_task AS t WHERE t.runner_id = r.runner_id AND t.state = ?)", bfia.TaskRunning).Exec(ctx))
	return n, wrap(err, "forget hosts that are gone")
}

// usedResources sums up the reserved slots of one runner.
type usedResources struct {
	RunnerID               string
	Slots                  int
	CPUMilli, Memory, Disk int64
}

func readUsedResources(ctx context.Context, db bun.IDB) (used []usedResources, err error) {
	err = db.NewSelect().Model((*ReservedSlot)(nil)).
		ColumnExpr("runner_id, COUNT(*) AS slots, CAST(SUM(cpu_milli) AS BIGINT) AS cpu_milli").
		ColumnExpr("CAST(SUM(memory) AS BIGINT) AS memory, CAST(SUM(disk) AS BIGINT) AS disk").
		Group("runner_id").Scan(ctx, &used)
	return used, err
}
