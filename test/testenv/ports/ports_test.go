package ports

import (
	"net"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestFree checks that ports are consecutive, returned once, and not in use.
func TestFree(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	require.False(t, isFree("127.0.0.1", l.Addr().(*net.TCPAddr).Port, 1))
	seen := map[int]bool{}
	for range 200 {
		port, err := Free("127.0.0.1", 3)
		require.NoError(t, err)
		for i := port; i < port+3; i++ {
			require.False(t, seen[i], "port %d was returned twice", i)
			require.True(t, first <= i && i <= last)
			seen[i] = true
		}
	}
	_, err = Free("127.0.0.1", last-first+1)
	require.Error(t, err, "some ports are taken")
}

func TestAddress(t *testing.T) {
	address, err := Address()
	require.NoError(t, err)
	host, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1", host)
	n, err := strconv.Atoi(port)
	require.NoError(t, err)
	require.True(t, taken[n])
}
