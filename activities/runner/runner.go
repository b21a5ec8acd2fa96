// Package runner holds the activities of a runner: it runs the containers of tasks with its drivers, stops
// them, and sweeps orphans.
package runner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"hutong/activities"
	"hutong/activities/driver"
	"hutong/bfia"
	"hutong/store"
	"hutong/store/blob"
)

// Runner runs containers on this machine.
type Runner struct {
	Node     string
	RunnerID string
	Machine  string // its name, for people
	Store    *store.Store
	Blobs    blob.Store
	Drivers  map[string]driver.Driver // by device
	// System returns what a container on a device must know of the party. The runner sets the session, the
	// log path, and Storage if it is a folder.
	System func(device, container string) bfia.System
	// BeforeStart is called before a container starts, and its result afterwards; nil for nothing.
	BeforeStart func() (after func())
	// OnReport passes on the end that a container reports, when it is polled or before it exits; nil leaves
	// it to its callback and exit.
	OnReport func(ctx context.Context, jobID string, report bfia.TaskReport) error
	// OnControlReport is called for each end that a poll of a container has found, with the error of
	// OnReport; nil for nothing.
	OnControlReport func(error)
	// ReportHold is how long an end that a container reports waits for its exit; 0 for 500 ms.
	ReportHold time.Duration
	// TraceParent returns the traceparent of a context (W3C Trace Context) for the containers, or "". nil
	// gives them none.
	TraceParent func(ctx context.Context) string
	// OnExit is called once a container's exit is recorded, and OnOrphanRemoved once an orphaned container is
	// removed. Each may be nil.
	OnExit, OnOrphanRemoved func()
	// OnWait reports to the job's workflow what a part waits for; nil leaves that to the rows.
	OnWait func(ctx context.Context, jobID string, wait activities.PartWait) error
	// StopGrace is the time between SIGTERM and SIGKILL if RunTask or Sweep stops a container.
	StopGrace time.Duration
	// LogFilesLimit bounds the files of a container below config.log.path, in bytes; 0: no limit. A container
	// that exceeds it is stopped.
	LogFilesLimit int64
	// AllowExceptions grants providers all exceptions from the container profile that they ask for, without
	// an administrator's approval.
	AllowExceptions bool
	// GPUs names the GPUs that containers may get; see [driver.KindOfGPU].
	GPUs   []string
	Logger *slog.Logger
	// Deployment labels the containers: Sweep ignores those of other deployments.
	Deployment string

	watched  nameSet // containers that a RunTask of this process handles
	held     heldReports
	gpus     sync.Mutex // held from the choice of GPUs until their container exists
	removing sync.WaitGroup
	// full has the names of containers at whose end the storage was full, until that is recorded.
	full sync.Map
}

// Activities are the activities of a runner. All exported methods are registered with Temporal.
type Activities struct{ Runner *Runner }

// Wait waits for removals that have outlived their RunTask, until ctx is done. The sweep removes what
// remains.
func (r *Runner) Wait(ctx context.Context) {
	done := make(chan struct{})
	go func() { r.removing.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// StopTaskInput names an attempt of a part that is stopped.
type StopTaskInput struct {
	activities.PartRequest
	Grace time.Duration `json:"grace"` // between SIGTERM and SIGKILL
}

// StopTask stops a container, or prevents that it starts. The RunTask that waits for it ends then. Without
// one, StopTask does the rest of its work: on a busy machine Temporal may have lost the heartbeats of one
// attempt of RunTask, and cancelled the next one before it began.
func (a *Activities) StopTask(ctx context.Context, in StopTaskInput) error {
	t := a.Runner.newTaskRun(in.PartRequest)
	row, readErr := t.Store.Task(ctx, in.Key.Row())
	name := t.name
	if readErr == nil && row.Attempt == in.Attempt && row.ContainerName != "" {
		name = row.ContainerName
	}
	// A stop needs no database.
	if err := t.stop(ctx, name, in.Grace); err != nil {
		return err
	}
	if t.watched.has(t.name) {
		return nil
	}
	if readErr != nil {
		return fmt.Errorf("failed to read the row of %s: %w", t.name, readErr)
	}
	if !row.StopRequested {
		return nil // run could create the container
	}
	defer t.watched.hold(t.name)()
	_, err := t.run(ctx)

	return err
}

// stop stops a container, whichever driver has it.
func (r *Runner) stop(ctx context.Context, name string, grace time.Duration) error {
	for device, d := range r.Drivers {
		if err := d.Stop(ctx, name, grace); err != nil {
			return fmt.Errorf("failed to stop %s on %s: %w", name, device, err)
		}
	}

	return nil
}

// removeAll removes a container, whichever driver has it.
func (r *Runner) removeAll(ctx context.Context, name string, log *slog.Logger) {
	for _, d := range r.Drivers {
		r.remove(ctx, d, name, log)
	}
}

// ownOutputs makes the outputs of an ended container readable and removable for the party. If that fails, the
// record of the outputs says so.
func (r *Runner) ownOutputs(ctx context.Context, d driver.Driver, name string, log *slog.Logger) {
	owner, ok := d.(driver.OutputOwner)
	if !ok {
		return
	}
	if err := owner.OwnOutputs(ctx, name); err != nil && !errors.Is(err, driver.ErrNotFound) {
		log.Warn("failed to take over a container's outputs; the party may not be able to read or remove them",
			"error", err)
	}
}

func (r *Runner) remove(ctx context.Context, d driver.Driver, name string, log *slog.Logger) {
	if err := d.Remove(ctx, name); err != nil {
		log.Warn("failed to remove a container; the sweep removes it later", "error", err)
	}
}
