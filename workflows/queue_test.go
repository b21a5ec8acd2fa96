package workflows

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/testsuite"

	"hutong/activities"
	"hutong/bfia"
)

func hutongs() map[string]bfia.JobAccepted {
	return map[string]bfia.JobAccepted{nodeA: {Reservations: true, Callbacks: true}, nodeB: {Reservations: true, Callbacks: true}}
}

// A job asks its parties for room, one after the other; when one has none, what others granted goes back, and it asks again
// when it is told, or after a while by itself.
func TestJobApplies(t *testing.T) {
	f := newFederation(t, plan(twoNodes, "a"))
	f.accepted = hutongs()
	f.grant = func(node string, round int) bfia.Grant {
		if node == nodeB && round < 3 {
			return bfia.Grant{State: bfia.JobReady, Reason: "it is full", Position: 2, Total: 3}
		}
		return bfia.Grant{Granted: true, State: bfia.JobReady, Parallelism: 1}
	}
	f.at(2*time.Second, func() {
		assert.Equal(t, bfia.JobReady, f.job)
		f.env.SignalWorkflow(SignalQueueChanged, nil)
	})
	r, err := f.run()
	require.NoError(t, err)
	assert.Equal(t, OutcomeSuccess, r.Outcome)
	const no = "waits at B: it is full (place 2 of 3 there)"
	assert.Equal(t, []string{"turn true", "apply A 1: true", "apply B 1: false", "return A", no,
		"turn true", "apply A 2: true", "apply B 2: false", "return A", no, "turn true", "apply A 3: true", "apply B 3: true"}, f.queue)
	assert.GreaterOrEqual(t, f.times["start a A"], 2*time.Second+firstAsk)
}

// A job that stands first at a party keeps for a moment what it holds elsewhere: what ends there just now is told soon. When
// nothing is told, or others stand before it, it gives that back.
func TestJobLingers(t *testing.T) {
	asked := []string{"turn true", "apply A 1: true", "apply B 1: false"}
	for name, c := range map[string]struct {
		denials, place int
		told           []time.Duration
		then           []string
	}{
		"told":         {1, 1, []time.Duration{linger / 2}, []string{"apply B 1: true"}},
		"told in vain": {2, 1, []time.Duration{linger / 4, linger / 2}, []string{"apply B 1: false", "apply B 1: true"}},
		"not told":     {1, 1, nil, []string{"return A", "waits at B: it is full", "turn true", "apply A 2: true", "apply B 2: true"}},
		"told late":    {1, 1, []time.Duration{2 * linger}, []string{"return A", "waits at B: it is full", "turn true", "apply A 2: true", "apply B 2: true"}},
		"not first":    {1, 2, nil, []string{"return A", "waits at B: it is full (place 2 of 2 there)", "turn true", "apply A 2: true", "apply B 2: true"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFederation(t, plan(twoNodes, "a"))
			f.accepted = hutongs()
			f.grant = func(node string, _ int) bfia.Grant {
				if node == nodeB && c.denials > 0 {
					c.denials--
					return bfia.Grant{State: bfia.JobReady, Reason: "it is full", Position: c.place, Total: c.place}
				}
				return bfia.Grant{Granted: true, State: bfia.JobReady, Parallelism: 1}
			}
			for _, at := range c.told {
				f.at(at, func() { f.env.SignalWorkflow(SignalQueueChanged, nil) })
			}
			r, err := f.run()
			require.NoError(t, err)
			assert.Equal(t, OutcomeSuccess, r.Outcome)
			assert.Equal(t, append(asked, c.then...), f.queue)
		})
	}
}

// A job that is stopped in that moment gives back what it holds with its end.
func TestJobStoppedWhileItLingers(t *testing.T) {
	f := newFederation(t, plan(twoNodes, "a"))
	f.accepted = hutongs()
	f.grant = func(node string, _ int) bfia.Grant {
		return bfia.Grant{Granted: node == nodeA, State: bfia.JobReady, Reason: "it is full", Position: 1, Total: 1, Parallelism: 1}
	}
	f.at(linger/2, f.stop(""))
	r, err := f.run()
	require.NoError(t, err)
	assert.Equal(t, OutcomeStopped, r.Outcome)
	assert.Equal(t, []string{"turn true", "apply A 1: true", "apply B 1: false"}, f.queue)
	assert.Contains(t, f.sent, "stop A")
	assert.NotContains(t, f.sent, "start A")
}

