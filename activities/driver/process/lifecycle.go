package process

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"hutong/activities/driver"
)

const (
	pollFolder = 50 * time.Millisecond  // polling interval of a container that does not run yet
	pollOrphan = 200 * time.Millisecond // polling interval of a process whose supervisor died
)

const (
	reasonLost   = "the supervisor died, the exit code is unknown"
	reasonReboot = "the machine rebooted before the command's end was recorded; whether it ran is unknown"
)

// Start starts the command by the supervisor, and the supervisor first if it does not run.
func (p *Driver) Start(ctx context.Context, name string) error {
	return driver.WrapError("start", name, p.start(ctx, name))
}

func (p *Driver) start(ctx context.Context, name string) error {
	if err := driver.CheckName(name); err != nil {
		return err
	}

	state, exit, err := p.folder(name).state()
	if err != nil {
		return err
	}
	if state == driver.Created {
		return p.supervisor.start(ctx, name)
	}

	return exit.startError()
}

// startError returns the non-retryable error of a failed start, or nil.
func (e exitRecord) startError() error {
	if e.StartFailed {
		return driver.NonRetryable(errors.New(e.Reason))
	}

	return nil
}

// Wait waits for the command's end.
func (p *Driver) Wait(ctx context.Context, name string) (driver.Exit, error) {
	exit, err := p.wait(ctx, name)

	return exit, driver.WrapError("wait for", name, err)
}

func (p *Driver) wait(ctx context.Context, name string) (driver.Exit, error) {
	if err := driver.CheckName(name); err != nil {
		return driver.Exit{}, err
	}

	f := p.folder(name)
	for {
		state, exit, err := f.state()
		switch {
		case err != nil:
			return driver.Exit{}, err
		case state == driver.Exited:
			return exit.Exit, nil
		}

		interval := pollFolder
		if state == driver.Running {
			if interval, err = p.awaitSupervised(ctx, f); err != nil {
				return driver.Exit{}, err
			}
		}

		if interval > 0 {
			if err := driver.Sleep(ctx, interval); err != nil {
				return driver.Exit{}, err
			}
		}
	}
}

// awaitSupervised waits for the end of a started container as long as a supervisor tracks it. It returns
// after which interval to check the state again. 0 means that the end is recorded.
func (p *Driver) awaitSupervised(ctx context.Context, f folder) (time.Duration, error) {
	if p.supervisor.wait(ctx, f.name()) {
		return 0, nil // the supervisor records the end before it answers
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}

	if _, alive := f.process(); alive {
		return pollOrphan, nil
	}

	ended, err := p.declareLost(ctx, f)
	if err != nil || ended {
		return 0, err
	}

	return pollFolder, nil
}

// declareLost records the end of a container that was started, that no supervisor tracks and whose process is
// gone. It reports whether the container has ended, now or before.
func (p *Driver) declareLost(ctx context.Context, f folder) (ended bool, err error) {
	unlock, err := p.locks.Lock(ctx, f.name())
	if err != nil {
		return false, err
	}
	defer unlock()

	// The lock prevents a supervisor from starting it now. One that started it before tracks it.
	state, _, err := f.state()
	if err != nil || state != driver.Running || p.supervisor.tracks(f.name()) {
		return state == driver.Exited, err
	}
	if _, alive := f.process(); alive {
		return false, nil
	}

	slog.WarnContext(ctx, "a process ended after its supervisor had died", "container", f.name())
	exit := driver.Exit{
		Code: driver.UnknownExitCode, Killed: true, Reason: reasonLost, FinishedAt: time.Now().UTC(),
	}
	if info, err := os.Stat(f.path(startedFile)); err == nil {
		exit.StartedAt = info.ModTime().UTC()
	}

	return true, f.recordExit(exitRecord{Exit: exit})
}

// Stop stops the command and all processes of its group.
func (p *Driver) Stop(ctx context.Context, name string, grace time.Duration) error {
	err := p.stop(ctx, name, grace)
	if errors.Is(err, driver.ErrNotFound) {
		return nil
	}

	return driver.WrapError("stop", name, err)
}

func (p *Driver) stop(ctx context.Context, name string, grace time.Duration) error {
	if err := driver.CheckName(name); err != nil {
		return err
	}

	running, err := p.preventStart(ctx, name)
	if err != nil || !running {
		return err
	}

	f := p.folder(name)
	if grace > 0 {
		f.signal(syscall.SIGTERM)

		waitCtx, cancel := context.WithTimeout(ctx, grace)
		_, err := p.Wait(waitCtx, name)
		cancel()
		if err == nil || waitCtx.Err() == nil || ctx.Err() != nil {
			return err
		}
	}

	f.signal(syscall.SIGKILL)
	_, err = p.Wait(ctx, name)

	return err
}

// signal signals the container's process group if its leader is alive.
func (f folder) signal(sig syscall.Signal) {
	if pid, alive := f.process(); alive {
		_ = syscall.Kill(-pid, sig) // it fails only if the process just ended
	}
}

// preventStart ensures that a container that was never started cannot start later, and reports whether it
// runs.
func (p *Driver) preventStart(ctx context.Context, name string) (running bool, err error) {
	unlock, err := p.locks.Lock(ctx, name)
	if err != nil {
		return false, err
	}
	defer unlock()

	f := p.folder(name)
	state, _, err := f.state()
	if err != nil || state != driver.Created {
		return state == driver.Running, err
	}

	return false, f.recordExit(exitRecord{Exit: driver.Exit{
		Code: driver.StoppedExitCode, Reason: driver.ReasonStoppedBeforeStart, FinishedAt: time.Now().UTC(),
	}})
}

// Remove removes the container's folder. It does not touch the sources of its mounts.
func (p *Driver) Remove(ctx context.Context, name string) error {
	return driver.WrapError("remove", name, p.remove(ctx, name))
}

func (p *Driver) remove(ctx context.Context, name string) error {
	for {
		if err := p.stop(ctx, name, 0); errors.Is(err, driver.ErrNotFound) {
			return nil
		} else if err != nil {
			return err
		}

		trash, err := p.moveToTrash(ctx, name)
		if err != nil {
			return err
		}
		if trash != "" {
			return os.RemoveAll(trash)
		}
	}
}

// moveToTrash renames the folder of a container that has ended, which frees its name atomically. It returns
// "" if the container is gone or was created again since it was stopped.
func (p *Driver) moveToTrash(ctx context.Context, name string) (trash string, err error) {
	unlock, err := p.locks.Lock(ctx, name)
	if err != nil {
		return "", err
	}
	defer unlock()

	f := p.folder(name)
	if state, _, err := f.state(); err != nil || state != driver.Exited {
		return "", ignoreNotFound(err)
	}
	trash = filepath.Join(p.opts.Dir, trashPrefix+rand.Text())

	return trash, os.Rename(string(f), trash)
}

func ignoreNotFound(err error) error {
	if errors.Is(err, driver.ErrNotFound) {
		return nil
	}

	return err
}
