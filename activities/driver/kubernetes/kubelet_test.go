package kubernetes_test

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hutong/activities/driver"
	"hutong/activities/driver/drivertest"
	"hutong/activities/driver/kubernetes"
	"hutong/bfia"
	"hutong/internal/pack"
	k8senv "hutong/test/testenv/k8s"
)

// nodeImage is the image of the test program, which the nodes have.
const nodeImage = "hutong-driver-test/prog:1"

var importImage sync.Once

// needNodes returns the cluster that make test-kubelet starts, with the image of the test program.
func needNodes(t *testing.T) *k8senv.Nodes {
	t.Helper()
	nodes := k8senv.Need(t)
	importImage.Do(func() { nodes.Import(t, progImageFile(t, nodeImage)) })

	return nodes
}

// progImageFile returns an image of the test program.
func progImageFile(t *testing.T, tag string) pack.Image {
	t.Helper()
	binary, err := os.ReadFile(prog.path)
	require.NoError(t, err)

	return pack.Image{Tag: tag, Arch: runtime.GOARCH, Time: time.Unix(0, 0),
		Files: []pack.File{{Path: "/prog", Mode: 0o755, Data: binary},
			{Path: "/name", Mode: 0o644, Data: []byte(tag)}}}
}

// TestKubeletDriver runs the suite on the cluster with a kubelet.
func TestKubeletDriver(t *testing.T) {
	needNodes(t)
	drivertest.Run(t, func(t *testing.T) drivertest.Fixture {
		return newNodesFixture(t, kubernetes.Options{}).Fixture
	})
}

// nodesFixture is a fixture on the nodes, and the namespace of its Jobs.
type nodesFixture struct {
	drivertest.Fixture
	nodes     *k8senv.Nodes
	namespace string
}

func newNodesFixture(t *testing.T, opts kubernetes.Options) nodesFixture {
	nodes := needNodes(t)
	opts.NodeID = "T" + rand.Text()
	var namespace string
	opts.Kubeconfig, namespace = nodes.Namespace(t)
	another := func(t *testing.T) driver.Driver {
		d, err := kubernetes.New(opts)
		require.NoError(t, err)
		return d
	}

	return nodesFixture{drivertest.Fixture{
		Driver: drivertest.RemoveAllAfter(t, another(t)), Another: another, Kubernetes: true,
		Spec: func(args ...string) driver.Spec {
			return driver.Spec{
				Name:    "Test_1.of-" + rand.Text(),
				Image:   nodeImage,
				Command: append([]string{"/prog"}, args...),
			}
		},
		MakeUnstartable: func(spec *driver.Spec) { spec.Command = []string{"/not there"} },
		Share: func(_ driver.Driver, _ *driver.Spec, dir string) string {
			// Every container of the nodes sees the folder of temporary files.
			inside, err := filepath.Rel(nodes.Share, dir)
			require.NoError(t, err)
			require.NotContains(t, inside, "..", "TMPDIR is not the shared folder")
			require.NoError(t, os.Chmod(filepath.Dir(dir), 0o711))
			require.NoError(t, os.Chmod(dir, 0o777)) // containers have a user of their own
			return filepath.Join(k8senv.SharePath, inside)
		},
	}, nodes, namespace}
}

// pod returns the only pod of the namespace.
func (f nodesFixture) pod(t *testing.T) corev1.Pod {
	t.Helper()
	pods, err := f.nodes.Admin.CoreV1().Pods(f.namespace).List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	require.Len(t, pods.Items, 1)

	return pods.Items[0]
}

// running launches a container that has printed ready.
func (f nodesFixture) running(t *testing.T, args ...string) driver.Spec {
	t.Helper()
	spec := f.Spec(append(args, "print", "ready", "forever")...)
	drivertest.Launch(t, t.Context(), f.Driver, spec)
	drivertest.AwaitLine(t, t.Context(), f.Driver, spec.Name, "ready")

	return spec
}