// A step in which a job asked and gave back does not count, and is done anew: a party knows of a later round than the job, which
// goes on from there.
func TestJobGoesOnFromTheRoundOfAParty(t *testing.T) {
	f := newFederation(t, plan(twoNodes, "a"))
	f.accepted = hutongs()
	f.grant = func(node string, round int) bfia.Grant {
		if node == nodeA && round < 3 {
			return bfia.Grant{State: bfia.JobReady, Generation: 3, Reason: "a later application of the job has been answered"}
		}
		return bfia.Grant{Granted: true, State: bfia.JobReady, Parallelism: 1}
	}
	r, err := f.run()
	require.NoError(t, err)
	assert.Equal(t, OutcomeSuccess, r.Outcome)
	assert.Equal(t, []string{"turn true", "apply A 1: false", "apply A 3: true", "apply B 3: true"}, f.queue)
}

// A party that always knows of a later round does not keep the job in one step for ever.
func TestJobAndAPartyThatCountsOn(t *testing.T) {
	f := newFederation(t, plan(twoNodes, "a"))
	f.accepted = hutongs()
	f.grant = func(_ string, round int) bfia.Grant {
		return bfia.Grant{State: bfia.JobReady, Generation: round + 1, Reason: "a later application of the job has been answered"}
	}
	f.at(5*time.Second, f.stop(""))
	r, err := f.run()
	require.NoError(t, err)
	assert.Equal(t, OutcomeStopped, r.Outcome)
	assert.Equal(t, []string{"turn true", "apply A 1: false", "apply A 2: false"}, f.queue[:3])
}

// A job that has no turn asks nobody, until it has.
func TestJobWaitsForItsTurn(t *testing.T) {
	f := newFederation(t, plan(twoNodes, "a"))
	f.accepted = hutongs()
	turns := []activities.QueueState{{Place: 2, Of: 2, Reason: "1 jobs run at A"}, {Go: true, Place: 1, Of: 1}}
	f.turn = func() activities.QueueState {
		turn := turns[0]
		turns = turns[1:]
		return turn
	}
	f.at(3*time.Second, func() { f.env.SignalWorkflow(SignalQueueChanged, nil) })
	_, err := f.run()
	require.NoError(t, err)
	assert.Equal(t, []string{"turn false", "turn true", "apply A 1: true", "apply B 1: true"}, f.queue)
	assert.GreaterOrEqual(t, f.times["start a A"], 3*time.Second)
	assert.Less(t, f.times["start a A"], firstAsk, "it was told")
}

// A job that a party denied, and that has lost its turn since, gives back its place there, unless it lost it to jobs that only
// ask: one of a lower priority must not be granted before it what gets free meanwhile.
func TestJobKeepsItsPlace(t *testing.T) {
	for _, c := range []struct {
		soon bool
		then []string
	}{{true, nil}, {false, []string{"return B"}}} {
		f := newFederation(t, plan(twoNodes, "a"))
		f.accepted = hutongs()
		f.grant = func(node string, round int) bfia.Grant {
			if node == nodeB && round == 1 {
				return bfia.Grant{State: bfia.JobReady, Reason: "it is full", Position: 1, Total: 1}
			}
			return bfia.Grant{Granted: true, State: bfia.JobReady, Parallelism: 1}
		}
		turns := []activities.QueueState{{Go: true, Place: 1, Of: 2}, {Soon: c.soon, Place: 1, Of: 2, Reason: "1 jobs run at A"}, {Go: true, Place: 1, Of: 1}}
		f.turn = func() activities.QueueState {
			turn := turns[0]
			turns = turns[1:]
			return turn
		}
		f.at(time.Second, func() { f.env.SignalWorkflow(SignalQueueChanged, nil) })
		r, err := f.run()
		require.NoError(t, err)
		assert.Equal(t, OutcomeSuccess, r.Outcome)
		want := append([]string{"turn true", "apply A 1: true", "apply B 1: false", "return A", "waits at B: it is full", "turn false"}, c.then...)
		assert.Equal(t, append(want, "turn true", "apply A 2: true", "apply B 2: true"), f.queue)
		if c.soon {
			assert.Less(t, f.times["start a A"], time.Second+firstAsk+time.Second, "it asks again soon")
		}
	}
}

