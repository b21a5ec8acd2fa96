package capacity

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// Load is what a party does in a day. All jobs have the same size; a mix is the sum of several plans.
type Load struct {
	Scheduled float64 // jobs a day that the party schedules, in which it takes part too
	Joined    float64 // jobs a day that partners schedule
	Tasks     float64 // of a job, each with a container at each party
	Partners  float64 // parties of a job but this one
	// Sent and Received are the bytes that this party's containers exchange with partners in a job.
	Sent, Received float64
	// Stored is what a job leaves in the party's storage, in bytes: outputs and logs.
	Stored float64
	// ContainerSeconds is how long a container runs, and ContainerCores and ContainerMemory what it takes.
	ContainerSeconds, ContainerCores, ContainerMemory float64
	// Peak is the load of the busiest hour, in multiples of the day's average.
	Peak float64
	// KeepDays and KeepHistoryDays are how long jobs and their histories in Temporal are kept.
	KeepDays, KeepHistoryDays float64
}

// Machine is the largest machine that the party has.
type Machine struct {
	Cores float64
	// Use is the share of the cores that a process may take at the busiest hour, so that jobs do not wait.
	Use float64
	// Disk is the size of a disk, in bytes.
	Disk float64
	// Network is the link to the partners, in bytes each second.
	Network float64
}

// Check returns an error that names the first value which makes no sense.
func Check(l Load, m Machine) error {
	for _, v := range []struct {
		name       string
		value, min float64
	}{
		{"scheduled jobs", l.Scheduled, 0}, {"joined jobs", l.Joined, 0}, {"tasks", l.Tasks, 1},
		{"partners", l.Partners, 0}, {"sent bytes", l.Sent, 0}, {"received bytes", l.Received, 0},
		{"stored bytes", l.Stored, 0}, {"seconds of a container", l.ContainerSeconds, 0},
		{"cores of a container", l.ContainerCores, 0}, {"memory of a container", l.ContainerMemory, 0},
		{"peak", l.Peak, 1}, {"days that jobs are kept", l.KeepDays, 0},
		{"days that histories are kept", l.KeepHistoryDays, 0}, {"cores", m.Cores, 1}, {"use", m.Use, 0.01},
		{"disk", m.Disk, 1}, {"network", m.Network, 1},
	} {
		if !(v.value >= v.min) || math.IsInf(v.value, 0) { // also NaN
			return fmt.Errorf("%s: must be at least %g, not %g", v.name, v.min, v.value)
		}
	}
	if m.Use > 1 {
		return fmt.Errorf("use: must be at most 1, not %g", m.Use)
	}
	return nil
}

// Process is what one kind of process needs.
type Process struct {
	Name string `json:"name"`
	// Cores are those that all processes of the kind take at the busiest hour.
	Cores float64 `json:"cores"`
	// Count is the number of processes, each with the cores of a machine at most.
	Count int `json:"count"`
	// Memory is that of all of them, in bytes.
	Memory float64 `json:"memory"`
}

// Limit is something that a party has once.
type Limit struct {
	Name string `json:"name"`
	// Share is the part of the limit that the load needs: above 1 it is too much.
	Share float64 `json:"share"`
	// Moves says what moves the limit.
	Moves string `json:"moves"`
}

// Plan is what a load needs at a party.
type Plan struct {
	Processes []Process `json:"processes"`
	// Jobs and Submissions are those of a second at the busiest hour.
	Jobs        float64 `json:"jobs_each_second"`
	Submissions float64 `json:"submissions_each_second"`
	// Containers is how many run at once then: the slots of all runners. Their cores and memory are not those
	// of Hutong's processes.
	Containers      float64 `json:"containers"`
	ContainerCores  float64 `json:"container_cores"`
	ContainerMemory float64 `json:"container_memory"`
	// Database, TemporalDatabase and Storage are bytes once the oldest jobs are removed.
	Database         float64 `json:"database"`
	TemporalDatabase float64 `json:"temporal_database"`
	Storage          float64 `json:"storage"`
	// Sent and Received are bytes each second at the busiest hour.
	Sent     float64 `json:"sent_each_second"`
	Received float64 `json:"received_each_second"`
	// Limits begin with the one that is met first.
	Limits []Limit `json:"limits"`
}

const daySeconds = 24 * 60 * 60

// PlanFor returns what a load needs. Check must accept both.
func PlanFor(c Costs, l Load, m Machine) Plan {
	busy := func(perDay float64) float64 { return perDay / daySeconds * l.Peak } // each second
	cost := func(of func(Side) Cost) float64 {                                   // of a day
		return l.Scheduled*of(c.Scheduler).Of(l.Tasks, l.Partners) +
			l.Joined*of(c.Participant).Of(l.Tasks, l.Partners)
	}
	jobs := l.Scheduled + l.Joined
	sent, received := busy(jobs*l.Sent), busy(jobs*l.Received)
	traffic := (sent*c.SendByte + received*c.ReceiveByte) / 1e9
	p := Plan{
		Jobs: busy(jobs), Submissions: busy(l.Scheduled), Sent: sent, Received: received,
		Containers:       busy(jobs * l.Tasks * l.ContainerSeconds),
		Database:         cost(func(s Side) Cost { return s.Database }) * l.KeepDays,
		TemporalDatabase: cost(func(s Side) Cost { return s.TemporalDatabase }) * l.KeepHistoryDays,
		Storage:          jobs * l.Stored * l.KeepDays,
	}
	p.ContainerCores, p.ContainerMemory = p.Containers*l.ContainerCores, p.Containers*l.ContainerMemory
	milliseconds := func(of func(Side) Cost) float64 { return busy(cost(of)) / 1000 }
	transport := milliseconds(func(s Side) Cost { return s.Transport }) + traffic
	temporal := milliseconds(func(s Side) Cost { return s.Temporal })
	p.add("api", milliseconds(func(s Side) Cost { return s.API }), c.Idle.API, c.Memory.API, m)
	p.add("worker", milliseconds(func(s Side) Cost { return s.Worker }), c.Idle.Worker, c.Memory.Worker, m)
	p.add("transport", transport, c.Idle.Transport, c.Memory.Transport, m)
	p.add("Temporal", temporal, c.Idle.Temporal, c.Memory.Temporal, m)
	p.add("Docker Engine", busy(jobs*l.Tasks*c.Container)/1000, 0, 0, m)
	p.Limits = []Limit{
		{"the one transport process", transport / (m.Cores * m.Use),
			"a machine with more cores; components that send less"},
		{"Temporal's server as one process", temporal / (m.Cores * m.Use),
			"Temporal's services as processes of their own on PostgreSQL, with several history shards"},
		{"the disk of the party's database", p.Database / m.Disk,
			"a shorter retention (jobs.retention); a larger disk"},
		{"the disk of Temporal's database", p.TemporalDatabase / m.Disk,
			"a shorter retention of the namespace; a larger disk"},
		{"the link to the partners", max(sent, received) / m.Network,
			"a faster link; components that send less"},
	}
	slices.SortStableFunc(p.Limits, func(a, b Limit) int { return cmp.Compare(b.Share, a.Share) })
	return p
}

// add adds a kind of process that needs some cores for its work. Each process also takes its idle share.
func (p *Plan) add(name string, cores, idle, memory float64, m Machine) {
	each := m.Cores*m.Use - idle
	count := 1
	if each > 0 {
		count = max(1, int(math.Ceil(cores/each)))
	}
	p.Processes = append(p.Processes, Process{Name: name, Cores: cores + float64(count)*idle, Count: count,
		Memory: float64(count) * memory})
}
