package admission

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/bfia"
)

var (
	now    = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	docker = Constraints{Devices: []string{"docker"}}
)

const gibi = 1 << 30

func slot(role string, cpu, memory int64) Slot {
	return Slot{Role: role, Constraints: docker,
		Resources: bfia.Resources{CPUMilli: cpu, Memory: memory * gibi}}
}

func request(id, initiator string, age time.Duration, parallelism int, slots ...Slot) Request {
	return Request{
		Job:    Job{JobID: id, Initiator: initiator, Created: now.Add(-age)},
		Demand: Demand{Slots: slots, Parallelism: parallelism},
	}
}

func runner(id string, slots int, cpu, memory int64) Runner {
	return Runner{
		ID:      id,
		Devices: []string{"docker"},
		Slots:   slots,
		Total:   bfia.Resources{CPUMilli: cpu, Memory: memory * gibi},
	}
}

func TestPlace(t *testing.T) {
	gpu := slot("guest", 0, 0)
	gpu.Constraints = Constraints{Devices: []string{"docker", "k8s"}, Labels: map[string]string{"gpu": "1"}}
	withGPU := runner("g", 2, 4000, 8)
	withGPU.Labels = map[string]string{"gpu": "1", "region": "north"}
	draining := runner("c", 9, 0, 0)
	draining.Draining = true
	inUse, full := runner("u", 3, 4000, 8), runner("f", 2, 0, 0)
	inUse.UsedSlots, full.UsedSlots = 2, 2
	oneGPU, withGPUs := slot("host", 0, 0), runner("t", 9, 0, 0)
	oneGPU.GPU, withGPUs.Total.GPU = 1, 2
	withImage, imageSlot := runner("i", 1, 0, 0), slot("host", 0, 0)
	withImage.Images, imageSlot.Images = map[string]string{"sha256:1": "sha256:1"}, [][]string{{"sha256:0",
		"sha256:1"}}
	busyImage, twoImages := withImage, imageSlot
	busyImage.UsedSlots, twoImages.Images = 1, [][]string{{"sha256:1"}, {"sha256:2"}}
	gpusInUse := withGPUs
	gpusInUse.Used.GPU = 2
	for _, c := range []struct {
		name    string
		runners []Runner
		slots   []Slot
		ids     []string
		unmet   string
	}{
		{"the greatest free share first", []Runner{runner("a", 2, 4000, 8), runner("b", 4, 4000, 8)},
			[]Slot{slot("guest", 1000, 1), slot("host", 1000, 1)}, []string{"a", "b"}, ""},
		{"a label", []Runner{runner("a", 9, 0, 0), withGPU}, []Slot{slot("host", 0, 0), gpu},
			[]string{"a", "g"}, ""},
		{"no label", []Runner{runner("a", 9, 0, 0)}, []Slot{gpu}, nil,
			"no runner has the resources for guest.0: runner a lacks the label gpu=1"},
		{"the large one first", []Runner{runner("a", 2, 3000, 8), runner("b", 2, 1000, 8)},
			[]Slot{slot("guest", 1000, 0), slot("host", 3000, 0)}, []string{"b", "a"}, ""},
		{"a search that must backtrack", []Runner{runner("a", 1, 2000, 8), runner("b", 1, 4000, 1)},
			[]Slot{slot("guest", 2000, 1), slot("host", 1000, 2)}, []string{"b", "a"}, ""},
		{"CPU", []Runner{runner("a", 9, 1500, 8)}, []Slot{slot("guest", 1000, 0), slot("host", 1000, 0)}, nil,
			"a task of the job needs 2 CPU cores here, the runners have 1.5 (runner.cpu)"},
		{"memory", []Runner{runner("a", 9, 0, 8)}, []Slot{slot("guest", 0, 9)}, nil,
			"no runner has the resources for guest.0: runner a has 8 GiB of memory (runner.memory), asked for 9"},
		{"slots", []Runner{runner("a", 1, 0, 0)}, []Slot{slot("guest", 0, 0), slot("host", 0, 0)}, nil,
			"a task of the job needs 2 slots here at once (for guest.0, host.0), the runners have 1 (runner.slots)"},
		{"slots of runners with a label", []Runner{withGPU, runner("a", 9, 0, 0)}, []Slot{gpu, gpu, gpu}, nil,
			"a task of the job needs 3 slots here at once (for guest.0, guest.0, guest.0), the runners with " +
				"gpu=1 have 2 (runner.slots)"},
		{"slots in use", []Runner{inUse}, []Slot{slot("guest", 0, 0), slot("host", 0, 0)}, nil,
			"the 2 containers of a task do not fit together now: runner u has 1 of 3 slots, 4 of 4 CPU cores, " +
				"8 of 8 GiB of memory free"},
		{"all slots in use", []Runner{full}, []Slot{slot("guest", 0, 0)}, nil,
			"no runner has the resources for guest.0: runner f uses all its 2 slots"},
		{"GPUs", []Runner{runner("a", 9, 0, 0), withGPUs}, []Slot{slot("guest", 0, 0), oneGPU},
			[]string{"a", "t"},
			""},
		{"no GPUs are not an unknown number of them", []Runner{runner("a", 9, 0, 0)}, []Slot{oneGPU}, nil,
			"no runner has the resources for host.0: runner a has 0 GPUs (runner.gpus), asked for 1"},
		{"too few GPUs", []Runner{withGPUs}, []Slot{oneGPU, oneGPU, oneGPU}, nil,
			"a task of the job needs 3 GPUs here, the runners have 2 (runner.gpus)"},
		{"GPUs in use", []Runner{gpusInUse}, []Slot{oneGPU}, nil,
			"no runner has the resources for host.0: runner t has 0 of 2 GPUs free, asked for 1"},
		{"the image", []Runner{runner("free", 9, 0, 0), withImage}, []Slot{imageSlot}, []string{"i"}, ""},
		{"the most images", []Runner{runner("free", 9, 0, 0), withImage}, []Slot{twoImages}, []string{"i"},
			""},
		{"an image that no runner has", []Runner{runner("a", 9, 0, 0)}, []Slot{imageSlot}, []string{"a"}, ""},
		{"the runner with the image is busy", []Runner{runner("free", 9, 0, 0), busyImage}, []Slot{imageSlot},
			nil,
			"no runner has the resources for host.0: runner free lacks the image sha256:0 or sha256:1; " +
				"runner i uses all its 1 slots"},
		{"a puzzle", []Runner{runner("a", 2, 3000, 0), runner("b", 2, 3000, 0)},
			[]Slot{slot("guest", 2000, 0), slot("host", 2000, 0), slot("arbiter", 2000, 0)}, nil,
			"the 3 containers of a task do not fit together on idle runners: runner a has 2 of 2 slots, 3 of 3 " +
				"CPU cores free; runner b has 2 of 2 slots, 3 of 3 CPU cores free"},
		{"a draining runner", []Runner{draining}, []Slot{slot("guest", 0, 0)}, nil,
			"no runner has the resources for guest.0: runner c is draining"},
		{"no runner", nil, []Slot{slot("guest", 0, 0)}, nil, "no runner is online"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := slices.Clone(c.runners)
			ids, unmet := Place(c.runners, c.slots)
			assert.Equal(t, c.ids, ids)
			assert.Equal(t, c.unmet, unmet)
			used := 0
			for i, h := range c.runners {
				used += h.UsedSlots - before[i].UsedSlots
			}
			assert.Equal(t, len(c.ids), used, "all slots or none are allocated")
		})
	}
}

