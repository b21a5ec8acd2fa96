package runner_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/activities/runner"
)

func processOptions(t testing.TB, allowed ...string) runner.ProcessOptions {
	dir := filepath.Join(t.TempDir(), "runs")
	t.Cleanup(func() { endSupervisor(t, dir) })
	return runner.ProcessOptions{
		Dir: dir, AllowedCommands: append(allowed, prog.path), Supervisor: []string{os.Args[0], "supervise"},
	}
}

func touch(t *testing.T, file string) {
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Error(err)
	}
}

// killedWorker is a worker that starts a run and waits, to be killed: DIR PROG NAME ARG...
func killedWorker(args []string) int {
	r, err := runner.NewProcess(runner.ProcessOptions{
		Dir: args[0], AllowedCommands: args[1:2], Supervisor: []string{os.Args[0], "supervise"},
	})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	ctx := context.Background()
	name := args[2]
	if _, err := r.Create(ctx, runner.Spec{Name: name, Command: append([]string{args[1]}, args[3:]...)}); err != nil {
		fmt.Println(err)
		return 1
	}
	if err := r.Start(ctx, name); err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("started")
	_, err = r.Wait(ctx, name)
	fmt.Println("not killed:", err)
	return 1
}

// supervisorPID is the process that holds the supervisor's lock, or 0.
func supervisorPID(t testing.TB, dir string) int {
	info, err := os.Stat(filepath.Join(dir, ".supervisor.lock"))
	if err != nil {
		return 0
	}
	files, err := filepath.Glob("/proc/[0-9]*/fd/*")
	require.NoError(t, err)
	for _, file := range files {
		if there, err := os.Stat(file); err == nil && os.SameFile(info, there) {
			var pid int
			_, err := fmt.Sscanf(file, "/proc/%d/", &pid)
			require.NoError(t, err)
			if pid != os.Getpid() {
				return pid
			}
		}
	}
	return 0
}

// endSupervisor ends the directory's supervisor and waits until it is gone.
func endSupervisor(t testing.TB, dir string) {
	pid := supervisorPID(t, dir)
	if pid == 0 {
		return
	}
	require.NoError(t, syscall.Kill(pid, syscall.SIGTERM))
	require.Eventually(t, func() bool { return supervisorPID(t, dir) == 0 }, 20*time.Second, 5*time.Millisecond, "the supervisor ends")
}
