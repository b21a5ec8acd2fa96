package transport

import (
	"crypto/sha256"
	"slices"
	"sync"
)

const (
	// idWindow is how many message ids a queue remembers. A sender repeats only
	// its last message of a queue, so this leaves room for several senders.
	idWindow = 256
	// queueOverhead is charged for each queue: the struct and its ids.
	queueOverhead = 512 + idWindow*16
)

// queue is one topic of a session. All fields are guarded by the broker's lock,
// but io and segments.
type queue struct {
	s        *session
	topic    string
	messages []*message // messages[head:] are unread
	head     int
	readers  []*reader
	// busy is set while one reader is being answered, given is what it gets. The next
	// gets nothing before that: the message might come back, and order is kept.
	busy  bool
	given *message
	// retained is the message that was read last, if its pop had an id: the same
	// pop may come again, when its answer was lost, and gets it again. Any other
	// reader tells that it arrived.
	retained    *message
	retainedFor idKey
	// consumed is the highest number that was read or dropped.
	consumed int64
	// generation tells a delivery whether its queue was emptied meanwhile.
	generation int
	seen       []idKey
	nextSeen   int
	users      int // calls that write to the log

	// io is held while the log is written. It is taken before the broker's lock, never while that is held.
	io       sync.Mutex
	segments []*segment
}

// message is where a message lies in the spool.
type message struct {
	seq  int64
	size int64
	// blob is its file, or else it is a record of a log.
	blob   string
	seg    *segment
	off    int64
	record int
	hold   *hold
}

// reader is a pop or a peek that waits. Its fields are guarded by the broker's
// lock until ready is closed.
type reader struct {
	peek  bool
	id    idKey
	ready chan struct{}
	got   *message // nil for a peek that found nothing
	// again tells that got was read before by the same pop.
	again bool
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

// tidy forgets a queue that nothing is known of, and its log.
func (b *broker) tidy(q *queue) {
	if q.unread() == 0 && len(q.readers) == 0 && !q.busy && q.retained == nil && q.users == 0 && len(q.seen) == 0 && q.s.queues[q.topic] == q {
		delete(q.s.queues, q.topic)
		b.uncharge(q)
		for _, seg := range q.segments { // nobody uses io
			b.trash = append(b.trash, seg.path)
		}
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

// keyOf is an id at a fixed length; "" is none.
func keyOf(id string) (key idKey) {
	if id != "" {
		sum := sha256.Sum256([]byte(id))
		copy(key[:], sum[:])
	}
	return key
}

// knows tells whether a message's id was seen before.
func (q *queue) knows(id idKey) bool { return id != idKey{} && slices.Contains(q.seen, id) }

// remember notes a message's id.
func (q *queue) remember(id idKey) {
	switch {
	case id == idKey{}:
	case len(q.seen) < idWindow:
		q.seen = append(q.seen, id)
	default:
		q.seen[q.nextSeen] = id
		q.nextSeen = (q.nextSeen + 1) % idWindow
	}
}

// serve gives the first message to the first reader, if no other is being
// answered. A pop that comes again gets what it got. Peeks leave with nothing
// when nothing is unread.
func (b *broker) serve(q *queue) {
	if !q.busy && q.retained != nil {
		if i := slices.IndexFunc(q.readers, func(r *reader) bool { return r.id == q.retainedFor }); i >= 0 {
			b.give(q, i, q.retained, true)
		}
	}
	if !q.busy && len(q.readers) > 0 && q.unread() > 0 {
		b.forget(q)
		b.give(q, 0, q.popFront(), false)
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

// give hands a message to the reader at i.
func (b *broker) give(q *queue, i int, m *message, again bool) {
	r := q.readers[i]
	q.readers = slices.Delete(q.readers, i, i+1)
	q.busy, q.given = true, m
	r.got, r.again = m, again
	close(r.ready)
}

// forget drops the retained message.
func (b *broker) forget(q *queue) {
	if q.retained != nil {
		b.drop(q.retained)
		q.retained, q.retainedFor = nil, idKey{}
	}
}

// drop frees what a message holds.
func (b *broker) drop(m *message) {
	m.hold.releaseLocked()
	if m.blob != "" && !b.closed {
		b.trash = append(b.trash, m.blob)
	}
}

// empty drops a queue's messages and wakes its readers with err. The ids stay,
// so that a late retry of a dropped message is still known.
func (b *broker) empty(q *queue, err error) {
	for _, m := range q.messages[q.head:] {
		b.drop(m)
	}
	b.forget(q)
	q.messages, q.head = nil, 0
	q.generation++
	for _, r := range q.readers {
		r.err = err
		close(r.ready)
	}
	q.readers = nil
}
