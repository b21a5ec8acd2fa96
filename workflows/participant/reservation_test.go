package participant

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/testsuite"

	"hutong/activities/participant"
	"hutong/bfia"
	"hutong/workflows"
	"hutong/workflows/internal/flowtest"
)

// TestParticipantReserves checks that a participant answers reservation requests from its rows, once for each
// generation. A late request or release has no effect.
func TestParticipantReserves(t *testing.T) {
	c := newFakeBackend(t, flowtest.Plan([]bfia.Part{flowtest.GuestA}, "a"))
	grants := []bfia.Grant{
		{Reason: "it is full"},
		{Granted: true, Parallelism: 1},
		{Granted: true, Parallelism: 1},
	}
	c.admits = func() bfia.Grant {
		grant := grants[0]
		grants = grants[1:]
		return grant
	}
	var answers []any
	reserve := func(generation int) {
		c.env.UpdateWorkflow(
			workflows.UpdateReserve,
			"",
			&testsuite.TestUpdateCallback{
				OnAccept: func() {},
				OnReject: func(err error) { c.breaks("%v", err) },
				OnComplete: func(v any, err error) {
					if err != nil {
						v = workflows.Reason(err)
					}
					answers = append(answers, v)
				},
			},
			bfia.ReserveRequest{JobID: c.in.Plan.JobID, Generation: generation},
		)
	}
	release := func(generation int) {
		c.env.UpdateWorkflow(
			workflows.UpdateRelease,
			"",
			&testsuite.TestUpdateCallback{
				OnAccept: func() {},
				OnReject: func(err error) { c.breaks("%v", err) },
				OnComplete: func(_ any, err error) {
					if err != nil {
						c.breaks("%v", err)
					}
				},
			},
			bfia.ReleaseRequest{JobID: c.in.Plan.JobID, Generation: generation},
		)
	}
	c.waiters = []participant.Waiting{{JobID: "other", Scheduler: flowtest.NodeB}}
	c.at(1*time.Second, func() { reserve(1) })
	c.at(2*time.Second, func() { reserve(2) })
	c.at(3*time.Second, func() { reserve(2) }) // repeated
	c.at(4*time.Second, func() { release(1) }) // late
	c.at(5*time.Second, func() { assert.True(t, c.reserved); release(2) })
	c.at(6*time.Second, func() { assert.False(t, c.reserved); reserve(2) }) // late
	c.at(7*time.Second, func() { reserve(4) })
	c.at(8*time.Second, func() { c.start("a") })
	c.at(9*time.Second, func() { release(4) }) // of a job that has started, and keeps its reservation
	c.at(20*time.Second, func() { c.stop("") })
	r, err := c.play()
	require.NoError(t, err)
	assert.Equal(t, workflows.OutcomeSuccess, r.Outcome)
	yes := bfia.Grant{Granted: true, Parallelism: 1}
	assert.Equal(t, []any{bfia.Grant{Reason: "it is full"}, yes, bfia.Grant{Granted: true, Parallelism: 100},
		bfia.Grant{
			State:      bfia.JobReady,
			Generation: 3,
			Reason:     "a later reservation request of the job has been answered",
		}, yes}, answers)
	assert.Equal(t, []string{"B other", "B other"}, c.hints, "waiting jobs get a hint each time")
}

// TestParticipantReleasesTwice checks that a repeated release, and the next request, wait until the first
// release is done. It does not release what the next request was granted.
func TestParticipantReleasesTwice(t *testing.T) {
	c := newFakeBackend(t, flowtest.Plan([]bfia.Part{flowtest.GuestA}, "a"))
	c.down = func(name string) bool { // the database is away for some seconds
		return name == "ReleaseReservation" && c.env.Now().Sub(c.began) < 8*time.Second
	}
	var order []string
	update := func(name string, arg any, what string) func() {
		return func() {
			c.env.UpdateWorkflow(
				name,
				"",
				&testsuite.TestUpdateCallback{
					OnAccept: func() {},
					OnReject: func(err error) { c.breaks("%v", err) },
					OnComplete: func(_ any, err error) {
						order = append(order,
							fmt.Sprintf("%s: %v", what, err))
					},
				},
				arg,
			)
		}
	}
	job := c.in.Plan.JobID
	c.at(1*time.Second,
		update(workflows.UpdateReserve, bfia.ReserveRequest{JobID: job, Generation: 1}, "apply 1"))
	c.at(2*time.Second,
		update(workflows.UpdateRelease, bfia.ReleaseRequest{JobID: job, Generation: 1}, "return 1"))
	c.at(4*time.Second,
		update(workflows.UpdateRelease, bfia.ReleaseRequest{JobID: job, Generation: 1}, "return 1 again"))
	c.at(5*time.Second,
		update(workflows.UpdateReserve, bfia.ReserveRequest{JobID: job, Generation: 2}, "apply 2"))
	c.at(50*time.Second, func() { assert.True(t, c.reserved, "the job has its reservation") })
	c.at(60*time.Second, func() { c.stop("") })
	_, err := c.play()
	require.NoError(t, err)
	assert.Equal(t, []string{"apply 1: <nil>", "return 1: <nil>"}, order[:2])
	assert.ElementsMatch(t, []string{"return 1 again: <nil>", "apply 2: <nil>"}, order[2:])
}

