package docker

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"golang.org/x/sys/unix"

	"hutong/activities/driver"
)

const (
	// pollCreated is the polling interval of a container that does not run yet. Docker Engine sends no event
	// when a start fails.
	pollCreated = 250 * time.Millisecond

	// oomDelay is how long to poll a killed container for the report that it exceeded its memory limit.
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

	oomLeft := oomDelay
	for {
		c, err := d.find(ctx, name, name)
		if err != nil {
			return driver.Exit{}, err
		}

		if exit, ok := exitOf(c); ok {
			// The report of an exceeded memory limit can reach Docker Engine after the end itself.
			if exit.Code != 128+9 || exit.OOMKilled || c.HostConfig.Memory == 0 || oomLeft <= 0 {
				return d.unseen(exit), nil
			}
			oomLeft -= pollCreated
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
	exit.Killed = driver.IsKillCode(exit.Code) && !s.OOMKilled ||
		exit.Code == unseenCode && exit.StartedAt.Before(bootTime())

	if s.OOMKilled && exit.Code != 0 {
		exit.Reason = driver.OutOfMemoryReason(c.HostConfig.Memory)
	}
	if s.Error != "" && exit.Code != 0 {
		exit.Reason += ": " + s.Error
	}

	return exit, true
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
