package scheduler

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"hutong/activities/scheduler"
	"hutong/bfia"
	"hutong/workflows"
	"hutong/workflows/internal/flowtest"
)

// newReservingParties returns parties of Hutong that are asked to reserve as they create a job.
func newReservingParties(t flowtest.T, tasks ...string) *fakeParties {
	f := newFakeParties(t, flowtest.Plan(flowtest.TwoNodes, tasks...))
	f.accepted, f.asks = hutongParties(), true

	return f
}

// TestJobReservesAtCreation checks that a job whose parties all grant a reservation as they create it starts
// without another request, within the parallelism that they granted.
func TestJobReservesAtCreation(t *testing.T) {
	f := newReservingParties(t, "a", "b", "c", "d")
	f.creates = func(node string) *bfia.Grant {
		parallelism := map[string]int{flowtest.NodeA: 3, flowtest.NodeB: 2}[node]
		return &bfia.Grant{Granted: true, State: bfia.JobReady, Parallelism: parallelism}
	}
	r, err := f.run()
	require.NoError(t, err)
	assert.Equal(t, workflows.OutcomeSuccess, r.Outcome)
	assert.Equal(t, []string{"may reserve true"}, f.queue)
	assert.Equal(t, 2, f.most)
}

// TestJobReleasesFromCreation checks that a job which does not get all reservations as it is created, or may
// not use them yet, releases them before it waits. It then reserves as any other job, in a later generation.
func TestJobReleasesFromCreation(t *testing.T) {
	again := []string{"may reserve true", "reserve A 2: true", "reserve B 2: true"}
	for name, c := range map[string]struct {
		change   func(*fakeParties)
		released []string // in any order
		then     []string
	}{
		"an older party": {func(f *fakeParties) {
			f.creates = func(node string) *bfia.Grant {
				if node == flowtest.NodeB {
					return nil
				}
				return &bfia.Grant{Granted: true, State: bfia.JobReady}
			}
		}, []string{"release A"}, again},
		"an approval": {func(f *fakeParties) {
			f.accepted[flowtest.NodeB] = bfia.JobAccepted{State: bfia.JobPending, Reservations: true,
				Callbacks: true}
			f.at(3*time.Second, func() {
				assert.Empty(t, f.granted, "nothing stays reserved while the job waits")
				f.audit(flowtest.NodeB, bfia.JobReady, "")()
			})
		}, []string{"release A"}, again},
		"others before it": {func(f *fakeParties) {
			turns := 0
			f.turn = func() scheduler.QueueState {
				turns++
				return scheduler.QueueState{MayReserve: turns > 1, Reason: "1 jobs run at A"}
			}
			f.at(3*time.Second, func() {
				assert.Empty(t, f.granted, "nothing stays reserved while the job waits")
				f.env.SignalWorkflow(workflows.SignalQueueChanged, nil)
			})
		}, []string{"may reserve false", "release A", "release B"}, again},
		"others before it, and a new history": {func(f *fakeParties) {
			turns := 0
			f.turn = func() scheduler.QueueState {
				turns++
				return scheduler.QueueState{MayReserve: turns > 2, Reason: "1 jobs run at A"}
			}
			f.continues(2 * time.Second)
		}, []string{"may reserve false", "release A", "release B", "may reserve false"}, again},
		"a later generation": {func(f *fakeParties) { // a workflow task was lost before it completed
			later := bfia.Grant{State: bfia.JobReady, Generation: 3, Reason: "a later one was answered"}
			f.creates = denies(flowtest.NodeA, later)
			f.grant = func(node string, generation int) bfia.Grant {
				if node == flowtest.NodeA && generation < 3 {
					return later
				}
				return bfia.Grant{Granted: true, State: bfia.JobReady}
			}
		}, []string{"release A", "release B"}, []string{"may reserve true", "reserve A 2: false",
			"reserve A 3: true", "reserve B 3: true"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newReservingParties(t, "a")
			c.change(f)
			r, err := f.run()
			require.NoError(t, err)
			assert.Equal(t, workflows.OutcomeSuccess, r.Outcome)
			require.GreaterOrEqual(t, len(f.queue), len(c.released))
			assert.ElementsMatch(t, c.released, f.queue[:len(c.released)])
			assert.Equal(t, c.then, f.queue[len(c.released):])
		})
	}
}

