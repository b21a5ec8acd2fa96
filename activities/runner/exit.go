package runner

import (
	"fmt"
	"strings"
	"syscall"
	"time"

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

// killed tells whether an exit code is that of a run which a signal from outside ended: nothing else is known to send SIGKILL
// and SIGTERM.
func killed(code int) bool { return code == 128+int(unix.SIGKILL) || code == 128+int(unix.SIGTERM) }

// codeUnseen is what Docker writes down for a container whose end it did not see, such as one that a reboot ended.
const codeUnseen = 255

// bootTime is when this machine began to run, at the latest.
func bootTime() time.Time {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return time.Time{}
	}
	// Clocks are set while a machine runs.
	return time.Now().Add(-time.Duration(info.Uptime)*time.Second - 30*time.Second)
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
