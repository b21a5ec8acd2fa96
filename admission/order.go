package admission

import (
	"cmp"
	"slices"
	"time"
)

const (
	// AgingStep is the waiting time that raises a job's priority by one level. After an hour and a half the
	// lowest priority equals the highest of a new job, so no job starves.
	AgingStep = 10 * time.Minute
	// HeadReservationAfter is the waiting time after which backfilling no longer takes resources that the
	// longest-waiting job could use.
	HeadReservationAfter = 5 * time.Minute
	// RequestTTL is how long a party keeps a denied request that its scheduler does not repeat.
	RequestTTL = 21 * time.Minute
)

// Job holds what the order of jobs depends on.
type Job struct {
	JobID     string
	Initiator string
	Flow      string
	Priority  int
	// Created is when the scheduler accepted the job. All parties know the same time.
	Created time.Time
}

// agedPriority returns the job's priority with what it has gained by waiting (priority aging).
func (j Job) agedPriority(now time.Time) int {
	return j.Priority + int(max(now.Sub(j.Created), 0)/AgingStep)
}

// before compares two jobs by creation time, then by id.
func (j Job) before(o Job) int {
	return cmp.Or(j.Created.Compare(o.Created), cmp.Compare(j.JobID, o.JobID))
}

// order returns the indexes of waiting in the order of the queue: by aged priority, then fair share, then
// creation time. Fair share prefers the initiator with the fewest jobs that run or come earlier.
func order[T any](waiting []T, job func(T) Job, running []Job, now time.Time) []int {
	has := map[string]int{}
	for _, r := range running {
		has[r.Initiator]++
	}

	lines := map[string][]int{} // each initiator's jobs, in their order
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
			return cmp.Or(-cmp.Compare(x.agedPriority(now), y.agedPriority(now)), x.before(y))
		})
	}

	out := make([]int, 0, len(waiting))
	for len(out) < len(waiting) {
		best, found := "", false
		for _, name := range names {
			if len(lines[name]) == 0 {
				continue
			}
			if !found {
				best, found = name, true
				continue
			}
			x, y := job(waiting[lines[name][0]]), job(waiting[lines[best][0]])
			if cmp.Or(-cmp.Compare(x.agedPriority(now), y.agedPriority(now)),
				cmp.Compare(has[name], has[best]), x.before(y)) < 0 {
				best = name
			}
		}
		out = append(out, lines[best][0])
		lines[best] = lines[best][1:]
		has[best]++
	}
	return out
}

// Limits bounds what a party runs at once. 0 sets no limit.
type Limits struct {
	// Jobs bounds running jobs.
	Jobs int `json:"jobs,omitempty"`
	// Tasks bounds the containers that running jobs may have at once.
	Tasks int `json:"tasks,omitempty"`
	// PerFlow bounds running jobs of one flow. PerPartner bounds those that one other party submitted.
	PerFlow    int `json:"per_flow,omitempty"`
	PerPartner int `json:"per_partner,omitempty"`
}
