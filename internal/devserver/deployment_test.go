package devserver

import (
	"fmt"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"hutong/internal/party"
	"hutong/test/testenv/ports"
)

// TestSharedEnvironment checks which variables hold for all parties, and that options override them.
func TestSharedEnvironment(t *testing.T) {
	o := Options{DataDir: t.TempDir(), Parties: DefaultParties(), Environ: []string{
		"HUTONG_JOBS_APPROVAL=manual", "HUTONG_RUNNER_GPUS=0,1", "HUTONG_RUNNER_SLOTS=3",
		"HUTONG_NODE_ID=X", "HUTONG_LISTEN=127.0.0.1:1", "HUTONG_DATABASE_URL=postgres://x", "HUTONG_URL=y"}}
	parties, err := configs(o)
	require.NoError(t, err)
	require.Len(t, parties, 2)
	for i, cfg := range parties {
		require.Equal(t, party.ApprovalManual, cfg.Jobs.Approval)
		require.Equal(t, []string{"0", "1"}, cfg.Runner.GPUs)
		require.Equal(t, 3, cfg.Runner.Slots)
		require.Equal(t, o.Parties[i].NodeID, cfg.NodeID)
		require.Equal(t, o.Parties[i].Listen, cfg.Listen)
		require.NotContains(t, cfg.Database.URL, "postgres")
	}

	o.Slots = 5
	parties, err = configs(o)
	require.NoError(t, err)
	require.Equal(t, 5, parties[1].Runner.Slots)

	o.Environ = []string{"HUTONG_JOBS_APPROVAL=manully"}
	_, err = configs(o)
	require.ErrorContains(t, err, "jobs.approval")
}

// TestPartyPortInUse checks that the error names the flag with which the port is changed.
func TestPartyPortInUse(t *testing.T) {
	before, err := ports.Free("127.0.0.1", 2) // the port before it is free
	require.NoError(t, err)
	port := before + 1
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	require.NoError(t, err)
	defer func() { _ = l.Close() }()

	for what, listen := range map[string]string{
		"API":       fmt.Sprintf("127.0.0.1:%d", port),
		"transport": fmt.Sprintf("127.0.0.1:%d", port-1),
	} {
		_, err = Start(t.Context(), Options{DataDir: t.TempDir(), Docker: party.SwitchOff,
			Parties: []PartyAddress{{"A", listen}}})
		require.ErrorContains(t, err, fmt.Sprintf(
			"--party: 127.0.0.1:%d is in use, where the %s of party A would listen: stop the program that listens "+
				"there, or choose other ports with --party A=127.0.0.1:PORT", port, what))
	}
}
