package queue

import (
	"cmp"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"hutong/transport/status"
)

// MaxName is the largest session id, topic or message id, in bytes.
const MaxName = 4096

// Config configures a broker. Dir is required.
type Config struct {
	// Dir is the spool's folder. Open creates it. It belongs to one broker at a time.
	Dir string
	// Known makes Open fail if the folder holds no spool yet.
	Known bool
	// Limits bounds bytes and idle time.
	Limits Limits
	// Logger receives what an operator should know; never a message's content.
	Logger *slog.Logger
}

// Limits bounds what a broker holds. Zero fields get their defaults.
type Limits struct {
	// SessionBytes is what one session may hold unread, and again in transit to partners: 256 MiB, at least 1
	// MiB.
	SessionBytes int64
	// TotalBytes is what all sessions together may hold: 1 GiB.
	TotalBytes int64
	// PartnerBytes is what the messages of one partner may hold in all sessions: half of TotalBytes.
	PartnerBytes int64
	// SessionTTL is the idle time after which a session is released: 24 h.
	SessionTTL time.Duration
	// ReleasedSessions is how many released sessions are remembered: 10,000.
	ReleasedSessions int
}

// WithDefaults returns the limits with defaults for zero fields.
func (l Limits) WithDefaults() Limits {
	l.SessionBytes = max(cmp.Or(l.SessionBytes, 256<<20), 1<<20)
	l.TotalBytes = max(cmp.Or(l.TotalBytes, 1<<30), l.SessionBytes)
	l.PartnerBytes = min(cmp.Or(l.PartnerBytes, l.TotalBytes/2), l.TotalBytes)
	l.SessionTTL = cmp.Or(l.SessionTTL, 24*time.Hour)
	l.ReleasedSessions = cmp.Or(l.ReleasedSessions, 10_000)
	return l
}

// Broker holds the sessions of one node. It is safe for concurrent use.
type Broker struct {
	limits Limits
	log    *slog.Logger
	spool  *spool

	inMemory atomic.Int64 // bytes of memory that bodies hold; see [Body]

	mu       sync.Mutex
	sessions map[string]*Session
	released recentSet // ids of released sessions
	// starved are the budgets with waiting allocations, in the order in which they began to wait.
	starved  []*budget
	partners map[string]int64 // bytes that the messages of each partner hold
	used     int64
	peak     int64
	waiting  int // allocations
	closed   bool
	counters counters
	// removals are files to remove, and releases the ids of sessions to record as released, once mu is
	// unlocked; see unlock.
	removals, releases []string
}

// counters only grow.
type counters struct {
	pushed, popped, duplicates, requeued uint64
}

// ErrClosed refuses calls of a broker that was stopped.
var ErrClosed = status.Errorf(status.NoInstance, "this transport is shutting down; try again")

func errReleased(id string) *status.Error {
	return status.Errorf(status.SessionReleased, "session %s was released", id)
}

// Open locks the spool's folder and recovers the messages in it. It starts no goroutine.
func Open(cfg Config) (*Broker, error) {
	log := cfg.Logger
	if log == nil {
		log = slog.Default()
	}
	sp, err := openSpool(cfg.Dir, cfg.Known, log)
	if err != nil {
		return nil, err
	}

	limits := cfg.Limits.WithDefaults()
	b := &Broker{
		limits:   limits,
		log:      log,
		spool:    sp,
		sessions: make(map[string]*Session),
		partners: make(map[string]int64),
		released: recentSet{size: limits.ReleasedSessions},
	}
	if err := b.recoverSpool(); err != nil {
		sp.close()
		return nil, err
	}
	return b, nil
}

// Volume returns the id of the spool's folder. It stays the same when another process opens the folder.
func (b *Broker) Volume() string { return b.spool.volume }

// Epoch returns the epoch in the spool, which SetEpoch has set last, in this process or another; 0 at first.
func (b *Broker) Epoch() (int64, error) { return b.spool.epoch() }

// SetEpoch writes the epoch to the spool. It survives a crash of the machine.
func (b *Broker) SetEpoch(n int64) error { return b.spool.setEpoch(n) }

// SessionIDs returns the ids of the sessions that hold or remember something, or are in use.
func (b *Broker) SessionIDs() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Collect(maps.Keys(b.sessions))
}

// IdleSessions returns the ids of the sessions that no call has used for a time.
func (b *Broker) IdleSessions(idle time.Duration) (ids []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, s := range b.sessions {
		if s.calls == 0 && time.Since(s.lastUsed) >= idle {
			ids = append(ids, id)
		}
	}
	return ids
}

// unlock unlocks mu and does the file work that accumulated under it.
func (b *Broker) unlock() {
	removals, releases := b.removals, b.releases
	b.removals, b.releases = nil, nil
	b.mu.Unlock()

	b.spool.recordReleased(releases)
	b.spool.remove(removals)
}

// refusal returns the error for calls of a session that ended or of a broker that was stopped, else nil.
func (b *Broker) refusal(s *Session) error {
	switch {
	case b.closed:
		return ErrClosed
	case s.released:
		return errReleased(s.id)
	default:
		return nil
	}
}

// Stop ends all sessions and refuses every later call. Unread messages stay in the spool.
func (b *Broker) Stop() {
	b.mu.Lock()
	defer b.unlock()
	if b.closed {
		return
	}

	b.closed = true
	for _, s := range b.sessions {
		b.end(s, ErrClosed)
	}
}

// Close unlocks the spool's folder for another broker. Stop comes before it, and the end of all calls.
func (b *Broker) Close() { b.spool.close() }
