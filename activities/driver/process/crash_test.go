package process_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/activities/driver"
	"hutong/activities/driver/drivertest"
	"hutong/activities/driver/process"
)

func newProcess(t *testing.T, opts process.Options) *process.Driver {
	r, err := process.New(opts)
	require.NoError(t, err)
	return r
}

func processSpec(args ...string) driver.Spec {
	return driver.Spec{Name: "test-" + rand.Text(), Command: append([]string{prog.path}, args...)}
}

// TestProcessOutlivesWorker kills the worker that started the container and its supervisor.
func TestProcessOutlivesWorker(t *testing.T) {
	t.Parallel()
	opts := processOptions(t)
	file := filepath.Join(t.TempDir(), "go")
	name := "test-" + rand.Text()
	worker := exec.Command(os.Args[0], "worker", opts.Dir, prog.path, name, "print", "before", "wait", file,
		"print", "after", "exit", "9")
	out, err := worker.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, worker.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "started\n", line)
	require.NoError(t, worker.Process.Kill())
	require.Error(t, worker.Wait())

	r := newProcess(t, opts)
	containers, err := r.List(t.Context())
	require.NoError(t, err)
	require.Len(t, containers, 1)
	require.Equal(t, driver.Running, containers[0].State)
	require.NoError(t, r.Start(t.Context(), name))
	drivertest.AwaitLine(t, t.Context(), r, name, "before")
	drivertest.Touch(t, file)
	exit := drivertest.Await(t, t.Context(), r, name)
	require.Equal(t, 9, exit.Code)
	require.Equal(t, []string{"before", "after"}, drivertest.Logs(t, t.Context(), r, name, true))
	require.NoError(t, r.Remove(t.Context(), name))
}

// TestProcessOutlivesSupervisor kills the supervisor of containers of every state.
func TestProcessOutlivesSupervisor(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	opts := processOptions(t)
	r := newProcess(t, opts)
	drivertest.RemoveAllAfter(t, r)
	dir := t.TempDir()
	created := processSpec("exit", "2")
	_, err := r.Create(ctx, created)
	require.NoError(t, err)
	ended := processSpec("exit", "3")
	drivertest.Launch(t, ctx, r, ended)
	require.Equal(t, 3, drivertest.Await(t, ctx, r, ended.Name).Code)
	waiting := processSpec("append", dir+"/1", "x", "wait", dir+"/go", "append", dir+"/ran", "x")
	drivertest.Launch(t, ctx, r, waiting)
	stopped := processSpec("append", dir+"/2", "x", "forever")
	drivertest.Launch(t, ctx, r, stopped)
	dead := processSpec("append", dir+"/3", "x", "wait", dir+"/die")
	drivertest.Launch(t, ctx, r, dead)
	for _, file := range []string{"/1", "/2", "/3"} {
		waitFile(t, dir+file)
	}
	exits := make(chan driver.Exit, 1)
	var group sync.WaitGroup
	group.Go(func() { // waits while the supervisor dies
		exit, err := r.Wait(ctx, waiting.Name)
		if err != nil {
			t.Error(err)
		}
		exits <- exit
	})
	killSupervisor(t, opts.Dir)

	require.Equal(t, 3, drivertest.Await(t, ctx, r, ended.Name).Code)
	drivertest.Touch(t, dir+"/die")
	exit := drivertest.Await(t, ctx, r, dead.Name)
	require.Equal(t, driver.UnknownExitCode, exit.Code)
	require.Equal(t, "the supervisor died, the exit code is unknown", exit.Reason)
	// A new supervisor is started for the created container. It does not track the others.
	require.NoError(t, r.Start(ctx, created.Name))
	require.Equal(t, 2, drivertest.Await(t, ctx, r, created.Name).Code)
	require.NoError(t, r.Start(ctx, waiting.Name))
	requireRunning(t, r, waiting.Name, stopped.Name)
	require.NoError(t, r.Stop(ctx, stopped.Name, time.Minute))
	require.Equal(t, driver.UnknownExitCode, drivertest.Await(t, ctx, r, stopped.Name).Code)
	select {
	case exit := <-exits:
		t.Fatalf("Wait returned while the container still ran: %+v", exit)
	default:
	}
	drivertest.Touch(t, dir+"/go")
	group.Wait()
	require.Equal(t, driver.UnknownExitCode, (<-exits).Code)
	ran, err := os.ReadFile(dir + "/ran")
	require.NoError(t, err)
	require.Equal(t, "x", string(ran))
	for _, name := range []string{waiting.Name, dead.Name} {
		require.Empty(t, drivertest.Logs(t, ctx, r, name, true))
	}
}

