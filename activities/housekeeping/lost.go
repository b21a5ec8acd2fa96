package housekeeping

import (
	"context"
	"fmt"
	"time"

	"go.temporal.io/sdk/activity"

	"hutong/bfia"
)

// LostJob is a job whose workflow is gone without having brought it to its end, and who should hear of that.
type LostJob struct {
	JobID string `json:"job_id"`
	// Nodes are the participants, where this node schedules the job.
	Nodes   []string      `json:"nodes,omitempty"`
	Failure *bfia.Failure `json:"failure"`
}

// LostJobs are what one [Activities.FindLostJobs] has found.
type LostJobs struct {
	Jobs []LostJob `json:"jobs,omitempty"`
	// Next is where the next batch begins; empty when there is no more.
	Next string `json:"next,omitempty"`
}

const (
	// lostBatch is how many jobs one activity asks for.
	lostBatch = 200
	// lostAge is how old a job is before it is asked for: its workflow may only just begin.
	lostAge = 5 * time.Minute
)

// FindLostJobsInput names a batch of jobs.
type FindLostJobsInput struct {
	Scheduled bool   `json:"scheduled"`       // the jobs that this party schedules, or those in which it takes part
	After     string `json:"after,omitempty"` // [LostJobs.Next] of the batch before
}

// FindLostJobs finds jobs whose rows have not ended, and whose workflow does not go on: an operator terminated it, or the
// engine's data was lost. scheduled says whether it looks at the jobs that this node schedules, or at those in which it
// takes part; of them a batch behind after. What is younger than some minutes is not asked for, and where the engine does
// not answer it fails.
func (a *Activities) FindLostJobs(ctx context.Context, in FindLostJobsInput) (LostJobs, error) {
	var found LostJobs
	list, goesOn := a.Store.UnfinishedJobs, a.TakenPart
	if in.Scheduled {
		list, goesOn = a.Store.UnfinishedScheduleJobs, a.Scheduled
	}
	ids, err := list(ctx, time.Now().Add(-lostAge), in.After, lostBatch)
	if err != nil {
		return found, err
	}
	for _, id := range ids {
		activity.RecordHeartbeat(ctx)
		on, fate, err := goesOn(ctx, id)
		if err != nil {
			return found, fmt.Errorf("asking whether job %s goes on: %w", id, err)
		}
		if on {
			continue
		}
		// A workflow that has ended in order meanwhile has written the row before.
		if open, err := a.open(ctx, id, in.Scheduled); err != nil {
			return found, err
		} else if !open {
			continue
		}
		lost := LostJob{JobID: id, Failure: &bfia.Failure{Kind: bfia.FailedInternal, NodeID: a.Node,
			Message: "the engine no longer runs the job: its workflow " + fate}}
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

func (a *Activities) open(ctx context.Context, jobID string, scheduled bool) (bool, error) {
	var state bfia.JobState
	if scheduled {
		job, err := a.Store.ScheduleJob(ctx, jobID)
		if err != nil {
			return false, known(err)
		}
		state = job.State
	} else {
		job, err := a.Store.Job(ctx, jobID)
		if err != nil {
			return false, known(err)
		}
		state = job.State
	}
	return !state.Terminal(), nil
}

// known makes what is not known no error.
func known(err error) error {
	if bfia.CodeOf(err) == bfia.CodeNotFound {
		return nil
	}
	return err
}

// participants are the nodes that take part in a job: none when its document is not here.
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

// EndLostJobs ends the rows of lost jobs: they are FINISHED, and what ran is FAILED. What has ended stays as it is.
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
			a.Logger.Warn("a job came to no end of its own", "job_id", lost.JobID, "scheduled", in.Scheduled, "reason", lost.Failure.Message)
		}
	}
	return nil
}

// ReleaseLostReservations gives back the room of jobs that have ended here, and whose workflow was gone before it could.
func (a *Activities) ReleaseLostReservations(ctx context.Context) error {
	ids, err := a.Store.EndedJobsWithReservation(ctx, time.Now().Add(-lostAge))
	if err != nil {
		return err
	}
	for _, id := range ids {
		activity.RecordHeartbeat(ctx)
		on, fate, err := a.TakenPart(ctx, id)
		if err != nil {
			return fmt.Errorf("asking whether job %s goes on: %w", id, err)
		}
		if on {
			continue
		}
		a.Logger.Warn("a job that ended held room", "job_id", id, "workflow", fate)
		if err := a.Store.ReleaseReservation(ctx, id); err != nil {
			return err
		}
	}
	return nil
}
