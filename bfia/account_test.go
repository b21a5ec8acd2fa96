package bfia_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
)

func TestSumOfAnAccount(t *testing.T) {
	a := bfia.JobAccount{}
	a.Sum()
	require.Equal(t, bfia.AccountTotals{}, a.Totals, "no attempt")
	a.Parts = []bfia.PartAccount{{Task: "unknown"}}
	a.Sum()
	require.Nil(t, a.Totals.CPUSeconds, "unknown is not 0")
	require.True(t, a.Totals.AtLeast)
	a.Parts = []bfia.PartAccount{
		{ContainerSeconds: new(2.5), CPUSeconds: new(1.5), PeakMemory: new(int64(10))},
		{ContainerSeconds: new(1.0), CPUSeconds: new(0.5), PeakMemory: new(int64(30))},
	}
	a.Traffic = []bfia.TrafficAccount{{Sent: 3, Received: 4}, {Sent: 5}}
	a.Sum()
	require.Equal(t, bfia.AccountTotals{Attempts: 2, ContainerSeconds: new(3.5), CPUSeconds: new(2.0),
		PeakMemory: new(int64(30)), Sent: 8, Received: 4}, a.Totals)
	a.Parts = append(a.Parts, bfia.PartAccount{ContainerSeconds: new(1.0)})
	a.Sum()
	require.True(t, a.Totals.AtLeast, "the use of one attempt is unknown")
	require.InDelta(t, 2.0, *a.Totals.CPUSeconds, 0)
}

func TestCompareAccounts(t *testing.T) {
	account := func(node string, traffic ...bfia.TrafficAccount) *bfia.JobAccount {
		return &bfia.JobAccount{NodeID: node, JobID: "j", TrafficComplete: true, Traffic: traffic}
	}
	texts := func(a, b *bfia.JobAccount) (agree, differ []string) {
		t.Helper()
		findings, err := bfia.CompareAccounts(a, b)
		require.NoError(t, err)
		for _, f := range findings {
			if f.Agrees {
				agree = append(agree, f.Text)
			} else {
				differ = append(differ, f.Text)
			}
		}
		return agree, differ
	}
	agree, differ := texts(account("A"), account("B"))
	require.Empty(t, differ)
	require.Equal(t, []string{"no bytes from A to B", "no bytes from B to A"}, agree)

	a := account("A", bfia.TrafficAccount{Task: "x", Attempt: 1, NodeID: "B", Sent: 10, SentMessages: 2},
		bfia.TrafficAccount{Task: "x", Attempt: 1, NodeID: "C", Sent: 99, SentMessages: 2},
		bfia.TrafficAccount{NodeID: "B", Received: 4, ReceivedMessages: 1})
	b := account("B", bfia.TrafficAccount{Task: "x", Attempt: 1, NodeID: "A", Received: 10,
		ReceivedMessages: 2}, bfia.TrafficAccount{NodeID: "A", Sent: 4, SentMessages: 1})
	agree, differ = texts(a, b)
	require.Empty(t, differ)
	require.Equal(t, []string{"task x, attempt 1, from A to B: 10 bytes in 2 messages",
		"messages of an unknown task, from B to A: 4 bytes in 1 messages"}, agree)

	b.Traffic[0].Received = 9
	_, differ = texts(a, b)
	require.Equal(t, []string{"task x, attempt 1, from A to B: 10 bytes in 2 messages sent, " +
		"9 bytes in 2 messages received"}, differ)
	b.Traffic[0].AtLeast = true
	_, differ = texts(a, b)
	require.Contains(t, differ[0], "lower bound")
	b.Traffic[0].AtLeast, b.Traffic[0].Attempt, b.Traffic[0].Received = false, 2, 10
	_, differ = texts(a, b)
	require.Len(t, differ, 2, "another attempt is another task id")
	b.Traffic[0].Attempt, b.Traffic[0].Received, b.Traffic[0].ReceivedMessages = 1, 15, 3
	a.Traffic[0].Unconfirmed = 5
	agree, differ = texts(a, b)
	require.Empty(t, differ, "the answer to one push was lost")
	require.Contains(t, agree[0], "no confirmation of some")

	for want, other := range map[string]*bfia.JobAccount{
		"both accounts are of A": account("A"), "of two jobs, j and k": {NodeID: "B", JobID: "k"},
		"of B lacks its traffic": {NodeID: "B", JobID: "j"},
	} {
		_, err := bfia.CompareAccounts(a, other)
		require.ErrorContains(t, err, want)
	}
}
