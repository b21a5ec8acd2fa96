package queue

import (
	"context"
	"errors"
	"slices"
	"time"

	"hutong/transport/status"
)

// Pop takes the first message of a topic's queue. It waits until wait is over (status.Timeout), the session
// or the topic is released (status.SessionReleased) or ctx ends (its error). None of these loses a message.
// If a pop repeats the id of the pop before it, it gets the same message again.
func (s *Session) Pop(ctx context.Context, topic, id string, wait time.Duration) (*Delivery, error) {
	d, err := s.read(ctx, topic, &reader{id: keyOf(id), ready: make(chan struct{})}, wait)
	if d == nil && err == nil {
		err = status.Errorf(status.Timeout, "no message arrived within %v", wait)
	}
	return d, err
}

// Peek takes the first message of a topic's queue, or returns nil if there is none. It waits only while
// another reader of the queue is being answered.
func (s *Session) Peek(ctx context.Context, topic, id string) (*Delivery, error) {
	return s.read(ctx, topic, &reader{peek: true, id: keyOf(id), ready: make(chan struct{})}, 0)
}

// read returns nil after a timeout, and for a peek without a message.
func (s *Session) read(ctx context.Context, topic string, r *reader, wait time.Duration) (*Delivery, error) {
	b := s.b
	b.mu.Lock()
	if err := b.refusal(s); err != nil {
		b.mu.Unlock()
		return nil, err
	}
	q := b.findOrCreateQueue(s, topic, "")
	q.addReader(r)
	generation := q.generation
	b.dispatch(q)
	b.unlock()

	canceled := r.wait(ctx, wait)

	b.mu.Lock()
	defer b.unlock()
	if i := slices.Index(q.readers, r); i >= 0 {
		q.readers = slices.Delete(q.readers, i, i+1)
		b.removeIfUnused(q)
		return nil, canceled
	}
	if r.err != nil || r.got == nil {
		return nil, errors.Join(r.err, canceled)
	}

	d := &Delivery{b: b, q: q, m: r.got, generation: generation, id: r.id, redelivered: r.redelivered}
	if canceled != nil {
		// The message was delivered at the same moment, and its reader has left.
		d.requeueLocked()
		return nil, canceled
	}
	return d, nil
}

// addReader appends a reader. It replaces a reader with the same id, whose connection was lost: that one must
// not take the message for which this one waits.
func (q *topicQueue) addReader(r *reader) {
	if r.id != (idKey{}) {
		q.readers = slices.DeleteFunc(q.readers, func(old *reader) bool {
			if old.id == r.id {
				close(old.ready)
			}
			return old.id == r.id
		})
	}
	q.readers = append(q.readers, r)
}

// wait blocks until the reader is ready, ctx ends or, unless it is a peek, the time is over. It returns ctx's
// error.
func (r *reader) wait(ctx context.Context, d time.Duration) error {
	var timeout <-chan time.Time
	if !r.peek {
		timer := time.NewTimer(d)
		defer timer.Stop()
		timeout = timer.C
	}

	select {
	case <-r.ready:
	case <-timeout:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}
