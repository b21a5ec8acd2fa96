package doctor

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/internal/link"
)

// TestLinks checks what the doctor says of the links with a partner.
func TestLinks(t *testing.T) {
	commands := link.State{Services: []link.Service{link.Commands}, Since: time.Unix(1_800_000_000, 0)}
	messages := link.State{Services: []link.Service{link.Messages}, Since: time.Unix(1_800_000_060, 0)}
	check := judgeLinks([]link.State{messages, commands}, "the links of P", "start it")
	require.Equal(t, OK, check.State)
	require.Equal(t, "2 of the links of P up, the oldest since 2027-01-15 08:00:00Z", check.Detail)
	check = judgeLinks([]link.State{commands}, "the links of P", "start it")
	require.Equal(t, Failed, check.State)
	require.Equal(t, "of the links of P, none for messages is up", check.Detail)
	check = judgeLinks(nil, "the links of P", "start it")
	require.Equal(t, Failed, check.State)
	require.Contains(t, check.Detail, "none for commands is up, none for messages is up")
	require.Equal(t, Failed, checkInboundLinks(t.Context(), "P", nil).State)
}
