package docker_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"hutong/activities/driver"
	"hutong/activities/driver/docker"
	"hutong/activities/driver/drivertest"
	"hutong/bfia"
)

// hostileImage builds the image of the hostile program.
func hostileImage(t *testing.T) string {
	t.Helper()
	needDocker(t)
	path, err := drivertest.Build("hutong/activities/driver/docker/testdata/hostile",
		filepath.Join(t.TempDir(), "hostile"))
	require.NoError(t, err)
	ref := "hutong-hostile-test:" + strings.ToLower(rand.Text())
	remove, err := importImage(path, ref, "VOLUME /data")
	require.NoError(t, err)
	t.Cleanup(remove)

	return ref
}

// newHostile returns a driver with small limits and a guarded network, on which only one port is open.
func newHostile(t *testing.T) (r *docker.Driver, gateway netip.Addr, open net.Listener) {
	t.Helper()
	r, err := docker.New(docker.Options{NodeID: "T" + rand.Text(), Slots: 2, CPUMilli: 2000,
		Memory: 256 << 20, TmpBytes: 16 << 20, SharedMemory: 16 << 20, Pids: 64})
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, r.RemoveNetwork(context.Background()))
		require.NoError(t, r.Close())
	})
	drivertest.RemoveAllAfter(t, r)
	gateway, err = r.EnsureNetwork(t.Context())
	require.NoError(t, err)
	open = serve(t, net.JoinHostPort(gateway.String(), "0"))
	port := uint16(open.Addr().(*net.TCPAddr).Port)
	if err := r.Guard(t.Context(), []uint16{port}); os.Geteuid() != 0 {
		require.ErrorIs(t, err, docker.ErrNoGuard)
		t.Skip("only root can close the machine's ports to containers")
	} else {
		require.NoError(t, err)
	}
	guarded, err := r.IsGuarded(t.Context())
	require.NoError(t, err)
	require.True(t, guarded)

	return r, gateway, open
}

// serve accepts and closes connections at an address of this machine.
func serve(t *testing.T, address string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go accept(l)

	return l
}

func accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		_ = c.Close()
	}
}

const (
	internet = "198.51.100.2" // of the block that RFC 5737 reserves
	metadata = "169.254.169.254"
)

// serveInternet serves TCP and UDP in a network namespace to which this machine forwards: as the internet,
// at port 53, and as a cloud's metadata service, at port 80.
func serveInternet(t *testing.T) {
	t.Helper()
	name := "hutong-" + strings.ToLower(rand.Text()[:6])
	ip := func(args string) {
		out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput()
		require.NoError(t, err, "ip %s: %s", args, out)
	}
	ip("netns add " + name)
	t.Cleanup(func() { ip("netns delete " + name) })
	ip("link add " + name + " type veth peer name eth0 netns " + name)
	ip("address add 198.51.100.1/30 dev " + name)
	ip("link set " + name + " up")
	ip("-n " + name + " address add " + internet + "/30 dev eth0")
	ip("-n " + name + " address add " + metadata + "/32 dev eth0")
	ip("-n " + name + " link set eth0 up")
	ip("-n " + name + " route add default via 198.51.100.1")
	ip("route add " + metadata + "/32 via " + internet)

	entered := make(chan error)
	go func() { // the thread ends with the goroutine, since it stays locked
		runtime.LockOSThread()
		entered <- func() error {
			space, err := os.Open("/run/netns/" + name)
			if err != nil {
				return err
			}
			defer func() { _ = space.Close() }()
			if err := unix.Setns(int(space.Fd()), unix.CLONE_NEWNET); err != nil {
				return err
			}
			for _, address := range []string{internet + ":53", metadata + ":80"} {
				l, err := net.Listen("tcp", address)
				if err != nil {
					return err
				}
				t.Cleanup(func() { _ = l.Close() })
				go accept(l)
			}
			udp, err := net.ListenPacket("udp", internet+":53")
			if err != nil {
				return err
			}
			t.Cleanup(func() { _ = udp.Close() })
			go echo(udp)
			return nil
		}()
	}()
	require.NoError(t, <-entered)
}

func echo(c net.PacketConn) {
	b := make([]byte, 512)
	for {
		n, from, err := c.ReadFrom(b)
		if err != nil {
			return
		}
		_, _ = c.WriteTo(b[:n], from)
	}
}

// machineAddresses returns addresses of this machine, except those of interfaces that come and go with other
// tests: Docker Engine's bridges, and those of the system tests.
func machineAddresses(t *testing.T) (addresses []string) {
	t.Helper()
	interfaces, err := net.Interfaces()
	require.NoError(t, err)
	for _, i := range interfaces {
		if strings.HasPrefix(i.Name, "br-") || strings.HasPrefix(i.Name, "ht") {
			continue
		}
		found, err := i.Addrs()
		require.NoError(t, err)
		for _, a := range found {
			ip := a.(*net.IPNet).IP
			if !ip.IsLoopback() && ip.To4() != nil && i.Flags&net.FlagUp != 0 {
				addresses = append(addresses, ip.String())
			}
		}
	}
	require.NotEmpty(t, addresses)

	return addresses
}

