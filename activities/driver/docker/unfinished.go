package docker

import (
	"bytes"
	"context"
	"errors"
	"io"
	"time"

	"github.com/docker/docker/api/types/container"

	"hutong/activities/driver"
	"hutong/activities/logline"
)

const (
	// maxUnfinished bounds an unfinished line that is shown.
	maxUnfinished = 16 << 10

	// attachBudget bounds the output that is read for unfinished lines in attachPeriod. Progress bars take
	// far less. A container that writes more is left alone for a while: what is attached to it must keep up
	// with it, or Docker Engine stops it.
	attachBudget = 1 << 20
	attachPeriod = 10 * time.Second
)

// Unfinished attaches to the container, since Docker Engine logs whole lines only.
func (d *Driver) Unfinished(ctx context.Context, name string, show func(line []byte)) error {
	return driver.WrapError("follow the output of", name, d.followUnfinished(ctx, name, show))
}

func (d *Driver) followUnfinished(ctx context.Context, name string, show func(line []byte)) error {
	if err := driver.CheckName(name); err != nil {
		return err
	}
	if err := d.waitStarted(ctx, name); err != nil {
		return err
	}

	for delay := time.Duration(0); ; delay = driver.NextReconnectDelay(delay) {
		if err := driver.Sleep(ctx, delay); err != nil {
			return err
		}

		c, err := d.find(ctx, name, name)
		if err == nil {
			if _, ended := exitOf(c); ended {
				return nil
			}
			err = d.attach(ctx, c.ID, show)
		}
		switch {
		case errors.Is(err, errTooMuchOutput):
			show(nil)
			if err := driver.Sleep(ctx, attachPeriod); err != nil {
				return err
			}
			delay = 0
		case err != nil && !driver.ShouldReconnect(ctx, err):
			return err
		}
	}
}

var errTooMuchOutput = errors.New("the container writes too much to follow its unfinished lines")

// attach shows the unfinished lines of a container until its output ends.
func (d *Driver) attach(ctx context.Context, id string, show func(line []byte)) error {
	stream, err := d.stream.ContainerAttach(ctx, id,
		container.AttachOptions{Stream: true, Stdout: true, Stderr: true})
	if err != nil {
		return classify(err)
	}
	defer stream.Close()
	defer context.AfterFunc(ctx, stream.Close)()

	return readUnfinished(stream.Reader, time.Now, show)
}

// readUnfinished reads the frames of an attached container, and shows what follows the last newline.
func readUnfinished(r io.Reader, now func() time.Time, show func(line []byte)) error {
	var frame []byte
	var text [3][]byte // by stream
	shown, since, taken := false, now(), 0
	for {
		stream, next, err := readFrame(r, frame)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		frame = next

		if now().Sub(since) > attachPeriod {
			since, taken = now(), 0
		}
		if taken += len(frame); taken > attachBudget {
			return errTooMuchOutput
		}

		line := &text[stream]
		*line = appendUnfinished(*line, frame)
		if len(*line) > 0 || shown {
			shown = len(*line) > 0
			show(stamped(*line, now()))
		}
	}
}

// appendUnfinished adds output to an unfinished line.
func appendUnfinished(line, output []byte) []byte {
	if i := bytes.LastIndexByte(output, '\n'); i >= 0 {
		line, output = line[:0], output[i+1:]
	}
	line = logline.Compact(append(line, output...))
	if excess := len(line) - maxUnfinished; excess > 0 {
		line = append(line[:0], line[excess:]...)
	}

	return line
}

// stamped returns a line as Logs would write it, or nothing if it is empty.
func stamped(line []byte, at time.Time) []byte {
	if len(line) == 0 {
		return nil
	}
	out := append(at.UTC().AppendFormat(nil, driver.LogTimeFormat), ' ')

	return append(out, logline.Resolve(bytes.Clone(line))...)
}
