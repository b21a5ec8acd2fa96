package placement

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"hutong/store"
)

// Announcement describes the transport of this process.
type Announcement struct {
	store.Transport // without Instance and Epoch
	// Spool is the volume. Its epoch distinguishes it from older copies of it.
	Spool Spool
	// Sessions returns the ids of the sessions that it holds, IdleSessions of those that no call has used for
	// a time.
	Sessions     func() []string
	IdleSessions func(time.Duration) []string
	// Release releases a session.
	Release func(session string)
	// SessionTTL is the time after which it releases an idle session.
	SessionTTL time.Duration
	// OnFenced is called once if another process has taken over the volume, or if the party was restored
	// while this process ran. This one must then serve nothing.
	OnFenced func(error)
}

// Spool is the folder of a volume.
type Spool interface {
	// Epoch returns the epoch that this process or another one has written last, 0 at first.
	Epoch() (int64, error)
	// SetEpoch writes it. It survives a crash of the machine.
	SetEpoch(int64) error
}

// Announce records that this process serves a volume, and that the volume holds the sessions that are in
// it. Until stop is called, it sends heartbeats, and sweeps what volumes held. It fails if a process runs
// that the transport can't run next to, or if the spool is an old copy of its volume.
func (d *Directory) Announce(ctx context.Context, a Announcement) (stop func(context.Context) error,
	err error) {
	a.Instance = rand.Text()
	listed, err := d.awaitRivals(ctx, a)
	if err != nil {
		return nil, err
	}
	if a.Single {
		if err := d.checkAlone(ctx, a, listed); err != nil {
			return nil, err
		}
	}
	// Before the row of this process: the end of a restore removes it, which a heartbeat notices.
	mark, err := d.store.RestoreMark(ctx)
	if err != nil {
		return nil, err
	}
	began := d.now()
	if a.Epoch, err = d.takeOver(ctx, a, listed); err != nil {
		return nil, err
	}
	if err := d.open(ctx, a, listed); err != nil {
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), beatTimeout)
		defer cancel()
		return nil, errors.Join(err, d.store.StopTransport(limited, a.VolumeID, a.Instance))
	}
	d.mu.Lock()
	d.own = a.Transport
	d.mu.Unlock()
	d.announced, d.recorded, d.restoredAt = a, a.Epoch, mark.RestoredAt
	d.triedAt.Store(began.UnixNano())
	d.confirmedAt.Store(began.UnixNano())

	beats, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	d.halt = func() {
		cancel()
		running.Wait()
	}
	running.Go(func() { d.run(beats) })
	running.Go(func() { d.runReleases(beats) })
	return func(ctx context.Context) error {
		d.halt()
		d.mu.Lock()
		d.withdrawn = true
		d.mu.Unlock()
		// Calls in progress still ask who serves the volume. That must not make this one online again.
		d.beating.Lock()
		d.announced.Stopped = true
		d.beating.Unlock()
		// A database that hangs must not delay the stop.
		limited, cancel := context.WithTimeout(ctx, beatTimeout)
		defer cancel()
		return d.store.StopTransport(limited, a.VolumeID, a.Instance)
	}, nil
}

// takeOver makes this process the one that serves the volume, and returns its epoch. The spool has the epoch
// first: a crash in between must not make it look like an old copy. Its holder may be ahead of the database
// by one, see beat, so that a takeover adds two.
func (d *Directory) takeOver(ctx context.Context, a Announcement, listed []store.Transport) (epoch int64,
	err error) {
	last := find(listed, a.VolumeID).Epoch
	epoch, err = a.Spool.Epoch()
	if err != nil {
		return 0, err
	}
	a.Epoch = max(epoch, last) + 2
	if err := a.Spool.SetEpoch(a.Epoch); err != nil {
		return 0, err
	}
	registered, err := d.store.RegisterTransport(ctx, a.Transport, last)
	if err == nil && !registered {
		err = fmt.Errorf("failed to take over the volume %s: another process has taken it over at the same time",
			a.VolumeID)
	}
	return a.Epoch, err
}

