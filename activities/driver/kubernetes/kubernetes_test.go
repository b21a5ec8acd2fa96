package kubernetes_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"

	"hutong/activities/driver"
	"hutong/activities/driver/drivertest"
	"hutong/activities/driver/kubernetes"
	"hutong/bfia"
	"hutong/test/testenv/ports"
)

// manual is a driver with a container whose kubelet the test replaces.
type manual struct {
	*kubernetes.Driver
	namespace string
	opts      kubernetes.Options
	spec      driver.Spec
}

func newManual(t *testing.T, image string) manual {
	kubeconfig, namespace := k8sNamespace(t)
	opts := kubernetes.Options{
		NodeID: "T" + rand.Text(), Kubeconfig: kubeconfig, PullTimeout: time.Second, LostTimeout: time.Second,
	}
	r, err := kubernetes.New(opts)
	require.NoError(t, err)
	b := manual{
		r,
		namespace,
		opts,
		driver.Spec{
			Name:      "manual",
			Image:     image,
			Resources: bfia.Resources{CPUMilli: 250, Memory: 64 << 20, Disk: 1 << 30, GPU: 2},
		},
	}
	drivertest.Launch(t, t.Context(), r, b.spec)
	return b
}

func (b manual) job(t *testing.T) *batchv1.Job {
	jobs, err := k8s.Admin.BatchV1().Jobs(b.namespace).List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	require.Len(t, jobs.Items, 1)
	return &jobs.Items[0]
}

// pod waits for the container's pod, and with bound until it has a node.
func (b manual) pod(t *testing.T, bound bool) *corev1.Pod {
	var found *corev1.Pod
	require.Eventually(t, func() bool {
		pods, err := k8s.Admin.CoreV1().Pods(b.namespace).List(t.Context(), metav1.ListOptions{})
		if err != nil || len(pods.Items) == 0 {
			return false
		}
		found = &pods.Items[0]
		return found.Spec.NodeName != "" || !bound
	}, time.Minute, 20*time.Millisecond)
	return found
}

func (b manual) end(t *testing.T) driver.Exit {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	exit := drivertest.Await(t, ctx, b.Driver, "manual")
	again, err := kubernetes.New(b.opts)
	require.NoError(t, err)
	require.Equal(t, exit, drivertest.Await(t, ctx, again, "manual"), "another driver returns the same exit")
	return exit
}

// status returns the status of a pod with one container.
func status(phase corev1.PodPhase, state corev1.ContainerState, reason, message string,
	conditions ...corev1.PodCondition) corev1.PodStatus {
	return corev1.PodStatus{Phase: phase, Reason: reason, Message: message, Conditions: conditions,
		ContainerStatuses: []corev1.ContainerStatus{{Name: "task", State: state}}}
}

func endedState(code int32, reason string) corev1.ContainerState {
	return corev1.ContainerState{
		Terminated: &corev1.ContainerStateTerminated{
			ExitCode:   code,
			Reason:     reason,
			Message:    "exec: \"x\" is not there",
			StartedAt:  metav1.Now(),
			FinishedAt: metav1.Now(),
		},
	}
}

func waiting(reason string) corev1.ContainerState {
	return corev1.ContainerState{
		Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: "kubelet message"},
	}
}

// podEnd is a final status of a pod and the expected exit.
type podEnd struct {
	status      corev1.PodStatus
	code        int
	oom, killed bool
	reason      string
}

