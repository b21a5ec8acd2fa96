package runner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"hutong/activities"
	"hutong/activities/driver"
	"hutong/bfia"
)

// RunTask runs one attempt of a part to its end: it creates the container or finds it, starts it, waits for
// its exit while it keeps its log and outputs, records the exit, and has it removed. Run again, it resumes
// where the last attempt stopped. A container never runs twice.
func (a *Activities) RunTask(ctx context.Context, req activities.PartRequest) (activities.PartResult, error) {
	t := a.Runner.newTaskRun(req)
	defer t.watched.hold(t.name)()
	t.readHeartbeat(ctx)

	result, err := t.run(ctx)
	if err != nil && ctx.Err() == nil && !workerStops(ctx) {
		t.noteWait(context.WithoutCancel(ctx), t.waitAfter(err))
	}

	return result, err
}

// run does the work of RunTask.
func (t *taskRun) run(ctx context.Context) (activities.PartResult, error) {
	// Only the wait for the exit reacts to a cancellation, and stops the container. Cut off in any other
	// phase, RunTask would leave a container that nobody watches. The other phases are short.
	cancellable := ctx
	ctx = context.WithoutCancel(ctx)

	result, err := t.settle(ctx)
	if result != nil || err != nil {
		return resultOf(result, err)
	}
	if result, err = t.create(cancellable); result != nil || err != nil {
		return resultOf(result, err)
	}
	held := t.holdReports(ctx)
	defer held.end(ctx)
	if err := t.start(ctx); err != nil {
		return activities.PartResult{}, err
	}
	exit, result, err := t.await(cancellable)
	if err != nil {
		return activities.PartResult{}, err
	}
	if result != nil {
		return *result, held.settle(ctx, result.Failure)
	}

	return t.finish(ctx, exit, held)
}

// taskRun is one RunTask.
type taskRun struct {
	*Runner
	req      activities.PartRequest
	name     string
	log      *slog.Logger
	begun    bool // its container was created by an earlier attempt of the activity
	driver   driver.Driver
	startErr error // permanent: the container will never run
	// reported is the end that the container has reported to an earlier attempt of the activity.
	reported bfia.TaskState
	// unrecorded is a wait that the database did not take.
	unrecorded unrecordedWait
}

func (r *Runner) newTaskRun(req activities.PartRequest) *taskRun {
	name := req.ContainerName()

	return &taskRun{Runner: r, req: req, name: name,
		log: r.Logger.With("job_id", req.Key.JobID, "task_id", req.TaskID, "role", req.Part.Self(),
			"container", name)}
}

func resultOf(result *activities.PartResult, err error) (activities.PartResult, error) {
	if result == nil {
		return activities.PartResult{}, err
	}

	return *result, err
}

// failed is the result of a part with a failure, which it completes with the part's place.
func (t *taskRun) failed(f *bfia.Failure) *activities.PartResult {
	return &activities.PartResult{Failure: withPlace(f, t.req.Key, t.req.Part)}
}

// settle returns the result of a part that must not run, or has run already. Otherwise it returns nil.
func (t *taskRun) settle(ctx context.Context) (*activities.PartResult, error) {
	row, err := t.Store.Task(ctx, t.req.Key.Row())
	if err != nil {
		return nil, fmt.Errorf("failed to read the row of %s: %w", t.name, err)
	}

	t.begun = row.ContainerID != "" && row.Attempt == t.req.Attempt
	if row.TaskID == t.req.TaskID && !row.State.Terminal() {
		t.reported = row.Reported()
	}
	if t.begun {
		t.name = row.ContainerName
	}
	switch {
	case row.Attempt > t.req.Attempt:
		if err := t.stop(ctx, t.name, t.StopGrace); err != nil {
			return nil, err
		}
		t.removeAll(ctx, t.name, t.log)

		return t.failed(&bfia.Failure{Kind: bfia.FailedStopped,
			Message: "another attempt has superseded it"}), nil
	case row.ExitCode != nil && row.Attempt == t.req.Attempt:
		// An earlier attempt of the activity recorded the exit; only the removal is left.
		t.removeAll(ctx, t.name, t.log)

		return &activities.PartResult{Failure: row.Failure}, nil
	case row.StopRequested && !t.begun:
		// An earlier attempt of the activity may have created the container, and stopped there.
		t.removeAll(ctx, t.name, t.log)

		return t.failed(&bfia.Failure{Kind: bfia.FailedStopped, Message: "stopped before it began"}), nil
	}

	return nil, nil
}

