package scheduler

import (
	"context"
	"slices"
	"time"

	"hutong/activities"
	"hutong/admission"
	"hutong/bfia"
)

// QueueState is the state of a queued job at its scheduler.
type QueueState struct {
	// MayReserve reports that the job may reserve resources at its parties now.
	MayReserve bool `json:"go,omitempty"`
	// OnlyCandidatesAhead reports that only jobs that are reserving just now are in its way. As they may
	// fail, the job keeps its place in the queue of a party.
	OnlyCandidatesAhead bool `json:"soon,omitempty"`
	// WaitingAt is the party that denied it a reservation, as recorded. The workflow may have lost that with
	// a workflow task.
	WaitingAt string `json:"waits_at,omitempty"`
	Position  int    `json:"position,omitempty"`
	Total     int    `json:"total,omitempty"`
	Reason    string `json:"reason,omitempty"`
}

// EnqueueInput names a job that is READY.
type EnqueueInput struct {
	JobID string    `json:"job_id"`
	At    time.Time `json:"at"`
}

// Enqueue puts a job into this scheduler's queue and returns its state there. Repeated, it returns the state
// again, and lets a job that is RUNNING already proceed.
func (a *Activities) Enqueue(ctx context.Context, in EnqueueInput) (QueueState, error) {
	var state QueueState
	err := a.Store.Dequeue(ctx, in.JobID, in.At, func(q admission.Queue) bool {
		q.Node, q.Limits = a.Node, a.Limits
		state = QueueState{Total: len(q.Waiting)}
		if i := slices.IndexFunc(q.Waiting,
			func(w admission.QueuedJob) bool { return w.JobID == in.JobID }); i >= 0 {
			state.WaitingAt = q.Waiting[i].WaitingAt
		}
		for _, t := range q.Statuses(in.At) {
			if t.JobID != in.JobID {
				continue
			}
			state.MayReserve, state.OnlyCandidatesAhead = t.MayReserve, t.OnlyCandidatesAhead
			state.Position = t.Position
			if !t.MayReserve {
				state.Reason = t.Reason
			}
		}

		return state.MayReserve
	})
	if bfia.CodeOf(err) == bfia.CodeConflict {
		// The workflow task that recorded the job as RUNNING may have been lost before it completed. Its
		// repetition must not fail the job. The parties grant the same reservations again, and a repeated
		// start changes nothing.
		job, readErr := a.Store.ScheduleJob(ctx, in.JobID)
		if readErr == nil && job.State == bfia.JobRunning {
			return QueueState{MayReserve: true}, nil
		}
	}

	return state, activities.Classify(err)
}

// RequeueInput names a job, and the party that denied it a reservation.
type RequeueInput struct {
	JobID  string    `json:"job_id"`
	Node   string    `json:"node"`
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`
}

// Requeue makes a job wait for a party that denied it a reservation, and returns the jobs that may start
// instead.
func (a *Activities) Requeue(ctx context.Context, in RequeueInput) ([]string, error) {
	if err := a.Store.SetWaitReason(ctx, in.JobID, in.Node, in.Reason); err != nil {
		return nil, activities.Classify(err)
	}

	return a.startable(ctx, in.At)
}

// SetPriorityInput is the new priority of a queued job.
type SetPriorityInput struct {
	JobID    string    `json:"job_id"`
	Priority int       `json:"priority"`
	At       time.Time `json:"at"`
}

// SetPriority changes the priority of a queued job, and returns the jobs that may start then.
func (a *Activities) SetPriority(ctx context.Context, in SetPriorityInput) ([]string, error) {
	if err := a.Store.SetPriority(ctx, in.JobID, in.Priority); err != nil {
		return nil, activities.Classify(err)
	}

	return a.startable(ctx, in.At)
}

// startable returns the queued jobs that may start and have not been signalled.
func (a *Activities) startable(ctx context.Context, at time.Time) ([]string, error) {
	q, err := a.Store.Queue(ctx)
	if err != nil || len(q.Waiting) == 0 {
		return nil, activities.Classify(err)
	}

	q.Node, q.Limits = a.Node, a.Limits
	var next []string
	for _, t := range q.Statuses(at) {
		if t.Notify {
			next = append(next, t.JobID)
		}
	}

	return next, nil
}
