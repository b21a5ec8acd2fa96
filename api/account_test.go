package api

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/store"
)

// TestJobAccount reads the account of a job with two attempts of a task, of which one is not measured, and of
// messages of a task that this party does not know.
func TestJobAccount(t *testing.T) {
	p := newParty(t)
	p.bad(get(bfia.PathJobAccount+"?job_id=nobody"), 404, bfia.CodeNotFound, "job nobody")
	p.bad(get(bfia.PathJobAccount), 400, bfia.CodeBadRequest, "job_id:")

	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	second, end := start.Add(time.Minute), start.Add(time.Minute+1500*time.Millisecond)
	for _, u := range []store.Usage{
		{JobID: "j1", Name: "train", Role: "guest", Attempt: 1, TaskID: "t1", Device: "k8s",
			RunnerID: "r", StartedAt: &start},
		{JobID: "j1", Name: "train", Role: "guest", Attempt: 2, TaskID: "t2", Device: "process",
			RunnerID: "r", CPUMillis: new(int64(1250)), PeakMemory: new(int64(1 << 20)), Final: true,
			StartedAt: &second, EndedAt: &end},
	} {
		require.NoError(t, p.store.RecordUsage(t.Context(), u))
	}
	account := func() (a bfia.JobAccount) {
		t.Helper()
		p.good(get(bfia.PathJobAccount + "?job_id=j1")).into(&a)
		return a
	}
	require.False(t, account().TrafficComplete)
	require.NoError(t, p.store.RecordTransfers(t.Context(), "session_j1", []store.Transfer{
		{SessionID: "session_j1", NodeID: host, TaskID: "t1", Sent: 10, SentMessages: 1},
		{SessionID: "session_j1", NodeID: host, TaskID: "invented", Received: 1, ReceivedMessages: 1},
		{SessionID: "session_j1", NodeID: host, TaskID: "made up", Received: 2, ReceivedMessages: 1},
	}))
	require.NoError(t, p.store.RecordTransfers(t.Context(), "session_j1_t2", []store.Transfer{
		{SessionID: "session_j1_t2", NodeID: host, TaskID: "t2", Sent: 20, SentMessages: 2, Received: 5,
			ReceivedMessages: 1}}))
	a := account()
	require.True(t, a.TrafficComplete)
	require.Equal(t, guest, a.NodeID)
	require.Equal(t, []bfia.PartAccount{
		{Task: "train", Role: "guest.0", Attempt: 1, TaskID: "t1", RunnerID: "r", Device: "k8s",
			StartedAt: &start},
		{Task: "train", Role: "guest.0", Attempt: 2, TaskID: "t2", RunnerID: "r", Device: "process",
			StartedAt: &second, EndedAt: &end,
			ContainerSeconds: new(1.5), CPUSeconds: new(1.25), PeakMemory: new(int64(1 << 20))},
	}, a.Parts)
	require.Equal(t, []bfia.TrafficAccount{
		{NodeID: host, Received: 3, ReceivedMessages: 2},
		{Task: "train", Attempt: 1, NodeID: host, Sent: 10, SentMessages: 1},
		{Task: "train", Attempt: 2, NodeID: host, Sent: 20, SentMessages: 2, Received: 5,
			ReceivedMessages: 1},
	}, a.Traffic)
	require.Equal(t, bfia.AccountTotals{Attempts: 2, ContainerSeconds: new(1.5), CPUSeconds: new(1.25),
		PeakMemory: new(int64(1 << 20)), Sent: 30, Received: 8, AtLeast: true}, a.Totals)
}
