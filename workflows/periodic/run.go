package periodic

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"hutong/activities"
	"hutong/activities/periodic"
	"hutong/bfia"
	"hutong/internal/calendar"
	"hutong/store"
	"hutong/workflows"
)

const (
	// submitTry bounds one submission, which creates the job at all its parties or undoes that.
	submitTry = 2 * time.Minute
	// manualLimit bounds the submission of a run for which a client waits.
	manualLimit = time.Minute
)

// run is a run whose job has not ended.
type run struct {
	row store.PeriodicRun
	// answered: the submission has ended; refusal says why it failed.
	answered bool
	refusal  string
	request  string // that has started it, if a client has named the request
}

func (r *run) key(id string) periodic.Run {
	return periodic.Run{PeriodicID: id, ScheduledAt: r.row.ScheduledAt, Manual: r.row.Manual}
}

// submitting reports whether the job of a run is being submitted.
func (j *job) submitting() bool {
	return slices.ContainsFunc(j.open, func(r *run) bool { return !r.answered })
}

// execute submits the job of a run and waits for its end.
func (j *job) execute(ctx workflow.Context, r *run) {
	end, ok := j.submit(ctx, r)
	if ok && end.Outcome == "" {
		end, ok = j.awaitEnd(ctx, r)
	}
	if !ok { // the workflow continues as new, or ends
		return
	}
	j.open = slices.DeleteFunc(j.open, func(other *run) bool { return other == r })
	j.count(r, end)
	j.wake()
}

// submit submits the job of a run. The outcome is empty if the job may exist.
func (j *job) submit(ctx workflow.Context, r *run) (end periodic.EndedRun, ok bool) {
	limit := time.Duration(j.row.Recurrence.CatchupSeconds) * time.Second
	if limit = cmp.Or(limit, calendar.DefaultCatchup); r.row.Manual {
		limit = manualLimit
	}
	options := workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		TaskQueue:              activities.ControlQueue,
		Summary:                "submit the job of " + r.row.ScheduledAt.UTC().Format(time.RFC3339),
		StartToCloseTimeout:    submitTry,
		HeartbeatTimeout:       workflows.HeartbeatTimeout,
		ScheduleToCloseTimeout: limit,
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval: time.Second, BackoffCoefficient: 2, MaximumInterval: time.Minute,
			NonRetryableErrorTypes: []string{activities.FailureRefused},
		},
	})
	var out periodic.SubmittedRun
	err := workflow.ExecuteActivity(options, act.SubmitPeriodicRun,
		periodic.SubmitPeriodicRunInput{Run: r.key(j.in.PeriodicID), Name: j.in.Name,
			Timezone: j.row.Recurrence.Timezone}).Get(ctx, &out)
	if ctx.Err() != nil {
		return end, false
	}
	r.answered, r.row.Accepted = true, err == nil && out.Refused == ""
	if r.row.JobID = cmp.Or(out.JobID, r.row.JobID); err != nil {
		r.refusal = "the job could not be submitted in time: " + workflows.Reason(err)
	}
	if out.Refused != "" {
		r.refusal = out.Refused
		j.requested = slices.DeleteFunc(j.requested, func(other *run) bool { return other == r })

		return periodic.EndedRun{Outcome: bfia.RunRefused, Reason: out.Refused}, true
	}

	return end, true
}

// awaitEnd waits for the end of a run's job. If it is not known whether the job exists, it finds out.
func (j *job) awaitEnd(ctx workflow.Context, r *run) (end periodic.EndedRun, ok bool) {
	options := workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		TaskQueue:           activities.ControlQueue,
		Summary:             "wait for the end of job " + r.row.JobID,
		StartToCloseTimeout: workflows.RunLimit,
		HeartbeatTimeout:    workflows.HeartbeatTimeout,
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval: time.Second, BackoffCoefficient: 2, MaximumInterval: time.Minute},
	})
	err := workflow.ExecuteActivity(options, act.AwaitPeriodicRun, periodic.AwaitPeriodicRunInput{
		Run: r.key(j.in.PeriodicID), JobID: r.row.JobID, Submitted: r.row.Accepted,
		Unsubmitted: r.refusal}).Get(ctx, &end)
	if ctx.Err() != nil {
		return end, false
	}
	if err != nil {
		end = periodic.EndedRun{Outcome: bfia.RunUnknown, Reason: workflows.Reason(err)}
		r.row.Outcome, r.row.Reason = end.Outcome, end.Reason
		j.note(r.row, workflow.Now(ctx))
	}

	return end, true
}

// count counts failures in a row, and pauses after too many. A job that someone stopped is none, and no
// success.
func (j *job) count(r *run, end periodic.EndedRun) {
	switch {
	case end.Outcome.Failed():
		j.row.Failures++
	case end.Outcome == bfia.PeriodicOutcome(bfia.OutcomeSuccess):
		j.row.Failures = 0

		return
	default:
		return
	}
	limit := j.row.Recurrence.PauseOnFailure
	if limit == 0 || j.row.Failures < limit || j.row.State != bfia.PeriodicActive {
		return
	}
	last := "the last run was refused: " + end.Reason
	if end.Outcome != bfia.RunRefused {
		last = fmt.Sprintf("the last job, %s, is %s", r.row.JobID, end.Outcome)
	}
	j.pause(fmt.Sprintf("%d runs in a row have failed; %s", j.row.Failures, last))
}
