package kubernetes_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"

	"hutong/activities/driver"
	"hutong/activities/driver/kubernetes"
	"hutong/bfia"
)

// TestKubernetesProfile sends the pods of Jobs to the API server's admission, in a namespace that admits only
// pods of the Pod Security Standard "restricted".
func TestKubernetesProfile(t *testing.T) {
	t.Parallel()
	kubeconfig, namespace := k8sNamespace(t)
	ctx := t.Context()
	admit := func(name string, opts kubernetes.Options, allow bfia.Exceptions) (*corev1.Pod, error) {
		opts.NodeID, opts.Kubeconfig = "N-"+name, kubeconfig
		d, err := kubernetes.New(opts)
		require.NoError(t, err)
		spec := driver.Spec{Name: name, Image: "x:1", Env: map[string]string{"A": "b"}, Allow: allow}
		_, err = d.Create(ctx, spec)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, d.Remove(context.WithoutCancel(t.Context()), name)) })
		jobs, err := k8s.Admin.BatchV1().Jobs(namespace).List(ctx, metav1.ListOptions{})
		require.NoError(t, err)
		for _, job := range jobs.Items {
			if strings.Contains(job.Annotations["hutong/node-id"], name) {
				pod := &corev1.Pod{ObjectMeta: job.Spec.Template.ObjectMeta, Spec: job.Spec.Template.Spec}
				pod.Name = strings.ToLower(name)
				return k8s.Admin.CoreV1().Pods(namespace).Create(ctx, pod,
					metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			}
		}
		t.Fatal("there is no Job")
		return nil, nil
	}

	pod, err := admit("usual", kubernetes.Options{TmpBytes: 5 << 20, UserNamespace: true}, bfia.Exceptions{})
	require.NoError(t, err)
	require.False(t, *pod.Spec.HostUsers)
	require.False(t, *pod.Spec.AutomountServiceAccountToken)
	require.True(t, *pod.Spec.SecurityContext.RunAsNonRoot)
	require.Equal(t, kubernetes.ContainerUID, *pod.Spec.SecurityContext.RunAsUser)
	require.Equal(t, corev1.SeccompProfileTypeRuntimeDefault, pod.Spec.SecurityContext.SeccompProfile.Type)
	task := pod.Spec.Containers[0]
	require.True(t, *task.SecurityContext.ReadOnlyRootFilesystem)
	require.Equal(t, []corev1.Capability{"ALL"}, task.SecurityContext.Capabilities.Drop)
	mounts := map[string]string{}
	for _, m := range task.VolumeMounts {
		mounts[m.MountPath] = m.Name
	}
	for _, v := range pod.Spec.Volumes {
		if v.Name == mounts["/tmp"] {
			require.EqualValues(t, 5<<20, v.EmptyDir.SizeLimit.Value())
		}
	}
	require.Equal(t, "tmp", mounts["/tmp"])

	pod, err = admit("writable", kubernetes.Options{}, bfia.Exceptions{Writable: true})
	require.NoError(t, err)
	require.False(t, *pod.Spec.Containers[0].SecurityContext.ReadOnlyRootFilesystem)

	_, err = admit("root", kubernetes.Options{}, bfia.Exceptions{Root: true})
	require.True(t, apierrors.IsForbidden(err), "%v", err)
	require.ErrorContains(t, err, "runAsNonRoot")

	_, err = admit("runtime", kubernetes.Options{RuntimeClass: "not-there"}, bfia.Exceptions{})
	require.True(t, apierrors.IsForbidden(err), "%v", err)
	require.ErrorContains(t, err, `"not-there" not found`)
}

// TestKubernetesNetworkPolicies has the API server check the policies, and compares them with the label of
// pods.
func TestKubernetesNetworkPolicies(t *testing.T) {
	t.Parallel()
	_, namespace := k8sNamespace(t)
	manifest, err := os.ReadFile("../../../deploy/kubernetes/network.yaml")
	require.NoError(t, err)
	documents := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(manifest), 4096)
	var names []string
	for {
		var policy networkingv1.NetworkPolicy
		if err := documents.Decode(&policy); err == io.EOF {
			break
		} else {
			require.NoError(t, err)
		}
		policy.Namespace = namespace
		created, err := k8s.Admin.NetworkingV1().NetworkPolicies(namespace).Create(t.Context(), &policy,
			metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict})
		require.NoError(t, err)
		selector, err := metav1.LabelSelectorAsSelector(&created.Spec.PodSelector)
		require.NoError(t, err)
		require.Equal(t, "hutong/node", selector.String())
		names = append(names, created.Name)
		if created.Name == "hutong-tasks-deny" {
			require.Empty(t, created.Spec.Egress)
			require.Empty(t, created.Spec.Ingress)
			require.Len(t, created.Spec.PolicyTypes, 2)
		}
	}
	require.Equal(t, []string{"hutong-tasks-deny", "hutong-tasks-to-party"}, names)
}
