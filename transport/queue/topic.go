package queue

import (
	"crypto/sha256"
	"slices"
	"sync"
)

const (
	// idWindow is how many message ids a queue remembers. A sender repeats only its last message of a queue,
	// so several senders fit.
	idWindow = 256
	// TopicOverhead is charged for each queue in addition to its topic's bytes: the struct and its ids.
	TopicOverhead = 512 + idWindow*16
)

// topicQueue holds the messages of one topic of a session, first in, first out. Broker.mu guards its fields,
// except logMu and segments.
type topicQueue struct {
	s        *Session
	topic    string
	from     string     // the partner whose message created it, to whose quota it counts
	messages []*message // messages[head:] are unread
	head     int
	readers  []*reader
	// delivering is the message with which a reader is being answered. No other message is delivered
	// meanwhile: it might be requeued, and order must not change.
	delivering *message
	// redeliverable is the message that was read last, if its pop had an id. If the answer is lost, the same
	// pop comes again and gets it again. Any other read confirms that it arrived.
	redeliverable   *message
	redeliverableTo idKey
	// consumed is the highest sequence number that was read or dropped.
	consumed int64
	// generation counts how often the queue was cleared. It lets a delivery detect that it is stale.
	generation int
	seen       []idKey // a ring of idWindow ids; nextSeen is the oldest
	nextSeen   int
	writers    int // calls that write to the log

	// logMu is held while the log is written. It is locked before Broker.mu, never while that is held.
	logMu    sync.Mutex
	segments []*segment
}

// message locates a message in the spool.
type message struct {
	seq  int64
	size int64
	from string // the partner that sent it, or ""
	// blob is the path of its file. If it is "", the message is a record of recordBytes bytes in segment, at
	// offset.
	blob        string
	segment     *segment
	offset      int64
	recordBytes int
	allocation  *Allocation
}

// reader is a pop or a peek that waits. Broker.mu guards its fields until ready is closed.
type reader struct {
	peek  bool
	id    idKey
	ready chan struct{}
	got   *message // nil for a peek without a message
	// redelivered is set if the same pop has read got before.
	redelivered bool
	err         error
}

// findOrCreateQueue returns the queue of a topic. from is the partner whose message asks for it, or "".
func (b *Broker) findOrCreateQueue(s *Session, topic, from string) *topicQueue {
	q := s.queues[topic]
	if q == nil {
		q = &topicQueue{s: s, topic: topic, from: from}
		s.queues[topic] = q
		n := TopicOverhead + int64(len(topic))
		s.in.overhead += n
		b.used += n
		b.chargePartner(from, n)
	}
	return q
}

func (b *Broker) refundOverhead(q *topicQueue) {
	n := TopicOverhead + int64(len(q.topic))
	q.s.in.overhead -= n
	b.used -= n
	b.chargePartner(q.from, -n)
}

// removeIfUnused removes a queue that holds and remembers nothing, and its log.
func (b *Broker) removeIfUnused(q *topicQueue) {
	if q.inUse() || q.s.queues[q.topic] != q {
		return
	}
	delete(q.s.queues, q.topic)
	b.refundOverhead(q)
	for _, seg := range q.segments { // without logMu: there is no writer
		b.removals = append(b.removals, seg.path)
	}
	b.grantWaiting()
}

func (q *topicQueue) inUse() bool {
	return q.unread() > 0 || len(q.readers) > 0 || q.delivering != nil || q.redeliverable != nil ||
		q.writers > 0 || len(q.seen) > 0
}

func (q *topicQueue) unread() int { return len(q.messages) - q.head }

func (q *topicQueue) pushBack(m *message) { q.messages = append(q.messages, m) }

func (q *topicQueue) pushFront(m *message) {
	if q.head > 0 {
		q.head--
		q.messages[q.head] = m
		return
	}
	q.messages = slices.Insert(q.messages, 0, m)
}

func (q *topicQueue) popFront() *message {
	m := q.messages[q.head]
	q.messages[q.head] = nil
	q.head++
	if q.head*2 >= len(q.messages) {
		// The read half is dropped in one move, so the amortized cost of a pop does not depend on the queue's
		// length.
		n := copy(q.messages, q.messages[q.head:])
		clear(q.messages[n:])
		q.messages, q.head = q.messages[:n], 0
		if cap(q.messages) > 1024 && n < cap(q.messages)/8 {
			q.messages = slices.Clip(slices.Clone(q.messages))
		}
	}
	return m
}

// idKey is the hash of a message's or a pop's id. The zero key means no id.
type idKey [16]byte

func keyOf(id string) (key idKey) {
	if id != "" {
		sum := sha256.Sum256([]byte(id))
		copy(key[:], sum[:])
	}
	return key
}

// hasSeen reports whether a message with this id was pushed before.
func (q *topicQueue) hasSeen(id idKey) bool { return id != idKey{} && slices.Contains(q.seen, id) }

// remember adds a message's id to the window.
func (q *topicQueue) remember(id idKey) {
	switch {
	case id == idKey{}:
	case len(q.seen) < idWindow:
		q.seen = append(q.seen, id)
	default:
		q.seen[q.nextSeen] = id
		q.nextSeen = (q.nextSeen + 1) % idWindow
	}
}

// seenIDs returns the ids in the window, oldest first.
func (q *topicQueue) seenIDs() []idKey {
	return slices.Concat(q.seen[q.nextSeen:], q.seen[:q.nextSeen])
}

// dispatch delivers the first message to the first reader, unless another reader is being answered. A pop
// that comes again gets its message again. If nothing is unread, peeks return without a message.
func (b *Broker) dispatch(q *topicQueue) {
	if q.delivering == nil && q.redeliverable != nil {
		isRepeated := func(r *reader) bool { return r.id == q.redeliverableTo }
		if i := slices.IndexFunc(q.readers, isRepeated); i >= 0 {
			q.deliver(i, q.redeliverable, true)
		}
	}
	if q.delivering == nil && len(q.readers) > 0 && q.unread() > 0 {
		b.dropRedeliverable(q)
		q.deliver(0, q.popFront(), false)
	}

	if q.unread() == 0 {
		q.readers = slices.DeleteFunc(q.readers, func(r *reader) bool {
			if r.peek {
				close(r.ready)
			}
			return r.peek
		})
	}
	b.removeIfUnused(q)
}

// deliver wakes the i-th reader with a message.
func (q *topicQueue) deliver(i int, m *message, redelivered bool) {
	r := q.readers[i]
	q.readers = slices.Delete(q.readers, i, i+1)
	q.delivering = m
	r.got, r.redelivered = m, redelivered
	close(r.ready)
}

func (b *Broker) dropRedeliverable(q *topicQueue) {
	if q.redeliverable != nil {
		b.dropMessage(q.redeliverable)
		q.redeliverable, q.redeliverableTo = nil, idKey{}
	}
}

// dropMessage frees a message's bytes.
func (b *Broker) dropMessage(m *message) {
	m.allocation.releaseLocked()
	if m.blob != "" && !b.closed {
		b.removals = append(b.removals, m.blob)
	}
}

// dropMessages drops a queue's messages and wakes its readers with err. The ids stay, so that a late retry of
// a dropped message is still recognized.
func (b *Broker) dropMessages(q *topicQueue, err error) {
	for _, m := range q.messages[q.head:] {
		b.dropMessage(m)
	}
	b.dropRedeliverable(q)
	q.messages, q.head = nil, 0
	q.generation++

	for _, r := range q.readers {
		r.err = err
		close(r.ready)
	}
	q.readers = nil
}
