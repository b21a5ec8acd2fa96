package scheduler

import (
	"context"
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
	// Poll is how long the job waits at least until it looks at the queue again, unless it is notified. It
	// grows with the queue.
	Poll   time.Duration `json:"poll,omitempty"`
	Reason string        `json:"reason,omitempty"`
}

// EnqueueInput names a job that is READY.
type EnqueueInput struct {
	JobID string    `json:"job_id"`
	At    time.Time `json:"at"`
}

// Enqueue puts a job into this scheduler's queue and returns its state there. Repeated, it returns the state
// again, and lets a job that is RUNNING already proceed.
func (a *Activities) Enqueue(ctx context.Context, in EnqueueInput) (QueueState, error) {
	status, waitedAt, err := a.Store.Dequeue(ctx, a.scheduler(), in.JobID, in.At)
	if bfia.CodeOf(err) == bfia.CodeConflict {
		// The workflow task that recorded the job as RUNNING may have been lost before it completed. Its
		// repetition must not fail the job. The parties grant the same reservations again, and a repeated
		// start changes nothing.
		job, readErr := a.Store.ScheduleJob(ctx, in.JobID)
		if readErr == nil && job.State == bfia.JobRunning {
			return QueueState{MayReserve: true}, nil
		}
	}

	if err != nil {
		return QueueState{}, activities.Classify(err)
	}

	state := QueueState{MayReserve: status.MayReserve, OnlyCandidatesAhead: status.OnlyCandidatesAhead,
		WaitingAt: waitedAt}
	if !status.MayReserve {
		state.Reason = status.Reason
	}
	if status.Behind {
		length, err := a.Store.RecentQueueLength(ctx)
		if err != nil {
			return QueueState{}, activities.Classify(err)
		}
		state.Poll = pollBehind(length)
	}

	return state, nil
}

const (
	// pollShare is a job's share of the time between two polls of the jobs behind others. Each poll costs a
	// workflow task; all of them together poll five times a second.
	pollShare = 200 * time.Millisecond
	// maxPoll bounds the time between two polls of one job. It matters if a notification is lost.
	maxPoll = 10 * time.Minute
)

// pollBehind returns how long a job behind others waits at least for its next poll, in a queue of a length.
func pollBehind(length int) time.Duration { return min(time.Duration(length)*pollShare, maxPoll) }

func (a *Activities) scheduler() admission.Scheduler {
	return admission.Scheduler{Node: a.Node, Limits: a.Limits}
}

// RequeueInput names a job, and the party that denied it a reservation.
type RequeueInput struct {
	JobID  string    `json:"job_id"`
	Node   string    `json:"node"`
	Reason string    `json:"reason"`
	Quota  bool      `json:"quota,omitempty"` // see [bfia.Grant]
	At     time.Time `json:"at"`
}

// Requeue makes a job wait for a party that denied it a reservation, and returns the jobs that may start
// instead.
func (a *Activities) Requeue(ctx context.Context, in RequeueInput) ([]string, error) {
	if err := a.Store.SetWaitReason(ctx, in.JobID, in.Node, in.Reason, in.Quota); err != nil {
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
	decision, err := a.Store.DecideQueue(ctx, a.scheduler(), at)

	return decision.Notify, activities.Classify(err)
}
