package process_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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

func processOptions(t testing.TB, allowed ...string) process.Options {
	dir := filepath.Join(t.TempDir(), "runs")
	t.Cleanup(func() { endSupervisor(t, dir) })
	return process.Options{
		Dir: dir, AllowedCommands: append(allowed, prog.path), Supervisor: []string{os.Args[0], "supervise"},
	}
}

// TestProcessLimits checks that a command leaves no core files and may open a bounded number of files.
func TestProcessLimits(t *testing.T) {
	t.Parallel()
	var before syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before))
	d := drivertest.RemoveAllAfter(t, newProcess(t, processOptions(t)))
	spec := driver.Spec{Name: "test-" + rand.Text(), Command: []string{prog.path, "limits"}}
	drivertest.Launch(t, t.Context(), d, spec)
	require.Equal(t, 0, drivertest.Await(t, t.Context(), d, spec.Name).Code)
	require.Equal(t, []string{"0", fmt.Sprint(min(before.Max, 16384))},
		drivertest.Logs(t, t.Context(), d, spec.Name, true))
}

// killedWorker starts a container and waits until it is killed. Its arguments are DIR PROG NAME ARG...
func killedWorker(args []string) int {
	r, err := process.New(process.Options{
		Dir: args[0], AllowedCommands: args[1:2], Supervisor: []string{os.Args[0], "supervise"},
	})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	ctx := context.Background()
	name := args[2]
	spec := driver.Spec{Name: name, Command: append([]string{args[1]}, args[3:]...)}
	if _, err := r.Create(ctx, spec); err != nil {
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

// supervisorPID returns the id of the process that holds the supervisor's lock, or 0.
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

// endSupervisor ends all processes that hold the directory's lock file, and waits until they are gone.
func endSupervisor(t testing.TB, dir string) {
	require.Eventually(t, func() bool {
		pid := supervisorPID(t, dir)
		if pid != 0 {
			_ = syscall.Kill(pid, syscall.SIGTERM) // it fails only if the process just ended
		}
		return pid == 0
	}, 20*time.Second, 5*time.Millisecond, "the supervisor exits")
}

func TestProcessOneSupervisor(t *testing.T) {
	t.Parallel()
	opts := processOptions(t)
	// The path is longer than a socket address permits.
	opts.Dir = filepath.Join(opts.Dir, strings.Repeat("d", 120))
	t.Cleanup(func() { endSupervisor(t, opts.Dir) })
	started := filepath.Join(t.TempDir(), "ready")
	const count = 6
	var group sync.WaitGroup
	var mu sync.Mutex
	parents := map[string]bool{}
	for range count {
		group.Go(func() {
			r, err := process.New(opts)
			if err != nil {
				t.Error(err)
				return
			}
			spec := processSpec("wait", started)
			if _, err := r.Create(t.Context(), spec); err != nil {
				t.Error(err)
				return
			}
			if err := r.Start(t.Context(), spec.Name); err != nil {
				t.Error(err)
				return
			}
			parent, err := parentOf(filepath.Join(opts.Dir, spec.Name))
			mu.Lock()
			parents[parent] = true
			if len(parents) > 1 || err != nil {
				t.Errorf("parents %v, %v", parents, err)
			}
			mu.Unlock()
		})
	}
	group.Wait()
	drivertest.Touch(t, started)
	r := newProcess(t, opts)
	containers, err := r.List(t.Context())
	require.NoError(t, err)
	require.Len(t, containers, count)
	for _, c := range containers {
		require.Equal(t, 0, drivertest.Await(t, t.Context(), r, c.Name).Code)
		require.NoError(t, r.Remove(t.Context(), c.Name))
	}
}

// parentOf returns the parent of a container's process.
func parentOf(folder string) (string, error) {
	raw, err := os.ReadFile(filepath.Join(folder, "pid.json"))
	if err != nil {
		return "", err
	}
	var record struct{ PID int }
	if err := json.Unmarshal(raw, &record); err != nil {
		return "", err
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", record.PID))
	if err != nil {
		return "", err
	}
	return strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))[1], nil
}

func TestProcessAllowedCommands(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	target, link, foreign := filepath.Join(dir, "target"), filepath.Join(dir,
		"link"), filepath.Join(dir, "foreign")
	// Not a copy: a process that another test has just forked may still write it, and so it could not run.
	require.NoError(t, os.Link(prog.path, target))
	require.NoError(t, os.Symlink(target, link))
	require.NoError(t, os.Symlink(link, foreign))
	r := newProcess(t, processOptions(t, link))
	drivertest.RemoveAllAfter(t, r)
	for command, ok := range map[string]bool{
		prog.path: true, link: true, filepath.Join(dir, "x/../link"): true, foreign: true, target: true,
		"/bin/sh": false, "prog": false, "": false, filepath.Join(dir, "none"): false, prog.path + "x": false,
	} {
		spec := processSpec()
		spec.Command = []string{command, "exit", "0"}
		_, err := r.Create(t.Context(), spec)
		if ok {
			require.NoError(t, err, command)
			continue
		}
		require.ErrorContains(t, err, "not allowed", command)
		require.True(t, driver.IsNonRetryable(err))
	}
	// The checked program runs, even if the requested link is changed afterwards.
	spec := processSpec()
	spec.Command = []string{foreign, "exit", "5"}
	_, err := r.Create(t.Context(), spec)
	require.NoError(t, err)
	require.NoError(t, os.Remove(foreign))
	require.NoError(t, os.Symlink("/bin/true", foreign))
	require.NoError(t, r.Start(t.Context(), spec.Name))
	require.Equal(t, 5, drivertest.Await(t, t.Context(), r, spec.Name).Code)
}

// TestProcessSecrets searches all files for the environment, and checks their permissions.
func TestProcessSecrets(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	opts := processOptions(t)
	r := newProcess(t, opts)
	drivertest.RemoveAllAfter(t, r)
	secret := "secret-value"
	for _, stop := range []bool{false, true} {
		spec := processSpec("forever")
		spec.Env = map[string]string{"config.token": secret}
		_, err := r.Create(ctx, spec)
		require.NoError(t, err)
		require.Equal(t, []string{"env.json"}, filesWith(t, opts.Dir, secret))
		if stop {
			require.NoError(t, r.Stop(ctx, spec.Name, 0))
		} else {
			require.NoError(t, r.Start(ctx, spec.Name))
		}
		require.Empty(t, filesWith(t, opts.Dir, secret))
	}
}

func filesWith(t *testing.T, dir, text string) (names []string) {
	require.NoError(t, filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // the supervisor has renamed it
		}
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		require.NoError(t, err)
		require.Zero(t, info.Mode().Perm()&0o077, path)
		raw, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if strings.Contains(string(raw), text) {
			names = append(names, entry.Name())
		}
		return err
	}))
	return names
}

