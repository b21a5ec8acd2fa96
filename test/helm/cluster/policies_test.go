package cluster

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// loadReach makes the image of the program of pods that try what they reach.
func (c cluster) loadReach(t *testing.T) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "reach")
	build := exec.Command("go", "build", "-o", path, "./reach")
	build.Env = append(build.Environ(), "CGO_ENABLED=0")
	run(t, build)
	c.loadImage(t, "reach", path)
}

// loadImage gives the nodes an image of one program.
func (c cluster) loadImage(t *testing.T, name, path string) {
	t.Helper()
	image := []byte(run(t, exec.Command(filepath.Join(c.dir, "image"), "hutong/"+name+":"+version, path)))
	for _, node := range []string{"node-1", "node-2"} {
		load := exec.Command(filepath.Join(c.dir, "ctr-"+node), "images", "import", "-")
		load.Stdin = bytes.NewReader(image)
		run(t, load)
	}
}

// caller is a pod that tries what it reaches.
type caller struct {
	namespace string
	labels    map[string]string
	reaches   []string // names of targets; it must reach no others
}

// elsewhere is a pod that no policy protects. The pods of tasks don't reach it either.
const elsewhere = "a pod elsewhere"

// callers returns pods of all kinds, and what they reach of a party.
func (p party) callers() map[string]caller {
	task := map[string]string{"hutong/node": "x"}
	found := map[string]caller{
		"a stranger":        {"strangers", nil, nil},
		"a stranger's task": {"strangers", task, nil},
		"a client":          {"clients", nil, []string{"api:9380", "Service clients"}},
		"the partner": {p.partner, nil, []string{"api:9382", "Service partners", "transport:9391",
			"Service messages"}},
		"a neighbour": {p.namespace, nil, nil},
		"the monitoring": {"monitoring", nil, []string{"api:9385", "control:9385", "runner:9385",
			"transport:9385"}},
	}
	// Those with the labels of the party's own processes.
	for _, process := range []string{"api", "control", "runner", "transport"} {
		found["a pod like "+process] = caller{p.namespace, p.labels(process), []string{"transport:9390"}}
	}
	found["a pod like migrate"] = caller{p.namespace, p.labels("migrate"), nil}
	for name, c := range found {
		c.reaches = append(c.reaches, elsewhere)
		found[name] = c
	}
	found["a task"] = caller{p.namespace + "-tasks", task, []string{"runner:9381", "Service gate"}}
	found["another pod near the tasks"] = caller{p.namespace + "-tasks", nil, nil}
	found["the partner's task"] = caller{p.partner + "-tasks", task, nil}

	return found
}

// requirePolicies checks which pods reach the ports of a party's pods and Services as the chart's policies
// say, and that nobody else reaches any. Nobody reaches a pod of a task.
func (p party) requirePolicies(t *testing.T) {
	t.Helper()
	if os.Getenv("HUTONG_TEST_POLICIES") == "" {
		t.Log("left out: who reaches what, since this kernel can't queue packets for the network policies")
		return
	}
	began := time.Now()
	targets, callers := p.targets(t), p.callers()
	targets[elsewhere] = p.listener(t, callers["a stranger"])
	targets["a pod of a task"] = p.listener(t, callers["a task"])
	start := p.namespace + "-start"
	args := []string{"after", "/share/" + start}
	for _, address := range targets {
		args = append(args, address)
	}
	pods := map[string]*corev1.Pod{}
	for name, c := range callers {
		pods[name] = p.startPod(t, c, args...)
	}
	// What leaves a pod is judged by its address, once that is known.
	for _, pod := range pods {
		p.address(t, pod)
	}
	require.NoError(t, os.WriteFile(filepath.Join(p.dir, "share", start), nil, 0o600))
	for name, c := range callers {
		out := p.output(t, pods[name])
		for target, address := range targets {
			answer := "refused"
			if what, _, _ := strings.Cut(target, "#"); slices.Contains(c.reaches, what) {
				answer = "reached"
			}
			assert.Contains(t, out, address+" "+answer+"\n", "%s, %s of %s", name, target, p.namespace)
		}
	}
	t.Logf("%d pods tried %d addresses of %s in %s", len(callers), len(targets), p.namespace,
		time.Since(began).Round(time.Second))
}

