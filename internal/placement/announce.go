package placement

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"time"

	"hutong/store"
	"hutong/transport/status"
)

const (
	// sweepEvery is the interval of sweeps, and keepIdle how long a placement without a job outlives its
	// session, which may still be refused as released.
	sweepEvery = time.Hour
	keepIdle   = 24 * time.Hour
	// keepSilent is how long a volume may come back after its transport's last heartbeat. Then jobs in
	// progress alone keep their placements on it, and it is no longer listed without one.
	keepSilent = 24 * time.Hour
	// beatTimeout bounds a heartbeat. Together with its interval it is shorter than liveFor.
	beatTimeout = 2 * heartbeat
)

// Announcement describes the transport of this process.
type Announcement struct {
	store.Transport // without Instance
	// Sessions returns the ids of the sessions that it holds.
	Sessions func() []string
	// SessionTTL is the time after which it releases an idle session.
	SessionTTL time.Duration
	// OnFenced is called once if another process has taken over the volume. This one must then serve nothing.
	OnFenced func(error)
}

// Announce records that this process serves a volume, and that the volume holds the sessions that are in
// it. Until stop is called, it sends heartbeats, and sweeps what volumes held. It fails if a process runs
// that the transport can't run next to.
func (d *Directory) Announce(ctx context.Context, a Announcement) (stop func(context.Context) error,
	err error) {
	a.Instance = rand.Text()
	listed, err := d.awaitRivals(ctx, a.Transport)
	if err != nil {
		return nil, err
	}
	if a.Single {
		err = d.claimAll(ctx, a, listed)
	} else {
		err = d.claim(ctx, a, listed)
	}
	if err != nil {
		return nil, err
	}
	if err := d.store.TakeOverTransport(ctx, a.Transport); err != nil {
		return nil, err
	}
	if err := d.read(ctx); err != nil {
		return nil, err
	}
	d.mu.Lock()
	d.own = a.Transport
	d.mu.Unlock()
	d.announced = a
	d.confirmedAt.Store(time.Now().UnixNano())

	beats, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.run(beats)
	}()
	return func(ctx context.Context) error {
		cancel()
		<-done
		// A database that hangs must not delay the stop.
		limited, cancel := context.WithTimeout(ctx, beatTimeout)
		defer cancel()
		return d.store.StopTransport(limited, a.VolumeID, a.Instance)
	}, nil
}

// claimAll makes a single transport the one that holds all sessions.
func (d *Directory) claimAll(ctx context.Context, a Announcement, listed []store.Transport) error {
	jobs, err := d.store.UnfinishedJobsByVolume(ctx)
	if err != nil {
		return err
	}
	for _, t := range listed {
		if n := jobs[t.VolumeID]; n > 0 && t.VolumeID != a.VolumeID {
			return fmt.Errorf("transport.several: must be true, since the sessions of %d jobs in progress are "+
				"at transport %s", n, t.Name)
		}
	}
	if err := d.store.ForgetPlacements(ctx); err != nil {
		return err
	}
	_, err = d.store.RemoveTransports(ctx, keepSilent)
	return err
}

// claim records the sessions that are in a volume. Of one that was that of a single transport, these are the
// sessions of all jobs in progress, also those without messages.
func (d *Directory) claim(ctx context.Context, a Announcement, listed []store.Transport) error {
	wasSingle := func(t store.Transport) bool { return t.VolumeID == a.VolumeID && t.Single }
	if slices.ContainsFunc(listed, wasSingle) {
		if err := d.store.ClaimUnfinishedJobs(ctx, a.VolumeID); err != nil {
			return err
		}
	}
	elsewhere, err := d.store.ClaimPlacements(ctx, keysOf(a.Sessions()), a.VolumeID)
	if err != nil {
		return fmt.Errorf("failed to record the sessions of transport %s: %w", a.Name, err)
	}
	for _, key := range elsewhere {
		d.logger.Warn("the spool has messages of a session that another transport holds; nobody will read them",
			"session_id", key)
	}
	return nil
}