func TestProcessForeignFolder(t *testing.T) {
	t.Parallel()
	opts := processOptions(t)
	r := newProcess(t, opts)
	spec := processSpec("exit", "0")
	keep := filepath.Join(opts.Dir, spec.Name, "precious")
	require.NoError(t, os.MkdirAll(filepath.Dir(keep), 0o700))
	drivertest.Touch(t, keep)
	_, err := r.Create(t.Context(), spec)
	require.ErrorContains(t, err, "was not created by Hutong")
	require.True(t, driver.IsNonRetryable(err))
	require.Error(t, r.Remove(t.Context(), spec.Name))
	require.FileExists(t, keep)
}

// TestProcessLogIsBounded prints more than the driver stores.
func TestProcessLogIsBounded(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	opts := processOptions(t)
	opts.MaxLog = 400_000
	r := newProcess(t, opts)
	drivertest.RemoveAllAfter(t, r)
	spec := processSpec("lines", "50000", "print", "end")
	drivertest.Launch(t, ctx, r, spec)
	drivertest.Await(t, ctx, r, spec.Name)
	kept := drivertest.Logs(t, ctx, r, spec.Name, true)
	require.Equal(t, "end", kept[len(kept)-1])
	require.Equal(t, "line 49999 of many, to be seen in this order", kept[len(kept)-2])
	require.Less(t, len(kept), 10_000)
	require.Greater(t, len(kept), 1000)
	for i, line := range kept[:len(kept)-1] {
		require.Equal(t, fmt.Sprintf("line %d of many, to be seen in this order", 50_000-len(kept)+1+i), line)
	}
}

// TestProcessLeftovers checks that leftovers of an interrupted Create or Remove are deleted after a while.
// Recent ones and foreign files are kept.
func TestProcessLeftovers(t *testing.T) {
	t.Parallel()
	opts := processOptions(t)
	r := newProcess(t, opts)
	old := time.Now().Add(-2 * time.Hour)
	var want []string
	for _, name := range []string{".new-old", ".old-old", ".new-fresh", ".old-fresh", ".other-old"} {
		dir := filepath.Join(opts.Dir, name)
		require.NoError(t, os.Mkdir(dir, 0o700))
		drivertest.Touch(t, filepath.Join(dir, "env.json"))
		if strings.HasSuffix(name, "-old") {
			require.NoError(t, os.Chtimes(dir, old, old))
		}
		if strings.HasSuffix(name, "-fresh") || strings.HasPrefix(name, ".other") {
			want = append(want, dir)
		}
	}
	for range 2 {
		containers, err := r.List(t.Context())
		require.NoError(t, err)
		require.Empty(t, containers)
		left, err := filepath.Glob(filepath.Join(opts.Dir, ".[no]*-*"))
		require.NoError(t, err)
		require.ElementsMatch(t, want, left)
	}
}