// TestJobDeniedAtCreation checks that a job which a party has denied as it was created waits in the queue of
// the first one that did, holds nothing elsewhere, and asks again after a hint.
func TestJobDeniedAtCreation(t *testing.T) {
	full := bfia.Grant{State: bfia.JobReady, Reason: "it is full", Position: 2, Total: 3}
	for name, c := range map[string]struct {
		creates       func(string) *bfia.Grant
		denied, other string
	}{
		"at the first":  {denies(flowtest.NodeA, full), flowtest.NodeA, flowtest.NodeB},
		"at the second": {denies(flowtest.NodeB, full), flowtest.NodeB, flowtest.NodeA},
		"at all":        {func(string) *bfia.Grant { return &full }, flowtest.NodeA, flowtest.NodeB},
	} {
		t.Run(name, func(t *testing.T) {
			f := newReservingParties(t, "a")
			f.creates = c.creates
			f.at(3*time.Second, func() {
				assert.Empty(t, f.granted, "nothing stays reserved while the job waits")
				assert.Equal(t, map[string]bool{c.denied: true}, f.waitsAt)
				f.env.SignalWorkflow(workflows.SignalQueueChanged, nil)
			})
			r, err := f.run()
			require.NoError(t, err)
			assert.Equal(t, workflows.OutcomeSuccess, r.Outcome)
			assert.Equal(t, []string{"may reserve true", "release " + c.other,
				"waits at " + c.denied + ": it is full (position 2 of 3 there)",
				"may reserve true", "reserve A 2: true", "reserve B 2: true"}, f.queue)
			assert.Less(t, f.times["start a A"], workflows.FirstPoll, "it was notified")
		})
	}
}

// TestJobIgnoresUnaskedGrant checks that a party which answers a request that was not sent is asked all the
// same.
func TestJobIgnoresUnaskedGrant(t *testing.T) {
	f := newFakeParties(t, flowtest.Plan(flowtest.TwoNodes, "a"))
	f.accepted = hutongParties()
	for node, accepted := range f.accepted {
		accepted.Grant = &bfia.Grant{Granted: true}
		f.accepted[node] = accepted
	}
	r, err := f.run()
	require.NoError(t, err)
	assert.Equal(t, workflows.OutcomeSuccess, r.Outcome)
	assert.Equal(t, []string{"may reserve true", "reserve A 1: true", "reserve B 1: true"}, f.queue)
}

// denies returns the grants of parties of which one denies.
func denies(at string, denial bfia.Grant) func(string) *bfia.Grant {
	return func(node string) *bfia.Grant {
		if node == at {
			return &denial
		}
		return &bfia.Grant{Granted: true, State: bfia.JobReady}
	}
}

// TestJobEndsAfterCreationGrants checks that a job which ends before it starts leaves no reservation of its
// creation: each party gets the job's end or its undoing.
func TestJobEndsAfterCreationGrants(t *testing.T) {
	t.Run("refused at one", func(t *testing.T) {
		f := newReservingParties(t, "a")
		f.errors["create B"] = flowtest.RefusedBy(bfia.CodeRefused, "no")
		_, err := f.run()
		require.ErrorContains(t, err, "B: no")
		assert.Equal(t, []string{"create A", "undo A"}, f.sent)
		assert.Empty(t, f.queue)
	})
	t.Run("stopped at one", func(t *testing.T) {
		f := newReservingParties(t, "a")
		ended := bfia.Grant{State: bfia.JobFinished, Reason: "the job was stopped here"}
		f.creates = denies(flowtest.NodeB, ended)
		f.grant = func(node string, _ int) bfia.Grant {
			if node == flowtest.NodeB {
				return ended
			}
			return bfia.Grant{Granted: true, State: bfia.JobReady}
		}
		r, err := f.run()
		require.NoError(t, err)
		assert.Equal(t, workflows.OutcomeStopped, r.Outcome)
		assert.Contains(t, r.Reason, flowtest.NodeB)
		assert.Contains(t, f.sent, "stop A")
		assert.NotContains(t, f.sent, "start a A")
	})
	t.Run("stopped as it is created", func(t *testing.T) {
		f := newReservingParties(t, "a")
		f.onSend = func(command string, _ int) {
			if command == "create B" {
				f.stop("")()
			}
		}
		r, err := f.run()
		require.NoError(t, err)
		assert.Equal(t, workflows.OutcomeStopped, r.Outcome)
		assert.ElementsMatch(t, []string{"create A", "create B", "stop A", "stop B"}, f.sent)
		assert.Empty(t, f.queue)
	})
	t.Run("rejected at one", func(t *testing.T) {
		f := newReservingParties(t, "a")
		f.accepted[flowtest.NodeB] = bfia.JobAccepted{State: bfia.JobPending, Reservations: true}
		f.at(3*time.Second, f.audit(flowtest.NodeB, bfia.JobRejected, "no"))
		r, err := f.run()
		require.NoError(t, err)
		assert.Equal(t, workflows.OutcomeRejected, r.Outcome)
		assert.Equal(t, []string{"release A"}, f.queue)
	})
}