func TestDecide(t *testing.T) {
	one, full := slot("guest", 0, 0), runner("f", 2, 0, 0)
	full.UsedSlots = 2
	a := request("new", "A", 0, 1, one)
	urgent := a
	urgent.Priority = 9
	for _, c := range []struct {
		name        string
		party       Party
		request     Request
		parallelism int
		denial      string
		position    int
	}{
		{"a free slot", Party{Runners: []Runner{runner("h", 1, 0, 0)}}, a, 1, "", 0},
		{"parallelism, with half left to others", Party{Runners: []Runner{runner("h", 9, 0, 0)}},
			request("j", "A", 0, 100, one), 5, "", 0},
		{"parallelism, with half the CPU left", Party{Runners: []Runner{runner("h", 99, 8000, 0)}},
			request("j", "A", 0, 100, slot("guest", 1000, 0)), 4, "", 0},
		{"parallelism within the limit", Party{Runners: []Runner{runner("h", 99, 0, 0)},
			Limits: Limits{Tasks: 3}}, request("j", "A", 0, 100, one), 3, "", 0},
		{"jobs", Party{Node: "A", Runners: []Runner{runner("h", 9, 0, 0)}, Running: []Job{{JobID: "x"}},
			Limits: Limits{Jobs: 1}}, a, 0, "1 jobs run at A, which is its limit", 1},
		{"tasks", Party{Runners: []Runner{runner("h", 9, 0, 0)}, UsedSlots: 3, Limits: Limits{Tasks: 3}}, a,
			0, "this party limits its jobs to 3 containers at once, and they have 3", 1},
		{"a partner", Party{Node: "B", Runners: []Runner{runner("h", 9, 0, 0)},
			Running: []Job{{JobID: "x", Initiator: "A"}}, Limits: Limits{PerPartner: 1}}, a, 0,
			"1 jobs of A run at B, which is its limit for a partner", 1},
		{"its own jobs are no partner's", Party{Node: "A", Runners: []Runner{runner("h", 9, 0, 0)},
			Running: []Job{{JobID: "x", Initiator: "A"}}, Limits: Limits{PerPartner: 1}}, a, 1, "", 0},
		{"an earlier request", Party{Runners: []Runner{runner("h", 1, 0, 0)},
			Waiting: []Request{request("w", "A", time.Minute, 1, one)}}, a, 0,
			"what is free is kept for jobs ahead in the queue (1)", 2},
		{"an earlier request, and nothing is free", Party{Runners: []Runner{full},
			Waiting: []Request{request("w", "A", time.Minute, 1, one)}}, a, 0,
			"no runner has the resources for guest.0: runner f uses all its 2 slots", 2},
		{"a higher priority", Party{Runners: []Runner{runner("h", 1, 0, 0)},
			Waiting: []Request{request("w", "A", time.Minute, 1, one)}}, urgent, 1, "", 0},
		{"fair share: the initiator without jobs first",
			Party{Runners: []Runner{runner("h", 2, 0, 0)}, Running: []Job{{JobID: "x", Initiator: "B"}},
				Waiting: []Request{request("v", "B", time.Minute, 1, one),
					request("w", "B", time.Minute, 1, one)}}, a, 1, "", 0},
		{"backfilling: what a large job can't use",
			Party{Runners: []Runner{runner("h", 1, 0, 0)},
				Waiting: []Request{request("w", "A", time.Minute, 1, one, one)}}, a, 1, "", 0},
		{"backfilling past a job that could never fit",
			Party{Runners: []Runner{runner("h", 1, 0, 0)},
				Waiting: []Request{request("w", "A", time.Hour, 1, one, one)}}, a, 1, "", 0},
		{"a head reservation for a job that could fit",
			Party{Runners: []Runner{{ID: "h", Devices: []string{"docker"}, Slots: 2, UsedSlots: 1}},
				Waiting: []Request{request("w", "A", HeadReservationAfter, 1, one, one)}}, a, 0,
			"resources are reserved for a job that has waited since 2026-11-23 11:55:00", 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			grant, denial := c.party.Decide(c.request, now)
			assert.Equal(t, c.parallelism, grant.Parallelism)
			assert.Len(t, grant.Runners, c.parallelism*len(c.request.Demand.Slots))
			if c.denial == "" {
				require.Nil(t, denial)
				return
			}
			require.NotNil(t, denial)
			assert.Equal(t, c.denial, denial.Reason)
			assert.Equal(t, c.position, denial.Position)
		})
	}
}

