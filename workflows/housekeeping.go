package workflows

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"hutong/activities"
	"hutong/bfia"
)

const (
	// HousekeepingName is the name under which [Housekeeping] is registered.
	HousekeepingName = "Housekeeping"
	// HousekeepingID is the id of the party's one: a run of it begins every [HousekeepingCron], never two at once.
	HousekeepingID   = "housekeeping"
	HousekeepingCron = "@every 10m"
	// HousekeepingLimit bounds one run; the next goes on with what is left.
	HousekeepingLimit = 2 * time.Hour
	// maxBatches bounds what one run does, for its history's sake.
	maxBatches = 200
	// tellLimit is how long participants of a lost job are tried.
	tellLimit = 10 * time.Minute
)

// HousekeepingResult is what a run of [Housekeeping] did.
type HousekeepingResult struct {
	Lost    []string                   `json:"lost,omitempty"` // jobs that the engine had lost, now ended
	Removed activities.RemovalProgress `json:"removed"`        // what was kept long enough
}

// Housekeeping sees to it that nothing is left behind at a party: it brings jobs to their end whose workflow is gone,
// removes what has been kept for long enough, and sweeps the storage. Each is tried whatever becomes of the others.
func Housekeeping(ctx workflow.Context) (HousekeepingResult, error) {
	var done HousekeepingResult
	var failed []error
	try := func(doing string, err error) bool {
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", doing, err))
		}
		return err == nil
	}
	told := workflow.NewWaitGroup(ctx)
	for _, scheduled := range []bool{true, false} {
		for after, batch := "", 0; batch < maxBatches; batch++ {
			var lost activities.LostJobs
			if !try("looking for lost jobs", housework(ctx, activities.FindLostJobsName, scheduled, after).Get(ctx, &lost)) {
				break
			}
			if len(lost.Jobs) > 0 && try("ending lost jobs", housework(ctx, activities.EndLostJobsName, scheduled, lost.Jobs).Get(ctx, nil)) {
				for _, job := range lost.Jobs {
					done.Lost = append(done.Lost, job.JobID)
					told.Add(1)
					workflow.Go(ctx, func(ctx workflow.Context) {
						defer told.Done()
						tellLost(ctx, job)
					})
				}
				told.Wait(ctx)
			}
			if after = lost.Next; after == "" {
				break
			}
		}
	}
	try("releasing lost room", housework(ctx, activities.ReleaseLostReservationsName).Get(ctx, nil))
	for batch := 0; batch < maxBatches; batch++ {
		var removed activities.RemovalProgress
		if !try("removing expired jobs", housework(ctx, activities.RemoveExpiredJobsName, done.Removed.Next).Get(ctx, &removed)) {
			break
		}
		done.Removed = activities.RemovalProgress{Jobs: done.Removed.Jobs + removed.Jobs, Objects: done.Removed.Objects + removed.Objects,
			Bytes: done.Removed.Bytes + removed.Bytes, Next: removed.Next}
		workflow.SetCurrentDetails(ctx, done.String())
		if removed.Next == "" {
			break
		}
	}
	try("sweeping the storage", housework(ctx, activities.SweepStorageName).Get(ctx, nil))
	workflow.SetCurrentDetails(ctx, done.String())
	return done, errors.Join(failed...)
}

// String tells people what was done.
func (k HousekeepingResult) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Removed %d jobs that ended long ago, with %d stored objects of %d bytes", k.Removed.Jobs, k.Removed.Objects, k.Removed.Bytes)
	if len(k.Lost) > 0 {
		fmt.Fprintf(&b, "\n\nEnded jobs that the engine had lost: %s", strings.Join(k.Lost[:min(len(k.Lost), 50)], ", "))
	}
	return b.String()
}

// housework begins one of the activities, each of which is a batch of minutes at most.
func housework(ctx workflow.Context, name string, args ...any) workflow.Future {
	return workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		TaskQueue: activities.ControlQueue, StartToCloseTimeout: 15 * time.Minute, HeartbeatTimeout: 2 * time.Minute,
		ScheduleToCloseTimeout: 30 * time.Minute,
		RetryPolicy:            &temporal.RetryPolicy{InitialInterval: time.Second, BackoffCoefficient: 2, MaximumInterval: time.Minute, MaximumAttempts: 5},
	}), name, args...)
}

// tellLost tells the participants that a job has ended which this node scheduled, or gives back what it held here. Who can't
// be reached asks for the job, or ends it when it is told by hand.
func tellLost(ctx workflow.Context, job activities.LostJob) {
	if len(job.Nodes) == 0 {
		_ = command(ctx, "release the session of "+job.JobID, time.Minute, activities.ReleaseSessionName, bfia.SessionID(job.JobID)).Get(ctx, nil)
		return
	}
	var stops []workflow.Future
	for _, node := range job.Nodes {
		stops = append(stops, command(ctx, "stop "+job.JobID+" at "+node, tellLimit, activities.SendStopName, node,
			bfia.JobRef{JobID: job.JobID, Failure: job.Failure.ForPartners(bfia.ShareReason)}))
	}
	for _, stop := range stops {
		_ = stop.Get(ctx, nil)
	}
}
