package store

import (
	"context"
	"fmt"
	"time"

	"github.com/uptrace/bun"
)

// placement is the volume that holds the sessions of a job.
type placement struct {
	bun.BaseModel `bun:"table:t_placement,alias:p"`

	SessionKey string    `bun:"session_key,pk"`
	VolumeID   string    `bun:"volume_id"`
	UsedAt     time.Time `bun:"used_at"`
}

// placementBatch bounds the keys of one statement.
const placementBatch = 500

// PlaceSessions records that a volume holds the sessions of a key, unless another volume does already. It
// returns the volume that holds them. All calls of all processes get the same.
func (s *Store) PlaceSessions(ctx context.Context, key, volume string) (holder string, err error) {
	if err := checkText("session_id", key, "volume_id", volume); err != nil {
		return "", err
	}
	const tries = 3 // a sweep may remove the row between the insert and the read
	for range tries {
		row := placement{SessionKey: key, VolumeID: volume, UsedAt: normalizeTime(time.Now())}
		if _, err := s.stamp(s.w.NewInsert().Model(&row), "used_at").On("CONFLICT (session_key) DO NOTHING").
			Exec(ctx); err != nil {
			return "", wrap(err, "place session %s", key)
		}
		if holder, err = s.Placement(ctx, key); err != nil || holder != "" {
			return holder, err
		}
	}
	return "", fmt.Errorf("failed to place session %s: its placement was removed %d times", key, tries)
}

// Placement returns the volume that holds the sessions of a key, or "". It records that the placement was
// used, so that no sweep removes it while its reader remembers it.
func (s *Store) Placement(ctx context.Context, key string) (volume string, err error) {
	var rows []placement
	err = s.setNow(s.w.NewUpdate().Model((*placement)(nil)), "used_at").Where("session_key = ?", key).
		Returning("*").Scan(ctx, &rows)
	if err != nil || len(rows) == 0 {
		return "", wrap(err, "read the placement of session %s", key)
	}
	return rows[0].VolumeID, nil
}

// ClaimPlacements records that a volume holds the sessions of some keys, and returns those keys whose
// sessions another volume holds.
func (s *Store) ClaimPlacements(ctx context.Context, keys []string, volume string) (elsewhere []string,
	err error) {
	for len(keys) > 0 {
		n := min(placementBatch, len(keys))
		rows := make([]placement, n)
		for i, key := range keys[:n] {
			rows[i] = placement{SessionKey: key, VolumeID: volume, UsedAt: normalizeTime(time.Now())}
		}
		if _, err := s.stamp(s.w.NewInsert().Model(&rows), "used_at").
			On("CONFLICT (session_key) DO NOTHING").Exec(ctx); err != nil {
			return nil, wrap(err, "place the sessions of volume %s", volume)
		}
		var others []placement
		if err := s.w.NewSelect().Model(&others).Where("session_key IN (?)", bun.List(keys[:n])).
			Where("volume_id <> ?", volume).Scan(ctx); err != nil {
			return nil, wrap(err, "read the placements of volume %s", volume)
		}
		for _, other := range others {
			elsewhere = append(elsewhere, other.SessionKey)
		}
		keys = keys[n:]
	}
	return elsewhere, nil
}

// ClaimUnfinishedJobs records that a volume holds the sessions of all jobs that have not ended, unless
// another volume does.
func (s *Store) ClaimUnfinishedJobs(ctx context.Context, volume string) error {
	now, args := "clock_timestamp()", []any{volume}
	if !s.pg {
		now, args = "?", append(args, normalizeTime(time.Now()))
	}
	_, err := s.w.NewRaw("INSERT INTO t_placement (session_key, volume_id, used_at) SELECT DISTINCT "+
		s.keyOfJob("job_id")+", ?, "+now+" FROM t_job WHERE state IN ("+openStates+
		") ON CONFLICT (session_key) DO NOTHING", args...).Exec(ctx)
	return wrap(err, "place the sessions of the jobs in progress on volume %s", volume)
}

// ForgetPlacements deletes all placements, for a party whose one transport holds all sessions.
func (s *Store) ForgetPlacements(ctx context.Context) error {
	_, err := s.w.NewDelete().Model((*placement)(nil)).Where("TRUE").Exec(ctx)
	return wrap(err, "remove the placements of sessions")
}

// SweepPlacements deletes the placements on a volume that nothing has used for a time: those of sessions that
// are not in use there and have no job.
func (s *Store) SweepPlacements(ctx context.Context, volume string, inUse []string, idle time.Duration,
) (removed int, err error) {
	for len(inUse) > 0 {
		n := min(placementBatch, len(inUse))
		if _, err := s.setNow(s.w.NewUpdate().Model((*placement)(nil)), "used_at").
			Where("volume_id = ? AND session_key IN (?)", volume, bun.List(inUse[:n])).Exec(ctx); err != nil {
			return 0, wrap(err, "record the sessions in use")
		}
		inUse = inUse[n:]
	}
	unused, args := s.isOlder("used_at", idle)
	// The set difference reads t_job once. The second condition on the time spares a row that is read
	// meanwhile.
	removed, err = affected(s.w.NewDelete().Model((*placement)(nil)).
		Where("session_key IN (SELECT session_key FROM t_placement WHERE volume_id = ? AND "+unused+
			" EXCEPT SELECT "+s.keyOfJob("job_id")+" FROM t_job)", append([]any{volume}, args...)...).
		Where(unused, args...).Exec(ctx))
	return removed, wrap(err, "remove old placements")
}

// SweepLostPlacements deletes the placements on volumes whose transports have been silent for a time, except
// those of jobs that have not ended, and those that a process has read within a time: it still remembers
// them.
func (s *Store) SweepLostPlacements(ctx context.Context, silence, unread time.Duration) (removed int,
	err error) {
	silent, args := s.isOlder("heartbeat_at", silence)
	unused, unusedArgs := s.isOlder("used_at", unread)
	removed, err = affected(s.w.NewDelete().Model((*placement)(nil)).
		Where(unused, unusedArgs...).
		Where("volume_id IN (SELECT volume_id FROM t_transport WHERE "+silent+")", args...).
		Where("session_key NOT IN (SELECT " + s.keyOfJob("job_id") + " FROM t_job WHERE state IN (" +
			openStates + "))").Exec(ctx))
	return removed, wrap(err, "remove the placements on lost volumes")
}

// UnfinishedJobsByVolume returns how many jobs that have not ended have their sessions on each volume.
func (s *Store) UnfinishedJobsByVolume(ctx context.Context) (map[string]int, error) {
	var rows []struct {
		VolumeID string
		Jobs     int
	}
	err := s.r.NewRaw("SELECT p.volume_id, COUNT(*) AS jobs FROM t_job AS j JOIN t_placement AS p ON "+
		"p.session_key = "+s.keyOfJob("j.job_id")+" WHERE j.state IN ("+openStates+") GROUP BY p.volume_id").
		Scan(ctx, &rows)
	jobs := make(map[string]int, len(rows))
	for _, row := range rows {
		jobs[row.VolumeID] = row.Jobs
	}
	return jobs, wrap(err, "count the jobs in progress of each transport")
}
