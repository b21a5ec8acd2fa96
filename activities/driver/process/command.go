package process

import (
	"errors"
	"log/slog"
	"os"
	"syscall"
	"time"

	"hutong/activities/driver"
)

// drainTimeout is how long the supervisor still reads the output of an ended command if a process that left
// the command's group keeps the pipe open.
const drainTimeout = time.Second

// command is a container that the supervisor tracks.
type command struct {
	f     folder
	ended chan struct{} // closed when exit.json is written

	process   *os.Process
	startedAt time.Time
	output    *os.File // the supervisor's end of the pipe
	log       *logWriter
	drained   chan struct{} // closed when all output is logged
}

// start starts the command. It returns false without an error if the command must not start.
func (c *command) start() (started bool, err error) {
	spec, err := c.f.spec()
	if err != nil {
		return false, err
	}

	if spec.Boot != bootID() {
		return false, c.f.recordExit(exitRecord{Exit: driver.Exit{
			Code: driver.UnknownExitCode, Killed: true, Reason: reasonReboot, FinishedAt: time.Now().UTC(),
		}})
	}

	var env map[string]string
	if err := readJSON(c.f.path(envFile), &env); err != nil {
		return false, err
	}

	if c.log, err = newLogWriter(c.f, spec.MaxLog); err != nil {
		return false, err
	}
	output, input, err := os.Pipe()
	if err != nil {
		c.log.close()
		return false, err
	}
	defer func() { _ = input.Close() }()
	c.output = output

	if err = c.exec(spec.Command, env, input); err != nil {
		_ = output.Close()
		c.log.close()
		return false, err
	}
	_ = os.Remove(c.f.path(envFile))

	c.drained = make(chan struct{})
	go func() {
		_, _ = c.log.ReadFrom(c.output)
		close(c.drained)
	}()

	return true, nil
}

// exec starts the process. Before that it creates the file that prevents a second start.
func (c *command) exec(argv []string, env map[string]string, output *os.File) error {
	stdin, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer func() { _ = stdin.Close() }()

	mark, err := os.OpenFile(c.f.path(startedFile), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_ = mark.Close()

	c.startedAt = time.Now().UTC()
	c.process, err = os.StartProcess(argv[0], argv, &os.ProcAttr{
		Dir:   string(c.f),
		Env:   minimalEnviron(env, string(c.f)),
		Files: []*os.File{stdin, output, output},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return c.recordStartFailure(err)
	}

	stat, err := readStat(c.process.Pid)
	if err == nil {
		err = writeJSON(c.f.path(pidFile), pidRecord{PID: c.process.Pid, Ticks: stat.ticks, Boot: bootID()})
	}
	if err != nil {
		// It runs, and is found by its working directory.
		slog.Error("failed to record a process", "container", c.f.name(), "error", err)
	}

	return nil
}

// recordStartFailure records that the command cannot be started, unless the cause may be temporary.
func (c *command) recordStartFailure(cause error) error {
	exit := exitRecord{StartFailed: true, Exit: driver.Exit{
		Code:       driver.NotStartedExitCode,
		Reason:     driver.StartFailureReason(cause.Error()),
		FinishedAt: time.Now().UTC(),
	}}

	switch {
	case errors.Is(cause, syscall.ENOENT) || errors.Is(cause, syscall.ENOTDIR):
	case errors.Is(cause, syscall.EACCES) || errors.Is(cause, syscall.EPERM) ||
		errors.Is(cause, syscall.ENOEXEC):
		exit.Code = driver.NotExecutableExitCode
	case errors.Is(cause, syscall.E2BIG):
		exit.Code = driver.NotExecutableExitCode
		exit.Reason += " (environment and arguments together are too large)"
	default:
		// It never ran, so it may be started again.
		return errors.Join(cause, os.Remove(c.f.path(startedFile)))
	}

	if err := c.f.recordExit(exit); err != nil {
		return err
	}

	return exit.startError()
}

// finish waits for the command's end and records it after the last output.
func (c *command) finish() {
	state, err := c.process.Wait()
	exit := driver.Exit{StartedAt: c.startedAt, FinishedAt: time.Now().UTC()}

	switch status, _ := waitStatus(state); {
	case err != nil:
		exit.Code, exit.Reason = driver.UnknownExitCode, "failed to wait for the process: "+err.Error()
	case status.Signaled():
		exit.Code, exit.Reason = 128+int(status.Signal()), driver.SignalReason(status.Signal())
	default:
		exit.Code, exit.Reason = status.ExitStatus(), driver.ExitReason(status.ExitStatus())
	}
	exit.Killed = driver.IsKillCode(exit.Code)

	// As in a container, no process outlives the command.
	_ = syscall.Kill(-c.process.Pid, syscall.SIGKILL)

	select {
	case <-c.drained:
	case <-time.After(drainTimeout):
	}
	_ = c.output.Close()
	<-c.drained
	c.log.close()

	for {
		err := c.f.recordExit(exitRecord{Exit: exit, Usage: usageOf(state)})
		if err == nil {
			return
		}
		if _, statErr := os.Stat(string(c.f)); errors.Is(statErr, os.ErrNotExist) {
			return
		}

		// For example a full disk. No other process knows how the command ended.
		slog.Error("failed to record how a container ended; retrying", "container", c.f.name(), "error", err)
		time.Sleep(time.Second)
	}
}

func waitStatus(state *os.ProcessState) (syscall.WaitStatus, bool) {
	if state == nil {
		return 0, false
	}
	status, ok := state.Sys().(syscall.WaitStatus)

	return status, ok
}
