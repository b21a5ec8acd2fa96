package queue

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
)

const (
	// segmentBytes is the size at which a log continues in a new segment.
	segmentBytes = 1 << 20
	// drainedBytes is that size for a log without unread messages: the older segments can then be removed.
	drainedBytes = 256 << 10
)

// segment is one file of a queue's log. The queue's logMu guards its size and last.
type segment struct {
	path string
	size int64
	last int64 // the highest sequence number of its messages
}

// writeRecord appends a record to the queue's log, in a new segment if the current one is large. The caller
// holds the queue's logMu, and not Broker.mu.
func (b *Broker) writeRecord(q *topicQueue, r record) (seg *segment, offset int64, length int, err error) {
	encoded := r.appendTo(nil)
	n := int64(len(encoded))
	if len(q.segments) == 0 || q.segments[len(q.segments)-1].size+n > segmentBytes {
		if err := b.startSegment(q); err != nil {
			return nil, 0, 0, err
		}
	}

	seg = q.segments[len(q.segments)-1]
	offset = seg.size
	if err := writeAt(seg.path, os.O_WRONLY, encoded, offset); err != nil {
		return nil, 0, 0, err
	}
	seg.size += n
	if r.kind == kindMessage || r.kind == kindBlob {
		seg.last = r.seq
	}
	return seg, offset, len(encoded), nil
}

// writeAt writes all of b, or truncates the file to where it was.
func writeAt(path string, flags int, b []byte, offset int64) error {
	f, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, offset)
	if err != nil {
		_ = f.Truncate(offset)
	}
	return errors.Join(err, f.Close())
}

// startSegment starts a new segment of the queue's log with a checkpoint of the queue's state, and removes
// the segments that are not needed.
func (b *Broker) startSegment(q *topicQueue) error {
	b.mu.Lock()
	head := record{kind: kindQueue, session: q.s.id, topic: q.topic, seq: q.consumed, seen: q.seenIDs()}
	if q.redeliverable != nil {
		head.redeliverable, head.id = q.redeliverable.seq, q.redeliverableTo
	}
	b.mu.Unlock()

	seg := &segment{path: filepath.Join(q.s.dir, strconv.FormatInt(b.spool.nextNumber(), 10)+".log")}
	encoded := head.appendTo(nil)
	err := writeAt(seg.path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, encoded, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if err = createDir(q.s.dir); err == nil {
			err = writeAt(seg.path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, encoded, 0)
		}
	}
	if err != nil {
		_ = os.Remove(seg.path)
		return err
	}

	seg.size = int64(len(encoded))
	q.segments = append(q.segments, seg)
	b.removeOldSegments(q)
	return nil
}

func createDir(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// removeOldSegments removes the log's segments whose messages are all consumed. The caller holds the queue's
// logMu.
func (b *Broker) removeOldSegments(q *topicQueue) {
	if len(q.segments) < 2 {
		return
	}
	b.mu.Lock()
	needed := q.oldestNeeded()
	b.mu.Unlock()

	var old []string
	current := q.segments[len(q.segments)-1]
	q.segments = slices.DeleteFunc(q.segments, func(s *segment) bool {
		drop := s != current && s.last < needed
		if drop {
			old = append(old, s.path)
		}
		return drop
	})
	b.spool.remove(old)
}

// oldestNeeded returns the sequence number of the first message that may still be read.
func (q *topicQueue) oldestNeeded() int64 {
	first := int64(math.MaxInt64)
	if q.unread() > 0 {
		first = q.messages[q.head].seq
	}
	for _, m := range []*message{q.delivering, q.redeliverable} {
		if m != nil {
			first = min(first, m.seq)
		}
	}
	return first
}

// recordConsumed records that a queue's messages up to seq were read or dropped, the last one by the pop with
// this id. The caller holds the queue's logMu.
func (b *Broker) recordConsumed(q *topicQueue, seq int64, by idKey) {
	_, _, _, err := b.writeRecord(q, record{kind: kindConsumed, seq: seq, id: by})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		// The message was read. It is read again only if this process is killed before the next record.
		b.log.Error("failed to record a message as read", "session_id", q.s.id, "topic", q.topic,
			"error", err)
	}
}

// compact removes the parts of a queue's log that are not needed. The caller holds the queue's logMu.
func (b *Broker) compact(q *topicQueue) {
	if len(q.segments) == 0 {
		return
	}
	b.mu.Lock()
	drained := q.unread() == 0
	released := q.s.released
	b.mu.Unlock()
	if released {
		return
	}

	if drained && q.segments[len(q.segments)-1].size > drainedBytes {
		if err := b.startSegment(q); err != nil {
			b.log.Warn("failed to compact a queue's log", "session_id", q.s.id, "topic", q.topic,
				"error", err)
		}
		return
	}
	b.removeOldSegments(q)
}

// readPayload reads the payload of a message that is a record of a log.
func readPayload(m *message) ([]byte, error) {
	f, err := os.Open(m.segment.path)
	if err != nil {
		return nil, err
	}
	defer f.Close()

	b := make([]byte, m.recordBytes)
	if _, err := f.ReadAt(b, m.offset); err != nil {
		return nil, err
	}
	r, _, err := nextRecord(b)
	if err != nil {
		return nil, err
	}
	if r.kind != kindMessage || r.seq != m.seq {
		return nil, fmt.Errorf("%s has another record at offset %d than message %d",
			m.segment.path, m.offset, m.seq)
	}
	return r.payload, nil
}
