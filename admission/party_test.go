package admission

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	now    = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	docker = Constraints{Devices: []string{"docker"}}
)

const gibi = 1 << 30

func seat(role string, cpu, memory int64) Slot {
	return Slot{Role: role, Constraints: docker, Resources: Resources{CPUMilli: cpu, Memory: memory * gibi}}
}

func application(id, initiator string, age time.Duration, copies int, seats ...Slot) Request {
	return Request{Job: Job{JobID: id, Initiator: initiator, Created: now.Add(-age)}, Demand: Demand{Slots: seats, Parallelism: copies}}
}

func host(id string, slots int, cpu, memory int64) Runner {
	return Runner{ID: id, Devices: []string{"docker"}, Slots: slots, Total: Resources{CPUMilli: cpu, Memory: memory * gibi}}
}

func TestPlace(t *testing.T) {
	gpu := seat("guest", 0, 0)
	gpu.Constraints = Constraints{Devices: []string{"docker", "k8s"}, Labels: map[string]string{"gpu": "1"}}
	withGPU := host("g", 2, 4000, 8)
	withGPU.Labels = map[string]string{"gpu": "1", "region": "north"}
	closed := host("c", 9, 0, 0)
	closed.Draining = true
	for _, c := range []struct {
		name  string
		hosts []Runner
		seats []Slot
		ids   []string
		lack  string
	}{
		{"the freest first", []Runner{host("a", 2, 4000, 8), host("b", 4, 4000, 8)}, []Slot{seat("guest", 1000, 1), seat("host", 1000, 1)}, []string{"a", "b"}, ""},
		{"a label", []Runner{host("a", 9, 0, 0), withGPU}, []Slot{seat("host", 0, 0), gpu}, []string{"a", "g"}, ""},
		{"no label", []Runner{host("a", 9, 0, 0)}, []Slot{gpu}, nil, "no room for guest.0: host a lacks the label gpu=1"},
		{"the large one first", []Runner{host("a", 2, 3000, 8), host("b", 2, 1000, 8)}, []Slot{seat("guest", 1000, 0), seat("host", 3000, 0)}, []string{"b", "a"}, ""},
		{"a search that must go back", []Runner{host("a", 1, 2000, 8), host("b", 1, 4000, 1)}, []Slot{seat("guest", 2000, 1), seat("host", 1000, 2)}, []string{"b", "a"}, ""},
		{"CPU", []Runner{host("a", 9, 1500, 8)}, []Slot{seat("guest", 1000, 0), seat("host", 1000, 0)}, nil, "no room for host.0: host a has 0.5 of 1.5 CPU cores free, asked for 1"},
		{"memory", []Runner{host("a", 9, 0, 8)}, []Slot{seat("guest", 0, 9)}, nil, "no room for guest.0: host a has 8 of 8 GiB of memory free, asked for 9"},
		{"slots", []Runner{host("a", 1, 0, 0)}, []Slot{seat("guest", 0, 0), seat("host", 0, 0)}, nil, "no room for host.0: host a has all its 1 slots taken"},
		{"a closed host", []Runner{closed}, []Slot{seat("guest", 0, 0)}, nil, "no room for guest.0: host c takes nothing new"},
		{"no host", nil, []Slot{seat("guest", 0, 0)}, nil, "no runner host is there"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ids, lack := Place(c.hosts, c.seats)
			assert.Equal(t, c.ids, ids)
			assert.Equal(t, c.lack, lack)
			taken := 0
			for _, h := range c.hosts {
				taken += h.UsedSlots
			}
			assert.Equal(t, len(c.ids), taken, "all or nothing is taken")
		})
	}
}