func podEnds() map[string]podEnd {
	target := corev1.PodCondition{
		Type:    corev1.DisruptionTarget,
		Status:  corev1.ConditionTrue,
		Reason:  "PreemptionByScheduler",
		Message: "for another",
	}

	return map[string]podEnd{
		"memory limit": {
			status(corev1.PodFailed, endedState(137, "OOMKilled"), "", ""),
			137, true, false,
			"out of memory: the limit is 64 MiB",
		},
		"disk limit": {
			status(corev1.PodFailed, endedState(137, "Error"),
				"Evicted", "usage exceeds the limit"),
			137, false, false,
			"evicted: Evicted: usage exceeds the limit",
		},
		"disk pressure of node": {
			status(corev1.PodFailed, corev1.ContainerState{},
				"Evicted", "the node is low", target),
			137, false, true,
			"its pod failed: Evicted: the node is low",
		},
		"preempted": {
			status(corev1.PodFailed, endedState(143, "Error"), "", "", target),
			143, false, true,
			"killed by signal 15 (SIGTERM): PreemptionByScheduler: for another",
		},
		"node shutdown": {
			status(corev1.PodFailed, corev1.ContainerState{}, "Terminated", "node shutdown"),
			137, false, true,
			"its pod failed: Terminated: node shutdown",
		},
		"missing program": {
			status(corev1.PodFailed, endedState(128, "StartError"), "", ""),
			127, false, false,
			`the command could not be started: exec: "x" is not there`,
		},
		"missing image": {
			status(corev1.PodPending, waiting("ImagePullBackOff"), "", ""),
			127, false, false,
			"the command could not be started: " +
				"its image cannot be pulled: ImagePullBackOff: kubelet message",
		},
		"invalid image name": {
			status(corev1.PodPending, waiting("InvalidImageName"), "", ""),
			127, false, false,
			"the command could not be started: " +
				"its image is unusable: InvalidImageName: kubelet message",
		},
		"exit code": {
			status(corev1.PodFailed, endedState(9, "Error"), "", ""),
			9, false, false,
			"exited with code 9",
		},
		"success": {
			status(corev1.PodSucceeded, endedState(0, "Completed"), "", ""),
			0, false, false,
			"",
		},
		"unknown status": {
			status(corev1.PodFailed, endedState(137, "ContainerStatusUnknown"), "", ""),
			137, false, true,
			"killed by signal 9 (SIGKILL)",
		},
	}
}

// TestKubernetesEnds sets each final status that a kubelet or the cluster gives a pod.
func TestKubernetesEnds(t *testing.T) {
	t.Parallel()
	needK8s(t)
	for name, test := range podEnds() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newManual(t, manualImage)
			require.NoError(t, setPodStatus(k8s.Admin, b.pod(t, true), test.status))
			exit := b.end(t)
			require.Equal(t, test.code, exit.Code)
			require.Equal(t, test.oom, exit.OOMKilled)
			require.Equal(t, test.killed, exit.Killed)
			require.Equal(t, test.reason, exit.Reason)
			if test.status.Phase == corev1.PodPending {
				require.True(t, *b.job(t).Spec.Suspend,
					"a container that was reported as not started must not start later")
				require.True(t, driver.IsNonRetryable(b.Start(t.Context(), "manual")))
			}
			require.NoError(t, removeManual(t, b))
		})
	}
}

// removeManual removes a container and confirms the deletion of its pods instead of a kubelet.
func removeManual(t *testing.T, b manual) error {
	removed := make(chan error, 1)
	go func() { removed <- b.Remove(t.Context(), "manual") }()
	for {
		select {
		case err := <-removed:
			return err
		case <-time.After(20 * time.Millisecond):
			forgetPods(t, b.namespace)
		}
	}
}

// forgetPods does the last step of a kubelet for pods that were deleted.
func forgetPods(t *testing.T, namespace string) {
	pods, err := k8s.Admin.CoreV1().Pods(namespace).List(context.Background(), metav1.ListOptions{})
	require.NoError(t, err)
	for _, pod := range pods.Items {
		if pod.DeletionTimestamp == nil {
			continue
		}
		// A kubelet first reports that the container has ended. The Job controller counts nothing else.
		if pod.Status.Phase != corev1.PodFailed && pod.Status.Phase != corev1.PodSucceeded {
			failed := status(corev1.PodFailed, corev1.ContainerState{}, "", "")
			if err := setPodStatus(k8s.Admin, &pod, failed); err != nil {
				require.True(t, apierrors.IsNotFound(err), "%v", err)
			}
		}
		zero := int64(0)
		err := k8s.Admin.CoreV1().
			Pods(namespace).
			Delete(context.Background(), pod.Name, metav1.DeleteOptions{GracePeriodSeconds: &zero})
		if err != nil {
			require.True(t, apierrors.IsNotFound(err), "%v", err)
		}
	}
}

// TestKubernetesNodeLost deletes a running pod, as a cluster does when a node is silent, without a kubelet.
func TestKubernetesNodeLost(t *testing.T) {
	t.Parallel()
	b := newManual(t, manualImage)
	pod := b.pod(t, true)
	require.NoError(
		t,
		setPodStatus(
			k8s.Admin,
			pod,
			status(corev1.PodRunning,
				corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}}, "",
				""),
		),
	)
	grace := int64(1)
	require.NoError(
		t,
		k8s.Admin.CoreV1().
			Pods(b.namespace).
			Delete(t.Context(), pod.Name, metav1.DeleteOptions{GracePeriodSeconds: &grace}),
	)
	exit := b.end(t)
	require.True(t, exit.Killed)
	require.Contains(t, exit.Reason, "its node fake-node does not respond")
	require.NoError(t, b.Remove(t.Context(), "manual"), "without a confirmation of the node")
}

