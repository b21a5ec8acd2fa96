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
	JobID string
	// Project is the project of the job at the own party. Empty: default, which has no quota.
	Project   string
	Initiator string
	Flow      string
	Priority  int
	// Created is when the scheduler accepted the job. All parties know the same time.
	Created time.Time
}

// Rank returns the job's creation time, in milliseconds since 1970, less [AgingStep] for each level of its
// priority. A lower rank comes first. Ranks never change while jobs wait, so a database can keep them sorted.
func (j Job) Rank() int64 {
	return j.Created.UnixMilli() - int64(j.Priority)*AgingStep.Milliseconds()
}

// agedPriority returns the job's priority with what it has gained by waiting (priority aging).
func (j Job) agedPriority(now time.Time) int64 {
	step := AgingStep.Milliseconds()
	waited := now.UnixMilli() - j.Rank()
	if waited < 0 {
		waited -= step - 1 // round down
	}
	return waited / step
}

// compareRank compares two jobs by rank, then by id.
func (j Job) compareRank(o Job) int {
	return cmp.Or(cmp.Compare(j.Rank(), o.Rank()), cmp.Compare(j.JobID, o.JobID))
}

// before compares two jobs by creation time, then by id.
func (j Job) before(o Job) int {
	return cmp.Or(j.Created.Compare(o.Created), cmp.Compare(j.JobID, o.JobID))
}

// fairShare merges the jobs of several initiators, each sorted by rank, into the order of the queue: by aged
// priority, then by fair share, then by rank. Fair share prefers the initiator with the fewest jobs that run
// or that the caller has counted.
type fairShare[T any] struct {
	now         time.Time
	job         func(T) Job
	byInitiator map[string][]T
	names       []string
	has         map[string]int // jobs, by initiator
}

func newFairShare[T any](jobs []T, job func(T) Job, now time.Time) *fairShare[T] {
	f := &fairShare[T]{now: now, job: job, byInitiator: map[string][]T{}, has: map[string]int{}}
	for _, j := range jobs {
		f.byInitiator[job(j).Initiator] = append(f.byInitiator[job(j).Initiator], j)
	}
	for name, jobs := range f.byInitiator {
		f.names = append(f.names, name)
		slices.SortFunc(jobs, func(a, b T) int { return job(a).compareRank(job(b)) })
	}
	slices.Sort(f.names)
	return f
}

// next returns the first job of all, and removes it. It reports false if none is left.
func (f *fairShare[T]) next() (first T, found bool) {
	best := -1
	for i, name := range f.names {
		if best < 0 || f.compare(name, f.names[best]) < 0 {
			best = i
		}
	}
	if best < 0 {
		return first, false
	}
	name := f.names[best]
	first, f.byInitiator[name] = f.byInitiator[name][0], f.byInitiator[name][1:]
	if len(f.byInitiator[name]) == 0 {
		f.names = slices.Delete(f.names, best, best+1)
	}
	return first, true
}

// insert adds a job to those of its initiator.
func (f *fairShare[T]) insert(j T) {
	name := f.job(j).Initiator
	if len(f.byInitiator[name]) == 0 {
		f.names = append(f.names, name)
	}
	i, _ := slices.BinarySearchFunc(f.byInitiator[name], j,
		func(a, b T) int { return f.job(a).compareRank(f.job(b)) })
	f.byInitiator[name] = slices.Insert(slices.Clip(f.byInitiator[name]), i, j)
}

// compare compares the first jobs of two initiators.
func (f *fairShare[T]) compare(a, b string) int {
	x, y := f.job(f.byInitiator[a][0]), f.job(f.byInitiator[b][0])
	return cmp.Or(
		-cmp.Compare(x.agedPriority(f.now), y.agedPriority(f.now)),
		cmp.Compare(f.has[a], f.has[b]),
		x.compareRank(y),
	)
}

// order returns the indexes of waiting in the order of the queue, where every job counts for its initiator's
// share.
func order[T any](waiting []T, job func(T) Job, running []Job, now time.Time) []int {
	indexes := make([]int, len(waiting))
	for i := range waiting {
		indexes[i] = i
	}
	f := newFairShare(indexes, func(i int) Job { return job(waiting[i]) }, now)
	for _, r := range running {
		f.has[r.Initiator]++
	}

	out := make([]int, 0, len(waiting))
	for {
		i, found := f.next()
		if !found {
			return out
		}
		out = append(out, i)
		f.has[job(waiting[i]).Initiator]++
	}
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
