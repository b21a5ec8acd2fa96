package housekeeping

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"go.temporal.io/sdk/activity"

	"hutong/activities"
	"hutong/bfia"
	"hutong/store"
	"hutong/store/blob"
	"hutong/store/dataset"
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
	// runnerForgottenAfter is the time without a heartbeat after which a runner's row is removed, and with it
	// that it is drained.
	runnerForgottenAfter = 7 * 24 * time.Hour
	// orphanAge is the age of an orphan that is removed. It is longer than an upload takes, and than a
	// container reads its inputs.
	orphanAge = 7 * 24 * time.Hour
)

// RemoveExpiredJobs removes a batch of jobs whose retention is over, with their outputs, logs, rows and
// documents at this party. It removes data first and rows last, so that a repetition after a crash finds the
// rest. Outputs that another job reuses stay as long as that job. Uploaded datasets always stay.
func (a *Activities) RemoveExpiredJobs(ctx context.Context, in RemoveExpiredJobsInput) (RemovalProgress,
	error) {
	var done RemovalProgress
	var before time.Time // without retention: only removals that an earlier configuration started
	if a.Keep > 0 {
		before = time.Now().Add(-a.Keep)
	}
	ids, err := a.Store.ExpiredJobs(ctx, before, in.After, removeBatch)
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
		err = a.removeJob(ctx, id, &done)
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
			return done, fmt.Errorf("failed to remove job %s: %w", id, err)
		}
		done.Jobs++
	}
	if len(ids) == removeBatch {
		done.Next = ids[len(ids)-1]
		return done, nil
	}
	if _, err := a.Store.RemoveUnusedDocuments(ctx, time.Now().Add(-unusedDocumentAge)); err != nil {
		return done, err
	}
	_, err = a.Store.ForgetRunners(ctx, runnerForgottenAfter)
	return done, err
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

// removeJob removes one job and counts what it removed in done.
func (a *Activities) removeJob(ctx context.Context, jobID string, done *RemovalProgress) error {
	if err := a.Store.MarkRemoving(ctx, jobID); err != nil {
		return err
	}
	before := *done
	prefixes, err := a.dataPrefixes(ctx, jobID)
	if err != nil {
		return err
	}
	for _, prefix := range prefixes {
		activity.RecordHeartbeat(ctx)
		objects, err := a.Blobs.List(ctx, prefix)
		if err != nil {
			return err
		}
		// Even without objects, since a folder may be left.
		if err := a.Blobs.DeletePrefix(ctx, prefix); err != nil {
			return err
		}
		for _, o := range objects {
			done.Objects++
			done.Bytes += o.Size
		}
	}
	if err := a.Store.RemoveJob(ctx, jobID); err != nil {
		return err
	}
	a.Logger.Info("removed a job whose retention is over", "job_id", jobID,
		"objects", done.Objects-before.Objects, "bytes", done.Bytes-before.Bytes)
	return nil
}

// dataPrefixes returns the storage prefixes of a job's outputs and logs that no other job needs, each once.
func (a *Activities) dataPrefixes(ctx context.Context, jobID string) ([]string, error) {
	tasks, err := a.Store.Tasks(ctx, jobID)
	if err != nil {
		return nil, err
	}
	outputs, err := a.Store.Outputs(ctx, jobID)
	if err != nil {
		return nil, err
	}
	ports, err := a.ports(ctx, jobID)
	if err != nil {
		return nil, err
	}
	var prefixes []string
	inUse := map[string]bool{}
	add := func(at bfia.Address) error {
		used, asked := inUse[at.Name]
		if !asked {
			if used, err = a.Store.OutputsInUse(ctx, jobID, at.Name); err != nil {
				return err
			}
			inUse[at.Name] = used
		}
		prefix := at.Namespace + "/" + at.Name
		if used || at.Name == "" || blob.CheckKey(prefix) != nil || slices.Contains(prefixes, prefix) {
			return nil
		}
		// Task ids come from partners. None may name an uploaded dataset of this party.
		if _, err := a.Store.DataTable(ctx, at.Namespace, at.Name); bfia.CodeOf(err) != bfia.CodeNotFound {
			return err
		}
		prefixes = append(prefixes, prefix)
		return nil
	}
	for _, o := range outputs {
		if err := add(bfia.Address{Namespace: o.Namespace, Name: o.Name}); err != nil {
			return nil, err
		}
	}
	for _, t := range tasks {
		part := bfia.Part{Role: t.Role, Index: t.RoleIndex, NodeID: a.Node}
		// Outputs of a failed container, and of earlier attempts, are not recorded.
		for _, id := range outputTaskIDs(t) {
			for _, port := range ports[t.Name] {
				if err := add(bfia.OutputAddress(id, part, port)); err != nil {
					return nil, err
				}
			}
		}
		for attempt := 1; attempt <= t.Attempt; attempt++ {
			name := activities.PartRequest{Key: activities.TaskKey{JobID: jobID, Task: t.Name}, Part: part,
				Attempt: attempt}.ContainerName()
			prefixes = append(prefixes, activities.LogPrefix(name))
		}
	}
	return prefixes, nil
}

// outputTaskIDs returns the task ids of a part's outputs, including those of earlier attempts.
func outputTaskIDs(t store.Task) []string {
	ids := []string{t.TaskID, t.ReusedTaskID}
	for attempt := 1; attempt < t.Attempt; attempt++ {
		ids = append(ids, bfia.AttemptID(t.JobID, t.Name, attempt))
	}
	return ids
}

// ports returns the output ports of a job's tasks, or none if its document is gone.
func (a *Activities) ports(ctx context.Context, jobID string) (map[string][]bfia.Port, error) {
	doc, err := a.document(ctx, jobID)
	if doc == nil || err != nil {
		return nil, err
	}
	ports := map[string][]bfia.Port{}
	for _, c := range doc.DAG.Components {
		ports[c.Name] = c.Output
	}
	return ports, nil
}

// document returns a job's document, or nil if it is gone.
func (a *Activities) document(ctx context.Context, jobID string) (*bfia.Document, error) {
	body, err := a.Store.Document(ctx, jobID)
	if err != nil {
		return nil, ignoreNotFound(err)
	}
	return bfia.ParseDocument(body)
}

// SweepStorage removes half-written objects of dead processes, and superseded generations of datasets that no
// job reads.
func (a *Activities) SweepStorage(ctx context.Context) error {
	return dataset.New(a.Blobs, a.Store).Sweep(ctx, orphanAge)
}
