package activities

import (
	"context"
	"fmt"
	"time"

	"go.temporal.io/sdk/temporal"

	"hutong/admission"
	"hutong/bfia"
	"hutong/store"
	"hutong/store/blob"
)

// Records writes the rows that users read. Its activities are short and run in the workflow's own worker.
type Records struct {
	Node  string
	Store *store.Store
	Blobs blob.Store
	// Limits bound what goes on at once here.
	Limits admission.Limits
}

// hostSeen is how long a host counts as there after it was last heard of.
const hostSeen = time.Minute

// RecordScheduleJob writes a job that this node schedules, with its tasks and their parts.
func (r *Records) RecordScheduleJob(ctx context.Context, plan bfia.Plan, nodes []string, at time.Time) error {
	job := store.ScheduleJob{Priority: plan.Priority, ParticipantNodes: nodes, JobID: plan.JobID, FlowID: plan.FlowID, State: bfia.JobPending,
		InitiatorRole: plan.Initiator.Role, InitiatorNode: plan.Initiator.NodeID, SyncType: plan.SyncType, CreatedAt: at}
	var tasks []store.ScheduleTask
	var parts []store.SchedulePart
	for i, t := range plan.Tasks {
		id := bfia.TaskID(plan.JobID, t.Name)
		tasks = append(tasks, store.ScheduleTask{JobID: plan.JobID, TaskID: id, Name: t.Name, Component: t.Component,
			Provider: t.Provider, Version: t.Version, Seq: i, DependsOn: t.DependsOn, State: bfia.TaskReady})
		for _, p := range t.Parts {
			parts = append(parts, store.SchedulePart{JobID: plan.JobID, TaskID: id, Role: p.Role, RoleIndex: p.Index,
				NodeID: p.NodeID, State: bfia.TaskReady})
		}
	}
	return final(r.Store.CreateScheduleJob(ctx, job, tasks, parts))
}

// RecordProgress writes what changed of a job that this node schedules. Where the job has left the queue, or has ended, it
// answers whose turn it is then.
func (r *Records) RecordProgress(ctx context.Context, p Progress) ([]string, error) {
	if err := r.recordProgress(ctx, p); err != nil || p.State != bfia.JobRunning && !p.State.Terminal() {
		return nil, err
	}
	return r.nextTurns(ctx, p.At)
}

func (r *Records) recordProgress(ctx context.Context, p Progress) error {
	var changes []store.ScheduleTaskChange
	for _, t := range p.Tasks {
		if t.Attempt > 1 {
			if err := r.Store.RestartScheduleTask(ctx, p.JobID, t.Name, t.TaskID, t.Attempt, p.At); err != nil {
				return final(err)
			}
		}
		c := store.ScheduleTaskChange{TaskID: t.TaskID, State: t.State, Reason: t.Reason}
		for _, part := range t.Parts {
			c.Parts = append(c.Parts, store.SchedulePartChange{Role: part.Part.Role, RoleIndex: part.Part.Index, State: part.State, Reason: part.Failure.Text()})
			if err := r.Store.SetSchedulePartFailure(ctx, t.TaskID, part.Part.Role, part.Part.Index, part.Failure); err != nil {
				return final(err)
			}
		}
		changes = append(changes, c)
	}
	if len(changes) > 0 {
		if err := r.Store.UpdateScheduleTasks(ctx, changes, p.At); err != nil {
			return final(err)
		}
	}
	if p.State == "" {
		return nil
	}
	if p.State.Terminal() && p.Reason != "" {
		// A step of the workflow that made them RUNNING has not counted: it was cut off, and done anew with the job's end in it.
		stopped := &bfia.Failure{Kind: bfia.FailedStopped, Message: "the job was stopped: " + p.Reason}
		if err := r.Store.FailRunningScheduleTasks(ctx, p.JobID, stopped, p.At); err != nil {
			return final(err)
		}
	}
	if err := r.Store.SetScheduleJobFailure(ctx, p.JobID, p.Failure); err != nil {
		return final(err)
	}
	return final(r.Store.UpdateScheduleJob(ctx, p.JobID, p.State, p.Reason, p.At))
}

// ForgetScheduleJob removes a job that was not created everywhere, and its document when nothing else needs it.
func (r *Records) ForgetScheduleJob(ctx context.Context, jobID string) error {
	if err := r.Store.DeleteScheduleJob(ctx, jobID); err != nil {
		return final(err)
	}
	return final(r.Store.DeleteUnusedDocument(ctx, jobID))
}

// ForgetJob is the same at a participant.
func (r *Records) ForgetJob(ctx context.Context, jobID string) error {
	if err := r.Store.DeleteJob(ctx, jobID); err != nil {
		return final(err)
	}
	return final(r.Store.DeleteUnusedDocument(ctx, jobID))
}

