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

// A participant answers applications from its rows, once each round; what it gave back is gone, and what
// comes late changes nothing.
func TestPartyJobApplies(t *testing.T) {
	c := newFakeBackend(t, flowtest.Plan([]bfia.Part{flowtest.GuestA}, "a"))
	grants := []bfia.Grant{{Reason: "it is full"}, {Granted: true, Parallelism: 1}, {Granted: true, Parallelism: 1}}
	c.admits = func() bfia.Grant {
		grant := grants[0]
		grants = grants[1:]
		return grant
	}
	var answers []any
	ask := func(round int) {
		c.env.UpdateWorkflow(workflows.UpdateReserve, "", &testsuite.TestUpdateCallback{OnAccept: func() {}, OnReject: func(err error) { c.breaks("%v", err) },
			OnComplete: func(v any, err error) {
				if err != nil {
					v = workflows.Reason(err)
				}
				answers = append(answers, v)
			}}, bfia.ReserveRequest{JobID: c.in.Plan.JobID, Generation: round})
	}
	giveBack := func(round int) {
		c.env.UpdateWorkflow(workflows.UpdateRelease, "", &testsuite.TestUpdateCallback{OnAccept: func() {}, OnReject: func(err error) { c.breaks("%v", err) },
			OnComplete: func(_ any, err error) {
				if err != nil {
					c.breaks("%v", err)
				}
			}}, bfia.ReleaseRequest{JobID: c.in.Plan.JobID, Generation: round})
	}
	c.waiters = []participant.Waiting{{JobID: "other", Scheduler: flowtest.NodeB}}
	c.at(1*time.Second, func() { ask(1) })
	c.at(2*time.Second, func() { ask(2) })
	c.at(3*time.Second, func() { ask(2) })      // the same again
	c.at(4*time.Second, func() { giveBack(1) }) // late
	c.at(5*time.Second, func() { assert.True(t, c.seated); giveBack(2) })
	c.at(6*time.Second, func() { assert.False(t, c.seated); ask(2) }) // late
	c.at(7*time.Second, func() { ask(4) })
	c.at(8*time.Second, func() { c.start("a") })
	c.at(9*time.Second, func() { giveBack(4) }) // of a job that has started: it keeps its room
	c.at(20*time.Second, func() { c.stop("") })
	r, err := c.play()
	require.NoError(t, err)
	assert.Equal(t, workflows.OutcomeSuccess, r.Outcome)
	yes := bfia.Grant{Granted: true, Parallelism: 1}
	assert.Equal(t, []any{bfia.Grant{Reason: "it is full"}, yes, bfia.Grant{Granted: true, Parallelism: 100},
		bfia.Grant{State: bfia.JobReady, Generation: 3, Reason: "a later reservation request of the job has been answered"}, yes}, answers)
	assert.Equal(t, []string{"B other", "B other"}, c.hints, "who waits is told, each time")
}

// The return of a round comes twice, while the first has not released anything yet: it waits for that, and so
// does the next application. What that one gets is not released by the one before.
func TestPartyJobReturnsTwice(t *testing.T) {
	c := newFakeBackend(t, flowtest.Plan([]bfia.Part{flowtest.GuestA}, "a"))
	c.down = func(name string) bool { // the database is away for some seconds
		return name == "ReleaseReservation" && c.env.Now().Sub(c.began) < 8*time.Second
	}
	var order []string
	update := func(name string, arg any, what string) func() {
		return func() {
			c.env.UpdateWorkflow(name, "", &testsuite.TestUpdateCallback{OnAccept: func() {}, OnReject: func(err error) { c.breaks("%v", err) },
				OnComplete: func(_ any, err error) { order = append(order, fmt.Sprintf("%s: %v", what, err)) }}, arg)
		}
	}
	job := c.in.Plan.JobID
	c.at(1*time.Second, update(workflows.UpdateReserve, bfia.ReserveRequest{JobID: job, Generation: 1}, "apply 1"))
	c.at(2*time.Second, update(workflows.UpdateRelease, bfia.ReleaseRequest{JobID: job, Generation: 1}, "return 1"))
	c.at(4*time.Second, update(workflows.UpdateRelease, bfia.ReleaseRequest{JobID: job, Generation: 1}, "return 1 again"))
	c.at(5*time.Second, update(workflows.UpdateReserve, bfia.ReserveRequest{JobID: job, Generation: 2}, "apply 2"))
	c.at(50*time.Second, func() { assert.True(t, c.seated, "the job was told that it has room") })
	c.at(60*time.Second, func() { c.stop("") })
	_, err := c.play()
	require.NoError(t, err)
	assert.Equal(t, []string{"apply 1: <nil>", "return 1: <nil>"}, order[:2])
	assert.ElementsMatch(t, []string{"return 1 again: <nil>", "apply 2: <nil>"}, order[2:])
}

