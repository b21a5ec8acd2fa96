package main

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestStartsOfProcesses checks that each start of a process counts, with its time, and that a line which says
// something else is an error and not ignored.
func TestStartsOfProcesses(t *testing.T) {
	p := &party{name: "third", dir: t.TempDir()}
	starts, err := p.listStarts()
	require.NoError(t, err)
	require.Empty(t, starts)
	lines := "hutong-a 5000000000\nhutong-b 6\nhutong-a 7\n"
	require.NoError(t, os.WriteFile(p.startLog(), []byte(lines), 0o600))
	starts, err = p.listStarts()
	require.NoError(t, err)
	require.Equal(t, map[string][]time.Time{"hutong-a": {time.Unix(5, 0), time.Unix(0, 7)},
		"hutong-b": {time.Unix(0, 6)}}, starts)
	require.NoError(t, os.WriteFile(p.startLog(), []byte("hutong-a\n"), 0o600))
	_, err = p.listStarts()
	require.ErrorContains(t, err, "hutong-a")
}

// TestCreationsAreCountedOnce checks that a container counts once however often its events are read, from the
// first of them on.
func TestCreationsAreCountedOnce(t *testing.T) {
	c := newCreationCounter()
	c.add("run", "id1", minute(2))
	c.add("run", "id1", minute(1))
	c.add("run", "id2", minute(3))
	p := &party{dockerSocket: "a socket", creations: c}
	starts, err := p.listStarts()
	require.NoError(t, err)
	require.Equal(t, map[string][]time.Time{"run": {minute(1), minute(3)}}, starts)
}
