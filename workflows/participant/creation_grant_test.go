package participant

import (
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

// newReservingBackend returns a party that is asked to reserve as it creates a job.
func newReservingBackend(t *testing.T) *fakeBackend {
	c := newFakeBackend(t, flowtest.Plan([]bfia.Part{flowtest.GuestA}, "a"))
	c.reserve = &bfia.ReserveRequest{JobID: c.in.Plan.JobID, Generation: 1}

	return c
}

// update calls an update of the job, which must be accepted.
func (c *fakeBackend) update(name, id string, arg any, answer func(v any)) {
	c.env.UpdateWorkflow(name, id, &testsuite.TestUpdateCallback{
		OnAccept: func() {}, OnReject: func(err error) { c.breaks("%s was rejected: %v", name, err) },
		OnComplete: func(v any, err error) {
			if err != nil {
				c.breaks("%s: %v", name, err)
			}
			answer(v)
		},
	}, arg)
}

// TestParticipantReservesAtCreation checks that the answer to the creation has the grant, and that the same
// creation again has it too: the job reserves once. After a release, or a later request, the creation has no
// effect on the reservation.
func TestParticipantReservesAtCreation(t *testing.T) {
	c := newReservingBackend(t)
	granted := bfia.Grant{Granted: true, Parallelism: 100}
	later := bfia.Grant{State: bfia.JobReady, Generation: 2,
		Reason: "a later reservation request of the job has been answered"}
	c.at(1*time.Second, func() { assert.True(t, c.reserved); c.callCreate("again") })
	c.at(2*time.Second, func() {
		c.update(workflows.UpdateRelease, "1", bfia.ReleaseRequest{JobID: c.in.Plan.JobID, Generation: 1},
			func(any) {})
	})
	c.at(3*time.Second, func() { assert.False(t, c.reserved); c.callCreate("after the release") })
	c.at(4*time.Second, func() {
		assert.False(t, c.reserved)
		c.update(workflows.UpdateReserve, "2", bfia.ReserveRequest{JobID: c.in.Plan.JobID, Generation: 2},
			func(v any) { assert.Equal(t, granted, v) })
	})
	c.at(5*time.Second, func() { c.callCreate("after the next request") })
	c.at(6*time.Second, func() { assert.True(t, c.reserved); c.start("a") })
	c.at(20*time.Second, func() { c.stop("") })
	r, err := c.play()
	require.NoError(t, err)
	assert.Equal(t, workflows.OutcomeSuccess, r.Outcome)
	assert.Equal(t, []*bfia.Grant{&granted, &granted, &later, &later}, c.grants)
}

// TestParticipantDeniesAtCreation checks that a job whose reservation was denied as it was created is created
// all the same. The next request may be granted.
func TestParticipantDeniesAtCreation(t *testing.T) {
	c := newReservingBackend(t)
	grants := []bfia.Grant{{Reason: "it is full", Position: 1, Total: 1}, {Granted: true, Parallelism: 1}}
	c.admits = func() bfia.Grant {
		grant := grants[0]
		grants = grants[1:]
		return grant
	}
	c.at(time.Second, func() {
		assert.Equal(t, []*bfia.Grant{{Reason: "it is full", Position: 1, Total: 1}}, c.grants)
		c.update(workflows.UpdateReserve, "2", bfia.ReserveRequest{JobID: c.in.Plan.JobID, Generation: 2},
			func(v any) { assert.True(t, v.(bfia.Grant).Granted) })
	})
	c.at(2*time.Second, func() { c.start("a") })
	c.at(20*time.Second, func() { c.stop("") })
	r, err := c.play()
	require.NoError(t, err)
	assert.Equal(t, workflows.OutcomeSuccess, r.Outcome)
	assert.Equal(t, []error{nil}, c.answers)
}

// TestParticipantReservesNothingBeforeApproval checks that a job which someone must approve reserves nothing
// as it is created, also if the creation is repeated, and that a request after the approval is granted.
func TestParticipantReservesNothingBeforeApproval(t *testing.T) {
	c := newReservingBackend(t)
	c.in.Approval = true
	c.at(1*time.Second, func() { c.callCreate("again") })
	c.at(2*time.Second, func() {
		assert.False(t, c.reserved)
		assert.Equal(t, []*bfia.Grant{nil, nil}, c.grants)
		c.audit(bfia.JobReady, "")
	})
	c.at(3*time.Second, func() {
		c.update(workflows.UpdateReserve, "2", bfia.ReserveRequest{JobID: c.in.Plan.JobID, Generation: 2},
			func(v any) { assert.True(t, v.(bfia.Grant).Granted) })
	})
	c.at(4*time.Second, func() { c.start("a") })
	c.at(20*time.Second, func() { c.stop("") })
	r, err := c.play()
	require.NoError(t, err)
	assert.Equal(t, workflows.OutcomeSuccess, r.Outcome)
}

// TestParticipantReleasesUnstarted checks that a job which ends before it starts releases what it has
// reserved as it was created, and hints to the jobs that wait for it: if it is undone, stopped, or rejected
// by another party.
func TestParticipantReleasesUnstarted(t *testing.T) {
	for name, stop := range map[string]workflows.Stop{
		"undone":   {By: flowtest.NodeB, Undo: true},
		"stopped":  {By: flowtest.NodeB},
		"rejected": {By: flowtest.NodeB, Rejected: true, Reason: "rejected by C"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newReservingBackend(t)
			c.waiters = []participant.Waiting{{JobID: "other", Scheduler: flowtest.NodeB}}
			c.at(2*time.Second, func() {
				assert.True(t, c.reserved)
				c.env.SignalWorkflow(workflows.SignalStop, stop)
			})
			_, err := c.play()
			if stop.Undo {
				require.ErrorContains(t, err, "had it undone")
			} else {
				require.NoError(t, err)
			}
			assert.False(t, c.reserved)
			assert.Equal(t, []string{"B other"}, c.hints)
		})
	}
}

// TestParticipantUndoneWhileReserving checks that a job which is undone while its creation reserves leaves no
// reservation.
func TestParticipantUndoneWhileReserving(t *testing.T) {
	c := newReservingBackend(t)
	c.down = func(name string) bool { return name == "Reserve" && c.env.Now().Sub(c.began) < 5*time.Second }
	c.at(2*time.Second, func() {
		c.env.SignalWorkflow(workflows.SignalStop, workflows.Stop{By: flowtest.NodeB, Undo: true})
	})
	_, err := c.play()
	require.ErrorContains(t, err, "had it undone")
	assert.False(t, c.reserved)
	assert.Equal(t, "forget", c.log[len(c.log)-1])
}
