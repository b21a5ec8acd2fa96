package devserver

import (
	"fmt"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"hutong/internal/party"
)

// TestPartyPortInUse checks that the error names the flag with which the port is changed.
func TestPartyPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	port := l.Addr().(*net.TCPAddr).Port

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
