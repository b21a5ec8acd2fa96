package process

import (
	"fmt"
	"log/slog"
	"syscall"
)

// openFiles limits the open files of a command's processes.
const openFiles = 16384

// limitResources limits this process, and so the commands that it starts: they leave no core files, which may
// hold data of a task, and open a bounded number of files. Other limits would count all processes of the
// user.
func limitResources() {
	core := syscall.Rlimit{}
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &core); err != nil {
		slog.Warn("failed to forbid core files of commands", "error", err)
	}

	if err := limitFiles(); err != nil {
		slog.Warn("failed to limit the open files of commands", "error", err)
	}
}

func limitFiles() error {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return fmt.Errorf("failed to read the limit of open files: %w", err)
	}
	files.Max = min(files.Max, openFiles)
	files.Cur = files.Max

	return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &files)
}
