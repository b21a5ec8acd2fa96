package admission

import (
	"fmt"
	"time"

	"hutong/bfia"
)

// Held is what the jobs of a project hold at a party: their number, and what their reservations have.
type Held struct {
	Jobs, Containers int
	CPUMilli, Memory int64
}

// plus adds one set of slots of a demand, and some jobs.
func (h Held) plus(d Demand, jobs int) Held {
	h.Jobs += jobs
	h.Containers += len(d.Slots)
	for _, s := range d.Slots {
		h.CPUMilli += s.CPUMilli
		h.Memory += s.Memory
	}
	return h
}

// oneJobLess is for a job that is counted already and gets further slots.
func (h Held) oneJobLess() Held {
	h.Jobs--
	return h
}

// BeyondQuota returns why a quota could never hold the demand of a job, or "" if it could.
func BeyondQuota(q bfia.ProjectQuota, d Demand) string {
	if quota := exceededQuota(q, Held{}, d); quota != "" {
		return "the quota of the job's project can't hold it: " + quota
	}
	return ""
}

// exceededQuota returns which quota of a project a job with a demand would exceed, given what the others of
// the project hold, or "". It names neither the project nor its jobs, since partners get it.
func exceededQuota(q bfia.ProjectQuota, held Held, d Demand) string {
	with := held.plus(d, 1)
	switch {
	case q.Jobs > 0 && with.Jobs > q.Jobs:
		return fmt.Sprintf("%d of %d jobs hold resources", held.Jobs, q.Jobs)
	case q.Containers > 0 && with.Containers > q.Containers:
		return fmt.Sprintf("its jobs have %d of %d containers, this one needs %d more", held.Containers,
			q.Containers, with.Containers-held.Containers)
	case q.CPUMilli > 0 && with.CPUMilli > q.CPUMilli:
		return fmt.Sprintf("its jobs have %s of %s CPU cores, this one needs %s more", cores(held.CPUMilli),
			cores(q.CPUMilli), cores(with.CPUMilli-held.CPUMilli))
	case q.Memory > 0 && with.Memory > q.Memory:
		return fmt.Sprintf("its jobs have %s of %s GiB of memory, this one needs %s more", gib(held.Memory),
			gib(q.Memory), gib(with.Memory-held.Memory))
	}
	return ""
}

// quotaHeads holds, by project, the oldest waiting request that has waited longer than
// [HeadReservationAfter] and does not fit into what is left of the quota. What is left is kept for it.
// Otherwise smaller jobs of the project would take whatever gets free.
type quotaHeads map[string]Request

// hold reports whether a request waits for the quota head of its project. Such a request takes nothing from
// other projects, since it is not granted whatever gets free.
func (h quotaHeads) hold(r Request) bool {
	head, found := h[r.Project]
	return found && head.before(r.Job) < 0
}

func (p Party) quotaHeads(now time.Time) quotaHeads {
	heads := quotaHeads{}
	if len(p.Quotas) == 0 {
		return heads
	}
	running := newTally(p.Running...)
	for _, w := range p.Waiting {
		quota, limited := p.Quotas[w.Project]
		if head, found := heads[w.Project]; !limited || now.Sub(w.Created) < HeadReservationAfter ||
			found && head.before(w.Job) < 0 {
			continue
		}
		if BeyondQuota(quota, w.Demand) == "" && exceededQuota(quota, p.Held[w.Project], w.Demand) != "" &&
			p.feasible(w.Demand) && p.Limits.exceeded(p.Node, running, w.Job) == "" {
			heads[w.Project] = w
		}
	}
	return heads
}
