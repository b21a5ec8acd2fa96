package admission

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// world is some parties whose room jobs of several schedulers ask for, as the workflows do: one party after the other, in
// one order, and back with everything when one denies, at once or after a moment in which it could be told.
type world struct {
	now     time.Time
	names   []string
	parties map[string]*house
	jobs    []*wish
}

// house is a party's rows.
type house struct {
	party   Party // without what is taken
	seats   map[string][]Slot
	hosts   map[string][]string // of the seats, by job
	running map[string]Job
	waiting map[string]applied
}

type applied struct {
	Request
	asked time.Time
}

// wish is a job: what it wants where, and how far it has come.
type wish struct {
	Job
	told  bool // it may have room now
	wants map[string]Demand
	nodes []string // sorted
	held  int      // of its nodes
	state string   // waiting, applying, lingering, running, done
}

func (h *house) now() Party {
	p := h.party
	p.Runners = slices.Clone(p.Runners)
	p.Running, p.Waiting, p.UsedSlots = nil, nil, 0
	for id, hosts := range h.hosts {
		p.Running = append(p.Running, h.running[id])
		p.UsedSlots += len(hosts)
		for i, host := range hosts {
			k := slices.IndexFunc(p.Runners, func(h Runner) bool { return h.ID == host })
			p.Runners[k].allocate(h.seats[id][i%len(h.seats[id])])
		}
	}
	return p
}

func (w *world) apply(t *rapid.T, j *wish) {
	node := j.nodes[j.held]
	h := w.parties[node]
	p := h.now()
	p.Waiting = h.others(j.JobID, w.now)
	app := Request{Job: j.Job, Demand: j.wants[node]}
	grant, denial := p.Decide(app, w.now)
	require.NotEqual(t, denial == nil, grant.Parallelism == 0, "granted or denied")
	if denial != nil {
		require.NotEmpty(t, denial.Reason)
		h.waiting[j.JobID] = applied{app, w.now}
		if j.held > 0 && denial.Position == 1 {
			j.state = "lingering"
		} else {
			w.giveUp(j)
		}
		return
	}
	require.Len(t, grant.Runners, grant.Parallelism*len(app.Demand.Slots))
	_, waited := h.waiting[j.JobID]
	delete(h.waiting, j.JobID)
	h.seats[j.JobID], h.hosts[j.JobID], h.running[j.JobID] = app.Demand.Slots, grant.Runners, j.Job
	h.check(t)
	if waited {
		w.tell(node)
	}
	if j.held++; j.held == len(j.nodes) {
		j.state = "running"
	} else {
		j.state = "applying"
	}
}

// giveUp gives back what a job holds that a party has denied, and its place where it was denied before.
func (w *world) giveUp(j *wish) {
	node := j.nodes[j.held]
	for _, other := range w.names {
		_, waits := w.parties[other].waiting[j.JobID]
		if slices.Contains(j.nodes[:j.held], other) || waits && other != node {
			w.release(other, j.JobID)
		}
	}
	j.held, j.state = 0, "waiting"
}

// others are those that wait here, but for one.
func (h *house) others(but string, now time.Time) (waiting []Request) {
	for id, a := range h.waiting {
		if id != but && now.Sub(a.asked) <= RequestTTL {
			waiting = append(waiting, a.Request)
		}
	}
	slices.SortFunc(waiting, func(a, b Request) int { return a.before(b.Job) })
	return waiting
}

func (w *world) release(node, id string) {
	h := w.parties[node]
	delete(h.hosts, id)
	delete(h.seats, id)
	delete(h.running, id)
	delete(h.waiting, id)
	w.tell(node)
}

// tell tells those that could have room at a party.
func (w *world) tell(node string) {
	p := w.parties[node].now()
	p.Waiting = w.parties[node].others("", w.now)
	for _, id := range p.Grantable(w.now) {
		w.jobs[slices.IndexFunc(w.jobs, func(j *wish) bool { return j.JobID == id })].told = true
	}
}

func (w *world) end(j *wish) {
	for _, node := range j.nodes {
		w.release(node, j.JobID)
	}
	j.state = "done"
}

