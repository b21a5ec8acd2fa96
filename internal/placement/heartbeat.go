package placement

import (
	"context"
	"fmt"
	"slices"
	"time"

	"hutong/store"
	"hutong/transport/status"
)

const (
	// sweepEvery is the interval of sweeps. The first one comes that long after the start: when a party
	// starts again after days, its other transports must be back before it. keepIdle is how long a placement
	// without a job outlives its session, which may still be refused as released.
	sweepEvery = time.Hour
	keepIdle   = 24 * time.Hour
	// keepSilent is how long a volume may come back after its transport's last heartbeat. Then jobs in
	// progress alone keep their placements on it, and it is no longer listed without one.
	keepSilent = 24 * time.Hour
	// beatTimeout bounds a heartbeat. Together with its interval it is shorter than liveFor.
	beatTimeout = 2 * heartbeat
	// confirmedFor is how long a heartbeat confirms that no other process serves the volume. It leaves a
	// margin before others may take it over.
	confirmedFor = liveFor - heartbeat
	// advanceEvery is the interval in which the epoch grows. A copy of the spool that is older is refused.
	advanceEvery = time.Minute
)

// run sends heartbeats and sweeps until ctx ends.
func (d *Directory) run(ctx context.Context) {
	interval := heartbeat
	if d.announced.Single {
		interval = singleHeartbeat
	}
	beats, sweeps := time.NewTicker(interval), time.NewTicker(sweepEvery)
	defer beats.Stop()
	defer sweeps.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-beats.C:
			d.beating.Lock()
			d.beat(ctx)
			d.beating.Unlock()
		case <-sweeps.C:
			if d.announced.Single {
				continue
			}
			limited, cancel := context.WithTimeout(ctx, readTimeout)
			if err := d.sweep(limited); err != nil && ctx.Err() == nil {
				d.logger.Warn("failed to sweep the placements of sessions", "error", err)
			}
			cancel()
		}
	}
}

// beat sends a heartbeat. While the database is away, a transport that has tried all the time serves on. One
// that was paused meanwhile does not, until a heartbeat that was sent after the pause has succeeded.
func (d *Directory) beat(ctx context.Context) {
	if d.fenced.Load() {
		return
	}
	began := d.now()
	if d.isStale(began) {
		d.unconfirmed.Store(true)
	}
	d.triedAt.Store(began.UnixNano())
	other, err := d.send(ctx)
	if err == nil && other != nil {
		d.fence(*other)
		return
	}
	now := d.now()
	switch paused := isOlder(began.UnixNano(), now, confirmedFor); {
	case paused:
		d.unconfirmed.Store(true) // the heartbeat may have been sent before the pause
	case err == nil:
		d.confirmedAt.Store(began.UnixNano())
		d.unconfirmed.Store(false)
	}
	d.failing.Store(err != nil)
	d.triedAt.Store(now.UnixNano())
	if err != nil && ctx.Err() == nil {
		d.logger.Warn("failed to send a heartbeat of the transport", "error", err)
	}
}

// send writes one heartbeat. It returns the process that serves the volume, if it is another one.
func (d *Directory) send(ctx context.Context) (other *store.Transport, err error) {
	limited, cancel := context.WithTimeout(ctx, beatTimeout)
	defer cancel()
	if other, err = d.advance(); other != nil || err != nil {
		return other, err
	}
	other, recreated, err := d.store.BeatTransport(limited, d.announced.Transport)
	if err != nil || other != nil {
		return other, err
	}
	d.recorded = d.announced.Epoch
	if d.recreated = d.recreated || recreated; d.recreated {
		if restored, err := d.wasRestored(limited); err != nil || restored {
			return nil, err
		}
		d.recreated = false
		if !d.announced.Single {
			d.logger.Warn("the database has lost this transport, as after a restore; recorded it again")
			d.unclaimed = true
		}
	}
	if d.unclaimed {
		if err := d.claim(limited, d.announced, false); err != nil {
			return nil, err
		}
		d.unclaimed = false
	}
	return nil, nil
}

// wasRestored stops this process if a restore of the party was finished while it ran. The restore has emptied
// the spool, or should have, and other processes have forgotten which transport held which sessions.
func (d *Directory) wasRestored(ctx context.Context) (bool, error) {
	mark, err := d.store.RestoreMark(ctx)
	if err != nil || mark.RestoredAt == nil || d.restoredAt != nil && !mark.RestoredAt.After(*d.restoredAt) {
		return false, err
	}
	d.stop(fmt.Errorf("the party was restored from a backup (finished %s) while the transport %s ran, which "+
		"therefore stops: empty its spool before it starts again", mark.RestoredAt.Format(time.RFC3339),
		d.announced.Name))
	return true, nil
}

