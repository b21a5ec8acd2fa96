package main

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// FaultKind is a kind of fault.
type FaultKind string

// The kinds of faults. From faultCut on they affect the link between two parties, the others a process or a
// container.
const (
	faultKill        FaultKind = "kill -9"
	faultRestart     FaultKind = "restart"
	faultPause       FaultKind = "pause"
	faultContainer   FaultKind = "kill a container"
	faultDrain       FaultKind = "drain runners"
	faultRotate      FaultKind = "new certificate"
	faultRekey       FaultKind = "new Temporal key"
	faultVersion     FaultKind = "other version"
	faultCut         FaultKind = "cut"
	faultStall       FaultKind = "stall"
	faultDelay       FaultKind = "delay"
	faultDuplicate   FaultKind = "duplicate"
	faultLoseAnswers FaultKind = "lose answers"
	faultReorder     FaultKind = "reorder"
)

// Fault is one fault: what happens to which target, when, and for how long.
type Fault struct {
	At, For time.Duration
	Kind    FaultKind
	Target  string // a process as "guest api", a link as "guest-host", a party, or "guest runners"
}

func (f Fault) String() string {
	return fmt.Sprintf("%7.1fs  %-16s %-18s for %.1fs", f.At.Seconds(), f.Kind, f.Target, f.For.Seconds())
}

// JobKind is a kind of job. It determines the tasks, and how the job must end.
type JobKind string

// The kinds of jobs.
const (
	jobBoost  JobKind = "PSI, SecureBoost"
	jobLR     JobKind = "PSI, HeteroLR" // with an arbiter
	jobSleeps JobKind = "ten sleeps"    // a DAG that is wide and deep
	jobFails  JobKind = "must fail"
	jobStops  JobKind = "is stopped"
)

// JobPlan is one planned job.
type JobPlan struct {
	At    time.Duration
	Kind  JobKind
	ID    string
	Roles map[string]string // party by role
	// Priority is job_params.common.priority.
	Priority int
	StopAt   time.Duration // after its submission, for jobStops
}

// Plan is the schedule of a run: its faults and its jobs.
type Plan struct {
	Seed   uint64
	Length time.Duration
	Faults []Fault
	Jobs   []JobPlan
}

var (
	parties = []string{"guest", "host", "third"}
	links   = []string{"guest-host", "guest-third", "host-third"}
	parts   = []string{"api", "control", "runner", "transport"} // of a party
)

// quietPeriod is the time at the start and the end of a run without faults.
const quietPeriod = 15 * time.Second

// NewPlan generates the plan of a run from a random seed.
func NewPlan(seed uint64, length time.Duration) Plan {
	p := Plan{Seed: seed, Length: length}
	r := rand.New(rand.NewPCG(seed, 1))
	seconds := func(least, most float64) time.Duration {
		return time.Duration((least + (most-least)*r.Float64()) * float64(time.Second)).
			Round(100 * time.Millisecond)
	}
	busy := map[string]time.Duration{} // until when a target has a fault
	for at := quietPeriod; ; {
		at += seconds(0.5, 5.5)
		f := drawFault(r, at, seconds)
		if f.At+f.For > length-quietPeriod {
			if at > length-quietPeriod {
				break
			}
			continue
		}
		if busy[f.Target] > at {
			continue
		}
		// A restarted target gets time to make progress before its next fault.
		busy[f.Target] = at + f.For + 5*time.Second
		if f.Kind == faultKill && (f.Target == "guest dockerd" || f.Target == "host dockerd") {
			busy[f.Target] += 50 * time.Second // a Docker Engine needs long to restore its containers
		}
		p.Faults = append(p.Faults, f)
	}
	p.Faults = append(p.Faults, drawDrains(seed, length)...)
	p.Faults = append(p.Faults, drawRotations(seed, length)...)
	p.Faults = append(p.Faults, drawKeys(seed, length)...)
	priority := rand.New(rand.NewPCG(seed, 2))
	for i, at := 0, time.Duration(0); at < length-quietPeriod; i++ {
		p.Jobs = append(p.Jobs, drawJob(r, i, at, seconds))
		p.Jobs[i].Priority = priority.IntN(10)
		at += seconds(2, 10)
	}
	p.sortFaults()
	return p
}

func (p *Plan) sortFaults() {
	slices.SortStableFunc(p.Faults, func(a, b Fault) int { return cmp.Compare(a.At, b.At) })
}

// drawDrains draws the times at which operators drain the runners of a party.
func drawDrains(seed uint64, length time.Duration) (drains []Fault) {
	r := rand.New(rand.NewPCG(seed, 3))
	for at := quietPeriod; ; {
		at += time.Duration(20+r.IntN(30)) * time.Second
		f := Fault{At: at, For: time.Duration(3+r.IntN(12)) * time.Second, Kind: faultDrain,
			Target: parties[r.IntN(len(parties))] + " runners"}
		if f.At+f.For > length-quietPeriod {
			return drains
		}
		drains = append(drains, f)
	}
}

