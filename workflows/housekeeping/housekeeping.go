package housekeeping

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"hutong/activities"
	"hutong/activities/housekeeping"
	"hutong/activities/participant"
	"hutong/activities/scheduler"
	"hutong/bfia"
	"hutong/workflows"
)

var (
	act            *housekeeping.Activities
	schedulerAct   *scheduler.Activities
	participantAct *participant.Activities
)

const (
	// maxBatches bounds what one run does, for its history's sake.
	maxBatches = 200
	// tellLimit is how long participants of a lost job are tried.
	tellLimit = 10 * time.Minute
)

// Result is what a run of [Run] did.
type Result struct {
	Lost    []string                     `json:"lost,omitempty"` // jobs that the engine had lost, now ended
	Removed housekeeping.RemovalProgress `json:"removed"`        // what was kept long enough
}

// Run sees to it that nothing is left behind at a party: it brings jobs to their end whose workflow is gone,
// removes what has been kept for long enough, and sweeps the storage. Each is tried whatever becomes of the others.
func Run(ctx workflow.Context) (Result, error) {
	var done Result
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
			var lost housekeeping.FoundLostJobs
			if !try("looking for lost jobs", housework(ctx, act.FindLostJobs,
				housekeeping.FindLostJobsInput{Scheduled: scheduled, After: after}).Get(ctx, &lost)) {
				break
			}
			if len(lost.Jobs) > 0 && try("ending lost jobs", housework(ctx, act.EndLostJobs,
				housekeeping.EndLostJobsInput{Scheduled: scheduled, Jobs: lost.Jobs}).Get(ctx, nil)) {
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
	try("releasing lost room", housework(ctx, act.ReleaseLostReservations).Get(ctx, nil))
	for batch := 0; batch < maxBatches; batch++ {
		var removed housekeeping.RemovalProgress
		if !try("removing expired jobs", housework(ctx, act.RemoveExpiredJobs,
			housekeeping.RemoveExpiredJobsInput{After: done.Removed.Next}).Get(ctx, &removed)) {
			break
		}
		done.Removed = housekeeping.RemovalProgress{Jobs: done.Removed.Jobs + removed.Jobs, Objects: done.Removed.Objects + removed.Objects,
			Bytes: done.Removed.Bytes + removed.Bytes, Next: removed.Next}
		workflow.SetCurrentDetails(ctx, done.String())
		if removed.Next == "" {
			break
		}
	}
	try("sweeping the storage", housework(ctx, act.SweepStorage).Get(ctx, nil))
	workflow.SetCurrentDetails(ctx, done.String())
	return done, errors.Join(failed...)
}

// String tells people what was done.
func (k Result) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Removed %d jobs that ended long ago, with %d stored objects of %d bytes", k.Removed.Jobs, k.Removed.Objects, k.Removed.Bytes)
	if len(k.Lost) > 0 {
		fmt.Fprintf(&b, "\n\nEnded jobs that the engine had lost: %s", strings.Join(k.Lost[:min(len(k.Lost), 50)], ", "))
	}
	return b.String()
}

// housework begins one of the activities, each of which is a batch of minutes at most.
func housework(ctx workflow.Context, activity any, in ...any) workflow.Future {
	return workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		TaskQueue: activities.ControlQueue, StartToCloseTimeout: 15 * time.Minute, HeartbeatTimeout: 2 * time.Minute,
		ScheduleToCloseTimeout: 30 * time.Minute,
		RetryPolicy:            &temporal.RetryPolicy{InitialInterval: time.Second, BackoffCoefficient: 2, MaximumInterval: time.Minute, MaximumAttempts: 5},
	}), activity, in...)
}

// tellLost tells the participants that a job has ended which this node scheduled, or gives back what it held here. Who can't
// be reached asks for the job, or ends it when it is told by hand.
func tellLost(ctx workflow.Context, job housekeeping.LostJob) {
	if len(job.Nodes) == 0 {
		_ = workflows.SendCommand(ctx, "release the session of "+job.JobID, time.Minute, participantAct.ReleaseSession,
			participant.ReleaseSessionInput{Session: bfia.SessionID(job.JobID)}).Get(ctx, nil)
		return
	}
	var stops []workflow.Future
	for _, node := range job.Nodes {
		stops = append(stops, workflows.SendCommand(ctx, "stop "+job.JobID+" at "+node, tellLimit, schedulerAct.SendStop,
			scheduler.SendStopInput{Node: node, Job: bfia.JobRef{JobID: job.JobID, Failure: job.Failure.ForPartners(bfia.ShareReason)}}))
	}
	for _, stop := range stops {
		_ = stop.Get(ctx, nil)
	}
}
