package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"hutong/test/testenv/ports"
)

// processes are the processes of parties that run as in production, each role apart, and of their Temporal
// server.
type processes struct {
	hutong   string // the program
	dir      string
	temporal string // the address of the server
	started  []*exec.Cmd
	kinds    []string // of each started process: its command
	watched  bool     // they serve metrics
	metrics  []string // of each started process: the address of its metrics, or ""
	profiled bool     // they serve profiles
	pprof    []string // of each started process: the address of its profiles, or ""
}

// startProcesses starts a Temporal server in a new folder. The caller must stop the processes, even after an
// error.
func startProcesses(ctx context.Context, hutong string) (p processes, err error) {
	p.hutong = hutong
	if p.dir, err = os.MkdirTemp("", "hutong-bench-"); err != nil {
		return p, err
	}
	if p.temporal, err = ports.Address(); err != nil {
		return p, err
	}
	_, port, err := net.SplitHostPort(p.temporal)
	if err != nil {
		return p, err
	}
	err = p.start("temporal", "--data-dir", filepath.Join(p.dir, "temporal"), "--port", port)
	if err != nil {
		return p, err
	}
	return p, awaitListener(ctx, p.temporal)
}

// start starts a process of hutong, whose log goes to the folder.
func (p *processes) start(args ...string) error {
	log, err := os.Create(filepath.Join(p.dir, fmt.Sprintf("%02d-%s.log", len(p.started), args[0])))
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	profiles := ""
	if p.profiled && args[0] != "temporal" {
		var err error
		if profiles, err = ports.Address(); err != nil {
			return err
		}
		args = append(slices.Clone(args), "--pprof", profiles)
	}
	cmd := exec.Command(p.hutong, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	cmd.Stdout, cmd.Stderr = log, log
	address := ""
	if p.watched && args[0] != "temporal" {
		if address, err = ports.Address(); err != nil {
			return err
		}
		cmd.Env = append(os.Environ(), "HUTONG_OPS_LISTEN="+address)
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	p.started, p.kinds = append(p.started, cmd), append(p.kinds, args[0])
	p.metrics, p.pprof = append(p.metrics, address), append(p.pprof, profiles)
	return nil
}

// run runs a command of hutong that must succeed, with a token or "".
func (p *processes) run(ctx context.Context, token string, args ...string) error {
	cmd := exec.CommandContext(ctx, p.hutong, args...)
	cmd.Env = append(os.Environ(), "HUTONG_TOKEN="+token)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("hutong %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// cpu returns the processor time of all processes so far, with that of the Temporal server.
func (p *processes) cpu() (total time.Duration) {
	for _, cmd := range p.started {
		total += cpuOf(cmd.Process.Pid)
	}
	return total
}

// cpuByKind returns the processor time of the processes so far, by their commands.
func (p *processes) cpuByKind() map[string]time.Duration {
	all := map[string]time.Duration{}
	for i, cmd := range p.started {
		all[p.kinds[i]] += cpuOf(cmd.Process.Pid)
	}
	return all
}

// stop stops all processes in the reverse order of the starts, and removes the folder.
func (p *processes) stop() {
	for _, cmd := range slices.Backward(p.started) {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		kill := time.AfterFunc(40*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		kill.Stop()
	}
	_ = os.RemoveAll(p.dir)
}

// await tries until there is no error, for a minute.
func await(ctx context.Context, what string, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w", what, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
