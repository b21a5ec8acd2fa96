package transport

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/internal/identity"
	"hutong/transport/wire"
)

// releaseFinal releases a session as its party does at the end of the job, and returns the transfers.
func (c *caller) releaseFinal(t *testing.T) []Transfer {
	t.Helper()
	out := c.with(wire.HeaderFinal, finalDerived).release("")
	require.True(t, out.HasPayload)
	var list []Transfer
	require.NoError(t, json.Unmarshal(out.Payload, &list))
	return list
}

// TestTransfersOfBothPartiesAgree sends messages between two transports in both encodings, one of them twice,
// and compares what both have counted.
func TestTransfersOfBothPartiesAgree(t *testing.T) {
	net := newNetwork(t, Limits{}, "A", "B")
	a, b := net["A"].container(t, "s"), net["B"].container(t, "s")
	a.mustPush("B", "x", []byte("hello"))
	a.protobuf().mustPush("B", "x", make([]byte, 100_000))
	twice := a.with(wire.HeaderMessageID, "m1")
	twice.mustPush("B", "x", []byte("again"))
	twice.mustPush("B", "x", []byte("again"))
	b.mustPush("A", "y", []byte("reply"))
	net["A"].container(t, "s_derived").mustPush("B", "x", []byte("derived"))
	net["A"].container(t, "other").mustPush("B", "x", []byte("another job's"))
	a.mustPush("A", "own", []byte("stays here"))

	sent, received := a.releaseFinal(t), b.releaseFinal(t)
	require.Len(t, sent, 2, "own messages and other sessions are not in it: %v", sent)
	require.Len(t, received, 2)
	for i := range sent {
		require.Equal(t, "B", sent[i].NodeID)
		require.Equal(t, "A", received[i].NodeID)
		require.Equal(t, sent[i].SessionID, received[i].SessionID)
		require.Equal(t, sent[i].Received, received[i].Sent)
		require.False(t, sent[i].Incomplete || received[i].Incomplete)
	}
	require.Greater(t, sent[0].Sent, int64(100_000))
	require.EqualValues(t, 1, received[0].SentMessages)
	require.EqualValues(t, 3, received[0].ReceivedMessages, "a repeated message counts once")
	require.Equal(t, sent[1].Sent, received[1].Received)
	require.Equal(t, sent[0].Sent, received[0].Received)
	require.Positive(t, sent[0].Unconfirmed, "the repeated message left twice, and was accepted once")
	require.Equal(t, sent, a.releaseFinal(t), "a repeated release gets the same answer")
}

func TestUnconfirmedTransfers(t *testing.T) {
	a := open(t, Config{NodeID: "A", Logger: quiet(), Route: routeTo("http://127.0.0.1:1"),
		Limits: Limits{PushTimeout: time.Second}})
	c := (&node{Transport: a, url: serve(t, a)}).container(t, "s")
	c.push("B", "x", []byte("nobody answers"))
	list := c.releaseFinal(t)
	require.Len(t, list, 1)
	require.Zero(t, list[0].Sent)
	require.Positive(t, list[0].Unconfirmed)
}

// TestTransfersSurviveARestart restarts a transport in order, and then after a crash, of which the counts say
// that they may lack something.
func TestTransfersSurviveARestart(t *testing.T) {
	dir := t.TempDir()
	log := quiet()
	first, err := openTransfers(dir, time.Hour, log)
	require.NoError(t, err)
	first.count("s", "B", "", func(c *Transfer) { c.Sent = 1 })
	first.count("s", "B", "", func(c *Transfer) { c.Sent = 7 })
	first.close()

	second, err := openTransfers(dir, time.Hour, log)
	require.NoError(t, err)
	require.Equal(t, []Transfer{{SessionID: "s", NodeID: "B", Sent: 7}}, second.of("s", false))
	second.count("new", "C", "", func(c *Transfer) { c.Received = 3 })
	journal, err := os.ReadFile(filepath.Join(dir, "transfers"))
	require.NoError(t, err)
	second.close()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "transfers"), append(journal, `{"session_`...), 0o600))

	third, err := openTransfers(dir, time.Hour, log) // after a crash, with a torn line
	require.NoError(t, err)
	require.Equal(
		t,
		[]Transfer{{SessionID: "s", NodeID: "B", Sent: 7, Incomplete: true}},
		third.of("s", false),
	)
	require.Equal(t, []Transfer{{SessionID: "new", NodeID: "C", Received: 3, Incomplete: true}},
		third.of("new", false))
	third.close()

	fourth, err := openTransfers(dir, 0, log)
	require.NoError(t, err)
	require.Empty(t, fourth.of("s", true), "old counts are forgotten")
	fourth.close()
}

// TestTransfersByTask sends messages of containers of two tasks. Both parties count them for the same task,
// whatever a container itself says.
func TestTransfersByTask(t *testing.T) {
	net := newNetwork(t, Limits{}, "A", "B")
	first := identity.Principal{Kind: identity.KindContainer, Run: identity.Run{TaskID: "t1"}}
	second := identity.Principal{Kind: identity.KindContainer, Run: identity.Run{TaskID: "t2"}}
	serveAs(t, net["A"].Transport, first).container(t, "s").mustPush("B", "x", []byte("one"))
	serveAs(t, net["A"].Transport, second).container(t, "s").with(wire.HeaderTaskID, "t1").
		mustPush("B", "x", []byte("two, longer"))
	net["A"].container(t, "s").with(wire.HeaderTaskID, "t1").mustPush("B", "x", []byte("of nobody"))

	sent, received := net["A"].container(t, "s").releaseFinal(t), net["B"].container(t, "s").releaseFinal(t)
	require.Len(t, sent, 3)
	require.Len(t, received, 3)
	for i, task := range []string{"", "t1", "t2"} {
		require.Equal(t, task, sent[i].TaskID)
		require.Equal(t, task, received[i].TaskID)
		require.Positive(t, sent[i].Sent)
		require.Equal(t, sent[i].Sent, received[i].Received)
		require.EqualValues(t, 1, received[i].ReceivedMessages)
	}
	require.Greater(t, sent[2].Sent, sent[1].Sent)
}

// TestTasksOfAPartnerAreBounded lets a partner name more tasks than a job can have: the rest is counted for
// no task, and no byte is lost.
func TestTasksOfAPartnerAreBounded(t *testing.T) {
	counts, err := openTransfers(t.TempDir(), time.Hour, quiet())
	require.NoError(t, err)
	defer counts.close()
	for i := range maxTasks + 100 {
		counts.count("s", "B", fmt.Sprint(i), func(c *Transfer) { c.Received++ })
	}
	counts.count("s", "B", strings.Repeat("x", maxTaskID+1), func(c *Transfer) { c.Received++ })
	list := counts.of("s", false)
	require.Len(t, list, maxTasks+1)
	require.Equal(t, Transfer{SessionID: "s", NodeID: "B", Received: 101}, list[0])
	counts.forget(0)
	require.Empty(t, counts.tasks)
}
