package admission

import (
	"fmt"
	"slices"
	"time"
)

// Request is a job that asks for room at a party.
type Request struct {
	Job
	Demand Demand
}

// Party is a party that is asked for room: what it has, who runs there, and who waits.
type Party struct {
	Node    string
	Runners []Runner
	Running []Job
	// UsedSlots are all that running jobs hold, also on hosts that are not there now.
	UsedSlots int
	// Waiting are other applications that were denied and whose scheduler keeps asking.
	Waiting []Request
	Limits  Limits
}

// Grant is the room that a job gets: Copies times its seats, and for each of them, copy by copy, the host.
type Grant struct {
	Parallelism int
	Runners     []string
}

// Denial is why a job gets no room now, and its place among those that wait here.
type Denial struct {
	Reason   string
	Position int
	Total    int
}

// Infeasible says why an application could not be granted even if nothing else ran, as far as is known; empty when it could.
// Without any host nothing is known.
func (p Party) Infeasible(w Demand) string {
	if p.Limits.Tasks > 0 && len(w.Slots) > p.Limits.Tasks {
		return fmt.Sprintf("a task of the job has %d parts here at once, and the limit is %d", len(w.Slots), p.Limits.Tasks)
	}
	if len(p.Runners) == 0 {
		return ""
	}
	empty := slices.Clone(p.Runners)
	for i := range empty {
		empty[i].UsedSlots, empty[i].Used, empty[i].Draining = 0, Resources{}, false
	}
	_, lack := Place(empty, w.Slots)
	return lack
}

// Decide grants an application, or says why not now. Better ones that wait here come first: what they could have now is not
// given away; what they could not use may be taken by others, but for what is kept for the one that has waited longest, and
// longer than [HeadReservationAfter]: the hosts that could serve it. All parties agree on which one that is, so that they don't keep room for different ones.
func (p Party) Decide(a Request, now time.Time) (Grant, *Denial) {
	all := append(slices.Clone(p.Waiting), a)
	ranks := order(all, func(a Request) Job { return a.Job }, p.Running, now)
	own := slices.Index(ranks, len(all)-1)
	deny := func(format string, args ...any) (Grant, *Denial) {
		return Grant{}, &Denial{Reason: fmt.Sprintf(format, args...), Position: own + 1, Total: len(all)}
	}
	hosts := slices.Clone(p.Runners)
	running := slices.Clone(p.Running)
	seats := p.UsedSlots
	if limit := p.exceededLimit(running, seats, a); limit != "" {
		return deny("%s", limit)
	}
	for _, k := range ranks[:own] {
		better := all[k]
		if p.exceededLimit(running, seats, better) != "" {
			continue
		}
		if _, lack := Place(hosts, better.Demand.Slots); lack == "" {
			running = append(running, better.Job)
			seats += len(better.Demand.Slots)
		}
	}
	if limit := p.exceededLimit(running, seats, a); limit != "" {
		return deny("%s, with those that come before", limit)
	}
	if head, is := p.headReservation(a, now); is {
		beside, may := p.backfillRunners(head, hosts, running, seats, a)
		if !may {
			return deny("room is kept for job %s, which has waited since %s", head.JobID, head.Created.UTC().Format(time.DateTime))
		}
		hosts, a.Demand.Parallelism = beside, 1
	}
	ids, lack := Place(hosts, a.Demand.Slots)
	if lack != "" {
		return deny("%s", lack)
	}
	seats += len(a.Demand.Slots)
	grant := Grant{Parallelism: 1, Runners: ids}
	// Further copies take at most half of what is free then: others will come.
	for slots, spare := freeSlots(hosts), 0; grant.Parallelism < a.Demand.Parallelism; grant.Parallelism++ {
		if spare += len(a.Demand.Slots); 2*spare > slots || p.Limits.Tasks > 0 && seats+len(a.Demand.Slots) > p.Limits.Tasks {
			break
		}
		more, lack := Place(hosts, a.Demand.Slots)
		if lack != "" || !halfFree(p.Runners, hosts) {
			break
		}
		seats += len(a.Demand.Slots)
		grant.Runners = append(grant.Runners, more...)
	}
	return grant, nil
}

// Grantable are the waiting applications that would be granted if they were asked for now, in the queue's order: those whom it
// helps to be told that something has got free.
func (p Party) Grantable(now time.Time) []string {
	hosts := slices.Clone(p.Runners)
	running := slices.Clone(p.Running)
	seats := p.UsedSlots
	var open []string
	for _, k := range order(p.Waiting, func(a Request) Job { return a.Job }, p.Running, now) {
		a := p.Waiting[k]
		if p.exceededLimit(running, seats, a) != "" {
			continue
		}
		head, is := p.headReservation(a, now)
		may := !is
		if is {
			_, may = p.backfillRunners(head, hosts, running, seats, a)
		}
		if _, lack := Place(hosts, a.Demand.Slots); lack != "" {
			continue
		}
		running = append(running, a.Job)
		seats += len(a.Demand.Slots)
		if may {
			open = append(open, a.JobID)
		}
	}
	return open
}

