package interop

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// process is a program with its output in a file.
type process struct {
	name   string
	cmd    *exec.Cmd
	log    string
	exited chan struct{}
}

// launch starts a program; it is killed at the end of the tests. Its output is added to logs/<name>.log.
func launch(t *testing.T, dir, name string, env []string, program string, args ...string) *process {
	t.Helper()
	p := &process{name: name, log: filepath.Join(dir, "logs", name+".log"), exited: make(chan struct{})}
	require.NoError(t, os.MkdirAll(filepath.Dir(p.log), 0o750))
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	defer func() { _ = out.Close() }()
	p.cmd = exec.Command(program, args...)
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = dir, out, out
	p.cmd.Env = append(os.Environ(), env...)
	// It must not outlive this process, however that ends.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	require.NoError(t, p.cmd.Start(), "failed to start %s", name)
	go func() {
		_ = p.cmd.Wait()
		close(p.exited)
	}()
	atExit(func() { p.stop(5 * time.Second) })
	return p
}

func (p *process) running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

func (p *process) signal(s syscall.Signal) {
	if p.running() {
		_ = syscall.Kill(-p.cmd.Process.Pid, s)
	}
}

// stop asks the program to end, and kills it after a grace period.
func (p *process) stop(grace time.Duration) {
	p.signal(syscall.SIGTERM)
	p.signal(syscall.SIGCONT)
	select {
	case <-p.exited:
	case <-time.After(grace):
		p.kill()
	}
}

// kill ends the program with SIGKILL.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.exited
}

// tail returns the end of the program's output.
func (p *process) tail() string {
	b, _ := os.ReadFile(p.log)
	if n := len(b); n > 4000 {
		b = b[n-4000:]
	}
	return string(b)
}

// await waits until ready returns true, and fails when the program ends before.
func (p *process) await(t *testing.T, limit time.Duration, ready func() bool) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for !ready() {
		if !p.running() || time.Now().After(deadline) {
			t.Fatalf("%s is not ready after %s (running: %v); its log %s ends:\n%s", p.name, limit,
				p.running(), p.log, p.tail())
		}
		time.Sleep(50 * time.Millisecond)
	}
}
