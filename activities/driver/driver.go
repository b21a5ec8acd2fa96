package driver

import (
	"context"
	"io"
	"time"

	"hutong/bfia"
)

// Driver runs containers on one device of a runner. All methods are idempotent and safe for concurrent use,
// also by several processes of the runner that use the same device with the same options.
//
// Errors are [*Error] values. [IsNonRetryable] reports those that no retry can resolve.
type Driver interface {
	// Device returns "docker", "process" or "k8s".
	Device() string

	// RunnerID returns an id of the runner that survives restarts of the worker.
	RunnerID(ctx context.Context) (string, error)

	// Capacity returns the total resources that the runner has for containers of this device.
	Capacity(ctx context.Context) (Capacity, error)

	// StorageRoot returns the root of the file storage as the named container sees it. [Mount].Target is
	// relative to it.
	StorageRoot(name string) string

	// LogPath returns a folder to which the container can write its own log files (config.log.path). The
	// folder is deleted when the container is removed.
	LogPath(name string) string

	// ControlPort returns a port on which a new container may listen for status requests.
	ControlPort() (int, error)

	// Address returns the address at which this runner reaches a listening container. It returns ErrNotFound
	// if the container was removed or does not run.
	Address(ctx context.Context, name string) (string, error)

	// Create creates a container, or finds the one of that name without comparing specs. The id is the
	// device's own. A later container of the same name has another id.
	Create(ctx context.Context, spec Spec) (id string, err error)

	// Start starts a created container. It does nothing if the container runs, has ended, or was stopped
	// before its start. A program that cannot be started is a non-retryable error of every call, and an
	// [Exit] of Wait. A device that starts containers asynchronously reports it by Wait first.
	Start(ctx context.Context, name string) error

	// Wait waits until the container has ended, and returns at once if it already has. It also waits for a
	// container that is not started yet. It survives restarts of Docker Engine, the API server and the
	// supervisor. It returns ErrNotFound if the container was removed.
	Wait(ctx context.Context, name string) (Exit, error)

	// Logs writes the container's output, stdout and stderr together, from the first line. Each line is
	// preceded by its time in LogTimeFormat and a space. Lines longer than MaxLogLine are split. With follow
	// it waits for the start and returns when the container has ended and all output is written. It returns
	// ErrNotFound if the container was removed.
	Logs(ctx context.Context, name string, follow bool, w io.Writer) error

	// Unfinished calls show with the output after the last newline, whenever it has changed, such as the
	// state of a progress bar; with nothing once the line is ended. Output from before the call may be
	// missing. It returns when the container has ended, and at once if the device does not support it.
	Unfinished(ctx context.Context, name string, show func(line []byte)) error

	// ScanLogFiles visits the files below LogPath once, while the container runs or after its end, until it
	// is removed. A device that can't read them visits none.
	ScanLogFiles(ctx context.Context, name string, visit func(LogFile) error) error

	// Stop sends SIGTERM, and SIGKILL after the grace period, and returns when the container has ended. A
	// container that was created but not started can never start afterwards, and Wait returns an [Exit] for
	// it. An unknown name is not an error.
	Stop(ctx context.Context, name string, grace time.Duration) error

	// Remove kills the container if it still runs, and deletes all its data.
	Remove(ctx context.Context, name string) error

	// List returns all containers of this party on this device and runner.
	List(ctx context.Context) ([]Container, error)
}

// ImageFinder is implemented by drivers that run only images which the runner has.
type ImageFinder interface {
	// ImageID returns the id of an image by its reference or id. It returns ErrNoImage if the runner does not
	// have the image.
	ImageID(ctx context.Context, ref string) (string, error)
}

// OutputOwner is implemented by drivers whose containers may run as another user than this process.
type OutputOwner interface {
	// OwnOutputs makes this process's user the owner of what an ended container left in its writable mounts,
	// so that it can be read and removed, and takes the bits setuid and setgid from it. It returns
	// ErrNotFound if the container was removed.
	OwnOutputs(ctx context.Context, name string) error
}

// Meter is implemented by drivers that measure what containers use.
type Meter interface {
	// Usage returns what a container has used so far, and in total after its end if the device still knows
	// that. It returns ErrNotFound if the container was removed.
	Usage(ctx context.Context, name string) (Usage, error)
}

