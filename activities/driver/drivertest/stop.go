package drivertest

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/activities/driver"
)

func testStopGently(t *testing.T, ctx context.Context, d Fixture) {
	spec := d.Spec("term", "7", "print", "ready", "forever")
	Launch(t, ctx, d.Driver, spec)
	AwaitLine(t, ctx, d.Driver, spec.Name, "ready")
	began := time.Now()
	require.NoError(t, d.Driver.Stop(ctx, spec.Name, time.Minute))
	require.Less(t, time.Since(began), 50*time.Second)
	exit := Await(t, ctx, d.Driver, spec.Name)
	require.Equal(t, 7, exit.Code)
	if !d.Kubernetes { // where the log is deleted with the pod
		require.Equal(t, []string{"ready", "terminated"}, Logs(t, ctx, d.Driver, spec.Name, true))
	}
	require.NoError(t, d.Driver.Stop(ctx, spec.Name, time.Minute), "twice")
	require.Equal(t, exit, Await(t, ctx, d.Driver, spec.Name))
}

func testStopByForce(t *testing.T, ctx context.Context, d Fixture) {
	spec := d.Spec("ignoreterm", "print", "ready", "forever")
	Launch(t, ctx, d.Driver, spec)
	AwaitLine(t, ctx, d.Driver, spec.Name, "ready")
	began := time.Now()
	require.NoError(t, d.Driver.Stop(ctx, spec.Name, 300*time.Millisecond))
	require.GreaterOrEqual(t, time.Since(began), 300*time.Millisecond)
	exit := Await(t, ctx, d.Driver, spec.Name)
	require.Equal(t, 137, exit.Code)
	require.Equal(t, "killed by signal 9 (SIGKILL)", exit.Reason)
}

func testStopBeforeStart(t *testing.T, ctx context.Context, d Fixture) {
	dir := TempDir(t)
	spec := d.Spec()
	spec.Command = append(spec.Command, "append", d.Share(d.Driver, &spec, dir)+"/ran", "x")
	_, err := d.Driver.Create(ctx, spec)
	require.NoError(t, err)
	for range 2 {
		require.NoError(t, d.Driver.Stop(ctx, spec.Name, time.Minute))
		require.NoError(t, d.Another(t).Start(ctx, spec.Name))
		_, err = d.Another(t).Create(ctx, spec)
		require.NoError(t, err)
		require.NoError(t, d.Another(t).Start(ctx, spec.Name))
	}
	exit := Await(t, ctx, d.Driver, spec.Name)
	require.Equal(t, driver.StoppedExitCode, exit.Code)
	require.Equal(t, "stopped before it was started", exit.Reason)
	require.True(t, exit.StartedAt.IsZero())
	require.Empty(t, Logs(t, ctx, d.Driver, spec.Name, true))
	require.NoFileExists(t, filepath.Join(dir, "ran"))
	require.NoError(t, d.Driver.Remove(ctx, spec.Name))
	_, err = d.Driver.Wait(ctx, spec.Name)
	require.ErrorIs(t, err, driver.ErrNotFound)
	require.NoError(t, d.Driver.Stop(ctx, spec.Name, 0))
}

// testConcurrentStopAndStart races both calls. Whichever wins, the container must have ended after the stop.
func testConcurrentStopAndStart(t *testing.T, ctx context.Context, d Fixture) {
	for range 4 {
		spec := d.Spec("forever")
		_, err := d.Driver.Create(ctx, spec)
		require.NoError(t, err)
		started := make(chan error, 1)
		go func() { started <- d.Driver.Start(ctx, spec.Name) }()
		require.NoError(t, d.Another(t).Stop(ctx, spec.Name, 0))
		require.NoError(t, <-started)
		exit := Await(t, ctx, d.Driver, spec.Name)
		codes := []int{137, driver.StoppedExitCode}
		if d.Kubernetes {
			// The grace period is at least one second there, and a Go program ends with 2 at SIGTERM.
			codes = append(codes, 2)
		}
		require.Contains(t, codes, exit.Code)
	}
}

func testRemoveWhileRunning(t *testing.T, ctx context.Context, d Fixture) {
	spec := d.Spec("ignoreterm", "print", "ready", "forever")
	Launch(t, ctx, d.Driver, spec)
	waited := make(chan error, 1)
	go func() {
		_, err := d.Another(t).Wait(ctx, spec.Name)
		waited <- err
	}()
	AwaitLine(t, ctx, d.Driver, spec.Name, "ready")
	require.NoError(t, d.Driver.Remove(ctx, spec.Name))
	// Wait may have observed the end, or that the container is gone.
	if err := <-waited; err != nil {
		require.ErrorIs(t, err, driver.ErrNotFound)
	}
	containers, err := d.Driver.List(ctx)
	require.NoError(t, err)
	require.Empty(t, containers)
	// The name can be used again.
	Launch(t, ctx, d.Driver, spec)
	require.NoError(t, d.Driver.Remove(ctx, spec.Name))
}

// testNothingOutlivesTheCommand leaves a child process behind that would write to a file later.
func testNothingOutlivesTheCommand(t *testing.T, ctx context.Context, d Fixture) {
	dir := TempDir(t)
	spec := d.Spec()
	root := d.Share(d.Driver, &spec, dir) + "/"
	spec.Command = append(spec.Command, "child", "append", root+"there", "x", "wait", root+"go", "append",
		root+"survived", "x")
	// The parent exits when the child runs.
	spec.Command = append([]string{spec.Command[0], "until", root + "there"}, spec.Command[1:]...)
	Launch(t, ctx, d.Driver, spec)
	require.Equal(t, 0, Await(t, ctx, d.Driver, spec.Name).Code)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "go"), nil, 0o644))
	// A surviving child would write within 5 ms from now.
	require.Never(t, func() bool {
		_, err := os.Stat(filepath.Join(dir, "survived"))
		return err == nil
	}, 300*time.Millisecond, 20*time.Millisecond)
}
