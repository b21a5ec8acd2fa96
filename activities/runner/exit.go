package runner

import (
	"fmt"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// exitReason puts an exit code into words; "" for 0.
func exitReason(code int) string {
	switch {
	case code == 0:
		return ""
	case code > 128 && code < 128+65:
		return signalReason(syscall.Signal(code - 128))
	}
	return fmt.Sprintf("exited with code %d", code)
}

func signalReason(sig syscall.Signal) string {
	if name := unix.SignalName(sig); name != "" {
		return fmt.Sprintf("killed by signal %d (%s)", int(sig), name)
	}
	return fmt.Sprintf("killed by signal %d", int(sig))
}

// startFailure is the reason of a run whose program could not be started.
func startFailure(cause string) string {
	return "the command could not be started: " + strings.TrimSpace(cause)
}
