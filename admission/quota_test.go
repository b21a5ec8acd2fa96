package admission

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"hutong/bfia"
)

// TestQuotas decides on a request of project p, of whose jobs one runs with one container, 2 cores and 4 GiB.
func TestQuotas(t *testing.T) {
	one := slot("guest", 1000, 2)
	for _, c := range []struct {
		name        string
		quota       bfia.ProjectQuota
		slots       []Slot
		parallelism int // of the grant
		denial      string
	}{
		{"no quota", bfia.ProjectQuota{}, []Slot{one}, 3, ""},
		{"enough", bfia.ProjectQuota{Jobs: 2, Containers: 4, CPUMilli: 5000, Memory: 10 * gibi}, []Slot{one},
			3, ""},
		{"jobs", bfia.ProjectQuota{Jobs: 1}, []Slot{one}, 0, "1 of 1 jobs hold resources"},
		{"jobs bound no parallelism", bfia.ProjectQuota{Jobs: 2}, []Slot{one}, 3, ""},
		{"containers", bfia.ProjectQuota{Containers: 2}, []Slot{one, one}, 0,
			"its jobs have 1 of 2 containers, this one needs 2 more"},
		{"parallelism within the containers", bfia.ProjectQuota{Containers: 3}, []Slot{one}, 2, ""},
		{"CPU", bfia.ProjectQuota{CPUMilli: 2500}, []Slot{one}, 0,
			"its jobs have 2 of 2.5 CPU cores, this one needs 1 more"},
		{"parallelism within the CPU", bfia.ProjectQuota{CPUMilli: 3999}, []Slot{one}, 1, ""},
		{"memory", bfia.ProjectQuota{Memory: 5 * gibi}, []Slot{one}, 0,
			"its jobs have 4 of 5 GiB of memory, this one needs 2 more"},
		{"parallelism within the memory", bfia.ProjectQuota{Memory: 8 * gibi}, []Slot{one}, 2, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := Party{Node: "A", Runners: []Runner{runner("h", 100, 0, 0)},
				Running: []Job{{JobID: "x", Project: "p"}}, UsedSlots: 1,
				Quotas: map[string]bfia.ProjectQuota{"p": c.quota},
				Held:   map[string]Held{"p": {Jobs: 1, Containers: 1, CPUMilli: 2000, Memory: 4 * gibi}}}
			r := request("j", "A", 0, 3, c.slots...)
			r.Project = "p"
			grant, denial := p.Decide(r, now)
			assert.Equal(t, c.parallelism, grant.Parallelism)
			if c.denial == "" {
				require.Nil(t, denial)
			} else {
				require.NotNil(t, denial)
				assert.Equal(t, "the quota of the job's project at A is used up: "+c.denial, denial.Reason)
			}

			r.Project = "other"
			grant, denial = p.Decide(r, now)
			require.Nil(t, denial)
			assert.Equal(t, 3, grant.Parallelism)
		})
	}
	assert.Empty(t, BeyondQuota(bfia.ProjectQuota{Containers: 1}, Demand{Slots: []Slot{one}}))
	assert.Equal(t, "the quota of the job's project can't hold it: its jobs have 0 of 1 containers, this one "+
		"needs 2 more", BeyondQuota(bfia.ProjectQuota{Containers: 1}, Demand{Slots: []Slot{one, one}}))
}

// TestLoweredQuota checks that the reason of a job which no longer fits into the empty quota says so.
func TestLoweredQuota(t *testing.T) {
	one := slot("guest", 0, 0)
	p := Party{Node: "A", Runners: []Runner{runner("h", 100, 0, 0)},
		Quotas: map[string]bfia.ProjectQuota{"p": {Containers: 1}}}
	r := request("j", "A", 0, 1, one, one)
	r.Project = "p"
	_, denial := p.Decide(r, now)
	require.NotNil(t, denial)
	require.Equal(t, "the quota of the job's project can't hold it: its jobs have 0 of 1 containers, "+
		"this one needs 2 more; it waits until the quota is raised", denial.Reason)
}

// TestQuotaHoldsNobodyBack checks that a job which waits for its project's quota keeps no resources from
// younger jobs of others, however long it waits, and that one job of the project at a time is hinted.
func TestQuotaHoldsNobodyBack(t *testing.T) {
	one := slot("guest", 0, 0)
	of := func(project string, r Request) Request {
		r.Project = project
		return r
	}
	p := Party{Node: "A", Runners: []Runner{runner("h", 2, 0, 0)}, UsedSlots: 1,
		Running: []Job{{JobID: "x", Project: "p"}},
		Quotas:  map[string]bfia.ProjectQuota{"p": {Jobs: 1}}, Held: map[string]Held{"p": {Jobs: 1}},
		Waiting: []Request{of("p", request("old", "A", time.Hour, 1, one)),
			of("p", request("older", "A", 2*time.Hour, 1, one))}}
	p.Runners[0].UsedSlots = 1
	_, denial := p.Decide(of("q", request("young", "A", 0, 1, one)), now)
	require.Nil(t, denial)
	require.Empty(t, p.Grantable(now))

	p.Held, p.Running = map[string]Held{}, nil
	require.Equal(t, []string{"older"}, p.Grantable(now))
}

