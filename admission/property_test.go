package admission

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"hutong/bfia"
)

// simulation holds parties and the jobs of several schedulers that reserve resources there, as the workflows
// do: party by party, in one order. When one party denies, the job releases everything, at once or after the
// hold grace.
type simulation struct {
	now     time.Time
	names   []string
	parties map[string]*simulatedParty
	jobs    []*simulatedJob
}

// house is a party's rows.
type simulatedParty struct {
	party   Party // idle
	slots   map[string][]Slot
	runners map[string][]string // of the slots, by job
	running map[string]Job
	waiting map[string]simulatedRequest
}

type simulatedRequest struct {
	Request
	askedAt time.Time
}

// simulatedJob is a job: its demands by party, and its progress.
type simulatedJob struct {
	Job
	hinted  bool // a capacity hint came
	demands map[string]Demand
	nodes   []string // sorted
	granted int      // number of its nodes that granted
	state   string   // waiting, reserving, holding, running, done
}

func (h *simulatedParty) state() Party {
	p := h.party
	p.Runners = slices.Clone(p.Runners)
	p.Running, p.Waiting, p.UsedSlots = nil, nil, 0
	for id, runners := range h.runners {
		p.Running = append(p.Running, h.running[id])
		p.UsedSlots += len(runners)
		for i, runnerID := range runners {
			k := slices.IndexFunc(p.Runners, func(h Runner) bool { return h.ID == runnerID })
			p.Runners[k].allocate(h.slots[id][i%len(h.slots[id])])
		}
	}
	return p
}

func (w *simulation) reserve(t *rapid.T, j *simulatedJob) {
	node := j.nodes[j.granted]
	h := w.parties[node]
	p := h.state()
	p.Waiting = h.others(j.JobID, w.now)
	request := Request{Job: j.Job, Demand: j.demands[node]}
	grant, denial := p.Decide(request, w.now)
	require.NotEqual(t, denial == nil, grant.Parallelism == 0, "granted or denied")
	if denial != nil {
		require.NotEmpty(t, denial.Reason)
		h.waiting[j.JobID] = simulatedRequest{request, w.now}
		if j.granted > 0 && denial.Position == 1 {
			j.state = "holding"
		} else {
			w.releaseAll(j)
		}
		return
	}
	require.Len(t, grant.Runners, grant.Parallelism*len(request.Demand.Slots))
	_, waited := h.waiting[j.JobID]
	delete(h.waiting, j.JobID)
	h.slots[j.JobID], h.runners[j.JobID], h.running[j.JobID] = request.Demand.Slots, grant.Runners, j.Job
	h.check(t)
	if waited {
		w.hint(node)
	}
	if j.granted++; j.granted == len(j.nodes) {
		j.state = "running"
	} else {
		j.state = "reserving"
	}
}

// releaseAll releases what a denied job holds, and its waiting requests at other parties.
func (w *simulation) releaseAll(j *simulatedJob) {
	node := j.nodes[j.granted]
	for _, other := range w.names {
		_, waits := w.parties[other].waiting[j.JobID]
		if slices.Contains(j.nodes[:j.granted], other) || waits && other != node {
			w.release(other, j.JobID)
		}
	}
	j.granted, j.state = 0, "waiting"
}

// others returns the waiting requests, except that of one job.
func (h *simulatedParty) others(except string, now time.Time) (waiting []Request) {
	for id, a := range h.waiting {
		if id != except && now.Sub(a.askedAt) <= RequestTTL {
			waiting = append(waiting, a.Request)
		}
	}
	slices.SortFunc(waiting, func(a, b Request) int { return a.before(b.Job) })
	return waiting
}

func (w *simulation) release(node, id string) {
	h := w.parties[node]
	delete(h.runners, id)
	delete(h.slots, id)
	delete(h.running, id)
	delete(h.waiting, id)
	w.hint(node)
}

// hint sends capacity hints to the jobs that a party would grant now.
func (w *simulation) hint(node string) {
	p := w.parties[node].state()
	p.Waiting = w.parties[node].others("", w.now)
	for _, id := range p.Grantable(w.now) {
		w.jobs[slices.IndexFunc(w.jobs, func(j *simulatedJob) bool { return j.JobID == id })].hinted = true
	}
}

