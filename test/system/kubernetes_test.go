package system

import (
	"net"
	"net/url"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hutong/bfia"
	"hutong/internal/pack"
	"hutong/internal/party"
	"hutong/test/testenv"
	"hutong/test/testenv/k8s"
)

// kubernetesPair is two parties that run their containers as pods, in a namespace each.
type kubernetesPair struct {
	*partyPair
	nodes      *k8s.Nodes
	namespaces map[string]string // by node id
}

// newKubernetesPair starts two parties on the cluster with nodes, with a bucket each. The nodes pull the
// reference provider from a registry.
func newKubernetesPair(t *testing.T) kubernetesPair {
	t.Helper()
	nodes := k8s.Need(t)
	address := os.Getenv("HUTONG_TEST_S3")
	if address == "" {
		t.Skip("HUTONG_TEST_S3 names no S3 server")
	}
	server, err := url.Parse(address)
	require.NoError(t, err)
	pair := kubernetesPair{nodes: nodes, namespaces: map[string]string{}}
	pair.partyPair = newPartyPair(t, func(cfg *party.Config) {
		onBucket(cfg, server)
		_, port, err := net.SplitHostPort(cfg.Containers.Listen)
		require.NoError(t, err)
		cfg.Containers.Listen = net.JoinHostPort(nodes.Address, port)
		kubeconfig, namespace := nodes.Namespace(t)
		pair.namespaces[cfg.NodeID] = namespace
		cfg.Runner.Process.Allow = nil
		cfg.Runner.K8s.Enabled, cfg.Runner.K8s.Kubeconfig = true, kubeconfig
		cfg.Runner.K8s.Advertise = cfg.Containers.Listen
	})
	pair.guest.start()
	pair.host.start()
	program, err := os.ReadFile(testenv.Binary(t, "provider"))
	require.NoError(t, err)
	release := pack.Release{Version: "test", Time: time.Unix(0, 0)}
	reference := nodes.Push(t, release.ProviderImage(runtime.GOARCH, program))
	registration := editJSON(t, readVector(t, "provider_register.request.json"), func(fields map[string]any) {
		fields["device"] = bfia.DeviceKubernetes
		fields["metadata"] = map[string]any{"image": reference}
	})
	for _, n := range []*testParty{pair.guest, pair.host} {
		n.register(registration, bfia.DeviceKubernetes)
		n.upload("host.csv", "testspace", "test_host")
	}
	pair.guest.upload("guest.csv", "testspace", "test_guest")

	return pair
}

// pods returns the pods of a party.
func (p kubernetesPair) pods(n *testParty) []corev1.Pod {
	p.t.Helper()
	namespace := p.namespaces[n.cfg.NodeID]
	list, err := p.nodes.Admin.CoreV1().Pods(namespace).List(p.t.Context(), metav1.ListOptions{})
	require.NoError(p.t, err)

	return list.Items
}

// requireNothingLeft waits until both parties have neither Jobs nor pods nor secrets.
func (p kubernetesPair) requireNothingLeft() {
	p.t.Helper()
	for _, n := range []*testParty{p.guest, p.host} {
		namespace := p.namespaces[n.cfg.NodeID]
		require.Eventually(p.t, func() bool {
			admin, all := p.nodes.Admin, metav1.ListOptions{}
			jobs, err := admin.BatchV1().Jobs(namespace).List(p.t.Context(), all)
			if err != nil {
				return false
			}
			secrets, err := admin.CoreV1().Secrets(namespace).List(p.t.Context(), all)
			if err != nil {
				return false
			}
			return len(jobs.Items)+len(secrets.Items)+len(p.pods(n)) == 0
		}, time.Minute, 200*time.Millisecond, "objects are left in the namespace of %s", n.cfg.NodeID)
	}
}