// drawRotations draws the times at which a party gets a new key and certificate.
func drawRotations(seed uint64, length time.Duration) (rotations []Fault) {
	r := rand.New(rand.NewPCG(seed, 4))
	for at := quietPeriod; ; {
		at += time.Duration(10+r.IntN(20)) * time.Second
		if at > length-quietPeriod {
			return rotations
		}
		rotations = append(rotations, Fault{At: at, Kind: faultRotate, Target: parties[r.IntN(len(parties))]})
	}
}

// drawKeys draws the times at which a party begins to encrypt what Temporal stores with another key.
func drawKeys(seed uint64, length time.Duration) (keys []Fault) {
	r := rand.New(rand.NewPCG(seed, 5))
	for at := quietPeriod; ; {
		at += time.Duration(15+r.IntN(30)) * time.Second
		if at > length-quietPeriod {
			return keys
		}
		keys = append(keys, Fault{At: at, Kind: faultRekey, Target: parties[r.IntN(len(parties))] + " keys"})
	}
}

// AddSecondTransport adds kills and pauses of the second transport of a party. One that was paused finds out
// whether another process serves its spool.
func (p *Plan) AddSecondTransport() {
	r := rand.New(rand.NewPCG(p.Seed, 7))
	for at := quietPeriod; ; {
		f := Fault{At: at + time.Duration(5+r.IntN(25))*time.Second, Kind: faultKill,
			Target: secondTransport, For: time.Duration(r.IntN(12)) * time.Second}
		if r.IntN(3) == 0 {
			f.Kind, f.For = faultPause, time.Duration(1+r.IntN(20))*time.Second
		}
		at = f.At + f.For
		if at > p.Length-quietPeriod {
			break
		}
		p.Faults = append(p.Faults, f)
	}
	p.sortFaults()
}

func drawFault(r *rand.Rand, at time.Duration, seconds func(least, most float64) time.Duration) Fault {
	party := parties[r.IntN(len(parties))]
	link := links[r.IntN(len(links))]
	process := party + " " + parts[r.IntN(len(parts))]
	f := Fault{At: at}
	switch n := r.IntN(100); {
	case n < 30:
		f.Kind, f.Target, f.For = faultKill, process, seconds(0, 12)
	case n < 38:
		f.Kind, f.Target, f.For = faultRestart, process, seconds(0, 2)
	case n < 46:
		f.Kind, f.Target, f.For = faultPause, process, seconds(1, 20)
	case n < 50:
		f.Kind, f.Target, f.For = faultKill, "temporal", seconds(0, 8)
	case n < 52:
		f.Kind, f.Target, f.For = faultPause, "temporal", seconds(1, 10)
	case n < 56:
		f.Kind, f.Target, f.For = faultKill, "postgres", seconds(0, 8)
	case n < 58:
		f.Kind, f.Target, f.For = faultPause, "postgres", seconds(1, 10)
	case n < 62:
		f.Kind, f.Target, f.For = faultKill, "host dockerd", seconds(0, 5)
	case n < 64:
		f.Kind, f.Target, f.For = faultKill, "guest dockerd", seconds(0, 5)
	case n < 68:
		f.Kind, f.Target = faultContainer, party
	case n < 76:
		f.Kind, f.Target, f.For = faultCut, link, seconds(1, 25)
	case n < 81:
		f.Kind, f.Target, f.For = faultStall, link, seconds(1, 20)
	case n < 86:
		f.Kind, f.Target, f.For = faultDelay, link, seconds(5, 20)
	case n < 91:
		f.Kind, f.Target, f.For = faultDuplicate, link, seconds(5, 20)
	case n < 96:
		f.Kind, f.Target, f.For = faultLoseAnswers, link, seconds(2, 15)
	default:
		f.Kind, f.Target, f.For = faultReorder, link, seconds(5, 20)
	}
	return f
}

func drawJob(r *rand.Rand, i int, at time.Duration, seconds func(least, most float64) time.Duration) JobPlan {
	order := r.Perm(len(parties))
	j := JobPlan{At: at, ID: fmt.Sprintf("chaos%016d", i+1),
		Roles: map[string]string{"guest": parties[order[0]], "host": parties[order[1]]}}
	stop := seconds(0, 8) // drawn for each job, so that later draws do not depend on the kind
	switch n := r.IntN(20); {
	case n < 7:
		j.Kind = jobBoost
	case n < 10:
		j.Kind, j.Roles["arbiter"] = jobLR, parties[order[2]]
	case n < 14:
		j.Kind = jobSleeps
	case n < 17:
		j.Kind = jobFails
	default:
		j.Kind, j.StopAt = jobStops, stop
	}
	return j
}
