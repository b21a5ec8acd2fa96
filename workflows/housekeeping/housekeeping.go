// Package housekeeping holds the workflow that ends the jobs of a party that Temporal lost, removes results
// after their retention, and sweeps the storage.
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
	// maxBatches bounds what one run does, and with it the run's history.
	maxBatches = 200
	// notifyLimit bounds the retries of the end of a lost job to a participant.
	notifyLimit = 10 * time.Minute
	// maxListed bounds the lost jobs that Temporal's UI shows, and those that could not be removed.
	maxListed = 50
)

// Result is the result of [Run].
type Result struct {
	Lost    []string                     `json:"lost,omitempty"` // jobs that were lost, and are ended
	Removed housekeeping.RemovalProgress `json:"removed"`        // after their retention
}

// Run runs the housekeeping of a party once. It ends jobs whose workflow is lost, releases their
// reservations, removes jobs after their retention, and sweeps the storage. A failure of one step does not
// prevent the others.
func Run(ctx workflow.Context) (Result, error) {
	r := &run{}
	for _, scheduled := range []bool{true, false} {
		r.endLostJobs(ctx, scheduled)
	}
	r.check("release lost reservations", execute(ctx, act.ReleaseLostReservations).Get(ctx, nil))
	r.removeExpiredJobs(ctx)
	r.check("sweep the storage", execute(ctx, act.SweepStorage).Get(ctx, nil))
	workflow.SetCurrentDetails(ctx, r.result.String())

	return r.result, errors.Join(r.failed...)
}

type run struct {
	result Result
	failed []error
}

// check reports whether a step has succeeded, and keeps its error.
func (r *run) check(step string, err error) bool {
	if err != nil {
		r.failed = append(r.failed, fmt.Errorf("failed to %s: %w", step, err))
	}

	return err == nil
}

// endLostJobs ends the lost jobs that this party schedules, or those in which it takes part.
func (r *run) endLostJobs(ctx workflow.Context, scheduled bool) {
	for after, batch := "", 0; batch < maxBatches; batch++ {
		var lost housekeeping.FoundLostJobs
		if !r.check("find lost jobs", execute(ctx, act.FindLostJobs,
			housekeeping.FindLostJobsInput{Scheduled: scheduled, After: after}).Get(ctx, &lost)) {
			return
		}

		if len(lost.Jobs) > 0 && r.check("end lost jobs", execute(ctx, act.EndLostJobs,
			housekeeping.EndLostJobsInput{Scheduled: scheduled, Jobs: lost.Jobs}).Get(ctx, nil)) {
			notified := workflow.NewWaitGroup(ctx)
			for _, job := range lost.Jobs {
				r.result.Lost = append(r.result.Lost, job.JobID)
				notified.Add(1)
				workflow.Go(ctx, func(ctx workflow.Context) {
					defer notified.Done()
					notifyLost(ctx, job)
				})
			}
			notified.Wait(ctx)
		}
		if after = lost.Next; after == "" {
			return
		}
	}
}

// removeExpiredJobs removes the jobs whose retention is over.
func (r *run) removeExpiredJobs(ctx workflow.Context) {
	total := &r.result.Removed
	for range maxBatches {
		var batch housekeeping.RemovalProgress
		if !r.check("remove expired jobs", execute(ctx, act.RemoveExpiredJobs,
			housekeeping.RemoveExpiredJobsInput{After: total.Next}).Get(ctx, &batch)) {
			return
		}

		total.Jobs += batch.Jobs
		total.Objects += batch.Objects
		total.Bytes += batch.Bytes
		total.Failed = append(total.Failed, batch.Failed...)
		total.Failed = total.Failed[:min(len(total.Failed), maxListed)]
		total.Next = batch.Next
		workflow.SetCurrentDetails(ctx, r.result.String())
		if batch.Next == "" {
			return
		}
	}
}

// String describes the result for people.
func (r Result) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Removed %d jobs after their retention, with %d stored objects of %d bytes",
		r.Removed.Jobs, r.Removed.Objects, r.Removed.Bytes)
	for _, f := range r.Removed.Failed {
		fmt.Fprintf(&b, "\n\nFailed to remove job %s: %s", f.JobID, f.Reason)
	}
	if len(r.Lost) > 0 {
		fmt.Fprintf(&b, "\n\nEnded jobs whose workflow was lost: %s",
			strings.Join(r.Lost[:min(len(r.Lost), maxListed)], ", "))
	}

	return b.String()
}

// execute runs one of the activities, each of which is a batch of some minutes at most.
func execute(ctx workflow.Context, activity any, in ...any) workflow.Future {
	return workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		TaskQueue:              activities.ControlQueue,
		StartToCloseTimeout:    15 * time.Minute,
		HeartbeatTimeout:       2 * time.Minute,
		ScheduleToCloseTimeout: 30 * time.Minute,
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval: time.Second, BackoffCoefficient: 2, MaximumInterval: time.Minute,
			MaximumAttempts: 5},
	}), activity, in...)
}

// notifyLost notifies the participants of the end of a lost job that this party scheduled, or releases the
// session of one in which it took part. A participant that is unreachable polls for the job, or an operator
// stops it there.
func notifyLost(ctx workflow.Context, job housekeeping.LostJob) {
	if len(job.Nodes) == 0 {
		in := participant.ReleaseSessionInput{Session: bfia.SessionID(job.JobID)}
		id := "release the session of " + job.JobID
		_ = workflows.SendCommand(ctx, id, time.Minute, participantAct.ReleaseSession, in).Get(ctx, nil)

		return
	}

	stop := bfia.JobRef{JobID: job.JobID, Failure: job.Failure.ForPartners(bfia.ShareReason)}
	var stops []workflow.Future
	for _, node := range job.Nodes {
		stops = append(stops, workflows.SendCommand(ctx, "stop "+job.JobID+" at "+node, notifyLimit,
			schedulerAct.SendStop, scheduler.SendStopInput{Node: node, Job: stop}))
	}
	for _, f := range stops {
		_ = f.Get(ctx, nil)
	}
}
