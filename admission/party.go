package admission

import (
	"fmt"
	"slices"
	"time"
)

// Application is a job that asks for room at a party.
type Application struct {
	Job
	Wants Wants
}

// Party is a party that is asked for room: what it has, who runs there, and who waits.
type Party struct {
	Node    string
	Hosts   []Host
	Running []Job
	// Seats are all that running jobs hold, also on hosts that are not there now.
	Seats int
	// Waiting are other applications that were denied and whose scheduler keeps asking.
	Waiting []Application
	Limits  Limits
}

// Grant is the room that a job gets: Copies times its seats, and for each of them, copy by copy, the host.
type Grant struct {
	Copies int
	Hosts  []string
}

// Denial is why a job gets no room now, and its place among those that wait here.
type Denial struct {
	Reason string
	Place  int
	Of     int
}

// Impossible says why an application could not be granted even if nothing else ran, as far as is known; empty when it could.
// Without any host nothing is known.
func (p Party) Impossible(w Wants) string {
	if p.Limits.Tasks > 0 && len(w.Seats) > p.Limits.Tasks {
		return fmt.Sprintf("a task of the job has %d parts here at once, and the limit is %d", len(w.Seats), p.Limits.Tasks)
	}
	if len(p.Hosts) == 0 {
		return ""
	}
	empty := slices.Clone(p.Hosts)
	for i := range empty {
		empty[i].Taken, empty[i].Used, empty[i].Closed = 0, Room{}, false
	}
	_, lack := Place(empty, w.Seats)
	return lack
}

// Decide grants an application, or says why not now. Better ones that wait here come first: what they could have now is not
// given away; what they could not use may be taken by others, but for what is kept for the one that has waited longest, and
// longer than [Patience]: the hosts that could serve it. All parties agree on which one that is, so that they don't keep room for different ones.
func (p Party) Decide(a Application, now time.Time) (Grant, *Denial) {
	all := append(slices.Clone(p.Waiting), a)
	ranks := order(all, func(a Application) Job { return a.Job }, p.Running, now)
	own := slices.Index(ranks, len(all)-1)
	deny := func(format string, args ...any) (Grant, *Denial) {
		return Grant{}, &Denial{Reason: fmt.Sprintf(format, args...), Place: own + 1, Of: len(all)}
	}
	hosts := slices.Clone(p.Hosts)
	running := slices.Clone(p.Running)
	seats := p.Seats
	if limit := p.limited(running, seats, a); limit != "" {
		return deny("%s", limit)
	}
	for _, k := range ranks[:own] {
		better := all[k]
		if p.limited(running, seats, better) != "" {
			continue
		}
		if _, lack := Place(hosts, better.Wants.Seats); lack == "" {
			running = append(running, better.Job)
			seats += len(better.Wants.Seats)
		}
	}
	if limit := p.limited(running, seats, a); limit != "" {
		return deny("%s, with those that come before", limit)
	}
	if head, is := p.patient(a, now); is {
		beside, may := p.beside(head, hosts, running, seats, a)
		if !may {
			return deny("room is kept for job %s, which has waited since %s", head.JobID, head.Created.UTC().Format(time.DateTime))
		}
		hosts, a.Wants.Copies = beside, 1
	}
	ids, lack := Place(hosts, a.Wants.Seats)
	if lack != "" {
		return deny("%s", lack)
	}
	seats += len(a.Wants.Seats)
	grant := Grant{Copies: 1, Hosts: ids}
	// Further copies take at most half of what is free then: others will come.
	for slots, spare := freeSlots(hosts), 0; grant.Copies < a.Wants.Copies; grant.Copies++ {
		if spare += len(a.Wants.Seats); 2*spare > slots || p.Limits.Tasks > 0 && seats+len(a.Wants.Seats) > p.Limits.Tasks {
			break
		}
		more, lack := Place(hosts, a.Wants.Seats)
		if lack != "" || !halfFree(p.Hosts, hosts) {
			break
		}
		seats += len(a.Wants.Seats)
		grant.Hosts = append(grant.Hosts, more...)
	}
	return grant, nil
}

