package main

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"hutong/internal/capacity"
)

// TestCapacity checks what a reader of the prediction sees, and that twice the load needs twice as much.
func TestCapacity(t *testing.T) {
	p := newParty(t, nil)
	status, stdout, stderr := p.run(t, "capacity")
	require.Equal(t, exitOK, status, stderr)
	for _, want := range []string{"At the busiest hour: 0.069 jobs a second", "PROCESS", "api",
		"Temporal's database", "3.5 MB/s", "LIMIT", "the one transport process", "From costs measured 20"} {
		require.Contains(t, stdout, want)
	}

	predict := func(args ...string) (plan capacity.Plan) {
		status, stdout, stderr := p.run(t, append([]string{"capacity", "--json"}, args...)...)
		require.Equal(t, exitOK, status, stderr)
		require.NoError(t, json.Unmarshal([]byte(stdout), &plan))
		return plan
	}
	one := predict("--scheduled", "1000", "--joined", "0", "--sent", "1GB")
	two := predict("--scheduled", "2000", "--joined", "0", "--sent", "1GB")
	require.InDelta(t, 2*one.Database, two.Database, 1)
	require.InDelta(t, 2*one.Sent, two.Sent, 1)
	require.InDelta(t, 3*1e9*1000/(24*60*60), one.Sent, 1)

	for args, want := range map[string]string{
		"--tasks=0":   "tasks: must be at least 1, not 0",
		"--peak=0.5":  "peak: must be at least 1, not 0.5",
		"--sent=much": "must be a number of bytes, such as 50MB or 2GiB",
		"--use=2":     "use: must be at most 1, not 2",
	} {
		status, _, stderr := p.run(t, "capacity", args)
		require.Equal(t, exitUsage, status)
		require.Contains(t, stderr, want)
	}
	require.Equal(t, []string{"0.069", "12", "1.2", "1,235", "100"},
		[]string{formatNumber(0.0694), formatNumber(12.3), formatNumber(1.23), formatNumber(1234.6),
			formatNumber(99.7)})
}
