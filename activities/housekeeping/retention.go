package housekeeping

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"go.temporal.io/sdk/activity"

	"hutong/activities"
	"hutong/bfia"
	"hutong/bfia/sign"
	"hutong/store/dataset"
	"hutong/store/model"
)

// RemoveExpiredJobsInput names where a batch starts.
type RemoveExpiredJobsInput struct {
	After string `json:"after,omitempty"` // [RemovalProgress.Next] of the batch before
}

// RemovalProgress counts what one [Activities.RemoveExpiredJobs] removed.
type RemovalProgress struct {
	Jobs    int   `json:"jobs"`
	Objects int   `json:"objects"`
	Bytes   int64 `json:"bytes"`
	// Failed holds jobs that could not be removed. The next run of the housekeeping tries again.
	Failed []FailedRemoval `json:"failed,omitempty"`
	// Next is the After of the next batch, or "" after the last one.
	Next string `json:"next,omitempty"`
}

// FailedRemoval says why a job could not be removed.
type FailedRemoval struct {
	JobID  string `json:"job_id"`
	Reason string `json:"reason"`
}

const (
	// removeBatch is the number of jobs in a batch.
	removeBatch = 50
	// unusedDocumentAge is the age at which the document of an unknown job is removed. A workflow retries for
	// a day to record a job.
	unusedDocumentAge = 48 * time.Hour
	// nonceMemory is how long the nonces of signed requests are remembered: as long as a request is valid,
	// and more, since the clocks of API processes differ.
	nonceMemory = 2 * sign.NonceMemory
	// runnerForgottenAfter is the time without a heartbeat after which a runner's row is removed, and with it
	// that it is drained.
	runnerForgottenAfter = 7 * 24 * time.Hour
	// orphanAge is the age of an orphan that is removed. It is longer than an upload takes, and than a
	// container reads its inputs.
	orphanAge = 7 * 24 * time.Hour
)

// RemoveExpiredJobs removes a batch of jobs whose retention, or that of their project, is over, with their
// outputs, logs, rows and documents at this party. It removes data first and rows last, so that a repetition
// after a crash finds the rest. Outputs that another job reuses stay as long as that job. Uploaded datasets
// always stay.
func (a *Activities) RemoveExpiredJobs(ctx context.Context, in RemoveExpiredJobsInput) (RemovalProgress,
	error) {
	var done RemovalProgress
	var before time.Time // without retention: only removals that an earlier configuration started
	if a.Keep > 0 {
		before = time.Now().Add(-a.Keep)
	}
	own, err := a.projectRetentions(ctx)
	if err != nil {
		return done, err
	}
	ids, err := a.Store.ExpiredJobsOfProjects(ctx, before, own, in.After, removeBatch)
	if err != nil {
		return done, err
	}
	for _, id := range ids {
		activity.RecordHeartbeat(ctx)
		running, err := a.jobRunning(ctx, id)
		if err != nil {
			return done, err
		}
		if running { // its row has ended, but its workflow still cleans up
			continue
		}
		removed, err := a.remover(ctx).RemoveJob(ctx, id)
		done.Jobs += removed.Jobs
		done.Objects += removed.Objects
		done.Bytes += removed.Bytes
		a.removed(RemovedJobs, int64(removed.Jobs))
		a.removed(RemovedObjects, int64(removed.Objects))
		a.removed(RemovedBytes, removed.Bytes)
		if errors.Is(err, fs.ErrPermission) { // of this job's files only: the others can be removed
			if err := a.Store.SetRemovalFailure(ctx, id, err.Error()); err != nil {
				return done, err
			}
			a.Logger.Warn("failed to remove a job whose retention is over; the next run tries again",
				"job_id", id, "error", err)
			done.Failed = append(done.Failed, FailedRemoval{JobID: id, Reason: err.Error()})
			continue
		}
		if err != nil {
			return done, err
		}
	}
	if len(ids) == removeBatch {
		done.Next = ids[len(ids)-1]
		return done, nil
	}
	if _, err := a.Store.RemoveUnusedDocuments(ctx, time.Now().Add(-unusedDocumentAge)); err != nil {
		return done, err
	}
	if _, err := a.Store.RemoveUnusedJobClients(ctx, time.Now().Add(-unusedDocumentAge)); err != nil {
		return done, err
	}
	if _, err := a.Store.RemoveUnusedSubmissions(ctx, time.Now().Add(-unusedDocumentAge)); err != nil {
		return done, err
	}
	if err := a.recordMissingProjects(ctx); err != nil {
		return done, err
	}
	if _, err := a.Store.RemoveUnusedJobPermits(ctx, time.Now().Add(-unusedDocumentAge)); err != nil {
		return done, err
	}
	if a.Keep > 0 {
		if _, err := a.Store.RemoveNotifications(ctx, before); err != nil {
			return done, err
		}
	}
	if _, err := a.Store.RemoveNonces(ctx, nonceMemory); err != nil {
		return done, err
	}
	_, err = a.Store.ForgetRunners(ctx, runnerForgottenAfter)
	return done, err
}

// projectRetentions returns before which time jobs ended whose retention is over, by the projects that have a
// retention of their own.
func (a *Activities) projectRetentions(ctx context.Context) (map[string]time.Time, error) {
	projects, err := a.Store.ProjectSettings(ctx)
	own := map[string]time.Time{}
	for _, p := range projects {
		if p.RetentionHours > 0 {
			own[p.Name] = time.Now().Add(-time.Duration(p.RetentionHours) * time.Hour)
		}
	}
	return own, err
}

// recordMissingProjects records the projects of jobs of processes of a version without projects: those of all
// times once in each process, since the party may have returned to such a version for long, and then those of
// the last days.
func (a *Activities) recordMissingProjects(ctx context.Context) error {
	found, err := a.Store.HasProjects(ctx)
	if err != nil || !found {
		return err
	}
	var since time.Time
	if a.projectsRecorded.Load() {
		since = time.Now().Add(-orphanAge)
	}
	if _, err := a.Store.RecordMissingProjects(ctx, since); err != nil {
		return err
	}
	a.projectsRecorded.Store(true)
	return nil
}

// jobRunning reports whether one of a job's workflows runs.
func (a *Activities) jobRunning(ctx context.Context, jobID string) (bool, error) {
	for _, jobRunning := range []activities.JobRunning{a.Participating, a.Scheduled} {
		if running, _, err := jobRunning(ctx, jobID); running || err != nil {
			return running, err
		}
	}
	return false, nil
}

func (a *Activities) remover(ctx context.Context) Remover {
	return Remover{Node: a.Node, Store: a.Store, Blobs: a.Blobs, DeleteWorkflows: a.DeleteWorkflows,
		Heartbeat: func() { activity.RecordHeartbeat(ctx) }, Logger: a.Logger}
}

// document returns a job's document, or nil if it is gone.
func (a *Activities) document(ctx context.Context, jobID string) (*bfia.Document, error) {
	return document(ctx, a.Store, jobID)
}

// SweepStorage removes half-written objects of dead processes, superseded generations of datasets that no job
// reads, and models that nobody needs.
func (a *Activities) SweepStorage(ctx context.Context) error {
	return errors.Join(dataset.New(a.Blobs, a.Store).Sweep(ctx, orphanAge),
		model.New(a.Node, a.Blobs, a.Store).Sweep(ctx, "", time.Now().Add(-orphanAge)))
}
