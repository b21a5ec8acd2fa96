package admission

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// line is a scheduler that is a party, too, with rows for each of the two, and jobs that differ in their priority only.
type line struct {
	now   time.Time
	queue Queue // its Waiting and Running are made of the jobs
	house *house
	jobs  []*queuer
}

// queuer is a job with what its workflow knows.
type queuer struct {
	Job
	told, trying  bool
	waitsAt       string // as its scheduler knows
	denied        bool   // it waits at the party, for all that its workflow knows
	asked         bool   // it has waited there
	running, done bool   // at its scheduler
}

func (l *line) turns() []Turn {
	l.queue.Waiting, l.queue.Running = nil, nil
	for _, j := range l.jobs {
		switch {
		case j.done:
		case j.running:
			l.queue.Running = append(l.queue.Running, j.Job)
		default:
			l.queue.Waiting = append(l.queue.Waiting, Queued{Job: j.Job, Nodes: []string{"A"}, Trying: j.trying, WaitsAt: j.waitsAt})
		}
	}
	return l.queue.Turns(l.now)
}

// tellNext tells those whose turn the scheduler says it is.
func (l *line) tellNext() {
	for _, turn := range l.turns() {
		if turn.Next {
			l.tell(turn.JobID)
		}
	}
}

func (l *line) tell(id string) {
	l.jobs[slices.IndexFunc(l.jobs, func(j *queuer) bool { return j.JobID == id })].told = true
}

// tellOpen tells those that the party says have room.
func (l *line) tellOpen() {
	p := l.house.now()
	p.Waiting = l.house.others("", l.now)
	for _, id := range p.Grantable(l.now) {
		l.tell(id)
	}
}

// take is what a job does first that was told: it asks its scheduler.
func (l *line) take(j *queuer) {
	j.told = false
	turns := l.turns()
	turn := turns[slices.IndexFunc(turns, func(t Turn) bool { return t.JobID == j.JobID })]
	if turn.Go {
		j.trying = true
		return
	}
	j.waitsAt = ""
	if j.denied && !turn.Soon {
		j.denied = false
		delete(l.house.waiting, j.JobID)
		l.tellOpen()
	}
}

// apply is what a job does that has its turn: it asks the party.
func (l *line) apply(t *rapid.T, j *queuer) {
	app := Request{Job: j.Job, Demand: Demand{Slots: []Slot{{Role: "guest", Constraints: Constraints{Devices: []string{"docker"}}}}, Parallelism: 1}}
	p := l.house.now()
	p.Waiting = l.house.others(j.JobID, l.now)
	grant, denial := p.Decide(app, l.now)
	if denial != nil {
		l.house.waiting[j.JobID] = applied{app, l.now}
		j.trying, j.asked, j.denied, j.waitsAt = false, true, true, "A"
		l.tellNext()
		return
	}
	delete(l.house.waiting, j.JobID)
	l.house.seats[j.JobID], l.house.hosts[j.JobID], l.house.running[j.JobID] = app.Demand.Slots, grant.Runners, j.Job
	l.house.check(t)
	p = l.house.now()
	p.Waiting = l.house.others("", l.now)
	for _, o := range l.jobs {
		if asleep := !o.done && !o.running && !o.trying && !o.told; asleep && o.asked && o.Priority > j.Priority {
			require.Contains(t, p.Grantable(l.now), o.JobID, "%s starts, and %s sleeps, which has no room beside it", j.JobID, o.JobID)
		}
	}
	j.trying, j.running = false, true
	l.tellOpen()
}

// Whichever of a scheduler's limits and its own room gets free first when a job ends, and whenever jobs hear of it: none that
// has asked for room is overtaken by one of lower priority that takes what it could have, and none is forgotten.
func TestBetterStartsFirst(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limits := Limits{Jobs: rapid.IntRange(0, 3).Draw(t, "jobs")}
		l := &line{now: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), queue: Queue{Node: "A", Limits: limits}}
		l.house = &house{party: Party{Node: "A", Runners: []Runner{{ID: "h", Devices: []string{"docker"}, Slots: rapid.IntRange(1, 3).Draw(t, "slots")}}, Limits: limits},
			seats: map[string][]Slot{}, hosts: map[string][]string{}, running: map[string]Job{}, waiting: map[string]applied{}}
		priorities := rapid.Permutation([]int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}).Draw(t, "priorities")
		for i := range rapid.IntRange(2, 10).Draw(t, "wishes") {
			l.jobs = append(l.jobs, &queuer{Job: Job{JobID: fmt.Sprintf("j%02d", i), Initiator: "A", Priority: priorities[i], Created: l.now}})
		}
		l.tellNext() // all are there before the first starts
		for {
			var steps []func()
			for _, j := range l.jobs {
				switch {
				case j.running:
					steps = append(steps, func() { t.Log("ends", j.JobID); j.running, j.done = false, true; l.tellNext() })
				case j.trying:
					steps = append(steps, func() { t.Log("asks", j.JobID); l.apply(t, j) })
				case !j.done && j.told:
					steps = append(steps, func() { t.Log("takes", j.JobID); l.take(j) })
				}
				if _, holds := l.house.hosts[j.JobID]; holds {
					steps = append(steps, func() {
						t.Log("is released", j.JobID)
						delete(l.house.hosts, j.JobID)
						delete(l.house.running, j.JobID)
						l.tellOpen()
					})
				}
			}
			if len(steps) == 0 {
				break
			}
			steps[rapid.IntRange(0, len(steps)-1).Draw(t, "step")]()
		}
		for _, j := range l.jobs {
			require.True(t, j.done, "%s is told nothing: %+v", j.JobID, *j)
		}
	})
}
