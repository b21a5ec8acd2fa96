package admission

import (
	"fmt"
	"slices"
	"time"
)

const (
	// maxReserving bounds the jobs of a scheduler that ask for reservations at the same time. Jobs that
	// follow a capacity hint don't count.
	maxReserving = 8
	// maxWaitingAtParty is the number of jobs of a scheduler that wait for resources at one party, from which
	// on further jobs that need this party don't ask.
	maxWaitingAtParty = 4
)

// QueuedJob is a job in its scheduler's queue.
type QueuedJob struct {
	Job
	// Nodes are its participants.
	Nodes []string
	// Reserving: it asks the parties for reservations now.
	Reserving bool
	// WaitingAt is the party that denied it a reservation, and WaitingFor that party's reason.
	WaitingAt, WaitingFor string
}

// Queue is a scheduler's queue.
type Queue struct {
	Node    string
	Waiting []QueuedJob
	Running []Job
	Limits  Limits
}

// QueueStatus says what a queued job may do now, and why it waits.
type QueueStatus struct {
	JobID string
	// MayReserve: it may ask for reservations now.
	MayReserve bool
	// Notify: it may ask, and does not know yet; somebody must signal it.
	Notify bool
	// OnlyCandidatesAhead: it waits only for jobs that ask for reservations now and may get none.
	OnlyCandidatesAhead bool
	// Position counts from 1.
	Position int
	Reason   string // why it waits
}

// Statuses returns the status of every queued job, in the queue's order.
func (q Queue) Statuses(now time.Time) []QueueStatus {
	ranks := order(q.Waiting, func(w QueuedJob) Job { return w.Job }, q.Running, now)
	running, reserving := slices.Clone(q.Running), 0
	for _, w := range q.Waiting {
		if w.Reserving {
			reserving++
			running = append(running, w.Job)
		}
	}

	waitingAt := map[string]int{} // jobs, by party
	statuses := make([]QueueStatus, 0, len(ranks))
	for i, k := range ranks {
		w := q.Waiting[k]
		s := QueueStatus{JobID: w.JobID, Position: i + 1}
		crowded := ""
		for _, n := range w.Nodes {
			if waitingAt[n] >= maxWaitingAtParty {
				crowded = n
			}
		}

		limit := q.Limits.exceeded(q.Node, running, w.Job)
		switch {
		case w.Reserving:
			s.MayReserve, s.Reason = true, "is asking its parties for resources"
		case limit != "":
			s.Reason, s.OnlyCandidatesAhead = limit, q.Limits.exceeded(q.Node, q.Running, w.Job) == ""
		case w.WaitingAt != "":
			s.MayReserve, s.Reason = true, fmt.Sprintf("%s: %s", w.WaitingAt, w.WaitingFor)
			waitingAt[w.WaitingAt]++
		case crowded != "":
			s.Reason = fmt.Sprintf("other jobs wait for resources at %s", crowded)
		case reserving >= maxReserving:
			s.Reason = "jobs ahead of it are asking their parties for resources"
		default:
			s.MayReserve, s.Notify, s.Reason = true, true, "may ask its parties for resources now"
			reserving++
			running = append(running, w.Job)
		}
		statuses = append(statuses, s)
	}
	return statuses
}
