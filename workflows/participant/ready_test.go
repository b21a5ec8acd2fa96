package participant

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"hutong/activities/participant"
	"hutong/bfia"
	"hutong/workflows"
	"hutong/workflows/internal/flowtest"
)

// TestParticipantWaitsForMonths checks that a job that waits here for a reservation continues as new, again
// and again, and then runs. It keeps its generation, and does not report its approval again.
func TestParticipantWaitsForMonths(t *testing.T) {
	const wait = 60 * 24 * time.Hour
	c := newFakeBackend(t, flowtest.Plan([]bfia.Part{flowtest.GuestA}, "a"))
	c.in.Approval = true
	c.admits = func() bfia.Grant {
		if c.env.Now().Sub(c.began) < wait {
			return bfia.Grant{Reason: "it is full"}
		}
		return bfia.Grant{Granted: true, Parallelism: 1}
	}
	var grants []bfia.Grant
	reserve := func(generation int) {
		c.env.UpdateWorkflow(workflows.UpdateReserve, "", &testsuite.TestUpdateCallback{OnAccept: func() {},
			OnReject: func(err error) { c.breaks("%v", err) },
			OnComplete: func(v any, err error) {
				assert.NoError(t, err)
				grants = append(grants, v.(bfia.Grant))
			}}, bfia.ReserveRequest{JobID: c.in.Plan.JobID, Generation: generation})
	}
	c.at(time.Minute, func() { c.audit(bfia.JobReady, "fine") })
	for day := range 60 {
		c.at(time.Hour+time.Duration(day)*24*time.Hour, func() { reserve(day + 1) })
		if day%10 == 9 {
			c.continues(2*time.Hour + time.Duration(day)*24*time.Hour)
		}
	}
	c.at(wait-time.Hour, func() { reserve(1) }) // late
	c.at(wait+time.Hour, func() { reserve(61) })
	c.at(wait+2*time.Hour, func() { c.start("a") })
	c.at(wait+3*time.Hour, func() { c.stop("") })
	r, err := c.play()
	require.NoError(t, err)
	assert.Equal(t, workflows.OutcomeSuccess, r.Outcome)
	assert.Equal(t, 6, c.news)
	assert.Equal(t, []error{nil}, c.answers)
	require.Len(t, grants, 62)
	assert.Equal(t, 60, grants[60].Generation, "a late request is answered with the generation")
	assert.True(t, grants[61].Granted)
	approvals := 0
	for _, what := range c.log {
		if what == "audit READY fine" {
			approvals++
		}
	}
	assert.Equal(t, 1, approvals, "%v", c.log)
}

// TestParticipantDoesNotContinue checks when a job does not continue as new: before its approval is known to
// its scheduler, while it holds a reservation, while it runs, and if an older worker ignored the suggestion.
func TestParticipantDoesNotContinue(t *testing.T) {
	for name, begin := range map[string]func(c *fakeBackend){
		"not approved": func(c *fakeBackend) { c.in.Approval = true },
		"granted": func(c *fakeBackend) {
			c.at(time.Second, func() {
				c.env.UpdateWorkflow(workflows.UpdateReserve, "", &testsuite.TestUpdateCallback{
					OnAccept: func() {}, OnReject: func(err error) { c.breaks("%v", err) },
					OnComplete: func(_ any, err error) { assert.NoError(t, err) }},
					bfia.ReserveRequest{JobID: c.in.Plan.JobID, Generation: 1})
			})
		},
		"runs": func(c *fakeBackend) {
			c.runs["a guest.0"] = container{after: 10 * time.Hour}
			c.at(time.Second, func() { c.start("a") })
		},
		"of an older version": func(c *fakeBackend) {
			c.env.OnGetVersion("continue-as-new", workflow.DefaultVersion, workflow.Version(1)).
				Return(workflow.DefaultVersion)
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newFakeBackend(t, flowtest.Plan([]bfia.Part{flowtest.GuestA}, "a"))
			c.continues(time.Minute)
			begin(c)
			c.at(5*time.Hour, func() { c.stop("") })
			_, err := c.play()
			require.NoError(t, err)
			assert.Zero(t, c.news)
		})
	}
}

// TestParticipantAsksAfterItContinued checks that a job that has continued as new still asks its scheduler,
// at the intervals that it had reached, and ends with it.
func TestParticipantAsksAfterItContinued(t *testing.T) {
	c := newFakeBackend(t, flowtest.Plan(onlyGuest, "a"))
	for day := range 30 {
		c.continues(time.Duration(day+1) * 24 * time.Hour)
	}
	c.scheduler = func() (participant.SchedulerAnswer, error) {
		if c.env.Now().Sub(c.began) > 60*24*time.Hour {
			return participant.SchedulerAnswer{State: bfia.JobFinished}, nil
		}
		return participant.SchedulerAnswer{State: bfia.JobReady}, nil
	}
	r, err := c.play()
	require.NoError(t, err)
	assert.Equal(t, workflows.OutcomeStopped, r.Outcome)
	assert.Equal(t, 30, c.news)
	assert.Less(t, len(c.asks), 60*24+quickAsks+10)
	last := len(c.asks) - 1
	assert.LessOrEqual(t, c.asks[last]-c.asks[last-1], maxLateAsk+time.Minute)
}
