package queue

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

// recoveryGrace is how long a session stays after a restart if its time to live is over by then: its
// containers may be reconnecting.
const recoveryGrace = 10 * time.Minute

// numberedFile is a file or folder of the spool whose name holds a number.
type numberedFile struct {
	number int64
	path   string
}

// listNumbered returns the entries of a folder whose names are prefix, number and suffix, ordered by number.
func listNumbered(dir, prefix, suffix string) ([]numberedFile, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}

	var out []numberedFile
	for _, e := range entries {
		middle, ok := strings.CutPrefix(e.Name(), prefix)
		if ok {
			middle, ok = strings.CutSuffix(middle, suffix)
		}
		if n, err := strconv.ParseInt(middle, 10, 64); ok && err == nil {
			out = append(out, numberedFile{n, filepath.Join(dir, e.Name())})
		}
	}
	slices.SortFunc(out, func(a, b numberedFile) int { return cmp.Compare(a.number, b.number) })
	return out, nil
}

// recoverSpool loads the spool. Torn ends of files are cut off and logged; files that belong to no session
// are removed.
func (b *Broker) recoverSpool() error {
	released, err := b.spool.loadReleased(b.limits.ReleasedSessions)
	if err != nil {
		return err
	}
	for _, id := range released {
		b.released.add(id)
	}

	dirs, err := listNumbered(b.spool.dir, "s", "")
	if err != nil {
		return fmt.Errorf("failed to read the spool: %w", err)
	}
	// The newest folder of a session counts: an older one was being removed.
	slices.Reverse(dirs)
	for _, dir := range dirs {
		b.spool.advanceTo(dir.number)
		if err := b.recoverSession(dir.path); err != nil {
			return fmt.Errorf("failed to read the spool: %w", err)
		}
	}
	return nil
}

// recoverSession loads a session's folder, or removes it if it holds nothing.
func (b *Broker) recoverSession(dir string) error {
	logs, err := listNumbered(dir, "", ".log")
	if err != nil {
		return err
	}
	blobs, err := listNumbered(dir, "", ".blob")
	if err != nil {
		return err
	}

	b.mu.Lock()
	defer b.unlock()
	sizes := make(map[string]int64) // of the blobs that no queue has claimed yet
	for _, f := range blobs {
		b.spool.advanceTo(f.number)
		if info, err := os.Stat(f.path); err == nil {
			sizes[f.path] = info.Size()
		}
	}

	s, err := b.replayLogs(dir, logs, blobs)
	if err != nil {
		return err
	}
	if s == nil {
		b.removals = append(b.removals, dir)
		return nil
	}

	for _, q := range s.queues {
		b.restoreMessages(q, sizes)
	}
	for path := range sizes { // consumed, or never answered
		b.removals = append(b.removals, path)
	}
	for _, q := range s.queues {
		b.removeIfUnused(q)
	}
	if len(s.queues) == 0 {
		b.dropEmpty(s)
	}
	return nil
}

// replayLogs replays all logs of a session's folder. It returns nil if the folder holds no session, one that
// was released, or an older copy.
func (b *Broker) replayLogs(dir string, logs, blobs []numberedFile) (*Session, error) {
	var s *Session
	for _, f := range logs {
		b.spool.advanceTo(f.number)
		records, err := b.readLog(f.path)
		if err != nil {
			return nil, err
		}
		if len(records) == 0 || records[0].kind != kindQueue {
			b.removals = append(b.removals, f.path)
			continue
		}

		id := records[0].session
		if s == nil {
			if b.sessions[id] != nil || b.released.has(id) {
				return nil, nil
			}
			s = b.newSession(id, dir)
			b.restoreIdleTime(s, slices.Concat(logs, blobs))
		}
		if id != s.id {
			return nil, fmt.Errorf("%s belongs to session %s, and other files in its folder to session %s",
				f.path, id, s.id)
		}
		b.replay(s, f.path, records)
	}
	return s, nil
}

// restoreIdleTime counts the idle time of a recovered session from the last write to its files. Otherwise
// restarts would extend its life without end.
func (b *Broker) restoreIdleTime(s *Session, files []numberedFile) {
	var last time.Time
	for _, f := range files {
		if info, err := os.Stat(f.path); err == nil && info.ModTime().After(last) {
			last = info.ModTime()
		}
	}
	if idle := time.Since(last); !last.IsZero() && idle > 0 {
		s.lastUsed = last
		s.idle.Reset(max(b.limits.SessionTTL-idle, min(recoveryGrace, b.limits.SessionTTL)))
	}
}

