package cluster

import (
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// holder is the transport of a party that holds the sessions of a job, as the party's database has it.
type holder struct{ volume, pod, address, instance string }

// holder returns the transport that holds the sessions of a job.
func (p party) holder(t *testing.T, jobID string) holder {
	t.Helper()
	prefix, _, _ := strings.Cut(jobID, "_")
	var fields []string
	require.Eventually(t, func() bool {
		fields = strings.Split(p.query(t, "SELECT t.volume_id, t.name, t.address, t.instance FROM t_placement p "+
			"JOIN t_transport t USING (volume_id) WHERE p.session_key = 'session_"+prefix+"'"), "|")
		return len(fields) == 4
	}, time.Minute, 200*time.Millisecond, "no transport holds the sessions of job %s", jobID)

	return holder{fields[0], fields[1], fields[2], fields[3]}
}

// awaitTask waits until a task of the party runs.
func (p party) awaitTask(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool { return taskRuns(t, p) }, 2*time.Minute, 100*time.Millisecond,
		"no task of %s runs", p.namespace)
}

// requireTakenOver waits until a new pod serves the volume of a transport, and checks that the job's sessions
// are still there.
func (p party) requireTakenOver(t *testing.T, jobID string, before holder, pod types.UID) {
	t.Helper()
	began := time.Now()
	var now holder
	require.Eventually(t, func() bool {
		now = p.holder(t, jobID)
		return now.instance != before.instance
	}, 2*time.Minute, 200*time.Millisecond, "nothing has taken over the volume of %s", before.pod)
	var replaced *corev1.Pod
	require.Eventually(t, func() (known bool) { // its process may be faster than its node's report
		var err error
		replaced, err = p.admin.CoreV1().Pods(p.namespace).Get(t.Context(), before.pod, metav1.GetOptions{})
		return err == nil && replaced.Status.PodIP != ""
	}, time.Minute, 200*time.Millisecond, "%s has no address", before.pod)
	assert.NotEqual(t, pod, replaced.UID, "the pod was not replaced")
	assert.Equal(t, holder{before.volume, before.pod, replaced.Status.PodIP + ":9390", now.instance}, now)
	assert.Equal(t, "2", p.query(t, "SELECT count(*) FROM t_transport"))
	t.Logf("%s of %s was replaced, and its volume taken over, within %s", before.pod, p.namespace,
		time.Since(began).Round(time.Second))
}

// loseTransport kills the transport that holds the sessions of a running job and deletes its pod without a
// grace period, as if its node were lost.
func (p party) loseTransport(t *testing.T, jobID string) {
	t.Helper()
	p.awaitTask(t)
	before := p.holder(t, jobID)
	pods := p.admin.CoreV1().Pods(p.namespace)
	pod, err := pods.Get(t.Context(), before.pod, metav1.GetOptions{})
	require.NoError(t, err)
	require.Equal(t, pod.Status.PodIP+":9390", before.address)
	p.kill(t, pod)
	var now int64
	require.NoError(t, pods.Delete(t.Context(), pod.Name, metav1.DeleteOptions{GracePeriodSeconds: &now}))
	require.Equal(t, "RUNNING", p.state(t, jobID), "the job has ended before its transport was lost")
	p.requireTakenOver(t, jobID, before, pod.UID)
}

// kill kills the process of a pod's container.
func (p party) kill(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	_, id, _ := strings.Cut(pod.Status.ContainerStatuses[0].ContainerID, "://")
	list := run(t, exec.Command(filepath.Join(p.dir, "ctr-"+pod.Spec.NodeName), "tasks", "ls"))
	for line := range strings.Lines(list) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == id {
			pid, err := strconv.Atoi(fields[1])
			require.NoError(t, err)
			require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
			return
		}
	}
	t.Fatalf("no process of %s in %s", id, list)
}

// drainTransport drains the node of the transport that holds the sessions of a running job, as far as the
// party's transports are concerned: it lets no new pods start there, and evicts the pod. The disruption
// budget refuses to evict the other transport meanwhile.
func (p party) drainTransport(t *testing.T, jobID string) {
	t.Helper()
	p.awaitTask(t)
	before := p.holder(t, jobID)
	pod, err := p.admin.CoreV1().Pods(p.namespace).Get(t.Context(), before.pod, metav1.GetOptions{})
	require.NoError(t, err)
	p.cordon(t, pod.Spec.NodeName, true)
	defer p.cordon(t, pod.Spec.NodeName, false)
	require.NoError(t, p.evict(t, before.pod))
	other := map[string]string{"hutong-transport-0": "hutong-transport-1",
		"hutong-transport-1": "hutong-transport-0"}[before.pod]
	require.True(t, apierrors.IsTooManyRequests(p.evict(t, other)), "%s was evicted at the same time", other)
	require.Equal(t, "RUNNING", p.state(t, jobID), "the job has ended before its transport was drained")
	p.requireTakenOver(t, jobID, before, pod.UID)
	replaced, err := p.admin.CoreV1().Pods(p.namespace).Get(t.Context(), before.pod, metav1.GetOptions{})
	require.NoError(t, err)
	assert.NotEqual(t, pod.Spec.NodeName, replaced.Spec.NodeName, "it runs on the drained node")
}

// evict evicts a pod of the party.
func (p party) evict(t *testing.T, pod string) error {
	t.Helper()

	return p.admin.PolicyV1().Evictions(p.namespace).Evict(t.Context(), &policyv1.Eviction{
		ObjectMeta: metav1.ObjectMeta{Name: pod, Namespace: p.namespace}})
}

// cordon sets whether new pods may start on a node.
func (c cluster) cordon(t *testing.T, node string, unschedulable bool) {
	t.Helper()
	patch := []byte(`{"spec":{"unschedulable":` + strconv.FormatBool(unschedulable) + `}}`)
	_, err := c.admin.CoreV1().Nodes().Patch(contextOfCleanup(), node, types.StrategicMergePatchType, patch,
		metav1.PatchOptions{})
	require.NoError(t, err)
}
