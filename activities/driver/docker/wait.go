package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	"golang.org/x/sys/unix"

	"hutong/activities/driver"
)

const (
	// pollCreated is the polling interval of a container that does not run yet. Docker Engine sends no event
	// when a start fails.
	pollCreated = 250 * time.Millisecond

	// oomDelay is how long Docker Engine may take to report that a killed container exceeded its limit.
	oomDelay = 2 * time.Second

	// unseenCode is the exit code that Docker Engine records if it did not observe the end, for example after
	// a reboot.
	unseenCode = 255
)

// Wait waits for the container's end.
func (d *Driver) Wait(ctx context.Context, name string) (driver.Exit, error) {
	if err := driver.CheckName(name); err != nil {
		return driver.Exit{}, driver.WrapError("wait for", name, err)
	}

	for delay := driver.MinReconnectDelay; ; delay = driver.NextReconnectDelay(delay) {
		exit, err := d.waitOnce(ctx, name)
		if err == nil || !driver.ShouldReconnect(ctx, err) {
			return exit, driver.WrapError("wait for", name, err)
		}

		if delay == driver.MinReconnectDelay {
			slog.WarnContext(ctx,
				"lost the connection to Docker Engine while waiting for a container; reconnecting",
				"container", name, "node_id", d.opts.NodeID, "error", err)
		}

		if err := driver.Sleep(ctx, delay); err != nil {
			return driver.Exit{}, driver.WrapError("wait for", name, err)
		}
	}
}

func (d *Driver) waitOnce(ctx context.Context, name string) (driver.Exit, error) {
	ctx, cancel := context.WithCancel(ctx)

	// The wait is requested before the inspection, so that an end between the two is not missed.
	ended, failed := d.stream.ContainerWait(ctx, name, container.WaitConditionNextExit)
	answered := false
	defer func() {
		cancel()

		if !answered {
			// The client's goroutine blocks until somebody receives its answer.
			go func() {
				select {
				case <-ended:
				case <-failed:
				}
			}()
		}
	}()

	for {
		c, err := d.find(ctx, name, name)
		if err != nil {
			return driver.Exit{}, err
		}

		if exit, ok := exitOf(c); ok {
			if exit.Code != 128+9 || exit.OOMKilled || c.HostConfig.Memory == 0 {
				return d.unseen(exit), nil
			}

			exceeded, err := d.exceededMemory(ctx, c.ID, exit.StartedAt)
			if err != nil {
				return driver.Exit{}, err
			}
			if exceeded {
				setOutOfMemory(&exit, c)
			}

			return d.unseen(exit), nil
		}

		interval := driver.PollRunning
		if !c.State.Running || answered {
			interval = pollCreated
		}

		timer := time.NewTimer(interval)
		select {
		case <-ended:
			// The next inspection returns the end, unless Docker Engine has not recorded it yet.
			answered, ended = true, nil
		case err := <-failed:
			answered = true
			timer.Stop()
			d.outage.note(err, time.Now())

			if cerrdefs.IsNotFound(err) {
				return driver.Exit{}, classify(err)
			}

			return driver.Exit{}, fmt.Errorf("wait: %w", err)
		case <-timer.C:
		}
		timer.Stop()
	}
}

// exceededMemory reports whether Docker Engine knows that a container that has ended exceeded its memory
// limit. Kernel and containerd report that and the end itself independently. When the end comes first, the
// container's state never has it, but an event does.
func (d *Driver) exceededMemory(ctx context.Context, id string, startedAt time.Time) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, oomDelay+requestTimeout)
	defer cancel()

	reported, ended := d.stream.Events(ctx, events.ListOptions{
		Since: startedAt.Add(-time.Second).Format(time.RFC3339Nano),
		Until: time.Now().Add(oomDelay).Format(time.RFC3339Nano),
		Filters: filters.NewArgs(filters.Arg("type", string(events.ContainerEventType)),
			filters.Arg("container", id), filters.Arg("event", string(events.ActionOOM))),
	})

	select {
	case <-reported:
		return true, nil
	case err := <-ended:
		if err != nil && !errors.Is(err, io.EOF) {
			return false, fmt.Errorf("read the container's events: %w", err)
		}

		return false, nil
	}
}

// exitOf returns how the container ended, and false if it has not ended.
func exitOf(c container.InspectResponse) (driver.Exit, bool) {
	s := c.State
	exit := driver.Exit{
		Code: s.ExitCode, OOMKilled: s.OOMKilled,
		StartedAt: parseTime(s.StartedAt), FinishedAt: parseTime(s.FinishedAt),
	}

	switch {
	case isStoppedBeforeStart(c):
		exit.Code, exit.Reason = driver.StoppedExitCode, driver.ReasonStoppedBeforeStart
		exit.FinishedAt = parseTime(c.Created)

		return exit, true
	case s.Running || s.Paused || s.Restarting:
		return driver.Exit{}, false
	case exit.StartedAt.IsZero() && isStartCutOff(s.Error):
		exit.Code, exit.Killed, exit.FinishedAt = unseenCode, true, parseTime(c.Created)
		exit.Reason = "Docker Engine died while it started the container; whether its program ran is unknown"

		return exit, true
	case exit.StartedAt.IsZero():
		if !isProgramFault(s.Error) {
			return driver.Exit{}, false // never started; a failed start can be retried
		}

		if exit.Code == 0 {
			exit.Code = driver.NotStartedExitCode
		}
		exit.Reason = driver.StartFailureReason(trimStartError(s.Error))

		return exit, true
	}

	if exit.FinishedAt.Before(exit.StartedAt) {
		// Docker Engine records the start when it is notified of it, which can be after the end.
		exit.FinishedAt = exit.StartedAt
	}

	exit.Reason = driver.ExitReason(exit.Code)
	exit.Killed = driver.IsKillCode(exit.Code) ||
		exit.Code == unseenCode && exit.StartedAt.Before(bootTime())

	if s.OOMKilled {
		setOutOfMemory(&exit, c)
	} else if s.Error != "" && exit.Code != 0 {
		exit.Reason += ": " + s.Error
	}

	return exit, true
}

// setOutOfMemory records that the container exceeded its memory limit.
func setOutOfMemory(exit *driver.Exit, c container.InspectResponse) {
	exit.OOMKilled = true
	exit.Killed = exit.Killed && !driver.IsKillCode(exit.Code)
	if exit.Code == 0 {
		return
	}

	exit.Reason = driver.OutOfMemoryReason(c.HostConfig.Memory)
	if c.State.Error != "" {
		exit.Reason += ": " + c.State.Error
	}
}

// parseTime parses the times of Docker Engine. Year 1 means never.
func parseTime(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || t.Year() <= 1 {
		return time.Time{}
	}

	return t.UTC()
}

func isStoppedBeforeStart(c container.InspectResponse) bool {
	return c.Config.Labels[labelStopped] != ""
}

// bootTime returns a time at or shortly before the boot of this machine.
func bootTime() time.Time {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return time.Time{}
	}

	// The margin is for clocks that are set while the machine runs.
	return time.Now().Add(-time.Duration(info.Uptime)*time.Second - 30*time.Second)
}
