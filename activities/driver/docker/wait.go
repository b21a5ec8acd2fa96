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
	// lookCreated is how often a container that does not run yet is looked at,
	// since the Engine tells nobody when it fails to start.
	lookCreated = 250 * time.Millisecond
	// oomPatience is how long a container that was killed is asked whether its limit of memory was why.
	oomPatience = 2 * time.Second
)

// Wait waits for the container's end.
func (d *Driver) Wait(ctx context.Context, name string) (driver.Exit, error) {
	if err := driver.CheckName(name); err != nil {
		return driver.Exit{}, driver.WrapError("wait for", name, err)
	}
	for delay := driver.MinReconnectDelay; ; delay = min(2*delay, driver.MaxReconnectDelay) {
		exit, err := d.waitOnce(ctx, name)
		if err == nil || !driver.ShouldReconnect(ctx, err) {
			return exit, driver.WrapError("wait for", name, err)
		}
		if delay == driver.MinReconnectDelay {
			slog.WarnContext(ctx, "lost the Docker Engine while waiting for a container; trying until it is back", "run", name, "node_id", d.opts.NodeID, "error", err)
		}
		if err := driver.Sleep(ctx, delay); err != nil {
			return driver.Exit{}, driver.WrapError("wait for", name, err)
		}
	}
}

func (d *Driver) waitOnce(ctx context.Context, name string) (driver.Exit, error) {
	ctx, cancel := context.WithCancel(ctx)
	// Asking before looking leaves no gap through which the end could slip.
	ended, failed := d.stream.ContainerWait(ctx, name, container.WaitConditionNextExit)
	answered := false
	defer func() {
		cancel()
		if !answered {
			// The client's goroutine must get rid of the answer that nobody wants any more.
			go func() {
				select {
				case <-ended:
				case <-failed:
				}
			}()
		}
	}()
	patience := oomPatience
	for {
		c, err := d.find(ctx, name, name)
		if err != nil {
			return driver.Exit{}, err
		}
		if exit, ok := exitOf(c); ok {
			// That memory was the reason can reach the Engine after the end itself.
			if exit.Code != 128+9 || exit.OOMKilled || c.HostConfig.Memory == 0 || patience <= 0 {
				return exit, nil
			}
			patience -= lookCreated
		}
		look := driver.PollRunning
		if !c.State.Running || answered {
			look = lookCreated
		}
		timer := time.NewTimer(look)
		select {
		case <-ended:
			// Another round finds the end, or an Engine that still has to write it down.
			answered, ended = true, nil
		case err := <-failed:
			answered = true
			timer.Stop()
			if cerrdefs.IsNotFound(err) {
				return driver.Exit{}, classify(err)
			}
			return driver.Exit{}, fmt.Errorf("wait: %w", err)
		case <-timer.C:
		}
		timer.Stop()
	}
}

// exitOf tells how the container ended, if it did.
func exitOf(c container.InspectResponse) (driver.Exit, bool) {
	s := c.State
	exit := driver.Exit{Code: s.ExitCode, OOMKilled: s.OOMKilled, StartedAt: parseTime(s.StartedAt), FinishedAt: parseTime(s.FinishedAt)}
	switch {
	case stoppedBeforeStart(c):
		exit.Code, exit.Reason = driver.StoppedExitCode, driver.ReasonStoppedBeforeStart
		exit.FinishedAt = parseTime(c.Created)
		return exit, true
	case s.Running || s.Paused || s.Restarting:
		return driver.Exit{}, false
	case exit.StartedAt.IsZero():
		if !programMissing(s.Error) {
			return driver.Exit{}, false // never started; if that was tried, it can be tried again
		}
		if exit.Code == 0 {
			exit.Code = 127
		}
		exit.Reason = driver.StartFailureReason(cleanStartError(s.Error))
		return exit, true
	}
	if exit.FinishedAt.Before(exit.StartedAt) {
		// The Engine's clock readings: it notes the start when it hears of it.
		exit.FinishedAt = exit.StartedAt
	}
	exit.Reason = driver.ExitReason(exit.Code)
	exit.Killed = driver.IsKillCode(exit.Code) && !s.OOMKilled || exit.Code == codeUnseen && exit.StartedAt.Before(bootTime())
	if s.OOMKilled && exit.Code != 0 {
		exit.Reason = "out of memory"
		if limit := c.HostConfig.Memory; limit > 0 {
			exit.Reason = fmt.Sprintf("out of memory: the limit is %d bytes", limit)
		}
	}
	if s.Error != "" && exit.Code != 0 {
		exit.Reason += ": " + s.Error
	}
	return exit, true
}

// parseTime reads the Engine's times; year 1 is its word for never.
func parseTime(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || t.Year() <= 1 {
		return time.Time{}
	}
	return t.UTC()
}

func stoppedBeforeStart(c container.InspectResponse) bool { return c.Config.Labels[labelStopped] != "" }

// codeUnseen is what Docker writes down for a container whose end it did not see, such as one that a reboot ended.
const codeUnseen = 255

// bootTime is when this machine began to run, at the latest.
func bootTime() time.Time {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return time.Time{}
	}
	// Clocks are set while a machine runs.
	return time.Now().Add(-time.Duration(info.Uptime)*time.Second - 30*time.Second)
}
