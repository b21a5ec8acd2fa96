package periodic

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/workflow"

	"hutong/bfia"
	"hutong/store"
	"hutong/workflows"
)

// handleUpdates registers the handlers of all updates.
func (j *job) handleUpdates(ctx workflow.Context) error {
	return errors.Join(
		workflow.SetUpdateHandler(ctx, workflows.UpdatePeriodicPause, j.handlePause),
		workflow.SetUpdateHandler(ctx, workflows.UpdatePeriodicResume, j.handleResume),
		workflow.SetUpdateHandler(ctx, workflows.UpdatePeriodicChange, j.handleChange),
		workflow.SetUpdateHandler(ctx, workflows.UpdatePeriodicRun, j.handleRun),
		workflow.SetUpdateHandler(ctx, workflows.UpdatePeriodicDelete, j.handleDelete),
	)
}

// ready waits until the state is loaded, and refuses an update that comes too late.
func (j *job) ready(ctx workflow.Context) error {
	if err := workflow.Await(ctx, func() bool { return j.loaded }); err != nil {
		return err
	}
	switch {
	case j.deleted || j.deleting:
		return workflows.Refuse(bfia.CodeNotFound,
			fmt.Sprintf("name: the periodic job %q is not known", j.in.Name))
	case j.row.State == bfia.PeriodicEnded:
		return workflows.Refuse(bfia.CodeConflict,
			fmt.Sprintf("the periodic job %s has ended: delete it, and add it again", j.in.Name))
	case j.ending:
		return workflows.Refuse(bfia.CodeUnavailable,
			fmt.Sprintf("the workflow of the periodic job %s begins again; try again", j.in.Name))
	}

	return nil
}

// awaitRecord waits until the state as it is now is recorded.
func (j *job) awaitRecord(ctx workflow.Context) error {
	wanted := j.wanted
	err := workflow.Await(ctx, func() bool { return j.recorded >= wanted || j.deleted || j.ending })
	if err != nil || j.recorded >= wanted {
		return err
	}

	return workflows.Refuse(bfia.CodeUnavailable,
		fmt.Sprintf("the change of the periodic job %s was not recorded; try again", j.in.Name))
}

func (j *job) handlePause(ctx workflow.Context, reason string) error {
	if err := j.ready(ctx); err != nil {
		return err
	}
	j.pause(reason)

	return j.awaitRecord(ctx)
}

func (j *job) handleResume(ctx workflow.Context) error {
	if err := j.ready(ctx); err != nil {
		return err
	}
	if j.row.State != bfia.PeriodicPaused {
		return nil
	}
	j.row.State, j.row.Reason, j.row.Failures = bfia.PeriodicActive, "", 0
	j.restart(ctx)

	return j.awaitRecord(ctx)
}

// restart makes the scheduled times after now count. Those that passed meanwhile are not missed.
func (j *job) restart(ctx workflow.Context) {
	j.row.AfterAt, j.nextKnown = workflow.Now(ctx), false
	j.wake()
}

func (j *job) handleChange(ctx workflow.Context, change workflows.PeriodicChange) error {
	if err := j.ready(ctx); err != nil {
		return err
	}
	if change.Revision <= j.row.Revision { // a later change came first
		return workflows.Refuse(bfia.CodeConflict,
			fmt.Sprintf("the periodic job %s was changed at the same time; look at it again", j.in.Name))
	}
	j.row.Recurrence, j.row.Revision, j.row.Failures = change.Recurrence, change.Revision, 0
	j.restart(ctx)

	return j.awaitRecord(ctx)
}

// maxRequests is how many requests for runs are known, so that a repeated one starts no second run.
const maxRequests = 100

// handleRun starts a run outside of the calendar, also while the periodic job is paused. A request that
// arrives again gets the answer of the first one.
func (j *job) handleRun(ctx workflow.Context, in workflows.PeriodicRunInput) (jobID string, err error) {
	if err := j.ready(ctx); err != nil {
		return "", err
	}
	if known := j.request(in.RequestID); known != nil {
		return j.awaitAnswer(ctx, known)
	}
	if len(j.open) >= maxOpen ||
		len(j.open) > 0 && j.row.Recurrence.Overlap != bfia.OverlapAllowAll || j.waiting != nil {
		return "", workflows.Refuse(bfia.CodeConflict, fmt.Sprintf(
			"%s of the periodic job %s has not ended; wait for its end, or stop it", j.openJobs(), j.in.Name))
	}
	r := &run{row: store.PeriodicRun{
		ScheduledAt: workflow.Now(ctx).UTC().Truncate(time.Microsecond), Manual: true,
		Revision: j.row.Revision}}
	if in.RequestID != "" {
		r.request = in.RequestID
		j.requested = append(j.requested, r)
		if len(j.requested) > maxRequests {
			j.requested = j.requested[1:]
		}
	}
	j.start(r)
	j.changed = true

	return j.awaitAnswer(ctx, r)
}

// request returns the run that a request has started, or nil. A request whose job was refused has started
// none.
func (j *job) request(id string) *run {
	i := slices.IndexFunc(j.requested, func(r *run) bool { return id != "" && r.request == id })
	if i < 0 {
		return nil
	}

	return j.requested[i]
}

// awaitAnswer waits until it is known what became of a run's submission.
func (j *job) awaitAnswer(ctx workflow.Context, r *run) (jobID string, err error) {
	if err := workflow.Await(ctx, func() bool { return r.answered || j.deleted }); err != nil {
		return "", err
	}
	if !r.answered {
		return "", workflows.Refuse(bfia.CodeNotFound,
			fmt.Sprintf("name: the periodic job %s was deleted meanwhile", j.in.Name))
	}
	if r.refusal != "" {
		return "", workflows.Refuse(bfia.CodeRefused, r.refusal)
	}

	return r.row.JobID, nil
}

func (j *job) handleDelete(ctx workflow.Context) error {
	if err := workflow.Await(ctx, func() bool { return j.loaded }); err != nil {
		return err
	}
	j.deleting = true
	j.wake()

	err := workflow.Await(ctx, func() bool { return j.deleted || j.ending })
	if err == nil && !j.deleted {
		err = workflows.Refuse(bfia.CodeUnavailable,
			fmt.Sprintf("the periodic job %s was not deleted; try again", j.in.Name))
	}

	return err
}
