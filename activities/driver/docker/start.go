package docker

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/docker/docker/api/types/container"

	"hutong/activities/driver"
)

// Start starts the container.
func (d *Driver) Start(ctx context.Context, name string) error {
	return driver.WrapError("start", name, d.start(ctx, name))
}

func (d *Driver) start(ctx context.Context, name string) error {
	if err := driver.CheckName(name); err != nil {
		return err
	}
	// The Engine starts an ended container again when asked to, so nobody may
	// start it between our look and our start.
	unlock, err := d.locks.Lock(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	c, err := d.find(ctx, name, name)
	if err != nil {
		return err
	}
	if exit, ended := exitOf(c); ended && exit.StartedAt.IsZero() && !stoppedBeforeStart(c) {
		return driver.NonRetryable(errors.New(exit.Reason))
	} else if ended || c.State.Running {
		return nil
	}
	// Not interrupted, since the Engine would go on without us and the lock
	// would be given back too early. The client has a timeout.
	err = d.calls.ContainerStart(context.WithoutCancel(ctx), c.ID, container.StartOptions{})
	if err == nil {
		return nil
	}
	if programMissing(err.Error()) {
		return driver.NonRetryablef("%s", driver.StartFailureReason(cleanStartError(err.Error())))
	}
	if !d.opts.HostNetwork && networkMissing.MatchString(err.Error()) {
		// Removed under our feet. The container never ran; the next attempt makes
		// it anew, on a new network.
		d.forgetNetwork()
		if removed := d.calls.ContainerRemove(context.WithoutCancel(ctx), c.ID, container.RemoveOptions{RemoveVolumes: true}); removed != nil {
			return errors.Join(err, removed)
		}
		return fmt.Errorf("%w: %w", err, driver.ErrCreateAgain)
	}
	if cause := classify(err); !errors.Is(cause, driver.ErrNotFound) {
		return cause
	}
	return err // the Engine says "not found" of more than containers
}

var networkMissing = regexp.MustCompile(`network \S+ not found`)

// The words of the container runtime for a program that cannot be started as
// it is; there are no codes for it.
var programFault = regexp.MustCompile(`exec:? (["/]|user process).*(executable file not found|no such file or directory|not a directory|is a directory|permission denied|exec format error|argument list too long)`)

func programMissing(message string) bool { return programFault.MatchString(message) }

var runtimeNoise = regexp.MustCompile(`^(Error response from daemon: )?((failed to create (task|shim)[^:]*|OCI runtime create failed|runc create failed|container_linux\.go:\d+|unable to start container process|error during container init): )*(starting container process caused: )?`)

// cleanStartError leaves of the runtime's message the part about the program.
func cleanStartError(message string) string {
	message = runtimeNoise.ReplaceAllString(message, "")
	return strings.TrimSuffix(strings.TrimSpace(message), ": unknown")
}
