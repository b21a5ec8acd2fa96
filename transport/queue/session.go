package queue

import (
	"context"
	"strings"
	"time"
)

// Session holds the queues of one job at this node. Broker.mu guards its fields, except id, dir and ctx.
type Session struct {
	b        *Broker
	id       string
	queues   map[string]*topicQueue
	in, out  budget
	calls    int // in progress; a session with calls is not idle
	lastUsed time.Time
	idle     *time.Timer
	released bool
	dir      string // in the spool; created with the first message

	// ctx ends with the session; its cause is the refusal.
	ctx    context.Context
	cancel context.CancelCauseFunc
}

// Enter finds or creates a session for one call. Leave must follow.
func (b *Broker) Enter(id string) (*Session, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, ErrClosed
	}
	if b.released.has(id) {
		return nil, errReleased(id)
	}

	s := b.sessions[id]
	if s == nil {
		s = b.newSession(id, b.spool.newSessionDir())
	}
	s.calls++
	s.lastUsed = time.Now()
	return s, nil
}

func (b *Broker) newSession(id, dir string) *Session {
	s := &Session{b: b, id: id, queues: make(map[string]*topicQueue), dir: dir, lastUsed: time.Now()}
	s.in.session, s.out.session = s, s
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	s.idle = time.AfterFunc(b.limits.SessionTTL, func() { b.expire(s) })
	b.sessions[id] = s
	return s
}

// ID returns the session's id.
func (s *Session) ID() string { return s.id }

// Context returns a context that ends with the session. Its cause is the refusal for the calls of the
// session.
func (s *Session) Context() context.Context { return s.ctx }

// Leave ends a call. A session that holds nothing then is dropped, so that calls with made-up ids cost
// nothing.
func (s *Session) Leave() {
	b := s.b
	b.mu.Lock()
	defer b.unlock()

	s.calls--
	s.lastUsed = time.Now()
	if s.calls == 0 && len(s.queues) == 0 && !s.released {
		b.dropEmpty(s)
	}
}

// dropEmpty drops a session without queues and its folder. The session is not recorded as released.
func (b *Broker) dropEmpty(s *Session) {
	delete(b.sessions, s.id)
	if !b.closed {
		b.removals = append(b.removals, s.dir)
	}
	s.idle.Stop()
	s.cancel(nil)
}

// expire releases a session that was idle for its time to live, and otherwise restarts its timer.
func (b *Broker) expire(s *Session) {
	b.mu.Lock()
	defer b.unlock()
	if b.sessions[s.id] != s {
		return
	}

	idle := time.Since(s.lastUsed)
	if s.calls > 0 {
		idle = 0
	}
	if idle < b.limits.SessionTTL {
		s.idle.Reset(b.limits.SessionTTL - idle)
		return
	}

	b.log.Warn("released an idle session", "session_id", s.id, "idle", idle, "bytes", s.in.used)
	b.markReleased(s.id)
	b.end(s, errReleased(s.id))
}

// markReleased remembers a session as released, also across restarts.
func (b *Broker) markReleased(id string) {
	if !b.released.has(id) {
		b.released.add(id)
		b.releases = append(b.releases, id)
	}
}

// ReleaseSession drops a session's messages, wakes its readers and writers, and refuses its later calls. It
// may be repeated, and the session may be unknown.
func (b *Broker) ReleaseSession(id string) {
	b.mu.Lock()
	defer b.unlock()
	if b.closed {
		return
	}

	b.markReleased(id)
	if s := b.sessions[id]; s != nil {
		b.end(s, errReleased(id))
	}
}

// ReleaseDerivedSessions releases the sessions whose ids begin with a prefix, which are derived from another
// session.
func (b *Broker) ReleaseDerivedSessions(prefix string) {
	b.mu.Lock()
	var derived []string
	for id := range b.sessions {
		if strings.HasPrefix(id, prefix) {
			derived = append(derived, id)
		}
	}
	b.mu.Unlock()

	for _, id := range derived {
		b.ReleaseSession(id)
	}
}

// end drops a session and its messages; its readers and writers wake with err. If the broker was stopped, the
// session's folder stays for the next process.
func (b *Broker) end(s *Session, err error) {
	delete(b.sessions, s.id)
	s.released = true
	s.idle.Stop()

	for _, q := range s.queues {
		b.dropMessages(q, err)
		b.refundOverhead(q)
	}
	clear(s.queues)
	if !b.closed {
		b.removals = append(b.removals, s.dir)
	}

	b.failWaiting(&s.in, err)
	b.failWaiting(&s.out, err)
	b.grantWaiting()
	s.cancel(err)
}

// recentSet holds the ids that were added last, up to its size.
type recentSet struct {
	ids  map[string]struct{}
	ring []string
	next int
	size int
}

func (t *recentSet) has(id string) bool {
	_, ok := t.ids[id]
	return ok
}

func (t *recentSet) add(id string) {
	if t.has(id) {
		return
	}
	if t.ids == nil {
		t.ids = make(map[string]struct{})
	}

	if len(t.ring) < t.size {
		t.ring = append(t.ring, id)
	} else {
		delete(t.ids, t.ring[t.next])
		t.ring[t.next] = id
		t.next = (t.next + 1) % t.size
	}
	t.ids[id] = struct{}{}
}
