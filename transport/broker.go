package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"
)

// broker is the queues of one node. It knows nothing of HTTP. One lock guards it
// all: what happens under it is a few pointer moves. Files are touched without it.
type broker struct {
	limits Limits
	log    *slog.Logger
	spool  *spool

	mu       sync.Mutex
	sessions map[string]*session
	released tombstones
	starved  []*account // accounts with waiting claims
	used     int64
	peak     int64
	claims   int
	closed   bool
	counts   counts
	// trash and buried are files to remove, and released sessions to write down,
	// once the lock is free; see unlock.
	trash, buried []string
}

// counts only grow.
type counts struct {
	pushed, popped, duplicates, returned uint64
}

var errClosed = refuse(CodeNoInstance, "this transport is shutting down; try again")

func errReleased(id string) *Error {
	return refuse(CodeSessionReleased, "session %s was released", id)
}

// newBroker has what the last process left in the spool.
func newBroker(sp *spool, limits Limits, log *slog.Logger) (*broker, error) {
	b := &broker{
		limits:   limits,
		log:      log,
		spool:    sp,
		sessions: make(map[string]*session),
		released: tombstones{size: limits.ReleasedSessions},
	}
	if err := b.recover(); err != nil {
		return nil, err
	}
	return b, nil
}

// unlock frees the lock and does what waited for that.
func (b *broker) unlock() {
	trash, buried := b.trash, b.buried
	b.trash, b.buried = nil, nil
	b.mu.Unlock()
	b.spool.noteReleased(buried)
	b.spool.remove(trash)
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

// push puts a message whose bytes are reserved into a queue. It takes content and
// hold over, unless it returns an error. A repeated id is good and dropped. When push
// returns, the message is in the spool.
func (b *broker) push(s *session, topic, id string, c *content, h *hold) (duplicate bool, err error) {
	b.mu.Lock()
	if err := b.refusal(s); err != nil {
		b.mu.Unlock()
		return false, err
	}
	q := b.queue(s, topic)
	q.users++
	b.mu.Unlock()

	q.io.Lock()
	duplicate, err = b.keep(q, keyOf(id), c, h)
	q.io.Unlock()

	b.mu.Lock()
	defer b.unlock()
	q.users--
	b.tidy(q)
	return duplicate, err
}

// keep writes a message to the queue's log and shows it to readers. The caller
// holds the queue's io lock, so that the order is the same in both.
func (b *broker) keep(q *queue, id idKey, c *content, h *hold) (duplicate bool, err error) {
	b.mu.Lock()
	if q.knows(id) {
		h.releaseLocked()
		b.counts.duplicates++
		b.unlock()
		c.discard()
		return true, nil
	}
	b.mu.Unlock()
	m, err := b.store(q, id, c)
	b.mu.Lock()
	defer b.unlock()
	if gone := b.refusal(q.s); gone != nil {
		// The session ended meanwhile: its folder may have come back.
		if !b.closed {
			b.trash = append(b.trash, q.s.dir)
		}
		return false, gone
	}
	if err != nil {
		return false, spoolError(err)
	}
	m.hold = h
	q.remember(id)
	q.pushBack(m)
	b.counts.pushed++
	b.serve(q)
	return false, nil
}

// store writes a message into the spool.
func (b *broker) store(q *queue, id idKey, c *content) (*message, error) {
	m := &message{seq: b.spool.number(), size: c.size}
	r := record{kind: recordMessage, seq: m.seq, id: id, payload: c.mem}
	if c.file != nil {
		m.blob = filepath.Join(q.s.dir, strconv.FormatInt(m.seq, 10)+".blob")
		err := c.moveTo(m.blob)
		if errors.Is(err, fs.ErrNotExist) {
			if err = makeDir(q.s.dir); err == nil {
				err = c.moveTo(m.blob)
			}
		}
		if err != nil {
			return nil, err
		}
		r = record{kind: recordBlob, seq: m.seq, id: id, size: c.size}
	}
	var err error
	if m.seg, m.off, m.record, err = b.write(q, r); err != nil {
		if m.blob != "" {
			b.spool.remove([]string{m.blob})
		}
		return nil, err
	}
	return m, nil
}

// delivery is a message that left its queue for a reader. Exactly one of done
// and putBack must follow.
type delivery struct {
	b          *broker
	q          *queue
	m          *message
	generation int
	id         idKey
	again      bool
	// promised is set when it is written down that the pop with this id gets the message.
	promised bool
}

// open reads the message. A queue that was emptied meanwhile is the refusal of readers.
func (d *delivery) open() (io.ReadCloser, error) {
	var r io.ReadCloser
	var err error
	if d.m.blob != "" {
		r, err = os.Open(d.m.blob)
	} else {
		var payload []byte
		payload, err = readRecord(d.m)
		r = io.NopCloser(bytes.NewReader(payload))
	}
	if err == nil {
		return r, nil
	}
	d.b.mu.Lock()
	defer d.b.mu.Unlock()
	if gone := d.b.refusal(d.q.s); gone != nil {
		return nil, gone
	}
	if d.generation != d.q.generation {
		return nil, topicReleased(d.q)
	}
	return nil, fmt.Errorf("read a message of session %s, topic %q from the spool: %w", d.q.s.id, d.q.topic, err)
}

func topicReleased(q *queue) error {
	return refuse(CodeSessionReleased, "session %s, topic %q was released", q.s.id, q.topic)
}

// pop takes the queue's first message, waiting for one until wait is over
// (CodeTimeout), the session or topic is released (CodeSessionReleased), or ctx
// ends (its error). No message is lost by any of them. A pop with the id of the
// last one gets the same message again.
func (b *broker) pop(ctx context.Context, s *session, topic, id string, wait time.Duration) (*delivery, error) {
	d, err := b.read(ctx, s, topic, &reader{id: keyOf(id), ready: make(chan struct{})}, wait)
	if d == nil && err == nil {
		err = refuse(CodeTimeout, "no message came in %v", wait)
	}
	return d, err
}

// peek takes the queue's first message if there is one; else it returns nil. It
// waits only for an answer that is being written from the same queue.
func (b *broker) peek(ctx context.Context, s *session, topic, id string) (*delivery, error) {
	return b.read(ctx, s, topic, &reader{peek: true, id: keyOf(id), ready: make(chan struct{})}, 0)
}

// read returns nil when the time was over, or a peek found nothing.
func (b *broker) read(ctx context.Context, s *session, topic string, r *reader, wait time.Duration) (*delivery, error) {
	b.mu.Lock()
	if err := b.refusal(s); err != nil {
		b.mu.Unlock()
		return nil, err
	}
	q := b.queue(s, topic)
	if r.id != (idKey{}) {
		// The same pop from a connection that is lost must not take what this one waits for.
		q.readers = slices.DeleteFunc(q.readers, func(old *reader) bool {
			if old.id == r.id {
				close(old.ready)
			}
			return old.id == r.id
		})
	}
	q.readers = append(q.readers, r)
	generation := q.generation
	b.serve(q)
	b.unlock()

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
	defer b.unlock()
	if i := slices.Index(q.readers, r); i >= 0 {
		q.readers = slices.Delete(q.readers, i, i+1)
		b.tidy(q)
		return nil, left
	}
	if r.err != nil || r.got == nil {
		return nil, errors.Join(r.err, left)
	}
	d := &delivery{b: b, q: q, m: r.got, generation: generation, id: r.id, again: r.again}
	if left != nil {
		// It was given at the same moment; the reader is gone.
		d.putBackLocked()
		return nil, left
	}
	return d, nil
}

// promise writes down, before a pop with an id is answered, that it gets the
// message: the reader may have its answer and this process be killed before it
// knows. Its next pop must then not get the same message, while the same pop must.
func (d *delivery) promise() error {
	if d.again || d.id == (idKey{}) {
		return nil
	}
	b, q := d.b, d.q
	q.io.Lock()
	defer q.io.Unlock()
	b.mu.Lock()
	stale := d.generation != q.generation
	b.mu.Unlock()
	if stale {
		return nil
	}
	if _, _, _, err := b.write(q, record{kind: recordConsumed, seq: d.m.seq, id: d.id}); err != nil {
		return spoolError(err)
	}
	d.promised = true
	b.mu.Lock()
	defer b.mu.Unlock()
	if d.generation == q.generation {
		q.consumed = d.m.seq
		q.retained, q.retainedFor = d.m, d.id
	}
	return nil
}

// done tells that the reader has the message.
func (d *delivery) done() {
	b, q := d.b, d.q
	q.io.Lock()
	defer q.io.Unlock()
	b.mu.Lock()
	stale := (d.generation != q.generation || q.s.released) && !b.closed
	b.mu.Unlock()
	if !d.again && !d.promised && !stale {
		b.consume(q, d.m.seq, d.id)
	}
	d.finish()
	b.compact(q)
}

// finish is done, once it was written down.
func (d *delivery) finish() {
	b, q := d.b, d.q
	b.mu.Lock()
	defer b.unlock()
	q.busy, q.given = false, nil
	if !d.again {
		b.counts.popped++
		q.consumed = max(q.consumed, d.m.seq)
		if !d.promised || d.generation != q.generation {
			b.drop(d.m)
		}
	}
	b.serve(q)
}

// putBack returns the message to the front of its queue.
func (d *delivery) putBack() {
	b, q := d.b, d.q
	q.io.Lock()
	defer q.io.Unlock()
	b.mu.Lock()
	kept := d.generation == q.generation || b.closed
	b.mu.Unlock()
	if d.promised && kept {
		if _, _, _, err := b.write(q, record{kind: recordReturned, seq: d.m.seq}); err != nil {
			b.log.Error("that a message is unread again could not be written down", "session_id", q.s.id, "topic", q.topic, "error", err)
		}
	}
	b.mu.Lock()
	defer b.unlock()
	if d.promised && d.generation == q.generation {
		q.retained, q.retainedFor = nil, idKey{}
		q.consumed = d.m.seq - 1
	}
	d.putBackLocked()
}

func (d *delivery) putBackLocked() {
	d.q.busy, d.q.given = false, nil
	switch {
	case d.again:
	case d.generation == d.q.generation:
		d.q.pushFront(d.m)
		d.b.counts.returned++
	default:
		d.b.drop(d.m)
	}
	d.b.serve(d.q)
}

// clearQueues is a container's release: of one topic, or of the whole session
// if topic is "". Unread messages go and readers wake; the session stays usable.
func (b *broker) clearQueues(s *session, topic string) error {
	b.mu.Lock()
	if err := b.refusal(s); err != nil {
		b.mu.Unlock()
		return err
	}
	var queues []*queue
	for name, q := range s.queues {
		if topic == "" || topic == name {
			q.users++
			queues = append(queues, q)
		}
	}
	b.mu.Unlock()
	for _, q := range queues {
		b.clearQueue(q)
	}
	return nil
}

func (b *broker) clearQueue(q *queue) {
	q.io.Lock()
	defer q.io.Unlock()
	b.mu.Lock()
	last := q.consumed
	if q.unread() > 0 {
		last = q.messages[len(q.messages)-1].seq
	} else if q.given != nil {
		last = max(last, q.given.seq)
	}
	something := (last > q.consumed || q.retained != nil) && !q.s.released
	b.mu.Unlock()
	if something {
		b.consume(q, last, idKey{})
	}
	b.mu.Lock()
	q.consumed = last
	b.empty(q, topicReleased(q))
	b.unlock()
	b.compact(q)
	b.mu.Lock()
	q.users--
	b.tidy(q)
	b.unlock()
}

// close ends all sessions and refuses everything from now on. What is unread stays in the spool.
func (b *broker) close() {
	b.mu.Lock()
	defer b.unlock()
	if b.closed {
		return
	}
	b.closed = true
	for _, s := range b.sessions {
		b.end(s, errClosed)
	}
}