// Open are the waiting applications that would be granted if they were asked for now, in the queue's order: those whom it
// helps to be told that something has got free.
func (p Party) Open(now time.Time) []string {
	hosts := slices.Clone(p.Hosts)
	running := slices.Clone(p.Running)
	seats := p.Seats
	var open []string
	for _, k := range order(p.Waiting, func(a Application) Job { return a.Job }, p.Running, now) {
		a := p.Waiting[k]
		if p.limited(running, seats, a) != "" {
			continue
		}
		head, is := p.patient(a, now)
		may := !is
		if is {
			_, may = p.beside(head, hosts, running, seats, a)
		}
		if _, lack := Place(hosts, a.Wants.Seats); lack != "" {
			continue
		}
		running = append(running, a.Job)
		seats += len(a.Wants.Seats)
		if may {
			open = append(open, a.JobID)
		}
	}
	return open
}

// patient is the application that what came later waits for: the oldest of those that have waited for too long, and do not
// fit, since smaller ones take what gets free.
func (p Party) patient(a Application, now time.Time) (Application, bool) {
	var head Application
	for _, w := range p.Waiting {
		if now.Sub(w.Created) < Patience || p.limited(p.Running, p.Seats, w) != "" || !p.possible(w.Wants) {
			continue
		}
		if _, lack := Place(slices.Clone(p.Hosts), w.Wants.Seats); lack != "" && (head.JobID == "" || w.before(head.Job) < 0) {
			head = w
		}
	}
	return head, head.JobID != "" && head.before(a.Job) < 0
}

// possible tells whether what is there now, without what is drained, could take an application if nothing else ran.
func (p Party) possible(w Wants) bool {
	empty := slices.Clone(p.Hosts)
	for i := range empty {
		empty[i].Taken, empty[i].Used = 0, Room{}
	}
	_, lack := Place(empty, w.Seats)
	return lack == ""
}

// beside answers hosts with what an application may have of them although room is kept for head: those that could serve head
// take nothing new. It may have nothing when it has no place on the others, or would take the last that a limit allows.
func (p Party) beside(head Application, hosts []Host, running []Job, seats int, a Application) (others []Host, may bool) {
	others = slices.Clone(hosts)
	for i := range others {
		h := &others[i]
		h.Closed = h.Closed || slices.ContainsFunc(head.Wants.Seats, func(s Seat) bool {
			return h.Lacks(s.Needs) == "" && !over(h.Total.CPUMilli, 0, s.CPUMilli) && !over(h.Total.Memory, 0, s.Memory) && !over(h.Total.Disk, 0, s.Disk)
		})
	}
	if _, lack := Place(slices.Clone(others), a.Wants.Seats); lack != "" {
		return nil, false
	}
	return others, p.limited(append(slices.Clone(running), a.Job), seats+len(a.Wants.Seats), head) == ""
}

// limited says which limit an application would pass; empty when none.
func (p Party) limited(running []Job, seats int, a Application) string {
	if l := p.Limits.Tasks; l > 0 && seats+len(a.Wants.Seats) > l {
		return fmt.Sprintf("jobs here may have %d containers at once, and have %d", l, seats)
	}
	return p.Limits.reached(p.Node, running, a.Job)
}

// reached says which of the limits on jobs would be passed if a job ran beside those that run; empty when none.
func (l Limits) reached(node string, running []Job, j Job) string {
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

func freeSlots(hosts []Host) int {
	n := 0
	for i := range hosts {
		if !hosts[i].Closed {
			n += max(hosts[i].Slots-hosts[i].Taken, 0)
		}
	}
	return n
}

// halfFree tells whether after has at least half of what before has free, of CPU and memory that are counted.
func halfFree(before, after []Host) bool {
	free := func(hosts []Host) (cpu, memory int64) {
		for i := range hosts {
			if h := &hosts[i]; !h.Closed {
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