// RecordJob writes a job in which this node takes part, with its own parts of the tasks. It is PENDING where someone
// must approve it, otherwise READY.
func (r *Records) RecordJob(ctx context.Context, plan bfia.Plan, roles []string, scheduler string, state bfia.JobState, at time.Time) error {
	job := store.Job{JobID: plan.JobID, FlowID: plan.FlowID, State: state, Roles: roles,
		InitiatorNode: plan.Initiator.NodeID, SchedulerNode: scheduler, CreatedAt: at}
	var tasks []store.Task
	for i, t := range plan.Tasks {
		for _, p := range t.Parts {
			tasks = append(tasks, store.Task{JobID: plan.JobID, Name: t.Name, Role: p.Role, RoleIndex: p.Index, Seq: i,
				Component: t.Component, Provider: t.Provider, Version: t.Version, State: bfia.TaskReady})
		}
	}
	if err := resolveGenerations(ctx, r.Store, plan.JobID, tasks); err != nil {
		return final(err)
	}
	return final(r.Store.CreateJob(ctx, job, tasks))
}

// ReopenJob makes this node's part of a job that has ended READY again, since its scheduler runs it again.
func (r *Records) ReopenJob(ctx context.Context, jobID string) error {
	return final(r.Store.ReopenJob(ctx, jobID))
}

// RecordJobState moves this node's part of a job forward, and tells why it ended as it did.
func (r *Records) RecordJobState(ctx context.Context, jobID string, state bfia.JobState, reason string, failure *bfia.Failure, at time.Time) error {
	if err := r.Store.SetJobFailure(ctx, jobID, failure); err != nil {
		return final(err)
	}
	return final(r.Store.UpdateJob(ctx, jobID, state, reason, at))
}

// RecordTaskEnd fixes the end of one part of a task, whether or not it ran, and what a successful one left behind. For an
// attempt that another has followed it changes nothing.
func (r *Records) RecordTaskEnd(ctx context.Context, key TaskKey, part bfia.Part, taskID string, state bfia.TaskState, failure *bfia.Failure, at time.Time) error {
	row, err := r.Store.Task(ctx, key.row())
	if err != nil {
		return final(err)
	}
	if row.TaskID != "" && row.TaskID != taskID {
		return nil // another attempt has followed
	}
	if state == bfia.TaskSuccess {
		// Before the state, so that who reads SUCCESS finds the outputs.
		if err := r.recordOutputs(ctx, key, part, taskID, at); err != nil {
			return final(err)
		}
	}
	// The first stays: a part that was stopped was, whatever its container exits with then.
	if err := r.Store.SetTaskFailure(ctx, key.row(), taskID, failure); err != nil {
		return final(err)
	}
	return final(r.Store.EndTask(ctx, key.row(), taskID, state, failure.Text(), at))
}

// recordOutputs writes down which outputs of a part are there.
func (r *Records) recordOutputs(ctx context.Context, key TaskKey, part bfia.Part, taskID string, at time.Time) error {
	run, err := deriveRun(ctx, r.Store, key, part, taskID)
	if err != nil {
		return err
	}
	var rows []store.Output
	for _, out := range run.Outputs {
		objects, err := r.Blobs.List(ctx, out.Address.Namespace+"/"+out.Address.Name)
		if err != nil {
			return fmt.Errorf("listing output %s of task %s: %w", out.Port, taskID, err)
		}
		if len(objects) == 0 {
			continue
		}
		var bytes int64
		for _, o := range objects {
			bytes += o.Size
		}
		rows = append(rows, store.Output{JobID: key.JobID, TaskName: key.Task, Role: part.Role, RoleIndex: part.Index,
			Type: out.Type, Key: out.Key, Port: out.Port, TaskID: taskID,
			Namespace: out.Address.Namespace, Name: out.Address.Name, Bytes: bytes, CreatedAt: at})
	}
	return r.Store.PutOutputs(ctx, rows)
}

// RequestStop marks an attempt of a part that must not run, or must end. A run that is about to begin reads it and doesn't.
func (r *Records) RequestStop(ctx context.Context, key TaskKey, taskID string) error {
	return final(r.Store.RequestTaskStop(ctx, key.row(), taskID))
}

func (k TaskKey) row() store.TaskKey {
	return store.TaskKey{JobID: k.JobID, Name: k.Task, Role: k.Role, RoleIndex: k.Index}
}

// final makes what no retry can cure final: what is wrong with a request. A database that is away is worth a retry.
func final(err error) error {
	switch code := bfia.CodeOf(err); code {
	case bfia.CodeOK:
		return nil
	case bfia.CodeInternal, bfia.CodeUnavailable:
		return err
	default:
		return temporal.NewNonRetryableApplicationError(fmt.Sprint(bfia.MessageOf(err)), FailureRefused, err, code)
	}
}