// advance raises the epoch from time to time, in the spool before the database, and at most by one before the
// database has it. A process that has taken over a folder without a lock has written one that is higher by
// two: this finds it while the database is away.
func (d *Directory) advance() (other *store.Transport, err error) {
	own := &d.announced.Transport
	inSpool, err := d.announced.Spool.Epoch()
	if err != nil {
		return nil, err
	}
	if inSpool > own.Epoch+1 {
		return &store.Transport{VolumeID: own.VolumeID, Name: "that shares the folder",
			Address: "an unknown address", Single: own.Single}, nil
	}
	if own.Epoch != d.recorded || time.Since(d.advancedAt) < advanceEvery {
		return nil, nil
	}
	d.advancedAt = time.Now()
	if err := d.announced.Spool.SetEpoch(own.Epoch + 1); err != nil {
		// A full disk must not make this process look dead: it still gives away messages.
		d.logger.Warn("failed to raise the epoch of the spool, so that an old copy might take its place", "error", err)
		return nil, nil
	}
	own.Epoch++
	return nil, nil
}

// fence stops the transport, since another process has taken over its volume: both would give away the same
// messages.
func (d *Directory) fence(other store.Transport) {
	err := fmt.Errorf("process %s at %s has taken over the volume %s of this transport, which therefore stops",
		other.Name, other.Address, other.VolumeID)
	if d.announced.Single && other.Single {
		d.logger.Error("two transports serve one spool, or a copy of it", "error", err)
		return
	}
	d.stop(err)
}

// stop makes this process refuse all calls, and reports why.
func (d *Directory) stop(err error) {
	if d.fenced.Swap(true) {
		return
	}
	d.logger.Error("failed to keep the spool", "error", err)
	if d.announced.OnFenced != nil {
		d.announced.OnFenced(err)
	}
}

var (
	errFenced = status.Errorf(status.NoInstance, "another process has taken over this transport's spool, or "+
		"the party was restored; try again")
	errUnconfirmed = status.Errorf(status.NoInstance, "this transport was paused, and can't look up whether "+
		"another process has taken over its spool; try again")
)

// Confirm returns an error if another process has taken over the volume of this one. A process that was
// paused asks first: it may have been replaced meanwhile.
func (d *Directory) Confirm(ctx context.Context) error {
	if d.isStale(d.now()) {
		d.beating.Lock()
		if d.isStale(d.now()) {
			d.beat(context.WithoutCancel(ctx))
		}
		d.beating.Unlock()
	}
	switch {
	case d.fenced.Load():
		return errFenced
	case d.unconfirmed.Load():
		return errUnconfirmed
	}
	return nil
}

// isStale reports whether this process has sent no heartbeat for so long that it may have been replaced. If
// the last one failed, it is enough that this process has tried.
func (d *Directory) isStale(now time.Time) bool {
	at := d.confirmedAt.Load()
	if at == 0 || !isOlder(at, now, confirmedFor) {
		return false
	}
	return !d.failing.Load() || isOlder(d.triedAt.Load(), now, confirmedFor)
}

// isOlder reports whether a time is longer ago than an age, or in the future. It reads the wall clock, which
// continues while a machine is suspended.
func isOlder(at int64, now time.Time, age time.Duration) bool {
	passed := time.Duration(now.UnixNano() - at)
	return passed > age || passed < 0
}

// sweep removes the placements that the volume of this process no longer needs, those on volumes that do not
// come back, and transports that are gone.
func (d *Directory) sweep(ctx context.Context) error {
	a := d.announced
	if _, err := d.store.SweepPlacements(ctx, a.VolumeID, keysOf(a.Sessions()),
		a.SessionTTL+keepIdle); err != nil {
		return err
	}
	if n, err := d.store.SweepLostPlacements(ctx, keepSilent, 2*rereadAfter); err != nil {
		return err
	} else if n > 0 {
		d.logger.Info("removed the placements of ended jobs on transports that have been silent for long",
			"placements", n)
	}
	_, err := d.store.RemoveTransports(ctx, keepSilent)
	return err
}

// keysOf returns the keys of sessions, each once.
func keysOf(sessions []string) []string {
	keys := make([]string, len(sessions))
	for i, s := range sessions {
		keys[i] = Key(s)
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}
