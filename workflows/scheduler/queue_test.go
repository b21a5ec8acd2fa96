package scheduler

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/testsuite"

	"hutong/activities/scheduler"
	"hutong/bfia"
	"hutong/workflows"
	"hutong/workflows/internal/flowtest"
)

// hutongParties returns the answers of Hutong parties to the creation.
func hutongParties() map[string]bfia.JobAccepted {
	return map[string]bfia.JobAccepted{
		flowtest.NodeA: {Reservations: true, Callbacks: true},
		flowtest.NodeB: {Reservations: true, Callbacks: true},
	}
}

// TestJobReserves checks that a job requests reservations from one party after the other. At a denial it
// releases the others, and requests them again after a hint, or at its next poll.
func TestJobReserves(t *testing.T) {
	f := newFakeParties(t, flowtest.Plan(flowtest.TwoNodes, "a"))
	f.accepted = hutongParties()
	f.grant = func(node string, generation int) bfia.Grant {
		if node == flowtest.NodeB && generation < 3 {
			return bfia.Grant{State: bfia.JobReady, Reason: "it is full", Position: 2, Total: 3}
		}
		return bfia.Grant{Granted: true, State: bfia.JobReady, Parallelism: 1}
	}
	f.at(2*time.Second, func() {
		assert.Equal(t, bfia.JobReady, f.job)
		f.env.SignalWorkflow(workflows.SignalQueueChanged, nil)
	})
	r, err := f.run()
	require.NoError(t, err)
	assert.Equal(t, workflows.OutcomeSuccess, r.Outcome)
	const no = "waits at B: it is full (position 2 of 3 there)"
	assert.Equal(t, []string{"may reserve true", "reserve A 1: true", "reserve B 1: false", "release A", no,
		"may reserve true", "reserve A 2: true", "reserve B 2: false", "release A", no,
		"may reserve true", "reserve A 3: true", "reserve B 3: true"}, f.queue)
	assert.GreaterOrEqual(t, f.times["start a A"], 2*time.Second+workflows.FirstPoll)
}

// TestJobHoldGrace checks that a job at the head of a party's queue keeps its other reservations for the hold
// grace. Without a hint, or with other jobs before it, it releases them.
func TestJobHoldGrace(t *testing.T) {
	asked := []string{"may reserve true", "reserve A 1: true", "reserve B 1: false"}
	for name, c := range map[string]struct {
		denials, position int
		hints             []time.Duration
		then              []string
	}{
		"hint": {1, 1, []time.Duration{holdGrace / 2}, []string{"reserve B 1: true"}},
		"hint in vain": {2, 1, []time.Duration{holdGrace / 4, holdGrace / 2},
			[]string{"reserve B 1: false", "reserve B 1: true"}},
		"no hint": {1, 1, nil, []string{"release A", "waits at B: it is full", "may reserve true",
			"reserve A 2: true", "reserve B 2: true"}},
		"late hint": {1, 1, []time.Duration{2 * holdGrace},
			[]string{"release A", "waits at B: it is full", "may reserve true", "reserve A 2: true",
				"reserve B 2: true"}},
		"not first": {1, 2, nil, []string{"release A", "waits at B: it is full (position 2 of 2 there)",
			"may reserve true", "reserve A 2: true", "reserve B 2: true"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeParties(t, flowtest.Plan(flowtest.TwoNodes, "a"))
			f.accepted = hutongParties()
			f.grant = func(node string, _ int) bfia.Grant {
				if node == flowtest.NodeB && c.denials > 0 {
					c.denials--
					return bfia.Grant{
						State:    bfia.JobReady,
						Reason:   "it is full",
						Position: c.position,
						Total:    c.position,
					}
				}
				return bfia.Grant{Granted: true, State: bfia.JobReady, Parallelism: 1}
			}
			for _, at := range c.hints {
				f.at(at, func() { f.env.SignalWorkflow(workflows.SignalQueueChanged, nil) })
			}
			r, err := f.run()
			require.NoError(t, err)
			assert.Equal(t, workflows.OutcomeSuccess, r.Outcome)
			assert.Equal(t, append(asked, c.then...), f.queue)
		})
	}
}

// TestJobStoppedInHoldGrace checks that a job that is stopped within the hold grace releases its reservations
// with its end.
func TestJobStoppedInHoldGrace(t *testing.T) {
	f := newFakeParties(t, flowtest.Plan(flowtest.TwoNodes, "a"))
	f.accepted = hutongParties()
	f.grant = func(node string, _ int) bfia.Grant {
		return bfia.Grant{
			Granted:     node == flowtest.NodeA,
			State:       bfia.JobReady,
			Reason:      "it is full",
			Position:    1,
			Total:       1,
			Parallelism: 1,
		}
	}
	f.at(holdGrace/2, f.stop(""))
	r, err := f.run()
	require.NoError(t, err)
	assert.Equal(t, workflows.OutcomeStopped, r.Outcome)
	assert.Equal(t, []string{"may reserve true", "reserve A 1: true", "reserve B 1: false"}, f.queue)
	assert.Contains(t, f.sent, "stop A")
	assert.NotContains(t, f.sent, "start A")
}

