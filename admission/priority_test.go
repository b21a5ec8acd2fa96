package admission

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// schedulerSimulation is a scheduler that is also the only party. Its jobs differ only in priority.
type schedulerSimulation struct {
	t     *rapid.T
	now   time.Time
	queue queueRows // waiting and running follow from jobs
	party *simulatedParty
	jobs  []*queuingJob
}

// queuingJob is a job with what its workflow knows.
type queuingJob struct {
	Job
	signaled, reserving bool
	waitingAt           string // in its scheduler's row
	denied              bool   // its workflow knows that it waits at the party
	askedBefore         bool   // it was denied once
	running, done       bool   // at its scheduler
}

func (l *schedulerSimulation) decide() Decision {
	l.queue.waiting, l.queue.running = nil, nil
	for _, j := range l.jobs {
		switch {
		case j.done:
		case j.running:
			l.queue.running = append(l.queue.running, j.Job)
		default:
			l.queue.waiting = append(l.queue.waiting, j.queued())
		}
	}
	return l.queue.decide(l.t, l.now)
}

func (j *queuingJob) queued() QueuedJob {
	return QueuedJob{Job: j.Job, Nodes: []string{"A"}, Reserving: j.reserving, WaitingAt: j.waitingAt}
}

// signalNext signals the jobs that may ask now.
func (l *schedulerSimulation) signalNext() {
	for _, id := range l.decide().Notify {
		l.signal(id)
	}
}

func (l *schedulerSimulation) signal(id string) {
	l.jobs[slices.IndexFunc(l.jobs, func(j *queuingJob) bool { return j.JobID == id })].signaled = true
}

// sendHints signals the jobs that the party would grant now.
func (l *schedulerSimulation) sendHints() {
	p := l.party.state()
	p.Waiting = l.party.others("", l.now)
	for _, id := range p.Grantable(l.now) {
		l.signal(id)
	}
}

// dequeue is a signaled job's first step: it asks its scheduler.
func (l *schedulerSimulation) dequeue(j *queuingJob) {
	j.signaled = false
	status := l.decide().Status(j.queued())
	if status.MayReserve {
		j.reserving = true
		return
	}
	j.waitingAt = ""
	if j.denied && !status.OnlyCandidatesAhead {
		j.denied = false
		delete(l.party.waiting, j.JobID)
		l.sendHints()
	}
}

// reserve is the second step: the job asks the party.
func (l *schedulerSimulation) reserve(t *rapid.T, j *queuingJob) {
	request := Request{
		Job: j.Job,
		Demand: Demand{
			Slots:       []Slot{{Role: "guest", Constraints: Constraints{Devices: []string{"docker"}}}},
			Parallelism: 1,
		},
	}
	p := l.party.state()
	p.Waiting = l.party.others(j.JobID, l.now)
	grant, denial := p.Decide(request, l.now)
	if denial != nil {
		l.party.waiting[j.JobID] = simulatedRequest{request, l.now}
		j.reserving, j.askedBefore, j.denied, j.waitingAt = false, true, true, "A"
		l.signalNext()
		return
	}
	delete(l.party.waiting, j.JobID)
	l.party.slots[j.JobID], l.party.runners[j.JobID] = request.Demand.Slots, grant.Runners
	l.party.running[j.JobID] = j.Job
	l.party.check(t)
	p = l.party.state()
	p.Waiting = l.party.others("", l.now)
	for _, o := range l.jobs {
		if asleep := !o.done && !o.running && !o.reserving && !o.signaled; asleep && o.askedBefore &&
			o.Priority > j.Priority {
			require.Contains(t, p.Grantable(l.now), o.JobID,
				"%s starts before %s, which has the higher priority and gets no hint", j.JobID, o.JobID)
		}
	}
	j.reserving, j.running = false, true
	l.sendHints()
}

// When a job ends, a scheduler's limit and its own runners get free in any order, and signals arrive at any
// time. Even so, no job of lower priority takes what a job of higher priority that asked before could use,
// and no job is forgotten.
func TestHigherPriorityStartsFirst(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limits := Limits{Jobs: rapid.IntRange(0, 3).Draw(t, "jobs")}
		l := &schedulerSimulation{
			now:   time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC),
			queue: queueRows{node: "A", limits: limits},
			t:     t,
		}
		l.party = &simulatedParty{
			party: Party{
				Node: "A",
				Runners: []Runner{
					{ID: "h", Devices: []string{"docker"}, Slots: rapid.IntRange(1, 3).Draw(t, "slots")},
				},
				Limits: limits,
			},
			slots:   map[string][]Slot{},
			runners: map[string][]string{},
			running: map[string]Job{},
			waiting: map[string]simulatedRequest{},
		}
		priorities := rapid.Permutation([]int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}).Draw(t, "priorities")
		for i := range rapid.IntRange(2, 10).Draw(t, "simulated jobs") {
			l.jobs = append(
				l.jobs,
				&queuingJob{
					Job: Job{
						JobID:     fmt.Sprintf("j%02d", i),
						Initiator: "A",
						Priority:  priorities[i],
						Created:   l.now,
					},
				},
			)
		}
		l.signalNext() // all are queued before the first starts
		for {
			var steps []func()
			for _, j := range l.jobs {
				switch {
				case j.running:
					steps = append(steps,
						func() { t.Log("ends", j.JobID); j.running, j.done = false, true; l.signalNext() })
				case j.reserving:
					steps = append(steps, func() { t.Log("asks", j.JobID); l.reserve(t, j) })
				case !j.done && j.signaled:
					steps = append(steps, func() { t.Log("dequeues", j.JobID); l.dequeue(j) })
				}
				if _, holds := l.party.runners[j.JobID]; holds {
					steps = append(steps, func() {
						t.Log("is released", j.JobID)
						delete(l.party.runners, j.JobID)
						delete(l.party.running, j.JobID)
						l.sendHints()
					})
				}
			}
			if len(steps) == 0 {
				break
			}
			steps[rapid.IntRange(0, len(steps)-1).Draw(t, "step")]()
		}
		for _, j := range l.jobs {
			require.True(t, j.done, "%s gets no signal: %+v", j.JobID, *j)
		}
	})
}
