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

func TestParticipantReuses(t *testing.T) {
	for name, refused := range map[string]error{"held": nil,
		"gone": flowtest.RefusedBy(bfia.CodeNotFound, "the outputs are no longer here")} {
		t.Run(name, func(t *testing.T) {
			c := newFakeBackend(t, flowtest.Plan(onlyGuest, "a"))
			if refused != nil {
				c.errors["ReuseTask"] = refused
				c.at(time.Second/2,
					func() { c.mu.Lock(); c.rows["a guest.0"] = bfia.TaskReady; c.mu.Unlock() })
			}
			c.at(time.Second, func() {
				c.start()
				for range 2 {
					c.env.SignalWorkflow(
						workflows.SignalTaskStart,
						bfia.TaskRef{
							JobID:    c.in.Plan.JobID,
							TaskID:   c.taskID("a"),
							TaskName: "a",
							Reuse:    true,
						},
					)
				}
			})
			c.at(time.Minute, func() { c.stop("") })
			r, err := c.play()
			require.NoError(t, err)
			assert.NotContains(t, c.log, "run a guest.0")
			if refused == nil {
				assert.Equal(t, workflows.OutcomeSuccess, r.Outcome)
				assert.Equal(t, bfia.TaskSuccess, c.rows["a guest.0"])
				return
			}
			assert.Equal(t, "task a failed at A (guest.0): the outputs are no longer here", r.Reason)
			assert.Equal(t, bfia.TaskFailed, c.rows["a guest.0"])
		})
	}
}