// While a job waits its priority can be changed, and it can be stopped.
func TestJobWaiting(t *testing.T) {
	f := newFederation(t, plan(twoNodes, "a"))
	f.accepted = hutongs()
	f.turn = func() activities.QueueState { return activities.QueueState{Place: 2, Of: 2, Reason: "others"} }
	var answered []error
	f.at(time.Second, func() {
		f.env.UpdateWorkflow(UpdatePriority, "p", &testsuite.TestUpdateCallback{OnAccept: func() {}, OnReject: func(err error) { f.breaks("%v", err) },
			OnComplete: func(_ any, err error) { answered = append(answered, err) }}, 7)
	})
	f.at(5*time.Second, f.stop(""))
	r, err := f.run()
	require.NoError(t, err)
	assert.Equal(t, OutcomeStopped, r.Outcome)
	assert.Equal(t, []error{nil}, answered)
	assert.Contains(t, f.queue, "priority 7")
	assert.NotContains(t, f.sent, "start A")
}

// A job that a party has stopped meanwhile is not started, and holds nothing.
func TestJobStoppedAtAParty(t *testing.T) {
	f := newFederation(t, plan(twoNodes, "a"))
	f.accepted = hutongs()
	f.grant = func(node string, _ int) bfia.Grant {
		if node == nodeB {
			return bfia.Grant{State: bfia.JobFinished}
		}
		return bfia.Grant{Granted: true, State: bfia.JobReady, Parallelism: 1}
	}
	r, err := f.run()
	require.NoError(t, err)
	assert.Equal(t, OutcomeStopped, r.Outcome)
	assert.Contains(t, r.Reason, nodeB)
	assert.NotContains(t, f.sent, "start a A")
	assert.Contains(t, f.sent, "stop A", "which gives back what A granted")
}

// No more tasks are in flight at a party than it has granted room for, however wide the DAG is.
func TestJobKeepsToItsRoom(t *testing.T) {
	f := newFederation(t, plan(twoNodes, "a", "b", "c", "d", "e"))
	f.accepted = hutongs()
	f.grant = func(node string, _ int) bfia.Grant {
		copies := 3
		if node == nodeB {
			copies = 2
		}
		return bfia.Grant{Granted: true, State: bfia.JobReady, Parallelism: copies}
	}
	r, err := f.run()
	require.NoError(t, err)
	assert.Equal(t, OutcomeSuccess, r.Outcome)
	assert.Equal(t, 2, f.most)
}

// A participant answers applications from its rows, once each round; what it gave back is gone, and what comes late changes
// nothing.
func TestPartyJobApplies(t *testing.T) {
	c := newCourtyard(t, plan([]bfia.Part{guestA}, "a"))
	grants := []bfia.Grant{{Reason: "it is full"}, {Granted: true, Parallelism: 1}, {Granted: true, Parallelism: 1}}
	c.admits = func() bfia.Grant {
		grant := grants[0]
		grants = grants[1:]
		return grant
	}
	var answers []any
	ask := func(round int) {
		c.env.UpdateWorkflow(UpdateReserve, "", &testsuite.TestUpdateCallback{OnAccept: func() {}, OnReject: func(err error) { c.breaks("%v", err) },
			OnComplete: func(v any, err error) {
				if err != nil {
					v = reasonOf(err)
				}
				answers = append(answers, v)
			}}, bfia.ReserveRequest{JobID: c.in.Plan.JobID, Generation: round})
	}
	giveBack := func(round int) {
		c.env.UpdateWorkflow(UpdateRelease, "", &testsuite.TestUpdateCallback{OnAccept: func() {}, OnReject: func(err error) { c.breaks("%v", err) },
			OnComplete: func(_ any, err error) {
				if err != nil {
					c.breaks("%v", err)
				}
			}}, bfia.ReleaseRequest{JobID: c.in.Plan.JobID, Generation: round})
	}
	c.waiters = []activities.Waiting{{JobID: "other", Scheduler: nodeB}}
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
	assert.Equal(t, OutcomeSuccess, r.Outcome)
	yes := bfia.Grant{Granted: true, Parallelism: 1}
	assert.Equal(t, []any{bfia.Grant{Reason: "it is full"}, yes, bfia.Grant{Granted: true, Parallelism: 100},
		bfia.Grant{State: bfia.JobReady, Generation: 3, Reason: "a later application of the job has been answered"}, yes}, answers)
	assert.Equal(t, []string{"B other", "B other"}, c.hints, "who waits is told, each time")
}

