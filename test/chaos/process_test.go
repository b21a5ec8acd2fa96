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
