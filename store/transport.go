package store

import (
	"context"
	"time"

	"github.com/uptrace/bun"

	"hutong/bfia"
)

// Transport is a transport of the party, by its volume.
type Transport struct {
	bun.BaseModel `bun:"table:t_transport,alias:tr" json:"-"`

	VolumeID string `bun:"volume_id,pk" json:"volume_id"` // of its spool
	Name     string `bun:"name" json:"name"`
	// Address is the host:port at which the party's other processes reach it.
	Address string `bun:"address" json:"address"`
	// Instance is an id of the process that serves the volume. It fences the ones before.
	Instance string `bun:"instance" json:"instance"`
	// Epoch grows with each takeover, and while a process serves the volume. A spool with a lower one is an
	// old copy.
	Epoch int64 `bun:"epoch" json:"epoch"`
	// Single is set for a process that knows no other transports.
	Single bool `bun:"single" json:"single"`
	// HeartbeatAt is the time of the last heartbeat, or of the stop, by the database's clock.
	HeartbeatAt time.Time `bun:"heartbeat_at" json:"heartbeat_at"`
	Stopped     bool      `bun:"stopped" json:"stopped"`
	// Silence is the time since HeartbeatAt.
	Silence time.Duration `bun:"-" json:"-"`
}

var _ bun.AfterScanRowHook = (*Transport)(nil)

// AfterScanRow normalizes the time.
func (t *Transport) AfterScanRow(context.Context) error {
	normalizeTimes(&t.HeartbeatAt)
	return nil
}

// stamp gives a column the time of the database in an insert. SQLite has that of this process.
func (s *Store) stamp(insert *bun.InsertQuery, column string) *bun.InsertQuery {
	if s.pg {
		return insert.Value(column, "clock_timestamp()")
	}
	return insert
}

// setNow sets a column to the time of the database in an update.
func (s *Store) setNow(update *bun.UpdateQuery, column string) *bun.UpdateQuery {
	if s.pg {
		return update.Set("? = clock_timestamp()", bun.Ident(column))
	}
	return update.Set("? = ?", bun.Ident(column), normalizeTime(time.Now()))
}

// isOlder returns a condition on a column with a time, with its arguments: it is longer ago than age, by the
// database's clock.
func (s *Store) isOlder(column string, age time.Duration) (condition string, args []any) {
	if s.pg {
		return "? < clock_timestamp() - make_interval(secs => ?)", []any{bun.Ident(column), age.Seconds()}
	}
	return "? < ?", []any{bun.Ident(column), normalizeTime(time.Now().Add(-age))}
}

// RegisterTransport records that an instance serves a volume from now on, and no other one, if the row of
// the volume still has an epoch: 0 if there is no row. Otherwise it changes nothing and returns false.
func (s *Store) RegisterTransport(ctx context.Context, t Transport, epoch int64) (registered bool,
	err error) {
	if err := checkText("volume_id", t.VolumeID, "name", t.Name, "address", t.Address, "instance",
		t.Instance); err != nil {
		return false, err
	}
	t.HeartbeatAt, t.Stopped = normalizeTime(time.Now()), false
	var n int
	if epoch == 0 {
		n, err = affected(s.stamp(s.w.NewInsert().Model(&t), "heartbeat_at").
			On("CONFLICT (volume_id) DO NOTHING").Exec(ctx))
	} else {
		n, err = affected(s.setNow(s.w.NewUpdate().Model(&t), "heartbeat_at").
			Set("name = ?, address = ?, instance = ?", t.Name, t.Address, t.Instance).
			Set("epoch = ?, single = ?, stopped = ?", t.Epoch, t.Single, false).
			Where("volume_id = ? AND epoch = ?", t.VolumeID, epoch).Exec(ctx))
	}
	return n > 0, wrap(err, "record transport %s", t.Name)
}

// BeatTransport records a heartbeat of an instance with its epoch, and whether it is stopping, if it serves
// its volume. Otherwise it changes nothing and returns the transport with another instance. A row that is
// missing is made again, which recreated reports: the database was restored.
func (s *Store) BeatTransport(ctx context.Context, t Transport) (other *Transport, recreated bool,
	err error) {
	err = s.withinDeadline(ctx, func(db bun.IDB) error {
		other, recreated, err = s.beatTransport(ctx, db, t)
		return err
	})
	return other, recreated, err
}

func (s *Store) beatTransport(ctx context.Context, db bun.IDB, t Transport) (other *Transport, recreated bool,
	err error) {
	n, err := affected(s.setNow(db.NewUpdate().Model((*Transport)(nil)), "heartbeat_at").
		Set("stopped = ?, epoch = ?", t.Stopped, t.Epoch).
		Where("volume_id = ? AND instance = ?", t.VolumeID, t.Instance).Exec(ctx))
	if err != nil || n > 0 {
		return nil, false, wrap(err, "record a heartbeat of transport %s", t.Name)
	}
	t.HeartbeatAt = normalizeTime(time.Now())
	n, err = affected(s.stamp(db.NewInsert().Model(&t), "heartbeat_at").
		On("CONFLICT (volume_id) DO NOTHING").Exec(ctx))
	if err != nil || n > 0 {
		return nil, n > 0, wrap(err, "record transport %s again", t.Name)
	}
	other = &Transport{}
	err = db.NewSelect().Model(other).Where("volume_id = ?", t.VolumeID).Scan(ctx)
	return other, false, wrap(err, "read which process serves volume %s", t.VolumeID)
}

// StopTransport records that an instance has stopped. It changes nothing if another one serves the volume.
func (s *Store) StopTransport(ctx context.Context, volume, instance string) error {
	return s.withinDeadline(ctx, func(db bun.IDB) error {
		_, err := s.setNow(db.NewUpdate().Model((*Transport)(nil)), "heartbeat_at").Set("stopped = ?", true).
			Where("volume_id = ? AND instance = ?", volume, instance).Exec(ctx)
		return wrap(err, "record the stop of the transport with volume %s", volume)
	})
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

// RemoveTransports deletes the transports that have been silent for a time and hold no sessions, and returns
// how many.
func (s *Store) RemoveTransports(ctx context.Context, silence time.Duration) (int, error) {
	silent, args := s.isOlder("heartbeat_at", silence)
	n, err := affected(s.w.NewDelete().Model((*Transport)(nil)).
		Where("NOT EXISTS (SELECT 1 FROM t_placement AS p WHERE p.volume_id = tr.volume_id)").
		Where(silent, args...).Exec(ctx))
	return n, wrap(err, "remove transports that hold nothing")
}

// forgetTransports deletes all transports and placements. Those of spools that are not empty are made again
// when their transports start.
func forgetTransports(ctx context.Context, tx bun.Tx) error {
	for _, model := range []any{(*Transport)(nil), (*placement)(nil)} {
		if _, err := tx.NewDelete().Model(model).Where("TRUE").Exec(ctx); err != nil {
			return err
		}
	}
	return nil
}

// keyOfJob returns an expression for the key of a job's sessions, from the column with the job's id. It is
// that of placement.Key: ids with the same text before the first underscore share a key.
func (s *Store) keyOfJob(column string) string {
	first := "substr(" + column + ", 1, instr(" + column + " || '" + bfia.DerivedSession + "', '" +
		bfia.DerivedSession + "') - 1)"
	if s.pg {
		first = "split_part(" + column + ", '" + bfia.DerivedSession + "', 1)"
	}
	return "'" + bfia.SessionID("") + "' || " + first
}