func TestDecide(t *testing.T) {
	one := seat("guest", 0, 0)
	a := application("new", "A", 0, 1, one)
	urgent := a
	urgent.Priority = 9
	for _, c := range []struct {
		name   string
		party  Party
		app    Request
		copies int
		denial string
		place  int
	}{
		{"room", Party{Runners: []Runner{host("h", 1, 0, 0)}}, a, 1, "", 0},
		{"copies, with half left to others", Party{Runners: []Runner{host("h", 9, 0, 0)}}, application("j", "A", 0, 100, one), 5, "", 0},
		{"copies, with half the CPU left", Party{Runners: []Runner{host("h", 99, 8000, 0)}}, application("j", "A", 0, 100, seat("guest", 1000, 0)), 4, "", 0},
		{"copies within the limit", Party{Runners: []Runner{host("h", 99, 0, 0)}, Limits: Limits{Tasks: 3}}, application("j", "A", 0, 100, one), 3, "", 0},
		{"jobs", Party{Node: "A", Runners: []Runner{host("h", 9, 0, 0)}, Running: []Job{{JobID: "x"}}, Limits: Limits{Jobs: 1}}, a, 0, "1 jobs run at A, which is its limit", 1},
		{"tasks", Party{Runners: []Runner{host("h", 9, 0, 0)}, UsedSlots: 3, Limits: Limits{Tasks: 3}}, a, 0, "jobs here may have 3 containers at once, and have 3", 1},
		{"a partner", Party{Node: "B", Runners: []Runner{host("h", 9, 0, 0)}, Running: []Job{{JobID: "x", Initiator: "A"}}, Limits: Limits{PerPartner: 1}}, a, 0, "1 jobs of A run at B, which is its limit for a partner", 1},
		{"its own jobs are no partner's", Party{Node: "A", Runners: []Runner{host("h", 9, 0, 0)}, Running: []Job{{JobID: "x", Initiator: "A"}}, Limits: Limits{PerPartner: 1}}, a, 1, "", 0},
		{"who came first", Party{Runners: []Runner{host("h", 1, 0, 0)}, Waiting: []Request{application("w", "A", time.Minute, 1, one)}}, a, 0,
			"no room for guest.0: host h has all its 1 slots taken", 2},
		{"who is urgent", Party{Runners: []Runner{host("h", 1, 0, 0)}, Waiting: []Request{application("w", "A", time.Minute, 1, one)}}, urgent, 1, "", 0},
		{"the initiator that has nothing", Party{Runners: []Runner{host("h", 2, 0, 0)}, Running: []Job{{JobID: "x", Initiator: "B"}},
			Waiting: []Request{application("v", "B", time.Minute, 1, one), application("w", "B", time.Minute, 1, one)}}, a, 1, "", 0},
		{"what a large one can't use", Party{Runners: []Runner{host("h", 1, 0, 0)}, Waiting: []Request{application("w", "A", time.Minute, 1, one, one)}}, a, 1, "", 0},
		{"what a large one has waited for long enough", Party{Runners: []Runner{host("h", 1, 0, 0)}, Waiting: []Request{application("w", "A", time.Hour, 1, one, one)}}, a, 1, "", 0},
		{"the same where it is possible", Party{Runners: []Runner{{ID: "h", Devices: []string{"docker"}, Slots: 2, UsedSlots: 1}}, Waiting: []Request{application("w", "A", HeadReservationAfter, 1, one, one)}}, a, 0,
			"room is kept for job w, which has waited since 2026-11-23 11:55:00", 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			grant, denial := c.party.Decide(c.app, now)
			assert.Equal(t, c.copies, grant.Parallelism)
			assert.Len(t, grant.Runners, c.copies*len(c.app.Demand.Slots))
			if c.denial == "" {
				require.Nil(t, denial)
				return
			}
			require.NotNil(t, denial)
			assert.Equal(t, c.denial, denial.Reason)
			assert.Equal(t, c.place, denial.Position)
		})
	}
}

func TestImpossible(t *testing.T) {
	p := Party{Runners: []Runner{host("h", 4, 4000, 8)}, Limits: Limits{Tasks: 2}}
	p.Runners[0].UsedSlots, p.Runners[0].Draining = 4, true // which may change
	assert.Empty(t, p.Infeasible(Demand{Slots: []Slot{seat("guest", 4000, 8)}}))
	assert.Equal(t, "no room for guest.0: host h has 4 of 4 CPU cores free, asked for 4.5", p.Infeasible(Demand{Slots: []Slot{seat("guest", 4500, 8)}}))
	assert.Equal(t, "a task of the job has 3 parts here at once, and the limit is 2", p.Infeasible(Demand{Slots: make([]Slot, 3)}))
	assert.Empty(t, Party{}.Infeasible(Demand{Slots: []Slot{seat("guest", 4500, 8)}}), "without a host nothing is known")
}

