package transport

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// found is a file of the spool whose name has a number.
type found struct {
	number int64
	path   string
}

// numbered lists what a folder holds under names of the form prefix, number,
// suffix, in the order of the numbers.
func numbered(dir, prefix, suffix string) ([]found, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var out []found
	for _, e := range entries {
		middle, ok := strings.CutPrefix(e.Name(), prefix)
		if ok {
			middle, ok = strings.CutSuffix(middle, suffix)
		}
		if n, err := strconv.ParseInt(middle, 10, 64); ok && err == nil {
			out = append(out, found{n, filepath.Join(dir, e.Name())})
		}
	}
	slices.SortFunc(out, func(a, b found) int { return cmp.Compare(a.number, b.number) })
	return out, nil
}

// recover reads the spool. What is torn is cut off and told; what belongs to
// nothing is removed.
func (b *broker) recover() error {
	released, err := b.spool.loadReleased(b.limits.ReleasedSessions)
	if err != nil {
		return err
	}
	for _, id := range released {
		b.released.add(id)
	}
	dirs, err := numbered(b.spool.dir, "s", "")
	if err != nil {
		return fmt.Errorf("read the spool: %w", err)
	}
	// The newest folder of a session counts: an older one was being removed.
	slices.Reverse(dirs)
	for _, dir := range dirs {
		b.spool.used(dir.number)
		if err := b.recoverSession(dir.path); err != nil {
			return fmt.Errorf("read the spool: %w", err)
		}
	}
	return nil
}

// recoverSession reads a session's folder.
func (b *broker) recoverSession(dir string) error {
	logs, err := numbered(dir, "", ".log")
	if err != nil {
		return err
	}
	blobs, err := numbered(dir, "", ".blob")
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.unlock()
	left := make(map[string]int64) // blobs, their sizes
	for _, f := range blobs {
		b.spool.used(f.number)
		if info, err := os.Stat(f.path); err == nil {
			left[f.path] = info.Size()
		}
	}
	var s *session
	for _, f := range logs {
		b.spool.used(f.number)
		records, err := b.readLog(f.path)
		if err != nil {
			return err
		}
		if len(records) == 0 || records[0].kind != recordQueue {
			b.trash = append(b.trash, f.path)
			continue
		}
		id := records[0].session
		if s == nil {
			if b.sessions[id] != nil || b.released.has(id) {
				break
			}
			s = b.open(id, dir)
			b.agesSince(s, append(logs, blobs...))
		}
		if id != s.id {
			return fmt.Errorf("%s is of another session than the files beside it", f.path)
		}
		b.replay(s, f.path, records, left)
	}
	if s == nil {
		b.trash = append(b.trash, dir)
		return nil
	}
	for _, q := range s.queues {
		b.settle(q, left)
	}
	for path := range left { // read long ago, or never answered for
		b.trash = append(b.trash, path)
	}
	for _, q := range s.queues {
		b.tidy(q)
	}
	if len(s.queues) == 0 {
		delete(b.sessions, s.id)
		s.idle.Stop()
		s.cancel(nil)
		b.trash = append(b.trash, dir)
	}
	return nil
}

// recoveryGrace is what a session gets after a restart whose time to live is over by then: its containers may just be coming
// back.
const recoveryGrace = 10 * time.Minute

// agesSince counts the silence of a session that was found from when something last happened to its files: restarts would
// make it live for ever otherwise.
func (b *broker) agesSince(s *session, files []found) {
	var last time.Time
	for _, f := range files {
		if info, err := os.Stat(f.path); err == nil && info.ModTime().After(last) {
			last = info.ModTime()
		}
	}
	if silence := time.Since(last); !last.IsZero() && silence > 0 {
		s.lastUsed = last
		s.idle.Reset(max(b.limits.SessionTTL-silence, min(recoveryGrace, b.limits.SessionTTL)))
	}
}

// placed is a record and where it lies.
type placed struct {
	record
	off    int64
	length int
}

// readLog reads a log's whole records and cuts off what follows them.
func (b *broker) readLog(path string) ([]placed, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var out []placed
	off := 0
	for off < len(data) {
		r, n, err := nextRecord(data[off:])
		if errors.Is(err, errTorn) {
			b.log.Warn("the end of a spool file was torn and is cut off", "file", path, "bytes", len(data)-off)
			if err := os.Truncate(path, int64(off)); err != nil {
				return nil, err
			}
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if r.kind == recordMessage {
			r.size, r.payload = int64(len(r.payload)), nil
		}
		out = append(out, placed{record: r, off: int64(off), length: n})
		off += n
	}
	return out, nil
}

// replay does again what a log tells.
func (b *broker) replay(s *session, path string, records []placed, blobs map[string]int64) {
	q := b.queue(s, records[0].topic)
	seg := &segment{path: path}
	q.segments = append(q.segments, seg)
	for i, r := range records {
		seg.size = r.off + int64(r.length)
		switch r.kind {
		case recordQueue:
			if i > 0 {
				continue
			}
			q.seen, q.nextSeen = r.seen[:min(len(r.seen), idWindow)], 0
			q.consumed = max(q.consumed, r.seq)
			b.spool.used(r.seq)
			q.retain(r.retained, r.id)
		case recordConsumed:
			q.consumed = max(q.consumed, r.seq)
			q.retain(r.seq, r.id)
		case recordReturned:
			q.consumed = r.seq - 1
			q.retain(0, idKey{})
		case recordMessage, recordBlob:
			b.spool.used(r.seq)
			seg.last = r.seq
			q.remember(r.id)
			m := &message{seq: r.seq, size: r.size, seg: seg, off: r.off, record: r.length}
			if r.kind == recordBlob {
				m.blob = filepath.Join(s.dir, strconv.FormatInt(r.seq, 10)+".blob")
			}
			q.messages = append(q.messages, m)
		}
	}
}

// retain finds the message that a pop with this id got.
func (q *queue) retain(seq int64, by idKey) {
	q.retained, q.retainedFor = nil, idKey{}
	if by == (idKey{}) {
		return
	}
	if i := slices.IndexFunc(q.messages, func(m *message) bool { return m.seq == seq }); i >= 0 {
		q.retained, q.retainedFor = q.messages[i], by
	}
}

// settle drops what was read and charges what was not.
func (b *broker) settle(q *queue, blobs map[string]int64) {
	whole := func(m *message) bool {
		if m.blob == "" {
			return true
		}
		size, there := blobs[m.blob]
		if there && size == m.size {
			delete(blobs, m.blob)
			return true
		}
		b.log.Error("a message is lost: its file is gone or cut short", "session_id", q.s.id, "topic", q.topic, "file", m.blob)
		return false
	}
	charge := func(m *message) {
		m.hold = &hold{b: b, a: &q.s.in, n: m.size + messageOverhead}
		b.charge(m.hold.a, m.hold.n)
	}
	if q.retained != nil && !whole(q.retained) {
		q.retained, q.retainedFor = nil, idKey{}
	}
	if q.retained != nil {
		charge(q.retained)
	}
	q.messages = slices.DeleteFunc(q.messages, func(m *message) bool { return m.seq <= q.consumed || !whole(m) })
	for _, m := range q.messages {
		charge(m)
	}
}
