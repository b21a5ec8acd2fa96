package api

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/admission"
	"hutong/bfia"
	"hutong/store"
	"hutong/workflows"
)

func TestReserve(t *testing.T) {
	p := newParty(t).withProvider().withData()
	r := p.good(post(bfia.PathCreate, withHost(t, "j1")).from(host))
	require.Contains(t, string(r.Data), `"reservations":true`)
	row, err := p.store.Job(t.Context(), "j1")
	require.NoError(t, err)

	p.engine.grant = bfia.Grant{Reason: "it is full", Position: 1, Total: 2, State: bfia.JobReady}
	ask := bfia.ReserveRequest{JobID: "j1", Priority: 3, Created: row.CreatedAt.Add(-time.Minute),
		Generation: 1}
	r = p.good(post(bfia.PathReserve, ask).from(host))
	require.JSONEq(t, `{"granted":false,"job_status":"READY","reason":"it is full","position":1,"total":2}`,
		string(r.Data))
	require.Equal(t, signal{workflows.ParticipantJobID("j1"), workflows.UpdateReserve, ask},
		p.engine.signals[0])

	for _, claimed := range []time.Time{{}, row.CreatedAt.Add(time.Hour), row.CreatedAt.Add(-time.Hour)} {
		p.engine.signals = nil
		p.good(post(bfia.PathReserve, bfia.ReserveRequest{JobID: "j1", Created: claimed,
			Generation: 2}).from(host))
		require.Equal(t, row.CreatedAt, p.engine.signals[0].Arg.(bfia.ReserveRequest).Created,
			"nobody waits longer than the job is here")
	}
	p.bad(post(bfia.PathReserve, ask).from("stranger"), 200, bfia.CodeNotFound, "stranger")
	p.bad(post(bfia.PathReserve, bfia.ReserveRequest{JobID: "no"}).from(host), 200, bfia.CodeNotFound, "no")
	p.bad(post(bfia.PathReserve, bfia.ReserveRequest{JobID: "j1", Priority: 10}).from(host), 200,
		bfia.CodeBadRequest, "priority: 10 is not between 0 and 9")
	p.engine.signals = nil
	p.good(post(bfia.PathRelease, bfia.ReleaseRequest{JobID: "j1", Generation: 1}).from(host))
	require.Equal(t, []signal{{workflows.ParticipantJobID("j1"), workflows.UpdateRelease,
		bfia.ReleaseRequest{JobID: "j1", Generation: 1}}}, p.engine.signals)
}

// TestReserveAtCreation checks that a reservation request in the query of job/create reaches the job's
// workflow, that its grant is in the answer, also if the request is repeated, and that a job which waits for
// its approval gets none.
func TestReserveAtCreation(t *testing.T) {
	p := newParty(t).withProvider().withData()
	p.engine.grant = bfia.Grant{Granted: true, State: bfia.JobReady, Parallelism: 2}
	created := time.Now().UTC().Add(-time.Second).Truncate(time.Millisecond)
	path := func(jobID string, created time.Time) string {
		return bfia.PathCreate + "?" + bfia.ReserveRequest{JobID: jobID, Generation: 1, Priority: 3,
			Created: created}.Query().Encode()
	}
	grant := `"grant":{"granted":true,"job_status":"READY","parallelism":2}`
	for range 2 {
		r := p.good(post(path("j1", created), withHost(t, "j1")).from(host))
		require.Contains(t, string(r.Data), grant)
		require.Equal(t, &bfia.ReserveRequest{JobID: "j1", Generation: 1, Priority: 3, Created: created},
			p.engine.request.Reserve)
	}

	p.good(post(path("j2", created.Add(-time.Hour)), withHost(t, "j2")).from(host))
	require.WithinDuration(t, time.Now(), p.engine.request.Reserve.Created, time.Minute,
		"nobody waits longer than the job is here")
	r := p.good(post(bfia.PathCreate, withHost(t, "j3")).from(host))
	require.NotContains(t, string(r.Data), "grant")
	require.Nil(t, p.engine.request.Reserve)
	p.bad(post(bfia.PathCreate+"?reserve=x", withHost(t, "j4")).from(host), 200, bfia.CodeBadRequest,
		`reserve: is "x", must be a number`)

	// The scheduler has lost the answer, and the job runs.
	require.NoError(t, p.store.UpdateJob(t.Context(), "j1", bfia.JobRunning, "", time.Now()))
	p.engine.takeSignals()
	r = p.good(post(path("j1", created), withHost(t, "j1")).from(host))
	require.Contains(t, string(r.Data), grant)
	require.Len(t, p.engine.takeSignals(), 1)
	require.NoError(t, p.store.UpdateJob(t.Context(), "j1", bfia.JobFinished, "", time.Now()))
	r = p.good(post(path("j1", created), withHost(t, "j1")).from(host))
	require.NotContains(t, string(r.Data), "grant")

	older := newParty(t).withProvider().withData()
	older.engine.older = true // its workers make no reservation with the creation
	r = older.good(post(path("j1", created), withHost(t, "j1")).from(host))
	require.NotContains(t, string(r.Data), "grant")

	approves := newParty(t, func(c *Config) { c.Approval = true }).withProvider().withData()
	r = approves.good(post(path("j1", created), withHost(t, "j1")).from(host))
	require.Contains(t, string(r.Data), `"job_status":"PENDING"`)
	require.NotContains(t, string(r.Data), "grant")
}

