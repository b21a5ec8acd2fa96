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
	"hutong/activities/housekeeping"
	"hutong/activities/runner"
	"hutong/workflows"
)

const (
	// temporalTimeout bounds one request to Temporal.
	temporalTimeout = 10 * time.Second
	// sweepInterval is the interval at which a runner looks for orphan containers.
	sweepInterval = time.Minute
)

// jobRunning returns a function that asks Temporal for a job's workflow, whose id is made by id.
func jobRunning(c client.Client, id func(jobID string) string) activities.JobRunning {
	return func(ctx context.Context, jobID string) (bool, string, error) {
		ctx, cancel := context.WithTimeout(ctx, temporalTimeout)
		defer cancel()

		found, err := c.DescribeWorkflowExecution(ctx, id(jobID), "")
		var unknown *serviceerror.NotFound
		switch {
		case errors.As(err, &unknown):
			return false, "is not known to Temporal", nil
		case err != nil:
			return false, "", fmt.Errorf("failed to describe workflow %s: %w", id(jobID), err)
		}

		closed, isClosed := closedAs[found.GetWorkflowExecutionInfo().GetStatus()]

		return !isClosed, closed, nil // a status that this version does not know counts as running
	}
}

// closedAs describes the statuses of workflows that have ended.
var closedAs = map[enums.WorkflowExecutionStatus]string{
	enums.WORKFLOW_EXECUTION_STATUS_COMPLETED:  "has ended",
	enums.WORKFLOW_EXECUTION_STATUS_FAILED:     "has failed",
	enums.WORKFLOW_EXECUTION_STATUS_CANCELED:   "was cancelled",
	enums.WORKFLOW_EXECUTION_STATUS_TERMINATED: "was terminated",
	enums.WORKFLOW_EXECUTION_STATUS_TIMED_OUT:  "has timed out",
}

// startHousekeeping starts the party's housekeeping, unless another control worker has.
func startHousekeeping(c client.Client) error {
	ctx, cancel := context.WithTimeout(context.Background(), temporalTimeout)
	defer cancel()
	_, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: workflows.HousekeepingID, TaskQueue: activities.ControlQueue,
		CronSchedule:             workflows.HousekeepingCron,
		WorkflowRunTimeout:       workflows.HousekeepingLimit,
		WorkflowIDConflictPolicy: enums.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		StaticSummary:            "removes jobs after their retention, and ends jobs whose workflow was lost",
	}, workflows.HousekeepingType)
	if err != nil {
		return fmt.Errorf("failed to start the housekeeping: %w", err)
	}

	return nil
}

// startRestoreMark starts the workflow that counts up the party's restore mark, or makes it count now: each
// start of a control worker counts.
func startRestoreMark(c client.Client, a *housekeeping.Activities) error {
	ctx, cancel := context.WithTimeout(context.Background(), temporalTimeout)
	defer cancel()
	deployment, err := a.Store.DeploymentID(ctx)
	if err != nil {
		return err
	}
	database, err := a.Store.RestoreMark(ctx)
	if err != nil {
		return err
	}
	mark := workflows.RestoreMark{Deployment: deployment, Number: database.Number}
	_, err = c.SignalWithStartWorkflow(ctx, workflows.RestoreMarkID, workflows.SignalMarkNow, nil,
		workflows.RestoreMarkOptions(mark), workflows.RestoreMarkType, mark)
	if err != nil {
		return fmt.Errorf("failed to start the workflow of the restore mark: %w", err)
	}

	return nil
}

// sweepContainers sweeps the runner's orphan containers, at once and then at intervals until ctx ends. It
// calls afterSweep after each.
func sweepContainers(ctx context.Context, c client.Client, r *runner.Runner, logger *slog.Logger,
	afterSweep func()) {
	tick := time.NewTicker(sweepInterval)
	defer tick.Stop()
	for {
		if err := r.Sweep(ctx, jobRunning(c, workflows.ParticipantJobID)); err != nil && ctx.Err() == nil {
			logger.Warn("failed to sweep all containers; the next sweep tries again",
				"runner_id", r.RunnerID, "error", err)
		}
		afterSweep()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
