package runner

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"hutong/activities"
	"hutong/activities/driver"
	"hutong/activities/logline"
)

// containerLog follows the log of a container: its output and its log files, in the order in which their
// lines arrive.
type containerLog struct {
	name   string
	driver driver.Driver
	out    *chunkWriter
	merge  logMerge
	files  logFiles
	logger *slog.Logger
	// bytes counts what arrived.
	bytes atomic.Int64
	// overflow receives the size of the log files once, if it exceeds the limit.
	overflow chan int64
}

func (r *Runner) newContainerLog(ctx context.Context, d driver.Driver, name string,
	logger *slog.Logger) *containerLog {
	l := &containerLog{name: name, driver: d, logger: logger, overflow: make(chan int64, 1),
		out: &chunkWriter{ctx: ctx, blobs: r.Blobs, prefix: activities.LogPrefix(name) + "/" +
			uuid.NewString()}}
	l.merge = logMerge{out: l.out}
	l.files = logFiles{driver: d, name: name, merge: &l.merge, limit: r.LogFilesLimit, overflow: l.overflow,
		bytes: &l.bytes}
	return l
}

// follow stores the log until the container's end.
func (l *containerLog) follow(ctx context.Context) error {
	stop := make(chan struct{})
	var background sync.WaitGroup
	background.Go(func() {
		tick := time.NewTicker(logFlushEvery)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				l.out.flush(false)
			}
		}
	})
	sideCtx, cancel := context.WithCancel(ctx)
	background.Go(func() {
		err := l.driver.Unfinished(sideCtx, l.name, func(line []byte) {
			l.out.setUnfinished(strings.ToValidUTF8(string(lastRow(line)), "\uFFFD"))
		})
		if err != nil && sideCtx.Err() == nil && !errors.Is(err, driver.ErrNotFound) {
			l.logger.Warn("failed to follow the container's unfinished lines", "error", err)
		}
	})
	background.Go(func() { l.files.follow(sideCtx) })

	err := l.driver.Logs(ctx, l.name, true, countingWriter{l.merge.source(), &l.bytes})
	cancel()
	close(stop)
	background.Wait()

	filesErr := l.files.finish(ctx)
	l.merge.finish()
	l.out.flush(true)
	if err == nil {
		err = l.out.err
	}
	if err == nil && filesErr != nil && !errors.Is(filesErr, driver.ErrNotFound) {
		err = fmt.Errorf("failed to read the log files: %w", filesErr)
	}
	return err
}

// lastLines returns the last lines of the log, for a failure.
func (l *containerLog) lastLines() (lines []string) {
	for _, line := range l.merge.lastLines() {
		line = logline.StripANSI(line)
		if len(line) > 400 {
			line = line[:150] + "…" + line[len(line)-250:] // causes come last
		}
		lines = append(lines, strings.ToValidUTF8(line, "?"))
	}
	return lines
}

// lastRow returns the lowest row of an unfinished line, with the line's time.
func lastRow(line []byte) []byte {
	at, text := splitTime(line)
	if !logline.Overwrites(text) {
		return line
	}
	if rows, _ := logline.Rows(text); len(rows) > 0 {
		return slices.Concat(at, []byte{' '}, rows[len(rows)-1].Text)
	}
	return nil
}

// countingWriter counts the bytes that it passes on.
type countingWriter struct {
	io.Writer
	bytes *atomic.Int64
}

// Write implements [io.Writer].
func (c countingWriter) Write(b []byte) (int, error) {
	c.bytes.Add(int64(len(b)))
	return c.Writer.Write(b)
}

// logMerge merges the lines of several sources, each with its time before it, into one log. It resolves what
// progress bars overwrite, and leaves out entries that another source had: many programs log to standard
// error and to files, or to a file for each level.
type logMerge struct {
	out io.Writer

	mu      sync.Mutex
	sources []*logSource
	known   knownEntries
	writer  *logSource // the last one that wrote
	wroteAt time.Time
	last    []string // the last lines, without their times
}

// logSource is one of the sources of a logMerge. It is an io.Writer of lines with their times.
type logSource struct {
	merge   *logMerge
	number  int
	partial []byte
	// held has the rows that lines redraw by moving the cursor up, until a line is below them all. bottom is
	// the lowest of them, row that of the next line.
	held        map[int]heldLine
	row, bottom int
	skipping    bool // the current entry is left out
}

// heldLine is a line that later ones may overwrite.
type heldLine struct{ at, text []byte }

// maxHeldLines bounds the lines that are held. More rows than that are no progress bars.
const maxHeldLines = 200

// failureLogLines is the number of last log lines in a failure.
const failureLogLines = 5

// source returns a new source.
func (m *logMerge) source() *logSource {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := &logSource{merge: m, number: len(m.sources)}
	m.sources = append(m.sources, s)
	return s
}

