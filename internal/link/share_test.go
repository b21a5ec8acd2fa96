package link

import (
	"testing"

	"github.com/stretchr/testify/require"

	"hutong/internal/limits"
)

// TestMessagesLeaveConnections checks that the messages of HTTP/1.1 that may wait for their sender's rate,
// each with a connection, leave some for commands.
func TestMessagesLeaveConnections(t *testing.T) {
	require.LessOrEqual(t, limits.MaxWaiting, 6*maxConnections/10)
}
