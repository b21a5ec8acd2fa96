package scheduler

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/workflows"
	"hutong/workflows/internal/flowtest"
)

// TestJobReuses checks that a task takes an earlier job's outputs if the scheduler and every party hold them,
// and the same is true of its dependencies. All other tasks run.
func TestJobReuses(t *testing.T) {
	f := newFakeParties(t, flowtest.Plan(flowtest.TwoNodes, "a", "b<a", "c<a", "d<c", "e"))
	f.in.Reuse = []string{"a", "b", "c", "d"}
	f.accepted[flowtest.NodeA] = bfia.JobAccepted{Reuses: []string{"a", "b", "c", "d", "e"}}
	f.accepted[flowtest.NodeB] = bfia.JobAccepted{Reuses: []string{"a", "b", "d", "e"}}
	r, err := f.run()
	require.NoError(t, err)
	assert.Equal(t, workflows.OutcomeSuccess, r.Outcome)
	slices.Sort(f.reused)
	assert.Equal(t, []string{"a A", "a B", "b A", "b B"}, f.reused)

	f = newFakeParties(t, flowtest.Plan(flowtest.TwoNodes, "a")) // a party that does not support it
	f.in.Reuse = []string{"a"}
	f.accepted[flowtest.NodeA] = bfia.JobAccepted{Reuses: []string{"a"}}
	_, err = f.run()
	require.NoError(t, err)
	assert.Empty(t, f.reused)
}
