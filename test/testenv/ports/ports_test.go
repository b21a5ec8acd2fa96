package ports

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
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
	_, err = Free("127.0.0.1", blockSize+1)
	require.Error(t, err, "a block has fewer")
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

// TestOtherProcesses checks that a process gets no port of another one that still runs.
func TestOtherProcesses(t *testing.T) {
	if os.Getenv("HUTONG_TEST_PORTS") != "" {
		port, err := Free("127.0.0.1", 5)
		require.NoError(t, err)
		fmt.Println("port", port)
		_, _ = io.Copy(io.Discard, os.Stdin) // until the other process has its ports too
		return
	}
	own := map[int]bool{}
	for range 50 {
		port, err := Free("127.0.0.1", 5)
		require.NoError(t, err)
		own[(port-first)/blockSize] = true
	}
	seen := map[int]bool{}
	for range 5 {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestOtherProcesses$")
		cmd.Env = append(os.Environ(), "HUTONG_TEST_PORTS=1")
		stdin, err := cmd.StdinPipe()
		require.NoError(t, err)
		stdout, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		t.Cleanup(func() { _ = stdin.Close(); _ = cmd.Wait() })
		var port int
		_, err = fmt.Fscanf(stdout, "port %d\n", &port)
		require.NoError(t, err)
		block := (port - first) / blockSize
		require.False(t, own[block] || seen[block], "port %d is in a block of another process", port)
		seen[block] = true
	}
}
