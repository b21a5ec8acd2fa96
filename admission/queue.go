package admission

import (
	"fmt"
	"slices"
	"time"
)

const (
	// window is how many jobs of a scheduler ask for room at the same time, beside those that a party has told of some.
	window = 8
	// overtakes is how many jobs of a scheduler may wait for room at a party, before others that need that party don't ask.
	overtakes = 4
)

// Queued is a job that waits for its start at its scheduler.
type Queued struct {
	Job
	// Nodes take part in it.
	Nodes []string
	// Trying: it has its turn, and asks for room.
	Trying bool
	// WaitsAt is the party that has denied it room, and WaitsFor what it said.
	WaitsAt, WaitsFor string
}

// Queue is a scheduler's queue.
type Queue struct {
	Node    string
	Waiting []Queued
	Running []Job
	Limits  Limits
}

// Turn is how it stands with a job that waits.
type Turn struct {
	JobID string
	// Go: it may ask for room now.
	Go bool
	// Next: it has not been told so; nothing else will tell it.
	Next bool
	// Soon: it has no turn only because of jobs that ask for room, and may get none.
	Soon bool
	// Position is its place in the queue, from 1.
	Place  int
	Reason string // why it waits
}

// Turns are all waiting jobs in the queue's order.
func (q Queue) Turns(now time.Time) []Turn {
	ranks := order(q.Waiting, func(w Queued) Job { return w.Job }, q.Running, now)
	running := slices.Clone(q.Running)
	trying := 0
	for _, w := range q.Waiting {
		if w.Trying {
			trying++
			running = append(running, w.Job)
		}
	}
	waits := map[string]int{} // at each party
	turns := make([]Turn, 0, len(ranks))
	for i, k := range ranks {
		w := q.Waiting[k]
		t := Turn{JobID: w.JobID, Place: i + 1}
		crowded := ""
		for _, n := range w.Nodes {
			if waits[n] >= overtakes {
				crowded = n
			}
		}
		limit := q.Limits.exceeded(q.Node, running, w.Job)
		switch {
		case w.Trying:
			t.Go, t.Reason = true, "asks the parties for room"
		case limit != "":
			t.Reason, t.Soon = limit, q.Limits.exceeded(q.Node, q.Running, w.Job) == ""
		case w.WaitsAt != "":
			t.Go, t.Reason = true, fmt.Sprintf("%s: %s", w.WaitsAt, w.WaitsFor)
			waits[w.WaitsAt]++
		case crowded != "":
			t.Reason = fmt.Sprintf("other jobs wait for room at %s", crowded)
		case trying >= window:
			t.Reason = "jobs before it ask the parties for room"
		default:
			t.Go, t.Next, t.Reason = true, true, "its turn has come"
			trying++
			running = append(running, w.Job)
		}
		turns = append(turns, t)
	}
	return turns
}