func TestInfeasible(t *testing.T) {
	p := Party{Runners: []Runner{runner("h", 4, 4000, 8)}, Limits: Limits{Tasks: 2}}
	p.Runners[0].UsedSlots, p.Runners[0].Draining = 4, true // which may change
	assert.Empty(t, p.Infeasible(Demand{Slots: []Slot{slot("guest", 4000, 8)}}))
	assert.Equal(t,
		"no runner has the resources for guest.0: runner h has 4 CPU cores (runner.cpu), asked for 4.5",
		p.Infeasible(Demand{Slots: []Slot{slot("guest", 4500, 8)}}))
	assert.Equal(t,
		"a task of the job has 3 parts here, this party runs at most 2 at once (jobs.max_containers)",
		p.Infeasible(Demand{Slots: make([]Slot, 3)}))
	small := Party{Runners: []Runner{runner("h", 2, 0, 0)}}
	assert.Equal(t,
		"a task of the job needs 3 slots here at once (for guest.0, host.0, host.1), the runners "+
			"have 2 (runner.slots)", small.Infeasible(Demand{Slots: []Slot{slot("guest", 0, 0),
			slot("host", 0, 0),
			{Role: "host", Index: 1, Constraints: slot("host", 0, 0).Constraints}}}))
	assert.Empty(t, Party{}.Infeasible(Demand{Slots: []Slot{slot("guest", 4500, 8)}}),
		"without a runner nothing is known")
}

