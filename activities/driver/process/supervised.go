package process

import (
	"errors"
	"log/slog"
	"os"
	"syscall"
	"time"

	"hutong/activities/driver"
)

// drainTime is how long the output of an ended command is still read when a
// process that left the command's group keeps it open.
const drainTime = time.Second

// running is a run under the supervisor's care.
type running struct {
	f     folder
	ended chan struct{} // closed when exit.json is there

	process   *os.Process
	startedAt time.Time
	output    *os.File // our end of the pipe
	log       *lineLog
	drained   chan struct{} // closed when all output is logged
}

// start starts the command. Without an error and not started means that it
// must not be.
func (r *running) start() (started bool, err error) {
	spec, err := r.f.spec()
	if err != nil {
		return false, err
	}
	if spec.Boot != bootID() {
		return false, r.f.end(exitRecord{Exit: driver.Exit{Code: driver.UnknownExitCode, Killed: true, Reason: reasonHostDown, FinishedAt: time.Now().UTC()}})
	}
	var env map[string]string
	if err := readJSON(r.f.path(envFile), &env); err != nil {
		return false, err
	}
	if r.log, err = newLineLog(r.f, spec.MaxLog); err != nil {
		return false, err
	}
	output, input, err := os.Pipe()
	if err != nil {
		r.log.close()
		return false, err
	}
	defer func() { _ = input.Close() }()
	r.output = output
	if err = r.exec(spec.Command, env, input); err != nil {
		_ = output.Close()
		r.log.close()
		return false, err
	}
	_ = os.Remove(r.f.path(envFile))
	r.drained = make(chan struct{})
	go func() {
		_, _ = r.log.ReadFrom(r.output)
		close(r.drained)
	}()
	return true, nil
}

// exec starts the process, after the mark that it will never be started again.
func (r *running) exec(command []string, env map[string]string, output *os.File) error {
	stdin, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer func() { _ = stdin.Close() }()
	mark, err := os.OpenFile(r.f.path(startedFile), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_ = mark.Close()
	r.startedAt = time.Now().UTC()
	r.process, err = os.StartProcess(command[0], command, &os.ProcAttr{
		Dir:   string(r.f),
		Env:   processEnviron(env, string(r.f)),
		Files: []*os.File{stdin, output, output},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return r.notStarted(err)
	}
	stat, err := readStat(r.process.Pid)
	if err == nil {
		err = writeJSON(r.f.path(pidFile), pidRecord{PID: r.process.Pid, Ticks: stat.ticks, Boot: bootID()})
	}
	if err != nil {
		// It runs, and will be found by its working directory.
		slog.Error("cannot record a process", "run", r.f.name(), "error", err)
	}
	return nil
}

// notStarted records that the command cannot be started, unless that may pass.
func (r *running) notStarted(cause error) error {
	exit := exitRecord{StartFailed: true, Exit: driver.Exit{Code: 127, Reason: driver.StartFailureReason(cause.Error()), FinishedAt: time.Now().UTC()}}
	switch {
	case errors.Is(cause, syscall.ENOENT) || errors.Is(cause, syscall.ENOTDIR):
	case errors.Is(cause, syscall.EACCES) || errors.Is(cause, syscall.EPERM) || errors.Is(cause, syscall.ENOEXEC):
		exit.Code = 126
	case errors.Is(cause, syscall.E2BIG):
		exit.Code = 126
		exit.Reason += " (environment and arguments together are too large)"
	default:
		// It never ran, so the mark may go.
		return errors.Join(cause, os.Remove(r.f.path(startedFile)))
	}
	if err := r.f.end(exit); err != nil {
		return err
	}
	return exit.startError()
}

// finish waits for the command's end and writes it down after the last of the output.
func (r *running) finish() {
	state, err := r.process.Wait()
	exit := driver.Exit{StartedAt: r.startedAt, FinishedAt: time.Now().UTC()}
	switch status, _ := waitStatus(state); {
	case err != nil:
		exit.Code, exit.Reason = driver.UnknownExitCode, "wait for the process: "+err.Error()
	case status.Signaled():
		exit.Code, exit.Reason = 128+int(status.Signal()), driver.SignalReason(status.Signal())
	default:
		exit.Code, exit.Reason = status.ExitStatus(), driver.ExitReason(status.ExitStatus())
	}
	exit.Killed = driver.IsKillCode(exit.Code)
	// As in a container, nothing outlives the command.
	_ = syscall.Kill(-r.process.Pid, syscall.SIGKILL)
	select {
	case <-r.drained:
	case <-time.After(drainTime):
	}
	_ = r.output.Close()
	<-r.drained
	r.log.close()
	for {
		err := r.f.end(exitRecord{Exit: exit})
		if err == nil {
			return
		}
		if _, statErr := os.Stat(string(r.f)); errors.Is(statErr, os.ErrNotExist) {
			return
		}
		// A full disk, say. Nobody else knows how it ended.
		slog.Error("cannot write how a run ended; trying again", "run", r.f.name(), "error", err)
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
