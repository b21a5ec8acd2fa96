package placement

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"hutong/bfia"
	"hutong/store"
	"hutong/transport/status"
)

const (
	// heartbeat is the interval in which a transport sends heartbeats, and liveFor is how long one counts.
	// No new session is placed on a transport that has been silent for longer.
	heartbeat = 2 * time.Second
	liveFor   = 4 * heartbeat
	// singleHeartbeat and singleLiveFor are those of a transport that knows no others. It sends heartbeats
	// only for transports that are started next to it.
	singleHeartbeat = 30 * time.Second
	singleLiveFor   = 5 * singleHeartbeat / 2
	// refreshAfter is the age at which the list of transports is read again, if it is used, and refreshPause
	// the shortest time between two reads that calls to a transport cause which is away.
	refreshAfter = 2 * time.Second
	refreshPause = 500 * time.Millisecond
	// readTimeout bounds a query, since a call may wait for days.
	readTimeout = 10 * time.Second
	// rereadAfter is the age at which a placement is read again: rows are removed when they are not used.
	// rereadPause comes before the next try while the database is away.
	rereadAfter = time.Hour
	rereadPause = time.Minute
	// maxKey is the longest key, in bytes: databases index no more than some thousand.
	maxKey = 256
	// maxCached bounds the placements that are remembered.
	maxCached = 20_000
)

// Store is what a directory needs of the party's database.
type Store interface {
	RegisterTransport(ctx context.Context, t store.Transport, epoch int64) (registered bool, err error)
	BeatTransport(ctx context.Context, t store.Transport) (other *store.Transport, recreated bool, err error)
	StopTransport(ctx context.Context, volume, instance string) error
	Transports(ctx context.Context) ([]store.Transport, error)
	PlaceSessions(ctx context.Context, key, volume string) (holder string, err error)
	Placement(ctx context.Context, key string) (volume string, err error)
	ClaimPlacements(ctx context.Context, keys []string, volume string) (elsewhere []string, err error)
	ClaimUnfinishedJobs(ctx context.Context, volume string) error
	UnfinishedJobsByVolume(ctx context.Context) (map[string]int, error)
	ForgetPlacements(ctx context.Context) error
	SweepPlacements(ctx context.Context, volume string, inUse []string, idle time.Duration) (removed int,
		err error)
	SweepLostPlacements(ctx context.Context, silence, unread time.Duration) (removed int, err error)
	RemoveTransports(ctx context.Context, silence time.Duration) (int, error)
	SessionsOfEndedJobs(ctx context.Context, sessions []string) ([]string, error)
	RestoreMark(ctx context.Context) (store.RestoreMark, error)
}

// Directory knows the transports of a party and their sessions. It is safe for concurrent use.
type Directory struct {
	store  Store
	logger *slog.Logger
	now    func() time.Time // for heartbeats; tests pause it

	mu         sync.RWMutex
	own        store.Transport // that of this process, if any
	placements map[string]cachedPlacement
	transports map[string]store.Transport
	readAt     time.Time // of transports
	lastRead   time.Time // when the last try to read them ended
	reading    bool
	withdrawn  bool // this process gets no new sessions

	// What the announcement of this process needs, see announce.go and heartbeat.go. All times are those of
	// the wall clock.
	beating     sync.Mutex   // one heartbeat at a time; guards the next six
	announced   Announcement // with the epoch of the spool
	recorded    int64        // the epoch of the database
	advancedAt  time.Time    // when the epoch has grown last
	unclaimed   bool         // the database lacks the placements of what the volume holds
	recreated   bool         // a heartbeat has found that the database has lost the row of this process
	restoredAt  *time.Time   // when a restore of the party was finished last, before this process
	confirmedAt atomic.Int64 // when the last heartbeat that succeeded began
	triedAt     atomic.Int64 // when the last heartbeat began or ended
	failing     atomic.Bool  // the last heartbeat failed
	unconfirmed atomic.Bool  // this process was paused, and no heartbeat has succeeded since
	fenced      atomic.Bool  // another process serves the volume
	halt        func()       // ends the heartbeats
	// reported are the instances whose conflict with this process was logged; guarded by mu.
	reported map[string]bool
}

// cachedPlacement is a volume that holds sessions, as the database has returned it.
type cachedPlacement struct {
	volume string
	readAt time.Time
}

// New returns a directory that has read nothing yet.
func New(db Store, logger *slog.Logger) *Directory {
	return &Directory{store: db, logger: logger, now: time.Now, placements: map[string]cachedPlacement{},
		transports: map[string]store.Transport{}, reported: map[string]bool{}}
}

// Key returns what the sessions of a job have in common: the job's session. A session that is derived from it
// has the same key. So have those of all jobs whose ids have the same text before the first underscore, since
// their derived sessions can't be distinguished: such jobs are all at one transport.
func Key(session string) string {
	if jobs := bfia.SessionJobs(session); len(jobs) > 0 {
		return bfia.SessionID(jobs[0])
	}
	if len(session) > maxKey || !utf8.ValidString(session) || strings.ContainsRune(session, 0) {
		return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(session)))
	}
	return session
}