func (w *simulation) end(j *simulatedJob) {
	for _, node := range j.nodes {
		w.release(node, j.JobID)
	}
	j.state = "done"
}

// check requires that no runner and no limit is exceeded.
func (h *simulatedParty) check(t *rapid.T) {
	p := h.state()
	for _, runnerID := range p.Runners {
		require.LessOrEqual(t, runnerID.UsedSlots, runnerID.Slots)
		require.False(
			t,
			exceeds(runnerID.Total.CPUMilli, runnerID.Used.CPUMilli, 1) &&
				runnerID.Used.CPUMilli > runnerID.Total.CPUMilli,
			"CPU",
		)
		require.True(t, runnerID.Total.Memory == 0 || runnerID.Used.Memory <= runnerID.Total.Memory, "memory")
		require.True(t, runnerID.Total.Disk == 0 || runnerID.Used.Disk <= runnerID.Total.Disk, "disk")
	}
	for id, runners := range h.runners {
		for i, runnerID := range runners {
			k := slices.IndexFunc(p.Runners, func(h Runner) bool { return h.ID == runnerID })
			require.Empty(t, p.Runners[k].Unmet(h.slots[id][i%len(h.slots[id])].Constraints))
		}
	}
	require.True(t, p.Limits.Jobs == 0 || len(p.Running) <= p.Limits.Jobs)
	require.True(t, p.Limits.Tasks == 0 || p.UsedSlots <= p.Limits.Tasks)
}

func (w *simulation) String() string {
	text := ""
	for _, j := range w.jobs {
		text += fmt.Sprintf("%+v\n", *j)
	}
	for _, name := range w.names {
		text += fmt.Sprintf("%+v\n", w.parties[name].state())
	}
	return text
}

func drawSimulation(t *rapid.T) *simulation {
	w := &simulation{
		now:     time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC),
		names:   []string{"A", "B", "C"},
		parties: map[string]*simulatedParty{},
	}
	small := rapid.Int64Range(0, 4)
	for _, name := range w.names {
		p := Party{
			Node: name,
			Limits: Limits{
				Jobs:  rapid.IntRange(0, 3).Draw(t, "jobs"),
				Tasks: rapid.IntRange(0, 6).Draw(t, "tasks"),
				PerFlow: rapid.IntRange(0, 2).
					Draw(t, "per flow"),
				PerPartner: rapid.IntRange(0, 2).Draw(t, "per partner"),
			},
		}
		for i := range rapid.IntRange(1, 3).Draw(t, "runners") {
			h := Runner{
				ID:      fmt.Sprintf("%s%d", name, i),
				Devices: []string{"docker"},
				Slots:   rapid.IntRange(1, 4).Draw(t, "slots"),
				Total: bfia.Resources{
					CPUMilli: small.Draw(t, "cpu"),
					Memory:   small.Draw(t, "memory"),
					Disk:     small.Draw(t, "disk"),
				},
			}
			if rapid.Bool().Draw(t, "gpu") {
				h.Labels = map[string]string{"gpu": "1"}
			}
			p.Runners = append(p.Runners, h)
		}
		w.parties[name] = &simulatedParty{
			party:   p,
			slots:   map[string][]Slot{},
			runners: map[string][]string{},
			running: map[string]Job{},
			waiting: map[string]simulatedRequest{},
		}
	}
	for i := range rapid.IntRange(2, 10).Draw(t, "simulated jobs") {
		j := &simulatedJob{
			Job: Job{
				JobID:     fmt.Sprintf("j%02d", i),
				Initiator: rapid.SampledFrom(w.names).Draw(t, "initiator"),
				Flow:      rapid.SampledFrom([]string{"", "f", "g"}).Draw(t, "flow"),
				Priority: rapid.IntRange(0, 9).
					Draw(t, "priority"),
				Created: w.now.Add(time.Duration(rapid.IntRange(0, 600).Draw(t, "created")) * time.Second),
			},
			demands: map[string]Demand{},
			state:   "waiting",
		}
		for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom(w.names), 1, 3,
			rapid.ID[string]).Draw(t, "nodes") {
			var demand Demand
			for k := range rapid.IntRange(1, 3).Draw(t, "slots of the demand") {
				s := Slot{Role: "guest", Index: k, Constraints: Constraints{Devices: []string{"docker"}},
					Resources: bfia.Resources{
						CPUMilli: small.Draw(t, "cpu"),
						Memory:   small.Draw(t, "memory"),
						Disk:     small.Draw(t, "disk"),
					}}
				if rapid.IntRange(0, 3).Draw(t, "requires gpu") == 0 {
					s.Constraints.Labels = map[string]string{"gpu": "1"}
				}
				demand.Slots = append(demand.Slots, s)
			}
			demand.Parallelism = rapid.IntRange(1, 4).Draw(t, "parallelism")
			if w.parties[name].party.Infeasible(demand) == "" {
				j.demands[name] = demand
				j.nodes = append(j.nodes, name)
			}
		}
		slices.Sort(j.nodes)
		if len(j.nodes) > 0 {
			w.jobs = append(w.jobs, j)
		}
	}
	return w
}