// TestParticipantSendsOneHintAtATime checks that a scheduler which does not answer gets one capacity hint for
// a job at a time, and one more afterwards.
func TestParticipantSendsOneHintAtATime(t *testing.T) {
	c := newFakeBackend(t, flowtest.Plan([]bfia.Part{flowtest.GuestA}, "a"))
	c.admits = func() bfia.Grant { return bfia.Grant{Reason: "it is full"} }
	c.down = func(name string) bool {
		return name == "SendCapacityHint" && c.env.Now().Sub(c.began) < 6*time.Second
	}
	c.at(time.Second, func() {
		c.env.UpdateWorkflow(
			workflows.UpdateReserve,
			"",
			&testsuite.TestUpdateCallback{
				OnAccept:   func() {},
				OnReject:   func(err error) { c.breaks("%v", err) },
				OnComplete: func(any, error) {},
			},
			bfia.ReserveRequest{JobID: c.in.Plan.JobID, Generation: 1},
		)
	})
	for range 3 {
		c.at(2*time.Second, func() { c.env.SignalWorkflow(workflows.SignalCapacityHint, nil) })
	}
	c.at(30*time.Second, func() { c.stop("") })
	_, err := c.play()
	require.NoError(t, err)
	hint := flowtest.NodeB + " " + c.in.Plan.JobID
	assert.Equal(t, []string{hint, hint}, c.hints)
}

// TestParticipantReservesUnasked checks that a job whose scheduler requests no reservation gets one when it
// starts. Its tasks wait for it.
func TestParticipantReservesUnasked(t *testing.T) {
	c := newFakeBackend(t, flowtest.Plan([]bfia.Part{flowtest.GuestA}, "a", "b"))
	full := 2
	c.admits = func() bfia.Grant {
		if full--; full >= 0 {
			return bfia.Grant{Reason: "it is full"}
		}
		return bfia.Grant{Granted: true, Parallelism: 1}
	}
	c.at(time.Second, func() { c.start("a", "b") })
	c.at(3*time.Second,
		func() { assert.Empty(t, c.tried); c.env.SignalWorkflow(workflows.SignalCapacityHint, nil) })
	c.at(time.Minute, func() { c.stop("") })
	r, err := c.play()
	require.NoError(t, err)
	assert.Equal(t, workflows.OutcomeSuccess, r.Outcome)
	assert.GreaterOrEqual(t, c.times["run a guest.0"], 3*time.Second+workflows.FirstPoll)
	assert.GreaterOrEqual(t, c.times["run b guest.0"], c.times["exit a guest.0"], "its parallelism is one")
	assert.Equal(t, map[string]int{"a": 0, "b": 0}, c.parallelIndex)
}

// TestParticipantStoppedWithoutReservation checks that a job that is stopped while its tasks wait for a
// reservation ends, and holds none.
func TestParticipantStoppedWithoutReservation(t *testing.T) {
	c := newFakeBackend(t, flowtest.Plan([]bfia.Part{flowtest.GuestA}, "a"))
	c.admits = func() bfia.Grant { return bfia.Grant{Reason: "it is full"} }
	c.at(time.Second, func() { c.start("a") })
	c.at(5*time.Second, func() { c.stop("") })
	r, err := c.play()
	require.NoError(t, err)
	assert.Equal(t, workflows.OutcomeStopped, r.Outcome)
	assert.Empty(t, c.tried)
}

// TestParticipantForwardsHint checks that a queued job passes a capacity hint of its party on to its
// scheduler.
func TestParticipantForwardsHint(t *testing.T) {
	c := newFakeBackend(t, flowtest.Plan([]bfia.Part{flowtest.GuestA}, "a"))
	c.admits = func() bfia.Grant { return bfia.Grant{Reason: "it is full"} }
	c.at(time.Second,
		func() { c.env.SignalWorkflow(workflows.SignalCapacityHint, nil) }) // before its request
	c.at(2*time.Second, func() {
		assert.Empty(t, c.hints)
		c.env.UpdateWorkflow(
			workflows.UpdateReserve,
			"",
			&testsuite.TestUpdateCallback{
				OnAccept:   func() {},
				OnReject:   func(err error) { c.breaks("%v", err) },
				OnComplete: func(any, error) {},
			},
			bfia.ReserveRequest{JobID: c.in.Plan.JobID, Generation: 1},
		)
	})
	c.at(3*time.Second, func() { c.env.SignalWorkflow(workflows.SignalCapacityHint, nil) })
	c.at(5*time.Second, func() { c.stop("") })
	_, err := c.play()
	require.NoError(t, err)
	assert.Equal(t, []string{flowtest.NodeB + " " + c.in.Plan.JobID}, c.hints)
}
