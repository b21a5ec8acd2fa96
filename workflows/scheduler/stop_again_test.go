package scheduler

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/workflows"
	"hutong/workflows/internal/flowtest"
)

// TestStopAgain checks that job/stop is repeated to a FATE-Flow at which a task failed, since it would keep
// the job RUNNING. Hutong parties, and parties whose tasks succeeded, get it once.
func TestStopAgain(t *testing.T) {
	ours, theirs := bfia.Part{
		Role:   "guest",
		NodeID: flowtest.NodeA,
	}, bfia.Part{
		Role:   "host",
		NodeID: flowtest.NodeB,
	}
	for name, c := range map[string]struct {
		hutong bool
		end    end
		again  bool
	}{
		"stopped while it ran":         {false, end{}, true},
		"ended well before":            {false, end{state: bfia.TaskSuccess, after: time.Second}, false},
		"Hutong, stopped while it ran": {true, end{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeParties(t, flowtest.Plan([]bfia.Part{ours, theirs}, "a", "b<a"))
			f.accepted[flowtest.NodeA] = bfia.JobAccepted{Callbacks: true}
			f.accepted[flowtest.NodeB] = bfia.JobAccepted{Callbacks: c.hutong}
			f.ends["a guest.0"] = end{state: bfia.TaskFailed, after: 5 * time.Second, reason: "it failed"}
			f.ends["a host.0"] = c.end
			r, err := f.run()
			require.NoError(t, err)
			require.Equal(t, workflows.OutcomeFailed, r.Outcome)
			require.Equal(t, c.again, slices.Contains(f.sent, "stop again "+flowtest.NodeB))
			require.NotContains(t, f.sent, "stop again "+flowtest.NodeA)
		})
	}
}