// However jobs ask, wait and end: no runner is overcommitted, no waiting job holds anything longer than the
// hold grace (so no two jobs deadlock), and every feasible job starts in the end.
func TestAdmissionProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawSimulation(t)
		step := func(j *simulatedJob, ends bool) {
			switch {
			case j.state == "running":
				if ends || rapid.Bool().Draw(t, "ends") {
					w.end(j)
				}
			case j.state == "holding" && !j.hinted:
				w.releaseAll(j)
			case j.state != "done" && !j.Created.After(w.now):
				j.hinted = false
				w.reserve(t, j)
			}
		}
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			if len(w.jobs) > 0 {
				step(rapid.SampledFrom(w.jobs).Draw(t, "job"), false)
			}
			w.now = w.now.Add(time.Duration(rapid.IntRange(0, 90).Draw(t, "seconds")) * time.Second)
		}
		for pass := 0; ; pass++ {
			left := 0
			for _, j := range rapid.Permutation(w.jobs).Draw(t, "order") {
				step(j, true)
				if j.state != "done" {
					left++
				}
			}
			if left == 0 {
				break
			}
			require.Less(t, pass, 400, "jobs wait for ever: %s", w)
			w.now = w.now.Add(time.Minute)
		}
		for _, h := range w.parties {
			require.Empty(t, h.runners)
		}
	})
}

// Hints go to exactly the jobs that would be granted. So jobs that ask once, and then only after a hint, all
// start, without any polling.
func TestCapacityHints(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawSimulation(t)
		w.now = w.now.Add(time.Duration(rapid.IntRange(600, 2000).Draw(t, "later")) * time.Second)
		for _, j := range w.jobs {
			j.hinted = true
		}
		for {
			var able []*simulatedJob
			for _, j := range w.jobs {
				if j.state != "done" && j.state != "waiting" || j.hinted && j.state == "waiting" {
					able = append(able, j)
				}
			}
			if len(able) == 0 {
				break
			}
			j := rapid.SampledFrom(able).Draw(t, "job")
			if j.state == "running" {
				w.end(j)
				continue
			}
			if j.state == "holding" && !j.hinted {
				w.releaseAll(j)
				continue
			}
			j.hinted = false
			for node, h := range w.parties {
				if _, waits := h.waiting[j.JobID]; waits && j.nodes[j.granted] == node {
					p := h.state()
					p.Waiting = h.others("", w.now)
					grantable := slices.Contains(p.Grantable(w.now), j.JobID)
					p.Waiting = h.others(j.JobID, w.now)
					_, denial := p.Decide(Request{Job: j.Job, Demand: j.demands[node]}, w.now)
					require.Equal(t, denial == nil, grantable, "%s at %s", j.JobID, node)
				}
			}
			w.reserve(t, j)
		}
		for _, j := range w.jobs {
			require.Equal(t, "done", j.state, "%s gets no hint: %s", j.JobID, w)
		}
	})
}
