package admission

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"hutong/bfia"
)

// Request is a job's request for a reservation at a party.
type Request struct {
	Job
	Demand Demand
}

// Party is the state of a party that decides on a request: its runners, running jobs and waiting requests.
type Party struct {
	Node    string
	Runners []Runner
	Running []Job
	// UsedSlots counts all slots that running jobs hold, also on runners that are offline.
	UsedSlots int
	// Waiting holds other requests that were denied and that their schedulers still repeat.
	Waiting []Request
	Limits  Limits
	// Quotas bounds what projects hold, Held is what the running jobs of projects hold, by project.
	Quotas map[string]bfia.ProjectQuota
	Held   map[string]Held
}

// Grant is a granted reservation: Parallelism times the slots of the demand. Runners names the runner of each
// slot, one set of slots after the other.
type Grant struct {
	Parallelism int
	Runners     []string
}

// Denial says why a job gets no reservation now, and its position among the requests that wait here.
type Denial struct {
	Reason   string
	Position int
	Total    int
	// Quota: the quota of the job's project is the reason. Jobs of other projects may get what is free.
	Quota bool
}

// Infeasible returns why a demand would not fit even on idle runners, or "" if it would. It returns "" for a
// party without known runners, since one may come online.
func (p Party) Infeasible(d Demand) string {
	if p.Limits.Tasks > 0 && len(d.Slots) > p.Limits.Tasks {
		return fmt.Sprintf(
			"a task of the job has %d parts here, this party runs at most %d at once (jobs.max_containers)",
			len(d.Slots), p.Limits.Tasks)
	}
	if len(p.Runners) == 0 {
		return ""
	}
	idle := idleRunners(p.Runners)
	for i := range idle {
		idle[i].Draining = false
	}
	_, unmet := Place(idle, d.Slots)
	return unmet
}

// Decide grants a request, or denies it for now.
//
// Earlier requests come first: what they could get now stays free. What they can't use may be granted
// (backfilling), except on runners with a head reservation: see headReservation. All parties choose the same
// head, so that they don't keep resources for different jobs.
func (p Party) Decide(r Request, now time.Time) (Grant, *Denial) {
	all := append(slices.Clone(p.Waiting), r)
	ranks := order(all, func(r Request) Job { return r.Job }, p.Running, now)
	own := slices.Index(ranks, len(all)-1)
	deny := func(format string, args ...any) (Grant, *Denial) {
		return Grant{}, &Denial{Reason: fmt.Sprintf(format, args...), Position: own + 1, Total: len(all)}
	}

	ofQuota := func(grant Grant, denial *Denial) (Grant, *Denial) {
		denial.Quota = true
		return grant, denial
	}

	runners, running, used := slices.Clone(p.Runners), p.tally(), p.UsedSlots
	if limit := p.partyLimit(running, used, r); limit != "" {
		return deny("%s", limit)
	}
	if limit := p.quotaLimit(running, r); limit != "" {
		return ofQuota(deny("%s", limit))
	}

	quotaHeads := p.quotaHeads(now)
	for _, k := range ranks[:own] {
		earlier := all[k]
		if quotaHeads.hold(earlier) || p.exceededLimit(running, used, earlier) != "" {
			continue
		}
		if _, unmet := Place(runners, earlier.Demand.Slots); unmet == "" {
			running.addRequest(earlier)
			used += len(earlier.Demand.Slots)
		}
	}
	const countingOthers = "%s, counting the jobs ahead in the queue"
	if limit := p.partyLimit(running, used, r); limit != "" {
		return deny(countingOthers, limit)
	}
	if limit := p.quotaLimit(running, r); limit != "" {
		return ofQuota(deny(countingOthers, limit))
	}
	if quotaHeads.hold(r) {
		return ofQuota(deny("what is left of the quota of the job's project is kept for a job that has waited "+
			"since %s", quotaHeads[r.Project].Created.UTC().Format(time.DateTime)))
	}

	if head, found := p.headReservation(quotaHeads, now); found && head.before(r.Job) < 0 {
		others, fits := p.backfillRunners(head, runners, running, used, r)
		if !fits {
			// The reason goes to the job's scheduler. So it names no other job.
			return deny("resources are reserved for a job that has waited since %s",
				head.Created.UTC().Format(time.DateTime))
		}
		runners, r.Demand.Parallelism = others, 1
	}

	ids, unmet := Place(runners, r.Demand.Slots)
	switch {
	case unmet != "" && own > 0 && fit(p.Runners, r.Demand.Slots):
		return deny("what is free is kept for jobs ahead in the queue (%d)", own)
	case unmet != "":
		return deny("%s", explainNoPlace(p.Runners, r.Demand.Slots))
	}
	running.addRequest(r)
	return p.raiseParallelism(Grant{Parallelism: 1, Runners: ids}, r, runners, running,
		used+len(r.Demand.Slots)), nil
}