// What is kept for one that has waited for long are the hosts that could serve it, not the party; and nothing while they are
// drained.
func TestPatientKeepsItsHosts(t *testing.T) {
	now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	needs := Constraints{Devices: []string{"docker"}, Labels: map[string]string{"gpu": "1"}}
	any := Demand{Slots: []Slot{{Role: "guest", Constraints: Constraints{Devices: []string{"docker"}}}}, Parallelism: 3}
	for _, c := range []struct {
		name   string
		gpu    Runner
		cpu    int // slots
		limits Limits
		want   string // the host, or a denial
	}{
		{"full", Runner{Slots: 2, UsedSlots: 1}, 8, Limits{}, "cpu"},
		{"nothing else", Runner{Slots: 2, UsedSlots: 1}, 0, Limits{}, "room is kept for job x"},
		{"drained", Runner{Slots: 2, Draining: true}, 8, Limits{}, "cpu"},
		{"the last job", Runner{Slots: 2, UsedSlots: 1}, 8, Limits{Jobs: 2}, "room is kept for job x"},
	} {
		gpu := c.gpu
		gpu.ID, gpu.Devices, gpu.Labels = "gpu", []string{"docker"}, map[string]string{"gpu": "1"}
		p := Party{Node: "A", Limits: c.limits, Runners: []Runner{gpu, {ID: "cpu", Devices: []string{"docker"}, Slots: c.cpu}}, Running: []Job{{JobID: "r", Initiator: "A"}}, UsedSlots: 1,
			Waiting: []Request{{Job: Job{JobID: "x", Initiator: "B", Created: now.Add(-6 * time.Minute)}, Demand: Demand{Slots: []Slot{{Role: "guest", Constraints: needs}, {Role: "guest", Index: 1, Constraints: needs}}, Parallelism: 1}}}}
		young := Request{Job: Job{JobID: "y", Initiator: "A", Priority: 9, Created: now}, Demand: any}
		grant, denial := p.Decide(young, now)
		p.Waiting = append(p.Waiting, young)
		if denial != nil {
			assert.Contains(t, denial.Reason, c.want, c.name)
			assert.NotContains(t, p.Grantable(now), "y", c.name)
			continue
		}
		for _, host := range grant.Runners {
			assert.Equal(t, c.want, host, c.name)
		}
		assert.Contains(t, p.Grantable(now), "y", c.name)
	}
}

func TestTurns(t *testing.T) {
	waiting := func(id, initiator string, priority int, age time.Duration) Queued {
		return Queued{Job: Job{JobID: id, Initiator: initiator, Priority: priority, Created: now.Add(-age)}, Nodes: []string{"A", "B"}}
	}
	order := func(q Queue) (ids []string) {
		for _, turn := range q.Turns(now) {
			ids = append(ids, turn.JobID)
		}
		return ids
	}
	assert.Equal(t, []string{"urgent", "old", "new"}, order(Queue{Waiting: []Queued{
		waiting("new", "A", 0, time.Second), waiting("old", "A", 0, time.Minute), waiting("urgent", "A", 1, 0)}}), "priority, then time")
	assert.Equal(t, []string{"aged", "urgent"}, order(Queue{Waiting: []Queued{
		waiting("urgent", "A", 2, 0), waiting("aged", "A", 0, 2*AgingStep)}}), "waiting counts")
	assert.Equal(t, []string{"a1", "b1", "a2", "a3"}, order(Queue{Waiting: []Queued{
		waiting("a1", "A", 0, 4*time.Second), waiting("a2", "A", 0, 3*time.Second), waiting("a3", "A", 0, 2*time.Second), waiting("b1", "B", 0, time.Second)}}), "initiators take turns")
	assert.Equal(t, []string{"b1", "a1"}, order(Queue{Running: []Job{{JobID: "x", Initiator: "A"}}, Waiting: []Queued{
		waiting("a1", "A", 0, 4*time.Second), waiting("b1", "B", 0, time.Second)}}), "who has less comes first")

	q := Queue{Node: "A", Limits: Limits{Jobs: 2}, Running: []Job{{JobID: "x", Initiator: "A"}}}
	q.Waiting = []Queued{waiting("a", "A", 0, 3*time.Second), waiting("b", "A", 0, 2*time.Second)}
	assert.Equal(t, []Turn{{JobID: "a", Go: true, Next: true, Place: 1, Reason: "its turn has come"},
		{JobID: "b", Soon: true, Place: 2, Reason: "2 jobs run at A, which is its limit"}}, q.Turns(now))

	q.Limits = Limits{}
	q.Waiting[0].WaitsAt, q.Waiting[0].WaitsFor = "B", "no room"
	turns := q.Turns(now)
	assert.Equal(t, Turn{JobID: "a", Go: true, Place: 1, Reason: "B: no room"}, turns[0], "it may ask again, and knows when")
	assert.True(t, turns[1].Next, "a few may overtake it")
	q.Waiting = nil
	for _, id := range []string{"a", "b", "c", "d", "e"} {
		w := waiting(id, "A", 0, time.Minute)
		if id != "e" {
			w.WaitsAt, w.WaitsFor = "B", "no room"
		}
		q.Waiting = append(q.Waiting, w)
	}
	assert.Equal(t, Turn{JobID: "e", Place: 5, Reason: "other jobs wait for room at B"}, q.Turns(now)[4])
}