// TestReserveFirst checks that a job asks its parties to reserve as they create it only if no other job waits
// in the queue of its scheduler, or is being created.
func TestReserveFirst(t *testing.T) {
	p := newParty(t).withProvider().withData()
	p.good(post(bfia.PathCreateAll, withHost(t, "j1")).from(guest))
	require.True(t, p.engine.request.AsksToReserve)
	_, _, err := p.store.Dequeue(t.Context(), admission.Scheduler{Node: guest}, "j1", time.Now())
	require.NoError(t, err)
	p.good(post(bfia.PathCreateAll, withHost(t, "j2")).from(guest))
	require.False(t, p.engine.request.AsksToReserve)
	require.NoError(t, p.store.UpdateScheduleJob(t.Context(), "j1", bfia.JobRunning, "", time.Now()))
	p.good(post(bfia.PathCreateAll, withHost(t, "j3")).from(guest))
	require.True(t, p.engine.request.AsksToReserve)

	p.server.creations.Add(1) // another request is under way
	p.good(post(bfia.PathCreateAll, withHost(t, "j4")).from(guest))
	require.False(t, p.engine.request.AsksToReserve)
	p.server.creations.Add(-1)
	p.good(post(bfia.PathCreateAll, withHost(t, "j5")).from(guest))
	require.True(t, p.engine.request.AsksToReserve)
}

// A job that would not fit even on idle runners is rejected at its creation, with the numbers.
func TestInfeasibleJob(t *testing.T) {
	p := newParty(t).withProvider().withData()
	require.NoError(t, p.store.PutRunner(t.Context(),
		store.Runner{RunnerID: "h", NodeID: guest, Devices: []string{"docker"}, TaskQueue: "q", Slots: 4,
			CPUMilli: 8000, Memory: 16 << 30}))
	greedy := edited(t, "j1", map[string]any{"cpu": 64, "memory": -1, "disk": -1}, "config", "job_params",
		"guest", "0", "resources")
	p.bad(
		post(bfia.PathCreate, greedy).from(host),
		200,
		bfia.CodeBadRequest,
		"config.job_params: "+guest+" could never run the job: no runner has the resources for guest.0: runner h has 8 CPU cores (runner.cpu), asked for 64",
	)
	p.good(post(bfia.PathCreate, edited(t, "j2", map[string]any{"cpu": 8, "memory": 0.5, "disk": 10},
		"config", "job_params", "guest", "0", "resources")).from(host))
}

// A job that needs more slots than the party has is rejected with how many it needs, how many there are, and
// the setting. Nothing is said to be in use on an idle runner.
func TestInfeasibleJobForLackOfSlots(t *testing.T) {
	p := newParty(t).withProvider().withData()
	require.NoError(t, p.store.PutRunner(t.Context(),
		store.Runner{RunnerID: "h", NodeID: guest, Devices: []string{"docker"}, TaskQueue: "q", Slots: 1}))
	p.bad(post(bfia.PathCreate, job(t, "j1")).from(host), 200, bfia.CodeBadRequest,
		"config.job_params: "+guest+" could never run the job: a task of the job needs 2 slots here at once "+
			"(for guest.0, host.0), the runners have 1 (runner.slots)")
}

