package drivertest

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/activities/driver"
)

// testUsage measures a program that uses a known amount of CPU time and memory, while it runs and afterwards.
func testUsage(t *testing.T, ctx context.Context, d Fixture) {
	meter, ok := d.Driver.(driver.Meter)
	if !ok {
		require.True(t, d.Kubernetes, "only the API of Kubernetes has no such numbers")
		return
	}
	const memory, cpu = 64 << 20, 300 * time.Millisecond
	dir := TempDir(t)
	spec := d.Spec()
	goal := d.Share(d.Driver, &spec, dir) + "/end"
	spec.Command = append(spec.Command, "eat", strconv.Itoa(memory), "burn", cpu.String(), "wait", goal)
	Launch(t, ctx, d.Driver, spec)
	require.Eventually(t, func() bool {
		u, err := meter.Usage(ctx, spec.Name)
		require.NoError(t, err)
		require.False(t, u.Final)
		return u.CPU != nil && *u.CPU >= cpu && u.PeakMemory != nil && *u.PeakMemory >= memory
	}, time.Minute, 50*time.Millisecond)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "end"), nil, 0o644))
	Await(t, ctx, d.Driver, spec.Name)

	u, err := meter.Usage(ctx, spec.Name)
	require.NoError(t, err)
	if d.Process {
		require.True(t, u.Final)
		require.GreaterOrEqual(t, *u.CPU, cpu)
		require.Less(t, *u.CPU, time.Minute)
		require.GreaterOrEqual(t, *u.PeakMemory, int64(memory))
		require.Less(t, *u.PeakMemory, int64(10*memory))
	} else {
		require.Equal(t, driver.Usage{}, u, "the end of a cgroup leaves nothing; that is no use of 0")
	}
	require.NoError(t, d.Driver.Remove(ctx, spec.Name))
	_, err = meter.Usage(ctx, spec.Name)
	require.ErrorIs(t, err, driver.ErrNotFound)
}
