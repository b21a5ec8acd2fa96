package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
)

// TestSummaryFailure checks the order of a failed job's summary: the first failure with its party, the last
// lines of the log, what to try, then other failures. Control characters are removed.
func TestSummaryFailure(t *testing.T) {
	f := &bfia.Failure{
		Kind:     bfia.FailedExit,
		NodeID:   "B",
		Role:     "host.0",
		Task:     "a",
		ExitCode: 3,
		Message:  "no\x1b[2J column",
		Log:      []string{"reading\x1b[A", "no such column"},
	}
	s := &bfia.JobStatus{
		JobID:   "j1",
		State:   bfia.JobFinished,
		Reason:  f.String(),
		Failure: f.WithHint("B", "j1"),
		Tasks: []bfia.TaskStatus{
			{Name: "a", State: bfia.TaskFailed, Reason: "B (host.0): exit code 3", Parties: []bfia.PartStatus{
				{
					NodeID: "A",
					Role:   "guest",
					State:  bfia.TaskFailed,
					Reason: "stopped, since the task failed at B",
				},
				{NodeID: "B", Role: "host", State: bfia.TaskFailed, Reason: "exit code 3", Failure: f}}},
			{Name: "b", State: bfia.TaskReady}},
	}
	lines := summary(s, view{width: 10})
	require.Equal(t, []string{"FAILED  task a failed at B (host.0): exit code 3: no [2J column",
		"        | reading", "        | no such column",
		"        try: read its log: hutong job logs j1 --task a --role host.0",
		"FAILED  a guest.0 at A: stopped, since the task failed at B"}, lines[:5], strings.Join(lines, "\n"))

	s.Failure = &bfia.Failure{Kind: bfia.FailedRejected, By: "B", NodeID: "B"}
	s.State, s.Tasks = bfia.JobRejected, s.Tasks[1:]
	require.Equal(t, "REJECTED  rejected by B", summary(s, view{})[0])
	s.Failure = &bfia.Failure{Kind: bfia.FailedStopped, By: "B"}
	require.Equal(t, "STOPPED  stopped by B", summary(s, view{})[0])
}
