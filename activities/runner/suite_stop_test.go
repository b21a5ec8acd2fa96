package runner_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/activities/runner"
)

// ready waits until the run has printed the line.
func ready(t *testing.T, ctx context.Context, r runner.Driver, name, line string) {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	found := &finder{text: line, found: cancel}
	_ = r.Logs(ctx, name, true, found)
	require.True(t, found.seen(), "%q was not printed", line)
}

func TestStopGently(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context, d device) {
		spec := d.spec("term", "7", "print", "ready", "forever")
		begin(t, ctx, d.runner, spec)
		ready(t, ctx, d.runner, spec.Name, "ready")
		began := time.Now()
		require.NoError(t, d.runner.Stop(ctx, spec.Name, time.Minute))
		require.Less(t, time.Since(began), 50*time.Second)
		exit := end(t, ctx, d.runner, spec.Name)
		require.Equal(t, 7, exit.Code)
		if !d.k8s { // where the log goes with the pod
			require.Equal(t, []string{"ready", "terminated"}, logs(t, ctx, d.runner, spec.Name, true))
		}
		require.NoError(t, d.runner.Stop(ctx, spec.Name, time.Minute), "twice")
		require.Equal(t, exit, end(t, ctx, d.runner, spec.Name))
	})
}

func TestStopByForce(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context, d device) {
		spec := d.spec("ignoreterm", "print", "ready", "forever")
		begin(t, ctx, d.runner, spec)
		ready(t, ctx, d.runner, spec.Name, "ready")
		began := time.Now()
		require.NoError(t, d.runner.Stop(ctx, spec.Name, 300*time.Millisecond))
		require.GreaterOrEqual(t, time.Since(began), 300*time.Millisecond)
		exit := end(t, ctx, d.runner, spec.Name)
		require.Equal(t, 137, exit.Code)
		require.Equal(t, "killed by signal 9 (SIGKILL)", exit.Reason)
	})
}

func TestStopBeforeStart(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context, d device) {
		dir := tempDir(t)
		spec := d.spec()
		spec.Command = append(spec.Command, "append", d.share(d.runner, &spec, dir)+"/ran", "x")
		_, err := d.runner.Create(ctx, spec)
		require.NoError(t, err)
		for range 2 {
			require.NoError(t, d.runner.Stop(ctx, spec.Name, time.Minute))
			require.NoError(t, d.again(t).Start(ctx, spec.Name))
			_, err = d.again(t).Create(ctx, spec)
			require.NoError(t, err)
			require.NoError(t, d.again(t).Start(ctx, spec.Name))
		}
		exit := end(t, ctx, d.runner, spec.Name)
		require.Equal(t, runner.StoppedExitCode, exit.Code)
		require.Equal(t, "stopped before it was started", exit.Reason)
		require.True(t, exit.StartedAt.IsZero())
		require.Empty(t, logs(t, ctx, d.runner, spec.Name, true))
		require.NoFileExists(t, filepath.Join(dir, "ran"))
		require.NoError(t, d.runner.Remove(ctx, spec.Name))
		_, err = d.runner.Wait(ctx, spec.Name)
		require.ErrorIs(t, err, runner.ErrNotFound)
		require.NoError(t, d.runner.Stop(ctx, spec.Name, 0))
	})
}

// TestStopAgainstStart lets the two race: whoever wins, it must be ended after the stop.
func TestStopAgainstStart(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context, d device) {
		for range 4 {
			spec := d.spec("forever")
			_, err := d.runner.Create(ctx, spec)
			require.NoError(t, err)
			started := make(chan error, 1)
			go func() { started <- d.runner.Start(ctx, spec.Name) }()
			require.NoError(t, d.again(t).Stop(ctx, spec.Name, 0))
			require.NoError(t, <-started)
			exit := end(t, ctx, d.runner, spec.Name)
			codes := []int{137, runner.StoppedExitCode}
			if d.k8s {
				codes = append(codes, 2) // there is a grace period of a second always, and so a Go program's own end at SIGTERM
			}
			require.Contains(t, codes, exit.Code)
		}
	})
}

func TestRemoveWhileItRuns(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context, d device) {
		spec := d.spec("ignoreterm", "print", "ready", "forever")
		begin(t, ctx, d.runner, spec)
		waited := make(chan error, 1)
		go func() {
			_, err := d.again(t).Wait(ctx, spec.Name)
			waited <- err
		}()
		ready(t, ctx, d.runner, spec.Name, "ready")
		require.NoError(t, d.runner.Remove(ctx, spec.Name))
		// It may have seen the end, or that all is gone.
		if err := <-waited; err != nil {
			require.ErrorIs(t, err, runner.ErrNotFound)
		}
		runs, err := d.runner.List(ctx)
		require.NoError(t, err)
		require.Empty(t, runs)
		// The name is free again.
		begin(t, ctx, d.runner, spec)
		require.NoError(t, d.runner.Remove(ctx, spec.Name))
	})
}

// TestNothingOutlivesTheCommand leaves a child behind that would write later.
func TestNothingOutlivesTheCommand(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context, d device) {
		dir := tempDir(t)
		spec := d.spec()
		root := d.share(d.runner, &spec, dir) + "/"
		spec.Command = append(spec.Command, "child", "append", root+"there", "x", "wait", root+"go", "append", root+"survived", "x")
		// The parent ends when the child is there: two runs of arguments.
		spec.Command = append([]string{spec.Command[0], "until", root + "there"}, spec.Command[1:]...)
		begin(t, ctx, d.runner, spec)
		require.Equal(t, 0, end(t, ctx, d.runner, spec.Name).Code)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "go"), nil, 0o644))
		// A child that lived would write within 5 ms of this.
		require.Never(t, func() bool {
			_, err := os.Stat(filepath.Join(dir, "survived"))
			return err == nil
		}, 300*time.Millisecond, 20*time.Millisecond)
	})
}
