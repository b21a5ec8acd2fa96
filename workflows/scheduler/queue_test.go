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

func hutongs() map[string]bfia.JobAccepted {
	return map[string]bfia.JobAccepted{flowtest.NodeA: {Reservations: true, Callbacks: true}, flowtest.NodeB: {Reservations: true, Callbacks: true}}
}

// A job asks its parties for room, one after the other; when one has none, what others granted goes back, and
// it asks again when it is told, or after a while by itself.
func TestJobApplies(t *testing.T) {
	f := newFakeParties(t, flowtest.Plan(flowtest.TwoNodes, "a"))
	f.accepted = hutongs()
	f.grant = func(node string, round int) bfia.Grant {
		if node == flowtest.NodeB && round < 3 {
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
		"may reserve true", "reserve A 2: true", "reserve B 2: false", "release A", no, "may reserve true", "reserve A 3: true", "reserve B 3: true"}, f.queue)
	assert.GreaterOrEqual(t, f.times["start a A"], 2*time.Second+workflows.FirstPoll)
}

// A job that stands first at a party keeps for a moment what it holds elsewhere: what ends there just now is
// told soon. When nothing is told, or others stand before it, it gives that back.
func TestJobLingers(t *testing.T) {
	asked := []string{"may reserve true", "reserve A 1: true", "reserve B 1: false"}
	for name, c := range map[string]struct {
		denials, place int
		told           []time.Duration
		then           []string
	}{
		"told":         {1, 1, []time.Duration{holdGrace / 2}, []string{"reserve B 1: true"}},
		"told in vain": {2, 1, []time.Duration{holdGrace / 4, holdGrace / 2}, []string{"reserve B 1: false", "reserve B 1: true"}},
		"not told":     {1, 1, nil, []string{"release A", "waits at B: it is full", "may reserve true", "reserve A 2: true", "reserve B 2: true"}},
		"told late":    {1, 1, []time.Duration{2 * holdGrace}, []string{"release A", "waits at B: it is full", "may reserve true", "reserve A 2: true", "reserve B 2: true"}},
		"not first":    {1, 2, nil, []string{"release A", "waits at B: it is full (position 2 of 2 there)", "may reserve true", "reserve A 2: true", "reserve B 2: true"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeParties(t, flowtest.Plan(flowtest.TwoNodes, "a"))
			f.accepted = hutongs()
			f.grant = func(node string, _ int) bfia.Grant {
				if node == flowtest.NodeB && c.denials > 0 {
					c.denials--
					return bfia.Grant{State: bfia.JobReady, Reason: "it is full", Position: c.place, Total: c.place}
				}
				return bfia.Grant{Granted: true, State: bfia.JobReady, Parallelism: 1}
			}
			for _, at := range c.told {
				f.at(at, func() { f.env.SignalWorkflow(workflows.SignalQueueChanged, nil) })
			}
			r, err := f.run()
			require.NoError(t, err)
			assert.Equal(t, workflows.OutcomeSuccess, r.Outcome)
			assert.Equal(t, append(asked, c.then...), f.queue)
		})
	}
}

// A job that is stopped in that moment gives back what it holds with its end.
func TestJobStoppedWhileItLingers(t *testing.T) {
	f := newFakeParties(t, flowtest.Plan(flowtest.TwoNodes, "a"))
	f.accepted = hutongs()
	f.grant = func(node string, _ int) bfia.Grant {
		return bfia.Grant{Granted: node == flowtest.NodeA, State: bfia.JobReady, Reason: "it is full", Position: 1, Total: 1, Parallelism: 1}
	}
	f.at(holdGrace/2, f.stop(""))
	r, err := f.run()
	require.NoError(t, err)
	assert.Equal(t, workflows.OutcomeStopped, r.Outcome)
	assert.Equal(t, []string{"may reserve true", "reserve A 1: true", "reserve B 1: false"}, f.queue)
	assert.Contains(t, f.sent, "stop A")
	assert.NotContains(t, f.sent, "start A")
}

// A step in which a job asked and gave back does not count, and is done anew: a party knows of a later round
// than the job, which goes on from there.
func TestJobGoesOnFromTheRoundOfAParty(t *testing.T) {
	f := newFakeParties(t, flowtest.Plan(flowtest.TwoNodes, "a"))
	f.accepted = hutongs()
	f.grant = func(node string, round int) bfia.Grant {
		if node == flowtest.NodeA && round < 3 {
			return bfia.Grant{State: bfia.JobReady, Generation: 3, Reason: "a later reservation request of the job has been answered"}
		}
		return bfia.Grant{Granted: true, State: bfia.JobReady, Parallelism: 1}
	}
	r, err := f.run()
	require.NoError(t, err)
	assert.Equal(t, workflows.OutcomeSuccess, r.Outcome)
	assert.Equal(t, []string{"may reserve true", "reserve A 1: false", "reserve A 3: true", "reserve B 3: true"}, f.queue)
}

// A party that always knows of a later round does not keep the job in one step for ever.
func TestJobAndAPartyThatCountsOn(t *testing.T) {
	f := newFakeParties(t, flowtest.Plan(flowtest.TwoNodes, "a"))
	f.accepted = hutongs()
	f.grant = func(_ string, round int) bfia.Grant {
		return bfia.Grant{State: bfia.JobReady, Generation: round + 1, Reason: "a later reservation request of the job has been answered"}
	}
	f.at(5*time.Second, f.stop(""))
	r, err := f.run()
	require.NoError(t, err)
	assert.Equal(t, workflows.OutcomeStopped, r.Outcome)
	assert.Equal(t, []string{"may reserve true", "reserve A 1: false", "reserve A 2: false"}, f.queue[:3])
}

