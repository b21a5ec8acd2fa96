package placement

import (
	"context"
	"fmt"
	"slices"
	"time"

	"hutong/bfia"
	"hutong/store"
)

const (
	// sweepEvery is the interval of sweeps, and keepIdle how long a placement without a job outlives its
	// session, which may still be refused as released.
	sweepEvery = time.Hour
	keepIdle   = 24 * time.Hour
	// keepSilent is how long a transport without sessions is listed after its last heartbeat.
	keepSilent = 24 * time.Hour
)

// Announcement describes the transport of this process.
type Announcement struct {
	store.Transport
	// Sessions returns the ids of the sessions that it holds.
	Sessions func() []string
	// SessionTTL is the time after which it releases an idle session.
	SessionTTL time.Duration
}

// Announce records that this process serves a volume, and that the volume holds the sessions that are in it.
// Until stop is called, it sends heartbeats, and sweeps what the volume held.
func (d *Directory) Announce(ctx context.Context, a Announcement) (stop func(context.Context) error,
	err error) {
	keys := keysOf(a.Sessions())
	elsewhere, err := d.store.ClaimPlacements(ctx, keys, a.VolumeID)
	if err != nil {
		return nil, fmt.Errorf("failed to record the sessions of transport %s: %w", a.Name, err)
	}
	for _, key := range elsewhere {
		d.logger.Warn("the spool has messages of a session that another transport holds; nobody will read them",
			"session_id", key)
	}
	if err := d.store.PutTransport(ctx, a.Transport); err != nil {
		return nil, err
	}
	if err := d.read(ctx); err != nil {
		return nil, err
	}
	d.mu.Lock()
	d.own = a.Transport
	d.mu.Unlock()

	beats, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.beat(beats, a)
	}()
	return func(ctx context.Context) error {
		cancel()
		<-done
		return d.store.StopTransport(ctx, a.VolumeID, a.Address)
	}, nil
}

// beat sends heartbeats and sweeps until ctx ends.
func (d *Directory) beat(ctx context.Context, a Announcement) {
	beats, sweeps := time.NewTicker(heartbeat), time.NewTicker(sweepEvery)
	defer beats.Stop()
	defer sweeps.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-beats.C:
			d.try(ctx, "failed to send a heartbeat of the transport", func(ctx context.Context) error {
				return d.store.PutTransport(ctx, a.Transport)
			})
		case <-sweeps.C:
			d.try(ctx, "failed to sweep the placements of sessions", func(ctx context.Context) error {
				return d.sweep(ctx, a)
			})
		}
	}
}

// try runs something that may fail until the database is back.
func (d *Directory) try(ctx context.Context, failure string, do func(context.Context) error) {
	limited, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	if err := do(limited); err != nil && ctx.Err() == nil {
		d.logger.Warn(failure, "error", err)
	}
}

// sweep removes the placements that the volume of this process no longer needs, and transports that are gone.
func (d *Directory) sweep(ctx context.Context, a Announcement) error {
	if _, err := d.store.SweepPlacements(ctx, a.VolumeID, keysOf(a.Sessions()), a.SessionTTL+keepIdle,
		bfia.SessionID("")); err != nil {
		return err
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