// storedRecord is a record and its location in a log.
type storedRecord struct {
	record
	offset int64
	length int
}

// readLog reads a log's complete records and cuts off what follows them.
func (b *Broker) readLog(path string) ([]storedRecord, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}

	var out []storedRecord
	offset := 0
	for offset < len(data) {
		r, n, err := nextRecord(data[offset:])
		if errors.Is(err, errTorn) {
			b.log.Warn("cut off the torn end of a spool file", "file", path, "bytes", len(data)-offset)
			if err := os.Truncate(path, int64(offset)); err != nil {
				return nil, err
			}
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}

		if r.kind == kindMessage {
			r.size, r.payload = int64(len(r.payload)), nil
		}
		out = append(out, storedRecord{record: r, offset: int64(offset), length: n})
		offset += n
	}
	return out, nil
}

// replay applies the records of one segment.
func (b *Broker) replay(s *Session, path string, records []storedRecord) {
	from := ""
	if i := slices.IndexFunc(records, func(r storedRecord) bool { return r.from != "" }); i >= 0 {
		from = records[i].from
	}
	q := b.findOrCreateQueue(s, records[0].topic, from)
	seg := &segment{path: path}
	q.segments = append(q.segments, seg)
	for i, r := range records {
		seg.size = r.offset + int64(r.length)
		switch r.kind {
		case kindQueue:
			if i > 0 {
				continue
			}
			q.seen, q.nextSeen = r.seen[:min(len(r.seen), idWindow)], 0
			q.consumed = max(q.consumed, r.seq)
			b.spool.advanceTo(r.seq)
			q.setRedeliverable(r.redeliverable, r.id)
		case kindConsumed:
			q.consumed = max(q.consumed, r.seq)
			q.setRedeliverable(r.seq, r.id)
		case kindReturned:
			q.consumed = r.seq - 1
			q.setRedeliverable(0, idKey{})
		case kindMessage, kindBlob:
			b.spool.advanceTo(r.seq)
			seg.last = r.seq
			q.remember(r.id)
			m := &message{seq: r.seq, size: r.size, from: r.from, segment: seg, offset: r.offset,
				recordBytes: r.length}
			if r.kind == kindBlob {
				m.blob = blobPath(s.dir, r.seq)
			}
			q.messages = append(q.messages, m)
		}
	}
}

// setRedeliverable marks a message as the one that the pop with this id got. Without an id it clears the
// mark.
func (q *topicQueue) setRedeliverable(seq int64, by idKey) {
	q.redeliverable, q.redeliverableTo = nil, idKey{}
	if by == (idKey{}) {
		return
	}
	if i := slices.IndexFunc(q.messages, func(m *message) bool { return m.seq == seq }); i >= 0 {
		q.redeliverable, q.redeliverableTo = q.messages[i], by
	}
}

// restoreMessages drops a replayed queue's consumed messages and charges the others to the session. It
// removes from blobSizes the blobs that are still needed.
func (b *Broker) restoreMessages(q *topicQueue, blobSizes map[string]int64) {
	isComplete := func(m *message) bool {
		if m.blob == "" {
			return true
		}
		if size, ok := blobSizes[m.blob]; ok && size == m.size {
			delete(blobSizes, m.blob)
			return true
		}
		b.log.Error("failed to recover a message: its file is missing or truncated",
			"session_id", q.s.id, "topic", q.topic, "file", m.blob)
		return false
	}
	charge := func(m *message) {
		m.allocation = &Allocation{b: b, budget: &q.s.in, from: m.from, n: m.size + MessageOverhead}
		b.charge(m.allocation.budget, m.from, m.allocation.n)
	}

	if q.redeliverable != nil && !isComplete(q.redeliverable) {
		q.redeliverable, q.redeliverableTo = nil, idKey{}
	}
	if q.redeliverable != nil {
		charge(q.redeliverable)
	}
	q.messages = slices.DeleteFunc(q.messages,
		func(m *message) bool { return m.seq <= q.consumed || !isComplete(m) })
	for _, m := range q.messages {
		charge(m)
	}
}
