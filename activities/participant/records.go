package participant

import (
	"context"
	"time"

	"hutong/activities"
	"hutong/bfia"
	"hutong/store"
)

// RecordJobInput is a job in which this party takes part. Its plan has only this party's parts.
type RecordJobInput struct {
	Plan      bfia.Plan      `json:"plan"`
	Roles     []string       `json:"roles"`
	Scheduler string         `json:"scheduler"`
	Nodes     []string       `json:"nodes"` // all parties of the job
	State     bfia.JobState  `json:"state"` // PENDING if it must be approved, else READY
	Waiting   []bfia.Waiting `json:"waiting,omitempty"`
	At        time.Time      `json:"at"`
}

// RecordJob writes a job in which this party takes part, with its own parts of the tasks.
func (a *Activities) RecordJob(ctx context.Context, in RecordJobInput) error {
	plan := in.Plan
	job := store.Job{JobID: plan.JobID, FlowID: plan.FlowID, State: in.State, Roles: in.Roles,
		InitiatorNode: plan.Initiator.NodeID, SchedulerNode: in.Scheduler, PartyNodes: in.Nodes,
		Waiting: in.Waiting, CreatedAt: in.At}

	record, err := a.Store.JobRecord(ctx, plan.JobID)
	if err != nil {
		return activities.Classify(err)
	}
	job.OldJobID = record.Document.OldJobID
	var tasks []store.Task
	for i, t := range plan.Tasks {
		for _, p := range t.Parts {
			root := activities.RootDataset(record, t.Name, p)
			tasks = append(tasks, store.Task{JobID: plan.JobID, Name: t.Name, Role: p.Role,
				RoleIndex: p.Index, Seq: i,
				Component: t.Component, Provider: t.Provider, Version: t.Version, State: bfia.TaskReady,
				Dataset: root, RequireDataset: a.CheckDatasets || bfia.IsRehearsal(root),
				Model: activities.RootModel(record, t.Name, p)})
		}
	}

	return activities.Classify(a.Store.CreateJob(ctx, job, tasks))
}

// ReopenJobInput names a job that has ended.
type ReopenJobInput struct {
	JobID string `json:"job_id"`
}

// ReopenJob makes a job that has ended READY again, since its scheduler reruns it.
func (a *Activities) ReopenJob(ctx context.Context, in ReopenJobInput) error {
	return activities.Classify(a.Store.ReopenJob(ctx, in.JobID))
}

// ForgetJobInput names a job that was not created.
type ForgetJobInput struct {
	JobID string    `json:"job_id"`
	At    time.Time `json:"at,omitzero"`
}

// ForgetJob removes a job that was not created at every party with its reservation, and its document if
// nothing else needs it. It returns the waiting jobs that would be granted a reservation now.
func (a *Activities) ForgetJob(ctx context.Context, in ForgetJobInput) ([]Waiting, error) {
	if err := a.Store.DeleteJob(ctx, in.JobID); err != nil {
		return nil, activities.Classify(err)
	}
	if err := a.Store.ReturnGrants(ctx, in.JobID); err != nil {
		return nil, activities.Classify(err)
	}
	if err := a.Store.DeleteUnusedDocument(ctx, in.JobID); err != nil {
		return nil, activities.Classify(err)
	}
	if in.At.IsZero() { // an older workflow task, which hints to nobody
		return nil, nil
	}
	waiting, err := a.grantable(ctx, in.At)

	return waiting, activities.Classify(err)
}

// RecordJobStateInput is the new state of a job at this party, and why it ended early.
type RecordJobStateInput struct {
	JobID   string        `json:"job_id"`
	State   bfia.JobState `json:"state"`
	Outcome bfia.Outcome  `json:"outcome,omitempty"` // once it has ended
	Failure *bfia.Failure `json:"failure,omitempty"`
	At      time.Time     `json:"at"`
}

// RecordJobState moves a job forward at this party.
func (a *Activities) RecordJobState(ctx context.Context, in RecordJobStateInput) error {
	if err := a.Store.SetJobFailure(ctx, in.JobID, in.Failure); err != nil {
		return activities.Classify(err)
	}

	return activities.Classify(a.Store.UpdateJob(ctx, in.JobID, in.State, in.Failure.String(), in.At,
		store.EndsAs(in.Outcome)))
}

// RecordWaitsInput is all that a job waits for now.
type RecordWaitsInput struct {
	JobID   string         `json:"job_id"`
	Waiting []bfia.Waiting `json:"waiting"`
}

// RecordWaits writes what a job waits for at this party.
func (a *Activities) RecordWaits(ctx context.Context, in RecordWaitsInput) error {
	return activities.Classify(a.Store.SetJobWaiting(ctx, in.JobID, in.Waiting))
}

// RecordTaskWaitInput is what an attempt of a part waits for; nil if it no longer waits.
type RecordTaskWaitInput struct {
	Key     activities.TaskKey `json:"key"`
	TaskID  string             `json:"task_id"`
	Waiting *bfia.Waiting      `json:"waiting,omitempty"`
}

// RecordTaskWait writes what an attempt of a part waits for.
func (a *Activities) RecordTaskWait(ctx context.Context, in RecordTaskWaitInput) error {
	return activities.Classify(a.Store.SetTaskWaiting(ctx, in.Key.Row(), in.TaskID, in.Waiting,
		in.Waiting != nil))
}

// RequestStopInput names an attempt of a part.
type RequestStopInput struct {
	Key    activities.TaskKey `json:"key"`
	TaskID string             `json:"task_id"`
}

// RequestStop marks an attempt of a part as to be stopped: it must not start, or must end if it has. A runner
// reads the mark before it starts a container.
func (a *Activities) RequestStop(ctx context.Context, in RequestStopInput) error {
	return activities.Classify(a.Store.RequestTaskStop(ctx, in.Key.Row(), in.TaskID))
}

// RecordTaskEndInput is the end of an attempt of a part.
type RecordTaskEndInput struct {
	Key     activities.TaskKey `json:"key"`
	Part    bfia.Part          `json:"part"`
	TaskID  string             `json:"task_id"`
	State   bfia.TaskState     `json:"state"`
	Failure *bfia.Failure      `json:"failure,omitempty"`
	At      time.Time          `json:"at"`
}

// RecordTaskEnd writes the end of a part, whether or not it ran, and the outputs of one that succeeded. It
// ignores an attempt that another has followed.
func (a *Activities) RecordTaskEnd(ctx context.Context, in RecordTaskEndInput) error {
	row, err := a.Store.Task(ctx, in.Key.Row())
	if err != nil {
		return activities.Classify(err)
	}
	if row.TaskID != "" && row.TaskID != in.TaskID {
		return nil // another attempt has superseded it
	}

	if in.State == bfia.TaskSuccess {
		// Before the state: a reader of SUCCESS must find the outputs.
		err := activities.RecordOutputs(ctx, a.Store, a.Blobs, activities.PartRequest{
			Key: in.Key, Part: in.Part, TaskID: in.TaskID}, in.At)
		if err != nil {
			return activities.Classify(err)
		}
	}

	// The first failure stays: a part that was stopped remains so, whatever its container exits with then.
	if err := a.Store.SetTaskFailure(ctx, in.Key.Row(), in.TaskID, in.Failure); err != nil {
		return activities.Classify(err)
	}

	return activities.Classify(a.Store.EndTask(ctx, in.Key.Row(), in.TaskID, in.State, in.Failure.Text(),
		in.At))
}
