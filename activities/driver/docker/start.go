package docker

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

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

	// Docker Engine also starts an ended container. The lock keeps others from starting it between inspection
	// and start.
	unlock, err := d.locks.Lock(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()

	c, err := d.find(ctx, name, name)
	if err != nil {
		return err
	}

	exit, ended := exitOf(c)
	switch {
	case ended && exit.StartedAt.IsZero() && !exit.Killed && !isStoppedBeforeStart(c):
		return driver.NonRetryable(errors.New(exit.Reason))
	case ended || c.State.Running:
		return nil
	}

	if err := d.openLogPath(ctx, c); err != nil {
		return err
	}
	if err := d.openOutputs(ctx, c); err != nil {
		return err
	}

	// The request must not be cancelled: Docker Engine would continue with it, and the lock would be released
	// too early. The client has a timeout.
	err = d.calls.ContainerStart(context.WithoutCancel(ctx), c.ID, container.StartOptions{})
	d.outage.note(err, time.Now())
	if err == nil || isStartCutOff(err.Error()) {
		return nil // Wait reports a start that was cut off as the end
	}

	return d.startError(ctx, c.ID, err)
}

// startError classifies the error of a start. If the network is missing it removes the container.
func (d *Driver) startError(ctx context.Context, id string, err error) error {
	if isProgramFault(err.Error()) {
		return driver.NonRetryablef("%s", driver.StartFailureReason(trimStartError(err.Error())))
	}

	if !d.opts.HostNetwork && networkMissing.MatchString(err.Error()) {
		// The network was removed after the container was created. The container never ran. The next attempt
		// creates both again.
		d.forgetNetwork()

		options := container.RemoveOptions{RemoveVolumes: true}
		if removeErr := d.calls.ContainerRemove(context.WithoutCancel(ctx), id, options); removeErr != nil {
			return errors.Join(err, removeErr)
		}

		return fmt.Errorf("%w: %w", err, driver.ErrCreateAgain)
	}

	if cause := classify(err); !errors.Is(cause, driver.ErrNotFound) {
		return cause
	}

	return err // Docker Engine returns "not found" also for other things than containers
}

var networkMissing = regexp.MustCompile(`network \S+ not found`)

// programFault matches the container runtime's messages about a program that cannot be started. There are no
// codes.
var programFault = regexp.MustCompile(`exec:? (["/]|user process).*(executable file not found` +
	`|no such file or directory|not a directory|is a directory|permission denied|exec format error` +
	`|argument list too long)`)

func isProgramFault(message string) bool { return programFault.MatchString(message) }

// startCutOff matches Docker Engine's message about a container of which its runtime has a process, though
// Docker Engine has none on record: Docker Engine died while it started it.
var startCutOff = regexp.MustCompile(`\btask [0-9a-f]{64}: already exists`)

// isStartCutOff reports whether a message says that Docker Engine died while it started the container. It is
// unknown then whether the program ran, and Docker Engine refuses every further start.
func isStartCutOff(message string) bool { return startCutOff.MatchString(message) }

var runtimeNoise = regexp.MustCompile(`^(Error response from daemon: )?` +
	`((failed to create (task|shim)[^:]*|OCI runtime create failed|runc create failed` +
	`|container_linux\.go:\d+|unable to start container process|error during container init): )*` +
	`(starting container process caused: )?`)

// trimStartError reduces the runtime's message to the part about the program.
func trimStartError(message string) string {
	message = runtimeNoise.ReplaceAllString(message, "")

	return strings.TrimSuffix(strings.TrimSpace(message), ": unknown")
}
