package docker_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"hutong/activities/driver"
	"hutong/activities/driver/docker"
	"hutong/activities/driver/drivertest"
)

// A container that runs as root leaves folders and files that only root can read. The party runs as an
// ordinary user, and can read and remove them afterwards.
func TestDockerOwnOutputs(t *testing.T) {
	needDocker(t)
	dir := drivertest.AsOrdinaryUser(t, prog.image)
	if dir == "" {
		return
	}
	r, err := docker.New(docker.Options{NodeID: "T-own", HostNetwork: true})
	require.NoError(t, err)
	defer func() { _ = r.Close() }()
	out := filepath.Join(dir, "out")
	require.NoError(t, os.Mkdir(out, 0o777))
	spec := dockerSpec("secret", "/hutong/storage/out", "exit", "0")
	spec.Mounts = []driver.Mount{{Source: out, Target: "out"}}
	ctx := context.Background()
	_, err = r.Create(ctx, spec)
	require.NoError(t, err)
	defer func() { require.NoError(t, r.Remove(ctx, spec.Name)) }()
	require.NoError(t, r.Start(ctx, spec.Name))
	exit, err := r.Wait(ctx, spec.Name)
	require.NoError(t, err)
	require.Equal(t, 0, exit.Code)
	_, err = os.ReadDir(filepath.Join(out, "private"))
	require.ErrorIs(t, err, os.ErrPermission, "the test would show nothing")

	for range 2 { // it can be repeated
		require.NoError(t, r.OwnOutputs(ctx, spec.Name))
		for _, name := range []string{"private/deep/data", "public/data", "data"} {
			content, err := os.ReadFile(filepath.Join(out, name))
			require.NoError(t, err)
			require.Equal(t, "rows of "+name, string(content))
		}
	}
	require.NoError(t, os.RemoveAll(out))
}
