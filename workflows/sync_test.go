package workflows

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/bfia"
)

// Who tells the ends of its tasks by itself is never asked; who doesn't is asked soon where the job says poll, and after
// a silence where it says callback.
func TestJobSyncType(t *testing.T) {
	pushes := bfia.JobAccepted{State: bfia.JobReady, Callbacks: true}
	for _, c := range []struct {
		name, syncType string
		host           bfia.JobAccepted
		silent         bool
		first          time.Duration // when the host is first asked; 0: never
	}{
		{"two Hutongs, poll", bfia.SyncPoll, pushes, false, 0},
		{"two Hutongs, callback", bfia.SyncCallback, pushes, false, 0},
		{"a host that only answers, poll", bfia.SyncPoll, bfia.JobAccepted{}, true, 2 * time.Second},
		{"a host that only answers, callback", bfia.SyncCallback, bfia.JobAccepted{}, true, 10 * time.Second},
		{"a Hutong whose callback is lost", bfia.SyncPoll, pushes, true, 10 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := plan(twoNodes, "a")
			p.SyncType = c.syncType
			f := newFederation(t, p)
			f.accepted[nodeA], f.accepted[nodeB] = pushes, c.host
			f.ends["a host.0"] = end{state: bfia.TaskSuccess, after: 9 * time.Second, silent: c.silent}
			f.ends["a guest.0"] = end{state: bfia.TaskSuccess, after: time.Second / 2}
			r, err := f.run()
			require.NoError(t, err)
			assert.Equal(t, OutcomeSuccess, r.Outcome)
			if c.first == 0 {
				assert.Empty(t, f.polled)
				return
			}
			require.NotEmpty(t, f.polled)
			assert.InDelta(t, (c.first + f.times["start a "+nodeB]).Seconds(), f.times["poll 1"].Seconds(), 1)
			assert.Equal(t, []string{nodeB}, f.polled[0].Nodes)
		})
	}
}

// job/stop of a task that has ended takes away its container, should it stay; the job goes on.
func TestPartyJobCleansUp(t *testing.T) {
	c := newCourtyard(t, plan(onlyGuest, "a", "b<a"))
	c.runs["a guest.0"] = container{stays: true}
	c.at(time.Second, func() { c.start("a") })
	c.at(5*time.Second, func() { c.tells("a", "guest", bfia.TaskSuccess) })
	c.at(6*time.Second, func() { c.stop("a"); c.stop("a"); c.startTask("b") })
	c.at(time.Hour, func() { c.stop("") })
	r, err := c.play()
	require.NoError(t, err)
	assert.Equal(t, OutcomeSuccess, r.Outcome)
	assert.Equal(t, map[string]bfia.TaskState{"a guest.0": bfia.TaskSuccess, "b guest.0": bfia.TaskSuccess}, c.rows)
	assert.InDelta(t, 16, c.times["stop a guest.0"].Seconds(), 1)
}
