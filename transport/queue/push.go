package queue

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strconv"
)

// Push appends a message, whose bytes are allocated, to a topic's queue. When it returns, the message is in
// the spool. A repeated id is reported as a duplicate and dropped. Push takes over the body and the
// allocation, unless it returns an error.
func (s *Session) Push(topic, id string, body *Body, a *Allocation) (duplicate bool, err error) {
	b := s.b
	b.mu.Lock()
	if err := b.refusal(s); err != nil {
		b.mu.Unlock()
		return false, err
	}
	q := b.findOrCreateQueue(s, topic, a.from)
	q.writers++
	b.mu.Unlock()

	q.logMu.Lock()
	duplicate, err = b.appendMessage(q, keyOf(id), body, a)
	q.logMu.Unlock()

	b.mu.Lock()
	defer b.unlock()
	q.writers--
	b.removeIfUnused(q)
	return duplicate, err
}

// appendMessage writes a message to the queue's log and makes it visible to readers. The caller holds logMu,
// so the order is the same in both.
func (b *Broker) appendMessage(q *topicQueue, id idKey, body *Body, a *Allocation,
) (duplicate bool, err error) {
	b.mu.Lock()
	if q.hasSeen(id) {
		a.releaseLocked()
		b.counters.duplicates++
		b.unlock()
		body.Discard()
		return true, nil
	}
	b.mu.Unlock()

	m, err := b.writeMessage(q, id, body, a.from)

	b.mu.Lock()
	defer b.unlock()
	if ended := b.refusal(q.s); ended != nil {
		// The session ended meanwhile, and the write may have created its folder again.
		if !b.closed {
			b.removals = append(b.removals, q.s.dir)
		}
		return false, ended
	}
	if err != nil {
		return false, spoolError(err)
	}

	body.Discard()
	m.allocation = a
	q.remember(id)
	q.pushBack(m)
	b.counters.pushed++
	b.dispatch(q)
	return false, nil
}

// writeMessage writes a message into the spool. from is the partner that sent it, or "".
func (b *Broker) writeMessage(q *topicQueue, id idKey, body *Body, from string) (*message, error) {
	m := &message{seq: b.spool.nextNumber(), size: body.size}
	r := record{kind: kindMessage, seq: m.seq, id: id, from: from, payload: body.mem}
	if body.file != nil || body.size > InlineBytes {
		m.blob = blobPath(q.s.dir, m.seq)
		err := body.saveAs(m.blob)
		if errors.Is(err, fs.ErrNotExist) {
			if err = createDir(q.s.dir); err == nil {
				err = body.saveAs(m.blob)
			}
		}
		if err != nil {
			b.spool.remove([]string{m.blob})
			return nil, err
		}
		r = record{kind: kindBlob, seq: m.seq, id: id, from: from, size: body.size}
	}

	var err error
	if m.segment, m.offset, m.recordBytes, err = b.writeRecord(q, r); err != nil {
		if m.blob != "" {
			b.spool.remove([]string{m.blob})
		}
		return nil, err
	}
	return m, nil
}

func blobPath(sessionDir string, seq int64) string {
	return filepath.Join(sessionDir, strconv.FormatInt(seq, 10)+".blob")
}
