package docker_test

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/client"
	"github.com/stretchr/testify/require"

	"hutong/activities/driver"
	"hutong/activities/driver/docker"
	"hutong/activities/driver/drivertest"
)

func dockerClient(t testing.TB) *client.Client {
	c, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

// bridged is a runner with a network of its own, which goes with the test.
func bridged(t *testing.T) (*docker.Driver, docker.Options) {
	needDocker(t)
	opts := docker.Options{NodeID: "T" + rand.Text()}
	r, err := docker.New(opts)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, r.RemoveNetwork(context.Background()))
		require.NoError(t, r.Close())
	})
	drivertest.RemoveAllAfter(t, r)
	return r, opts
}

func dockerSpec(args ...string) driver.Spec {
	return driver.Spec{Name: "test-" + rand.Text(), Image: prog.image, Command: append([]string{"/prog"}, args...)}
}

func networksNamed(t *testing.T, engine *client.Client, name string) (ids []string) {
	list, err := engine.NetworkList(context.Background(), network.ListOptions{})
	require.NoError(t, err)
	for _, n := range list {
		if n.Name == name {
			ids = append(ids, n.ID)
		}
	}
	return ids
}

func TestDockerEnsureNetwork(t *testing.T) {
	t.Parallel()
	r, opts := bridged(t)
	ctx := t.Context()
	var group sync.WaitGroup
	gateways := make([]netip.Addr, 6)
	for i := range gateways {
		group.Go(func() {
			other, err := docker.New(opts)
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = other.Close() }()
			if gateways[i], err = other.EnsureNetwork(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	for _, gateway := range gateways {
		require.True(t, gateway.Is4())
		require.Equal(t, gateways[0], gateway)
	}
	engine := dockerClient(t)
	name := "hutong-" + strings.ToLower(opts.NodeID)
	ids := networksNamed(t, engine, name)
	require.Len(t, ids, 1)
	n, err := engine.NetworkInspect(ctx, ids[0], network.InspectOptions{})
	require.NoError(t, err)
	require.Equal(t, "false", n.Options["com.docker.network.bridge.enable_icc"])
	// Twins: the older stays.
	require.NoError(t, makeTwin(ctx, engine, name, opts.NodeID))
	require.Len(t, networksNamed(t, engine, name), 2)
	gateway, err := r.EnsureNetwork(ctx)
	require.NoError(t, err)
	require.Equal(t, gateways[0], gateway)
	require.Equal(t, ids, networksNamed(t, engine, name))
}

// makeTwin makes a second network of one name, as a race would: the client would ask the Engine to look first.
func makeTwin(ctx context.Context, engine *client.Client, name, nodeID string) error {
	body := `{"Name":"` + name + `","Driver":"bridge","Labels":{"hutong.node_id":"` + nodeID + `"}}`
	conn, err := engine.Dialer()(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	request := "POST /v1.41/networks/create HTTP/1.0\r\nHost: docker\r\nContent-Type: application/json\r\nContent-Length: " +
		strconv.Itoa(len(body)) + "\r\n\r\n" + body
	if _, err := io.WriteString(conn, request); err != nil {
		return err
	}
	answer, err := io.ReadAll(conn)
	if err == nil && !strings.Contains(string(answer), " 201 ") {
		err = errors.New(string(answer))
	}
	return err
}

func TestDockerForeignNetwork(t *testing.T) {
	t.Parallel()
	needDocker(t)
	engine := dockerClient(t)
	made, err := engine.NetworkCreate(t.Context(), "test-"+rand.Text(), network.CreateOptions{Driver: "bridge"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, engine.NetworkRemove(context.Background(), made.ID)) })
	n, err := engine.NetworkInspect(t.Context(), made.ID, network.InspectOptions{})
	require.NoError(t, err)
	r, err := docker.New(docker.Options{NodeID: "T" + rand.Text(), Network: n.Name})
	require.NoError(t, err)
	defer func() { _ = r.Close() }()
	_, err = r.EnsureNetwork(t.Context())
	require.ErrorContains(t, err, n.Name)
	require.True(t, driver.IsNonRetryable(err))
}

func TestDockerReachesItsParty(t *testing.T) {
	t.Parallel()
	r, _ := bridged(t)
	ctx := t.Context()
	gateway, err := r.EnsureNetwork(ctx)
	require.NoError(t, err)
	party, err := net.Listen("tcp", net.JoinHostPort(gateway.String(), "0"))
	require.NoError(t, err)
	defer func() { _ = party.Close() }()
	go func() {
		for {
			conn, err := party.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, "welcome")
			_ = conn.Close()
		}
	}()
	_, port, err := net.SplitHostPort(party.Addr().String())
	require.NoError(t, err)
	spec := dockerSpec("get", "hutong:"+port)
	drivertest.Begin(t, ctx, r, spec)
	exit := drivertest.End(t, ctx, r, spec.Name)
	require.Equal(t, []string{"welcome"}, drivertest.Logs(t, ctx, r, spec.Name, true))
	require.Equal(t, 0, exit.Code)
}

// TestDockerNetworkVanishes removes the network between create and start.
func TestDockerNetworkVanishes(t *testing.T) {
	t.Parallel()
	r, opts := bridged(t)
	ctx := t.Context()
	spec := dockerSpec("exit", "3")
	_, err := r.Create(ctx, spec)
	require.NoError(t, err)
	other, err := docker.New(opts)
	require.NoError(t, err)
	defer func() { _ = other.Close() }()
	require.NoError(t, other.RemoveNetwork(ctx))
	err = r.Start(ctx, spec.Name)
	require.ErrorContains(t, err, "network")
	require.False(t, driver.IsNonRetryable(err), "%v", err)
	require.NotErrorIs(t, err, driver.ErrNotFound)
	require.ErrorIs(t, err, driver.ErrCreateAgain)
	drivertest.Begin(t, ctx, r, spec) // the next attempt
	require.Equal(t, 3, drivertest.End(t, ctx, r, spec.Name).Code)
}

func TestDockerImage(t *testing.T) {
	t.Parallel()
	d := newFixture(t)
	ctx := t.Context()
	spec := dockerSpec()
	spec.Command = nil
	drivertest.Begin(t, ctx, d.Driver, spec)
	require.Equal(t, 0, drivertest.End(t, ctx, d.Driver, spec.Name).Code)
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
	spec := dockerSpec("eat", "200000000", "exit", "0")
	spec.Resources = driver.Resources{CPU: 0.5, Memory: 32 << 20}
	spec.Env = map[string]string{"config.token": "secret"}
	drivertest.Begin(t, ctx, d.Driver, spec)
	exit := drivertest.End(t, ctx, d.Driver, spec.Name)
	require.Equal(t, 137, exit.Code)
	require.True(t, exit.OOMKilled)
	require.Equal(t, "out of memory: the limit is 32 MiB", exit.Reason)

	c, err := dockerClient(t).ContainerInspect(ctx, spec.Name)
	require.NoError(t, err)
	require.Equal(t, int64(5e8), c.HostConfig.NanoCPUs)
	require.Equal(t, []string{"ALL"}, []string(c.HostConfig.CapDrop))
	require.Contains(t, c.HostConfig.SecurityOpt, "no-new-privileges")
	require.Equal(t, int64(4096), *c.HostConfig.PidsLimit)
	require.Equal(t, "json-file", c.HostConfig.LogConfig.Type)
	for name, value := range c.Config.Labels {
		require.NotContains(t, name+value, "secret")
	}
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
		require.NoError(t, engine.ContainerRemove(context.Background(), made.ID, container.RemoveOptions{Force: true}))
	})
	_, createErr := d.Driver.Create(ctx, spec)
	_, waitErr := d.Driver.Wait(ctx, spec.Name)
	for what, err := range map[string]error{
		"create": createErr, "wait": waitErr, "start": d.Driver.Start(ctx, spec.Name), "stop": d.Driver.Stop(ctx, spec.Name, 0),
		"logs": d.Driver.Logs(ctx, spec.Name, false, io.Discard), "remove": d.Driver.Remove(ctx, spec.Name),
	} {
		require.ErrorContains(t, err, "was not created by Hutong", what)
		require.True(t, driver.IsNonRetryable(err), what)
	}
	runs, err := d.Driver.List(ctx)
	require.NoError(t, err)
	require.Empty(t, runs)
}

