package transport

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
	// segmentBytes is when a log goes on in another file, drainedBytes when one
	// does of which all messages were read: old files then go.
	segmentBytes = 1 << 20
	drainedBytes = 256 << 10
)

// segment is one file of a queue's log. Its size is guarded by the queue's io lock.
type segment struct {
	path string
	size int64
	last int64 // the highest message in it
}

// write appends a record to the queue's log, which goes on in another file when
// this one is large. The caller holds the queue's io lock, and not the broker's.
func (b *broker) write(q *queue, r record) (*segment, int64, int, error) {
	encoded := r.appendTo(nil)
	n := int64(len(encoded))
	if len(q.segments) == 0 || q.segments[len(q.segments)-1].size+n > segmentBytes {
		if err := b.roll(q); err != nil {
			return nil, 0, 0, err
		}
	}
	seg := q.segments[len(q.segments)-1]
	off := seg.size
	if err := writeAt(seg.path, os.O_WRONLY, encoded, off); err != nil {
		return nil, 0, 0, err
	}
	seg.size += n
	if r.kind == recordMessage || r.kind == recordBlob {
		seg.last = r.seq
	}
	return seg, off, len(encoded), nil
}

// writeAt writes whole or leaves the file as it was.
func writeAt(path string, flags int, b []byte, off int64) error {
	f, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, off)
	if err != nil {
		_ = f.Truncate(off)
	}
	return errors.Join(err, f.Close())
}

// roll begins another file of the queue's log with what is known of the queue,
// and drops files that aren't needed any more.
func (b *broker) roll(q *queue) error {
	b.mu.Lock()
	head := record{kind: recordQueue, session: q.s.id, topic: q.topic, seq: q.consumed}
	head.seen = append(append(head.seen, q.seen[q.nextSeen:]...), q.seen[:q.nextSeen]...)
	if q.retained != nil {
		head.retained, head.id = q.retained.seq, q.retainedFor
	}
	b.mu.Unlock()
	seg := &segment{path: filepath.Join(q.s.dir, strconv.FormatInt(b.spool.number(), 10)+".log")}
	encoded := head.appendTo(nil)
	err := writeAt(seg.path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, encoded, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if err = makeDir(q.s.dir); err == nil {
			err = writeAt(seg.path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, encoded, 0)
		}
	}
	if err != nil {
		_ = os.Remove(seg.path)
		return err
	}
	seg.size = int64(len(encoded))
	q.segments = append(q.segments, seg)
	b.prune(q)
	return nil
}

func makeDir(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// prune drops the log's files of which no message is needed. The caller holds
// the queue's io lock.
func (b *broker) prune(q *queue) {
	if len(q.segments) < 2 {
		return
	}
	b.mu.Lock()
	needed := q.needed()
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

// needed is the number of the first message that may still be read.
func (q *queue) needed() int64 {
	first := int64(math.MaxInt64)
	if q.unread() > 0 {
		first = q.messages[q.head].seq
	}
	for _, m := range []*message{q.given, q.retained} {
		if m != nil {
			first = min(first, m.seq)
		}
	}
	return first
}

// consume writes down that a queue's messages up to seq are read or dropped, the
// last one by the pop with this id. A log of which all is read begins anew when it is large.
// The caller holds the queue's io lock.
func (b *broker) consume(q *queue, seq int64, by idKey) {
	if _, _, _, err := b.write(q, record{kind: recordConsumed, seq: seq, id: by}); err != nil && !errors.Is(err, fs.ErrNotExist) {
		// It has been read. Only if this process dies now will it be read again.
		b.log.Error("what was read could not be written down", "session_id", q.s.id, "topic", q.topic, "error", err)
	}
}

// compact frees what a drained queue's log takes. The caller holds the queue's io lock.
func (b *broker) compact(q *queue) {
	if len(q.segments) == 0 {
		return
	}
	b.mu.Lock()
	drained := q.unread() == 0
	gone := q.s.released
	b.mu.Unlock()
	if gone {
		return
	}
	if drained && q.segments[len(q.segments)-1].size > drainedBytes {
		if err := b.roll(q); err != nil {
			b.log.Warn("a queue's log could not begin anew", "session_id", q.s.id, "topic", q.topic, "error", err)
		}
		return
	}
	b.prune(q)
}

// readRecord reads a message's record back and gives its payload.
func readRecord(m *message) ([]byte, error) {
	f, err := os.Open(m.seg.path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, m.record)
	if _, err := f.ReadAt(b, m.off); err != nil {
		return nil, err
	}
	r, _, err := nextRecord(b)
	if err != nil {
		return nil, err
	}
	if r.kind != recordMessage || r.seq != m.seq {
		return nil, fmt.Errorf("message %d is not where it was written", m.seq)
	}
	return r.payload, nil
}