// raiseParallelism adds further sets of slots to a grant, up to what the job can use. They take at most half
// of what is free, since other jobs will come.
func (p Party) raiseParallelism(grant Grant, r Request, runners []Runner, running tally, used int) Grant {
	size, free := len(r.Demand.Slots), freeSlots(runners)
	for added := size; grant.Parallelism < r.Demand.Parallelism; added += size {
		if 2*added > free || p.Limits.Tasks > 0 && used+size > p.Limits.Tasks ||
			exceededQuota(p.Quotas[r.Project], running.held[r.Project].oneJobLess(), r.Demand) != "" {
			break
		}
		more, unmet := Place(runners, r.Demand.Slots)
		if unmet != "" || !halfStaysFree(p.Runners, runners) {
			break
		}
		used += size
		running.held[r.Project] = running.held[r.Project].plus(r.Demand, 0)
		grant.Runners = append(grant.Runners, more...)
		grant.Parallelism++
	}
	return grant
}

// Grantable returns the ids of the waiting jobs that would be granted if they asked now, in the queue's
// order. A party sends capacity hints to the schedulers of exactly these.
func (p Party) Grantable(now time.Time) []string {
	runners, running, used := slices.Clone(p.Runners), p.tally(), p.UsedSlots
	quotaHeads := p.quotaHeads(now)
	head, found := p.headReservation(quotaHeads, now)
	var grantable []string
	for _, k := range order(p.Waiting, func(r Request) Job { return r.Job }, p.Running, now) {
		r := p.Waiting[k]
		if quotaHeads.hold(r) || p.exceededLimit(running, used, r) != "" {
			continue
		}

		fits := true
		if found && head.before(r.Job) < 0 {
			_, fits = p.backfillRunners(head, runners, running, used, r)
		}
		if _, unmet := Place(runners, r.Demand.Slots); unmet != "" {
			continue
		}
		running.addRequest(r)
		used += len(r.Demand.Slots)
		if fits {
			grantable = append(grantable, r.JobID)
		}
	}
	return grantable
}

// headReservation returns the waiting request for which resources are kept from younger ones. It is the
// oldest one that has waited longer than [HeadReservationAfter], does not fit now and could fit on the online
// runners. Without it, smaller jobs would take whatever gets free. One that the quota of its project keeps
// from being granted is not chosen, since it could not use what others leave.
func (p Party) headReservation(quotaHeads quotaHeads, now time.Time) (head Request, found bool) {
	running := p.tally()
	for _, w := range p.Waiting {
		if now.Sub(w.Created) < HeadReservationAfter || quotaHeads.hold(w) ||
			p.exceededLimit(running, p.UsedSlots, w) != "" ||
			!p.feasible(w.Demand) {
			continue
		}
		if _, unmet := Place(slices.Clone(p.Runners), w.Demand.Slots); unmet == "" {
			continue
		}
		if !found || w.before(head.Job) < 0 {
			head, found = w, true
		}
	}
	return head, found
}

// feasible reports whether the online runners that are not draining could serve a demand if they were idle.
func (p Party) feasible(d Demand) bool {
	return fit(idleRunners(p.Runners), d.Slots)
}

// backfillRunners returns the runners that r may use despite the head reservation: all but those that could
// serve head. It reports false if r does not fit on them, or if r would use up a limit that head needs.
func (p Party) backfillRunners(head Request, runners []Runner, running tally, used int, r Request,
) (others []Runner, fits bool) {
	others = slices.Clone(runners)
	for i := range others {
		o := &others[i]
		o.Draining = o.Draining || slices.ContainsFunc(head.Demand.Slots, o.couldServe)
	}
	if _, unmet := Place(slices.Clone(others), r.Demand.Slots); unmet != "" {
		return nil, false
	}
	running = running.clone()
	running.addRequest(r)
	return others, p.exceededLimit(running, used+len(r.Demand.Slots), head) == ""
}

