package docker

import (
	"context"
	"errors"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"

	"hutong/activities/driver"
)

// Stop stops the container. As the first process of a container, a program without a handler of SIGTERM
// ignores it and runs for the whole grace period.
func (d *Driver) Stop(ctx context.Context, name string, grace time.Duration) error {
	err := d.stop(ctx, name, grace)
	if errors.Is(err, driver.ErrNotFound) {
		return nil
	}

	return driver.WrapError("stop", name, err)
}

func (d *Driver) stop(ctx context.Context, name string, grace time.Duration) error {
	if err := driver.CheckName(name); err != nil {
		return err
	}

	running, err := d.preventStart(ctx, name)
	if err != nil || !running {
		return err
	}

	if grace > 0 {
		if err := d.signal(ctx, name, "SIGTERM"); err != nil {
			return err
		}

		waitCtx, cancel := context.WithTimeout(ctx, grace)
		_, err := d.Wait(waitCtx, name)
		cancel()
		if err == nil || !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			return err
		}
	}

	if err := d.signal(ctx, name, "SIGKILL"); err != nil {
		return err
	}
	_, err = d.Wait(ctx, name)

	return err
}

// signal sends a signal. It ignores that the container has ended in the meantime.
func (d *Driver) signal(ctx context.Context, name, signal string) error {
	err := d.calls.ContainerKill(ctx, name, signal)
	if cerrdefs.IsConflict(err) {
		return nil
	}

	return classify(err)
}

// preventStart ensures that a container that was never started cannot start later, and reports whether it
// runs.
//
// Docker Engine can neither label an existing container nor refuse a start. So a placeholder container,
// created only to carry the label, replaces this one under its name.
func (d *Driver) preventStart(ctx context.Context, name string) (running bool, err error) {
	unlock, err := d.locks.Lock(ctx, name)
	if err != nil {
		return false, err
	}
	defer unlock()

	marker := name + markerSuffix
	c, err := d.find(ctx, name, name)
	if errors.Is(err, driver.ErrNotFound) {
		// An interrupted stop may have left the placeholder under its first name.
		if c, err = d.find(ctx, name, marker); err != nil {
			return false, err
		}

		return false, classify(d.calls.ContainerRename(ctx, c.ID, name))
	}
	if err != nil {
		return false, err
	}

	if _, ended := exitOf(c); ended || c.State.Running {
		return !ended, nil
	}

	labels := d.labels(driver.Spec{Name: name, Labels: specLabels(c.Config.Labels)})
	labels[labelStopped] = "true"
	_, err = d.calls.ContainerCreate(ctx,
		&container.Config{Image: c.Image, Cmd: []string{"never started"}, Labels: labels},
		&container.HostConfig{NetworkMode: "none"}, nil, nil, marker)
	if err != nil && !cerrdefs.IsConflict(err) {
		return false, classify(err)
	}

	if err := d.removeByID(ctx, c.ID); err != nil {
		return false, err
	}

	return false, classify(d.calls.ContainerRename(ctx, marker, name))
}

// markerSuffix ends the placeholder's name until the container's name is free. Create refuses names that end
// in it.
const markerSuffix = ".stopped-before-start"

// Remove removes the container.
func (d *Driver) Remove(ctx context.Context, name string) error {
	return driver.WrapError("remove", name, d.remove(ctx, name))
}

func (d *Driver) remove(ctx context.Context, name string) error {
	if err := driver.CheckName(name); err != nil {
		return err
	}

	unlock, err := d.locks.Lock(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()

	// A container that is already being removed keeps its name until it is gone, so this waits for it, too.
	c, err := d.inspectOwned(ctx, name, name)
	if errors.Is(err, driver.ErrNotFound) {
		c, err = d.inspectOwned(ctx, name, name+markerSuffix)
	}
	if errors.Is(err, driver.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}

	return d.removeByID(ctx, c.ID)
}

// removeByID kills and removes the container and returns when it is gone.
func (d *Driver) removeByID(ctx context.Context, id string) error {
	for {
		err := d.calls.ContainerRemove(ctx, id, container.RemoveOptions{Force: true, RemoveVolumes: true})
		switch {
		case err == nil || cerrdefs.IsNotFound(err):
			return nil
		case !cerrdefs.IsConflict(err):
			return classify(err)
		}

		// Another request already removes it. Repeat until it is gone.
		if err := driver.Sleep(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}
