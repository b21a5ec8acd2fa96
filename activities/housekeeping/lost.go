package housekeeping

import (
	"context"
	"fmt"
	"time"

	"go.temporal.io/sdk/activity"

	"hutong/bfia"
)

// LostJob is a job whose workflow is gone and did not end it.
type LostJob struct {
	JobID string `json:"job_id"`
	// Nodes are the participants to notify, if this party schedules the job.
	Nodes   []string      `json:"nodes,omitempty"`
	Failure *bfia.Failure `json:"failure"`
}

// FoundLostJobs is the result of one [Activities.FindLostJobs].
type FoundLostJobs struct {
	Jobs []LostJob `json:"jobs,omitempty"`
	// Next is the After of the next batch, or "" after the last one.
	Next string `json:"next,omitempty"`
}

const (
	// lostBatch is the number of jobs in a batch.
	lostBatch = 200
	// lostAge is the least age of a job that is checked, since the workflow of a younger one may not have
	// started.
	lostAge = 5 * time.Minute
)

// FindLostJobsInput names a batch of jobs.
type FindLostJobsInput struct {
	Scheduled bool   `json:"scheduled"`       // the jobs that this party schedules, else those in which it participates
	After     string `json:"after,omitempty"` // [FoundLostJobs.Next] of the batch before
}

// FindLostJobs returns unended jobs whose workflow does not run: an operator terminated it, or Temporal's
// data was lost. It checks one batch, and fails if Temporal does not answer.
func (a *Activities) FindLostJobs(ctx context.Context, in FindLostJobsInput) (FoundLostJobs, error) {
	var found FoundLostJobs
	list, jobRunning := a.Store.UnfinishedJobs, a.Participating
	if in.Scheduled {
		list, jobRunning = a.Store.UnfinishedScheduleJobs, a.Scheduled
	}
	ids, err := list(ctx, time.Now().Add(-lostAge), in.After, lostBatch)
	if err != nil {
		return found, err
	}
	for _, id := range ids {
		activity.RecordHeartbeat(ctx)
		running, closed, err := jobRunning(ctx, id)
		if err != nil {
			return found, fmt.Errorf("failed to ask Temporal whether job %s runs: %w", id, err)
		}
		if running {
			continue
		}
		// A workflow that has ended in order meanwhile has written the row first.
		if open, err := a.unended(ctx, id, in.Scheduled); err != nil {
			return found, err
		} else if !open {
			continue
		}
		lost := LostJob{JobID: id, Failure: &bfia.Failure{Kind: bfia.FailedInternal, NodeID: a.Node,
			Message: "Temporal no longer runs the job: its workflow " + closed}}
		if in.Scheduled {
			if lost.Nodes, err = a.participants(ctx, id); err != nil {
				return found, err
			}
		}
		found.Jobs = append(found.Jobs, lost)
	}
	if len(ids) == lostBatch {
		found.Next = ids[len(ids)-1]
	}
	return found, nil
}

// unended reports whether a job's row has not ended.
func (a *Activities) unended(ctx context.Context, jobID string, scheduled bool) (bool, error) {
	var state bfia.JobState
	if scheduled {
		job, err := a.Store.ScheduleJob(ctx, jobID)
		if err != nil {
			return false, ignoreNotFound(err)
		}
		state = job.State
	} else {
		job, err := a.Store.Job(ctx, jobID)
		if err != nil {
			return false, ignoreNotFound(err)
		}
		state = job.State
	}
	return !state.Terminal(), nil
}

// ignoreNotFound returns nil for a not-found error.
func ignoreNotFound(err error) error {
	if bfia.CodeOf(err) == bfia.CodeNotFound {
		return nil
	}
	return err
}

// participants returns the participants of a job, or none if its document is gone.
func (a *Activities) participants(ctx context.Context, jobID string) ([]string, error) {
	doc, err := a.document(ctx, jobID)
	if doc == nil || err != nil {
		return nil, err
	}
	return doc.Config.Nodes(), nil
}

// EndLostJobsInput names lost jobs.
type EndLostJobsInput struct {
	Scheduled bool      `json:"scheduled"` // see [FindLostJobsInput]
	Jobs      []LostJob `json:"jobs"`
}

// EndLostJobs ends the rows of lost jobs. Jobs become FINISHED, their running tasks FAILED. Ended ones stay
// as they are.
func (a *Activities) EndLostJobs(ctx context.Context, in EndLostJobsInput) error {
	end := a.Store.EndLostJob
	if in.Scheduled {
		end = a.Store.EndLostScheduleJob
	}
	for _, lost := range in.Jobs {
		ended, err := end(ctx, lost.JobID, lost.Failure, time.Now())
		if err != nil {
			return err
		}
		if ended {
			a.removed(EndedLostJobs, 1)
			a.Logger.Warn("ended a job whose workflow is gone", "job_id", lost.JobID, "scheduled",
				in.Scheduled, "reason", lost.Failure.Message)
		}
	}
	return nil
}

// ReleaseLostReservations releases the reservations of ended jobs whose workflow is gone.
func (a *Activities) ReleaseLostReservations(ctx context.Context) error {
	ids, err := a.Store.EndedJobsWithReservation(ctx, time.Now().Add(-lostAge))
	if err != nil {
		return err
	}
	for _, id := range ids {
		activity.RecordHeartbeat(ctx)
		running, closed, err := a.Participating(ctx, id)
		if err != nil {
			return fmt.Errorf("failed to ask Temporal whether job %s runs: %w", id, err)
		}
		if running {
			continue
		}
		a.Logger.Warn("released the reservation of an ended job", "job_id", id, "workflow", closed)
		if err := a.Store.ReleaseReservation(ctx, id); err != nil {
			return err
		}
		a.removed(ReleasedReservation, 1)
	}
	return nil
}