// TestKubeletLimits exceeds each limit of a container.
func TestKubeletLimits(t *testing.T) {
	t.Parallel()
	needNodes(t)
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		f := newNodesFixture(t, kubernetes.Options{})
		spec := f.Spec("eat", strconv.Itoa(256<<20), "exit", "0")
		spec.Resources = bfia.Resources{Memory: 48 << 20}
		drivertest.Launch(t, t.Context(), f.Driver, spec)
		exit := drivertest.Await(t, t.Context(), f.Driver, spec.Name)
		require.True(t, exit.OOMKilled, "%+v", exit)
		require.Equal(t, 137, exit.Code)
		require.Equal(t, "out of memory: the limit is 48 MiB", exit.Reason)
	})
	t.Run("enough memory", func(t *testing.T) {
		t.Parallel()
		f := newNodesFixture(t, kubernetes.Options{})
		spec := f.Spec("eat", strconv.Itoa(256<<20), "exit", "0")
		spec.Resources = bfia.Resources{Memory: 512 << 20}
		drivertest.Launch(t, t.Context(), f.Driver, spec)
		require.Zero(t, drivertest.Await(t, t.Context(), f.Driver, spec.Name).Code)
	})
	t.Run("cpu", func(t *testing.T) {
		t.Parallel()
		f := newNodesFixture(t, kubernetes.Options{})
		spec := f.Spec("burn", "500ms", "exit", "0")
		spec.Resources = bfia.Resources{CPUMilli: 100}
		drivertest.Launch(t, t.Context(), f.Driver, spec)
		exit := drivertest.Await(t, t.Context(), f.Driver, spec.Name)
		require.Zero(t, exit.Code)
		// Half a second of a tenth of a processor. The cluster reports whole seconds.
		require.GreaterOrEqual(t, exit.FinishedAt.Sub(exit.StartedAt), 3*time.Second)
	})
	t.Run("disk", func(t *testing.T) {
		t.Parallel()
		f := newNodesFixture(t, kubernetes.Options{})
		spec := f.Spec("lines", "90000", "forever")
		spec.Resources = bfia.Resources{Disk: 4 << 20}
		drivertest.Launch(t, t.Context(), f.Driver, spec)
		exit := drivertest.Await(t, t.Context(), f.Driver, spec.Name)
		require.False(t, exit.Killed, "it would exceed the limit again: %+v", exit)
		require.Contains(t, exit.Reason, "victed: ")
		require.Contains(t, exit.Reason, "exceeds the total limit of containers 4Mi")
	})
}

// TestKubeletPull runs an image from a registry that the nodes do not have yet, by its digest.
func TestKubeletPull(t *testing.T) {
	t.Parallel()
	f := newNodesFixture(t, kubernetes.Options{PullTimeout: 3 * time.Second})
	reference := f.nodes.Push(t, progImageFile(t, "hutong-driver-test/pulled:1"))
	require.NotContains(t, f.nodes.Images(t), "pulled")

	spec := f.Spec("print", "pulled", "exit", "0")
	spec.Image = reference
	drivertest.Launch(t, t.Context(), f.Driver, spec)
	require.Zero(t, drivertest.Await(t, t.Context(), f.Driver, spec.Name).Code)
	require.Equal(t, []string{"pulled"}, drivertest.Logs(t, t.Context(), f.Driver, spec.Name, false))
	require.Contains(t, f.nodes.Images(t), reference)

	spec = f.Spec("exit", "0")
	spec.Image = f.nodes.Registry + "/hutong-driver-test/missing:1"
	drivertest.Launch(t, t.Context(), f.Driver, spec)
	exit := drivertest.Await(t, t.Context(), f.Driver, spec.Name)
	require.Equal(t, driver.NotStartedExitCode, exit.Code)
	require.Contains(t, exit.Reason, "its image cannot be pulled: ")
	require.Contains(t, exit.Reason, spec.Image)
	require.True(t, driver.IsNonRetryable(f.Driver.Start(t.Context(), spec.Name)))
}