// TestHostileContainer runs a program that tries to leave its container, in a container of the driver and, to
// show that the attempts work, in one with Docker Engine's own defaults.
func TestHostileContainer(t *testing.T) {
	t.Parallel()
	image := hostileImage(t)
	r, gateway, open := newHostile(t)
	serveInternet(t)
	ctx := t.Context()

	_, other, err := net.SplitHostPort(serve(t, "0.0.0.0:0").Addr().String())
	require.NoError(t, err)
	neighbour := dockerSpec("listen", "8080", "address", "print", "ready", "forever")
	drivertest.Launch(t, ctx, r, neighbour)
	drivertest.AwaitLine(t, ctx, r, neighbour.Name, "ready")
	address := drivertest.Logs(t, ctx, r, neighbour.Name, false)[0]

	network := []string{"dial=" + internet + ":53", "udp=" + internet + ":53", "dial=" + metadata + ":80"}
	for _, a := range machineAddresses(t) {
		network = append(network, "dial="+net.JoinHostPort(a, other))
	}
	inside := []string{"write=/x", "write=/hutong/x", "write=/etc/hosts", "write=/dev/x", "fill=/tmp",
		"fill=/dev/shm", "setuid", "setuidfile=/tmp", "rawsocket", "packet", "chown", "mknod", "fork=200",
		"fill=/data"}
	// Docker Engine's defaults refuse these, too.
	never := []string{"processes", "mount", "remount", "userns", "hostname",
		fmt.Sprint("ptrace=", os.Getpid()),
		"unix=/var/run/docker.sock", "unix=/run/docker.sock", "unix=/run/containerd/containerd.sock",
		"read=/dev/mem", "read=/dev/kmsg", "read=/proc/kcore", "read=/proc/keys", "write=/proc/sysrq-trigger",
		"write=/proc/sys/kernel/core_pattern", "write=/proc/sys/vm/drop_caches",
		"write=/sys/kernel/uevent_helper",
		"write=/sys/fs/cgroup/release_agent", "read=/proc/1/root/root/.bashrc", "write=/dev/vda",
		"read=/dev/vda",
		"lookup=test.example.invalid"}

	spec := dockerSpec()
	spec.Image = image
	spec.Command = append([]string{"/prog", "whoami", "dial=hutong:" + portOf(open), "dial=" +
		open.Addr().String()}, network...)
	spec.Command = append(spec.Command, inside...)
	spec.Command = append(spec.Command, never...)
	spec.Command = append(spec.Command, "dial="+address+":8080",
		"dial="+net.JoinHostPort(gateway.String(), other), "udp="+gateway.String()+":53",
		"dial=[fe80::1%eth0]:"+other, "write=/tmp/own", "write=/hutong/logs/files/own")
	drivertest.Launch(t, ctx, r, spec)
	require.Equal(t, 0, drivertest.Await(t, ctx, r, spec.Name).Code)
	results := resultsOf(t, drivertest.Logs(t, ctx, r, spec.Name, true))
	require.Len(t, results, len(unique(spec.Command[1:])))
	allowed := []string{"dial=hutong:" + portOf(open), "dial=" + open.Addr().String(), "write=/tmp/own",
		"write=/hutong/logs/files/own"}
	for _, attempt := range allowed {
		require.Equal(t, "ALLOWED", results[attempt], attempt)
		delete(results, attempt)
	}
	require.Equal(t, "Uid 65532 65532 65532 65532, Gid 65532 65532 65532 65532, CapInh 0000000000000000, "+
		"CapPrm 0000000000000000, CapEff 0000000000000000, CapAmb 0000000000000000, NoNewPrivs 1, Seccomp 2",
		results["whoami"])
	for attempt, result := range results {
		require.NotContains(t, []string{"ALLOWED", "UNKNOWN"}, result, attempt)
	}
	require.Contains(t, results["fill=/tmp"], "no space left")
	require.Contains(t, results["fork=200"], "resource temporarily unavailable")

	weak := runWeak(t, image, append(append([]string{}, network...), inside...))
	for _, attempt := range network {
		require.Equal(t, "ALLOWED", weak[attempt], "the attempt would show nothing: %s", attempt)
	}
	for _, attempt := range inside {
		require.Equal(t, "ALLOWED", weak[attempt], "the attempt would show nothing: %s", attempt)
	}
}

func portOf(l net.Listener) string { return fmt.Sprint(l.Addr().(*net.TCPAddr).Port) }

func unique(list []string) map[string]bool {
	set := map[string]bool{}
	for _, s := range list {
		set[s] = true
	}

	return set
}

func resultsOf(t *testing.T, lines []string) map[string]string {
	t.Helper()
	results := map[string]string{}
	for _, line := range lines {
		attempt, result, ok := strings.Cut(line, "\t")
		require.True(t, ok, line)
		t.Log(line)
		results[attempt] = result
	}

	return results
}

