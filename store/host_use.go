package store

import (
	"context"
	"time"

	"hutong/bfia"
)

// RunnerUse is a host with what is taken of it.
type RunnerUse struct {
	Runner
	// Left: it has left in order, and only an operator's word on it is kept.
	Left bool
	// ReservedSlots are the containers' rooms that jobs hold there, with what is taken for them, in the units of [Runner].
	Seats                              int
	UsedCPUMilli, UsedMemory, UsedDisk int64
	// Running are the parts of tasks whose containers are there now.
	Running int
}

// RunnerUses are all hosts that are remembered, by id, also those that were not heard of for long.
func (s *Store) RunnerUses(ctx context.Context) ([]RunnerUse, error) {
	var hosts []Runner
	if err := s.r.NewSelect().Model(&hosts).Order("host_id").Scan(ctx); err != nil {
		return nil, fail(err, "list hosts")
	}
	uses := make([]RunnerUse, len(hosts))
	byID := map[string]*RunnerUse{}
	for i, h := range hosts {
		uses[i] = RunnerUse{Runner: h, Left: h.Slots == 0}
		byID[h.RunnerID] = &uses[i]
	}
	var taken []struct {
		HostID                 string
		Seats                  int
		CPUMilli, Memory, Disk int64
	}
	if err := s.r.NewRaw(`SELECT host_id, COUNT(*) AS seats, CAST(SUM(cpu_milli) AS BIGINT) AS cpu_milli,
		CAST(SUM(memory) AS BIGINT) AS memory, CAST(SUM(disk) AS BIGINT) AS disk FROM t_seat GROUP BY host_id`).Scan(ctx, &taken); err != nil {
		return nil, fail(err, "read what is taken of hosts")
	}
	for _, t := range taken {
		if u := byID[t.HostID]; u != nil {
			u.Seats, u.UsedCPUMilli, u.UsedMemory, u.UsedDisk = t.Seats, t.CPUMilli, t.Memory, t.Disk
		}
	}
	var running []struct {
		HostID string
		Runs   int
	}
	if err := s.r.NewSelect().Model((*Task)(nil)).ColumnExpr("host_id, COUNT(*) AS runs").
		Where("state = ? AND run_id <> '' AND exit_code IS NULL", bfia.TaskRunning).Group("host_id").Scan(ctx, &running); err != nil {
		return nil, fail(err, "count what runs on hosts")
	}
	for _, r := range running {
		if u := byID[r.HostID]; u != nil {
			u.Running = r.Runs
		}
	}
	return uses, nil
}

// ForgetRunners forgets hosts that were last heard of before a time and that run nothing as far as is known, and answers how
// many they were. With them goes the word that they are drained.
func (s *Store) ForgetRunners(ctx context.Context, before time.Time) (int, error) {
	n, err := affected(s.w.NewDelete().Model((*Runner)(nil)).Where("seen_at < ?", stamp(before)).
		Where("NOT EXISTS (SELECT 1 FROM t_task AS t WHERE t.host_id = h.host_id AND t.state = ?)", bfia.TaskRunning).Exec(ctx))
	return n, fail(err, "forget hosts that are gone")
}
