package activities

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"go.temporal.io/sdk/activity"

	"hutong/bfia"
	"hutong/store"
	"hutong/store/blob"
	"hutong/store/dataset"
)

// Housekeeping sees to it that a party keeps nothing for longer than it should, and that each job comes to an end. Its
// activities run one after the other, in one workflow; made again each goes on where it was.
type Housekeeping struct {
	Node  string
	Store *store.Store
	Blobs blob.Store
	// Keep is how long a job is kept after its end; 0 is for ever.
	Keep time.Duration
	// Scheduled and TakenPart ask for a job's workflow at its scheduler and at a participant.
	Scheduled, TakenPart JobOpen
	Logger               *slog.Logger
}

// The names of its activities; see [RecordJobName] for what they mean.
const (
	FindLostJobsName            = "FindLostJobs"
	ReleaseLostReservationsName = "ReleaseLostRoom"
	EndLostJobsName             = "EndLostJobs"
	RemoveExpiredJobsName       = "RemoveExpiredJobs"
	SweepStorageName            = "SweepStorage"
)

// RemovalProgress is what one [Housekeeping.RemoveExpiredJobs] has removed.
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
func (h *Housekeeping) RemoveExpiredJobs(ctx context.Context, after string) (RemovalProgress, error) {
	var done RemovalProgress
	var before time.Time // nothing but what was begun, before the configuration said that jobs are kept for ever
	if h.Keep > 0 {
		before = time.Now().Add(-h.Keep)
	}
	ids, err := h.Store.ExpiredJobs(ctx, before, after, removeBatch)
	if err != nil {
		return done, err
	}
	for _, id := range ids {
		activity.RecordHeartbeat(ctx)
		busy, err := h.busy(ctx, id)
		if err != nil {
			return done, err
		}
		if busy { // its row has ended, and it still gives back what it held
			continue
		}
		if err := h.removeJob(ctx, id, &done); err != nil {
			return done, fmt.Errorf("removing job %s: %w", id, err)
		}
		done.Jobs++
	}
	if len(ids) == removeBatch {
		done.Next = ids[len(ids)-1]
		return done, nil
	}
	if _, err := h.Store.RemoveUnusedDocuments(ctx, time.Now().Add(-unusedAge)); err != nil {
		return done, err
	}
	_, err = h.Store.ForgetRunners(ctx, time.Now().Add(-hostGone))
	return done, err
}

// busy tells whether one of a job's workflows goes on.
func (h *Housekeeping) busy(ctx context.Context, jobID string) (bool, error) {
	for _, goesOn := range []JobOpen{h.TakenPart, h.Scheduled} {
		if on, _, err := goesOn(ctx, jobID); on || err != nil {
			return on, err
		}
	}
	return false, nil
}

func (h *Housekeeping) removeJob(ctx context.Context, jobID string, done *RemovalProgress) error {
	if err := h.Store.MarkRemoving(ctx, jobID); err != nil {
		return err
	}
	before := *done
	prefixes, err := h.dataOf(ctx, jobID)
	if err != nil {
		return err
	}
	for _, prefix := range prefixes {
		activity.RecordHeartbeat(ctx)
		objects, err := h.Blobs.List(ctx, prefix)
		if err != nil {
			return err
		}
		// Also where there are none: a folder may be left.
		if err := h.Blobs.DeletePrefix(ctx, prefix); err != nil {
			return err
		}
		for _, o := range objects {
			done.Objects++
			done.Bytes += o.Size
		}
	}
	if err := h.Store.RemoveJob(ctx, jobID); err != nil {
		return err
	}
	h.Logger.Info("a job is removed, since it ended longer ago than results are kept", "job_id", jobID,
		"objects", done.Objects-before.Objects, "bytes", done.Bytes-before.Bytes)
	return nil
}

// dataOf is where a job's outputs and logs lie that no other job needs, each prefix once.
func (h *Housekeeping) dataOf(ctx context.Context, jobID string) ([]string, error) {
	tasks, err := h.Store.Tasks(ctx, jobID)
	if err != nil {
		return nil, err
	}
	outputs, err := h.Store.Outputs(ctx, jobID)
	if err != nil {
		return nil, err
	}
	ports, err := h.ports(ctx, jobID)
	if err != nil {
		return nil, err
	}
	var prefixes []string
	inUse := map[string]bool{}
	add := func(a bfia.Address) error {
		used, asked := inUse[a.Name]
		if !asked {
			if used, err = h.Store.OutputsInUse(ctx, jobID, a.Name); err != nil {
				return err
			}
			inUse[a.Name] = used
		}
		prefix := a.Namespace + "/" + a.Name
		if used || a.Name == "" || blob.CheckKey(prefix) != nil || slices.Contains(prefixes, prefix) {
			return nil
		}
		// Task ids come from partners: none may be such that a dataset of ours goes.
		if _, err := h.Store.DataTable(ctx, a.Namespace, a.Name); bfia.CodeOf(err) != bfia.CodeNotFound {
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
		part := bfia.Part{Role: t.Role, Index: t.RoleIndex, NodeID: h.Node}
		// What a failed run wrote is not recorded as an output, nor what an earlier attempt did.
		for _, id := range dataIDs(t) {
			for _, port := range ports[t.Name] {
				if err := add(bfia.OutputAddress(id, part, port)); err != nil {
					return nil, err
				}
			}
		}
		for attempt := 1; attempt <= t.Attempt; attempt++ {
			run := runName(PartRequest{Key: TaskKey{JobID: jobID, Task: t.Name}, Part: part, Attempt: attempt})
			prefixes = append(prefixes, LogPrefix(run))
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
func (h *Housekeeping) ports(ctx context.Context, jobID string) (map[string][]bfia.Port, error) {
	doc, err := h.document(ctx, jobID)
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
func (h *Housekeeping) document(ctx context.Context, jobID string) (*bfia.Document, error) {
	body, err := h.Store.Document(ctx, jobID)
	if err != nil {
		return nil, known(err)
	}
	return bfia.ParseDocument(body)
}

// SweepStorage removes what dead processes left half-written in the storage, and superseded generations of datasets that
// no job reads.
func (h *Housekeeping) SweepStorage(ctx context.Context) error {
	return dataset.New(h.Blobs, h.Store).Sweep(ctx, storageAge)
}