// awaitRivals returns the transports that are known once none of them keeps this one from starting. One that
// was killed stops to do so when it has been silent for some seconds.
func (d *Directory) awaitRivals(ctx context.Context, own store.Transport) ([]store.Transport, error) {
	const poll = heartbeat / 4
	last := map[string]time.Time{}
	for {
		listed, err := d.store.Transports(ctx)
		if err != nil {
			return nil, err
		}
		waiting := false
		for _, t := range listed {
			problem := conflict(own, t)
			if problem == nil || !Live(t) {
				continue
			}
			first, seen := last[t.VolumeID]
			if own.Single || t.Single || seen && t.HeartbeatAt.After(first) {
				return nil, problem
			}
			waiting, last[t.VolumeID] = true, t.HeartbeatAt
		}
		if !waiting {
			return listed, nil
		}
		select {
		case <-time.After(poll):
		case <-ctx.Done():
			return nil, fmt.Errorf("failed to wait for the transports that were killed: %w", ctx.Err())
		}
	}
}

// conflict returns why a transport can't run next to another one that runs, or nil.
func conflict(own, other store.Transport) error {
	switch {
	case own.VolumeID == other.VolumeID:
		// This process has the volume's lock. A restart at the same address need not wait, nor one that
		// changes transport.several.
		if own.Single || other.Single || own.Address == other.Address {
			return nil
		}
		return fmt.Errorf("the transport %s at %s also serves the volume %s of this spool, so that one of them has "+
			"a copy, or a folder without a lock. Stop one; empty a copied folder before its transport starts",
			other.Name, other.Address, other.VolumeID)
	case own.Single && other.Single:
		return nil
	case own.Single:
		return fmt.Errorf("transport.several: must be true, since the party has another transport: %s at %s",
			other.Name, other.Address)
	case other.Single:
		return fmt.Errorf("transport %s at %s runs without transport.several: set it there first, and restart it",
			other.Name, other.Address)
	case own.Address == other.Address:
		return fmt.Errorf("transport.advertise: the party's processes can't reach this transport at %s, since "+
			"transport %s has the same address; give each one its own", own.Address, other.Name)
	}
	return nil
}

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

// beat sends a heartbeat. While the database is away, the transport serves: nobody can take over its volume
// in the database either.
func (d *Directory) beat(ctx context.Context) {
	if d.fenced.Load() {
		return
	}
	limited, cancel := context.WithTimeout(ctx, beatTimeout)
	defer cancel()
	other, missed, err := d.store.BeatTransport(limited, d.announced.Transport)
	if err == nil && missed && !d.announced.Single {
		d.logger.Warn("the database has lost this transport, as after a restore; recorded it again")
		err = d.claim(limited, d.announced, nil)
	}
	if err != nil && ctx.Err() == nil {
		d.logger.Warn("failed to send a heartbeat of the transport", "error", err)
	}
	if other != nil && err == nil {
		d.fence(*other)
	}
	d.confirmedAt.Store(time.Now().UnixNano())
}

// fence stops the transport, since another process has taken over its volume: both would give away the same
// messages.
func (d *Directory) fence(other store.Transport) {
	err := fmt.Errorf("process %s at %s has taken over the volume %s of this transport, which therefore stops",
		other.Name, other.Address, other.VolumeID)
	if d.announced.Single {
		d.logger.Error("two transports serve one spool, or a copy of it", "error", err)
		return
	}
	d.fenced.Store(true)
	d.logger.Error("failed to keep the spool", "error", err)
	if d.announced.OnFenced != nil {
		d.announced.OnFenced(err)
	}
}

var errFenced = status.Errorf(status.NoInstance, "another process has taken over this transport's spool; "+
	"try again")

// Confirm returns an error if another process has taken over the volume of this one. A process that was
// paused for longer than its heartbeats count asks first: it may have been replaced meanwhile.
func (d *Directory) Confirm(ctx context.Context) error {
	if d.isStale() {
		d.beating.Lock()
		if d.isStale() {
			d.beat(context.WithoutCancel(ctx))
		}
		d.beating.Unlock()
	}
	if d.fenced.Load() {
		return errFenced
	}
	return nil
}

// isStale reports whether no heartbeat was tried for too long. It reads the wall clock, which continues while
// a machine is suspended.
func (d *Directory) isStale() bool {
	at := d.confirmedAt.Load()
	age := time.Duration(time.Now().UnixNano() - at)
	return at != 0 && (age > liveFor || age < 0)
}

// sweep removes the placements that the volume of this process no longer needs, those on volumes that do not
// come back, and transports that are gone.
func (d *Directory) sweep(ctx context.Context) error {
	a := d.announced
	if _, err := d.store.SweepPlacements(ctx, a.VolumeID, keysOf(a.Sessions()),
		a.SessionTTL+keepIdle); err != nil {
		return err
	}
	if n, err := d.store.SweepLostPlacements(ctx, keepSilent); err != nil {
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