// A scheduler that does not answer is not told twice at a time that a job may find room, and is told once
// more afterwards.
func TestPartyJobTellsOneAtATime(t *testing.T) {
	c := newFakeBackend(t, flowtest.Plan([]bfia.Part{flowtest.GuestA}, "a"))
	c.admits = func() bfia.Grant { return bfia.Grant{Reason: "it is full"} }
	c.down = func(name string) bool {
		return name == "SendCapacityHint" && c.env.Now().Sub(c.began) < 6*time.Second
	}
	c.at(time.Second, func() {
		c.env.UpdateWorkflow(workflows.UpdateReserve, "", &testsuite.TestUpdateCallback{OnAccept: func() {}, OnReject: func(err error) { c.breaks("%v", err) },
			OnComplete: func(any, error) {}}, bfia.ReserveRequest{JobID: c.in.Plan.JobID, Generation: 1})
	})
	for range 3 {
		c.at(2*time.Second, func() { c.env.SignalWorkflow(workflows.SignalCapacityHint, nil) })
	}
	c.at(30*time.Second, func() { c.stop("") })
	_, err := c.play()
	require.NoError(t, err)
	told := flowtest.NodeB + " " + c.in.Plan.JobID
	assert.Equal(t, []string{told, told}, c.hints)
}

// A job whose scheduler asks for no room gets it when it starts; its tasks wait for it.
func TestPartyJobAdmitsItself(t *testing.T) {
	c := newFakeBackend(t, flowtest.Plan([]bfia.Part{flowtest.GuestA}, "a", "b"))
	full := 2
	c.admits = func() bfia.Grant {
		if full--; full >= 0 {
			return bfia.Grant{Reason: "it is full"}
		}
		return bfia.Grant{Granted: true, Parallelism: 1}
	}
	c.at(time.Second, func() { c.start("a", "b") })
	c.at(3*time.Second, func() { assert.Empty(t, c.tried); c.env.SignalWorkflow(workflows.SignalCapacityHint, nil) })
	c.at(time.Minute, func() { c.stop("") })
	r, err := c.play()
	require.NoError(t, err)
	assert.Equal(t, workflows.OutcomeSuccess, r.Outcome)
	assert.GreaterOrEqual(t, c.times["run a guest.0"], 3*time.Second+workflows.FirstPoll)
	assert.GreaterOrEqual(t, c.times["run b guest.0"], c.times["exit a guest.0"], "there is room for one at a time")
	assert.Equal(t, map[string]int{"a": 0, "b": 0}, c.copies)
}

// A job that is stopped while its tasks wait for room ends, and holds none.
func TestPartyJobStoppedWithoutRoom(t *testing.T) {
	c := newFakeBackend(t, flowtest.Plan([]bfia.Part{flowtest.GuestA}, "a"))
	c.admits = func() bfia.Grant { return bfia.Grant{Reason: "it is full"} }
	c.at(time.Second, func() { c.start("a") })
	c.at(5*time.Second, func() { c.stop("") })
	r, err := c.play()
	require.NoError(t, err)
	assert.Equal(t, workflows.OutcomeStopped, r.Outcome)
	assert.Empty(t, c.tried)
}

// A job that waits for room here hears of a host that comes, and passes that on to its scheduler.
func TestPartyJobHearsOfRoom(t *testing.T) {
	c := newFakeBackend(t, flowtest.Plan([]bfia.Part{flowtest.GuestA}, "a"))
	c.admits = func() bfia.Grant { return bfia.Grant{Reason: "it is full"} }
	c.at(time.Second, func() { c.env.SignalWorkflow(workflows.SignalCapacityHint, nil) }) // it has not asked
	c.at(2*time.Second, func() {
		assert.Empty(t, c.hints)
		c.env.UpdateWorkflow(workflows.UpdateReserve, "", &testsuite.TestUpdateCallback{OnAccept: func() {}, OnReject: func(err error) { c.breaks("%v", err) },
			OnComplete: func(any, error) {}}, bfia.ReserveRequest{JobID: c.in.Plan.JobID, Generation: 1})
	})
	c.at(3*time.Second, func() { c.env.SignalWorkflow(workflows.SignalCapacityHint, nil) })
	c.at(5*time.Second, func() { c.stop("") })
	_, err := c.play()
	require.NoError(t, err)
	assert.Equal(t, []string{flowtest.NodeB + " " + c.in.Plan.JobID}, c.hints)
}