// check holds what is taken against what there is.
func (h *house) check(t *rapid.T) {
	p := h.now()
	for _, host := range p.Runners {
		require.LessOrEqual(t, host.UsedSlots, host.Slots)
		require.False(t, over(host.Total.CPUMilli, host.Used.CPUMilli, 1) && host.Used.CPUMilli > host.Total.CPUMilli, "CPU")
		require.True(t, host.Total.Memory == 0 || host.Used.Memory <= host.Total.Memory, "memory")
		require.True(t, host.Total.Disk == 0 || host.Used.Disk <= host.Total.Disk, "disk")
	}
	for id, hosts := range h.hosts {
		for i, host := range hosts {
			k := slices.IndexFunc(p.Runners, func(h Runner) bool { return h.ID == host })
			require.Empty(t, p.Runners[k].Unmet(h.seats[id][i%len(h.seats[id])].Constraints))
		}
	}
	require.True(t, p.Limits.Jobs == 0 || len(p.Running) <= p.Limits.Jobs)
	require.True(t, p.Limits.Tasks == 0 || p.UsedSlots <= p.Limits.Tasks)
}

func (w *world) String() string {
	text := ""
	for _, j := range w.jobs {
		text += fmt.Sprintf("%+v\n", *j)
	}
	for _, name := range w.names {
		text += fmt.Sprintf("%+v\n", w.parties[name].now())
	}
	return text
}

func drawWorld(t *rapid.T) *world {
	w := &world{now: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), names: []string{"A", "B", "C"}, parties: map[string]*house{}}
	small := rapid.Int64Range(0, 4)
	for _, name := range w.names {
		p := Party{Node: name, Limits: Limits{Jobs: rapid.IntRange(0, 3).Draw(t, "jobs"), Tasks: rapid.IntRange(0, 6).Draw(t, "tasks"),
			PerFlow: rapid.IntRange(0, 2).Draw(t, "per flow"), PerPartner: rapid.IntRange(0, 2).Draw(t, "per partner")}}
		for i := range rapid.IntRange(1, 3).Draw(t, "hosts") {
			h := Runner{ID: fmt.Sprintf("%s%d", name, i), Devices: []string{"docker"}, Slots: rapid.IntRange(1, 4).Draw(t, "slots"),
				Total: Resources{CPUMilli: small.Draw(t, "cpu"), Memory: small.Draw(t, "memory"), Disk: small.Draw(t, "disk")}}
			if rapid.Bool().Draw(t, "gpu") {
				h.Labels = map[string]string{"gpu": "1"}
			}
			p.Runners = append(p.Runners, h)
		}
		w.parties[name] = &house{party: p, seats: map[string][]Slot{}, hosts: map[string][]string{}, running: map[string]Job{}, waiting: map[string]applied{}}
	}
	for i := range rapid.IntRange(2, 10).Draw(t, "wishes") {
		j := &wish{Job: Job{JobID: fmt.Sprintf("j%02d", i), Initiator: rapid.SampledFrom(w.names).Draw(t, "initiator"), Flow: rapid.SampledFrom([]string{"", "f", "g"}).Draw(t, "flow"),
			Priority: rapid.IntRange(0, 9).Draw(t, "priority"), Created: w.now.Add(time.Duration(rapid.IntRange(0, 600).Draw(t, "created")) * time.Second)},
			wants: map[string]Demand{}, state: "waiting"}
		for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom(w.names), 1, 3, rapid.ID[string]).Draw(t, "nodes") {
			var wants Demand
			for k := range rapid.IntRange(1, 3).Draw(t, "seats") {
				s := Slot{Role: "guest", Index: k, Constraints: Constraints{Devices: []string{"docker"}},
					Resources: Resources{CPUMilli: small.Draw(t, "cpu"), Memory: small.Draw(t, "memory"), Disk: small.Draw(t, "disk")}}
				if rapid.IntRange(0, 3).Draw(t, "needs gpu") == 0 {
					s.Constraints.Labels = map[string]string{"gpu": "1"}
				}
				wants.Slots = append(wants.Slots, s)
			}
			wants.Parallelism = rapid.IntRange(1, 4).Draw(t, "copies")
			if w.parties[name].party.Infeasible(wants) == "" {
				j.wants[name] = wants
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

// However jobs ask, wait and end, no host holds more than it has, no job holds anything while it waits for more than a moment,
// so that no two hold half of what the other needs, and every job that is possible starts at last.
func TestAdmissionProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		step := func(j *wish, ends bool) {
			switch {
			case j.state == "running":
				if ends || rapid.Bool().Draw(t, "ends") {
					w.end(j)
				}
			case j.state == "lingering" && !j.told:
				w.giveUp(j)
			case j.state != "done" && !j.Created.After(w.now):
				j.told = false
				w.apply(t, j)
			}
		}
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			if len(w.jobs) > 0 {
				step(rapid.SampledFrom(w.jobs).Draw(t, "job"), false)
			}
			w.now = w.now.Add(time.Duration(rapid.IntRange(0, 90).Draw(t, "seconds")) * time.Second)
		}
		for round := 0; ; round++ {
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
			require.Less(t, round, 400, "jobs wait for ever: %s", w)
			w.now = w.now.Add(time.Minute)
		}
		for _, h := range w.parties {
			require.Empty(t, h.hosts)
		}
	})
}

