package docker

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"hutong/activities/driver"
	"hutong/activities/logline"
)

// frameWriter converts the log frames of Docker Engine to lines. It skips frames that it took from an earlier
// stream.
//
// A frame holds one piece of a line, of at most 16 KiB, preceded by its time. Only the last piece of a line
// ends in a newline, and pieces of stdout and stderr are interleaved.
type frameWriter struct {
	w       io.Writer
	err     error           // of w
	partial [3]bytes.Buffer // incomplete lines, by stream
	taken   int             // frames taken in all
	seen    int             // frames of the current stream

	// first is the first frame of all. A stream that starts with another one was truncated by log rotation.
	first   []byte
	last    []byte // the time of the last frame taken
	rotated bool   // the current stream was truncated
}

const (
	frameHeader = 8
	maxFrame    = 1 << 20 // the frames of Docker Engine are far smaller
)

// restart prepares for a new stream from the start of the log.
func (f *frameWriter) restart() { f.seen, f.rotated = 0, false }

// skip counts a frame and reports whether it was taken from an earlier stream.
func (f *frameWriter) skip(frame []byte) bool {
	f.seen++
	if f.seen == 1 {
		if f.first == nil {
			f.first = bytes.Clone(frame)
		}
		f.rotated = f.taken > 0 && !bytes.Equal(f.first, frame)
	}

	// All times have the same length, so they compare as bytes.
	stamp, _, _ := bytes.Cut(frame, []byte(" "))
	if f.rotated && bytes.Compare(stamp, f.last) <= 0 || !f.rotated && f.seen <= f.taken {
		return true
	}

	f.taken++
	f.last = append(f.last[:0], stamp...)

	return false
}

// readFrame reads the next frame of Docker Engine's multiplexed output into buf, or a larger buffer. It
// returns io.EOF at the end between two frames.
func readFrame(r io.Reader, buf []byte) (stream int, frame []byte, err error) {
	var header [frameHeader]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return 0, nil, err
	}
	size := binary.BigEndian.Uint32(header[4:])
	if header[0] > 2 || size > maxFrame {
		return 0, nil, fmt.Errorf("not a frame of output: stream %d of %d bytes", header[0], size)
	}
	frame = append(buf[:0], make([]byte, size)...)
	if _, err := io.ReadFull(r, frame); err != nil {
		return 0, nil, fmt.Errorf("a frame is cut off (%v): %w", err, io.ErrUnexpectedEOF)
	}
	return int(header[0]), frame, nil
}

func (f *frameWriter) copyFrom(r io.Reader) error {
	var frame []byte

	for {
		stream, next, err := readFrame(r, frame)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		frame = next

		if f.skip(frame) {
			continue
		}

		f.take(stream, frame)
		if f.err != nil {
			return f.err
		}
	}
}

func (f *frameWriter) take(stream int, frame []byte) {
	line := &f.partial[stream]
	stamp, text, ok := bytes.Cut(frame, []byte(" "))
	if !ok {
		stamp, text = nil, frame
	}

	switch {
	case line.Len() == 0:
		line.Write(frame)
		f.compact(line, len(stamp)+1)
	case line.Len()+len(text) > driver.MaxLogLine+len(driver.LogTimeFormat):
		f.flush(line)
		line.Write(stamp)
		line.WriteByte(' ')
		line.Write(text)
	default:
		line.Write(text)
		f.compact(line, len(stamp)+1)
	}

	if bytes.HasSuffix(text, []byte("\n")) {
		f.flush(line)
	}
}

// compact shortens a line that overwrites itself, such as a progress bar, to its last state.
func (f *frameWriter) compact(line *bytes.Buffer, stamp int) {
	if b := line.Bytes(); len(b) > stamp && logline.Overwrites(b[stamp:]) {
		line.Truncate(stamp + len(logline.Compact(b[stamp:])))
	}
}

func (f *frameWriter) flush(line *bytes.Buffer) {
	if !bytes.HasSuffix(line.Bytes(), []byte("\n")) {
		line.WriteByte('\n')
	}

	if f.err == nil {
		_, f.err = f.w.Write(line.Bytes())
	}
	line.Reset()
}

// finish writes the last lines that have no newline.
func (f *frameWriter) finish() error {
	for i := range f.partial {
		if f.partial[i].Len() > 0 {
			f.flush(&f.partial[i])
		}
	}

	if f.err != nil {
		return fmt.Errorf("failed to write the log: %w", f.err)
	}

	return nil
}
