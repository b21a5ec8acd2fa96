package workflows

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/activities"
	"hutong/bfia"
)

// An earlier job's outputs stand for a task's own where the scheduler and every party of it say so, and where the same is
// true of all before it. All else runs.
func TestJobReuses(t *testing.T) {
	f := newFederation(t, plan(twoNodes, "a", "b<a", "c<a", "d<c", "e"))
	f.in.Reuse = []string{"a", "b", "c", "d"}
	f.accepted[nodeA] = bfia.JobAccepted{Reuses: []string{"a", "b", "c", "d", "e"}}
	f.accepted[nodeB] = bfia.JobAccepted{Reuses: []string{"a", "b", "d", "e"}}
	r, err := f.run()
	require.NoError(t, err)
	assert.Equal(t, OutcomeSuccess, r.Outcome)
	slices.Sort(f.reused)
	assert.Equal(t, []string{"a A", "a B", "b A", "b B"}, f.reused)

	f = newFederation(t, plan(twoNodes, "a")) // a party that knows nothing of it
	f.in.Reuse = []string{"a"}
	f.accepted[nodeA] = bfia.JobAccepted{Reuses: []string{"a"}}
	_, err = f.run()
	require.NoError(t, err)
	assert.Empty(t, f.reused)
}

func TestPartyJobReuses(t *testing.T) {
	for name, refused := range map[string]error{"held": nil, "gone": refusedBy(bfia.CodeNotFound, "the outputs are no longer here")} {
		t.Run(name, func(t *testing.T) {
			c := newCourtyard(t, plan(onlyGuest, "a"))
			if refused != nil {
				c.errors[activities.ReuseTaskName] = refused
				c.at(time.Second/2, func() { c.mu.Lock(); c.rows["a guest.0"] = bfia.TaskReady; c.mu.Unlock() })
			}
			c.at(time.Second, func() {
				c.start()
				for range 2 {
					c.env.SignalWorkflow(SignalTaskStart, bfia.TaskRef{JobID: c.in.Plan.JobID, TaskID: c.taskID("a"), TaskName: "a", Reuse: true})
				}
			})
			c.at(time.Minute, func() { c.stop("") })
			r, err := c.play()
			require.NoError(t, err)
			assert.NotContains(t, c.log, "run a guest.0")
			if refused == nil {
				assert.Equal(t, OutcomeSuccess, r.Outcome)
				assert.Equal(t, bfia.TaskSuccess, c.rows["a guest.0"])
				return
			}
			assert.Equal(t, "task a failed at A (guest.0): the outputs are no longer here", r.Reason)
			assert.Equal(t, bfia.TaskFailed, c.rows["a guest.0"])
		})
	}
}
