package kubernetes

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	"hutong/activities/driver"
	"hutong/activities/logline"
)

// lineCopier copies lines that start with a time from several streams of the same log. It skips what it
// copied from an earlier stream. The node may have dropped the first lines of a later stream by log rotation.
type lineCopier struct {
	w     io.Writer
	err   error  // of w
	done  int    // pieces written in all
	first []byte // the start of the first piece
	last  []byte // the time of the last piece
	same  int    // how many of the last pieces have that time
}

// copyFrom copies a stream's lines, in pieces of at most MaxLogLine. A last line without a newline is copied
// only if the log is complete.
func (c *lineCopier) copyFrom(r io.Reader, complete bool) error {
	in := bufio.NewReaderSize(r, 64<<10)
	skip := c.newSkipper()
	var stamp, text []byte
	atStart := true

	endPiece := func() {
		if !skip(stamp, text) && c.err == nil {
			c.write(stamp, text)
		}
		text = text[:0]
	}

	for {
		part, err := in.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) && !errors.Is(err, io.EOF) {
			return err
		}
		ended := bytes.HasSuffix(part, []byte("\n"))
		part = bytes.TrimSuffix(part, []byte("\n"))

		if atStart && (len(part) > 0 || ended) {
			var parseErr error
			if stamp, part, parseErr = cutStamp(stamp, part); parseErr != nil {
				return parseErr
			}
		}

		if logline.Overwrites(part) {
			// Of a progress bar, only the last state counts.
			part, text = logline.Compact(append(bytes.Clone(text), part...)), text[:0]
		}
		for len(text)+len(part) > driver.MaxLogLine {
			n := driver.MaxLogLine - len(text)
			text, part = append(text, part[:n]...), part[n:]
			endPiece()
		}
		text = append(text, part...)

		partial := !atStart || len(text) > 0
		atEnd := errors.Is(err, io.EOF)
		if atStart = ended; ended || atEnd && complete && partial && len(stamp) > 0 && len(text) > 0 {
			endPiece()
		}
		if c.err != nil || atEnd {
			return nil
		}
	}
}

// cutStamp splits a line of a pod's log into its time, in driver.LogTimeFormat, and the rest. The time is
// written into the memory of stamp.
func cutStamp(stamp, line []byte) (newStamp, rest []byte, err error) {
	head, rest, _ := bytes.Cut(line, []byte(" "))
	at, err := time.Parse(time.RFC3339Nano, string(head))
	if err != nil {
		return nil, nil, fmt.Errorf("a log line does not start with a time: %.40q", line)
	}

	return at.UTC().AppendFormat(stamp[:0], driver.LogTimeFormat), rest, nil
}

// newSkipper returns a function that reports whether a piece of a new stream was copied from an earlier one.
func (c *lineCopier) newSkipper() func(stamp, text []byte) bool {
	seen, same, rotated := 0, 0, false
	done, lastStamp, lastSame := c.done, bytes.Clone(c.last), c.same

	return func(stamp, text []byte) bool {
		seen++
		if seen == 1 {
			head := append(bytes.Clone(stamp), text[:min(len(text), 100)]...)
			if c.first == nil {
				c.first = head
			}
			rotated = !bytes.Equal(c.first, head)
		}

		if !rotated {
			return seen <= done
		}

		if bytes.Equal(stamp, lastStamp) {
			same++
			return same <= lastSame
		}

		return bytes.Compare(stamp, lastStamp) < 0 // all times have the same length
	}
}

func (c *lineCopier) write(stamp, text []byte) {
	line := make([]byte, 0, len(stamp)+len(text)+2)
	line = append(append(append(append(line, stamp...), ' '), text...), '\n')
	if _, c.err = c.w.Write(line); c.err != nil {
		return
	}

	c.done++
	if bytes.Equal(c.last, stamp) {
		c.same++
	} else {
		c.last, c.same = append(c.last[:0], stamp...), 1
	}
}
