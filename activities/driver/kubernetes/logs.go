package kubernetes

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"hutong/activities/driver"
)

// Logs writes the pod's log, as far as its node has kept it. Where the pod is gone, as after a stop, so is its log.
func (k *Driver) Logs(ctx context.Context, name string, follow bool, w io.Writer) error {
	return driver.WrapError("read the logs of", name, k.logs(ctx, name, follow, w))
}

func (k *Driver) logs(ctx context.Context, name string, follow bool, w io.Writer) error {
	if follow {
		if err := k.waitStarted(ctx, name); err != nil {
			return err
		}
	}
	out := &lineCopier{w: w}
	for delay := time.Duration(0); ; delay = min(max(2*delay, driver.MinReconnectDelay), driver.MaxReconnectDelay) {
		if err := driver.Sleep(ctx, delay); err != nil {
			return err
		}
		last, err := k.logsOnce(ctx, name, follow, out)
		switch {
		case out.err != nil:
			return fmt.Errorf("write the log: %w", out.err)
		case err == nil && last:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("interrupted: %w", ctx.Err())
		case err != nil && (!follow || !driver.ShouldReconnect(ctx, err)):
			return err
		}
	}
}

// waitStarted waits until the program runs or has ended.
func (k *Driver) waitStarted(ctx context.Context, name string) error {
	_, err := k.watch(ctx, name, func(s jobState) (driver.Exit, bool, time.Duration, error) {
		if pod := s.pod(); pod != nil {
			if status := containerStatus(pod); status != nil && status.State.Running != nil {
				return driver.Exit{}, true, 0, nil
			}
		}
		return k.settle(ctx, s)
	})
	return err
}

// logsOnce copies the log from its start, less what was copied before, and says whether that was all there will be.
func (k *Driver) logsOnce(ctx context.Context, name string, follow bool, out *lineCopier) (last bool, err error) {
	job, err := k.find(ctx, name)
	if err != nil {
		return false, err
	}
	pods, err := k.pods(ctx, job.Name)
	if err != nil {
		return false, err
	}
	pod := newest(pods.Items)
	_, over := recorded(job)
	if pod == nil {
		return over || !follow || finished(job) != "", nil
	}
	status := containerStatus(pod)
	if status == nil || status.State.Waiting != nil {
		return over || !follow || pod.Status.Phase == corev1.PodFailed, nil // it never ran
	}
	// Only what is opened after the end is read to the end for certain.
	ended := status.State.Terminated != nil
	stream, err := k.stream.CoreV1().Pods(k.opts.Namespace).GetLogs(pod.Name,
		&corev1.PodLogOptions{Container: k8sContainer, Timestamps: true, Follow: follow && !ended}).Stream(ctx)
	if apierrors.IsNotFound(err) || over && err != nil && ctx.Err() == nil {
		return over, nil // the pod has gone meanwhile, or what its node kept of it
	}
	if err != nil {
		return false, fmt.Errorf("open: %w", err)
	}
	defer func() { _ = stream.Close() }()
	if err := out.copy(stream, ended); err != nil {
		return false, fmt.Errorf("read: %w", err)
	}
	return !follow || ended, nil
}

// A lineCopier copies lines that begin with a time from streams that each begin anew. A node may have dropped the first lines
// of a later stream.
type lineCopier struct {
	w     io.Writer
	err   error // of w
	done  int   // pieces written in all
	first []byte
	last  []byte // the time of the last piece
	same  int    // how many of the last pieces have it
}

// copy copies a stream's lines, in pieces of MaxLogLine. The last one without an end counts only if nothing can follow it.
func (c *lineCopier) copy(r io.Reader, whole bool) error {
	in := bufio.NewReaderSize(r, 64<<10)
	skip := c.skipper()
	var stamp, text []byte
	atStart := true
	piece := func() {
		if !skip(stamp, text) && c.err == nil {
			c.put(stamp, text)
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
			head, rest, ok := bytes.Cut(part, []byte(" "))
			at, timeErr := time.Parse(time.RFC3339Nano, string(head))
			if timeErr != nil {
				return fmt.Errorf("a line begins with no time but %.40q", part)
			}
			stamp = at.UTC().AppendFormat(stamp[:0], driver.LogTimeFormat)
			if part = nil; ok {
				part = rest
			}
		}
		for len(text)+len(part) > driver.MaxLogLine {
			n := driver.MaxLogLine - len(text)
			text, part = append(text, part[:n]...), part[n:]
			piece()
		}
		text = append(text, part...)
		partial := !atStart || len(text) > 0
		if atStart = ended; ended || errors.Is(err, io.EOF) && whole && partial && len(stamp) > 0 && len(text) > 0 {
			piece()
		}
		if c.err != nil || errors.Is(err, io.EOF) {
			return nil
		}
	}
}

// skipper knows the pieces of a new stream that were written before.
func (c *lineCopier) skipper() func(stamp, text []byte) bool {
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
		return bytes.Compare(stamp, lastStamp) < 0 // times are of one length
	}
}

func (c *lineCopier) put(stamp, text []byte) {
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
