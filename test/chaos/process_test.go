package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestProcess checks that a killed program is restarted after its downtime, and that a stopped one is not.
func TestProcess(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "logs"), 0o755))
	p := launch(dir, "it", false,
		func() *exec.Cmd { return exec.Command("sh", "-c", "echo started; exec sleep 600") }, nil)
	starts := func() int {
		b, _ := os.ReadFile(p.log)
		return strings.Count(string(b), "started\n")
	}
	soon := func(what string, condition func() bool) {
		require.Eventually(t, condition, 20*time.Second, 2*time.Millisecond, what)
	}
	soon("the program starts", func() bool { return starts() == 1 })

	const down = 400 * time.Millisecond
	begun := time.Now()
	require.True(t, p.takeDown(syscall.SIGKILL, down))
	soon("the program starts again", func() bool { return starts() == 2 })
	require.GreaterOrEqual(t, time.Since(begun), down)

	require.True(t, p.signal(syscall.SIGSTOP))
	p.stop(20 * time.Second) // a paused program stops too
	select {
	case <-p.exited:
	default:
		t.Fatal("the program has not ended")
	}
	require.Equal(t, 2, starts())
	require.False(t, p.signal(syscall.SIGKILL), "no process is left to be killed")
}

// TestHeldProcess checks that a held program stays down, also if it was paused or another fault takes it
// down, until it is released.
func TestHeldProcess(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "logs"), 0o755))
	p := launch(dir, "it", false,
		func() *exec.Cmd { return exec.Command("sh", "-c", "echo started; exec sleep 600") }, nil)
	defer p.stop(20 * time.Second)
	starts := func() int {
		b, _ := os.ReadFile(p.log)
		return strings.Count(string(b), "started\n")
	}
	started := func(n int) {
		t.Helper()
		require.Eventually(t, func() bool { return starts() == n }, 20*time.Second, 2*time.Millisecond)
	}
	started(1)
	require.True(t, p.signal(syscall.SIGSTOP))
	p.hold(syscall.SIGTERM, 20*time.Second)
	require.Empty(t, p.program())
	require.False(t, p.takeDown(syscall.SIGKILL, 0), "nothing is left to take down")
	require.Never(t, func() bool { return starts() > 1 }, 3*restartPause, 10*time.Millisecond)
	p.release()
	started(2)
}
