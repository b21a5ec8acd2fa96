package runner

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"hutong/activities"
	"hutong/activities/driver"
	"hutong/store/blob"
)

// A container's log is stored in the party's storage as chunks, _log/<container>/<watcher>/<number>, which
// are written as lines arrive. So any process of the party can read it, while the container runs and after
// its removal. A watcher that takes over starts again with the first line, in a folder of its own, so that
// two watchers don't disturb each other. Readers choose the folder that holds most.
const (
	// logFlushEvery bounds how long a line waits. A client that follows a log sees it within a second.
	logFlushEvery = 250 * time.Millisecond
	// unfinishedEvery is how often a line that is not ended yet, such as a progress bar, is stored.
	unfinishedEvery = time.Second
	logChunkBytes   = 256 << 10
	// maxPendingChunkBytes bounds a chunk while the storage fails. A larger one is dropped.
	maxPendingChunkBytes = 16 << 20
	// logHeadBytes and logTailBytes bound the stored log: its head is stored as it arrives, its tail at the
	// end. A line between them says how much was skipped.
	logHeadBytes = 56 << 20
	logTailBytes = 8 << 20
)

// chunkWriter cuts a stream into chunks at line ends. It stores the current chunk repeatedly as it grows.
type chunkWriter struct {
	ctx    context.Context
	blobs  blob.Store
	prefix string

	mu      sync.Mutex
	number  int
	chunk   bytes.Buffer
	written int // bytes of chunk that are stored
	tryAt   int // the size at which a full chunk is tried again after the storage failed
	lost    bool
	err     error // why some bytes are not stored

	head       int // bytes in the chunks before the current one
	tail       logTail
	notedLines int // skipped lines that the stored note counts

	unfinished       string // the line that is not ended yet, with its time; "": none
	storedUnfinished string
	unfinishedAt     time.Time // when it was stored
}

// logTail holds the end of a log that is too long, in pieces of whole lines. Together they exceed
// logTailBytes by at most one piece.
type logTail struct {
	started      bool
	pieces       [][]byte
	size         int
	skippedLines int
	skippedBytes int64
}

// add appends a line, or a part of one.
func (t *logTail) add(b []byte) {
	if n := len(t.pieces); n == 0 || len(t.pieces[n-1]) >= logChunkBytes &&
		bytes.HasSuffix(t.pieces[n-1], []byte("\n")) {
		t.pieces = append(t.pieces, make([]byte, 0, logChunkBytes+logChunkBytes/4))
	}
	last := len(t.pieces) - 1
	t.pieces[last] = append(t.pieces[last], b...)
	for t.size += len(b); t.size > logTailBytes && len(t.pieces) > 1; t.pieces = t.pieces[1:] {
		t.skippedLines += bytes.Count(t.pieces[0], []byte("\n"))
		t.skippedBytes += int64(len(t.pieces[0]))
		t.size -= len(t.pieces[0])
	}
}

func (w *chunkWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := len(b)
	for len(b) > 0 {
		line := len(b)
		if i := bytes.IndexByte(b, '\n'); i >= 0 {
			line = i + 1
		}
		if w.tail.started {
			w.tail.add(b[:line])
			b = b[line:]
			continue
		}
		w.chunk.Write(b[:line])
		if w.chunk.Len() >= max(logChunkBytes, w.tryAt) && b[line-1] == '\n' {
			w.tryAt = w.chunk.Len() + logChunkBytes
			w.put()
			if w.written == w.chunk.Len() || w.chunk.Len() >= maxPendingChunkBytes {
				w.next()
			}
		}
		b = b[line:]
	}
	return n, nil
}

// next starts another chunk, or the tail.
func (w *chunkWriter) next() {
	w.lost = w.lost || w.written < w.chunk.Len()
	w.head += w.chunk.Len()
	w.number++
	w.chunk.Reset()
	w.written, w.tryAt = 0, 0
	w.tail.started = w.head >= logHeadBytes
}

// flush stores new lines; at the end also an incomplete one.
func (w *chunkWriter) flush(end bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.flushUnfinished(end)
	if w.tail.started {
		w.flushTail(end)
		return
	}
	if w.chunk.Len() > w.written && (end || bytes.HasSuffix(w.chunk.Bytes(), []byte("\n"))) {
		w.put()
	}
}

// flushTail stores a note of how much was skipped so far, and at the end the tail after it.
func (w *chunkWriter) flushTail(end bool) {
	t := &w.tail
	left, leftBytes := t.skippedLines, t.skippedBytes
	if !end {
		left, leftBytes = left+countLines(t.pieces), leftBytes+int64(t.size)
	}
	if left > 0 && (left != w.notedLines || end) {
		w.chunk.Reset()
		_, _ = fmt.Fprintf(&w.chunk,
			"%s level=WARN msg=\"hutong: the log is too long; lines skipped here\" lines=%d bytes=%d\n",
			time.Now().UTC().Format(driver.LogTimeFormat), left, leftBytes)
		w.put()
		w.notedLines = left
	}
	if !end {
		return
	}
	for _, piece := range t.pieces {
		w.number++
		w.chunk.Reset()
		w.chunk.Write(piece)
		w.put()
		w.lost = w.lost || w.err != nil
	}
	t.pieces = nil
}

func countLines(pieces [][]byte) (n int) {
	for _, piece := range pieces {
		n += bytes.Count(piece, []byte("\n"))
	}
	return n
}

// put stores the current chunk.
func (w *chunkWriter) put() {
	key := fmt.Sprintf("%s/%08d", w.prefix, w.number)
	if err := w.blobs.Put(context.WithoutCancel(w.ctx), key, bytes.NewReader(w.chunk.Bytes())); err != nil {
		w.err = fmt.Errorf("failed to write %s: %w", key, err)
		return
	}
	w.written = w.chunk.Len()
	if !w.lost {
		w.err = nil // everything is stored
	}
}

// setUnfinished sets the line that is not ended yet, with its time.
func (w *chunkWriter) setUnfinished(line string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.unfinished = line
}

// flushUnfinished stores the line that is not ended yet, in an object of its own, or removes the object. If
// the storage fails, the next flush tries again; nothing is lost.
func (w *chunkWriter) flushUnfinished(end bool) {
	if end {
		w.unfinished = ""
	}
	if w.unfinished == w.storedUnfinished || !end && w.unfinished != "" &&
		time.Since(w.unfinishedAt) < unfinishedEvery {
		return
	}
	key, err := w.prefix+"/"+activities.UnfinishedLine, error(nil)
	ctx := context.WithoutCancel(w.ctx)
	if w.unfinished == "" {
		err = w.blobs.Delete(ctx, key)
	} else {
		err = w.blobs.Put(ctx, key, strings.NewReader(w.unfinished))
	}
	if err == nil {
		w.storedUnfinished, w.unfinishedAt = w.unfinished, time.Now()
	}
}