// TestKubernetesPodDeleted deletes the pod before it is scheduled.
func TestKubernetesPodDeleted(t *testing.T) {
	t.Parallel()
	b := newManual(t, pendingImage)
	pod := b.pod(t, false)
	require.NoError(t,
		k8s.Admin.CoreV1().Pods(b.namespace).Delete(t.Context(), pod.Name, metav1.DeleteOptions{}))
	exit := b.end(t)
	require.True(t, exit.Killed)
	require.Equal(t, driver.StoppedExitCode, exit.Code)
	require.NoError(t, removeManual(t, b))
}

// TestKubernetesStopPending stops a container whose pod is not scheduled.
func TestKubernetesStopPending(t *testing.T) {
	t.Parallel()
	b := newManual(t, pendingImage)
	b.pod(t, false)
	require.NoError(t, b.Stop(t.Context(), "manual", time.Minute))
	require.Equal(t, driver.StoppedExitCode, b.end(t).Code)
	require.NoError(t, removeManual(t, b))
}

// TestKubernetesJob checks the Job: limits, no privileges, no token, and no value of a variable.
func TestKubernetesJob(t *testing.T) {
	t.Parallel()
	kubeconfig, namespace := k8sNamespace(t)
	long := strings.Repeat("n", 200)
	opts := kubernetes.Options{NodeID: long, Kubeconfig: kubeconfig, ImagePullSecrets: []string{"pull"}}
	r, err := kubernetes.New(opts)
	require.NoError(t, err)
	spec := driver.Spec{
		Name:    "A_" + strings.Repeat("x", 126),
		Image:   manualImage,
		Command: []string{"$(config.token)"},
		Env: map[string]string{
			"config.token": "very secret",
		},
		Labels:    map[string]string{"task_id": long, "role": "互通"},
		Resources: bfia.Resources{CPUMilli: 250, Memory: 64 << 20, Disk: 1 << 30, GPU: 2},
	}
	id, err := r.Create(t.Context(), spec)
	require.NoError(t, err)
	jobs, err := k8s.Admin.BatchV1().Jobs(namespace).List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	require.Len(t, jobs.Items, 1)
	job := jobs.Items[0]
	require.Equal(t, id, string(job.UID))
	text, err := json.Marshal(job)
	require.NoError(t, err)
	require.NotContains(t, string(text), "very secret")
	pod := job.Spec.Template.Spec
	require.False(t, *pod.AutomountServiceAccountToken)
	require.Equal(t, "pull", pod.ImagePullSecrets[0].Name)
	require.Equal(t, int32(0), *job.Spec.BackoffLimit)
	limits := pod.Containers[0].Resources.Limits
	require.Equal(t, []int64{250, 64 << 20, 1 << 30},
		[]int64{limits.Cpu().MilliValue(), limits.Memory().Value(), limits.StorageEphemeral().Value()})
	gpus := limits["nvidia.com/gpu"]
	require.Equal(t, int64(2), gpus.Value())
	require.Contains(t, pod.Containers[0].VolumeMounts,
		corev1.VolumeMount{Name: "shm", MountPath: "/dev/shm"})
	shm := pod.Volumes[slices.IndexFunc(pod.Volumes, func(v corev1.Volume) bool { return v.Name == "shm" })]
	require.Equal(t, corev1.StorageMediumMemory, shm.EmptyDir.Medium)
	require.Equal(t, int64(64<<20), shm.EmptyDir.SizeLimit.Value(), "the memory limit")
	require.Equal(t, []string{"$$(config.token)"}, pod.Containers[0].Args)
	containers, err := r.List(t.Context())
	require.NoError(t, err)
	require.Len(t, containers, 1)
	require.Equal(t, spec.Name, containers[0].Name)
	require.Equal(t, spec.Labels, containers[0].Labels)

	requireForeign(t, opts, spec.Name)
	secrets := func() int {
		list, err := k8s.Admin.CoreV1().Secrets(namespace).List(t.Context(), metav1.ListOptions{})
		require.NoError(t, err)
		return len(list.Items)
	}
	require.Equal(t, 1, secrets())
	require.NoError(t, r.Remove(t.Context(), spec.Name))
	require.Eventually(t, func() bool { return secrets() == 0 }, time.Minute, 20*time.Millisecond,
		"the environment is deleted with its Job")
}