// TestJobAdoptsLaterGeneration checks that a job adopts the later generation of a party. The workflow task
// that used it was lost before it completed.
func TestJobAdoptsLaterGeneration(t *testing.T) {
	f := newFakeParties(t, flowtest.Plan(flowtest.TwoNodes, "a"))
	f.accepted = hutongParties()
	f.grant = func(node string, generation int) bfia.Grant {
		if node == flowtest.NodeA && generation < 3 {
			return bfia.Grant{
				State:      bfia.JobReady,
				Generation: 3,
				Reason:     "a later reservation request of the job has been answered",
			}
		}
		return bfia.Grant{Granted: true, State: bfia.JobReady, Parallelism: 1}
	}
	r, err := f.run()
	require.NoError(t, err)
	assert.Equal(t, workflows.OutcomeSuccess, r.Outcome)
	assert.Equal(t,
		[]string{"may reserve true", "reserve A 1: false", "reserve A 3: true", "reserve B 3: true"}, f.queue)
}

// TestJobIgnoresEndlessGenerations checks that a party that always reports a later generation does not keep
// the job in a loop.
func TestJobIgnoresEndlessGenerations(t *testing.T) {
	f := newFakeParties(t, flowtest.Plan(flowtest.TwoNodes, "a"))
	f.accepted = hutongParties()
	f.grant = func(_ string, generation int) bfia.Grant {
		return bfia.Grant{
			State:      bfia.JobReady,
			Generation: generation + 1,
			Reason:     "a later reservation request of the job has been answered",
		}
	}
	f.at(5*time.Second, f.stop(""))
	r, err := f.run()
	require.NoError(t, err)
	assert.Equal(t, workflows.OutcomeStopped, r.Outcome)
	assert.Equal(t, []string{"may reserve true", "reserve A 1: false", "reserve A 2: false"}, f.queue[:3])
}

// TestJobQueued checks that a queued job requests no reservation before it may.
func TestJobQueued(t *testing.T) {
	f := newFakeParties(t, flowtest.Plan(flowtest.TwoNodes, "a"))
	f.accepted = hutongParties()
	turns := []scheduler.QueueState{
		{Reason: "1 jobs run at A"},
		{MayReserve: true},
	}
	f.turn = func() scheduler.QueueState {
		turn := turns[0]
		turns = turns[1:]
		return turn
	}
	f.at(3*time.Second, func() { f.env.SignalWorkflow(workflows.SignalQueueChanged, nil) })
	_, err := f.run()
	require.NoError(t, err)
	assert.Equal(t,
		[]string{"may reserve false", "may reserve true", "reserve A 1: true", "reserve B 1: true"}, f.queue)
	assert.GreaterOrEqual(t, f.times["start a A"], 3*time.Second)
	assert.Less(t, f.times["start a A"], workflows.FirstPoll, "it was notified")
}

// TestJobKeepsItsPosition checks that a queued job withdraws the request that a party denied, unless only
// jobs that are reserving just now are before it. Otherwise a job of lower priority could be granted the
// resources that are released meanwhile.
func TestJobKeepsItsPosition(t *testing.T) {
	for _, c := range []struct {
		soon bool
		then []string
	}{{true, nil}, {false, []string{"release B"}}} {
		f := newFakeParties(t, flowtest.Plan(flowtest.TwoNodes, "a"))
		f.accepted = hutongParties()
		f.grant = func(node string, generation int) bfia.Grant {
			if node == flowtest.NodeB && generation == 1 {
				return bfia.Grant{State: bfia.JobReady, Reason: "it is full", Position: 1, Total: 1}
			}
			return bfia.Grant{Granted: true, State: bfia.JobReady, Parallelism: 1}
		}
		turns := []scheduler.QueueState{
			{MayReserve: true},
			{OnlyCandidatesAhead: c.soon, Reason: "1 jobs run at A"},
			{MayReserve: true},
		}
		f.turn = func() scheduler.QueueState {
			turn := turns[0]
			turns = turns[1:]
			return turn
		}
		f.at(time.Second, func() { f.env.SignalWorkflow(workflows.SignalQueueChanged, nil) })
		r, err := f.run()
		require.NoError(t, err)
		assert.Equal(t, workflows.OutcomeSuccess, r.Outcome)
		want := append(
			[]string{"may reserve true", "reserve A 1: true", "reserve B 1: false", "release A",
				"waits at B: it is full", "may reserve false"},
			c.then...)
		assert.Equal(t, append(want, "may reserve true", "reserve A 2: true", "reserve B 2: true"), f.queue)
		if c.soon {
			assert.Less(t, f.times["start a A"], time.Second+workflows.FirstPoll+time.Second,
				"it asks again soon")
		}
	}
}

