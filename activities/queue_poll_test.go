package activities_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/activities/scheduler"
	"hutong/bfia"
	"hutong/store/storetest"
)

// TestPollsOfALongQueue checks that the first job of a line looks at the queue as often as ever, and the jobs
// behind it less often.
func TestPollsOfALongQueue(t *testing.T) {
	h := newTestParty(t, storetest.SQLite(t), processDriver(t), []string{"print"}, []string{"print"})
	h.scheduler.Limits.Jobs = 1
	at := time.Now()
	var states []scheduler.QueueState
	for i := range 100 {
		plan := h.plan
		plan.JobID = fmt.Sprintf("%s%03d", jobID, i)
		require.NoError(t, h.scheduler.RecordScheduleJob(t.Context(), scheduler.RecordScheduleJobInput{
			Plan: plan, Nodes: []string{"A", "B"}, At: at.Add(time.Duration(i) * time.Second)}))
		state, err := h.scheduler.Enqueue(t.Context(), scheduler.EnqueueInput{JobID: plan.JobID, At: at})
		require.NoError(t, err)
		if i == 0 {
			require.True(t, state.MayReserve)
			_, err := h.scheduler.RecordProgress(t.Context(),
				scheduler.Progress{JobID: plan.JobID, State: bfia.JobRunning, At: at})
			require.NoError(t, err)
			continue
		}
		states = append(states, state)
	}
	require.Zero(t, states[0].Poll, "the first of its line")
	for _, s := range states[1:] {
		require.Positive(t, s.Poll)
	}
}