// TestKubeletPodEnds ends the pod of a running container from outside, by each way that a cluster has.
func TestKubeletPodEnds(t *testing.T) {
	t.Parallel()
	nodes := needNodes(t)
	ways := map[string]struct {
		end    func(t *testing.T, pod corev1.Pod) error
		reason string
	}{
		"deleted": {func(t *testing.T, pod corev1.Pod) error {
			return nodes.Admin.CoreV1().Pods(pod.Namespace).Delete(t.Context(), pod.Name,
				metav1.DeleteOptions{GracePeriodSeconds: new(int64(2))})
		}, "its pod was deleted"},
		"evicted": {func(t *testing.T, pod corev1.Pod) error {
			return nodes.Admin.PolicyV1().Evictions(pod.Namespace).Evict(t.Context(), &policyv1.Eviction{
				ObjectMeta:    metav1.ObjectMeta{Name: pod.Name, Namespace: pod.Namespace},
				DeleteOptions: &metav1.DeleteOptions{GracePeriodSeconds: new(int64(2))}})
		}, "EvictionByEvictionAPI"},
	}
	programs := map[string][]string{
		"at SIGTERM with a code of its own": {"term", "7"},
		"at SIGKILL":                        {"ignoreterm"},
	}
	for way, w := range ways {
		for how, args := range programs {
			t.Run(way+" "+how, func(t *testing.T) {
				t.Parallel()
				f := newNodesFixture(t, kubernetes.Options{})
				spec := f.running(t, args...)
				waited := make(chan driver.Exit, 1)
				go func() {
					exit, err := f.Another(t).Wait(t.Context(), spec.Name)
					if err != nil {
						t.Error(err)
					}
					waited <- exit
				}()
				require.NoError(t, w.end(t, f.pod(t)))
				exit := <-waited
				require.True(t, exit.Killed, "a task whose pod was taken away starts again: %+v", exit)
				require.NotZero(t, exit.Code)
				require.Contains(t, exit.Reason, w.reason)
				require.False(t, exit.OOMKilled)

				// The Job gets no other pod.
				require.Eventually(t, func() bool {
					all := nodes.Admin.CoreV1().Pods(f.namespace)
					pods, err := all.List(t.Context(), metav1.ListOptions{})
					return err == nil && len(pods.Items) == 0
				}, time.Minute, 100*time.Millisecond)
				require.Equal(t, exit, drivertest.Await(t, t.Context(), f.Driver, spec.Name))
			})
		}
	}
}

// TestKubeletRestarts kills the kubelet while a container runs, and lets it start again.
func TestKubeletRestarts(t *testing.T) {
	f := newNodesFixture(t, kubernetes.Options{})
	dir := drivertest.TempDir(t)
	spec := f.Spec()
	file := f.Share(f.Driver, &spec, dir) + "/go"
	spec.Command = append(spec.Command, "print", "before", "wait", file, "print", "after", "exit", "6")
	drivertest.Launch(t, t.Context(), f.Driver, spec)
	once := sync.OnceFunc(func() {
		f.nodes.KillKubelet(t, f.pod(t).Spec.NodeName, false)
		drivertest.Touch(t, dir+"/go")
	})
	log := &drivertest.Finder{Text: "before", Found: once}
	require.NoError(t, f.Driver.Logs(t.Context(), spec.Name, true, log))
	require.Equal(t, []string{"before", "after"}, drivertest.Lines(t, log.String()))
	exit := drivertest.Await(t, t.Context(), f.Driver, spec.Name)
	require.Equal(t, 6, exit.Code)
	require.False(t, exit.Killed)
}

// TestKubeletLost kills the kubelet for good while a container runs. The cluster takes the pod away, and the
// container counts as killed. When the kubelet is back it ends what still runs.
func TestKubeletLost(t *testing.T) {
	f := newNodesFixture(t, kubernetes.Options{LostTimeout: 2 * time.Second})
	spec := f.running(t, "ignoreterm")
	pod := f.pod(t)
	node := pod.Spec.NodeName
	t.Cleanup(func() { f.nodes.StartKubelet(t, node) })
	f.nodes.KillKubelet(t, node, true)
	began := time.Now()
	exit := drivertest.Await(t, t.Context(), f.Driver, spec.Name)
	t.Logf("the container counted as lost after %s", time.Since(began).Round(time.Second))
	require.True(t, exit.Killed, "%+v", exit)
	require.Equal(t, 137, exit.Code)
	require.Contains(t, exit.Reason, "its node "+node+" does not respond")
	f.nodes.Await(t, node, corev1.ConditionUnknown)
	require.Positive(t, f.nodes.Processes(t, pod), "nobody has ended the container")

	require.NoError(t, f.Driver.Remove(t.Context(), spec.Name))
	pods, err := f.nodes.Admin.CoreV1().Pods(f.namespace).List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	require.Empty(t, pods.Items)
	f.nodes.StartKubelet(t, node)
	f.nodes.Await(t, node, corev1.ConditionTrue)
	require.Eventually(t, func() bool { return f.nodes.Processes(t, pod) == 0 }, 2*time.Minute,
		200*time.Millisecond, "the kubelet ends a container that its cluster has forgotten")

	// The same name can be used again.
	spec.Command = []string{"/prog", "exit", "0"}
	drivertest.Launch(t, t.Context(), f.Driver, spec)
	require.Zero(t, drivertest.Await(t, t.Context(), f.Driver, spec.Name).Code)
}
