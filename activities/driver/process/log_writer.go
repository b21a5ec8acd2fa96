package process

import (
	"bytes"
	"io"
	"os"
	"sync"
	"time"

	"hutong/activities/driver"
	"hutong/activities/logline"
)

// logWriter writes lines with a timestamp each, and rotates two files of half the maximum size. Of a line
// that overwrites itself, such as a progress bar, it writes the last state.
type logWriter struct {
	f     folder
	limit int64 // of one file

	mu         sync.Mutex
	file       *os.File
	size       int64
	stamp      []byte // the time of text
	text       []byte // an incomplete line
	out        []byte
	unfinished unfinishedFile
}

func newLogWriter(f folder, maxLog int64) (*logWriter, error) {
	file, err := os.OpenFile(f.path(outputFile), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}

	return &logWriter{f: f, limit: max(maxLog/2, 1), file: file}, nil
}

// ReadFrom logs what it reads until r ends.
func (l *logWriter) ReadFrom(r io.Reader) (int64, error) {
	buf := make([]byte, 64<<10)
	var total int64
	for {
		n, err := r.Read(buf)
		total += int64(n)
		l.add(buf[:n], time.Now())
		if err != nil {
			l.finish()
			return total, err
		}
	}
}

func (l *logWriter) add(b []byte, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()

	stamp := append(now.UTC().AppendFormat(nil, driver.LogTimeFormat), ' ')
	for len(b) > 0 {
		line, rest, ended := bytes.Cut(b, []byte("\n"))

		if left := driver.MaxLogLine - len(l.text); len(line) > left {
			line, rest, ended = b[:left], b[left:], true
		}
		b = rest

		overwrites := logline.Overwrites(line)
		if len(l.text) == 0 || overwrites {
			l.stamp = append(l.stamp[:0], stamp...) // of a progress bar, the time of the newest state
		}
		l.text = append(l.text, line...)
		switch {
		case ended:
			l.end()
		case overwrites:
			l.text = logline.Compact(l.text)
		}
	}

	l.flush()
	l.showUnfinished()
}

// end ends the current line.
func (l *logWriter) end() {
	l.out = append(l.out, l.stamp...)
	l.out = append(append(l.out, logline.Resolve(l.text)...), '\n')
	l.text = l.text[:0]
}

// flush writes complete lines. A log that cannot be written, for example on a full disk, must not block the
// program, so the lines are dropped then.
func (l *logWriter) flush() {
	if len(l.out) == 0 {
		return
	}

	if l.size > 0 && l.size+int64(len(l.out)) > l.limit {
		l.rotate()
	}
	n, _ := l.file.Write(l.out)
	l.size += int64(n)
	l.out = l.out[:0]
}

func (l *logWriter) rotate() {
	if err := os.Rename(l.f.path(outputFile), l.f.path(olderFile)); err != nil {
		return
	}

	file, err := os.OpenFile(l.f.path(outputFile), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return
	}
	_ = l.file.Close()
	l.file, l.size = file, 0
}

func (l *logWriter) finish() {
	l.mu.Lock()
	defer l.mu.Unlock()

	if len(l.text) > 0 {
		l.end()
	}
	l.flush()
	l.removeUnfinished()
}

func (l *logWriter) close() { _ = l.file.Close() }
