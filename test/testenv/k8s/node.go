package k8s

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hutong/internal/pack"
)

// Nodes is the cluster with two nodes that with.sh has started.
type Nodes struct {
	Cluster

	// Dir is the folder of the cluster. Share is the part of it that every container sees as SharePath.
	Dir, Share string

	// Address is this machine's address as pods reach it. Registry is a registry from which the nodes pull.
	Address, Registry string
}

// SharePath is the folder Share in a container.
const SharePath = "/share"

// names are the names of the nodes.
var names = []string{"node-1", "node-2"}

// Need returns the cluster with nodes when all are ready, or skips the test.
func Need(t testing.TB) *Nodes {
	t.Helper()
	dir := os.Getenv("HUTONG_TEST_KUBELET")
	if dir == "" {
		t.Skip("HUTONG_TEST_KUBELET names no cluster with a kubelet; run make test-kubelet")
	}
	c, err := Open(filepath.Join(dir, "kubeconfig"))
	require.NoError(t, err)
	n := &Nodes{Cluster: c, Dir: dir, Share: filepath.Join(dir, "share"),
		Address: os.Getenv("HUTONG_TEST_ADDRESS"), Registry: os.Getenv("HUTONG_TEST_REGISTRY")}
	for _, name := range names {
		n.Await(t, name, corev1.ConditionTrue)
	}

	return n
}

// Await waits until the cluster considers a node ready, or lost.
func (n *Nodes) Await(t testing.TB, name string, ready corev1.ConditionStatus) {
	t.Helper()
	require.Eventually(t, func() bool {
		node, err := n.Admin.CoreV1().Nodes().Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return false
		}
		for _, c := range node.Status.Conditions {
			if c.Type == corev1.NodeReady {
				tainted := len(node.Spec.Taints) > 0
				return c.Status == ready && tainted == (ready != corev1.ConditionTrue)
			}
		}
		return false
	}, 2*time.Minute, 200*time.Millisecond, "%s did not become ready: %s", name, ready)
}

// Import gives the nodes an image, and returns the image's digest.
func (n *Nodes) Import(t testing.TB, image pack.Image) (digest string) {
	t.Helper()
	var archive bytes.Buffer
	digest, err := image.Write(&archive)
	require.NoError(t, err)
	for _, name := range names {
		n.ctr(t, name, bytes.NewReader(archive.Bytes()), "images", "import", "-")
	}

	return digest
}

// Push puts an image into the registry only, and returns the reference by which nodes pull it.
func (n *Nodes) Push(t testing.TB, image pack.Image) (reference string) {
	t.Helper()
	digest := n.Import(t, image)
	repository, _, _ := strings.Cut(image.Tag, ":")
	local := "docker.io/" + image.Tag
	n.ctr(t, names[0], nil, "images", "push", "--plain-http", n.Registry+"/"+image.Tag, local)
	for _, name := range names {
		n.ctr(t, name, nil, "images", "rm", local)
	}

	return n.Registry + "/" + repository + "@" + digest
}

// Images returns the names of the nodes' images.
func (n *Nodes) Images(t testing.TB) (all string) {
	t.Helper()
	for _, name := range names {
		all += n.ctr(t, name, nil, "images", "ls", "-q")
	}

	return all
}

// ctr runs ctr for the images of a node.
func (n *Nodes) ctr(t testing.TB, name string, input io.Reader, args ...string) string {
	t.Helper()
	c := exec.CommandContext(t.Context(), filepath.Join(n.Dir, "ctr-"+name), args...)
	c.Stdin = input
	out, err := c.CombinedOutput()
	require.NoError(t, err, "ctr %s: %s", strings.Join(args, " "), out)

	return string(out)
}

// KillKubelet kills the kubelet of a node. Until StartKubelet it does not start again if off is set.
func (n *Nodes) KillKubelet(t testing.TB, name string, off bool) {
	t.Helper()
	if off {
		require.NoError(t, os.WriteFile(n.offFile(name), nil, 0o600))
	}
	text, err := os.ReadFile(filepath.Join(n.Dir, "pids", name))
	require.NoError(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
}

// Lose makes a node vanish as if its machine had failed: its kubelet and all containers of its pods end, and
// nobody reports it. StartKubelet brings the node back.
func (n *Nodes) Lose(t testing.TB, name string) {
	t.Helper()
	n.KillKubelet(t, name, true)
	require.Eventually(t, func() bool {
		left := processes(t, name, "*", "*")
		for _, pid := range left {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
				t.Logf("failed to kill process %d: %v", pid, err)
			}
		}
		return len(left) == 0
	}, time.Minute, 100*time.Millisecond, "processes of %s are left", name)
}

// StartKubelet lets a kubelet that was killed start again.
func (n *Nodes) StartKubelet(t testing.TB, name string) {
	t.Helper()
	if err := os.Remove(n.offFile(name)); !os.IsNotExist(err) {
		require.NoError(t, err)
	}
}

func (n *Nodes) offFile(name string) string { return filepath.Join(n.Dir, name+".off") }

// Processes returns the number of processes in the cgroups of a pod.
func (n *Nodes) Processes(t testing.TB, pod corev1.Pod) int {
	t.Helper()
	class := ""
	if pod.Status.QOSClass != corev1.PodQOSGuaranteed {
		class = strings.ToLower(string(pod.Status.QOSClass))
	}

	return len(processes(t, pod.Spec.NodeName, class, "pod"+string(pod.UID)))
}

// processes returns the process ids in the cgroups of a node's pods. class and pod may be patterns.
func processes(t testing.TB, node, class, pod string) (ids []int) {
	t.Helper()
	for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/memory"} {
		pods := filepath.Join(root, "hutong-k8s", node, "kubepods")
		patterns := []string{filepath.Join(pods, class, pod)}
		if class == "*" { // those of the class Guaranteed are not in a folder of a class
			patterns = append(patterns, filepath.Join(pods, "pod*"))
		}
		for _, pattern := range patterns {
			files, err := filepath.Glob(filepath.Join(pattern, "*", "cgroup.procs"))
			require.NoError(t, err)
			for _, file := range files {
				text, err := os.ReadFile(file)
				if err != nil {
					continue // the container has ended
				}
				for _, field := range strings.Fields(string(text)) {
					id, err := strconv.Atoi(field)
					require.NoError(t, err)
					require.Positive(t, id)
					ids = append(ids, id)
				}
			}
		}
	}

	return ids
}
