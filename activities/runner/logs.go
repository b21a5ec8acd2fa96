package runner

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"hutong/activities"
	"hutong/activities/driver"
	"hutong/store/blob"
)

// The log of a run is kept in the party's storage as chunks, _log/<run>/<watcher>/<number>, which are written as lines
// come, so that any process of the party can read it, while the run goes on and after its container is gone. A watcher that
// takes over begins again with the first line, in a folder of its own: one that is only believed dead spoils nothing, since
// whoever has kept most is read.
const (
	logFlushEvery = time.Second
	logChunkBytes = 256 << 10
	// logPatienceBytes is how large a chunk grows while the storage does not take it; then it is lost.
	logPatienceBytes = 16 << 20
	// logHeadBytes and logTailBytes are how much of a run's log is kept: of its beginning as it comes, of its end when that
	// is there. A line between them tells what was left out.
	logHeadBytes = 56 << 20
	logTailBytes = 8 << 20
)

// followLogs keeps a run's log until its end, and counts its bytes.
func (r *Runner) followLogs(ctx context.Context, d driver.Driver, name string, logged *atomic.Int64) error {
	w := &chunkWriter{ctx: ctx, blobs: r.Blobs, prefix: activities.LogPrefix(name) + "/" + uuid.NewString()}
	stop := make(chan struct{})
	var flusher sync.WaitGroup
	flusher.Go(func() {
		tick := time.NewTicker(logFlushEvery)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				w.flush(false)
			}
		}
	})
	err := d.Logs(ctx, name, true, counted{w, logged})
	close(stop)
	flusher.Wait()
	w.flush(true)
	if err != nil {
		return err
	}
	return w.err
}

type counted struct {
	io.Writer
	bytes *atomic.Int64
}

// Write implements [io.Writer].
func (c counted) Write(b []byte) (int, error) {
	c.bytes.Add(int64(len(b)))
	return c.Writer.Write(b)
}

// chunkWriter cuts a stream into chunks at line ends. The chunk that is not yet full is written again as it grows.
type chunkWriter struct {
	ctx    context.Context
	blobs  blob.Store
	prefix string

	mu      sync.Mutex
	number  int
	chunk   bytes.Buffer
	written int // bytes of chunk that are in the storage
	tryAt   int // the size at which a full chunk that was not taken is tried again
	lost    bool
	err     error // why not all is in the storage

	head  int // bytes in the chunks before the present one
	tail  logTail
	noted int // lines left out, as the storage tells it
}

// logTail is the end of a log that is too long: pieces of whole lines, at most logTailBytes together and one more.
type logTail struct {
	begun     bool
	pieces    [][]byte
	size      int
	left      int   // lines left out
	leftBytes int64 // in them
}

// add takes a part of a line up to its end, if that is there.
func (t *logTail) add(b []byte) {
	if n := len(t.pieces); n == 0 || len(t.pieces[n-1]) >= logChunkBytes && bytes.HasSuffix(t.pieces[n-1], []byte("\n")) {
		t.pieces = append(t.pieces, make([]byte, 0, logChunkBytes+logChunkBytes/4))
	}
	last := len(t.pieces) - 1
	t.pieces[last] = append(t.pieces[last], b...)
	for t.size += len(b); t.size > logTailBytes && len(t.pieces) > 1; t.pieces = t.pieces[1:] {
		t.left += bytes.Count(t.pieces[0], []byte("\n"))
		t.leftBytes += int64(len(t.pieces[0]))
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
		if w.tail.begun {
			w.tail.add(b[:line])
			b = b[line:]
			continue
		}
		w.chunk.Write(b[:line])
		if w.chunk.Len() >= max(logChunkBytes, w.tryAt) && b[line-1] == '\n' {
			w.tryAt = w.chunk.Len() + logChunkBytes
			w.put()
			if w.written == w.chunk.Len() || w.chunk.Len() >= logPatienceBytes {
				w.next()
			}
		}
		b = b[line:]
	}
	return n, nil
}

// next begins another chunk, or the tail.
func (w *chunkWriter) next() {
	w.lost = w.lost || w.written < w.chunk.Len()
	w.head += w.chunk.Len()
	w.number++
	w.chunk.Reset()
	w.written, w.tryAt = 0, 0
	w.tail.begun = w.head >= logHeadBytes
}

// flush writes what is new; only whole lines unless it is the end.
func (w *chunkWriter) flush(end bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.tail.begun {
		w.flushTail(end)
		return
	}
	if w.chunk.Len() > w.written && (end || bytes.HasSuffix(w.chunk.Bytes(), []byte("\n"))) {
		w.put()
	}
}

// flushTail tells how much is left out so far, and at the end writes the tail behind it.
func (w *chunkWriter) flushTail(end bool) {
	t := &w.tail
	left, leftBytes := t.left, t.leftBytes
	if !end {
		left, leftBytes = left+linesOf(t.pieces), leftBytes+int64(t.size)
	}
	if left > 0 && (left != w.noted || end) {
		w.chunk.Reset()
		_, _ = fmt.Fprintf(&w.chunk, "%s level=WARN msg=\"hutong: the log is too long; left out here\" lines=%d bytes=%d\n",
			time.Now().UTC().Format(driver.LogTimeFormat), left, leftBytes)
		w.put()
		w.noted = left
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

func linesOf(pieces [][]byte) (n int) {
	for _, piece := range pieces {
		n += bytes.Count(piece, []byte("\n"))
	}
	return n
}

func (w *chunkWriter) put() {
	key := fmt.Sprintf("%s/%08d", w.prefix, w.number)
	if err := w.blobs.Put(context.WithoutCancel(w.ctx), key, bytes.NewReader(w.chunk.Bytes())); err != nil {
		w.err = fmt.Errorf("writing %s: %w", key, err)
		return
	}
	w.written = w.chunk.Len()
	if !w.lost {
		w.err = nil // all that there is, is written
	}
}

// tailLines are how many last lines of a failed run's log explain its failure.
const tailLines = 5

// lastLines is the end of a failed run's log.
func (r *Runner) lastLines(ctx context.Context, d driver.Driver, name string) []string {
	ctx, cancel := context.WithTimeout(ctx, logPatience)
	defer cancel()
	tail := &tailWriter{}
	if err := d.Logs(ctx, name, false, tail); err != nil {
		return nil
	}
	var lines []string
	for _, line := range tail.lines {
		if _, text, ok := strings.Cut(line, " "); ok {
			line = text // without the time
		}
		if len(line) > 400 {
			line = line[:150] + "…" + line[len(line)-250:] // causes come last
		}
		lines = append(lines, strings.ToValidUTF8(line, "?"))
	}
	return lines
}

type tailWriter struct {
	lines []string
	rest  []byte
}

func (t *tailWriter) Write(b []byte) (int, error) {
	n := len(b)
	for {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			t.rest = append(t.rest, b...)
			return n, nil
		}
		t.lines = append(t.lines, string(append(t.rest, b[:i]...)))
		if len(t.lines) > tailLines {
			t.lines = t.lines[1:]
		}
		t.rest = nil
		b = b[i+1:]
	}
}
