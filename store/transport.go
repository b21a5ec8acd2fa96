package store

import (
	"context"
	"time"

	"github.com/uptrace/bun"
)

// Transport is a transport of a party that has several, or had one with this volume.
type Transport struct {
	bun.BaseModel `bun:"table:t_transport,alias:tr" json:"-"`

	VolumeID string `bun:"volume_id,pk" json:"volume_id"` // of its spool
	Name     string `bun:"name" json:"name"`
	// Address is the host:port at which the party's other processes reach it.
	Address string `bun:"address" json:"address"`
	// HeartbeatAt is zero once the transport has stopped.
	HeartbeatAt time.Time `bun:"heartbeat_at,nullzero" json:"heartbeat_at"`
	// Silence is the time since the last heartbeat, by the database's clock.
	Silence time.Duration `bun:"-" json:"-"`
}

var _ bun.AfterScanRowHook = (*Transport)(nil)

// AfterScanRow normalizes the time.
func (t *Transport) AfterScanRow(context.Context) error {
	normalizeTimes(&t.HeartbeatAt)
	return nil
}

// placement is the volume that holds the sessions of a job.
type placement struct {
	bun.BaseModel `bun:"table:t_placement,alias:p"`

	SessionKey string    `bun:"session_key,pk"`
	VolumeID   string    `bun:"volume_id"`
	UsedAt     time.Time `bun:"used_at"`
}

// stamp gives a column the time of the database in an insert. SQLite has that of this process.
func (s *Store) stamp(insert *bun.InsertQuery, column string) *bun.InsertQuery {
	if s.pg {
		return insert.Value(column, "clock_timestamp()")
	}
	return insert
}

// PutTransport records a transport with a heartbeat now, by the database's clock. It replaces the process
// that served the volume before.
func (s *Store) PutTransport(ctx context.Context, t Transport) error {
	if err := checkText("volume_id", t.VolumeID, "name", t.Name, "address", t.Address); err != nil {
		return err
	}
	t.HeartbeatAt = normalizeTime(time.Now())
	_, err := s.stamp(s.w.NewInsert().Model(&t), "heartbeat_at").On("CONFLICT (volume_id) DO UPDATE").
		Set("name = EXCLUDED.name, address = EXCLUDED.address, heartbeat_at = EXCLUDED.heartbeat_at").Exec(ctx)
	return wrap(err, "record transport %s", t.Name)
}

// StopTransport records that a transport has stopped. It changes nothing if a process with another address
// serves the volume.
func (s *Store) StopTransport(ctx context.Context, volume, address string) error {
	_, err := s.w.NewUpdate().Model((*Transport)(nil)).Set("heartbeat_at = NULL").
		Where("volume_id = ? AND address = ?", volume, address).Exec(ctx)
	return wrap(err, "record the stop of the transport with volume %s", volume)
}

// Transports returns the transports of the party, by name and volume, with their silence.
func (s *Store) Transports(ctx context.Context) ([]Transport, error) {
	var all []Transport
	if err := s.r.NewSelect().Model(&all).Order("name", "volume_id").Scan(ctx); err != nil {
		return nil, wrap(err, "list the transports")
	}
	if len(all) == 0 {
		return nil, nil
	}
	now, err := s.Now(ctx)
	for i := range all {
		all[i].Silence = max(now.Sub(all[i].HeartbeatAt), 0)
	}
	return all, err
}

// PlaceSessions records that a volume holds the sessions of a key, unless another volume does already. It
// returns the volume that holds them. All calls of all processes get the same.
func (s *Store) PlaceSessions(ctx context.Context, key, volume string) (holder string, err error) {
	if err := checkText("session_id", key, "volume_id", volume); err != nil {
		return "", err
	}
	row := placement{SessionKey: key, VolumeID: volume, UsedAt: normalizeTime(time.Now())}
	if _, err := s.stamp(s.w.NewInsert().Model(&row), "used_at").On("CONFLICT (session_key) DO NOTHING").
		Exec(ctx); err != nil {
		return "", wrap(err, "place session %s", key)
	}
	holder, err = s.placement(ctx, s.w, key)
	return holder, wrap(err, "read the placement of session %s", key)
}

// ClaimPlacements records that a volume holds the sessions of some keys, and returns those keys whose
// sessions another volume holds.
func (s *Store) ClaimPlacements(ctx context.Context, keys []string, volume string) (elsewhere []string,
	err error) {
	const batch = 500
	for len(keys) > 0 {
		n := min(batch, len(keys))
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

// Placement returns the volume that holds the sessions of a key, or "".
func (s *Store) Placement(ctx context.Context, key string) (volume string, err error) {
	volume, err = s.placement(ctx, s.r, key)
	return volume, wrap(err, "read the placement of session %s", key)
}

func (s *Store) placement(ctx context.Context, db bun.IDB, key string) (volume string, err error) {
	var rows []placement
	err = db.NewSelect().Model(&rows).Where("session_key = ?", key).Scan(ctx)
	if len(rows) == 0 {
		return "", err
	}
	return rows[0].VolumeID, err
}

// SweepPlacements deletes the placements on a volume that nothing has used for a time: those of sessions that
// are not in use there, and of which no job has the key as its session. jobSession is that session of a job,
// without the job's id.
func (s *Store) SweepPlacements(ctx context.Context, volume string, inUse []string, idle time.Duration,
	jobSession string) (removed int, err error) {
	const batch = 500
	for len(inUse) > 0 {
		n := min(batch, len(inUse))
		update := s.w.NewUpdate().Model((*placement)(nil)).
			Where("volume_id = ? AND session_key IN (?)", volume, bun.List(inUse[:n]))
		if s.pg {
			update = update.Set("used_at = clock_timestamp()")
		} else {
			update = update.Set("used_at = ?", normalizeTime(time.Now()))
		}
		if _, err := update.Exec(ctx); err != nil {
			return 0, wrap(err, "record the sessions in use")
		}
		inUse = inUse[n:]
	}
	remove := s.w.NewDelete().Model((*placement)(nil)).Where("volume_id = ?", volume).
		Where("NOT EXISTS (SELECT 1 FROM t_job AS j WHERE ? || j.job_id = p.session_key)", jobSession)
	if s.pg {
		remove = remove.Where("used_at < clock_timestamp() - make_interval(secs => ?)", idle.Seconds())
	} else {
		remove = remove.Where("used_at < ?", normalizeTime(time.Now().Add(-idle)))
	}
	removed, err = affected(remove.Exec(ctx))
	return removed, wrap(err, "remove old placements")
}

// RemoveTransports deletes the transports that have been silent for a time and hold no sessions, and returns
// how many.
func (s *Store) RemoveTransports(ctx context.Context, silence time.Duration) (int, error) {
	remove := s.w.NewDelete().Model((*Transport)(nil)).
		Where("NOT EXISTS (SELECT 1 FROM t_placement AS p WHERE p.volume_id = tr.volume_id)")
	where, age := s.olderThan(silence)
	remove = remove.Where("(heartbeat_at IS NULL OR "+where+")", age)
	n, err := affected(remove.Exec(ctx))
	return n, wrap(err, "remove transports that hold nothing")
}
