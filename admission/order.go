package admission

import (
	"cmp"
	"slices"
	"time"
)

const (
	// AgingStep is the waiting that counts as one step of priority: in an hour and a half the lowest has caught up with whatever
	// comes then, so that nobody starves.
	AgingStep = 10 * time.Minute
	// HeadReservationAfter is the waiting after which the job that has waited longest is not overtaken any more by smaller ones that fit.
	HeadReservationAfter = 5 * time.Minute
	// RequestTTL is how long a party keeps an application's place that is not asked for again.
	RequestTTL = 21 * time.Minute
)

// Job is a job in the eyes of a queue.
type Job struct {
	JobID     string
	Initiator string
	Flow      string
	Priority  int
	// Created is when its scheduler took it: the same at all parties.
	Created time.Time
}

// effective is a job's priority with what it has gained by waiting.
func (j Job) effective(now time.Time) int {
	return j.Priority + int(max(now.Sub(j.Created), 0)/AgingStep)
}

func (j Job) before(o Job) int {
	return cmp.Or(j.Created.Compare(o.Created), cmp.Compare(j.JobID, o.JobID))
}

// order sorts waiting jobs: by priority; among equals the initiator comes first that has fewest jobs running, or standing
// before; then creation time. It gives places in waiting.
func order[T any](waiting []T, job func(T) Job, running []Job, now time.Time) []int {
	has := map[string]int{}
	for _, r := range running {
		has[r.Initiator]++
	}
	lines := map[string][]int{} // each initiator's own, in its order
	var names []string
	for i, w := range waiting {
		name := job(w).Initiator
		if lines[name] == nil {
			names = append(names, name)
		}
		lines[name] = append(lines[name], i)
	}
	for _, name := range names {
		slices.SortFunc(lines[name], func(a, b int) int {
			x, y := job(waiting[a]), job(waiting[b])
			return cmp.Or(-cmp.Compare(x.effective(now), y.effective(now)), x.before(y))
		})
	}
	out := make([]int, 0, len(waiting))
	for len(out) < len(waiting) {
		best := ""
		found := false
		for _, name := range names {
			if len(lines[name]) == 0 {
				continue
			}
			if !found {
				best, found = name, true
				continue
			}
			x, y := job(waiting[lines[name][0]]), job(waiting[lines[best][0]])
			if cmp.Or(-cmp.Compare(x.effective(now), y.effective(now)), cmp.Compare(has[name], has[best]), x.before(y)) < 0 {
				best = name
			}
		}
		out = append(out, lines[best][0])
		lines[best] = lines[best][1:]
		has[best]++
	}
	return out
}

// Limits bound what goes on at once; 0 is no bound.
type Limits struct {
	// Jobs that run.
	Jobs int `json:"jobs,omitempty"`
	// Tasks are parts of tasks, each a container, that the running jobs may have at once.
	Tasks int `json:"tasks,omitempty"`
	// PerFlow are running jobs of one flow, PerPartner those that one other party has submitted.
	PerFlow    int `json:"per_flow,omitempty"`
	PerPartner int `json:"per_partner,omitempty"`
}
