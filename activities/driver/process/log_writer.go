package process

import (
	"bytes"
	"io"
	"os"
	"time"

	"hutong/activities/driver"
)

// logWriter writes lines with a timestamp each, and rotates two files of half the maximum size.
type logWriter struct {
	f       folder
	limit   int64 // of one file
	file    *os.File
	size    int64
	partial []byte // an incomplete line with its timestamp
	out     []byte
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
	stamp := append(now.UTC().AppendFormat(nil, driver.LogTimeFormat), ' ')
	for len(b) > 0 {
		line, rest, ended := bytes.Cut(b, []byte("\n"))

		left := driver.MaxLogLine
		if len(l.partial) > 0 {
			left += len(stamp) - len(l.partial) // all timestamps have the same length
		}
		if len(line) > left {
			line, rest, ended = b[:left], b[left:], true
		}
		b = rest

		if len(l.partial) == 0 {
			l.partial = append(l.partial, stamp...)
		}
		l.partial = append(l.partial, line...)
		if ended {
			l.out = append(append(l.out, l.partial...), '\n')
			l.partial = l.partial[:0]
		}
	}

	l.flush()
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
	if len(l.partial) > 0 {
		l.out = append(append(l.out, l.partial...), '\n')
		l.partial = nil
	}
	l.flush()
}

func (l *logWriter) close() { _ = l.file.Close() }
