package runner_test

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

	"hutong/activities/runner"
)

func dockerClient(t testing.TB) *client.Client {
	c, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

// bridged is a runner with a network of its own, which goes with the test.
func bridged(t *testing.T) (*runner.Docker, runner.DockerOptions) {
	needDocker(t)
	opts := runner.DockerOptions{NodeID: "T" + rand.Text()}
	r, err := runner.NewDocker(opts)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, r.RemoveNetwork(context.Background()))
		require.NoError(t, r.Close())
	})
	cleaned(t, r)
	return r, opts
}

func dockerSpec(args ...string) runner.Spec {
	return runner.Spec{Name: "test-" + rand.Text(), Image: prog.image, Command: append([]string{"/prog"}, args...)}
}

func networksNamed(t *testing.T, docker *client.Client, name string) (ids []string) {
	list, err := docker.NetworkList(context.Background(), network.ListOptions{})
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
			other, err := runner.NewDocker(opts)
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
	docker := dockerClient(t)
	name := "hutong-" + strings.ToLower(opts.NodeID)
	ids := networksNamed(t, docker, name)
	require.Len(t, ids, 1)
	n, err := docker.NetworkInspect(ctx, ids[0], network.InspectOptions{})
	require.NoError(t, err)
	require.Equal(t, "false", n.Options["com.docker.network.bridge.enable_icc"])
	// Twins: the older stays.
	require.NoError(t, makeTwin(ctx, docker, name, opts.NodeID))
	require.Len(t, networksNamed(t, docker, name), 2)
	gateway, err := r.EnsureNetwork(ctx)
	require.NoError(t, err)
	require.Equal(t, gateways[0], gateway)
	require.Equal(t, ids, networksNamed(t, docker, name))
}

// makeTwin makes a second network of one name, as a race would: the client would ask the Engine to look first.
func makeTwin(ctx context.Context, docker *client.Client, name, nodeID string) error {
	body := `{"Name":"` + name + `","Driver":"bridge","Labels":{"hutong.node_id":"` + nodeID + `"}}`
	conn, err := docker.Dialer()(ctx)
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
	docker := dockerClient(t)
	made, err := docker.NetworkCreate(t.Context(), "test-"+rand.Text(), network.CreateOptions{Driver: "bridge"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, docker.NetworkRemove(context.Background(), made.ID)) })
	n, err := docker.NetworkInspect(t.Context(), made.ID, network.InspectOptions{})
	require.NoError(t, err)
	r, err := runner.NewDocker(runner.DockerOptions{NodeID: "T" + rand.Text(), Network: n.Name})
	require.NoError(t, err)
	defer func() { _ = r.Close() }()
	_, err = r.EnsureNetwork(t.Context())
	require.ErrorContains(t, err, n.Name)
	require.True(t, runner.IsPermanent(err))
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
	begin(t, ctx, r, spec)
	exit := end(t, ctx, r, spec.Name)
	require.Equal(t, []string{"welcome"}, logs(t, ctx, r, spec.Name, true))
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
	other, err := runner.NewDocker(opts)
	require.NoError(t, err)
	defer func() { _ = other.Close() }()
	require.NoError(t, other.RemoveNetwork(ctx))
	err = r.Start(ctx, spec.Name)
	require.ErrorContains(t, err, "network")
	require.False(t, runner.IsPermanent(err), "%v", err)
	require.NotErrorIs(t, err, runner.ErrNotFound)
	require.ErrorIs(t, err, runner.ErrCreateAgain)
	begin(t, ctx, r, spec) // the next attempt
	require.Equal(t, 3, end(t, ctx, r, spec.Name).Code)
}

func TestDockerImage(t *testing.T) {
	t.Parallel()
	d := dockerDevice(t)
	ctx := t.Context()
	spec := dockerSpec()
	spec.Command = nil
	begin(t, ctx, d.runner, spec)
	require.Equal(t, 0, end(t, ctx, d.runner, spec.Name).Code)
	require.Equal(t, []string{"the image's own command"}, logs(t, ctx, d.runner, spec.Name, true))

	spec = dockerSpec()
	spec.Image = "nobody/has-this:1.0"
	_, err := d.runner.Create(ctx, spec)
	require.True(t, runner.IsPermanent(err), "%v", err)
	require.ErrorContains(t, err, "docker pull nobody/has-this:1.0")
}