// A job that has no turn asks nobody, until it has.
func TestJobWaitsForItsTurn(t *testing.T) {
	f := newFakeParties(t, flowtest.Plan(flowtest.TwoNodes, "a"))
	f.accepted = hutongs()
	turns := []scheduler.QueueState{{Position: 2, Total: 2, Reason: "1 jobs run at A"}, {MayReserve: true, Position: 1, Total: 1}}
	f.turn = func() scheduler.QueueState {
		turn := turns[0]
		turns = turns[1:]
		return turn
	}
	f.at(3*time.Second, func() { f.env.SignalWorkflow(workflows.SignalQueueChanged, nil) })
	_, err := f.run()
	require.NoError(t, err)
	assert.Equal(t, []string{"may reserve false", "may reserve true", "reserve A 1: true", "reserve B 1: true"}, f.queue)
	assert.GreaterOrEqual(t, f.times["start a A"], 3*time.Second)
	assert.Less(t, f.times["start a A"], workflows.FirstPoll, "it was told")
}

// A job that a party denied, and that has lost its turn since, gives back its place there, unless it lost it
// to jobs that only ask: one of a lower priority must not be granted before it what gets free meanwhile.
func TestJobKeepsItsPlace(t *testing.T) {
	for _, c := range []struct {
		soon bool
		then []string
	}{{true, nil}, {false, []string{"release B"}}} {
		f := newFakeParties(t, flowtest.Plan(flowtest.TwoNodes, "a"))
		f.accepted = hutongs()
		f.grant = func(node string, round int) bfia.Grant {
			if node == flowtest.NodeB && round == 1 {
				return bfia.Grant{State: bfia.JobReady, Reason: "it is full", Position: 1, Total: 1}
			}
			return bfia.Grant{Granted: true, State: bfia.JobReady, Parallelism: 1}
		}
		turns := []scheduler.QueueState{{MayReserve: true, Position: 1, Total: 2}, {OnlyCandidatesAhead: c.soon, Position: 1, Total: 2, Reason: "1 jobs run at A"}, {MayReserve: true, Position: 1, Total: 1}}
		f.turn = func() scheduler.QueueState {
			turn := turns[0]
			turns = turns[1:]
			return turn
		}
		f.at(time.Second, func() { f.env.SignalWorkflow(workflows.SignalQueueChanged, nil) })
		r, err := f.run()
		require.NoError(t, err)
		assert.Equal(t, workflows.OutcomeSuccess, r.Outcome)
		want := append([]string{"may reserve true", "reserve A 1: true", "reserve B 1: false", "release A", "waits at B: it is full", "may reserve false"}, c.then...)
		assert.Equal(t, append(want, "may reserve true", "reserve A 2: true", "reserve B 2: true"), f.queue)
		if c.soon {
			assert.Less(t, f.times["start a A"], time.Second+workflows.FirstPoll+time.Second, "it asks again soon")
		}
	}
}

// While a job waits its priority can be changed, and it can be stopped.
func TestJobWaiting(t *testing.T) {
	f := newFakeParties(t, flowtest.Plan(flowtest.TwoNodes, "a"))
	f.accepted = hutongs()
	f.turn = func() scheduler.QueueState { return scheduler.QueueState{Position: 2, Total: 2, Reason: "others"} }
	var answered []error
	f.at(time.Second, func() {
		f.env.UpdateWorkflow(workflows.UpdatePriority, "p", &testsuite.TestUpdateCallback{OnAccept: func() {}, OnReject: func(err error) { f.breaks("%v", err) },
			OnComplete: func(_ any, err error) { answered = append(answered, err) }}, 7)
	})
	f.at(5*time.Second, f.stop(""))
	r, err := f.run()
	require.NoError(t, err)
	assert.Equal(t, workflows.OutcomeStopped, r.Outcome)
	assert.Equal(t, []error{nil}, answered)
	assert.Contains(t, f.queue, "priority 7")
	assert.NotContains(t, f.sent, "start A")
}

// A job that a party has stopped meanwhile is not started, and holds nothing.
func TestJobStoppedAtAParty(t *testing.T) {
	f := newFakeParties(t, flowtest.Plan(flowtest.TwoNodes, "a"))
	f.accepted = hutongs()
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

// No more tasks are in flight at a party than it has granted room for, however wide the DAG is.
func TestJobKeepsToItsRoom(t *testing.T) {
	f := newFakeParties(t, flowtest.Plan(flowtest.TwoNodes, "a", "b", "c", "d", "e"))
	f.accepted = hutongs()
	f.grant = func(node string, _ int) bfia.Grant {
		copies := 3
		if node == flowtest.NodeB {
			copies = 2
		}
		return bfia.Grant{Granted: true, State: bfia.JobReady, Parallelism: copies}
	}
	r, err := f.run()
	require.NoError(t, err)
	assert.Equal(t, workflows.OutcomeSuccess, r.Outcome)
	assert.Equal(t, 2, f.most)
}

// A party that is away keeps neither the job's turn nor what others have granted: the job waits for it, and
// is given up when it has been away for too long.
func TestJobAppliesAtASilentParty(t *testing.T) {
	for _, away := range []time.Duration{3 * time.Minute, time.Hour} {
		f := newFakeParties(t, flowtest.Plan(flowtest.TwoNodes, "a"))
		f.accepted = hutongs()
		f.unreachable = func(node string) bool { return node == flowtest.NodeB && f.env.Now().Sub(f.began) < away }
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