// requireForeign checks that another party in the same namespace neither lists nor changes a container.
func requireForeign(t *testing.T, opts kubernetes.Options, name string) {
	opts.NodeID = "other"
	other, err := kubernetes.New(opts)
	require.NoError(t, err)
	containers, err := other.List(t.Context())
	require.NoError(t, err)
	require.Empty(t, containers)
	require.NoError(t, other.Remove(t.Context(), name))
	_, err = other.Wait(t.Context(), name)
	require.ErrorIs(t, err, driver.ErrNotFound)
}

func TestKubernetesCapacity(t *testing.T) {
	t.Parallel()
	d := newFixture(t)
	c, err := d.Driver.Capacity(t.Context())
	require.NoError(t, err)
	require.Equal(t, driver.Capacity{Resources: bfia.Resources{CPUMilli: 3500, Memory: 7 << 30,
		Disk: 90 << 30, GPU: 4}}, c)
}

// TestKubernetesUnreachable calls an API server that does not exist.
func TestKubernetesUnreachable(t *testing.T) {
	t.Parallel()
	kubeconfig, _ := k8sNamespace(t)
	config, err := clientcmd.LoadFromFile(kubeconfig)
	require.NoError(t, err)
	config.Clusters["test"].Server = "https://127.0.0.1:1"
	require.NoError(t, clientcmd.WriteToFile(*config, kubeconfig))
	r, err := kubernetes.New(kubernetes.Options{NodeID: "n", Kubeconfig: kubeconfig})
	require.NoError(t, err)
	_, createErr := r.Create(t.Context(), driver.Spec{Name: "name", Image: progImage})
	for _, err := range []error{
		createErr, r.Start(t.Context(), "name"), r.Stop(short(t), "name", 0), r.Remove(t.Context(), "name"),
		r.Logs(t.Context(), "name", false, io.Discard),
	} {
		require.Error(t, err)
		require.False(t, driver.IsNonRetryable(err), "%v", err)
		require.NotErrorIs(t, err, driver.ErrNotFound)
	}
	_, err = r.Wait(short(t), "name")
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func short(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

// TestKubernetesReconnects cuts all connections to the API server during a Wait and a followed log.
func TestKubernetesReconnects(t *testing.T) {
	t.Parallel()
	kubeconfig, _ := k8sNamespace(t)
	config, err := clientcmd.LoadFromFile(kubeconfig)
	require.NoError(t, err)
	server := config.Clusters["test"].Server
	address, err := ports.Address() // the kernel gives it to no connection while the relay is cut
	require.NoError(t, err)
	relay := &drivertest.Relay{
		Network: "tcp",
		Address: address,
		Target:  strings.TrimPrefix(server, "https://"),
	}
	relay.Listen(t)
	t.Cleanup(relay.Cut)
	opts := kubernetes.Options{NodeID: "T" + rand.Text(), Kubeconfig: kubeconfig}
	near, err := kubernetes.New(opts)
	require.NoError(t, err)
	config.Clusters["test"].Server = "https://" + relay.Address
	opts.Kubeconfig = filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, clientcmd.WriteToFile(*config, opts.Kubeconfig))
	far, err := kubernetes.New(opts)
	require.NoError(t, err)
	drivertest.RemoveAllAfter(t, near)

	ctx, dir := t.Context(), drivertest.TempDir(t)
	spec := driver.Spec{
		Name:    "reconnects",
		Image:   progImage,
		Command: []string{"/prog", "print", "before", "wait", dir + "/go", "print", "after", "exit", "6"},
	}
	drivertest.Launch(t, ctx, far, spec)
	var group sync.WaitGroup
	group.Go(func() {
		exit, err := far.Wait(ctx, spec.Name)
		if err != nil || exit.Code != 6 {
			t.Errorf("%+v, %v", exit, err)
		}
	})
	f := &drivertest.Finder{Text: "before", Found: sync.OnceFunc(func() {
		relay.Cut()
		drivertest.Touch(t, dir+"/go")
		if _, err := near.Wait(ctx, spec.Name); err != nil {
			t.Error(err)
		}
		relay.Listen(t)
	})}
	require.NoError(t, far.Logs(ctx, spec.Name, true, f))
	group.Wait()
	require.Equal(t, []string{"before", "after"}, drivertest.Lines(t, f.String()))
}
