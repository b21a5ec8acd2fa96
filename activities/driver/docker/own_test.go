package docker_test

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"hutong/activities/driver"
	"hutong/activities/driver/docker"
	"hutong/activities/driver/drivertest"
	"hutong/bfia"
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

// TestDockerExceptions runs the program as root of its container, on a writable root file system. A file that
// it leaves setuid loses that bit.
func TestDockerExceptions(t *testing.T) {
	t.Parallel()
	d := newFixture(t)
	out := drivertest.TempDir(t)
	usual := dockerSpec("cannotappend", "/own", "cannotappend", "/hutong/storage/own", "append",
		"/hutong/storage/out/usual", "x", "append", "/tmp/own", "x", "exit", "0")
	allowed := dockerSpec("append", "/own", "x", "append", "/hutong/storage/out/allowed", "x", "setuid",
		"/hutong/storage/out/allowed", "exit", "0")
	allowed.Allow = bfia.Exceptions{Root: true, Writable: true}
	for _, spec := range []driver.Spec{usual, allowed} {
		spec.Mounts = []driver.Mount{{Source: out, Target: "out"}}
		drivertest.Launch(t, t.Context(), d.Driver, spec)
		exit := drivertest.Await(t, t.Context(), d.Driver, spec.Name)
		require.Equal(t, 0, exit.Code, "%v", drivertest.Logs(t, t.Context(), d.Driver, spec.Name, false))
		if spec.Allow.Root {
			info, err := os.Stat(filepath.Join(out, "allowed"))
			require.NoError(t, err)
			require.NotZero(t, info.Mode()&os.ModeSetuid, "the test would show nothing")
		}
		require.NoError(t, d.Driver.(driver.OutputOwner).OwnOutputs(t.Context(), spec.Name))
	}
	for name, mode := range map[string]os.FileMode{"usual": 0o644, "allowed": 0o644,
		".": 0o755 | os.ModeDir} {
		info, err := os.Stat(filepath.Join(out, name))
		require.NoError(t, err)
		require.Equal(t, mode, info.Mode(), name)
		require.Equal(t, uint32(os.Geteuid()), info.Sys().(*syscall.Stat_t).Uid, name)
	}
}