// exceededLimit returns the limit or quota that a request would exceed, or "".
func (p Party) exceededLimit(running tally, used int, r Request) string {
	return cmp.Or(p.partyLimit(running, used, r), p.quotaLimit(running, r))
}

// partyLimit returns the limit of the party that a request would exceed, or "".
func (p Party) partyLimit(running tally, used int, r Request) string {
	if l := p.Limits.Tasks; l > 0 && used+len(r.Demand.Slots) > l {
		return fmt.Sprintf("this party limits its jobs to %d containers at once, and they have %d", l, used)
	}
	return p.Limits.exceeded(p.Node, running, r.Job)
}

// quotaLimit returns how a request would exceed the quota of its project, or "".
func (p Party) quotaLimit(running tally, r Request) string {
	// After an administrator has lowered the quota. A job that arrives then is refused.
	if beyond := BeyondQuota(p.Quotas[r.Project], r.Demand); beyond != "" {
		return beyond + "; it waits until the quota is raised"
	}
	if quota := exceededQuota(p.Quotas[r.Project], running.held[r.Project], r.Demand); quota != "" {
		return fmt.Sprintf("the quota of the job's project at %s is used up: %s", p.Node, quota)
	}
	return ""
}

// tally returns what runs, and what projects hold.
func (p Party) tally() tally {
	t := newTally(p.Running...)
	maps.Copy(t.held, p.Held)
	return t
}

// tally counts jobs, and what the jobs of projects hold.
type tally struct {
	total               int
	byFlow, byInitiator map[string]int
	held                map[string]Held
}

func newTally(jobs ...Job) tally {
	t := tally{byFlow: map[string]int{}, byInitiator: map[string]int{}, held: map[string]Held{}}
	for _, j := range jobs {
		t.add(j)
	}
	return t
}

func (t *tally) add(j Job) {
	t.total++
	t.byFlow[j.Flow]++
	t.byInitiator[j.Initiator]++
}

// addRequest adds a job with what its reservation holds at least.
func (t *tally) addRequest(r Request) {
	t.add(r.Job)
	t.held[r.Project] = t.held[r.Project].plus(r.Demand, 1)
}

func (t tally) clone() tally {
	t.byFlow, t.byInitiator = maps.Clone(t.byFlow), maps.Clone(t.byInitiator)
	t.held = maps.Clone(t.held)
	return t
}

// exceeded returns the limit on jobs that would be exceeded if j ran together with running, or "".
func (l Limits) exceeded(node string, running tally, j Job) string {
	switch {
	case l.Jobs > 0 && running.total >= l.Jobs:
		return fmt.Sprintf("%d jobs run at %s, which is its limit", running.total, node)
	case l.PerFlow > 0 && j.Flow != "" && running.byFlow[j.Flow] >= l.PerFlow:
		return fmt.Sprintf("%d jobs of the flow %s run at %s, which is its limit", running.byFlow[j.Flow],
			j.Flow, node)
	case l.PerPartner > 0 && j.Initiator != node && running.byInitiator[j.Initiator] >= l.PerPartner:
		return fmt.Sprintf("%d jobs of %s run at %s, which is its limit for a partner",
			running.byInitiator[j.Initiator], j.Initiator, node)
	}
	return ""
}

// freeSlots counts the free slots of runners that are not draining.
func freeSlots(runners []Runner) int {
	n := 0
	for i := range runners {
		if !runners[i].Draining {
			n += max(runners[i].Slots-runners[i].UsedSlots, 0)
		}
	}
	return n
}

// halfStaysFree reports whether after has at least half of the free CPU and memory that before has.
func halfStaysFree(before, after []Runner) bool {
	free := func(runners []Runner) (cpu, memory int64) {
		for i := range runners {
			if r := &runners[i]; !r.Draining {
				cpu += max(r.Total.CPUMilli-r.Used.CPUMilli, 0)
				memory += max(r.Total.Memory-r.Used.Memory, 0)
			}
		}
		return cpu, memory
	}
	cpuBefore, memoryBefore := free(before)
	cpuAfter, memoryAfter := free(after)
	return 2*cpuAfter >= cpuBefore && 2*memoryAfter >= memoryBefore
}