// create creates and records the container, or finds the one of an earlier attempt of the activity, whatever
// became of its provider and inputs since. It returns the result of a part that can never be created.
func (t *taskRun) create(cancellable context.Context) (*activities.PartResult, error) {
	if t.begun {
		return nil, t.find(context.WithoutCancel(cancellable))
	}

	result, err := t.createWithGPUs(cancellable)
	if f := startFailure(err); f != nil {
		return t.failed(f), nil
	}

	return result, err
}

// find finds the driver that has the container. If none has it, any driver will report that.
func (t *taskRun) find(ctx context.Context) error {
	for _, d := range t.Drivers {
		containers, err := d.List(ctx)
		if err != nil {
			return fmt.Errorf("failed to look for %s on %s: %w", t.name, d.Device(), err)
		}
		if t.driver == nil || slices.ContainsFunc(containers,
			func(c driver.Container) bool { return c.Name == t.name }) {
			t.driver = d
		}
	}

	return nil
}

func (t *taskRun) createNew(ctx context.Context) error {
	d, spec, err := t.prepare(ctx, t.req)
	if err != nil {
		return err
	}
	if spec.Resources.GPU > 0 && d.Device() != string(bfia.DeviceKubernetes) {
		t.gpus.Lock()
		defer t.gpus.Unlock()
		if spec.GPUs, err = t.freeGPUs(ctx, spec.Name, spec.Resources.GPU); err != nil {
			return err
		}
		spec.Labels[labelGPUs] = strings.Join(spec.GPUs, ",")
	}
	id, err := d.Create(ctx, spec)
	if errors.Is(err, driver.ErrNoImage) {
		return t.missingImage(ctx, err)
	}
	if err != nil {
		return err
	}
	if err := t.Store.SetTaskContainer(ctx, t.req.Key.Row(), t.req.Attempt, t.RunnerID, t.name,
		id); err != nil {
		return fmt.Errorf("failed to record the container %s: %w", t.name, err)
	}
	t.driver = d

	return nil
}

// start starts the container, and stops it if that was requested meanwhile.
func (t *taskRun) start(ctx context.Context) error {
	err := t.startContainer(ctx)
	switch {
	case err == nil || errors.Is(err, driver.ErrNotFound):
	case driver.IsNonRetryable(err):
		// It will never run. Stop records that as its end if the driver has not.
		t.startErr = err
		if err := t.driver.Stop(ctx, t.name, 0); err != nil {
			return fmt.Errorf("failed to give up %s, which can't be started: %w", t.name, err)
		}
	default:
		if errors.Is(err, driver.ErrCreateAgain) { // the next attempt of the activity must create it again
			if err := t.Store.SetTaskContainer(ctx, t.req.Key.Row(), t.req.Attempt, "", "", ""); err != nil {
				return fmt.Errorf("failed to record that %s must be created again: %w", t.name, err)
			}
		}

		return fmt.Errorf("failed to start %s: %w", t.name, err)
	}

	// A stop that was requested meanwhile may have found no container; from here on it finds this one.
	row, err := t.Store.Task(ctx, t.req.Key.Row())
	if err != nil {
		return fmt.Errorf("failed to read the row of %s: %w", t.name, err)
	}
	if row.Waiting != nil || row.WaitingShown || t.unrecorded.Shown != "" {
		t.noteWait(ctx, nil)
	}
	if row.StopRequested || row.Attempt > t.req.Attempt {
		if err := t.driver.Stop(ctx, t.name, t.StopGrace); err != nil {
			return fmt.Errorf("failed to stop %s: %w", t.name, err)
		}
	}
	t.log.Info("container started", "device", t.driver.Device())

	return nil
}

func (t *taskRun) startContainer(ctx context.Context) error {
	if t.BeforeStart != nil {
		defer t.BeforeStart()()
	}
	return t.driver.Start(ctx, t.name)
}

