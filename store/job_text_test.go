package store_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/store"
	"hutong/store/storetest"
)

// TestJobsWithText checks where the list of jobs looks for a text: also in what only the
// scheduler's row knows.
func TestJobsWithText(t *testing.T) {
	storetest.Each(t, func(t *testing.T, address string) {
		db := storetest.Open(t, address)
		ctx := t.Context()
		ended := time.Now()
		for _, j := range []store.Job{
			{JobID: "j1", FlowID: "Nightly", PartyNodes: []string{"A", "BANK17"}, State: bfia.JobRunning,
				Waiting: []bfia.Waiting{
					{Kind: bfia.WaitsForPartner, NodeID: "C", Message: "no answer of C"}}},
			{JobID: "j2", State: bfia.JobFinished, Outcome: bfia.OutcomeFailed, Reason: "its own",
				EndedAt: &ended,
				Failure: &bfia.Failure{Kind: bfia.FailedPartner, Message: "100% lost_its partner"}},
			{JobID: "j3", InitiatorNode: "INIT", SchedulerNode: "SCHED"},
		} {
			require.NoError(t, db.CreateJob(ctx, j, nil))
		}
		require.NoError(t, db.CreateScheduleJob(ctx, store.ScheduleJob{JobID: "j2", State: bfia.JobFinished,
			Outcome: bfia.OutcomeFailed, Reason: "task t failed at B",
			Failure: &bfia.Failure{Kind: bfia.FailedExit, Message: "no column age"}}, nil, nil))
		for text, want := range map[string]string{"J1": "j1", "nightly": "j1", "bank17": "j1",
			"answer of c": "j1",
			"100% lost_":  "j2", "Failed at B": "j2", "column age": "j2", "init": "j3", "sched": "j3",
			"100%lost": "", "nothing": ""} {
			page, err := db.Jobs(ctx, store.JobFilter{Text: text})
			require.NoError(t, err)
			var got string
			for _, j := range page.Jobs {
				got += j.JobID
			}
			require.Equal(t, want, got, text)
		}
	})
}
