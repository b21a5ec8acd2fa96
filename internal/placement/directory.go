package placement

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"hutong/bfia"
	"hutong/store"
	"hutong/transport/status"
)

const (
	// heartbeat is the interval in which a transport says that it is alive, and liveFor is how long that
	// counts. No new session is placed on a transport that has been silent for longer.
	heartbeat = 2 * time.Second
	liveFor   = 4 * heartbeat
	// refreshAfter is the age at which the list of transports is read again, if it is used.
	refreshAfter = 2 * time.Second
	// readTimeout bounds a query, since a call may wait for days.
	readTimeout = 10 * time.Second
	// maxKey is the longest key, in bytes: databases index no more than some thousand.
	maxKey = 256
	// maxCached bounds the placements that are remembered.
	maxCached = 20_000
)

// Store is what a directory needs of the party's database.
type Store interface {
	PutTransport(ctx context.Context, t store.Transport) error
	StopTransport(ctx context.Context, volume, address string) error
	Transports(ctx context.Context) ([]store.Transport, error)
	PlaceSessions(ctx context.Context, key, volume string) (holder string, err error)
	Placement(ctx context.Context, key string) (volume string, err error)
	ClaimPlacements(ctx context.Context, keys []string, volume string) (elsewhere []string, err error)
	SweepPlacements(ctx context.Context, volume string, inUse []string, idle time.Duration,
		jobSession string) (removed int, err error)
	RemoveTransports(ctx context.Context, silence time.Duration) (int, error)
}

// Directory knows the transports of a party and their sessions. It is safe for concurrent use.
type Directory struct {
	store  Store
	logger *slog.Logger

	mu         sync.RWMutex
	own        store.Transport   // that of this process, if any
	placements map[string]string // volumes by key
	transports map[string]store.Transport
	readAt     time.Time // of transports
	reading    bool
}

// New returns a directory that has read nothing yet.
func New(db Store, logger *slog.Logger) *Directory {
	return &Directory{store: db, logger: logger, placements: map[string]string{},
		transports: map[string]store.Transport{}}
}

// Key returns what the sessions of a job have in common: the job's session. A session that is derived from it
// has the same key. So has that of a job whose id begins with this job's id and an underscore, since their
// derived sessions can't be distinguished.
func Key(session string) string {
	if jobs := bfia.SessionJobs(session); len(jobs) > 0 {
		return bfia.SessionID(jobs[0])
	}
	if len(session) > maxKey || !utf8.ValidString(session) || strings.ContainsRune(session, 0) {
		return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(session)))
	}
	return session
}

var errUnknown = status.Errorf(status.NoInstance, "the party can't look up which transport holds the "+
	"session; try again")

// Find returns the transport that holds a session. It places a session that no transport holds. The error is
// one that the caller of the transport may see.
func (d *Directory) Find(ctx context.Context, session string) (store.Transport, error) {
	key := Key(session)
	d.mu.RLock()
	volume, own := d.placements[key], d.own.VolumeID
	holder, known := d.transports[volume]
	old := time.Since(d.readAt) > refreshAfter
	d.mu.RUnlock()

	if volume == "" {
		var err error
		if volume, err = d.place(ctx, key, own); err != nil {
			d.logger.Warn("failed to look up the transport of a session", "session_id", session, "error", err)
			return store.Transport{}, errUnknown
		}
		d.mu.RLock()
		holder, known = d.transports[volume]
		d.mu.RUnlock()
	}
	switch {
	case volume == own:
		return d.Own(), nil
	case !known: // it has started since
		if err := d.read(ctx); err != nil {
			d.logger.Warn("failed to list the transports", "error", err)
			return store.Transport{}, errUnknown
		}
		d.mu.RLock()
		holder, known = d.transports[volume]
		d.mu.RUnlock()
		if !known {
			return store.Transport{}, status.Errorf(status.NoInstance,
				"the transport that holds the session has not started; try again")
		}
	case old:
		d.Refresh()
	}
	return holder, nil
}

// Own returns the transport of this process. Without one, its volume is "".
func (d *Directory) Own() store.Transport {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.own
}

// Any returns a transport for a call without a session, which each of them refuses in the same way.
func (d *Directory) Any(ctx context.Context) (store.Transport, error) {
	if own := d.Own(); own.VolumeID != "" {
		return own, nil
	}
	if err := d.read(ctx); err != nil {
		d.logger.Warn("failed to list the transports", "error", err)
		return store.Transport{}, errUnknown
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	for _, t := range d.transports {
		if Live(t) {
			return t, nil
		}
	}
	return store.Transport{}, errNoneOnline
}

var errNoneOnline = status.Errorf(status.NoInstance, "no transport of the party is online; try again")

// place returns the volume that holds the sessions of a key, and chooses one if none does.
func (d *Directory) place(ctx context.Context, key, own string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	volume, err := d.store.Placement(ctx, key)
	if err != nil {
		return "", err
	}
	if volume == "" {
		chosen, err := d.choose(ctx, key, own)
		if err != nil {
			return "", err
		}
		if volume, err = d.store.PlaceSessions(ctx, key, chosen); err != nil {
			return "", err
		}
	}
	d.remember(key, volume)
	return volume, nil
}

// choose chooses one of the live transports by rendezvous hashing, so that all processes are likely to choose
// the same one, and each transport gets its share.
func (d *Directory) choose(ctx context.Context, key, own string) (string, error) {
	if err := d.read(ctx); err != nil {
		return "", err
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	var live []string
	for volume, t := range d.transports {
		if volume == own || Live(t) {
			live = append(live, volume)
		}
	}
	if len(live) == 0 {
		return "", errNoneOnline
	}
	rank := func(volume string) []byte {
		sum := sha256.Sum256([]byte(key + "\x00" + volume))
		return sum[:]
	}
	return slices.MaxFunc(live, func(a, b string) int {
		return cmp.Or(bytes.Compare(rank(a), rank(b)), cmp.Compare(a, b))
	}), nil
}

func (d *Directory) remember(key, volume string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for old := range d.placements {
		if len(d.placements) < maxCached {
			break
		}
		delete(d.placements, old)
	}
	d.placements[key] = volume
}

// Refresh reads the list of transports again, in the background: one of them may have another address. A
// failure leaves the list as it is.
func (d *Directory) Refresh() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.reading {
		return
	}
	d.reading = true
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), readTimeout)
		defer cancel()
		err := d.read(ctx)
		d.mu.Lock()
		defer d.mu.Unlock()
		d.reading = false
		if err != nil {
			d.readAt = time.Now() // the next try comes later
			d.logger.Warn("failed to list the transports", "error", err)
		}
	}()
}

// read reads the list of transports.
func (d *Directory) read(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	all, err := d.store.Transports(ctx)
	if err != nil {
		return err
	}
	byVolume := make(map[string]store.Transport, len(all))
	for _, t := range all {
		byVolume[t.VolumeID] = t
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.transports, d.readAt = byVolume, time.Now()
	return nil
}

// Live reports whether a transport may get new sessions.
func Live(t store.Transport) bool { return t.Silence < liveFor }