// TestQueuedJobPriorityAndStop checks that a queued job can be stopped, and its priority changed.
func TestQueuedJobPriorityAndStop(t *testing.T) {
	f := newFakeParties(t, flowtest.Plan(flowtest.TwoNodes, "a"))
	f.accepted = hutongParties()
	f.turn = func() scheduler.QueueState {
		return scheduler.QueueState{Reason: "others"}
	}
	var answered []error
	f.at(time.Second, func() {
		f.env.UpdateWorkflow(
			workflows.UpdatePriority,
			"p",
			&testsuite.TestUpdateCallback{
				OnAccept:   func() {},
				OnReject:   func(err error) { f.breaks("%v", err) },
				OnComplete: func(_ any, err error) { answered = append(answered, err) },
			},
			7,
		)
	})
	f.at(5*time.Second, f.stop(""))
	r, err := f.run()
	require.NoError(t, err)
	assert.Equal(t, workflows.OutcomeStopped, r.Outcome)
	assert.Equal(t, []error{nil}, answered)
	assert.Contains(t, f.queue, "priority 7")
	assert.NotContains(t, f.sent, "start A")
}

// TestJobStoppedAtAParty checks that a job that a party has stopped is not started, and holds no reservation.
func TestJobStoppedAtAParty(t *testing.T) {
	f := newFakeParties(t, flowtest.Plan(flowtest.TwoNodes, "a"))
	f.accepted = hutongParties()
	f.grant = func(node string, _ int) bfia.Grant {
		if node == flowtest.NodeB {
			return bfia.Grant{State: bfia.JobFinished}
		}
		return bfia.Grant{Granted: true, State: bfia.JobReady, Parallelism: 1}
	}
	r, err := f.run()
	require.NoError(t, err)
	assert.Equal(t, workflows.OutcomeStopped, r.Outcome)
	assert.Contains(t, r.Reason, flowtest.NodeB)
	assert.NotContains(t, f.sent, "start a A")
	assert.Contains(t, f.sent, "stop A", "which gives back what A granted")
}

// TestJobParallelism checks that no more tasks run at a party than the parallelism that it granted, however
// wide the DAG is.
func TestJobParallelism(t *testing.T) {
	f := newFakeParties(t, flowtest.Plan(flowtest.TwoNodes, "a", "b", "c", "d", "e"))
	f.accepted = hutongParties()
	f.grant = func(node string, _ int) bfia.Grant {
		parallelism := 3
		if node == flowtest.NodeB {
			parallelism = 2
		}
		return bfia.Grant{Granted: true, State: bfia.JobReady, Parallelism: parallelism}
	}
	r, err := f.run()
	require.NoError(t, err)
	assert.Equal(t, workflows.OutcomeSuccess, r.Outcome)
	assert.Equal(t, 2, f.most)
}

// TestJobReservesAtUnreachableParty checks that a job which waits for an unreachable party holds no
// reservations and does not block the queue. It fails if the party is unreachable for too long.
func TestJobReservesAtUnreachableParty(t *testing.T) {
	for _, away := range []time.Duration{3 * time.Minute, time.Hour} {
		f := newFakeParties(t, flowtest.Plan(flowtest.TwoNodes, "a"))
		f.accepted = hutongParties()
		f.unreachable = func(node string) bool {
			return node == flowtest.NodeB && f.env.Now().Sub(f.began) < away
		}
		r, err := f.run()
		require.NoError(t, err)
		require.Equal(t, []string{"may reserve true", "reserve A 1: true", "release A"}, f.queue[:3])
		assert.Contains(t, f.queue[3], "waits at B: does not answer: ")
		if away < flowtest.Settings.GiveUpAfter {
			assert.Equal(t, workflows.OutcomeSuccess, r.Outcome)
			assert.Less(t, f.times["start a B"], away+reserveLimit+2*workflows.FirstPoll, "it is asked often")
			continue
		}
		assert.Equal(t, workflows.OutcomeFailed, r.Outcome)
		assert.Contains(t, r.Reason, "B: did not answer the reservation request")
	}
}

// TestJobBehindPollsRarely checks that a job behind many others looks at the queue as often as the state of
// the queue says, and at once after a notification.
func TestJobBehindPollsRarely(t *testing.T) {
	f := newFakeParties(t, flowtest.Plan(flowtest.TwoNodes, "a"))
	f.accepted = hutongParties()
	f.turn = func() scheduler.QueueState {
		if f.env.Now().Sub(f.began) > time.Hour {
			return scheduler.QueueState{MayReserve: true}
		}
		return scheduler.QueueState{Reason: "others", Poll: 10 * time.Minute}
	}
	f.at(25*time.Minute, func() {
		assert.Len(t, f.queue, 3)
		f.env.SignalWorkflow(workflows.SignalQueueChanged, nil)
	})
	f.at(26*time.Minute, func() { assert.Len(t, f.queue, 4) })
	r, err := f.run()
	require.NoError(t, err)
	assert.Equal(t, workflows.OutcomeSuccess, r.Outcome)
	assert.Less(t, f.times["start a A"], 71*time.Minute)
}