// TestQuotaHead checks that smaller jobs of a project don't overtake a large one for ever: what is left of
// the quota is kept for it once it has waited long enough, and for nobody else.
func TestQuotaHead(t *testing.T) {
	one := slot("guest", 0, 0)
	of := func(project string, r Request) Request {
		r.Project = project
		return r
	}
	large := func(age time.Duration) Party {
		return Party{Node: "A", Runners: []Runner{runner("h", 100, 0, 0)},
			Quotas:  map[string]bfia.ProjectQuota{"p": {Containers: 4}},
			Held:    map[string]Held{"p": {Jobs: 1, Containers: 2}},
			Waiting: []Request{of("p", request("large", "A", age, 1, one, one, one))}}
	}
	small := of("p", request("small", "A", 0, 1, one))
	_, denial := large(HeadReservationAfter-time.Second).Decide(small, now)
	require.Nil(t, denial)
	p := large(HeadReservationAfter)
	_, denial = p.Decide(small, now)
	require.NotNil(t, denial)
	require.Equal(t, "what is left of the quota of the job's project is kept for a job that has waited since "+
		"2026-11-23 11:55:00", denial.Reason)
	_, denial = p.Decide(of("q", small), now)
	require.Nil(t, denial, "another project waits for nobody")
	_, denial = p.Decide(of("p", request("older", "A", time.Hour, 1, one)), now)
	require.Nil(t, denial, "it was there before")

	p.Waiting = append(p.Waiting, small)
	require.Empty(t, p.Grantable(now))
	p.Held = map[string]Held{"p": {Jobs: 1, Containers: 1}}
	require.Equal(t, []string{"large"}, p.Grantable(now))

	p = large(time.Hour)
	p.Quotas["p"] = bfia.ProjectQuota{Containers: 2}
	p.Held = nil
	_, denial = p.Decide(small, now)
	require.Nil(t, denial, "a job that never fits keeps nothing")
}

// TestQuotaHeadFreesOthers checks that jobs which wait behind the quota head of their project keep nothing
// from other projects: neither by their place in the queue nor by a head reservation.
func TestQuotaHeadFreesOthers(t *testing.T) {
	one := slot("guest", 0, 0)
	of := func(project string, r Request) Request {
		r.Project = project
		return r
	}
	p := Party{Node: "A", Runners: []Runner{runner("h", 20, 0, 0)}, UsedSlots: 15,
		Running: []Job{{JobID: "x", Project: "p"}},
		Quotas:  map[string]bfia.ProjectQuota{"p": {Containers: 20}},
		Held:    map[string]Held{"p": {Jobs: 1, Containers: 15}},
		Waiting: []Request{of("p", request("large", "A", time.Hour, 1, slices.Repeat([]Slot{one}, 10)...))}}
	p.Runners[0].UsedSlots = 15
	for i := range 5 {
		p.Waiting = append(p.Waiting, of("p", request(fmt.Sprint("small", i), "A", time.Minute, 1, one)))
	}
	young := of("q", request("young", "A", 0, 1, one))
	_, denial := p.Decide(young, now)
	require.Nil(t, denial)
	p.Waiting = append(p.Waiting, young)
	require.Equal(t, []string{"young"}, p.Grantable(now))

	// A job behind the quota head that fits on no runner becomes no head of the whole party.
	p.Runners[0].UsedSlots = 19
	p.Waiting = append(p.Waiting[:1],
		of("p", request("behind", "A", time.Hour-time.Minute, 1, one, one)), young)
	require.Equal(t, []string{"young"}, p.Grantable(now))
	p.Waiting = p.Waiting[:2]
	_, denial = p.Decide(young, now)
	require.Nil(t, denial)
}