// Write implements [io.Writer].
func (s *logSource) Write(b []byte) (int, error) {
	s.merge.mu.Lock()
	defer s.merge.mu.Unlock()
	s.merge.writer, s.merge.wroteAt = s, time.Now()
	n := len(b)
	for {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			s.partial = append(s.partial, b...)
			return n, nil
		}
		line := b[:i]
		if len(s.partial) > 0 {
			line = append(s.partial, line...)
		}
		s.line(line)
		s.partial = s.partial[:0]
		b = b[i+1:]
	}
}

// line adds a line, which it may change. One that moves the cursor to rows above changes those that are held.
func (s *logSource) line(line []byte) {
	at, text := splitTime(line)
	rows, end := logline.Rows(text)
	moves := end != 0 || len(rows) > 0 && (rows[0].Offset != 0 || len(rows) > 1)
	if !moves && (len(s.held) == 0 || s.row > s.bottom) {
		s.release()
		text = nil
		if len(rows) > 0 {
			text = rows[0].Text
		}
		s.emit(at, text)
		return
	}
	if s.held == nil {
		s.held, s.row, s.bottom = map[int]heldLine{}, 0, 0
	}
	for _, row := range rows {
		if len(bytes.TrimSpace(row.Text)) > 0 {
			s.held[s.row+row.Offset] = heldLine{bytes.Clone(at), bytes.Clone(row.Text)}
			s.bottom = max(s.bottom, s.row+row.Offset)
		}
	}
	s.row += end + 1
	if len(s.held) > maxHeldLines {
		s.release()
	}
}

// release adds the lines that are held.
func (s *logSource) release() {
	for _, row := range slices.Sorted(maps.Keys(s.held)) {
		s.emit(s.held[row].at, s.held[row].text)
	}
	s.held = nil
}

// emit adds a line to the log if no other source had it.
func (s *logSource) emit(at, text []byte) {
	if !s.isKnown(text) {
		s.merge.add(at, text)
	}
}

// isKnown reports whether another source had the line's entry. Entries without a time are never taken for
// equal. Lines that don't begin an entry share its fate.
func (s *logSource) isKnown(text []byte) bool {
	plain := logline.StripANSI(string(text[:min(len(text), maxEntryKey)]))
	if logline.HasClock(plain) {
		s.skipping = s.merge.known.fromOther(plain, s.number)
	}
	return s.skipping
}

// maxEntryKey bounds how much of a line distinguishes entries.
const maxEntryKey = 4 << 10

// add appends a line to the log.
func (m *logMerge) add(at, text []byte) {
	line := make([]byte, 0, len(at)+len(text)+2)
	line = append(append(append(append(line, at...), ' '), text...), '\n')
	_, _ = m.out.Write(line)
	m.last = append(m.last, string(text[:min(len(text), driver.MaxLogLine)]))
	if len(m.last) > failureLogLines {
		m.last = m.last[len(m.last)-failureLogLines:]
	}
}

const (
	// entryPause is a pause after which an entry is taken for complete.
	entryPause = 20 * time.Millisecond
	// maxEntryWait bounds the wait for it. A source may write without a pause.
	maxEntryWait = 100 * time.Millisecond
)

// awaitQuiet waits until no other source is in the middle of an entry, such as a traceback.
func (m *logMerge) awaitQuiet(source *logSource) {
	for began := time.Now(); time.Since(began) < maxEntryWait; time.Sleep(entryPause / 4) {
		m.mu.Lock()
		quiet := m.writer == nil || m.writer == source || time.Since(m.wroteAt) > entryPause
		m.mu.Unlock()
		if quiet {
			return
		}
	}
}

// finish adds lines without an end.
func (m *logMerge) finish() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.sources {
		if len(s.partial) > 0 {
			s.line(s.partial)
			s.partial = nil
		}
		s.release()
	}
}

func (m *logMerge) lastLines() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]string(nil), m.last...)
}

// splitTime splits a line at the space after its time.
func splitTime(line []byte) (at, text []byte) {
	at, text, _ = bytes.Cut(line, []byte(" "))
	return at, text
}

// knownEntries remembers which source had a recent entry first. Copies of an entry are written at the same
// time, so recent ones suffice.
type knownEntries struct {
	recent, older map[string]int
}

// maxKnownEntries bounds the entries of each of two generations.
const maxKnownEntries = 1 << 14

// fromOther reports whether another source had an entry, and otherwise notes it.
func (k *knownEntries) fromOther(entry string, source int) bool {
	sum := sha256.Sum256([]byte(entry))
	key := string(sum[:16])
	first, ok := k.recent[key]
	if !ok {
		if first, ok = k.older[key]; !ok {
			first = source
		}
		if k.recent == nil || len(k.recent) >= maxKnownEntries {
			k.older, k.recent = k.recent, make(map[string]int, 64)
		}
		k.recent[key] = first
	}
	return first != source
}
