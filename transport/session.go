package transport

import (
	"context"
	"time"
)

// session is one job's channel at this node. All fields are guarded by the
// broker's lock, but ctx.
type session struct {
	id       string
	queues   map[string]*queue
	in, out  account
	busy     int // calls inside; a busy session is not idle
	lastUsed time.Time
	idle     *time.Timer
	released bool
	dir      string // in the spool; made when something is kept

	// ctx ends with the session; its cause is the refusal.
	ctx    context.Context
	cancel context.CancelCauseFunc
}

// enter finds or makes a session for one call; leave must follow.
func (b *broker) enter(id string) (*session, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, errClosed
	}
	if b.released.has(id) {
		return nil, errReleased(id)
	}
	s := b.sessions[id]
	if s == nil {
		s = b.open(id, b.spool.newSessionDir())
	}
	s.busy++
	s.lastUsed = time.Now()
	return s, nil
}

// open makes a session.
func (b *broker) open(id, dir string) *session {
	s := &session{id: id, queues: make(map[string]*queue), dir: dir, lastUsed: time.Now()}
	s.in.session, s.out.session = s, s
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	s.idle = time.AfterFunc(b.limits.SessionTTL, func() { b.expire(s) })
	b.sessions[id] = s
	return s
}

// leave ends a call. A session that holds nothing then is forgotten, so that
// calls with made-up ids cost nothing.
func (b *broker) leave(s *session) {
	b.mu.Lock()
	defer b.unlock()
	s.busy--
	s.lastUsed = time.Now()
	if s.busy == 0 && len(s.queues) == 0 && !s.released {
		delete(b.sessions, s.id)
		if !b.closed {
			b.trash = append(b.trash, s.dir)
		}
		s.idle.Stop()
		s.cancel(nil)
	}
}

// expire runs when a session may have been idle for its time to live.
func (b *broker) expire(s *session) {
	b.mu.Lock()
	defer b.unlock()
	if b.sessions[s.id] != s {
		return
	}
	silence := time.Since(s.lastUsed)
	if s.busy > 0 {
		silence = 0
	}
	if silence < b.limits.SessionTTL {
		s.idle.Reset(b.limits.SessionTTL - silence)
		return
	}
	b.log.Warn("session released: nobody used it", "session_id", s.id, "idle", silence, "bytes", s.in.used)
	b.bury(s.id)
	b.end(s, errReleased(s.id))
}

// bury remembers that a session was released.
func (b *broker) bury(id string) {
	if !b.released.has(id) {
		b.released.add(id)
		b.buried = append(b.buried, id)
	}
}

// releaseSession closes a session for good and remembers that it was.
func (b *broker) releaseSession(id string) {
	b.mu.Lock()
	defer b.unlock()
	if b.closed {
		return
	}
	b.bury(id)
	if s := b.sessions[id]; s != nil {
		b.end(s, errReleased(id))
	}
}

// end drops a session: its messages go, its readers and writers wake with err.
// At the transport's end its folder stays.
func (b *broker) end(s *session, err error) {
	delete(b.sessions, s.id)
	s.released = true
	s.idle.Stop()
	for _, q := range s.queues {
		b.empty(q, err)
		b.uncharge(q)
	}
	clear(s.queues)
	if !b.closed {
		b.trash = append(b.trash, s.dir)
	}
	b.fail(&s.in, err)
	b.fail(&s.out, err)
	b.feed()
	s.cancel(err)
}

// tombstones remembers the last ids that were added, up to its size.
type tombstones struct {
	ids  map[string]struct{}
	ring []string
	next int
	size int
}

func (t *tombstones) has(id string) bool {
	_, ok := t.ids[id]
	return ok
}

func (t *tombstones) add(id string) {
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
