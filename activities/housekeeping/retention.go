package housekeeping

import (
	"context"
	"fmt"
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

// RemovalProgress is what one [Activities.RemoveExpiredJobs] has removed.
type RemovalProgress struct {
	Jobs    int   `json:"jobs"`
	Objects int   `json:"objects"`
	Bytes   int64 `json:"bytes"`
	// Next is where the next batch begins; empty when there is no more.
	Next string `json:"next,omitempty"`
}

const (
	// removeBatch is how many jobs one activity removes.
	removeBatch = 50
	// unusedAge is how old the document of a job that nobody knows is before it goes: a workflow tries for a day to record
	// a job.
	unusedAge = 48 * time.Hour
	// hostGone is the silence after which a host is forgotten, and with it that it is drained.
	hostGone = 7 * 24 * time.Hour
	// storageAge is longer than an upload takes, and than a container reads its inputs.
	storageAge = 7 * 24 * time.Hour
)

// RemoveExpiredJobs removes jobs that ended longer ago than results are kept, with all that is theirs at this party: their
// outputs, logs, rows of both sides and document. Data goes first and rows last, so that what a crash leaves is found again.
// Outputs that another job has taken over stay for as long as that is kept, and datasets that someone uploaded stay always.
// It looks at a batch of jobs behind after.
func (a *Activities) RemoveExpiredJobs(ctx context.Context, in RemoveExpiredJobsInput) (RemovalProgress, error) {
	var done RemovalProgress
	var before time.Time // nothing but what was begun, before the configuration said that jobs are kept for ever
	if a.Keep > 0 {
		before = time.Now().Add(-a.Keep)
	}
	ids, err := a.Store.ExpiredJobs(ctx, before, in.After, removeBatch)
	if err != nil {
		return done, err
	}
	for _, id := range ids {
		activity.RecordHeartbeat(ctx)
		busy, err := a.busy(ctx, id)
		if err != nil {
			return done, err
		}
		if busy { // its row has ended, and it still gives back what it held
			continue
		}
		if err := a.removeJob(ctx, id, &done); err != nil {
			return done, fmt.Errorf("removing job %s: %w", id, err)
		}
		done.Jobs++
	}
	if len(ids) == removeBatch {
		done.Next = ids[len(ids)-1]
		return done, nil
	}
	if _, err := a.Store.RemoveUnusedDocuments(ctx, time.Now().Add(-unusedAge)); err != nil {
		return done, err
	}
	_, err = a.Store.ForgetRunners(ctx, time.Now().Add(-hostGone))
	return done, err
}

// busy tells whether one of a job's workflows goes on.
func (a *Activities) busy(ctx context.Context, jobID string) (bool, error) {
	for _, goesOn := range []activities.JobRunning{a.TakenPart, a.Scheduled} {
		if on, _, err := goesOn(ctx, jobID); on || err != nil {
			return on, err
		}
	}
	return false, nil
}

func (a *Activities) removeJob(ctx context.Context, jobID string, done *RemovalProgress) error {
	if err := a.Store.MarkRemoving(ctx, jobID); err != nil {
		return err
	}
	before := *done
	prefixes, err := a.dataOf(ctx, jobID)
	if err != nil {
		return err
	}
	for _, prefix := range prefixes {
		activity.RecordHeartbeat(ctx)
		objects, err := a.Blobs.List(ctx, prefix)
		if err != nil {
			return err
		}
		// Also where there are none: a folder may be left.
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
	a.Logger.Info("a job is removed, since it ended longer ago than results are kept", "job_id", jobID,
		"objects", done.Objects-before.Objects, "bytes", done.Bytes-before.Bytes)
	return nil
}

// dataOf is where a job's outputs and logs lie that no other job needs, each prefix once.
func (a *Activities) dataOf(ctx context.Context, jobID string) ([]string, error) {
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
		// Task ids come from partners: none may be such that a dataset of ours goes.
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
		// What a failed run wrote is not recorded as an output, nor what an earlier attempt did.
		for _, id := range dataIDs(t) {
			for _, port := range ports[t.Name] {
				if err := add(bfia.OutputAddress(id, part, port)); err != nil {
					return nil, err
				}
			}
		}
		for attempt := 1; attempt <= t.Attempt; attempt++ {
			run := activities.PartRequest{Key: activities.TaskKey{JobID: jobID, Task: t.Name}, Part: part, Attempt: attempt}.ContainerName()
			prefixes = append(prefixes, activities.LogPrefix(run))
		}
	}
	return prefixes, nil
}

// dataIDs are the ids under which a part's outputs lie, those of its earlier attempts among them.
func dataIDs(t store.Task) []string {
	ids := []string{t.TaskID, t.ReusedTaskID}
	for attempt := 1; attempt < t.Attempt; attempt++ {
		ids = append(ids, bfia.AttemptID(t.JobID, t.Name, attempt))
	}
	return ids
}

// ports are the outputs of a job's tasks, as its DAG has them: none when its document is not here.
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

// document is a job's document, or nil when it is not here.
func (a *Activities) document(ctx context.Context, jobID string) (*bfia.Document, error) {
	body, err := a.Store.Document(ctx, jobID)
	if err != nil {
		return nil, known(err)
	}
	return bfia.ParseDocument(body)
}

// SweepStorage removes what dead processes left half-written in the storage, and superseded generations of datasets that
// no job reads.
func (a *Activities) SweepStorage(ctx context.Context) error {
	return dataset.New(a.Blobs, a.Store).Sweep(ctx, storageAge)
}