// A head reservation keeps the runners that could serve the head, not the whole party. It keeps nothing while
// they drain.
func TestHeadReservation(t *testing.T) {
	now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	constraints := Constraints{Devices: []string{"docker"}, Labels: map[string]string{"gpu": "1"}}
	anyRunner := Demand{
		Slots:       []Slot{{Role: "guest", Constraints: Constraints{Devices: []string{"docker"}}}},
		Parallelism: 3,
	}
	for _, c := range []struct {
		name   string
		gpu    Runner
		cpu    int // slots
		limits Limits
		want   string // the runner, or a denial
	}{
		{"full", Runner{Slots: 2, UsedSlots: 1}, 8, Limits{}, "cpu"},
		{"no other runner", Runner{Slots: 2, UsedSlots: 1}, 0, Limits{}, "resources are reserved for a job"},
		{"draining", Runner{Slots: 2, Draining: true}, 8, Limits{}, "cpu"},
		{"the last job within the limit", Runner{Slots: 2, UsedSlots: 1}, 8, Limits{Jobs: 2},
			"resources are reserved for a job"},
	} {
		gpu := c.gpu
		gpu.ID, gpu.Devices, gpu.Labels = "gpu", []string{"docker"}, map[string]string{"gpu": "1"}
		p := Party{
			Node:      "A",
			Limits:    c.limits,
			Runners:   []Runner{gpu, {ID: "cpu", Devices: []string{"docker"}, Slots: c.cpu}},
			Running:   []Job{{JobID: "r", Initiator: "A"}},
			UsedSlots: 1,
			Waiting: []Request{
				{
					Job: Job{JobID: "x", Initiator: "B", Created: now.Add(-6 * time.Minute)},
					Demand: Demand{
						Slots: []Slot{
							{Role: "guest", Constraints: constraints},
							{Role: "guest", Index: 1, Constraints: constraints},
						},
						Parallelism: 1,
					},
				},
			},
		}
		young := Request{Job: Job{JobID: "y", Initiator: "A", Priority: 9, Created: now}, Demand: anyRunner}
		grant, denial := p.Decide(young, now)
		p.Waiting = append(p.Waiting, young)
		if denial != nil {
			assert.Contains(t, denial.Reason, c.want, c.name)
			assert.NotContains(t, p.Grantable(now), "y", c.name)
			continue
		}
		for _, r := range grant.Runners {
			assert.Equal(t, c.want, r, c.name)
		}
		assert.Contains(t, p.Grantable(now), "y", c.name)
	}
}