// The return of a round comes twice, while the first has not released anything yet: it waits for that, and so does the next
// application. What that one gets is not released by the one before.
func TestPartyJobReturnsTwice(t *testing.T) {
	c := newCourtyard(t, plan([]bfia.Part{guestA}, "a"))
	c.down = func(name string) bool { // the database is away for some seconds
		return name == activities.ReleaseReservationName && c.env.Now().Sub(c.began) < 8*time.Second
	}
	var order []string
	update := func(name string, arg any, what string) func() {
		return func() {
			c.env.UpdateWorkflow(name, "", &testsuite.TestUpdateCallback{OnAccept: func() {}, OnReject: func(err error) { c.breaks("%v", err) },
				OnComplete: func(_ any, err error) { order = append(order, fmt.Sprintf("%s: %v", what, err)) }}, arg)
		}
	}
	job := c.in.Plan.JobID
	c.at(1*time.Second, update(UpdateReserve, bfia.ReserveRequest{JobID: job, Generation: 1}, "apply 1"))
	c.at(2*time.Second, update(UpdateRelease, bfia.ReleaseRequest{JobID: job, Generation: 1}, "return 1"))
	c.at(4*time.Second, update(UpdateRelease, bfia.ReleaseRequest{JobID: job, Generation: 1}, "return 1 again"))
	c.at(5*time.Second, update(UpdateReserve, bfia.ReserveRequest{JobID: job, Generation: 2}, "apply 2"))
	c.at(50*time.Second, func() { assert.True(t, c.seated, "the job was told that it has room") })
	c.at(60*time.Second, func() { c.stop("") })
	_, err := c.play()
	require.NoError(t, err)
	assert.Equal(t, []string{"apply 1: <nil>", "return 1: <nil>"}, order[:2])
	assert.ElementsMatch(t, []string{"return 1 again: <nil>", "apply 2: <nil>"}, order[2:])
}

// A scheduler that does not answer is not told twice at a time that a job may find room, and is told once more afterwards.
func TestPartyJobTellsOneAtATime(t *testing.T) {
	c := newCourtyard(t, plan([]bfia.Part{guestA}, "a"))
	c.admits = func() bfia.Grant { return bfia.Grant{Reason: "it is full"} }
	c.down = func(name string) bool {
		return name == activities.SendCapacityHintName && c.env.Now().Sub(c.began) < 6*time.Second
	}
	c.at(time.Second, func() {
		c.env.UpdateWorkflow(UpdateReserve, "", &testsuite.TestUpdateCallback{OnAccept: func() {}, OnReject: func(err error) { c.breaks("%v", err) },
			OnComplete: func(any, error) {}}, bfia.ReserveRequest{JobID: c.in.Plan.JobID, Generation: 1})
	})
	for range 3 {
		c.at(2*time.Second, func() { c.env.SignalWorkflow(SignalCapacityHint, nil) })
	}
	c.at(30*time.Second, func() { c.stop("") })
	_, err := c.play()
	require.NoError(t, err)
	told := nodeB + " " + c.in.Plan.JobID
	assert.Equal(t, []string{told, told}, c.hints)
}