// open records what the volume holds. Of two processes that have started at the same time, at least one sees
// the other here.
func (d *Directory) open(ctx context.Context, a Announcement, before []store.Transport) error {
	listed, err := d.store.Transports(ctx)
	if err != nil {
		return err
	}
	for _, t := range listed {
		if problem := conflict(a.Transport, t); t.VolumeID != a.VolumeID && Live(t) && problem != nil {
			return problem
		}
	}
	if a.Single {
		err = d.claimAll(ctx)
	} else {
		err = d.claim(ctx, a, find(before, a.VolumeID).Single)
	}
	if err != nil {
		return err
	}
	return d.read(ctx)
}

// find returns the transport with a volume, or the zero value.
func find(listed []store.Transport, volume string) store.Transport {
	for _, t := range listed {
		if t.VolumeID == volume {
			return t
		}
	}
	return store.Transport{}
}

// checkAlone returns an error if a single transport lacks the sessions of jobs in progress.
func (d *Directory) checkAlone(ctx context.Context, a Announcement, listed []store.Transport) error {
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
	return nil
}

// claimAll makes a single transport the one that holds all sessions.
func (d *Directory) claimAll(ctx context.Context) error {
	if err := d.store.ForgetPlacements(ctx); err != nil {
		return err
	}
	_, err := d.store.RemoveTransports(ctx, keepSilent)
	return err
}

// claim records the sessions that are in a volume. Of one that was that of a single transport, these are the
// sessions of all jobs in progress, also those without messages.
func (d *Directory) claim(ctx context.Context, a Announcement, wasSingle bool) error {
	if wasSingle {
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
func (d *Directory) awaitRivals(ctx context.Context, own Announcement) ([]store.Transport, error) {
	const poll = heartbeat / 4
	type seen struct{ beat, since time.Time }
	first := map[string]seen{}
	for {
		listed, err := d.store.Transports(ctx)
		if err != nil {
			return nil, err
		}
		if err := d.checkEpoch(own, find(listed, own.VolumeID)); err != nil {
			return nil, err
		}
		waiting := false
		for _, t := range listed {
			problem := conflict(own.Transport, t)
			if problem == nil || !Live(t) {
				continue
			}
			was, known := first[t.VolumeID]
			switch {
			case t.Single, own.Single && t.VolumeID != own.VolumeID,
				known && t.HeartbeatAt.After(was.beat):
				return nil, problem
			case !known:
				first[t.VolumeID] = seen{t.HeartbeatAt, time.Now()}
				d.logger.Info("waits until another transport has been silent for some seconds",
					"transport", t.Name, "address", t.Address)
			case time.Since(was.since) > liveFor:
				continue // its last heartbeat is in the future: the database's clock was set back
			}
			waiting = true
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

// checkEpoch refuses a spool that another process has served after it was copied, or that a process still has
// which was replaced: it has messages of the past. A party that has always had one transport is not bound to
// its spool: its machine may have been restored from a snapshot.
func (d *Directory) checkEpoch(own Announcement, last store.Transport) error {
	epoch, err := own.Spool.Epoch()
	if err != nil || epoch >= last.Epoch {
		return err
	}
	if own.Single && last.Single {
		d.logger.Warn("the spool is older than the one that this party's transport has served last",
			"epoch", epoch, "last_epoch", last.Epoch)
		return nil
	}
	return fmt.Errorf("the spool is an old copy of the volume %s, which %s at %s has served since (epoch %d "+
		"after %d). Its messages are of the past: empty this folder before the transport starts",
		own.VolumeID, last.Name, last.Address, last.Epoch, epoch)
}

// conflict returns why a transport can't run next to another one that runs, or nil.
func conflict(own, other store.Transport) error {
	switch {
	case own.VolumeID == other.VolumeID:
		// This process has the lock of its folder, but others may have a copy with the same address. A party
		// with one transport restarts at once.
		if own.Single && other.Single {
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
