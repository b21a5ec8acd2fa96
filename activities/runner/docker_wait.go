package runner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
)

const (
	// lookCreated is how often a container that does not run yet is looked at,
	// since the Engine tells nobody when it fails to start.
	lookCreated = 250 * time.Millisecond
	// oomPatience is how long a container that was killed is asked whether its limit of memory was why.
	oomPatience = 2 * time.Second
	// lookRunning is the net below the Engine's own notice.
	lookRunning = time.Minute

	reconnectFirst, reconnectMax = 100 * time.Millisecond, 5 * time.Second
)

// Wait waits for the container's end.
func (d *Docker) Wait(ctx context.Context, name string) (Exit, error) {
	if err := checkName(name); err != nil {
		return Exit{}, opError("wait for", name, err)
	}
	for delay := reconnectFirst; ; delay = min(2*delay, reconnectMax) {
		exit, err := d.waitOnce(ctx, name)
		if err == nil || !reconnectable(ctx, err) {
			return exit, opError("wait for", name, err)
		}
		if delay == reconnectFirst {
			slog.WarnContext(ctx, "lost the Docker Engine while waiting for a container; trying until it is back", "run", name, "node_id", d.opts.NodeID, "error", err)
		}
		if err := pause(ctx, delay); err != nil {
			return Exit{}, opError("wait for", name, err)
		}
	}
}

func reconnectable(ctx context.Context, err error) bool {
	return ctx.Err() == nil && !errors.Is(err, ErrNotFound) && !IsPermanent(err)
}

func (d *Docker) waitOnce(ctx context.Context, name string) (Exit, error) {
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
			return Exit{}, err
		}
		if exit, ok := exitOf(c); ok {
			// That memory was the reason can reach the Engine after the end itself.
			if exit.Code != 128+9 || exit.OOMKilled || c.HostConfig.Memory == 0 || patience <= 0 {
				return exit, nil
			}
			patience -= lookCreated
		}
		look := lookRunning
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
				return Exit{}, dockerCause(err)
			}
			return Exit{}, fmt.Errorf("wait: %w", err)
		case <-timer.C:
		}
		timer.Stop()
	}
}

// exitOf tells how the container ended, if it did.
func exitOf(c container.InspectResponse) (Exit, bool) {
	s := c.State
	exit := Exit{Code: s.ExitCode, OOMKilled: s.OOMKilled, StartedAt: parseTime(s.StartedAt), FinishedAt: parseTime(s.FinishedAt)}
	switch {
	case stoppedEarly(c):
		exit.Code, exit.Reason = StoppedExitCode, reasonNeverStarted
		exit.FinishedAt = parseTime(c.Created)
		return exit, true
	case s.Running || s.Paused || s.Restarting:
		return Exit{}, false
	case exit.StartedAt.IsZero():
		if !programMissing(s.Error) {
			return Exit{}, false // never started; if that was tried, it can be tried again
		}
		if exit.Code == 0 {
			exit.Code = 127
		}
		exit.Reason = startFailure(cleanStartError(s.Error))
		return exit, true
	}
	if exit.FinishedAt.Before(exit.StartedAt) {
		// The Engine's clock readings: it notes the start when it hears of it.
		exit.FinishedAt = exit.StartedAt
	}
	exit.Reason = exitReason(exit.Code)
	exit.Killed = killed(exit.Code) && !s.OOMKilled || exit.Code == codeUnseen && exit.StartedAt.Before(bootTime())
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

func stoppedEarly(c container.InspectResponse) bool { return c.Config.Labels[labelStopped] != "" }
