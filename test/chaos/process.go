package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// process is a program that is restarted whenever it ends, as an init system would.
type process struct {
	name    string
	log     string
	group   bool // signals go to its whole process group
	command func() *exec.Cmd
	clean   func() // before each start

	mu        sync.Mutex
	cmd       *exec.Cmd
	downUntil time.Time // it is not started before
	stopping  bool
	held      bool // it is not started until it is released
	starts    int
	changed   chan struct{}
	exited    chan struct{} // closed when it will never run again
}

// restartPause is the delay before a program that ended on its own is restarted.
const restartPause = 500 * time.Millisecond

func launch(dir, name string, group bool, build func() *exec.Cmd, clean func()) *process {
	p := &process{name: name, log: filepath.Join(dir, "logs", name+".log"), group: group, command: build,
		clean: clean, changed: make(chan struct{}, 1), exited: make(chan struct{})}
	go p.supervise()
	return p
}

func (p *process) supervise() {
	defer close(p.exited)
	for {
		p.mu.Lock()
		wait := time.Until(p.downUntil)
		if p.held {
			wait = holdPoll
		}
		if p.stopping {
			p.mu.Unlock()
			return
		}
		if wait > 0 {
			p.mu.Unlock()
			select {
			case <-time.After(wait):
			case <-p.changed:
			}
			continue
		}
		cmd, err := p.start()
		p.mu.Unlock()
		if err == nil {
			err = cmd.Wait()
		}
		p.mu.Lock()
		p.cmd = nil
		if p.downUntil.Before(time.Now()) && !p.stopping { // it ended on its own
			p.downUntil = time.Now().Add(restartPause)
		}
		p.note(fmt.Sprintf("ended: %v", err))
		p.mu.Unlock()
	}
}

// start starts the program, with its output added to its log; p.mu is held.
func (p *process) start() (*exec.Cmd, error) {
	if p.clean != nil {
		p.clean()
	}
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer func() { _ = out.Close() }()
	cmd := p.command()
	cmd.Stdout, cmd.Stderr = out, out
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	p.starts++
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("failed to start %s: %w", p.name, err)
	}
	p.cmd = cmd
	return cmd, nil
}

func (p *process) note(text string) {
	if out, err := os.OpenFile(p.log, os.O_APPEND|os.O_WRONLY, 0); err == nil {
		_, _ = fmt.Fprintf(out, "== chaos %s: %s\n", time.Now().UTC().Format(time.RFC3339Nano), text)
		_ = out.Close()
	}
}

// signal sends a signal, and reports whether there was a process to receive it.
func (p *process) signal(s syscall.Signal) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.signalLocked(s)
}

func (p *process) signalLocked(s syscall.Signal) bool {
	if p.cmd == nil {
		return false
	}
	pid := p.cmd.Process.Pid
	if p.group {
		pid = -pid
	}
	p.note("signal " + s.String())
	return syscall.Kill(pid, s) == nil
}

// takeDown ends the program with a signal, and restarts it no earlier than after a while.
func (p *process) takeDown(s syscall.Signal, down time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held {
		return false
	}
	p.downUntil = time.Now().Add(down)
	return p.signalLocked(s)
}

// holdPoll is the interval at which a held program is signalled, and looks whether it was released.
const holdPoll = 50 * time.Millisecond

// hold ends the program with a signal and keeps it from starting until it is released. It returns once the
// program has ended. It kills it when it has not ended in time. Another fault may pause the program
// meanwhile.
func (p *process) hold(s syscall.Signal, within time.Duration) {
	end := time.Now().Add(within)
	p.mu.Lock()
	p.held = true
	for first := true; p.cmd != nil; first = false {
		if pid := p.cmd.Process.Pid; first {
			p.signalLocked(s)
		} else if time.Now().After(end) {
			p.signalLocked(syscall.SIGKILL)
		} else {
			_ = syscall.Kill(pid, syscall.SIGCONT) // it may have just ended
		}
		p.mu.Unlock()
		time.Sleep(holdPoll)
		p.mu.Lock()
	}
	p.mu.Unlock()
}

// release lets a held program start.
func (p *process) release() {
	p.mu.Lock()
	p.held, p.downUntil = false, time.Time{}
	p.mu.Unlock()
}

// stop ends the program for good. It kills it when it has not ended in time.
func (p *process) stop(within time.Duration) {
	p.mu.Lock()
	p.stopping = true
	p.signalLocked(syscall.SIGCONT)
	p.signalLocked(syscall.SIGTERM)
	p.mu.Unlock()
	select {
	case p.changed <- struct{}{}:
	default:
	}
	select {
	case <-p.exited:
	case <-time.After(within):
		p.signal(syscall.SIGKILL)
		<-p.exited
	}
}

// program returns the path of the program that runs, or "".
func (p *process) program() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return ""
	}
	return p.cmd.Path
}

// tail returns the end of the program's log.
func (p *process) tail() string {
	b, _ := os.ReadFile(p.log)
	return string(b[max(0, len(b)-3000):])
}