// killSupervisor kills the supervisor of a directory and waits until it is gone.
func killSupervisor(t *testing.T, dir string) {
	pid := supervisorPID(t, dir)
	require.NotZero(t, pid)
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	require.Eventually(t, func() bool { return supervisorPID(t, dir) == 0 }, 10*time.Second, time.Millisecond)
}

// requireRunning checks that the given containers run, and that all others have exited.
func requireRunning(t *testing.T, d *process.Driver, running ...string) {
	containers, err := d.List(t.Context())
	require.NoError(t, err)
	for _, c := range containers {
		want := driver.Exited
		if slices.Contains(running, c.Name) {
			want = driver.Running
		}
		require.Equal(t, want, c.State, c.Name)
	}
}

// TestProcessInterruptedStart recreates the state after a supervisor was killed before and after it started
// the process.
func TestProcessInterruptedStart(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	opts := processOptions(t)
	r := newProcess(t, opts)
	drivertest.RemoveAllAfter(t, r)
	spec := processSpec("exit", "0")
	_, err := r.Create(ctx, spec)
	require.NoError(t, err)
	drivertest.Touch(t, filepath.Join(opts.Dir, spec.Name, "started"))
	require.NoError(t, r.Start(ctx, spec.Name))
	require.Equal(t, driver.UnknownExitCode, drivertest.Await(t, ctx, r, spec.Name).Code)

	spec = processSpec("forever")
	_, err = r.Create(ctx, spec)
	require.NoError(t, err)
	folder := filepath.Join(opts.Dir, spec.Name)
	drivertest.Touch(t, filepath.Join(folder, "started"))
	orphan := exec.Command(prog.path, "forever")
	orphan.Dir, orphan.SysProcAttr = folder, &syscall.SysProcAttr{Setsid: true}
	require.NoError(t, orphan.Start())
	ended := make(chan error, 1)
	go func() { ended <- orphan.Wait() }()
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	_, err = r.Wait(short, spec.Name)
	require.ErrorIs(t, err, context.DeadlineExceeded, "the process is found by its working directory")
	require.NoError(t, r.Stop(ctx, spec.Name, 0))
	require.ErrorContains(t, <-ended, "killed")
}

// TestProcessAfterReboot starts a container that was created before a reboot.
func TestProcessAfterReboot(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	opts := processOptions(t)
	r := newProcess(t, opts)
	drivertest.RemoveAllAfter(t, r)
	file := filepath.Join(t.TempDir(), "ran")
	spec := processSpec("append", file, "x")
	_, err := r.Create(ctx, spec)
	require.NoError(t, err)
	path := filepath.Join(opts.Dir, spec.Name, "spec.json")
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	require.NoError(t, err)
	changed := strings.Replace(string(raw), strings.TrimSpace(string(boot)), "an earlier boot", 1)
	require.NotEqual(t, string(raw), changed)
	require.NoError(t, os.WriteFile(path, []byte(changed), 0o600))
	require.NoError(t, r.Start(ctx, spec.Name))
	exit := drivertest.Await(t, ctx, r, spec.Name)
	require.Equal(t, driver.UnknownExitCode, exit.Code)
	require.Contains(t, exit.Reason, "the machine rebooted")
	require.NoFileExists(t, file)
}

func waitFile(t *testing.T, file string) {
	t.Helper()
	require.Eventually(t, func() bool { _, err := os.Stat(file); return err == nil }, 30*time.Second,
		5*time.Millisecond)
}
