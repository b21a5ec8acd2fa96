package placement

import (
	"context"
	"time"

	"hutong/store"
)

const (
	// releaseEvery is the interval in which a transport looks for sessions that no job needs.
	releaseEvery = time.Minute
	// idleFor is how long such a session must not have been used. The containers of partners may use it until
	// they are notified that the job has ended, and that must not fail them for another reason. It also
	// spares the sessions of jobs that are being created.
	idleFor = 2 * time.Minute
)

// runReleases releases the sessions of ended jobs until ctx ends. A job's workflow releases them at the job's
// end, but not at a transport that is away for long. After a restore there may be some that the party has
// forgotten.
func (d *Directory) runReleases(ctx context.Context) {
	ticker := time.NewTicker(releaseEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			limited, cancel := context.WithTimeout(ctx, readTimeout)
			if err := d.releaseEnded(limited); err != nil && ctx.Err() == nil {
				d.logger.Warn("failed to look for the sessions of ended jobs", "error", err)
			}
			cancel()
		}
	}
}

// releaseEnded releases the idle sessions of ended jobs that this process holds, unless it must serve
// nothing.
func (d *Directory) releaseEnded(ctx context.Context) error {
	d.beating.Lock()
	restored, err := d.wasRestored(ctx)
	d.beating.Unlock()
	if err != nil || restored {
		return err
	}
	if err := d.Confirm(ctx); err != nil {
		return err
	}
	ended, err := d.store.SessionsOfEndedJobs(ctx, d.announced.IdleSessions(idleFor))
	if err != nil {
		return err
	}
	for _, session := range ended {
		d.logger.Warn("released a session that was left of an ended job", "session_id", session)
		d.announced.Release(session)
	}
	return nil
}

// Holders returns the transports at which to release the sessions of a key at the end of their job: the one
// that holds them, nil if none does, and the others that are online. After a restore these may have some too,
// since the party has forgotten which transport held them. It places nothing.
func (d *Directory) Holders(ctx context.Context, session string) (holder *store.Transport,
	others []store.Transport, err error) {
	key := Key(session)
	d.mu.RLock()
	volume, age := d.placements[key].volume, time.Since(d.lastRead)
	d.mu.RUnlock()
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	if volume == "" {
		if volume, err = d.store.Placement(ctx, key); err != nil {
			return nil, nil, err
		}
	}
	if age > refreshAfter {
		if err := d.read(ctx); err != nil {
			return nil, nil, err
		}
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	for _, t := range d.transports {
		switch {
		case t.VolumeID == volume:
			holder = &t
		case !t.Single && Live(t):
			others = append(others, t)
		}
	}
	switch {
	case volume != "" && holder == nil:
		return nil, nil, errNotStarted
	case holder == nil && len(others) == 0:
		return nil, nil, errNoneOnline
	}
	return holder, others, nil
}
