package docker

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/docker/docker/api/types/container"

	"hutong/activities/driver"
)

// Logs writes the container's log. Docker Engine reads stdout and stderr separately, so lines written to both
// within microseconds may be swapped.
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
	for delay := time.Duration(0); ; delay = driver.NextReconnectDelay(delay) {
		// The first repetition has no delay: most likely the container has ended. Otherwise Docker Engine
		// went away while the container ran.
		if err := driver.Sleep(ctx, delay); err != nil {
			return err
		}

		complete, err := d.logsOnce(ctx, name, follow, out)
		if out.err != nil {
			return fmt.Errorf("failed to write the log: %w", out.err)
		}

		switch {
		case err == nil && complete:
			return out.finish()
		case err != nil && (!follow || !driver.ShouldReconnect(ctx, err)):
			return err
		}
	}
}

// logsOnce copies the log from its start, without what was copied before, and reports whether it is complete.
func (d *Driver) logsOnce(ctx context.Context, name string, follow bool, out *frameWriter,
) (complete bool, err error) {
	c, err := d.find(ctx, name, name)
	if err != nil {
		return false, err
	}

	if isStoppedBeforeStart(c) {
		return true, nil
	}

	// Only a log that is opened after the end is certain to be complete. When a container ends, Docker Engine
	// may close a followed log before its last lines were read.
	_, ended := exitOf(c)
	stream, err := d.stream.ContainerLogs(ctx, c.ID, container.LogsOptions{
		ShowStdout: true, ShowStderr: true, Timestamps: true, Follow: follow && !ended,
	})
	if err != nil {
		return false, classify(err)
	}
	defer func() { _ = stream.Close() }()

	out.restart()
	if err := out.copyFrom(stream); err != nil {
		return false, fmt.Errorf("read: %w", err)
	}

	return !follow || ended, nil
}

// waitStarted polls until the container was started or cannot be started. Docker Engine itself does not wait
// for that.
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
