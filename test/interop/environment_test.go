package interop

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/docker/docker/api/types/build"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/client"
	"github.com/stretchr/testify/require"

	"hutong/internal/image"
	"hutong/test/testenv"
)

const (
	hutongNode   = "JG0100001100000071"
	fateFlowNode = "JG0100001100000072"
)

// environment is one Hutong party and one FATE-Flow party with everything they need. All tests share it,
// since its start takes a while, and since a party must also work after earlier disturbances.
type environment struct {
	dir        string // of this run, with everything's logs
	cache      string // what is kept between runs
	docker     *client.Client
	hutong     *hutongParty
	fateFlow   *fateFlowParty
	toFateFlow *proxy // between Hutong and FATE-Flow
	toHutong   *proxy // between FATE-Flow and Hutong
}

var sharedState struct {
	sync.Mutex
	environment *environment
	tried       bool
	ends        []func()
}

// atExit registers a function to be called after all tests.
func atExit(f func()) { sharedState.ends = append(sharedState.ends, f) }

func TestMain(m *testing.M) {
	code := testenv.Main(m)
	for _, f := range slices.Backward(sharedState.ends) {
		f()
	}
	os.Exit(code)
}

// sharedEnvironment returns the shared environment, started and without disturbances. Without
// HUTONG_INTEROP=1 the test is skipped.
func sharedEnvironment(t *testing.T) *environment {
	t.Helper()
	if os.Getenv("HUTONG_INTEROP") != "1" {
		t.Skip("run 'make interop', which installs FATE-Flow and sets HUTONG_INTEROP=1")
	}
	if sharedState.environment == nil {
		require.False(t, sharedState.tried, "the parties failed to start in an earlier test")
		sharedState.tried = true
		sharedState.environment = newEnvironment(t)
	}
	env := sharedState.environment
	env.toFateFlow.reset()
	env.toHutong.reset()
	t.Cleanup(func() {
		env.toFateFlow.reset()
		env.toHutong.reset()
		if t.Failed() {
			t.Logf("Hutong to FATE-Flow:\n%s\nFATE-Flow to Hutong:\n%s\nlogs in %s",
				env.toFateFlow.recentExchanges(), env.toHutong.recentExchanges(), env.dir)
		}
	})
	return env
}

func newEnvironment(t *testing.T) *environment {
	env := &environment{dir: runDir(t), cache: cacheDir(t)}
	install := exec.Command(filepath.Join(testenv.Root(t), "test", "interop", "fateflow", "install.sh"),
		env.cache)
	out, err := install.CombinedOutput()
	require.NoError(t, err, "install.sh: %s", out)

	env.docker, err = client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	require.NoError(t, err)
	atExit(func() { _ = env.docker.Close() })
	require.NoError(t, image.Load(t.Context(), env.docker, testenv.Binary(t, "provider"), providerImage))
	env.loadFailingImage(t)
	env.removeContainers(t.Context())
	atExit(func() {
		env.removeContainers(context.Background())
		_ = env.docker.NetworkRemove(context.Background(), hutongNetwork)
	})

	storage := startS3(t, env.dir, env.cache, env.dockerGateway(t))
	hutongPartners, fateAPI := testenv.FreeAddress(t), testenv.FreeAddress(t)
	env.toFateFlow, env.toHutong = newProxy(t, fateAPI), newProxy(t, hutongPartners)
	env.hutong = newHutong(t, env.dir, hutongPartners, storage.url("hutong"))
	env.fateFlow = newFateFlow(t, env, fateAPI, storage.url("fate"))
	env.hutong.start(t, env)
	env.fateFlow.startTransport(t, env)
	env.fateFlow.start(t)
	env.fateFlow.awaitReady(t)
	require.NoError(t, env.fateFlow.EnableWAL(t.Context()))
	env.registerProviders(t)
	env.uploadData(t)
	return env
}

// loadFailingImage builds an image whose containers fail at once, with a callback.
func (env *environment) loadFailingImage(t *testing.T) {
	dockerfile := "FROM " + providerImage + "\nENV runtime.component.parameter.exit_code=none\n"
	var context bytes.Buffer
	archive := tar.NewWriter(&context)
	require.NoError(t,
		archive.WriteHeader(&tar.Header{Name: "Dockerfile", Mode: 0o600, Size: int64(len(dockerfile))}))
	_, err := archive.Write([]byte(dockerfile))
	require.NoError(t, err)
	require.NoError(t, archive.Close())
	built, err := env.docker.ImageBuild(t.Context(), &context,
		build.ImageBuildOptions{Tags: []string{failingImage}, Remove: true})
	require.NoError(t, err)
	defer func() { _ = built.Body.Close() }()
	output, err := io.ReadAll(built.Body)
	require.NoError(t, err)
	image, err := env.docker.ImageInspect(t.Context(), failingImage)
	require.NoError(t, err, "%s", output)
	require.Contains(t, image.Config.Env, "runtime.component.parameter.exit_code=none")
}

// dockerGateway returns this machine's address on Docker's default network, which containers on every network
// reach.
func (env *environment) dockerGateway(t *testing.T) netip.Addr {
	bridge, err := env.docker.NetworkInspect(t.Context(), network.NetworkBridge, network.InspectOptions{})
	require.NoError(t, err)
	require.NotEmpty(t, bridge.IPAM.Config)
	config := bridge.IPAM.Config[0]
	if config.Gateway == "" { // Docker Engine 20.10 omits it until its second start
		subnet, err := netip.ParsePrefix(config.Subnet)
		require.NoError(t, err)
		return subnet.Masked().Addr().Next() // Docker's default: the first address
	}
	gateway, err := netip.ParseAddr(config.Gateway)
	require.NoError(t, err)
	return gateway
}

// containers returns the names of both parties' containers in any state that satisfy a condition.
func (env *environment) containers(ctx context.Context,
	wanted func(container.Summary) bool) ([]string, error) {
	all, err := env.docker.ContainerList(ctx, container.ListOptions{All: true})
	if err != nil {
		return nil, err
	}
	var names []string
	for _, c := range all {
		if (c.Labels["hutong.node_id"] == hutongNode || isFateFlowContainer(c.Names[0])) &&
			(wanted == nil || wanted(c)) {
			names = append(names, c.Names[0])
		}
	}
	return names, nil
}

func (env *environment) removeContainers(ctx context.Context) {
	names, _ := env.containers(ctx, nil)
	for _, name := range names {
		_ = env.docker.ContainerRemove(ctx, name, container.RemoveOptions{Force: true})
	}
}

// runDir creates the folder of this run. HUTONG_INTEROP_DIR names a folder that is kept, for its logs.
func runDir(t *testing.T) string {
	if dir := os.Getenv("HUTONG_INTEROP_DIR"); dir != "" {
		dir, err := filepath.Abs(dir)
		require.NoError(t, err)
		require.NoError(t, os.RemoveAll(dir))
		require.NoError(t, os.MkdirAll(dir, 0o750))
		return dir
	}
	dir, err := os.MkdirTemp("", "hutong-interop-")
	require.NoError(t, err)
	atExit(func() { _ = os.RemoveAll(dir) })
	return dir
}

// cacheDir returns the folder that keeps FATE-Flow between runs.
func cacheDir(t *testing.T) string {
	if dir := os.Getenv("HUTONG_INTEROP_CACHE"); dir != "" {
		return dir
	}
	dir, err := os.UserCacheDir()
	require.NoError(t, err)
	return filepath.Join(dir, "hutong", "interop")
}

func isListening(address string) bool {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return false
	}
	return c.Close() == nil
}