// runWeak runs attempts in a container with Docker Engine's defaults.
func runWeak(t *testing.T, image string, attempts []string) map[string]string {
	t.Helper()
	engine, ctx := dockerClient(t), t.Context()
	made, err := engine.ContainerCreate(ctx, &container.Config{Image: image,
		Cmd: append([]string{"/prog"}, attempts...)}, &container.HostConfig{Tmpfs: map[string]string{
		"/tmp": "exec,suid,dev", "/hutong": ""}}, nil, nil, "")
	require.NoError(t, err)
	defer func() {
		require.NoError(t, engine.ContainerRemove(context.WithoutCancel(ctx), made.ID,
			container.RemoveOptions{Force: true, RemoveVolumes: true}))
	}()
	ended, failed := engine.ContainerWait(ctx, made.ID, container.WaitConditionNextExit)
	require.NoError(t, engine.ContainerStart(ctx, made.ID, container.StartOptions{}))
	select {
	case <-ended:
	case err := <-failed:
		t.Fatal(err)
	case <-time.After(5 * time.Minute):
		t.Fatal("it does not end")
	}
	out, err := exec.CommandContext(ctx, "docker", "logs", made.ID).Output()
	require.NoError(t, err)

	return resultsOf(t, strings.Split(strings.TrimSpace(string(out)), "\n"))
}

// TestMemoryBomb lets a container take more memory than its share of the machine.
func TestMemoryBomb(t *testing.T) {
	t.Parallel()
	image := hostileImage(t)
	r, err := docker.New(docker.Options{NodeID: "T" + rand.Text(), HostNetwork: true, Slots: 4,
		Memory: 128 << 20})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	drivertest.RemoveAllAfter(t, r)
	spec := dockerSpec("eat=1000")
	spec.Image = image
	drivertest.Launch(t, t.Context(), r, spec)
	exit := drivertest.Await(t, t.Context(), r, spec.Name)
	require.Equal(t, 137, exit.Code)

	enough := dockerSpec("eat=10")
	enough.Image = image
	drivertest.Launch(t, t.Context(), r, enough)
	require.Equal(t, 0, drivertest.Await(t, t.Context(), r, enough.Name).Code)
}

// TestProfile compares what Docker Engine knows of a container with a golden file. The first of its
// exceptions changes the user, the second the root file system, and nothing else.
func TestProfile(t *testing.T) {
	t.Parallel()
	needDocker(t)
	r, err := docker.New(docker.Options{NodeID: "T" + rand.Text(), Slots: 4, CPUMilli: 8000, Memory: 1 << 30})
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, r.RemoveNetwork(context.Background()))
		require.NoError(t, r.Close())
	})
	drivertest.RemoveAllAfter(t, r)
	in, out := t.TempDir(), t.TempDir()
	profile := func(allow bfia.Exceptions) map[string]any {
		spec := dockerSpec("exit", "0")
		spec.Allow = allow
		spec.Mounts = []driver.Mount{{Source: in, Target: "in", ReadOnly: true}, {Source: out, Target: "out"}}
		_, err := r.Create(t.Context(), spec)
		require.NoError(t, err)
		c, err := dockerClient(t).ContainerInspect(t.Context(), spec.Name)
		require.NoError(t, err)
		require.NotEmpty(t, c.HostConfig.MaskedPaths, "Docker Engine's default")
		require.NotEmpty(t, c.HostConfig.ReadonlyPaths, "Docker Engine's default")
		c.HostConfig.MaskedPaths, c.HostConfig.ReadonlyPaths = nil, nil
		if os.Geteuid() != 0 { // only then the container needs the worker's group
			c.HostConfig.GroupAdd = nil
		}
		if c.HostConfig.Runtime == "runc" { // the usual default
			c.HostConfig.Runtime = ""
		}
		c.HostConfig.NetworkMode, c.HostConfig.ExtraHosts = "ID", []string{"hutong:GATEWAY"}
		text, err := json.Marshal(map[string]any{"user": c.Config.User, "host": c.HostConfig})
		require.NoError(t, err)
		text = []byte(strings.NewReplacer(in, "IN", out, "OUT").Replace(string(text)))
		var read map[string]any
		require.NoError(t, json.Unmarshal(text, &read))
		return read
	}
	usual := profile(bfia.Exceptions{})
	indented, err := json.MarshalIndent(usual, "", "  ")
	require.NoError(t, err)
	want, err := os.ReadFile(filepath.Join("testdata", "profile.json"))
	require.NoError(t, err)
	require.JSONEq(t, string(want), string(indented))

	root := profile(bfia.Exceptions{Root: true})
	require.Empty(t, root["user"])
	root["user"] = usual["user"]
	require.Equal(t, usual, root)

	writable := profile(bfia.Exceptions{Writable: true})
	require.Equal(t, false, writable["host"].(map[string]any)["ReadonlyRootfs"])
	writable["host"].(map[string]any)["ReadonlyRootfs"] = true
	require.Equal(t, usual, writable)
}