func TestDockerLimits(t *testing.T) {
	t.Parallel()
	d := dockerDevice(t)
	ctx := t.Context()
	spec := dockerSpec("eat", "200000000", "exit", "0")
	spec.Resources = runner.Resources{CPU: 0.5, Memory: 32 << 20}
	spec.Env = map[string]string{"config.token": "secret"}
	begin(t, ctx, d.runner, spec)
	exit := end(t, ctx, d.runner, spec.Name)
	require.Equal(t, 137, exit.Code)
	require.True(t, exit.OOMKilled)
	require.Equal(t, "out of memory: the limit is 33554432 bytes", exit.Reason)

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
	d := dockerDevice(t)
	ctx := t.Context()
	docker := dockerClient(t)
	spec := dockerSpec("forever")
	made, err := docker.ContainerCreate(ctx, &container.Config{Image: prog.image}, nil, nil, nil, spec.Name)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, docker.ContainerRemove(context.Background(), made.ID, container.RemoveOptions{Force: true}))
	})
	_, createErr := d.runner.Create(ctx, spec)
	_, waitErr := d.runner.Wait(ctx, spec.Name)
	for what, err := range map[string]error{
		"create": createErr, "wait": waitErr, "start": d.runner.Start(ctx, spec.Name), "stop": d.runner.Stop(ctx, spec.Name, 0),
		"logs": d.runner.Logs(ctx, spec.Name, false, io.Discard), "remove": d.runner.Remove(ctx, spec.Name),
	} {
		require.ErrorContains(t, err, "was not made by Hutong", what)
		require.True(t, runner.IsPermanent(err), what)
	}
	runs, err := d.runner.List(ctx)
	require.NoError(t, err)
	require.Empty(t, runs)
}

func TestDockerUnreachable(t *testing.T) {
	t.Parallel()
	r, err := runner.NewDocker(runner.DockerOptions{NodeID: "n", Host: "unix://" + filepath.Join(t.TempDir(), "none")})
	require.NoError(t, err)
	defer func() { _ = r.Close() }()
	_, createErr := r.Create(t.Context(), dockerSpec("exit", "0"))
	for _, err := range []error{createErr, r.Start(t.Context(), "name"), r.Stop(t.Context(), "name", 0), r.Remove(t.Context(), "name")} {
		require.Error(t, err)
		require.False(t, runner.IsPermanent(err), "%v", err)
		require.NotErrorIs(t, err, runner.ErrNotFound)
	}
	short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err = r.Wait(short, "name")
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

// TestDockerComesBack cuts all connections to the Engine while a run is waited
// for and its log followed, as a restart of the Engine does.
func TestDockerComesBack(t *testing.T) {
	t.Parallel()
	d := dockerDevice(t)
	ctx := t.Context()
	dir := tempDir(t)
	relay := newRelay(t, nil)
	runs, err := d.runner.List(ctx)
	require.NoError(t, err)
	require.Empty(t, runs)

	spec := dockerSpec()
	spec.Mounts = []runner.Mount{{Source: dir, Target: "out"}}
	file := d.runner.StorageRoot(spec.Name) + "/out/go"
	spec.Command = append(spec.Command, "print", "before", "wait", file, "print", "after", "exit", "6")
	begin(t, ctx, d.runner, spec)
	far, err := runner.NewDocker(runner.DockerOptions{NodeID: nodeOf(t, spec.Name), HostNetwork: true, Host: "unix://" + relay.address})
	require.NoError(t, err)
	defer func() { _ = far.Close() }()
	var group sync.WaitGroup
	group.Go(func() {
		exit, err := far.Wait(ctx, spec.Name)
		if err != nil || exit.Code != 6 {
			t.Errorf("%+v, %v", exit, err)
		}
	})
	f := &finder{text: "before", found: sync.OnceFunc(func() {
		// All is cut, the program ends meanwhile, and the Engine is back.
		relay.cut()
		touch(t, dir+"/go")
		if _, err := d.runner.Wait(ctx, spec.Name); err != nil {
			t.Error(err)
		}
		relay.listen(t)
	})}
	require.NoError(t, far.Logs(ctx, spec.Name, true, f))
	group.Wait()
	require.Equal(t, []string{"before", "after"}, texts(t, f.b.String()))
}

func nodeOf(t *testing.T, name string) string {
	c, err := dockerClient(t).ContainerInspect(t.Context(), name)
	require.NoError(t, err)
	return c.Config.Labels["hutong.node_id"]
}

// A relay is a socket in front of another that can be cut.
type relay struct {
	network, address, target string
	// request sees what the client sends before the Engine does; nil is nothing.
	request func(b []byte)

	mu       sync.Mutex
	listener net.Listener
	conns    []net.Conn
}

func newRelay(t *testing.T, request func(b []byte)) *relay {
	target := strings.TrimPrefix(dockerClient(t).DaemonHost(), "unix://")
	r := &relay{network: "unix", address: filepath.Join(t.TempDir(), "s"), target: target, request: request}
	r.listen(t)
	t.Cleanup(r.cut)
	return r
}

func (r *relay) listen(t *testing.T) {
	listener, err := net.Listen(r.network, r.address)
	if err != nil {
		t.Error(err)
		return
	}
	r.address = listener.Addr().String()
	r.mu.Lock()
	r.listener = listener
	r.mu.Unlock()
	go func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial(r.network, r.target)
			if err != nil {
				_ = near.Close()
				continue
			}
			r.mu.Lock()
			r.conns = append(r.conns, near, far)
			r.mu.Unlock()
			go func() { _, _ = io.Copy(watched{far, r.request}, near); _ = far.Close() }()
			go func() { _, _ = io.Copy(near, far); _ = near.Close() }()
		}
	}()
}

