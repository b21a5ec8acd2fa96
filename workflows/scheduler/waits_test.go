package scheduler

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/activities/scheduler"
	"hutong/bfia"
	"hutong/workflows"
	"hutong/workflows/internal/flowtest"
)

// TestSchedulerWaits takes a job through everything for which it can wait at its scheduler: approvals, its
// turn in the queue, a party's resources, a party that does not accept a command, a slot of its reservation,
// and the database. Temporal's UI says each with its time; what the status can't derive is recorded. The fake
// checks that nothing of it is left at the job's end.
func TestSchedulerWaits(t *testing.T) {
	f := newFakeParties(t, flowtest.Plan(flowtest.TwoNodes, "a", "b"))
	f.accepted["B"] = bfia.JobAccepted{State: bfia.JobPending, Callbacks: true, Attempts: true,
		Reservations: true}
	f.accepted["A"] = bfia.JobAccepted{Callbacks: true, Attempts: true, Reservations: true}
	f.turn = func() scheduler.QueueState {
		if f.env.Now().Sub(f.began) < 2*time.Minute {
			return scheduler.QueueState{Reason: "1 job runs here"}
		}
		return scheduler.QueueState{MayReserve: true}
	}
	f.grant = func(node string, _ int) bfia.Grant {
		if node == "B" && f.env.Now().Sub(f.began) < 4*time.Minute {
			return bfia.Grant{State: bfia.JobReady, Reason: "no free slot"}
		}
		return bfia.Grant{Granted: true, State: bfia.JobReady, Parallelism: 1}
	}
	for _, task := range []string{"a guest.0", "a host.0", "b guest.0", "b host.0"} {
		f.ends[task] = end{state: bfia.TaskSuccess, after: 10 * time.Minute}
	}

	shown := func(after time.Duration, texts ...string) {
		f.at(after, func() {
			details := flowtest.Details(t, f.env)
			for _, text := range texts {
				assert.Contains(t, details, text, "after %s", after)
			}
			assert.Equal(t, len(texts), strings.Count(details, "(since "), "after %s: %s", after, details)
		})
	}
	shown(30*time.Second, "waits for the approval of B: a person there runs 'hutong job approve")
	f.at(time.Minute, f.audit("B", bfia.JobReady, ""))
	shown(90*time.Second, "waits in the queue: 1 job runs here")
	shown(3*time.Minute+30*time.Second, "in the queue: B: no free slot")
	shown(8*time.Minute, "waits for a slot: the reservation at A runs 1 task of the job at a time")
	f.at(9*time.Minute, func() { f.errors["progress"] = flowtest.ErrDatabase })
	shown(17*time.Minute, "waits for the database: failed to record progress: the database is away")
	f.at(18*time.Minute, func() { delete(f.errors, "progress") })

	r, err := f.run()
	require.NoError(t, err)
	assert.Equal(t, workflows.OutcomeSuccess, r.Outcome)
	kinds := map[bfia.WaitingKind]string{}
	for _, w := range f.waited {
		assert.NotEmpty(t, w.Message)
		assert.False(t, w.Since.IsZero())
		kinds[w.Kind] = w.NodeID
	}
	assert.Equal(t, "B", kinds[bfia.WaitsForApproval])
}

// TestSchedulerWaitsForPartner checks that a command which a party does not accept is a wait, with the party,
// the reason and the time at which the job fails, and that the job ends with that failure.
func TestSchedulerWaitsForPartner(t *testing.T) {
	f := newFakeParties(t, flowtest.Plan(flowtest.TwoNodes, "a"))
	f.accepted["B"] = bfia.JobAccepted{Callbacks: true, Attempts: true, Reservations: true}
	f.accepted["A"] = f.accepted["B"]
	f.onSend = func(command string, _ int) {
		if strings.HasPrefix(command, "start ") && strings.HasSuffix(command, "B") {
			f.errors[command] = flowtest.ErrAway
		}
	}
	r, err := f.run()
	require.NoError(t, err)
	assert.Equal(t, workflows.OutcomeFailed, r.Outcome)
	require.NotEmpty(t, f.waited)
	for _, w := range f.waited {
		assert.Equal(t, bfia.WaitsForPartner, w.Kind)
		assert.Equal(t, "B", w.NodeID)
		assert.Contains(t, w.Message, "away")
		require.NotNil(t, w.Until)
		assert.Equal(t, flowtest.Settings.GiveUpAfter, w.Until.Sub(w.Since).Round(time.Minute))
	}
}
