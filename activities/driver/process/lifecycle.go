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
	lookFolder = 50 * time.Millisecond  // how often a run that does not run yet is looked at
	lookOrphan = 200 * time.Millisecond // how often a process is looked at whose supervisor died
)

const (
	reasonLost     = "the supervisor died, the exit code is unknown"
	reasonHostDown = "the host went down before the command was known to have ended; whether it ran is unknown"
)

// Start has the supervisor start the command, and starts the supervisor before if none is there.
func (p *Driver) Start(ctx context.Context, name string) error {
	return driver.WrapError("start", name, p.start(ctx, name))
}

func (p *Driver) start(ctx context.Context, name string) error {
	if err := driver.CheckName(name); err != nil {
		return err
	}
	state, exit, err := p.folder(name).look()
	if err != nil {
		return err
	}
	if state == driver.Created {
		return p.supervisor.start(ctx, name)
	}
	return exit.startError()
}

// startError is the permanent error that the start ended in, if it did.
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
		state, exit, err := f.look()
		switch {
		case err != nil:
			return driver.Exit{}, err
		case state == driver.Exited:
			return exit.Exit, nil
		case state == driver.Created:
			if err := driver.Sleep(ctx, lookFolder); err != nil {
				return driver.Exit{}, err
			}
			continue
		}
		if p.supervisor.wait(ctx, name) {
			continue // it wrote the end before it answered
		}
		if err := ctx.Err(); err != nil {
			return driver.Exit{}, err
		}
		if _, alive := f.process(); alive {
			if err := driver.Sleep(ctx, lookOrphan); err != nil {
				return driver.Exit{}, err
			}
			continue
		}
		ended, err := p.declareLost(ctx, f)
		if err != nil {
			return driver.Exit{}, err
		}
		if ended {
			continue // it had ended before the supervisor was asked
		}
		if err := driver.Sleep(ctx, lookFolder); err != nil {
			return driver.Exit{}, err
		}
	}
}

// declareLost ends a run that was started, that no supervisor knows and whose process is gone. It tells whether the run has
// ended, then or before.
func (p *Driver) declareLost(ctx context.Context, f folder) (ended bool, err error) {
	unlock, err := p.locks.Lock(ctx, f.name())
	if err != nil {
		return false, err
	}
	defer unlock()
	// The lock keeps a supervisor from starting it now; one that did before
	// knows it.
	state, _, err := f.look()
	if err != nil || state != driver.Running || p.supervisor.tracks(f.name()) {
		return state == driver.Exited, err
	}
	if _, alive := f.process(); alive {
		return false, nil
	}
	slog.WarnContext(ctx, "a process ended whose supervisor had died", "run", f.name())
	exit := driver.Exit{Code: driver.UnknownExitCode, Killed: true, Reason: reasonLost, FinishedAt: time.Now().UTC()}
	if info, err := os.Stat(f.path(startedFile)); err == nil {
		exit.StartedAt = info.ModTime().UTC()
	}
	return true, f.end(exitRecord{Exit: exit})
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
	running, err := p.forbidStart(ctx, name)
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

// signal signals the run's process group, if its leader still lives.
func (f folder) signal(sig syscall.Signal) {
	if pid, alive := f.process(); alive {
		_ = syscall.Kill(-pid, sig) // the only error is that it just ended
	}
}

// forbidStart makes sure that a run that was never started never will be, and
// says whether it runs.
func (p *Driver) forbidStart(ctx context.Context, name string) (running bool, err error) {
	unlock, err := p.locks.Lock(ctx, name)
	if err != nil {
		return false, err
	}
	defer unlock()
	f := p.folder(name)
	state, _, err := f.look()
	if err != nil || state != driver.Created {
		return state == driver.Running, err
	}
	return false, f.end(exitRecord{Exit: driver.Exit{Code: driver.StoppedExitCode, Reason: driver.ReasonStoppedBeforeStart, FinishedAt: time.Now().UTC()}})
}

// Remove removes the run's folder, and nothing of what its mounts lead to.
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
		trash, err := p.moveAway(ctx, name)
		if err != nil {
			return err
		}
		if trash != "" {
			return os.RemoveAll(trash)
		}
	}
}

// moveAway takes the name from a run that has ended, in one step.
func (p *Driver) moveAway(ctx context.Context, name string) (trash string, err error) {
	unlock, err := p.locks.Lock(ctx, name)
	if err != nil {
		return "", err
	}
	defer unlock()
	f := p.folder(name)
	if state, _, err := f.look(); err != nil || state != driver.Exited {
		// Gone, or made anew since it was stopped.
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
