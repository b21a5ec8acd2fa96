package transport

import (
	"crypto/sha256"
	"slices"
)

const (
	// idWindow is how many message ids a queue remembers. A sender repeats only
	// its last message of a queue, so this leaves room for several senders.
	idWindow = 256
	// queueOverhead is charged for each queue: the struct and its ids.
	queueOverhead = 512 + idWindow*16
)

// queue is one topic of a session. All fields are guarded by the broker's lock.
type queue struct {
	s        *session
	topic    string
	messages []*message // messages[head:] are unread
	head     int
	readers  []*reader
	// busy is set while one reader is being answered. The next gets nothing
	// before that: the message might come back, and order is kept.
	busy bool
	// generation tells a delivery whether its queue was emptied meanwhile.
	generation int
	seen       [][16]byte
	nextSeen   int
}

type message struct {
	payload []byte
	hold    *hold
}

// reader is a pop or a peek that waits. Its fields are guarded by the broker's
// lock until ready is closed.
type reader struct {
	peek  bool
	ready chan struct{}
	got   *message // nil for a peek that found nothing
	err   error
}

func (b *broker) queue(s *session, topic string) *queue {
	q := s.queues[topic]
	if q == nil {
		q = &queue{s: s, topic: topic}
		s.queues[topic] = q
		n := queueOverhead + int64(len(topic))
		s.in.fixed += n
		b.used += n
	}
	return q
}

func (b *broker) uncharge(q *queue) {
	n := queueOverhead + int64(len(q.topic))
	q.s.in.fixed -= n
	b.used -= n
}

// tidy forgets a queue that nothing is known of.
func (b *broker) tidy(q *queue) {
	if q.unread() == 0 && len(q.readers) == 0 && !q.busy && len(q.seen) == 0 && q.s.queues[q.topic] == q {
		delete(q.s.queues, q.topic)
		b.uncharge(q)
		b.feed()
	}
}

func (q *queue) unread() int { return len(q.messages) - q.head }

func (q *queue) pushBack(m *message) { q.messages = append(q.messages, m) }

func (q *queue) pushFront(m *message) {
	if q.head > 0 {
		q.head--
		q.messages[q.head] = m
		return
	}
	q.messages = slices.Insert(q.messages, 0, m)
}

func (q *queue) popFront() *message {
	m := q.messages[q.head]
	q.messages[q.head] = nil
	q.head++
	if q.head*2 >= len(q.messages) {
		// The read half is dropped in one move, so a pop costs the same on average however long the queue is.
		n := copy(q.messages, q.messages[q.head:])
		clear(q.messages[n:])
		q.messages, q.head = q.messages[:n], 0
		if cap(q.messages) > 1024 && n < cap(q.messages)/8 {
			q.messages = slices.Clip(slices.Clone(q.messages))
		}
	}
	return m
}

// remember tells whether an id was seen before, and notes it.
func (q *queue) remember(id string) (seen bool) {
	if id == "" {
		return false
	}
	var key [16]byte
	sum := sha256.Sum256([]byte(id))
	copy(key[:], sum[:])
	if slices.Contains(q.seen, key) {
		return true
	}
	if len(q.seen) < idWindow {
		q.seen = append(q.seen, key)
	} else {
		q.seen[q.nextSeen] = key
		q.nextSeen = (q.nextSeen + 1) % idWindow
	}
	return false
}

// serve gives the first message to the first reader, if no other is being
// answered. Peeks leave with nothing when nothing is unread.
func (b *broker) serve(q *queue) {
	if !q.busy && len(q.readers) > 0 && q.unread() > 0 {
		r := q.readers[0]
		q.readers = slices.Delete(q.readers, 0, 1)
		q.busy = true
		r.got = q.popFront()
		close(r.ready)
	}
	if q.unread() == 0 {
		q.readers = slices.DeleteFunc(q.readers, func(r *reader) bool {
			if r.peek {
				close(r.ready)
			}
			return r.peek
		})
	}
	b.tidy(q)
}

// empty drops a queue's messages and wakes its readers with err. The ids stay,
// so that a late retry of a dropped message is still known.
func (b *broker) empty(q *queue, err error) {
	for _, m := range q.messages[q.head:] {
		m.hold.releaseLocked()
	}
	q.messages, q.head = nil, 0
	q.generation++
	for _, r := range q.readers {
		r.err = err
		close(r.ready)
	}
	q.readers = nil
}