// TestGrantableWithQuotas checks that exactly the jobs which get a capacity hint would be granted, whatever
// quotas their projects have.
func TestGrantableWithQuotas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := Party{Node: "A", Quotas: map[string]bfia.ProjectQuota{}, Held: map[string]Held{}}
		slots := rapid.IntRange(1, 12).Draw(t, "slots")
		p.Runners = []Runner{runner("h", slots, 0, 0)}
		p.Runners[0].UsedSlots = rapid.IntRange(0, slots).Draw(t, "used slots")
		p.UsedSlots = p.Runners[0].UsedSlots
		for _, project := range []string{"p", "q"} {
			p.Quotas[project] = bfia.ProjectQuota{Jobs: rapid.IntRange(0, 3).Draw(t, "jobs"),
				Containers: rapid.IntRange(1, 8).Draw(t, "containers")}
			p.Held[project] = Held{Jobs: rapid.IntRange(0, 2).Draw(t, "held jobs"),
				Containers: rapid.IntRange(0, 4).Draw(t, "held containers")}
		}
		for i := range rapid.IntRange(1, 8).Draw(t, "requests") {
			age := time.Duration(rapid.IntRange(0, 20).Draw(t, "age")) * time.Minute
			n := rapid.IntRange(1, 5).Draw(t, "size")
			initiator := rapid.SampledFrom([]string{"A", "B"}).Draw(t, "initiator")
			r := request(fmt.Sprint("j", i), initiator, age, 1,
				slices.Repeat([]Slot{slot("guest", 0, 0)}, n)...)
			r.Project = rapid.SampledFrom([]string{"", "p", "q"}).Draw(t, "project")
			p.Waiting = append(p.Waiting, r)
		}
		grantable := p.Grantable(now)
		for i, r := range p.Waiting {
			others := p
			others.Waiting = slices.Delete(slices.Clone(p.Waiting), i, i+1)
			_, denial := others.Decide(r, now)
			require.Equal(t, denial == nil, slices.Contains(grantable, r.JobID), "%s of %+v", r.JobID, p)
		}
	})
}

// TestQueueOfProjects checks that jobs which wait at a party, for the quota of their project there, don't
// keep the jobs of other projects from asking that party.
func TestQueueOfProjects(t *testing.T) {
	rows := queueRows{node: "A"}
	queued := func(id, project string) QueuedJob {
		return QueuedJob{Job: Job{JobID: id, Project: project, Initiator: "A", Created: now},
			Nodes: []string{"A", "B"}}
	}
	for i := range maxWaitingAtParty {
		j := queued(fmt.Sprint("waits", i), "p")
		j.Created = now.Add(-time.Minute)
		j.WaitingAt, j.WaitingFor = "A", "quota"
		rows.waiting = append(rows.waiting, j)
	}
	same, other, none := queued("same", "p"), queued("other", "q"), queued("none", "")
	rows.waiting = append(rows.waiting, same, other, none)
	d := rows.decide(t, now)
	require.False(t, d.Status(same).MayReserve)
	require.Equal(t, "other jobs wait for resources at A", d.Status(same).Reason)
	require.True(t, d.Status(other).MayReserve)
	require.True(t, d.Status(none).MayReserve)
	require.NotEqual(t, same.Line(Limits{}), other.Line(Limits{}))
}

// TestQueueOfPartnersQuota checks that a used up quota at a partner does not keep jobs from asking which may
// be of other projects there: this scheduler does not know them. So many that they cost too much do.
func TestQueueOfPartnersQuota(t *testing.T) {
	rows := queueRows{node: "A"}
	queued := func(id string, created time.Time) QueuedJob {
		return QueuedJob{Job: Job{JobID: id, Initiator: "A", Created: created}, Nodes: []string{"A", "B"}}
	}
	addWaiting := func(from, to int) {
		for i := from; i < to; i++ {
			j := queued(fmt.Sprint("waits", i), now.Add(-time.Minute))
			j.WaitingAt, j.WaitingFor, j.WaitingForQuota = "B", "the quota is used up", true
			rows.waiting = append(rows.waiting, j)
		}
	}
	other := queued("other", now)
	rows.waiting = append(rows.waiting, other)
	addWaiting(0, maxWaitingForQuota-1)
	require.True(t, rows.decide(t, now).Status(other).MayReserve)
	addWaiting(maxWaitingForQuota-1, maxWaitingForQuota)
	status := rows.decide(t, now).Status(other)
	require.False(t, status.MayReserve)
	require.Equal(t, "other jobs wait for resources at B", status.Reason)

	// Those that wait for runners count apart.
	rows.waiting = rows.waiting[:1]
	addWaiting(0, maxWaitingAtParty)
	for i := range rows.waiting[1:] {
		rows.waiting[1+i].WaitingForQuota = false
	}
	require.False(t, rows.decide(t, now).Status(other).MayReserve)
}

// TestDenialOfQuota checks that a denial says whether a quota is its reason.
func TestDenialOfQuota(t *testing.T) {
	one := slot("guest", 1000, 2)
	p := Party{Node: "A", Runners: []Runner{runner("h", 1, 0, 0)},
		Quotas: map[string]bfia.ProjectQuota{"p": {Jobs: 1}}, Held: map[string]Held{"p": {Jobs: 1}}}
	r := request("j", "A", 0, 1, one)
	r.Project = "p"
	_, denial := p.Decide(r, now)
	require.True(t, denial.Quota)
	r.Project = ""
	_, denial = p.Decide(r, now)
	require.Nil(t, denial)
	p.Runners[0].UsedSlots = 1
	_, denial = p.Decide(r, now)
	require.False(t, denial.Quota)
	p.Limits.Tasks, p.UsedSlots, r.Project = 1, 1, "p"
	_, denial = p.Decide(r, now)
	require.False(t, denial.Quota, "the party's limit would stop all others too")
}
