package transport

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// broker is the queues of one node. It knows nothing of HTTP. One lock guards it
// all: what happens under it is a few pointer moves.
type broker struct {
	limits Limits
	log    *slog.Logger

	mu       sync.Mutex
	sessions map[string]*session
	released tombstones
	starved  []*account // accounts with waiting claims
	used     int64
	peak     int64
	claims   int
	closed   bool
	counts   counts
}

// counts only grow.
type counts struct {
	pushed, popped, duplicates, returned uint64
}

var errClosed = refuse(CodeNoInstance, "this transport is shutting down; try again")

func errReleased(id string) *Error {
	return refuse(CodeSessionReleased, "session %s was released", id)
}

func newBroker(limits Limits, log *slog.Logger) *broker {
	return &broker{
		limits:   limits,
		log:      log,
		sessions: make(map[string]*session),
		released: tombstones{size: limits.ReleasedSessions},
	}
}

func (b *broker) refusal(s *session) error {
	switch {
	case b.closed:
		return errClosed
	case s.released:
		return errReleased(s.id)
	default:
		return nil
	}
}

// push puts a message whose memory is held into a queue. It takes the hold over,
// unless it returns an error. A repeated id is good and dropped.
func (b *broker) push(s *session, topic, id string, payload []byte, h *hold) (duplicate bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.refusal(s); err != nil {
		return false, err
	}
	q := b.queue(s, topic)
	if q.remember(id) {
		h.releaseLocked()
		b.counts.duplicates++
		return true, nil
	}
	q.pushBack(&message{payload: payload, hold: h})
	b.counts.pushed++
	b.serve(q)
	return false, nil
}

// delivery is a message that left its queue for a reader. Exactly one of done
// and putBack must follow.
type delivery struct {
	b          *broker
	q          *queue
	m          *message
	generation int
}

// pop takes the queue's first message, waiting for one until wait is over
// (CodeTimeout), the session or topic is released (CodeSessionReleased), or ctx
// ends (its error). No message is lost by any of them.
func (b *broker) pop(ctx context.Context, s *session, topic string, wait time.Duration) (*delivery, error) {
	d, err := b.read(ctx, s, topic, &reader{ready: make(chan struct{})}, wait)
	if d == nil && err == nil {
		err = refuse(CodeTimeout, "no message came in %v", wait)
	}
	return d, err
}

// peek takes the queue's first message if there is one; else it returns nil. It
// waits only for an answer that is being written from the same queue.
func (b *broker) peek(ctx context.Context, s *session, topic string) (*delivery, error) {
	return b.read(ctx, s, topic, &reader{peek: true, ready: make(chan struct{})}, 0)
}

// read returns nil when the time was over, or a peek found nothing.
func (b *broker) read(ctx context.Context, s *session, topic string, r *reader, wait time.Duration) (*delivery, error) {
	b.mu.Lock()
	if err := b.refusal(s); err != nil {
		b.mu.Unlock()
		return nil, err
	}
	q := b.queue(s, topic)
	q.readers = append(q.readers, r)
	generation := q.generation
	b.serve(q)
	b.mu.Unlock()

	var timeout <-chan time.Time
	if !r.peek {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		timeout = timer.C
	}
	var left error
	select {
	case <-r.ready:
	case <-timeout:
	case <-ctx.Done():
		left = ctx.Err()
	}

	b.mu.Lock()
	defer b.mu.Unlock()
	if i := slices.Index(q.readers, r); i >= 0 {
		q.readers = slices.Delete(q.readers, i, i+1)
		b.tidy(q)
		return nil, left
	}
	if r.err != nil || r.got == nil {
		return nil, errors.Join(r.err, left)
	}
	d := &delivery{b: b, q: q, m: r.got, generation: generation}
	if left != nil {
		// It was given at the same moment; the reader is gone.
		d.putBackLocked()
		return nil, left
	}
	return d, nil
}

// done tells that the reader has the message.
func (d *delivery) done() {
	d.b.mu.Lock()
	defer d.b.mu.Unlock()
	d.m.hold.releaseLocked()
	d.b.counts.popped++
	d.q.busy = false
	d.b.serve(d.q)
}

// putBack returns the message to the front of its queue.
func (d *delivery) putBack() {
	d.b.mu.Lock()
	defer d.b.mu.Unlock()
	d.putBackLocked()
}

func (d *delivery) putBackLocked() {
	d.q.busy = false
	if d.generation != d.q.generation {
		d.m.hold.releaseLocked()
	} else {
		d.q.pushFront(d.m)
		d.b.counts.returned++
	}
	d.b.serve(d.q)
}

// clearQueues is a container's release: of one topic, or of the whole session
// if topic is "". Unread messages go and readers wake; the session stays usable.
func (b *broker) clearQueues(s *session, topic string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.refusal(s); err != nil {
		return err
	}
	for name, q := range s.queues {
		if topic == "" || topic == name {
			b.empty(q, refuse(CodeSessionReleased, "session %s, topic %q was released", s.id, name))
			b.tidy(q)
		}
	}
	return nil
}

// close ends all sessions and refuses everything from now on.
func (b *broker) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	b.closed = true
	for _, s := range b.sessions {
		b.end(s, errClosed)
	}
}
