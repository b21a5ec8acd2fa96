package driver

import (
	"fmt"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// ExitReason puts an exit code into words; "" for 0.
func ExitReason(code int) string {
	switch {
	case code == 0:
		return ""
	case code > 128 && code < 128+65:
		return SignalReason(syscall.Signal(code - 128))
	}
	return fmt.Sprintf("exited with code %d", code)
}

// killed tells whether an exit code is that of a run which a signal from outside ended: nothing else is known to send SIGKILL
// and SIGTERM.
func IsKillCode(code int) bool { return code == 128+int(unix.SIGKILL) || code == 128+int(unix.SIGTERM) }

func SignalReason(sig syscall.Signal) string {
	if name := unix.SignalName(sig); name != "" {
		return fmt.Sprintf("killed by signal %d (%s)", int(sig), name)
	}
	return fmt.Sprintf("killed by signal %d", int(sig))
}

// StartFailureReason is the reason of a run whose program could not be started.
func StartFailureReason(cause string) string {
	return "the command could not be started: " + strings.TrimSpace(cause)
}