// Usage is what a container has used. A nil value is unknown.
type Usage struct {
	CPU        *time.Duration
	PeakMemory *int64 // bytes
	// Final says that the values are those at the container's end.
	Final bool
}

// Server is implemented by drivers that run containers by a server: Docker Engine, or a cluster's API server.
type Server interface {
	// IsUnreachable reports whether an error of this driver means that the server does not answer.
	IsUnreachable(err error) bool
}

const (
	// LogTimeFormat is the format of the time before each line of Logs: RFC 3339 in UTC. The seconds always
	// have nine decimals, so that lines sort.
	LogTimeFormat = "2006-01-02T15:04:05.000000000Z07:00"

	// MaxLogLine is the length in bytes at which Logs splits a line.
	MaxLogLine = 1 << 20
)

// Spec describes a container.
type Spec struct {
	// Name is unique on the runner for each attempt. It names the container or its folder. It has 2 to 128
	// characters: letters, digits and "_.-", the first one a letter or digit.
	Name string

	// Image is the container's image. For Docker it must exist on the runner. Processes have none.
	Image string

	// Command is the argument vector of a process, with the absolute path of the program first. For
	// containers it replaces the image's CMD and may be empty.
	Command []string

	// Env may hold secrets. It never appears in arguments, labels or logs. Names and values are UTF-8. Linux
	// limits each name with its value to 131,070 bytes, and all of them with the command to about 2 MB.
	Env map[string]string

	Mounts []Mount
	// Resources are limits. 0 means the driver's default, or unlimited if it has none. They are not enforced
	// for processes. Memory includes swap; only Kubernetes enforces Disk.
	Resources bfia.Resources
	// GPUs names the GPUs of this runner that the container gets, see [KindOfGPU]. Kubernetes chooses them
	// itself, by the number in Resources.
	GPUs []string

	// Labels are returned by List. They must not hold secrets.
	Labels map[string]string

	// Allow holds the approved exceptions from the container profile. Processes have no such profile.
	Allow bfia.Exceptions
}

// Mount makes a directory or file of the runner available to a container.
type Mount struct {
	Source   string // absolute path of an existing directory or file of the runner
	Target   string // relative to StorageRoot; mounts must not be nested
	ReadOnly bool   // not enforced for processes
}

// Exit describes how a container ended.
type Exit struct {
	// Code is the program's exit code. It is 128 plus the number of the signal that killed the program, 127
	// or 126 if it could not be started, or UnknownExitCode.
	Code int

	// OOMKilled reports that the container exceeded its memory limit. The process device never sets it.
	OOMKilled bool

	// Killed reports that a signal, or the loss of its runner, ended the container. It is not set for an
	// exceeded memory limit. It does not say whether Stop caused it.
	Killed bool

	// Reason says why Code is not 0.
	Reason string

	// StartedAt is zero if the container never started.
	StartedAt, FinishedAt time.Time
}

const (
	// UnknownExitCode is the Code of a container whose end nobody observed.
	UnknownExitCode = -1

	// NotExecutableExitCode and NotStartedExitCode are the Codes of a container whose command could not be
	// started.
	NotExecutableExitCode = 126
	NotStartedExitCode    = 127

	// StoppedExitCode is the Code of a container that was stopped before it started.
	StoppedExitCode = 143
)

// ReasonStoppedBeforeStart is the Reason of a container that was stopped before it started.
const ReasonStoppedBeforeStart = "stopped before it was started"

const (
	// ContainerRoot is the root of the folders that a driver adds to a container's file system.
	ContainerRoot = "/hutong"

	// DefaultMaxLog is the default limit of a container's stored output, in bytes.
	DefaultMaxLog = 100 << 20
)

// State is the state of a container.
type State string

// The states of a container.
const (
	Created State = "created" // never started, and can be
	Running State = "running"
	Exited  State = "exited" // ended, failed to start, or stopped before its start
)

// Container describes a container to the callers of List.
type Container struct {
	Name      string
	ID        string
	State     State
	Labels    map[string]string // as in Spec
	CreatedAt time.Time
	// Address is the address from which a running container reaches its party. No other container has it.
	// Empty: it has none of its own, or the driver does not know it.
	Address string
}
