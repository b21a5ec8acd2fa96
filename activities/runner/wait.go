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
)

// wait waits for a run's end, follows its logs meanwhile, and stops it when the job no longer wants it.
func (r *Runner) wait(ctx context.Context, d driver.Driver, req activities.PartRequest, log *slog.Logger) (driver.Exit, error) {
	name := req.ContainerName()
	type ended struct {
		exit driver.Exit
		err  error
	}
	waitCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	done := make(chan ended, 1)
	go func() {
		exit, err := d.Wait(waitCtx, name)
		done <- ended{exit, err}
	}()
	logs := make(chan error, 1)
	var logged atomic.Int64
	go func() { logs <- r.followLogs(waitCtx, d, name, &logged) }()
	var asking sync.WaitGroup
	asking.Go(func() { r.watchControl(waitCtx, d, req, log) })
	defer asking.Wait()
	defer cancel()

	beat := time.NewTicker(activities.HeartbeatInterval)
	defer beat.Stop()
	cancelled := ctx.Done()
	for {
		select {
		case e := <-done:
			if e.err != nil {
				return e.exit, fmt.Errorf("waiting for %s: %w", name, e.err)
			}
			if !awaitLog(ctx, logs, &logged, log) {
				return driver.Exit{}, fmt.Errorf("the worker is shutting down; the end of %s is found again", name)
			}
			return e.exit, nil
		case <-activity.GetWorkerStopChannel(ctx):
			return driver.Exit{}, fmt.Errorf("the worker is shutting down; %s goes on and is found again", name)
		case <-cancelled:
			cancelled = nil // once is enough
			if wanted, err := r.wanted(ctx, req); err != nil {
				return driver.Exit{}, err
			} else if wanted {
				// The engine heard no heartbeat in time, as happens on a busy machine, and has begun another try, which watches the same run.
				return driver.Exit{}, fmt.Errorf("another try watches %s: %w", name, context.Cause(ctx))
			}
			log.Info("stopping the run")
			if err := d.Stop(waitCtx, name, r.StopGrace); err != nil {
				return driver.Exit{}, fmt.Errorf("stopping %s: %w", name, err)
			}
		case <-beat.C:
			activity.RecordHeartbeat(ctx)
		}
	}
}

// wanted tells whether a job still wants a run whose activity was cancelled: it was not asked to stop, and its workflow goes
// on.
func (r *Runner) wanted(ctx context.Context, req activities.PartRequest) (bool, error) {
	if temporal.IsCanceledError(context.Cause(ctx)) {
		return false, nil
	}
	cause := context.Cause(ctx)
	ctx = context.WithoutCancel(ctx)
	row, err := r.Store.Task(ctx, req.Key.Row())
	if err != nil {
		return false, fmt.Errorf("reading the row of %s: %w", req.ContainerName(), err)
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
		return false, fmt.Errorf("asking whether %s goes on: %w", w.ID, err)
	}
	return job.WorkflowExecutionInfo.Status == enums.WORKFLOW_EXECUTION_STATUS_RUNNING, nil
}

// logPatience is how long the end of a log may come after its run's, from the last bytes that came; logPatienceMost is for
// all of it.
const (
	logPatience     = 10 * time.Second
	logPatienceMost = 5 * time.Minute
)

// awaitLog waits for the end of an ended run's log, as long as more of it comes: one that can't be read loses lines, not
// the task. It answers false when the worker shuts down before.
func awaitLog(ctx context.Context, logs <-chan error, logged *atomic.Int64, log *slog.Logger) bool {
	began := time.Now()
	beat := time.NewTicker(activities.HeartbeatInterval)
	defer beat.Stop()
	for seen, since := logged.Load(), began; ; {
		select {
		case err := <-logs:
			if err != nil && !errors.Is(err, driver.ErrNotFound) {
				log.Warn("the logs are not whole", "error", err)
			}
			return true
		case <-activity.GetWorkerStopChannel(ctx):
			return false
		case <-beat.C:
			activity.RecordHeartbeat(ctx)
			if n := logged.Load(); n != seen {
				seen, since = n, time.Now()
			}
			if time.Since(since) >= logPatience || time.Since(began) >= logPatienceMost {
				log.Warn("the logs did not end with the run")
				return true
			}
		}
	}
}