var (
	errUnknown = status.Errorf(status.NoInstance, "the party can't look up which transport holds the "+
		"session; try again")
	errNotStarted = status.Errorf(status.NoInstance, "the transport that holds the session has not started; "+
		"try again")
	errNoneOnline = status.Errorf(status.NoInstance, "no transport of the party is online; try again")
)

// Find returns the transport that holds a session. It places a session that no transport holds. The error is
// one that the caller of the transport may see.
func (d *Directory) Find(ctx context.Context, session string) (store.Transport, error) {
	volume, err := d.volume(ctx, Key(session))
	if err != nil {
		d.logger.Warn("failed to look up the transport of a session", "session_id", session, "error", err)
		if refusal, ok := errors.AsType[*status.Error](err); ok {
			return store.Transport{}, refusal
		}
		return store.Transport{}, errUnknown
	}
	d.mu.RLock()
	own := d.own
	holder, found := d.transports[volume]
	age := time.Since(d.lastRead)
	d.mu.RUnlock()
	switch {
	case volume == own.VolumeID:
		return own, d.Confirm(ctx)
	case !found: // it has started since
		if err := d.read(ctx); err != nil {
			d.logger.Warn("failed to list the transports", "error", err)
			return store.Transport{}, errUnknown
		}
		d.mu.RLock()
		holder, found = d.transports[volume]
		d.mu.RUnlock()
		if !found {
			return store.Transport{}, errNotStarted
		}
	case age > refreshAfter:
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

// Listed returns a transport as it was listed last, at readAt.
func (d *Directory) Listed(volume string) (t store.Transport, found bool, readAt time.Time) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	t, found = d.transports[volume]
	return t, found, d.readAt
}

// Any returns a transport for a call without a session, which each of them refuses in the same way.
func (d *Directory) Any(ctx context.Context) (store.Transport, error) {
	if own := d.Own(); own.VolumeID != "" {
		return own, nil
	}
	d.mu.RLock()
	readAt, age := d.readAt, time.Since(d.lastRead)
	d.mu.RUnlock()
	if readAt.IsZero() {
		if err := d.read(ctx); err != nil {
			d.logger.Warn("failed to list the transports", "error", err)
			return store.Transport{}, errUnknown
		}
	} else if age > refreshAfter {
		d.Refresh()
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	for _, t := range d.transports {
		if !t.Single && Live(t) {
			return t, nil
		}
	}
	return store.Transport{}, errNoneOnline
}

// volume returns the volume that holds the sessions of a key. It remembers what the database said, and keeps
// to it while the database is away.
func (d *Directory) volume(ctx context.Context, key string) (string, error) {
	d.mu.RLock()
	k := d.placements[key]
	d.mu.RUnlock()
	if k.volume != "" && (time.Since(k.readAt) < rereadAfter || !d.mayReread(key, k)) {
		return k.volume, nil
	}
	volume, err := d.place(ctx, key)
	if err != nil && k.volume != "" {
		d.logger.Warn("failed to read the placement of a session again", "session_key", key, "error", err)
		return k.volume, nil
	}
	return volume, err
}

// mayReread lets one caller read a placement again. Meanwhile, and for a while if that fails, the others use
// the one that is known.
func (d *Directory) mayReread(key string, k cachedPlacement) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.placements[key] != k {
		return false
	}
	d.placements[key] = cachedPlacement{k.volume, time.Now().Add(rereadPause - rereadAfter)}
	return true
}

// place returns the volume that holds the sessions of a key, and chooses one if none does.
func (d *Directory) place(ctx context.Context, key string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	volume, err := d.store.Placement(ctx, key)
	if err != nil {
		return "", err
	}
	if volume == "" {
		chosen, err := d.choose(ctx, key)
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
func (d *Directory) choose(ctx context.Context, key string) (string, error) {
	if err := d.read(ctx); err != nil {
		return "", err
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	var live []string
	for volume, t := range d.transports {
		if own := volume == d.own.VolumeID; own && !d.withdrawn || !own && !t.Single && Live(t) {
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
	d.placements[key] = cachedPlacement{volume, time.Now()}
}

// Refresh reads the list of transports again, in the background: one of them may have another address. A
// failure leaves the list as it is.
func (d *Directory) Refresh() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.reading || time.Since(d.lastRead) < refreshPause {
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
			d.lastRead = time.Now() // the next try comes later
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
	d.transports, d.readAt, d.lastRead = byVolume, time.Now(), time.Now()
	d.reportConflicts()
	return nil
}

// reportConflicts logs each transport that runs although this one can't run next to it, once. It has started
// at the same time, or the database was restored.
func (d *Directory) reportConflicts() {
	for volume, t := range d.transports {
		if d.own.VolumeID == "" || volume == d.own.VolumeID || !Live(t) || d.reported[t.Instance] {
			continue
		}
		if problem := conflict(d.own, t); problem != nil {
			d.reported[t.Instance] = true
			d.logger.Error("another transport of the party runs that must not", "error", problem)
		}
	}
}

// Live reports whether a transport runs, as its heartbeats say.
func Live(t store.Transport) bool {
	limit := liveFor
	if t.Single {
		limit = singleLiveFor
	}
	return !t.Stopped && t.Silence < limit
}