// Those that are told are those that are granted, and nobody else would be: jobs that ask once, and then only when they are told,
// all start at last, without a minute going by.
func TestToldAtOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		w.now = w.now.Add(time.Duration(rapid.IntRange(600, 2000).Draw(t, "later")) * time.Second)
		for _, j := range w.jobs {
			j.told = true
		}
		for {
			var able []*wish
			for _, j := range w.jobs {
				if j.state != "done" && j.state != "waiting" || j.told && j.state == "waiting" {
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
			if j.state == "lingering" && !j.told {
				w.giveUp(j)
				continue
			}
			j.told = false
			for node, h := range w.parties {
				if _, waits := h.waiting[j.JobID]; waits && j.nodes[j.held] == node {
					p := h.now()
					p.Waiting = h.others("", w.now)
					open := slices.Contains(p.Grantable(w.now), j.JobID)
					p.Waiting = h.others(j.JobID, w.now)
					_, denial := p.Decide(Request{Job: j.Job, Demand: j.wants[node]}, w.now)
					require.Equal(t, denial == nil, open, "%s at %s", j.JobID, node)
				}
			}
			w.apply(t, j)
		}
		for _, j := range w.jobs {
			require.Equal(t, "done", j.state, "%s is told nothing: %s", j.JobID, w)
		}
	})
}

// A scheduler's queue serves every job at last, whatever comes after it, and never passes its limits.
func TestQueueProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
		q := Queue{Node: "A", Limits: Limits{Jobs: rapid.IntRange(0, 4).Draw(t, "jobs"), PerFlow: rapid.IntRange(0, 2).Draw(t, "per flow"), PerPartner: rapid.IntRange(0, 2).Draw(t, "per partner")}}
		n := 0
		add := func() {
			q.Waiting = append(q.Waiting, Queued{Job: Job{JobID: fmt.Sprintf("j%03d", n), Initiator: rapid.SampledFrom([]string{"A", "B", "C"}).Draw(t, "initiator"),
				Flow: rapid.SampledFrom([]string{"", "f"}).Draw(t, "flow"), Priority: rapid.IntRange(0, 9).Draw(t, "priority"), Created: now}, Nodes: []string{"A", "B"}})
			n++
		}
		served := map[string]bool{}
		for round := 0; round < 300; round++ {
			if n < 40 && rapid.IntRange(0, 2).Draw(t, "comes") == 0 || n == 0 {
				add()
			}
			turns := q.Turns(now)
			require.Len(t, turns, len(q.Waiting))
			for i, turn := range turns {
				require.Equal(t, i+1, turn.Place)
				require.NotEmpty(t, turn.Reason)
				require.False(t, turn.Next && !turn.Go)
			}
			if k := slices.IndexFunc(turns, func(turn Turn) bool { return turn.Go }); k >= 0 {
				i := slices.IndexFunc(q.Waiting, func(w Queued) bool { return w.JobID == turns[k].JobID })
				q.Running = append(q.Running, q.Waiting[i].Job)
				served[turns[k].JobID] = true
				q.Waiting = slices.Delete(q.Waiting, i, i+1)
			} else if len(q.Waiting) > 0 {
				require.NotEmpty(t, q.Running, "nothing runs, and nobody has a turn: %+v", q)
			}
			require.True(t, q.Limits.Jobs == 0 || len(q.Running) <= q.Limits.Jobs)
			if len(q.Running) > 0 && rapid.Bool().Draw(t, "ends") {
				i := rapid.IntRange(0, len(q.Running)-1).Draw(t, "which")
				q.Running = slices.Delete(q.Running, i, i+1)
			}
			now = now.Add(time.Minute)
		}
		for len(q.Waiting) > 0 {
			before := len(q.Waiting)
			q.Running = nil
			for _, turn := range q.Turns(now) {
				if turn.Go && (q.Limits.Jobs == 0 || len(q.Running) < q.Limits.Jobs) {
					i := slices.IndexFunc(q.Waiting, func(w Queued) bool { return w.JobID == turn.JobID })
					q.Running = append(q.Running, q.Waiting[i].Job)
					q.Waiting = slices.Delete(q.Waiting, i, i+1)
				}
			}
			require.Less(t, len(q.Waiting), before, "somebody has a turn")
		}
	})
}
