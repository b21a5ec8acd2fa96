package scheduler

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/workflows"
	"hutong/workflows/internal/flowtest"
)

// TestJobSyncType checks when a party is polled: never if it sends callbacks; soon in a job of sync_type
// poll, and after a silence in one of sync_type callback, if it does not.
func TestJobSyncType(t *testing.T) {
	pushes := bfia.JobAccepted{State: bfia.JobReady, Callbacks: true}
	for _, c := range []struct {
		name, syncType string
		host           bfia.JobAccepted
		silent         bool
		first          time.Duration // when the host is first polled; 0: never
	}{
		{"both Hutong, poll", bfia.SyncPoll, pushes, false, 0},
		{"both Hutong, callback", bfia.SyncCallback, pushes, false, 0},
		{"a host that only answers, poll", bfia.SyncPoll, bfia.JobAccepted{}, true, 2 * time.Second},
		{"a host that only answers, callback", bfia.SyncCallback, bfia.JobAccepted{}, true, 10 * time.Second},
		{"Hutong, whose callback is lost", bfia.SyncPoll, pushes, true, 10 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := flowtest.Plan(flowtest.TwoNodes, "a")
			p.SyncType = c.syncType
			f := newFakeParties(t, p)
			f.accepted[flowtest.NodeA], f.accepted[flowtest.NodeB] = pushes, c.host
			f.ends["a host.0"] = end{state: bfia.TaskSuccess, after: 9 * time.Second, silent: c.silent}
			f.ends["a guest.0"] = end{state: bfia.TaskSuccess, after: time.Second / 2}
			r, err := f.run()
			require.NoError(t, err)
			assert.Equal(t, workflows.OutcomeSuccess, r.Outcome)
			if c.first == 0 {
				assert.Empty(t, f.polled)
				return
			}
			require.NotEmpty(t, f.polled)
			assert.InDelta(t, (c.first + f.times["start a "+flowtest.NodeB]).Seconds(),
				f.times["poll 1"].Seconds(), 1)
			assert.Equal(t, []string{flowtest.NodeB}, f.polled[0].Nodes)
		})
	}
}
