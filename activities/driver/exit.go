package driver

import (
	"fmt"
	"strings"
	"syscall"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"
)

// ExitReason describes an exit code. It returns "" for 0.
func ExitReason(code int) string {
	switch {
	case code == 0:
		return ""
	case code > 128 && code < 128+65:
		return SignalReason(syscall.Signal(code - 128))
	}

	return fmt.Sprintf("exited with code %d", code)
}

// IsKillCode reports whether an exit code means that a signal from outside ended the program. Only SIGKILL
// and SIGTERM are known to be sent from outside.
func IsKillCode(code int) bool { return code == 128+int(unix.SIGKILL) || code == 128+int(unix.SIGTERM) }

// SignalReason describes the death by a signal.
func SignalReason(sig syscall.Signal) string {
	if name := unix.SignalName(sig); name != "" {
		return fmt.Sprintf("killed by signal %d (%s)", int(sig), name)
	}

	return fmt.Sprintf("killed by signal %d", int(sig))
}

// StartFailureReason describes why a program could not be started.
func StartFailureReason(cause string) string {
	return "the command could not be started: " + strings.TrimSpace(cause)
}

// OutOfMemoryReason describes that a container exceeded its memory limit, in bytes. 0 means that the limit is
// unknown.
func OutOfMemoryReason(limit int64) string {
	if limit <= 0 {
		return "out of memory"
	}

	return "out of memory: the limit is " + humanize.IBytes(uint64(limit))
}