func TestDockerUnreachable(t *testing.T) {
	t.Parallel()
	r, err := docker.New(docker.Options{NodeID: "n", Host: "unix://" + filepath.Join(t.TempDir(), "none")})
	require.NoError(t, err)
	defer func() { _ = r.Close() }()
	_, createErr := r.Create(t.Context(), dockerSpec("exit", "0"))
	for _, err := range []error{createErr, r.Start(t.Context(), "name"), r.Stop(t.Context(), "name", 0), r.Remove(t.Context(), "name")} {
		require.Error(t, err)
		require.False(t, driver.IsNonRetryable(err), "%v", err)
		require.NotErrorIs(t, err, driver.ErrNotFound)
	}
	short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err = r.Wait(short, "name")
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

// TestDockerReconnects cuts all connections to the Engine while a run is waited
// for and its log followed, as a restart of the Engine does.
func TestDockerReconnects(t *testing.T) {
	t.Parallel()
	d := newFixture(t)
	ctx := t.Context()
	dir := drivertest.TempDir(t)
	relay := newRelay(t, nil)
	runs, err := d.Driver.List(ctx)
	require.NoError(t, err)
	require.Empty(t, runs)

	spec := dockerSpec()
	spec.Mounts = []driver.Mount{{Source: dir, Target: "out"}}
	file := d.Driver.StorageRoot(spec.Name) + "/out/go"
	spec.Command = append(spec.Command, "print", "before", "wait", file, "print", "after", "exit", "6")
	drivertest.Begin(t, ctx, d.Driver, spec)
	far, err := docker.New(docker.Options{NodeID: nodeOf(t, spec.Name), HostNetwork: true, Host: "unix://" + relay.Address})
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
		// All is cut, the program ends meanwhile, and the Engine is back.
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

func TestDockerContainersAreKeptApart(t *testing.T) {
	t.Parallel()
	r, _ := bridged(t)
	ctx := t.Context()
	server := dockerSpec("listen", "8080", "address", "print", "ready", "forever")
	drivertest.Begin(t, ctx, r, server)
	drivertest.AwaitLine(t, ctx, r, server.Name, "ready")
	address := drivertest.Logs(t, ctx, r, server.Name, false)[0]
	// From the host it is reached, so the other's failure means something.
	conn, err := net.DialTimeout("tcp", net.JoinHostPort(address, "8080"), 10*time.Second)
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	spec := dockerSpec("cannotget", address+":8080")
	drivertest.Begin(t, ctx, r, spec)
	exit := drivertest.End(t, ctx, r, spec.Name)
	require.Equal(t, 0, exit.Code, "%v", drivertest.Logs(t, ctx, r, spec.Name, false))
}

// TestDockerStartsOnce holds a start up after its look and before it reaches
// the Engine, while another runner starts the same run.
func TestDockerStartsOnce(t *testing.T) {
	t.Parallel()
	d := newFixture(t)
	ctx := t.Context()
	dir := drivertest.TempDir(t)
	spec := dockerSpec("append", d.Driver.StorageRoot("")+"/out/ran", "x")
	spec.Mounts = []driver.Mount{{Source: dir, Target: "out"}}
	_, err := d.Driver.Create(ctx, spec)
	require.NoError(t, err)
	asked, release := make(chan struct{}), make(chan struct{})
	once := sync.OnceFunc(func() { close(asked) })
	relay := newRelay(t, func(b []byte) {
		if strings.HasPrefix(string(b), "POST ") && strings.Contains(string(b), "/start") {
			once()
			<-release
		}
	})
	slow, err := docker.New(docker.Options{NodeID: nodeOf(t, spec.Name), HostNetwork: true, Host: "unix://" + relay.Address})
	require.NoError(t, err)
	defer func() { _ = slow.Close() }()
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { first <- slow.Start(ctx, spec.Name) }()
	<-asked
	go func() { second <- d.Driver.Start(ctx, spec.Name) }()
	select {
	case err := <-second:
		// It was not kept from starting. When that has ended, the first one's start comes.
		second <- err
		drivertest.End(t, ctx, d.Driver, spec.Name)
	case <-time.After(time.Second):
	}
	close(release)
	require.NoError(t, <-first)
	require.NoError(t, <-second)
	require.Equal(t, 0, drivertest.End(t, ctx, d.Driver, spec.Name).Code)
	ran, err := os.ReadFile(filepath.Join(dir, "ran"))
	require.NoError(t, err)
	require.Equal(t, "x", string(ran))
}

func newRelay(t *testing.T, request func(b []byte)) *drivertest.Relay {
	target := strings.TrimPrefix(dockerClient(t).DaemonHost(), "unix://")
	r := &drivertest.Relay{Network: "unix", Address: filepath.Join(t.TempDir(), "s"), Target: target, Request: request}
	r.Listen(t)
	t.Cleanup(r.Cut)
	return r
}
