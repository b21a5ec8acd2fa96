package runner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"hutong/activities"
	"hutong/activities/driver"
	"hutong/store/blob"
)

// waited is how a container ended.
type waited struct {
	driver.Exit
	log      []string // its last lines
	full     bool     // the party's storage had no space left for its log
	overflow int64    // the size of its log files, for which it was stopped; 0: it was not
	meter    *meter
}

// wait waits for a container's exit. Meanwhile it follows the log, and stops the container if its activity is
// cancelled by the job, or if its log files exceed their limit.
func (r *Runner) wait(ctx context.Context, d driver.Driver, name string, req activities.PartRequest,
	log *slog.Logger) (waited, error) {
	type ended struct {
		exit driver.Exit
		err  error
	}

	// The job's cancellation must not end the wait: the container is stopped first, and its exit is read.
	waitCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()

	done := make(chan ended, 1)
	go func() {
		exit, err := d.Wait(waitCtx, name)
		done <- ended{exit, err}
	}()

	logs := make(chan error, 1)
	follower := r.newContainerLog(waitCtx, d, name, log)
	go func() { logs <- follower.follow(waitCtx) }()
	var overflow int64

	var polling sync.WaitGroup
	polling.Go(func() { r.watchControl(waitCtx, d, name, req, log) })
	measured := r.newMeter(d, name, req, log)
	polling.Go(func() { measured.follow(waitCtx) })
	defer polling.Wait()
	defer cancel()

	beat := time.NewTicker(activities.HeartbeatInterval)
	defer beat.Stop()
	cancelled := ctx.Done()
	for {
		select {
		case e := <-done:
			if e.err != nil {
				return waited{Exit: e.exit, meter: measured},
					fmt.Errorf("failed to wait for %s: %w", name, e.err)
			}
			measured.sample(waitCtx)
			logErr, stops := awaitLog(ctx, logs, &follower.bytes, log)
			if stops {
				return waited{}, fmt.Errorf(
					"the worker is shutting down; another worker reads the exit of %s", name)
			}
			select {
			case overflow = <-follower.overflow:
			default:
			}
			return waited{e.exit, follower.lastLines(), blob.IsStorageFull(logErr), overflow,
				measured}, nil

		case overflow = <-follower.overflow:
			log.Info("stopping the container, since its log files exceed their limit", "bytes", overflow,
				"limit", r.LogFilesLimit)
			if err := d.Stop(waitCtx, name, r.StopGrace); err != nil {
				return waited{}, fmt.Errorf("failed to stop %s: %w", name, err)
			}

		case <-activity.GetWorkerStopChannel(ctx):
			return waited{}, fmt.Errorf(
				"the worker is shutting down; %s continues, and another worker watches it", name)

		case <-cancelled:
			cancelled = nil // handle it once
			if owned, err := r.stillOwned(ctx, req); err != nil {
				return waited{}, err
			} else if owned {
				// Temporal got no heartbeat in time, as happens on a busy machine, and started another
				// attempt of the activity. It watches the same container.
				return waited{}, fmt.Errorf("another attempt of the activity watches %s: %w",
					name, context.Cause(ctx))
			}

			log.Info("stopping the container")
			if err := d.Stop(waitCtx, name, r.StopGrace); err != nil {
				return waited{}, fmt.Errorf("failed to stop %s: %w", name, err)
			}

		case <-beat.C:
			activity.RecordHeartbeat(ctx)
		}
	}
}

// stillOwned reports whether the job of a cancelled activity still owns the container: no stop was requested,
// and the workflow runs.
func (r *Runner) stillOwned(ctx context.Context, req activities.PartRequest) (bool, error) {
	if temporal.IsCanceledError(context.Cause(ctx)) {
		return false, nil
	}
	cause := context.Cause(ctx)
	ctx = context.WithoutCancel(ctx)
	row, err := r.Store.Task(ctx, req.Key.Row())
	if err != nil {
		return false, fmt.Errorf("failed to read the row of task %s: %w", req.TaskID, err)
	}
	if row.StopRequested || row.Attempt > req.Attempt {
		return false, nil
	}
	var gone *serviceerror.NotFound
	if !errors.As(cause, &gone) {
		return true, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	w := activity.GetInfo(ctx).WorkflowExecution
	job, err := activity.GetClient(ctx).DescribeWorkflowExecution(ctx, w.ID, w.RunID)
	if errors.As(err, &gone) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("failed to ask Temporal whether %s runs: %w", w.ID, err)
	}
	return job.WorkflowExecutionInfo.Status == enums.WORKFLOW_EXECUTION_STATUS_RUNNING, nil
}

// logEndTimeout bounds the wait for the end of a log after the container's exit, since the last bytes: on a
// busy machine Docker Engine may pause for long. logEndLimit bounds it in total.
const (
	logEndTimeout = 30 * time.Second
	logEndLimit   = 5 * time.Minute
)

// awaitLog waits for the end of the log after the container's exit, as long as more of it arrives. A log that
// can't be read or stored loses lines; only a full storage fails the task then. It returns why lines are
// lost, and whether the worker shuts down first.
func awaitLog(ctx context.Context, logs <-chan error, logged *atomic.Int64, log *slog.Logger) (lost error,
	stops bool) {
	started := time.Now()
	beat := time.NewTicker(activities.HeartbeatInterval)
	defer beat.Stop()
	for seen, since := logged.Load(), started; ; {
		select {
		case err := <-logs:
			if err != nil && !errors.Is(err, driver.ErrNotFound) {
				log.Warn("failed to keep the whole log", "error", err)
			}
			return err, false
		case <-activity.GetWorkerStopChannel(ctx):
			return nil, true
		case <-beat.C:
			activity.RecordHeartbeat(ctx)
			if n := logged.Load(); n != seen {
				seen, since = n, time.Now()
			}
			if time.Since(since) >= logEndTimeout || time.Since(started) >= logEndLimit {
				log.Warn("the log did not end with the container; its end is lost")
				return nil, false
			}
		}
	}
}