// TestJobReleasesAtUnreachableParty checks that a party which does not answer the release of what it has
// reserved with the creation does not keep the job from its place in the queue.
func TestJobReleasesAtUnreachableParty(t *testing.T) {
	f := newReservingParties(t, "a")
	f.creates = func(node string) *bfia.Grant { // B is an older one
		return map[string]*bfia.Grant{flowtest.NodeA: {Granted: true, State: bfia.JobReady}}[node]
	}
	f.errors["release A"] = flowtest.ErrAway
	f.at(time.Minute, func() { delete(f.errors, "release A") })
	r, err := f.run()
	require.NoError(t, err)
	assert.Equal(t, workflows.OutcomeSuccess, r.Outcome)
	assert.Equal(t, []string{"may reserve true", "reserve A 2: true", "reserve B 2: true"}, f.queue)
	assert.GreaterOrEqual(t, f.times["start a A"], reserveLimit)
}

// TestJobReservationProperties checks that a job starts a task at a party only with a reservation there, asks
// the parties in order, and holds nothing of its creation while it waits, whatever the parties and the queue
// answer. See [fakeParties] for the rules.
func TestJobReservationProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := newFakeParties(t, flowtest.DrawPlan(t, randomParts, 1, 6))
		f.asks = rapid.Bool().Draw(t, "asks")
		creations := map[string]*bfia.Grant{}
		for _, node := range f.in.Nodes {
			accepted := bfia.JobAccepted{Callbacks: true, Attempts: true,
				Reservations: rapid.IntRange(0, 4).Draw(t, "makes no reservations") > 0}
			if rapid.IntRange(0, 4).Draw(t, "asks someone") == 0 {
				accepted.State = bfia.JobPending
				f.at(flowtest.DrawSeconds(t, "decides at", 1, 60), f.audit(node, bfia.JobReady, ""))
			}
			f.accepted[node] = accepted
			switch rapid.IntRange(0, 4).Draw(t, "answers the creation") {
			case 0: // an older one
			case 1:
				creations[node] = &bfia.Grant{State: bfia.JobReady, Reason: "it is full"}
			default:
				creations[node] = &bfia.Grant{Granted: true, State: bfia.JobReady,
					Parallelism: rapid.IntRange(0, 2).Draw(t, "parallelism")}
			}
		}
		f.creates = func(node string) *bfia.Grant { return creations[node] }
		waits, denials := rapid.IntRange(0, 2).Draw(t, "waits"), rapid.IntRange(0, 3).Draw(t, "denials")
		f.turn = func() scheduler.QueueState {
			waits--
			return scheduler.QueueState{MayReserve: waits < 0, Reason: "others"}
		}
		f.grant = func(node string, generation int) bfia.Grant {
			for other, held := range f.granted {
				if held < generation {
					f.breaks("%s is asked in generation %d while %s holds one of %d", node, generation, other,
						held)
				}
			}
			if denials > 0 && rapid.Bool().Draw(t, "denies") {
				denials--
				return bfia.Grant{State: bfia.JobReady, Reason: "it is full"}
			}
			return bfia.Grant{Granted: true, State: bfia.JobReady, Parallelism: 1}
		}
		stopped := rapid.IntRange(0, 3).Draw(t, "stopped") == 0
		if stopped {
			f.at(flowtest.DrawSeconds(t, "stopped at", 1, 60), f.stop(""))
		}
		if rapid.Bool().Draw(t, "continues") {
			f.continues(flowtest.DrawSeconds(t, "continues at", 1, 60))
		}
		r, err := f.run()
		require.NoError(t, err)
		if !stopped {
			require.Equal(t, workflows.OutcomeSuccess, r.Outcome)
		}
	})
}
