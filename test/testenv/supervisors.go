package testenv

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// EndSupervisors ends the supervisors of process drivers below a folder, and waits until they have ended. A
// supervisor outlives its party, since containers may still run, and stays for an idle minute. Call it after
// the party has stopped.
func EndSupervisors(t testing.TB, dir string) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		left, err := supervisors(dir)
		if err != nil {
			t.Errorf("failed to find the supervisors below %s: %v", dir, err)
			return
		}
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("the supervisors %v of %s do not end on SIGTERM: a container still runs", left, dir)
			return
		}
		for _, pid := range left {
			if err := syscall.Kill(pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
				t.Errorf("failed to end supervisor %d: %v", pid, err)
				return
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// supervisors returns the process ids of the supervisors of folders below dir.
func supervisors(dir string) ([]int, error) {
	if dir == "" {
		return nil, errors.New("dir is empty")
	}
	found, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil, fmt.Errorf("failed to list the processes: %w", err)
	}
	var pids []int
	for _, path := range found {
		content, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		args := strings.Split(string(bytes.TrimRight(content, "\x00")), "\x00")
		if len(args) != 3 || args[1] != "supervise" ||
			!strings.HasPrefix(filepath.Clean(args[2]), filepath.Clean(dir)+"/") {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			return nil, err
		}
		pids = append(pids, pid)
	}
	return pids, nil
}
