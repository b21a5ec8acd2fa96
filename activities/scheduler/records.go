package scheduler

import (
	"context"
	"time"

	"hutong/activities"
	"hutong/bfia"
	"hutong/store"
)

// RecordScheduleJobInput is a new job of this scheduler.
type RecordScheduleJobInput struct {
	Plan  bfia.Plan `json:"plan"`
	Nodes []string  `json:"nodes"`
	At    time.Time `json:"at"`
}

// RecordScheduleJob writes a job of this scheduler, with its tasks and their parts.
func (a *Activities) RecordScheduleJob(ctx context.Context, in RecordScheduleJobInput) error {
	plan := in.Plan
	job := store.ScheduleJob{Priority: plan.Priority, ParticipantNodes: in.Nodes, JobID: plan.JobID,
		FlowID: plan.FlowID, State: bfia.JobPending,
		InitiatorRole: plan.Initiator.Role, InitiatorNode: plan.Initiator.NodeID, SyncType: plan.SyncType,
		CreatedAt: in.At}

	var tasks []store.ScheduleTask
	var parts []store.SchedulePart
	for i, t := range plan.Tasks {
		id := bfia.TaskID(plan.JobID, t.Name)
		tasks = append(tasks, store.ScheduleTask{JobID: plan.JobID, TaskID: id, Name: t.Name,
			Component: t.Component,
			Provider:  t.Provider, Version: t.Version, Seq: i, DependsOn: t.DependsOn, State: bfia.TaskReady})
		for _, p := range t.Parts {
			parts = append(parts, store.SchedulePart{JobID: plan.JobID, TaskID: id, Role: p.Role,
				RoleIndex: p.Index,
				NodeID:    p.NodeID, State: bfia.TaskReady})
		}
	}

	return activities.Classify(a.Store.CreateScheduleJob(ctx, job, tasks, parts))
}

// Progress holds what changed of a job: its own state, and those of its tasks and their parts. States only
// move forward, so the same progress twice changes nothing.
type Progress struct {
	JobID   string        `json:"job_id"`
	State   bfia.JobState `json:"state,omitempty"`
	Outcome bfia.Outcome  `json:"outcome,omitempty"` // once it has ended
	Failure *bfia.Failure `json:"failure,omitempty"` // why the job ends early
	// Parallelism is how many tasks of the job its reservations let run at once, by node id.
	Parallelism map[string]int `json:"parallelism,omitempty"`
	Tasks       []TaskProgress `json:"tasks,omitempty"`
	At          time.Time      `json:"at"`
}

// TaskProgress holds the state of a task, and those of its parts that changed.
type TaskProgress struct {
	TaskID string `json:"task_id"`
	Name   string `json:"task_name,omitempty"`
	// Attempt is the attempt that TaskID names. The first write of an attempt replaces the rows of the one
	// before.
	Attempt int `json:"attempt,omitempty"`
	// Lost describes the attempt before, in the first write of an attempt.
	Lost   *LostAttempt   `json:"lost,omitempty"`
	State  bfia.TaskState `json:"state"`
	Reason string         `json:"reason,omitempty"`
	Parts  []PartProgress `json:"parts,omitempty"`
}

// LostAttempt holds the times of an attempt that another one follows, and the failure that ended it.
type LostAttempt struct {
	StartedAt time.Time     `json:"started_at"`
	EndedAt   time.Time     `json:"ended_at"`
	Failure   *bfia.Failure `json:"failure"`
}

// PartProgress holds the state of a part.
type PartProgress struct {
	Part    bfia.Part      `json:"part"`
	State   bfia.TaskState `json:"state"`
	Failure *bfia.Failure  `json:"failure,omitempty"`
}

// RecordProgress writes what changed of a job. If the job has left the queue, or has ended, it returns the
// jobs that may start next.
func (a *Activities) RecordProgress(ctx context.Context, p Progress) ([]string, error) {
	if err := a.recordTasks(ctx, p); err != nil {
		return nil, activities.Classify(err)
	}
	if err := a.recordState(ctx, p); err != nil {
		return nil, activities.Classify(err)
	}
	if p.State != bfia.JobRunning && !p.State.Terminal() {
		return nil, nil
	}

	return a.startable(ctx, p.At)
}

func (a *Activities) recordTasks(ctx context.Context, p Progress) error {
	var changes []store.ScheduleTaskChange
	for _, t := range p.Tasks {
		if t.Attempt > 1 {
			var lost store.LostAttempt
			if t.Lost != nil {
				lost = store.LostAttempt(*t.Lost)
			}
			if err := a.Store.RestartScheduleTask(ctx, p.JobID, t.Name, t.TaskID, t.Attempt, lost,
				p.At); err != nil {
				return err
			}
		}

		c := store.ScheduleTaskChange{TaskID: t.TaskID, State: t.State, Reason: t.Reason}
		for _, part := range t.Parts {
			c.Parts = append(c.Parts, store.SchedulePartChange{Role: part.Part.Role,
				RoleIndex: part.Part.Index, State: part.State,
				Reason: part.Failure.Text()})
			if err := a.Store.SetSchedulePartFailure(ctx, t.TaskID, part.Part.Role, part.Part.Index,
				part.Failure); err != nil {
				return err
			}
		}
		changes = append(changes, c)
	}

	if len(changes) == 0 {
		return nil
	}

	return a.Store.UpdateScheduleTasks(ctx, changes, p.At)
}

func (a *Activities) recordState(ctx context.Context, p Progress) error {
	if p.State == "" {
		return nil
	}

	if reason := p.Failure.String(); p.State.Terminal() && reason != "" {
		// The workflow task that set tasks RUNNING may have been lost before it completed; its repetition
		// ends the job without knowing of them.
		stopped := &bfia.Failure{Kind: bfia.FailedStopped, Message: "the job was stopped: " + reason}
		if err := a.Store.FailRunningScheduleTasks(ctx, p.JobID, stopped, p.At); err != nil {
			return err
		}
	}
	if err := a.Store.SetScheduleJobFailure(ctx, p.JobID, p.Failure); err != nil {
		return err
	}

	return a.Store.UpdateScheduleJob(ctx, p.JobID, p.State, p.Failure.String(), p.At,
		store.EndsAs(p.Outcome), store.RunsWith(p.Parallelism))
}

// RecordScheduleWaitsInput is all that a job waits for now.
type RecordScheduleWaitsInput struct {
	JobID   string         `json:"job_id"`
	Waiting []bfia.Waiting `json:"waiting"`
}

// RecordScheduleWaits writes what a job waits for at its scheduler.
func (a *Activities) RecordScheduleWaits(ctx context.Context, in RecordScheduleWaitsInput) error {
	return activities.Classify(a.Store.SetScheduleJobWaiting(ctx, in.JobID, in.Waiting))
}

// ForgetScheduleJobInput names a job that was not created.
type ForgetScheduleJobInput struct {
	JobID string `json:"job_id"`
}

// ForgetScheduleJob removes a job that was not created at every party, and its document if nothing else needs
// it.
func (a *Activities) ForgetScheduleJob(ctx context.Context, in ForgetScheduleJobInput) error {
	if err := a.Store.DeleteScheduleJob(ctx, in.JobID); err != nil {
		return activities.Classify(err)
	}

	return activities.Classify(a.Store.DeleteUnusedDocument(ctx, in.JobID))
}