// patient is the application that what came later waits for: the oldest of those that have waited for too long, and do not
// fit, since smaller ones take what gets free.
func (p Party) headReservation(a Request, now time.Time) (Request, bool) {
	var head Request
	for _, w := range p.Waiting {
		if now.Sub(w.Created) < HeadReservationAfter || p.exceededLimit(p.Running, p.UsedSlots, w) != "" || !p.feasible(w.Demand) {
			continue
		}
		if _, lack := Place(slices.Clone(p.Runners), w.Demand.Slots); lack != "" && (head.JobID == "" || w.before(head.Job) < 0) {
			head = w
		}
	}
	return head, head.JobID != "" && head.before(a.Job) < 0
}

// possible tells whether what is there now, without what is drained, could take an application if nothing else ran.
func (p Party) feasible(w Demand) bool {
	empty := slices.Clone(p.Runners)
	for i := range empty {
		empty[i].UsedSlots, empty[i].Used = 0, Resources{}
	}
	_, lack := Place(empty, w.Slots)
	return lack == ""
}

// beside answers hosts with what an application may have of them although room is kept for head: those that could serve head
// take nothing new. It may have nothing when it has no place on the others, or would take the last that a limit allows.
func (p Party) backfillRunners(head Request, hosts []Runner, running []Job, seats int, a Request) (others []Runner, may bool) {
	others = slices.Clone(hosts)
	for i := range others {
		h := &others[i]
		h.Draining = h.Draining || slices.ContainsFunc(head.Demand.Slots, func(s Slot) bool {
			return h.Unmet(s.Constraints) == "" && !over(h.Total.CPUMilli, 0, s.CPUMilli) && !over(h.Total.Memory, 0, s.Memory) && !over(h.Total.Disk, 0, s.Disk)
		})
	}
	if _, lack := Place(slices.Clone(others), a.Demand.Slots); lack != "" {
		return nil, false
	}
	return others, p.exceededLimit(append(slices.Clone(running), a.Job), seats+len(a.Demand.Slots), head) == ""
}

// limited says which limit an application would pass; empty when none.
func (p Party) exceededLimit(running []Job, seats int, a Request) string {
	if l := p.Limits.Tasks; l > 0 && seats+len(a.Demand.Slots) > l {
		return fmt.Sprintf("jobs here may have %d containers at once, and have %d", l, seats)
	}
	return p.Limits.exceeded(p.Node, running, a.Job)
}

// reached says which of the limits on jobs would be passed if a job ran beside those that run; empty when none.
func (l Limits) exceeded(node string, running []Job, j Job) string {
	flow, partner := 0, 0
	for _, r := range running {
		if r.Flow == j.Flow {
			flow++
		}
		if r.Initiator == j.Initiator {
			partner++
		}
	}
	switch {
	case l.Jobs > 0 && len(running) >= l.Jobs:
		return fmt.Sprintf("%d jobs run at %s, which is its limit", len(running), node)
	case l.PerFlow > 0 && j.Flow != "" && flow >= l.PerFlow:
		return fmt.Sprintf("%d jobs of the flow %s run at %s, which is its limit", flow, j.Flow, node)
	case l.PerPartner > 0 && j.Initiator != node && partner >= l.PerPartner:
		return fmt.Sprintf("%d jobs of %s run at %s, which is its limit for a partner", partner, j.Initiator, node)
	}
	return ""
}

func freeSlots(hosts []Runner) int {
	n := 0
	for i := range hosts {
		if !hosts[i].Draining {
			n += max(hosts[i].Slots-hosts[i].UsedSlots, 0)
		}
	}
	return n
}

// halfFree tells whether after has at least half of what before has free, of CPU and memory that are counted.
func halfFree(before, after []Runner) bool {
	free := func(hosts []Runner) (cpu, memory int64) {
		for i := range hosts {
			if h := &hosts[i]; !h.Draining {
				cpu += max(h.Total.CPUMilli-h.Used.CPUMilli, 0)
				memory += max(h.Total.Memory-h.Used.Memory, 0)
			}
		}
		return cpu, memory
	}
	c0, m0 := free(before)
	c1, m1 := free(after)
	return 2*c1 >= c0 && 2*m1 >= m0
}