func (r *relay) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = r.listener.Close()
	for _, c := range r.conns {
		_ = c.Close()
	}
	r.conns = nil
}

func TestDockerContainersAreKeptApart(t *testing.T) {
	t.Parallel()
	r, _ := bridged(t)
	ctx := t.Context()
	server := dockerSpec("listen", "8080", "address", "print", "ready", "forever")
	begin(t, ctx, r, server)
	ready(t, ctx, r, server.Name, "ready")
	address := logs(t, ctx, r, server.Name, false)[0]
	// From the host it is reached, so the other's failure means something.
	conn, err := net.DialTimeout("tcp", net.JoinHostPort(address, "8080"), 10*time.Second)
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	spec := dockerSpec("cannotget", address+":8080")
	begin(t, ctx, r, spec)
	exit := end(t, ctx, r, spec.Name)
	require.Equal(t, 0, exit.Code, "%v", logs(t, ctx, r, spec.Name, false))
}

type watched struct {
	io.Writer
	see func(b []byte)
}

func (w watched) Write(b []byte) (int, error) {
	if w.see != nil {
		w.see(b)
	}
	return w.Writer.Write(b)
}

// TestDockerStartsOnce holds a start up after its look and before it reaches
// the Engine, while another runner starts the same run.
func TestDockerStartsOnce(t *testing.T) {
	t.Parallel()
	d := dockerDevice(t)
	ctx := t.Context()
	dir := tempDir(t)
	spec := dockerSpec("append", d.runner.StorageRoot("")+"/out/ran", "x")
	spec.Mounts = []runner.Mount{{Source: dir, Target: "out"}}
	_, err := d.runner.Create(ctx, spec)
	require.NoError(t, err)
	asked, release := make(chan struct{}), make(chan struct{})
	once := sync.OnceFunc(func() { close(asked) })
	relay := newRelay(t, func(b []byte) {
		if strings.HasPrefix(string(b), "POST ") && strings.Contains(string(b), "/start") {
			once()
			<-release
		}
	})
	slow, err := runner.NewDocker(runner.DockerOptions{NodeID: nodeOf(t, spec.Name), HostNetwork: true, Host: "unix://" + relay.address})
	require.NoError(t, err)
	defer func() { _ = slow.Close() }()
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { first <- slow.Start(ctx, spec.Name) }()
	<-asked
	go func() { second <- d.runner.Start(ctx, spec.Name) }()
	select {
	case err := <-second:
		// It was not kept from starting. When that has ended, the first one's start comes.
		second <- err
		end(t, ctx, d.runner, spec.Name)
	case <-time.After(time.Second):
	}
	close(release)
	require.NoError(t, <-first)
	require.NoError(t, <-second)
	require.Equal(t, 0, end(t, ctx, d.runner, spec.Name).Code)
	ran, err := os.ReadFile(filepath.Join(dir, "ran"))
	require.NoError(t, err)
	require.Equal(t, "x", string(ran))
}
