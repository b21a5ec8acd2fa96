package participant

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/activities/participant"
	"hutong/bfia"
	"hutong/workflows"
	"hutong/workflows/internal/flowtest"
)

// TestParticipantMergesEnds checks that a job writes and reports the end of a part in one activity, and ends
// in one more. What these could not do, it does by the activities of an older job.
func TestParticipantMergesEnds(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*fakeBackend)
		calls  []string
	}{
		"all at once": {func(*fakeBackend) {}, []string{"EndPart", "EndJob"}},
		"an older update": {func(c *fakeBackend) { c.create = workflows.UpdateCreateCompact },
			[]string{"RecordJobState", "RecordTaskEnd", "SendCallback", "RecordJobState",
				"ReleaseReservation", "ReleaseSession"}},
		"the scheduler does not answer": {func(c *fakeBackend) {
			c.down = func(what string) bool { return what == "report" }
		}, []string{"EndPart", "SendCallback", "EndJob"}},
		"the transport does not answer": {func(c *fakeBackend) {
			c.down = func(what string) bool { return what == "sessions" }
		}, []string{"EndPart", "EndJob", "ReleaseSession"}},
		"others wait": {func(c *fakeBackend) {
			c.waiters = []participant.Waiting{{JobID: "other", Scheduler: flowtest.NodeB}}
		}, []string{"EndPart", "EndJob", "SendCapacityHint", "ReleaseSession"}},
		"a container that still runs": {func(c *fakeBackend) {
			c.runs["a guest.0"] = container{after: 15 * time.Second}
			c.at(5*time.Second, func() { c.callback("a", "guest", bfia.TaskSuccess) })
		}, []string{"EndPart", "RecordJobState", "ReleaseReservation", "ReleaseSession"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newReservingBackend(t)
			f.at(time.Second, func() { f.startTask("a") })
			f.at(10*time.Second, func() { f.stop("") })
			c.change(f)
			r, err := f.play()
			require.NoError(t, err)
			assert.Equal(t, workflows.OutcomeSuccess, r.Outcome)
			var calls []string
			for _, name := range f.called {
				switch name {
				case "RecordJob", "Reserve", "ClaimTask", "RunTask", "RecordTaskWait":
				default:
					calls = append(calls, name)
				}
			}
			if len(f.waiters) > 0 {
				assert.ElementsMatch(t, c.calls, calls)
			} else {
				assert.Equal(t, c.calls, calls)
			}
		})
	}
}

// TestParticipantReportsRefusedOnce checks that a report which the scheduler refuses is not sent again.
func TestParticipantReportsRefusedOnce(t *testing.T) {
	c := newReservingBackend(t)
	c.errors["SendCallback"] = flowtest.RefusedBy(bfia.CodeNotFound, "no such task")
	c.at(time.Second, func() { c.startTask("a") })
	c.at(10*time.Second, func() { c.stop("") })
	_, err := c.play()
	require.NoError(t, err)
	assert.NotContains(t, c.called, "SendCallback")
	assert.Equal(t, bfia.TaskSuccess, c.rows["a guest.0"])
}
