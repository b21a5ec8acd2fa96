package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"hutong/activities"
	housekeepingacts "hutong/activities/housekeeping"
	"hutong/activities/runner"
	"hutong/workflows"
)

const (
	// askTimeout bounds one question to the engine.
	askTimeout = 10 * time.Second
	// sweepEvery is how often a host looks for runs that nobody owns.
	sweepEvery = time.Minute
)

// jobOpen asks the engine for a job's workflow, of which id gives the id.
func jobRunning(c client.Client, id func(jobID string) string) activities.JobRunning {
	return func(ctx context.Context, jobID string) (bool, string, error) {
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		found, err := c.DescribeWorkflowExecution(ctx, id(jobID), "")
		var unknown *serviceerror.NotFound
		switch {
		case errors.As(err, &unknown):
			return false, "is not known to it", nil
		case err != nil:
			return false, "", fmt.Errorf("describing workflow %s: %w", id(jobID), err)
		}
		switch found.GetWorkflowExecutionInfo().GetStatus() {
		case enums.WORKFLOW_EXECUTION_STATUS_COMPLETED:
			return false, "has ended", nil
		case enums.WORKFLOW_EXECUTION_STATUS_FAILED:
			return false, "has failed", nil
		case enums.WORKFLOW_EXECUTION_STATUS_CANCELED:
			return false, "was cancelled", nil
		case enums.WORKFLOW_EXECUTION_STATUS_TERMINATED:
			return false, "was terminated", nil
		case enums.WORKFLOW_EXECUTION_STATUS_TIMED_OUT:
			return false, "has timed out", nil
		}
		return true, "", nil // also what this version has no word for
	}
}

// owned completes a party's housekeeping with the engine's word on jobs.
func withJobRunning(c client.Client, house *housekeepingacts.Activities) *housekeepingacts.Activities {
	house.Scheduled, house.Participating = jobRunning(c, workflows.SchedulerJobID), jobRunning(c, workflows.ParticipantJobID)
	return house
}

// startHousekeeping begins the party's housekeeping, or finds it begun by another control worker.
func startHousekeeping(c client.Client) error {
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	_, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: workflows.HousekeepingID, TaskQueue: activities.ControlQueue, CronSchedule: workflows.HousekeepingCron,
		WorkflowRunTimeout: workflows.HousekeepingLimit, WorkflowIDConflictPolicy: enums.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		StaticSummary: "removes what was kept for long enough, and ends jobs that the engine lost",
	}, workflows.HousekeepingType)
	if err != nil {
		return fmt.Errorf("beginning the housekeeping: %w", err)
	}
	return nil
}

// sweep looks at once, and then again and again until ctx ends, for runs on this host that nobody owns; then also looks for
// what else there is to see.
func sweep(ctx context.Context, c client.Client, runs *runner.Runner, logger *slog.Logger, also func()) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		if err := runs.Sweep(ctx, jobRunning(c, workflows.ParticipantJobID)); err != nil && ctx.Err() == nil {
			logger.Warn("not all runs of this host could be looked at; the next sweep tries again", "host_id", runs.RunnerID, "error", err)
		}
		also()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