// await waits for the container's exit. It returns a result instead if another attempt of the activity, which
// was only believed dead, has recorded the exit and removed the container.
func (t *taskRun) await(cancellable context.Context) (waited, *activities.PartResult, error) {
	exit, err := t.wait(cancellable, t.driver, t.name, t.req, t.log)
	if !errors.Is(err, driver.ErrNotFound) {
		return exit, nil, err
	}

	row, err := t.Store.Task(context.WithoutCancel(cancellable), t.req.Key.Row())
	if err != nil {
		return exit, nil, fmt.Errorf("failed to read the row of %s: %w", t.name, err)
	}
	if row.ExitCode != nil && row.Attempt == t.req.Attempt {
		return exit, &activities.PartResult{Failure: row.Failure}, nil
	}

	exit.Exit = driver.Exit{Code: driver.UnknownExitCode, Reason: "its container was removed by someone else",
		FinishedAt: time.Now()}
	return exit, nil, nil
}

// finish records the exit, and has the container removed.
func (t *taskRun) finish(ctx context.Context, exit waited, held *heldReport) (activities.PartResult, error) {
	failure := exitFailure(exit.Exit, exit.log)
	if failure != nil && exit.overflow > 0 {
		failure.Kind, failure.Message = bfia.FailedLogFiles, fmt.Sprintf(
			"its log files take %s, more than the limit of %s (runner.log_files_mib)",
			humanize.IBytes(uint64(exit.overflow)), humanize.IBytes(uint64(t.LogFilesLimit)))
	}
	if exit.Code == driver.StoppedExitCode && t.startErr != nil {
		failure = &bfia.Failure{Kind: bfia.FailedStart, Message: t.startErr.Error()}
	}
	if failure == nil && t.storageWasFull(exit) {
		failure = &bfia.Failure{Kind: bfia.FailedOutput, Log: exit.log,
			Message: activities.StorageFullMessage}
	}
	failure = withPlace(failure, t.req.Key, t.req.Part)

	t.ownOutputs(ctx, t.driver, t.name, t.log)
	t.tidyOutputs(ctx, t.req)
	// Before the exit: nobody looks at the container, or what it has reported, once that is recorded.
	if err := held.settle(ctx, failure); err != nil {
		return activities.PartResult{}, err
	}
	if !neverStarted(exit.Exit) {
		if err := exit.meter.record(ctx, exit.Exit); err != nil {
			return activities.PartResult{}, err
		}
	}
	if err := t.Store.SetTaskFailure(ctx, t.req.Key.Row(), t.req.TaskID, failure); err != nil {
		return activities.PartResult{}, fmt.Errorf("failed to record the failure of %s: %w", t.name, err)
	}
	if err := t.Store.SetTaskExit(ctx, t.req.Key.Row(), t.req.Attempt, exit.Code, failure.Text(),
		exit.FinishedAt); err != nil {
		return activities.PartResult{}, fmt.Errorf("failed to record the exit of %s: %w", t.name, err)
	}
	t.full.Delete(t.name)
	if t.OnExit != nil {
		t.OnExit()
	}
	if failure == nil {
		if err := t.recordLateOutputs(ctx, exit.FinishedAt); err != nil {
			return activities.PartResult{}, err
		}
	}
	t.log.InfoContext(ctx, "container ended", "exit_code", exit.Code, "seconds",
		exit.FinishedAt.Sub(exit.StartedAt).Seconds())

	// It holds no resources any more, and nothing waits for its removal.
	release := t.watched.hold(t.name)
	t.removing.Go(func() {
		defer release()
		t.remove(ctx, t.driver, t.name, t.log)
	})

	return activities.PartResult{Failure: failure}, nil
}

// storageWasFull reports whether the storage was full at the container's end. A component may ignore that and
// exit with code 0. The database may be on the same disk. Then the next attempt of the activity records the
// end, when there is space for the log again, so this process remembers it.
func (t *taskRun) storageWasFull(exit waited) bool {
	if exit.full {
		t.full.Store(t.name, true)
	}
	_, full := t.full.Load(t.name)
	return full
}

// recordLateOutputs records the outputs again of a part whose callback ended it before its container exited:
// the container may have written some of them in between.
func (t *taskRun) recordLateOutputs(ctx context.Context, at time.Time) error {
	row, err := t.Store.Task(ctx, t.req.Key.Row())
	if err != nil || row.State != bfia.TaskSuccess || row.TaskID != t.req.TaskID {
		return err
	}
	err = activities.RecordOutputs(ctx, t.Store, t.Blobs, t.req, at)
	if bfia.CodeOf(err) == bfia.CodeRefused {
		t.log.Error("failed to record an output that was written after the callback", "error", err)
		return nil // the part has ended
	}
	return err
}