// awaitPod waits for a running pod of a party whose Job's name contains a text.
func (p kubernetesPair) awaitPod(n *testParty, text string) (found corev1.Pod) {
	p.t.Helper()
	require.Eventually(p.t, func() bool {
		for _, pod := range p.pods(n) {
			runs := pod.Status.Phase == corev1.PodRunning && pod.DeletionTimestamp == nil
			if runs && strings.Contains(pod.Annotations["hutong/container"], text) {
				found = pod
				return true
			}
		}
		return false
	}, 2*time.Minute, 20*time.Millisecond, "no pod of %s runs at %s", text, n.cfg.NodeID)

	return found
}

// TestKubeletReferenceJob runs the captured job in pods of two parties.
func TestKubeletReferenceJob(t *testing.T) {
	pair := newKubernetesPair(t)
	began := time.Now()
	jobID := pair.guest.submit(referenceJob(t, true))
	requireSuccess(t, pair.guest.awaitJob(jobID, 5*time.Minute, isFinished))
	requireSuccess(t, pair.host.awaitJob(jobID, time.Minute, isFinished))
	t.Logf("the reference job in pods took %s", time.Since(began).Round(100*time.Millisecond))
	requireResults(t, pair.guest, pair.host, jobID)
	pair.requireNothingLeft()
}

// TestKubeletPodTaken deletes the pod of a running task of the reference job. The task starts again, at both
// parties, and the job succeeds.
func TestKubeletPodTaken(t *testing.T) {
	pair := newKubernetesPair(t)
	jobID := pair.guest.submit(referenceJob(t, true))
	pod := pair.awaitPod(pair.guest, jobID)
	require.NoError(t, pair.nodes.Admin.CoreV1().Pods(pod.Namespace).Delete(t.Context(), pod.Name,
		metav1.DeleteOptions{GracePeriodSeconds: new(int64(1))}))
	requireSuccess(t, pair.guest.awaitJob(jobID, 5*time.Minute, isFinished))
	requireSuccess(t, pair.host.awaitJob(jobID, time.Minute, isFinished))
	requireResults(t, pair.guest, pair.host, jobID)
	pair.requireNothingLeft()
	pair.requireSecondAttempt(jobID)
}

// TestKubeletNodeLost loses the node of a running task of the reference job. The task starts again on the
// other node, and the job succeeds.
func TestKubeletNodeLost(t *testing.T) {
	pair := newKubernetesPair(t)
	jobID := pair.guest.submit(referenceJob(t, true))
	pod := pair.awaitPod(pair.guest, jobID)
	lost := pod.Spec.NodeName
	t.Cleanup(func() { pair.nodes.StartKubelet(t, lost) })
	began := time.Now()
	pair.nodes.Lose(t, lost)
	requireSuccess(t, pair.guest.awaitJob(jobID, 8*time.Minute, isFinished))
	requireSuccess(t, pair.host.awaitJob(jobID, time.Minute, isFinished))
	t.Logf("the job succeeded %s after its node was lost", time.Since(began).Round(time.Second))
	requireResults(t, pair.guest, pair.host, jobID)
	pair.requireSecondAttempt(jobID)
	pair.nodes.StartKubelet(t, lost)
	pair.nodes.Await(t, lost, corev1.ConditionTrue)
	pair.requireNothingLeft()
}

// requireSecondAttempt checks that a task of a job took two attempts, and that the first ended with a failure
// of one party's container or of its partner, which depends on whose end was noticed first.
func (p kubernetesPair) requireSecondAttempt(jobID string) {
	p.t.Helper()
	for _, task := range p.guest.status(jobID).Tasks {
		if task.Attempt == 1 {
			continue
		}
		require.Equal(p.t, 2, task.Attempt)
		require.Len(p.t, task.Attempts, 1)
		require.NotNil(p.t, task.Attempts[0].Failure)
		require.Contains(p.t, []bfia.FailureKind{bfia.FailedKilled, bfia.FailedTemporary},
			task.Attempts[0].Failure.Kind)
		return
	}
	require.Fail(p.t, "no task has started again")
}