// A job whose scheduler asks for no room gets it when it starts; its tasks wait for it.
func TestPartyJobAdmitsItself(t *testing.T) {
	c := newCourtyard(t, plan([]bfia.Part{guestA}, "a", "b"))
	full := 2
	c.admits = func() bfia.Grant {
		if full--; full >= 0 {
			return bfia.Grant{Reason: "it is full"}
		}
		return bfia.Grant{Granted: true, Parallelism: 1}
	}
	c.at(time.Second, func() { c.start("a", "b") })
	c.at(3*time.Second, func() { assert.Empty(t, c.tried); c.env.SignalWorkflow(SignalCapacityHint, nil) })
	c.at(time.Minute, func() { c.stop("") })
	r, err := c.play()
	require.NoError(t, err)
	assert.Equal(t, OutcomeSuccess, r.Outcome)
	assert.GreaterOrEqual(t, c.times["run a guest.0"], 3*time.Second+firstAsk)
	assert.GreaterOrEqual(t, c.times["run b guest.0"], c.times["exit a guest.0"], "there is room for one at a time")
	assert.Equal(t, map[string]int{"a": 0, "b": 0}, c.copies)
}

// A job that is stopped while its tasks wait for room ends, and holds none.
func TestPartyJobStoppedWithoutRoom(t *testing.T) {
	c := newCourtyard(t, plan([]bfia.Part{guestA}, "a"))
	c.admits = func() bfia.Grant { return bfia.Grant{Reason: "it is full"} }
	c.at(time.Second, func() { c.start("a") })
	c.at(5*time.Second, func() { c.stop("") })
	r, err := c.play()
	require.NoError(t, err)
	assert.Equal(t, OutcomeStopped, r.Outcome)
	assert.Empty(t, c.tried)
}

// A job that waits for room here hears of a host that comes, and passes that on to its scheduler.
func TestPartyJobHearsOfRoom(t *testing.T) {
	c := newCourtyard(t, plan([]bfia.Part{guestA}, "a"))
	c.admits = func() bfia.Grant { return bfia.Grant{Reason: "it is full"} }
	c.at(time.Second, func() { c.env.SignalWorkflow(SignalCapacityHint, nil) }) // it has not asked
	c.at(2*time.Second, func() {
		assert.Empty(t, c.hints)
		c.env.UpdateWorkflow(UpdateReserve, "", &testsuite.TestUpdateCallback{OnAccept: func() {}, OnReject: func(err error) { c.breaks("%v", err) },
			OnComplete: func(any, error) {}}, bfia.ReserveRequest{JobID: c.in.Plan.JobID, Generation: 1})
	})
	c.at(3*time.Second, func() { c.env.SignalWorkflow(SignalCapacityHint, nil) })
	c.at(5*time.Second, func() { c.stop("") })
	_, err := c.play()
	require.NoError(t, err)
	assert.Equal(t, []string{nodeB + " " + c.in.Plan.JobID}, c.hints)
}

// A party that is away keeps neither the job's turn nor what others have granted: the job waits for it, and is given up when
// it has been away for too long.
func TestJobAppliesAtASilentParty(t *testing.T) {
	for _, away := range []time.Duration{3 * time.Minute, time.Hour} {
		f := newFederation(t, plan(twoNodes, "a"))
		f.accepted = hutongs()
		f.unreachable = func(node string) bool { return node == nodeB && f.env.Now().Sub(f.began) < away }
		r, err := f.run()
		require.NoError(t, err)
		require.Equal(t, []string{"turn true", "apply A 1: true", "return A"}, f.queue[:3])
		assert.Contains(t, f.queue[3], "waits at B: does not answer: ")
		if away < settings.GiveUpAfter {
			assert.Equal(t, OutcomeSuccess, r.Outcome)
			assert.Less(t, f.times["start a B"], away+applyLimit+2*firstAsk, "it is asked often")
			continue
		}
		assert.Equal(t, OutcomeFailed, r.Outcome)
		assert.Contains(t, r.Reason, "B: did not answer the application for room")
	}
}
