package worker

import (
	"context"
	"time"

	"go.temporal.io/sdk/client"

	"hutong/activities/periodic"
	"hutong/bfia"
	"hutong/workflows"
)

// periodicInterval is the interval at which a control worker looks for periodic jobs without a workflow: of
// an addition that was interrupted, or lost by Temporal.
const periodicInterval = time.Minute

// keepPeriodicJobs starts the workflows of periodic jobs that have none, at once and then at intervals until
// ctx ends.
func keepPeriodicJobs(ctx context.Context, c client.Client, a *periodic.Activities) {
	tick := time.NewTicker(periodicInterval)
	defer tick.Stop()
	for {
		if err := startPeriodicJobs(ctx, c, a); err != nil && ctx.Err() == nil {
			a.Logger.Warn("failed to start the workflows of all periodic jobs; they are started later",
				"error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func startPeriodicJobs(ctx context.Context, c client.Client, a *periodic.Activities) error {
	jobs, err := a.Store.PeriodicJobs(ctx)
	if err != nil {
		return err
	}
	for _, job := range jobs {
		if job.State == bfia.PeriodicEnded {
			continue
		}
		requestCtx, cancel := context.WithTimeout(ctx, temporalTimeout)
		err := workflows.StartPeriodicJob(requestCtx, c,
			workflows.PeriodicJobInput{PeriodicID: job.PeriodicID, Name: job.Name}, false)
		cancel()
		if err != nil {
			return err
		}
	}

	return nil
}
