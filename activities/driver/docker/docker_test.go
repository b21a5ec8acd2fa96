package docker_test

import (
	"context"
	"crypto/rand"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"
	"github.com/stretchr/testify/require"

	"hutong/activities/driver"
	"hutong/activities/driver/docker"
	"hutong/activities/driver/drivertest"
	"hutong/bfia"
)

func dockerClient(t testing.TB) *client.Client {
	c, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

func dockerSpec(args ...string) driver.Spec {
	return driver.Spec{
		Name:    "test-" + rand.Text(),
		Image:   prog.image,
		Command: append([]string{"/prog"}, args...),
	}
}

func TestDockerImage(t *testing.T) {
	t.Parallel()
	d := newFixture(t)
	ctx := t.Context()
	spec := dockerSpec()
	spec.Command = nil
	drivertest.Launch(t, ctx, d.Driver, spec)
	require.Equal(t, 0, drivertest.Await(t, ctx, d.Driver, spec.Name).Code)
	require.Equal(t, []string{"the image's own command"}, drivertest.Logs(t, ctx, d.Driver, spec.Name, true))

	spec = dockerSpec()
	spec.Image = "nobody/has-this:1.0"
	_, err := d.Driver.Create(ctx, spec)
	require.True(t, driver.IsNonRetryable(err), "%v", err)
	require.ErrorContains(t, err, "docker pull nobody/has-this:1.0")
}

func TestDockerLimits(t *testing.T) {
	t.Parallel()
	d := newFixture(t)
	ctx := t.Context()
	dir := drivertest.TempDir(t)
	spec := dockerSpec()
	started := d.Share(d.Driver, &spec, dir) + "/started"
	spec.Command = append(spec.Command, "wait", started, "eat", "200000000", "exit", "0")
	spec.Resources = bfia.Resources{CPUMilli: 500, Memory: 32 << 20}
	spec.Env = map[string]string{"config.token": "secret"}
	drivertest.Launch(t, ctx, d.Driver, spec)
	// Docker Engine watches a container's memory only from the end of its start: an earlier kill has no known
	// cause.
	require.NoError(t, os.WriteFile(filepath.Join(dir, "started"), nil, 0o644))
	exit := drivertest.Await(t, ctx, d.Driver, spec.Name)
	require.Equal(t, 137, exit.Code)
	require.True(t, exit.OOMKilled)
	require.Equal(t, "out of memory: the limit is 32 MiB", exit.Reason)

	c, err := dockerClient(t).ContainerInspect(ctx, spec.Name)
	require.NoError(t, err)
	require.Equal(t, int64(5e8), c.HostConfig.NanoCPUs)
	require.Equal(t, []string{"ALL"}, []string(c.HostConfig.CapDrop))
	require.Contains(t, c.HostConfig.SecurityOpt, "no-new-privileges")
	require.Equal(t, "json-file", c.HostConfig.LogConfig.Type)
	for name, value := range c.Config.Labels {
		require.NotContains(t, name+value, "secret")
	}
}

// A container's GPUs reach Docker Engine as requests, or as device files. A device file is usable there.
func TestDockerGPUs(t *testing.T) {
	t.Parallel()
	d := newFixture(t)
	ctx := t.Context()
	spec := dockerSpec("exit", "0")
	spec.GPUs = []string{"1", "GPU-8f3c11aa", "vendor.com/gpu=all", "/dev/full"}
	_, err := d.Driver.Create(ctx, spec)
	require.NoError(t, err)
	c, err := dockerClient(t).ContainerInspect(ctx, spec.Name)
	require.NoError(t, err)
	require.Equal(t, []container.DeviceMapping{
		{PathOnHost: "/dev/full", PathInContainer: "/dev/full",
			CgroupPermissions: "rwm"}}, c.HostConfig.Devices)
	requests := c.HostConfig.DeviceRequests
	require.Len(t, requests, 2)
	require.Equal(t, "nvidia", requests[0].Driver)
	require.Equal(t, []string{"1", "GPU-8f3c11aa"}, requests[0].DeviceIDs)
	require.Equal(t, [][]string{{"gpu"}}, requests[0].Capabilities)
	require.Equal(t, "cdi", requests[1].Driver)
	require.Equal(t, []string{"vendor.com/gpu=all"}, requests[1].DeviceIDs)

	const device = "/dev/fuse" // no container has it by default
	if _, err := os.Stat(device); err != nil {
		t.Skip(err)
	}
	spec = dockerSpec("wait", device, "exit", "0")
	spec.GPUs = []string{device}
	drivertest.Launch(t, ctx, d.Driver, spec)
	require.Equal(t, 0, drivertest.Await(t, ctx, d.Driver, spec.Name).Code)

	spec.Name, spec.GPUs = "test-"+rand.Text(), []string{"two"}
	_, err = d.Driver.Create(ctx, spec)
	require.True(t, driver.IsNonRetryable(err))
	require.ErrorContains(t, err,
		`gpu: must be an index or UUID that nvidia-smi -L shows, a CDI name such as `+
			`nvidia.com/gpu=0, or the path of a device file below /dev, but is "two"`)
}

// /dev/shm follows the memory limit, the configuration, or the machine's memory, as the container sees it.
func TestDockerSharedMemory(t *testing.T) {
	t.Parallel()
	d := newFixture(t)
	ctx := t.Context()
	shm := func(r driver.Driver, memory int64) int64 {
		spec := dockerSpec("size", "/dev/shm", "exit", "0")
		spec.Resources.Memory = memory
		drivertest.Launch(t, ctx, r, spec)
		require.Equal(t, 0, drivertest.Await(t, ctx, r, spec.Name).Code)
		size, err := strconv.ParseInt(drivertest.Logs(t, ctx, r, spec.Name, true)[0], 10, 64)
		require.NoError(t, err)
		return size
	}
	require.Equal(t, int64(300<<20), shm(d.Driver, 300<<20))
	require.Equal(t, int64(20<<20), shm(d.Driver, 20<<20), "less than Docker Engine's default")

	info, err := dockerClient(t).Info(ctx)
	require.NoError(t, err)
	require.InDelta(t, info.MemTotal/2, shm(d.Driver, 0), 1<<20)

	configured, err := docker.New(docker.Options{NodeID: "T" + rand.Text(), HostNetwork: true,
		SharedMemory: 128 << 20})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, configured.Close()) })
	drivertest.RemoveAllAfter(t, configured)
	require.Equal(t, int64(128<<20), shm(configured, 300<<20))
}

