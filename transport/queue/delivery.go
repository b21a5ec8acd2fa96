package queue

import (
	"bytes"
	"fmt"
	"io"
	"os"

	"hutong/transport/status"
)

// Delivery is a message that left its queue for a reader. The caller must call either Ack or Requeue, once.
// Prepare comes before the answer.
type Delivery struct {
	b           *Broker
	q           *topicQueue
	m           *message
	generation  int
	id          idKey
	redelivered bool
	prepared    bool
}

// Size returns the message's size in bytes.
func (d *Delivery) Size() int64 { return d.m.size }

// Open opens the message for reading. If its queue was cleared meanwhile, it returns the refusal for readers.
func (d *Delivery) Open() (io.ReadCloser, error) {
	var r io.ReadCloser
	var err error
	if d.m.blob != "" {
		r, err = os.Open(d.m.blob)
	} else {
		var payload []byte
		payload, err = readPayload(d.m)
		r = io.NopCloser(bytes.NewReader(payload))
	}
	if err == nil {
		return r, nil
	}

	d.b.mu.Lock()
	defer d.b.mu.Unlock()
	if ended := d.b.refusal(d.q.s); ended != nil {
		return nil, ended
	}
	if d.generation != d.q.generation {
		return nil, errTopicReleased(d.q)
	}
	return nil, fmt.Errorf("failed to read a message of session %s, topic %q from the spool: %w",
		d.q.s.id, d.q.topic, err)
}

func errTopicReleased(q *topicQueue) error {
	return status.Errorf(status.SessionReleased, "session %s, topic %q was released", q.s.id, q.topic)
}

// Prepare records, before a pop with an id is answered, that this pop gets the message. The reader may
// receive its answer and the process be killed before Ack: then the same pop must get the message again, and
// the reader's next pop must not.
func (d *Delivery) Prepare() error {
	if d.redelivered || d.id == (idKey{}) {
		return nil
	}

	b, q := d.b, d.q
	q.logMu.Lock()
	defer q.logMu.Unlock()
	b.mu.Lock()
	stale := d.generation != q.generation
	b.mu.Unlock()
	if stale {
		return nil
	}

	if _, _, _, err := b.writeRecord(q, record{kind: kindConsumed, seq: d.m.seq, id: d.id}); err != nil {
		return spoolError(err)
	}
	d.prepared = true

	b.mu.Lock()
	defer b.mu.Unlock()
	if d.generation == q.generation {
		q.consumed = d.m.seq
		q.redeliverable, q.redeliverableTo = d.m, d.id
	}
	return nil
}

// Ack confirms that the reader got the message.
func (d *Delivery) Ack() {
	b, q := d.b, d.q
	q.logMu.Lock()
	defer q.logMu.Unlock()
	b.mu.Lock()
	stale := (d.generation != q.generation || q.s.released) && !b.closed
	b.mu.Unlock()

	if !d.redelivered && !d.prepared && !stale {
		b.recordConsumed(q, d.m.seq, d.id)
	}
	d.finish()
	b.compact(q)
}

// finish frees a delivered message, unless it is kept for redelivery, and wakes the next reader.
func (d *Delivery) finish() {
	b, q := d.b, d.q
	b.mu.Lock()
	defer b.unlock()

	q.delivering = nil
	if !d.redelivered {
		b.counters.popped++
		q.consumed = max(q.consumed, d.m.seq)
		if !d.prepared || d.generation != q.generation {
			b.dropMessage(d.m)
		}
	}
	b.dispatch(q)
}

// Requeue returns the message to the front of its queue, since the answer could not be written.
func (d *Delivery) Requeue() {
	b, q := d.b, d.q
	q.logMu.Lock()
	defer q.logMu.Unlock()
	b.mu.Lock()
	kept := d.generation == q.generation || b.closed
	b.mu.Unlock()

	if d.prepared && kept {
		if _, _, _, err := b.writeRecord(q, record{kind: kindReturned, seq: d.m.seq}); err != nil {
			b.log.Error("failed to record a message as unread", "session_id", q.s.id, "topic", q.topic,
				"error", err)
		}
	}

	b.mu.Lock()
	defer b.unlock()
	if d.prepared && d.generation == q.generation {
		q.redeliverable, q.redeliverableTo = nil, idKey{}
		q.consumed = d.m.seq - 1
	}
	d.requeueLocked()
}

func (d *Delivery) requeueLocked() {
	d.q.delivering = nil
	switch {
	case d.redelivered:
	case d.generation == d.q.generation:
		d.q.pushFront(d.m)
		d.b.counters.requeued++
	default:
		d.b.dropMessage(d.m)
	}
	d.b.dispatch(d.q)
}
