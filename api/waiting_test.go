package api

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"hutong/bfia"
)

// TestExplainUnstarted checks that each task which has not started says why: others have not ended, the
// reservation at a party or the scheduler lets no more tasks run, or its start is under way.
func TestExplainUnstarted(t *testing.T) {
	started := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	ended := started.Add(time.Minute)
	parts := []bfia.PartStatus{{NodeID: "A"}, {NodeID: "B"}}
	status := func(b bfia.TaskState) *bfia.JobStatus {
		return &bfia.JobStatus{State: bfia.JobRunning, Scheduler: "A", StartedAt: &started,
			Tasks: []bfia.TaskStatus{
				{Name: "a", State: bfia.TaskSuccess, EndedAt: &ended, Parties: parts},
				{Name: "b", State: b, DependsOn: []string{"a"}, Parties: parts},
				{Name: "c", State: bfia.TaskReady, DependsOn: []string{"a"}, Parties: parts},
				{Name: "d", State: bfia.TaskReady, DependsOn: []string{"b", "c"}, Parties: parts}}}
	}
	for _, c := range []struct {
		b           bfia.TaskState
		parallelism map[string]int
		most        int
		kind        bfia.WaitingKind
		text        string
	}{
		{bfia.TaskRunning, map[string]int{"A": 2, "B": 1}, 32, bfia.WaitsForSlot,
			"waits for a slot: the reservation at B runs 1 task of the job at a time " +
				"(it takes more only while at least half of the free resources stay for other jobs)"},
		{bfia.TaskRunning, nil, 1, bfia.WaitsForSlot,
			"waits for a slot: the scheduler runs 1 task of the job at a time"},
		{bfia.TaskRunning, map[string]int{"A": 2, "B": 2}, 32, bfia.WaitsForScheduler,
			"waits for its start by A"},
		{bfia.TaskSuccess, map[string]int{"A": 1, "B": 1}, 32, bfia.WaitsForScheduler,
			"waits for its start by A"},
	} {
		s := status(c.b)
		explainUnstarted(s, c.parallelism, c.most)
		assert.Nil(t, s.Tasks[0].Waiting)
		assert.Nil(t, s.Tasks[1].Waiting)
		assert.Equal(t, c.kind, s.Tasks[2].Waiting.Kind)
		assert.Equal(t, c.text, s.Tasks[2].Waiting.Message)
		assert.Equal(t, ended, s.Tasks[2].Waiting.Since)
		assert.Equal(t, bfia.WaitsForInputs, s.Tasks[3].Waiting.Kind)
		assert.Contains(t, s.Tasks[3].Waiting.Message, "c")
	}
	queued := status(bfia.TaskReady)
	queued.State = bfia.JobReady
	explainUnstarted(queued, nil, 32)
	assert.Nil(t, queued.Tasks[1].Waiting, "the job itself says why")
}