func TestCapacityHint(t *testing.T) {
	p := newParty(t).withProvider().withData()
	p.good(post(bfia.PathCreateAll, withHost(t, "j1")).from(guest))
	p.engine.signals = nil
	p.good(post(bfia.PathCapacityHint, bfia.JobRef{JobID: "j1"}).from(host))
	require.Empty(t, p.engine.signals, "it does not wait yet")
	_, _, err := p.store.Dequeue(t.Context(), admission.Scheduler{Node: guest}, "j1", time.Now())
	require.NoError(t, err)
	p.good(post(bfia.PathCapacityHint, bfia.JobRef{JobID: "j1"}).from(host))
	require.Equal(t, []signal{{workflows.SchedulerJobID("j1"), workflows.SignalQueueChanged, nil}},
		p.engine.signals)
	p.bad(post(bfia.PathCapacityHint, bfia.JobRef{JobID: "j1"}).from("stranger"), 200, bfia.CodeNotFound,
		"stranger")
	p.bad(post(bfia.PathCapacityHint, bfia.JobRef{JobID: "no"}).from(host), 200, bfia.CodeNotFound, "no")
}

// The status shows a queued job's position. Its initiator can change its priority.
func TestPriority(t *testing.T) {
	p := newParty(t, func(c *Config) { c.Limits = admission.Limits{Jobs: 1} }).withProvider().withData()
	for _, id := range []string{"j1", "j2"} {
		p.good(post(bfia.PathCreateAll, edited(t, id, 4, "config", "job_params", "common",
			"priority")).from(guest))
		status, _, err := p.store.Dequeue(t.Context(),
			admission.Scheduler{Node: guest, Limits: admission.Limits{Jobs: 1}}, id, time.Now())
		require.NoError(t, err)
		require.Equal(t, id == "j1", status.MayReserve)
	}
	queued := func(id string) *bfia.Queued {
		var status bfia.JobStatus
		p.good(get(bfia.PathPlatformStatusAll + "?job_id=" + id)).into(&status)
		return status.Queued
	}
	first, second := queued("j1"), queued("j2")
	require.NotNil(t, first)
	require.NotNil(t, second)
	assert.Equal(t, "is asking its parties for resources", first.Reason)
	assert.Equal(t, 4, second.Priority)
	assert.Equal(t, []int{2, 2}, []int{second.Position, second.Total})
	assert.Equal(t, "1 jobs run at "+guest+", which is its limit", second.Reason)

	p.engine.signals = nil
	p.good(post(bfia.PathPlatformPriority, bfia.SetPriority{JobID: "j2", Priority: 9}))
	require.Equal(t, []signal{{workflows.SchedulerJobID("j2"), workflows.UpdatePriority, 9}},
		p.engine.signals)
	p.bad(post(bfia.PathPlatformPriority, bfia.SetPriority{JobID: "j2", Priority: -1}), 400,
		bfia.CodeBadRequest, "priority: -1 is not between 0 and 9")
	p.bad(post(bfia.PathPlatformPriority, bfia.SetPriority{JobID: "no"}), 404, bfia.CodeNotFound, "no")
	p.bad(post(bfia.PathPriority, bfia.SetPriority{JobID: "j2"}).from(host), 200, bfia.CodeNotFound,
		"knows no job j2 in which "+host+" takes part")
	require.NoError(t, p.store.UpdateScheduleJob(t.Context(), "j1", bfia.JobRunning, "", time.Now()))
	p.bad(post(bfia.PathPriority, bfia.SetPriority{JobID: "j1"}).from(guest), 200, bfia.CodeConflict,
		"only a job that has not started can be moved")
	p.bad(post(bfia.PathCreateAll, edited(t, "j3", 10, "config", "job_params", "common",
		"priority")).from(guest), 200, bfia.CodeBadRequest,
		"config.job_params.common.priority: 10 is not between 0 and 9")
}