// listener starts a pod that accepts connections, and returns its address.
func (c cluster) listener(t *testing.T, as caller) (address string) {
	t.Helper()
	address = c.address(t, c.startPod(t, as, "listen", ":8080")) + ":8080"
	// The cluster's nodes reach every pod. This shows that it listens.
	awaitPort(t, address)

	return address
}

// address returns the address of a pod when it runs.
func (c cluster) address(t *testing.T, pod *corev1.Pod) (address string) {
	t.Helper()
	require.Eventually(t, func() bool {
		now, err := c.admin.CoreV1().Pods(pod.Namespace).Get(t.Context(), pod.Name, metav1.GetOptions{})
		require.NoError(t, err)
		address = now.Status.PodIP
		return now.Status.Phase == corev1.PodRunning && address != ""
	}, time.Minute, 200*time.Millisecond, "%s/%s does not run", pod.Namespace, pod.Name)

	return address
}

// labels returns the labels of a process of the party.
func (p party) labels(process string) map[string]string {
	return map[string]string{"app.kubernetes.io/name": "hutong", "app.kubernetes.io/instance": "hutong",
		"app.kubernetes.io/component": process}
}

// targets returns the addresses of all ports of the party's pods and of its Services by names such as
// api:9380#1.
func (p party) targets(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	for i, pod := range p.pods(t) {
		process := pod.Labels["app.kubernetes.io/component"]
		for _, port := range pod.Spec.Containers[0].Ports {
			name := fmt.Sprintf("%s:%d", process, port.ContainerPort)
			found[fmt.Sprintf("%s#%d", name, i)] = fmt.Sprintf("%s:%d", pod.Status.PodIP, port.ContainerPort)
		}
	}
	services, err := p.admin.CoreV1().Services(p.namespace).List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	for _, s := range services.Items {
		if s.Spec.ClusterIP != corev1.ClusterIPNone {
			found["Service "+strings.TrimPrefix(s.Name, "hutong-")] = fmt.Sprintf("%s:%d", s.Spec.ClusterIP,
				s.Spec.Ports[0].Port)
		}
	}
	require.Len(t, found, 2*3+1+2+2*3+4, "the ports of two APIs, a control worker, a runner and two "+
		"transports, and the Services")

	return found
}

// startPod starts a pod of the program reach. It never becomes ready, so that no Service sends it anything,
// whatever its labels.
func (c cluster) startPod(t *testing.T, as caller, args ...string) *corev1.Pod {
	t.Helper()
	yes, no, user := true, false, int64(65530)
	pod, err := c.admin.CoreV1().Pods(as.namespace).Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "reach-", Labels: as.labels},
		Spec: corev1.PodSpec{
			AutomountServiceAccountToken: &no,
			RestartPolicy:                corev1.RestartPolicyNever,
			ReadinessGates:               []corev1.PodReadinessGate{{ConditionType: "hutong.test/never"}},
			SecurityContext: &corev1.PodSecurityContext{RunAsNonRoot: &yes, RunAsUser: &user,
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}},
			Containers: []corev1.Container{{
				Name: "reach", Image: "hutong/reach:" + version, Args: args,
				SecurityContext: &corev1.SecurityContext{AllowPrivilegeEscalation: &no,
					Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}},
			}},
		}}, metav1.CreateOptions{})
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = c.admin.CoreV1().Pods(as.namespace).Delete(contextOfCleanup(), pod.Name, metav1.DeleteOptions{})
	})

	return pod
}

// output returns what a pod has printed when it has ended, and deletes it.
func (c cluster) output(t *testing.T, pod *corev1.Pod) string {
	t.Helper()
	pods := c.admin.CoreV1().Pods(pod.Namespace)
	require.Eventually(t, func() bool {
		now, err := pods.Get(t.Context(), pod.Name, metav1.GetOptions{})
		require.NoError(t, err)
		return now.Status.Phase == corev1.PodSucceeded
	}, time.Minute, 200*time.Millisecond, "%s/%s does not end", pod.Namespace, pod.Name)
	text, err := pods.GetLogs(pod.Name, &corev1.PodLogOptions{}).DoRaw(t.Context())
	require.NoError(t, err)
	require.NoError(t, pods.Delete(t.Context(), pod.Name, metav1.DeleteOptions{}))

	return string(text)
}
