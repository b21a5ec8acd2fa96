package docker

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/docker/docker/api/types/container"

	"hutong/activities/driver"
)

// Logs writes the container's log. The Engine reads stdout and stderr
// separately, so lines written to both within microseconds may change places.
func (d *Driver) Logs(ctx context.Context, name string, follow bool, w io.Writer) error {
	return driver.WrapError("read the logs of", name, d.logs(ctx, name, follow, w))
}

func (d *Driver) logs(ctx context.Context, name string, follow bool, w io.Writer) error {
	if err := driver.CheckName(name); err != nil {
		return err
	}
	if follow {
		if err := d.waitStarted(ctx, name); err != nil {
			return err
		}
	}
	out := &frameWriter{w: w}
	for delay := time.Duration(0); ; delay = min(max(2*delay, driver.MinReconnectDelay), driver.MaxReconnectDelay) {
		// At first at once: the container has ended, most likely. If it has
		// not, the Engine went away while it ran.
		if err := driver.Sleep(ctx, delay); err != nil {
			return err
		}
		last, err := d.logsOnce(ctx, name, follow, out)
		if out.err != nil {
			return fmt.Errorf("write the log: %w", out.err)
		}
		switch {
		case err == nil && last:
			return out.finish()
		case err != nil && (!follow || !driver.ShouldReconnect(ctx, err)):
			return err
		}
	}
}

// logsOnce copies the log from its start, less what was copied before, and says
// whether that was all there will be.
func (d *Driver) logsOnce(ctx context.Context, name string, follow bool, out *frameWriter) (last bool, err error) {
	c, err := d.find(ctx, name, name)
	if err != nil {
		return false, err
	}
	if stoppedBeforeStart(c) {
		return true, nil
	}
	// Only what is opened after the end is read to the end for certain: when a
	// container ends, the Engine may close a log that is followed before its last lines were read.
	_, ended := exitOf(c)
	stream, err := d.stream.ContainerLogs(ctx, c.ID, container.LogsOptions{
		ShowStdout: true, ShowStderr: true, Timestamps: true, Follow: follow && !ended,
	})
	if err != nil {
		return false, classify(err)
	}
	defer func() { _ = stream.Close() }()
	out.restart()
	if err := out.copy(stream); err != nil {
		return false, fmt.Errorf("read: %w", err)
	}
	return !follow || ended, nil
}

// waitStarted waits until the container was started or cannot be any more; the Engine would not wait.
func (d *Driver) waitStarted(ctx context.Context, name string) error {
	for {
		c, err := d.find(ctx, name, name)
		if err != nil && !driver.ShouldReconnect(ctx, err) {
			return err
		}
		if err == nil {
			if _, ended := exitOf(c); ended || c.State.Running {
				return nil
			}
		}
		if err := driver.Sleep(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

// A frameWriter turns the Engine's log frames into lines.
//
// A frame is one piece of a line, of at most 16 KiB, with a time of its own before it; only the
// last piece ends in a newline, and pieces of stdout and stderr mix.
type frameWriter struct {
	w       io.Writer
	err     error // of w
	partial [3]bytes.Buffer
	done    int // frames taken in all
	seen    int // frames of the present stream

	first   []byte // the very first frame: a stream that begins with another has lost its beginning to the Engine's bound
	last    []byte // the time of the last frame taken
	rotated bool   // the present stream has
}

const (
	frameHeader = 8
	maxFrame    = 1 << 20 // the Engine's frames are far smaller
)

// restart prepares for a stream that begins with the first frame again.
func (f *frameWriter) restart() { f.seen, f.rotated = 0, false }

// known says whether a frame was taken from an earlier stream.
func (f *frameWriter) known(frame []byte) bool {
	f.seen++
	if f.seen == 1 {
		if f.first == nil {
			f.first = bytes.Clone(frame)
		}
		f.rotated = f.done > 0 && !bytes.Equal(f.first, frame)
	}
	stamp, _, _ := bytes.Cut(frame, []byte(" "))
	if f.rotated && bytes.Compare(stamp, f.last) <= 0 || !f.rotated && f.seen <= f.done {
		return true // times are of one length
	}
	f.done++
	f.last = append(f.last[:0], stamp...)
	return false
}

func (f *frameWriter) copy(r io.Reader) error {
	var header [frameHeader]byte
	var frame []byte
	for {
		switch _, err := io.ReadFull(r, header[:]); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		size := binary.BigEndian.Uint32(header[4:])
		if header[0] > 2 || size > maxFrame {
			return fmt.Errorf("not a log frame: stream %d of %d bytes", header[0], size)
		}
		frame = append(frame[:0], make([]byte, size)...)
		if _, err := io.ReadFull(r, frame); err != nil {
			return errors.Join(io.ErrUnexpectedEOF, err)
		}
		if f.known(frame) {
			continue
		}
		f.take(int(header[0]), frame)
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
	case line.Len()+len(text) > driver.MaxLogLine+len(driver.LogTimeFormat):
		f.flush(line)
		line.Write(stamp)
		line.WriteByte(' ')
		line.Write(text)
	default:
		line.Write(text)
	}
	if bytes.HasSuffix(text, []byte("\n")) {
		f.flush(line)
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

// finish writes what had no newline at the end.
func (f *frameWriter) finish() error {
	for i := range f.partial {
		if f.partial[i].Len() > 0 {
			f.flush(&f.partial[i])
		}
	}
	if f.err != nil {
		return fmt.Errorf("write the log: %w", f.err)
	}
	return nil
}
