package runner

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"
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
func (p *Process) Start(ctx context.Context, name string) error {
	return opError("start", name, p.start(ctx, name))
}

func (p *Process) start(ctx context.Context, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	state, exit, err := p.folder(name).look()
	if err != nil {
		return err
	}
	if state == Created {
		return p.supervisor.start(ctx, name)
	}
	return exit.startError()
}

// startError is the permanent error that the start ended in, if it did.
func (e exitRecord) startError() error {
	if e.StartFailed {
		return permanentError{errors.New(e.Reason)}
	}
	return nil
}

// Wait waits for the command's end.
func (p *Process) Wait(ctx context.Context, name string) (Exit, error) {
	exit, err := p.wait(ctx, name)
	return exit, opError("wait for", name, err)
}

func (p *Process) wait(ctx context.Context, name string) (Exit, error) {
	if err := checkName(name); err != nil {
		return Exit{}, err
	}
	f := p.folder(name)
	for {
		state, exit, err := f.look()
		switch {
		case err != nil:
			return Exit{}, err
		case state == Exited:
			return exit.Exit, nil
		case state == Created:
			if err := pause(ctx, lookFolder); err != nil {
				return Exit{}, err
			}
			continue
		}
		if p.supervisor.wait(ctx, name) {
			continue // it wrote the end before it answered
		}
		if err := ctx.Err(); err != nil {
			return Exit{}, err
		}
		if _, alive := f.process(); alive {
			if err := pause(ctx, lookOrphan); err != nil {
				return Exit{}, err
			}
			continue
		}
		ended, err := p.declareLost(ctx, f)
		if err != nil {
			return Exit{}, err
		}
		if ended {
			continue // it had ended before the supervisor was asked
		}
		if err := pause(ctx, lookFolder); err != nil {
			return Exit{}, err
		}
	}
}

// declareLost ends a run that was started, that no supervisor knows and whose process is gone. It tells whether the run has
// ended, then or before.
func (p *Process) declareLost(ctx context.Context, f folder) (ended bool, err error) {
	unlock, err := p.locks.lock(ctx, f.name())
	if err != nil {
		return false, err
	}
	defer unlock()
	// The lock keeps a supervisor from starting it now; one that did before
	// knows it.
	state, _, err := f.look()
	if err != nil || state != Running || p.supervisor.tracks(f.name()) {
		return state == Exited, err
	}
	if _, alive := f.process(); alive {
		return false, nil
	}
	slog.WarnContext(ctx, "a process ended whose supervisor had died", "run", f.name())
	exit := Exit{Code: UnknownExitCode, Killed: true, Reason: reasonLost, FinishedAt: time.Now().UTC()}
	if info, err := os.Stat(f.path(startedFile)); err == nil {
		exit.StartedAt = info.ModTime().UTC()
	}
	return true, f.end(exitRecord{Exit: exit})
}

// Stop stops the command and all processes of its group.
func (p *Process) Stop(ctx context.Context, name string, grace time.Duration) error {
	err := p.stop(ctx, name, grace)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return opError("stop", name, err)
}

func (p *Process) stop(ctx context.Context, name string, grace time.Duration) error {
	if err := checkName(name); err != nil {
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
func (p *Process) forbidStart(ctx context.Context, name string) (running bool, err error) {
	unlock, err := p.locks.lock(ctx, name)
	if err != nil {
		return false, err
	}
	defer unlock()
	f := p.folder(name)
	state, _, err := f.look()
	if err != nil || state != Created {
		return state == Running, err
	}
	return false, f.end(exitRecord{Exit: Exit{Code: StoppedExitCode, Reason: reasonNeverStarted, FinishedAt: time.Now().UTC()}})
}

// Remove removes the run's folder, and nothing of what its mounts lead to.
func (p *Process) Remove(ctx context.Context, name string) error {
	return opError("remove", name, p.remove(ctx, name))
}

func (p *Process) remove(ctx context.Context, name string) error {
	for {
		if err := p.stop(ctx, name, 0); errors.Is(err, ErrNotFound) {
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
func (p *Process) moveAway(ctx context.Context, name string) (trash string, err error) {
	unlock, err := p.locks.lock(ctx, name)
	if err != nil {
		return "", err
	}
	defer unlock()
	f := p.folder(name)
	if state, _, err := f.look(); err != nil || state != Exited {
		// Gone, or made anew since it was stopped.
		return "", ignoreNotFound(err)
	}
	trash = filepath.Join(p.opts.Dir, trashPrefix+rand.Text())
	return trash, os.Rename(string(f), trash)
}

func ignoreNotFound(err error) error {
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}
