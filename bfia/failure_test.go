package bfia

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFailureString(t *testing.T) {
	for _, c := range []struct {
		f    Failure
		want string
	}{
		{Failure{Kind: FailedExit, NodeID: "B", Role: "host.0", Task: "a", ExitCode: 3},
			"task a failed at B (host.0): exit code 3"},
		{Failure{Kind: FailedExit, NodeID: "B", Role: "host.0", Task: "a", ExitCode: 137, Message: "killed"},
			"task a failed at B (host.0): exit code 137: killed"},
		{Failure{Kind: FailedMemory, NodeID: "B", Role: "host.0", Task: "a"},
			"task a failed at B (host.0): out of memory"},
		{Failure{Kind: FailedStopped, By: "B"}, "stopped by B"},
		{Failure{Kind: FailedStopped}, "stopped"},
		{Failure{Kind: FailedStopped, Task: "a", NodeID: "B", By: "C"}, "task a was stopped: stopped by C"},
		{Failure{Kind: FailedRejected, NodeID: "B", By: "B"}, "rejected by B"},
		{Failure{Kind: FailedRefused, NodeID: "B", Message: "did not start the job: no"},
			"B: did not start the job: no"},
		{Failure{Kind: "something new", NodeID: "B", Task: "a"}, "task a failed at B: no reason was given"},
	} {
		require.Equal(t, c.want, c.f.String())
	}
	require.Empty(t, (*Failure)(nil).String()+(*Failure)(nil).Text())
	require.Nil(t, (*Failure)(nil).WithHint("A", "j"))
	require.Nil(t, (*Failure)(nil).ForPartners(ShareLog))
}

// TestFailureCauses checks which of two failures is shown as the reason of a job's end.
func TestFailureCauses(t *testing.T) {
	ordered := []FailureKind{FailedExit, FailedTemporary, FailedPartner, FailedStopped}
	for i, closer := range ordered {
		for k, other := range ordered {
			require.Equal(t, i < k, (&Failure{Kind: closer}).Causes(&Failure{Kind: other}), "%s, %s",
				closer, other)
		}
		require.True(t, (&Failure{Kind: closer}).Causes(nil))
		require.False(t, (*Failure)(nil).Causes(&Failure{Kind: closer}))
		require.Equal(t, closer == FailedPartner, (&Failure{Kind: closer}).IsConsequence())
	}
	require.False(t, (&Failure{Kind: FailedExit}).Causes(&Failure{Kind: FailedKilled}), "the first one stays")
	require.False(t, (*Failure)(nil).IsConsequence())
}

// TestFailureForPartners checks that partners see only the details that a party shares.
func TestFailureForPartners(t *testing.T) {
	f := &Failure{
		Kind:     FailedExit,
		NodeID:   "B",
		Role:     "host.0",
		Task:     "a",
		ExitCode: 3,
		Message:  "customer 17",
		Log:      []string{"row 17"},
		Hint:     "h",
	}
	for level, want := range map[FailureSharing]string{
		ShareKind:   `{"kind":"exit_code","node_id":"B","role":"host.0","task_name":"a","exit_code":3}`,
		"":          `{"kind":"exit_code","node_id":"B","role":"host.0","task_name":"a","exit_code":3}`,
		ShareReason: `{"kind":"exit_code","node_id":"B","role":"host.0","task_name":"a","exit_code":3,"message":"customer 17"}`,
		ShareLog:    `{"kind":"exit_code","node_id":"B","role":"host.0","task_name":"a","exit_code":3,"message":"customer 17","log":["row 17"]}`,
	} {
		got, err := json.Marshal(f.ForPartners(level))
		require.NoError(t, err)
		require.JSONEq(t, want, string(got), "%q", level)
	}
	require.Equal(t, "h", f.Hint, "the failure itself stays")
}

func TestFailureOf(t *testing.T) {
	reported := &Failure{
		Kind:    FailedMemory,
		Hint:    "rm -rf",
		Message: strings.Repeat("x", 1<<20),
		Log:     make([]string, 1000),
	}
	require.Nil(t, FailureOf(TaskSuccess, reported, "words"))
	require.Nil(t, FailureOf(TaskRunning, nil, "words"))
	require.Equal(t, &Failure{Kind: FailedUnknown, Message: "words"}, FailureOf(TaskFailed, nil, "words"))
	require.Equal(t, &Failure{Kind: FailedUnknown, Message: "words"},
		FailureOf(TaskFailed, &Failure{}, "words"))
	got := FailureOf(TaskFailed, reported, "")
	require.Equal(t, FailedMemory, got.Kind)
	require.Empty(t, got.Hint)
	require.Less(t, len(got.Message), 4<<10)
	require.Less(t, len(got.Log), 100)
}

// TestFailureHints checks that every kind has its hint, at the failed party and at others.
func TestFailureHints(t *testing.T) {
	for _, kind := range []FailureKind{FailedExit, FailedMemory, FailedImage, FailedStart, FailedInput,
		FailedOutput,
		FailedReported, FailedVanished,
		FailedRefused, FailedTimeout, FailedInternal, FailedUnknown} {
		f := &Failure{Kind: kind, NodeID: "B", Role: "host.0", Task: "a"}
		require.NotEmpty(t, f.WithHint("B", "j1").Hint, kind)
		require.NotEmpty(t, f.WithHint("A", "j1").Hint, kind)
		require.Empty(t, f.Hint)
	}
	shared := &Failure{Kind: FailedExit, NodeID: "B", Role: "host.0", Log: []string{"no column x"}}
	require.Equal(t, "read the last lines of its log; if they don't suffice, ask B for the rest",
		shared.WithHint("A", "j1").Hint)
	require.Contains(t, (&Failure{Kind: FailedMemory, Role: "host.1"}).WithHint("A", "j").Hint,
		"config.job_params.host.1.resources.memory")
}
