package participant

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/workflows"
	"hutong/workflows/internal/flowtest"
)

// TestParticipantStopsRemainingContainer checks that job/stop of a task that has ended stops its container if
// that remains. The job continues.
func TestParticipantStopsRemainingContainer(t *testing.T) {
	c := newFakeBackend(t, flowtest.Plan(onlyGuest, "a", "b<a"))
	c.runs["a guest.0"] = container{stays: true}
	c.at(time.Second, func() { c.start("a") })
	c.at(5*time.Second, func() { c.callback("a", "guest", bfia.TaskSuccess) })
	c.at(6*time.Second, func() { c.stop("a"); c.stop("a"); c.startTask("b") })
	c.at(time.Hour, func() { c.stop("") })
	r, err := c.play()
	require.NoError(t, err)
	assert.Equal(t, workflows.OutcomeSuccess, r.Outcome)
	assert.Equal(t, map[string]bfia.TaskState{"a guest.0": bfia.TaskSuccess, "b guest.0": bfia.TaskSuccess},
		c.rows)
	assert.InDelta(t, 16, c.times["stop a guest.0"].Seconds(), 1)
}
