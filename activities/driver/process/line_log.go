package process

import (
	"bytes"
	"io"
	"os"
	"time"

	"hutong/activities/driver"
)

// A lineLog puts a time before each line that is written to it, and keeps the
// last lines in two files of half the size.
type lineLog struct {
	f       folder
	max     int64
	file    *os.File
	size    int64
	partial []byte // a line without its end yet, after its time
	out     []byte
}

func newLineLog(f folder, limit int64) (*lineLog, error) {
	file, err := os.OpenFile(f.path(outputFile), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	return &lineLog{f: f, max: max(limit/2, 1), file: file}, nil
}

// ReadFrom logs until r ends.
func (l *lineLog) ReadFrom(r io.Reader) (int64, error) {
	buf := make([]byte, 64<<10)
	var total int64
	for {
		n, err := r.Read(buf)
		total += int64(n)
		l.take(buf[:n], time.Now())
		if err != nil {
			l.finish()
			return total, err
		}
	}
}

func (l *lineLog) take(b []byte, now time.Time) {
	stamp := append(now.UTC().AppendFormat(nil, driver.LogTimeFormat), ' ')
	for len(b) > 0 {
		line, rest, ended := bytes.Cut(b, []byte("\n"))
		room := driver.MaxLogLine
		if len(l.partial) > 0 {
			room += len(stamp) - len(l.partial) // all times are of one length
		}
		if len(line) > room {
			line, rest, ended = b[:room], b[room:], true
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

// flush writes whole lines. A log that cannot be written, for want of space
// say, must not stop the program: what cannot be written is lost.
func (l *lineLog) flush() {
	if len(l.out) == 0 {
		return
	}
	if l.size > 0 && l.size+int64(len(l.out)) > l.max {
		l.rotate()
	}
	n, _ := l.file.Write(l.out)
	l.size += int64(n)
	l.out = l.out[:0]
}

func (l *lineLog) rotate() {
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

func (l *lineLog) finish() {
	if len(l.partial) > 0 {
		l.out = append(append(l.out, l.partial...), '\n')
		l.partial = nil
	}
	l.flush()
}

func (l *lineLog) close() { _ = l.file.Close() }
