package driver

import (
	"context"
	"io"
	"time"
)

// A Runner runs programs on one device of this host. All methods are idempotent,
// safe for concurrent use, and safe against other processes of the host that
// use the same device with the same options.
//
// Errors are [*Error] values; [IsNonRetryable] tells those that no retry can cure.
type Driver interface {
	// Device is "docker", "process" or "k8s".
	Device() string

	// RunnerID names the host in a way that survives restarts of the worker.
	RunnerID(ctx context.Context) (string, error)

	// Capacity is what the host has for runs on this device, all of it together.
	Capacity(ctx context.Context) (Capacity, error)

	// StorageRoot is what the run of that name sees as the root of its file
	// storage: the place that [Mount].Target is relative to.
	StorageRoot(name string) string

	// LogPath is a folder that the run can write its own log files to
	// (config.log.path). It goes when the run is removed, or earlier.
	LogPath(name string) string

	// ControlPort is a port on which a new run may listen to be asked how it does.
	ControlPort() (int, error)

	// Address is at which this host reaches a run that listens. ErrNotFound if the
	// run is gone or does not run.
	Address(ctx context.Context, name string) (string, error)

	// Create creates the run, or finds the one of that name, without comparing
	// specs. The id is the device's own and differs when a name is used again.
	Create(ctx context.Context, spec Spec) (id string, err error)

	// Start starts a created run. It does nothing if the run runs, has ended or
	// was stopped before it could start. A program that cannot be started is a
	// permanent error, the same each time, and an [Exit] for Wait. A device that begins later by
	// itself tells it by Wait first.
	Start(ctx context.Context, name string) error

	// Wait waits until the run has ended, and answers at once when it already has. It also waits
	// for a run that is not started yet. It outlasts restarts of the
	// Docker Engine and of the supervisor. ErrNotFound if the run is gone.
	Wait(ctx context.Context, name string) (Exit, error)

	// Logs writes what the run printed, stdout and stderr together, from the
	// first line: each line behind its time in LogTimeFormat and a space, lines
	// longer than MaxLogLine in pieces. With follow it waits for the start and
	// returns when the run has ended and all is written. ErrNotFound
	// if the run is gone.
	Logs(ctx context.Context, name string, follow bool, w io.Writer) error

	// Stop sends SIGTERM, after the grace period SIGKILL, and returns when the
	// run has ended. A run that was created but not started will never start,
	// and Wait answers for it. An unknown name is no error.
	Stop(ctx context.Context, name string, grace time.Duration) error

	// Remove kills the run if it still runs and removes all that is left of it.
	Remove(ctx context.Context, name string) error

	// List tells all runs of this party on this device and host.
	List(ctx context.Context) ([]Container, error)
}

const (
	// LogTimeFormat is the form of the time before each line of Logs: RFC 3339
	// in UTC, always with nine digits of the second, so that lines sort.
	LogTimeFormat = "2006-01-02T15:04:05.000000000Z07:00"

	// MaxLogLine is the length in bytes at which Logs breaks a line.
	MaxLogLine = 1 << 20
)

// A Spec says what to run.
type Spec struct {
	// Name is unique for each attempt on the host: it names the container or the
	// run's folder. Letters, digits and "_.-", beginning with a letter or digit,
	// 2 to 128 characters.
	Name string

	// Image is the container's image. For Docker it must be on the host; processes have none.
	Image string

	// Command is the process's argument vector, the program first, by its absolute
	// path. For containers it takes the place of the image's CMD and may be empty.
	Command []string

	// Env may hold secrets: it never appears in arguments, labels or
	// logs. Names and values are UTF-8. Linux limits name and
	// value together to 131,070 bytes, all of them with the command to some 2 MB.
	Env map[string]string

	Mounts    []Mount
	Resources Resources

	// Labels come back from List. Not for secrets.
	Labels map[string]string
}

// A Mount shows a directory of the host to the run.
type Mount struct {
	Source   string // absolute path of an existing directory or file of the host
	Target   string // relative to StorageRoot; mounts do not lie within each other
	ReadOnly bool   // enforced for containers, a promise for processes
}

// Resources are limits; 0 is none. They are not enforced for processes.
type Resources struct {
	CPU    float64 // cores
	Memory int64   // bytes; there is no swap beyond it
	Disk   int64   // bytes; enforced by Kubernetes only
}

// An Exit tells how a run ended.
type Exit struct {
	// Code is the program's exit code, 128 plus the signal's number if one killed it,
	// 127 or 126 if it could not be started, and UnknownExitCode.
	Code      int
	OOMKilled bool   // the run's memory limit was hit; Docker only
	Killed    bool   // by a signal, or with its host, and not for its memory: whether Stop did it is not told
	Reason    string // why Code is not 0, in words
	// StartedAt is zero if the run never started.
	StartedAt, FinishedAt time.Time
}

const (
	// UnknownExitCode is the Code of a run whose end nobody saw.
	UnknownExitCode = -1

	// NotExecutableExitCode and NotStartedExitCode are the Codes of a run whose command could not be started.
	NotExecutableExitCode = 126
	NotStartedExitCode    = 127

	// StoppedExitCode is the Code of a run that was stopped before it started.
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

// State of a Run.
type State string

// The states of a Run.
const (
	Created State = "created" // never started, and can be
	Running State = "running"
	Exited  State = "exited" // ended, failed to start, or stopped before its start
)

// A Run is what List tells of a run.
type Container struct {
	Name      string
	ID        string
	State     State
	Labels    map[string]string // as in Spec
	CreatedAt time.Time
}