func TestDockerForeignContainer(t *testing.T) {
	t.Parallel()
	d := newFixture(t)
	ctx := t.Context()
	engine := dockerClient(t)
	spec := dockerSpec("forever")
	made, err := engine.ContainerCreate(ctx, &container.Config{Image: prog.image}, nil, nil, nil, spec.Name)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t,
			engine.ContainerRemove(context.Background(), made.ID, container.RemoveOptions{Force: true}))
	})
	_, createErr := d.Driver.Create(ctx, spec)
	_, waitErr := d.Driver.Wait(ctx, spec.Name)
	for what, err := range map[string]error{
		"create": createErr, "wait": waitErr,
		"start": d.Driver.Start(ctx, spec.Name), "stop": d.Driver.Stop(ctx, spec.Name, 0),
		"logs": d.Driver.Logs(ctx, spec.Name, false, io.Discard), "remove": d.Driver.Remove(ctx, spec.Name),
	} {
		require.ErrorContains(t, err, "was not created by Hutong", what)
		require.True(t, driver.IsNonRetryable(err), what)
	}
	containers, err := d.Driver.List(ctx)
	require.NoError(t, err)
	require.Empty(t, containers)
}

func TestDockerUnreachable(t *testing.T) {
	t.Parallel()
	r, err := docker.New(docker.Options{NodeID: "n", Host: "unix://" + filepath.Join(t.TempDir(), "none")})
	require.NoError(t, err)
	defer func() { _ = r.Close() }()
	_, createErr := r.Create(t.Context(), dockerSpec("exit", "0"))
	for _, err := range []error{
		createErr, r.Start(t.Context(), "name"), r.Stop(t.Context(), "name", 0),
		r.Remove(t.Context(), "name"),
	} {
		require.Error(t, err)
		require.False(t, driver.IsNonRetryable(err), "%v", err)
		require.NotErrorIs(t, err, driver.ErrNotFound)
	}
	short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err = r.Wait(short, "name")
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

// TestDockerReconnects cuts all connections to Docker Engine during a Wait and a followed log, as a restart
// does.
func TestDockerReconnects(t *testing.T) {
	t.Parallel()
	d := newFixture(t)
	ctx := t.Context()
	dir := drivertest.TempDir(t)
	relay := newRelay(t, nil)
	containers, err := d.Driver.List(ctx)
	require.NoError(t, err)
	require.Empty(t, containers)

	spec := dockerSpec()
	spec.Mounts = []driver.Mount{{Source: dir, Target: "out"}}
	file := d.Driver.StorageRoot(spec.Name) + "/out/go"
	spec.Command = append(spec.Command, "print", "before", "wait", file, "print", "after", "exit", "6")
	drivertest.Launch(t, ctx, d.Driver, spec)
	far, err := docker.New(
		docker.Options{NodeID: nodeOf(t, spec.Name), HostNetwork: true, Host: "unix://" + relay.Address},
	)
	require.NoError(t, err)
	defer func() { _ = far.Close() }()
	var group sync.WaitGroup
	group.Go(func() {
		exit, err := far.Wait(ctx, spec.Name)
		if err != nil || exit.Code != 6 {
			t.Errorf("%+v, %v", exit, err)
		}
	})
	f := &drivertest.Finder{Text: "before", Found: sync.OnceFunc(func() {
		// The program ends while Docker Engine is unreachable.
		relay.Cut()
		drivertest.Touch(t, dir+"/go")
		if _, err := d.Driver.Wait(ctx, spec.Name); err != nil {
			t.Error(err)
		}
		relay.Listen(t)
	})}
	require.NoError(t, far.Logs(ctx, spec.Name, true, f))
	group.Wait()
	require.Equal(t, []string{"before", "after"}, drivertest.Lines(t, f.String()))
}

func nodeOf(t *testing.T, name string) string {
	c, err := dockerClient(t).ContainerInspect(t.Context(), name)
	require.NoError(t, err)
	return c.Config.Labels["hutong.node_id"]
}

// TestDockerStartsOnce delays a start between its inspection and its request to Docker Engine, while another
// driver starts the same container.
func TestDockerStartsOnce(t *testing.T) {
	t.Parallel()
	d := newFixture(t)
	ctx := t.Context()
	dir := drivertest.TempDir(t)
	spec := dockerSpec("append", d.Driver.StorageRoot("")+"/out/ran", "x")
	spec.Mounts = []driver.Mount{{Source: dir, Target: "out"}}
	_, err := d.Driver.Create(ctx, spec)
	require.NoError(t, err)
	requested, release := make(chan struct{}), make(chan struct{})
	once := sync.OnceFunc(func() { close(requested) })
	relay := newRelay(t, func(b []byte) {
		if strings.HasPrefix(string(b), "POST ") && strings.Contains(string(b), "/start") {
			once()
			<-release
		}
	})
	slow, err := docker.New(
		docker.Options{NodeID: nodeOf(t, spec.Name), HostNetwork: true, Host: "unix://" + relay.Address},
	)
	require.NoError(t, err)
	defer func() { _ = slow.Close() }()
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { first <- slow.Start(ctx, spec.Name) }()
	<-requested
	go func() { second <- d.Driver.Start(ctx, spec.Name) }()
	select {
	case err := <-second:
		// The lock did not prevent it. The first start follows after the container has ended.
		second <- err
		drivertest.Await(t, ctx, d.Driver, spec.Name)
	case <-time.After(time.Second):
	}
	close(release)
	require.NoError(t, <-first)
	require.NoError(t, <-second)
	require.Equal(t, 0, drivertest.Await(t, ctx, d.Driver, spec.Name).Code)
	ran, err := os.ReadFile(filepath.Join(dir, "ran"))
	require.NoError(t, err)
	require.Equal(t, "x", string(ran))
}

func newRelay(t *testing.T, request func(b []byte)) *drivertest.Relay {
	target := strings.TrimPrefix(dockerClient(t).DaemonHost(), "unix://")
	r := &drivertest.Relay{
		Network: "unix",
		Address: filepath.Join(t.TempDir(), "s"),
		Target:  target,
		Request: request,
	}
	r.Listen(t)
	t.Cleanup(r.Cut)
	return r
}
