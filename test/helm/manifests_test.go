package helm

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"
	psapi "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	sigsyaml "sigs.k8s.io/yaml"
)

// TestManifests checks that every manifest is strictly one of its type, and that the chart makes the expected
// ones.
func TestManifests(t *testing.T) {
	for _, file := range valueFiles {
		t.Run(file, func(t *testing.T) {
			r := open(t, file)
			kinds := map[string]int{}
			for _, o := range r.objects {
				kinds[o.GetObjectKind().GroupVersionKind().Kind]++
				assert.Empty(t, validation.IsDNS1123Subdomain(o.GetName()), o.GetName())
				for key, value := range o.GetLabels() {
					assert.Empty(t, validation.IsValidLabelValue(value), "%s: %s", o.GetName(), key)
				}
				assert.Contains(t, []string{"", "bank-a-tasks"}, o.GetNamespace())
			}
			want := map[string]int{"ConfigMap": 2, "Deployment": 3, "Job": 1, "NetworkPolicy": 6,
				"Role": 1, "RoleBinding": 1, "Service": 5, "ServiceAccount": 1, "StatefulSet": 1}
			switch file {
			case "least.yaml":
				want["ClusterRole"], want["ClusterRoleBinding"], want["PodDisruptionBudget"] = 1, 1, 3
			case "full.yaml":
				want["Service"], want["ServiceMonitor"], want["PodDisruptionBudget"] = 6, 1, 2
			case "single.yaml":
				want["ClusterRole"], want["ClusterRoleBinding"] = 1, 1
			}
			assert.Equal(t, want, kinds)
			assert.Equal(t, processes, slices.Sorted(maps.Keys(r.pods())))
			assert.Contains(t, r.notes, "deployment/"+name+"-api -- /hutong token create --direct")
		})
	}
}

// TestSelectors checks that everything that selects pods selects those of its process and no others, and that
// each named port exists there.
func TestSelectors(t *testing.T) {
	for _, file := range valueFiles {
		r := open(t, file)
		pods := r.pods()
		selects := func(selector map[string]string) (names []string) {
			for name, pod := range pods {
				if labels.SelectorFromSet(selector).Matches(labels.Set(pod.Labels)) {
					names = append(names, name)
				}
			}
			slices.Sort(names)
			return names
		}
		process := func(o metav1.Object) []string {
			return []string{strings.TrimPrefix(o.GetName(), name+"-")}
		}
		for _, d := range all[*appsv1.Deployment](r) {
			assert.Equal(t, process(d), selects(d.Spec.Selector.MatchLabels))
		}
		for _, s := range all[*appsv1.StatefulSet](r) {
			assert.Equal(t, process(s), selects(s.Spec.Selector.MatchLabels))
			find[*corev1.Service](t, r, s.Spec.ServiceName)
		}
		for _, b := range all[*policyv1.PodDisruptionBudget](r) {
			assert.Equal(t, process(b), selects(b.Spec.Selector.MatchLabels))
			assert.Equal(t, int32(1), b.Spec.MaxUnavailable.IntVal)
			assert.Greater(t, r.replicas()[process(b)[0]], int32(1), "%s lets no node be drained", b.Name)
		}
		for _, s := range all[*corev1.Service](r) {
			want := map[string][]string{"clients": {"api"}, "partners": {"api"}, "messages": {"transport"},
				"transport": {"transport"}, "gate": {"runner"}, "ops": processes}[process(s)[0]]
			got := selects(s.Spec.Selector)
			assert.Equal(t, want, got, s.Name)
			for _, process := range got {
				if process == "migrate" {
					continue // it serves nothing
				}
				port := s.Spec.Ports[0]
				assert.True(t, slices.ContainsFunc(pods[process].Spec.Containers[0].Ports,
					func(p corev1.ContainerPort) bool {
						return p.Name == port.TargetPort.StrVal && p.ContainerPort == port.Port
					}), "%s has no port of %s", process, s.Name)
			}
		}
		for _, p := range all[*networkingv1.NetworkPolicy](r) {
			if p.Namespace != "" {
				continue
			}
			assert.Equal(t, process(p), selects(p.Spec.PodSelector.MatchLabels))
			var open []string
			for _, rule := range p.Spec.Ingress {
				open = append(open, rule.Ports[0].Port.StrVal)
			}
			var served []string
			for _, port := range pods[process(p)[0]].Spec.Containers[0].Ports {
				served = append(served, port.Name)
			}
			assert.ElementsMatch(t, served, open, "%s opens what is served, and nothing else", p.Name)
		}
	}
	r := open(t, "full.yaml")
	monitor := all[*monitoringv1.ServiceMonitor](r)[0]
	assert.Equal(t, "JG0100001100000010", *monitor.Spec.Endpoints[0].RelabelConfigs[0].Replacement)
	assert.True(t, labels.SelectorFromSet(monitor.Spec.Selector.MatchLabels).Matches(
		labels.Set(find[*corev1.Service](t, r, name+"-ops").Labels)))
}

// TestPodsOfTasksReachTheGateOnly checks the policy of the namespace of tasks.
func TestPodsOfTasksReachTheGateOnly(t *testing.T) {
	r := open(t, "least.yaml")
	p := find[*networkingv1.NetworkPolicy](t, r, name+"-tasks")
	assert.Equal(t, "bank-a-tasks", p.Namespace)
	assert.Empty(t, p.Spec.PodSelector)
	assert.ElementsMatch(t, []networkingv1.PolicyType{"Ingress", "Egress"}, p.Spec.PolicyTypes)
	assert.Empty(t, p.Spec.Ingress)
	require.Len(t, p.Spec.Egress, 1)
	require.Len(t, p.Spec.Egress[0].To, 1)
	to := p.Spec.Egress[0].To[0]
	assert.Equal(t, releaseNamespace, to.NamespaceSelector.MatchLabels["kubernetes.io/metadata.name"])
	runner := r.pods()["runner"]
	assert.True(t, labels.SelectorFromSet(to.PodSelector.MatchLabels).Matches(labels.Set(runner.Labels)))
	require.Len(t, p.Spec.Egress[0].Ports, 1)
	assert.Equal(t, int32(9381), p.Spec.Egress[0].Ports[0].Port.IntVal)
}

// TestPodsAreRestricted has Kubernetes' own policy judge the pods by the Pod Security Standard restricted.
func TestPodsAreRestricted(t *testing.T) {
	judge, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	require.NoError(t, err)
	restricted := psapi.LevelVersion{Level: psapi.LevelRestricted, Version: psapi.LatestVersion()}
	evaluate := func(pod corev1.PodTemplateSpec) policy.AggregateCheckResult {
		return policy.AggregateCheckResults(judge.EvaluatePod(restricted, &pod.ObjectMeta, &pod.Spec))
	}
	for _, file := range valueFiles {
		for process, pod := range open(t, file).pods() {
			result := evaluate(pod)
			assert.True(t, result.Allowed, "%s, %s: %s", file, process, result.ForbiddenDetail())
			require.Len(t, pod.Spec.Containers, 1)
			c := pod.Spec.Containers[0]
			assert.True(t, *c.SecurityContext.ReadOnlyRootFilesystem, process)
			assert.NotEmpty(t, c.Resources.Limits.Memory().String(), process)
			assert.Equal(t, process == "runner", *pod.Spec.AutomountServiceAccountToken, process)
			assert.Equal(t, process == "runner", *pod.Spec.EnableServiceLinks, process)
			several := open(t, file).replicas()[process] > 1 || process == "api" || process == "control"
			assert.Equal(t, several, len(pod.Spec.TopologySpreadConstraints) == 1, process)
			for _, v := range pod.Spec.Volumes {
				if v.Secret != nil {
					assert.Equal(t, int32(0o440), *v.Secret.DefaultMode)
				}
				if v.Projected != nil {
					assert.Equal(t, int32(0o440), *v.Projected.DefaultMode)
				}
			}
			pod.Spec.Containers[0].SecurityContext.Capabilities.Add = []corev1.Capability{"NET_ADMIN"}
			assert.False(t, evaluate(pod).Allowed, "the check allows a capability")
		}
	}
}

// TestProbes checks that each process is probed where it serves health, and that the two whose place no other
// pod can take stay in their Services while the database is away.
func TestProbes(t *testing.T) {
	for process, pod := range open(t, "least.yaml").pods() {
		c := pod.Spec.Containers[0]
		if process == "migrate" {
			assert.Nil(t, c.LivenessProbe)
			assert.Equal(t, corev1.RestartPolicyNever, pod.Spec.RestartPolicy)
			continue
		}
		once := process == "runner" || process == "transport"
		assert.Equal(t, "/healthz", c.LivenessProbe.HTTPGet.Path, process)
		ready := map[bool]string{true: "/healthz", false: "/readyz"}[once]
		assert.Equal(t, ready, c.ReadinessProbe.HTTPGet.Path, process)
		if once {
			assert.Equal(t, "/readyz", c.StartupProbe.HTTPGet.Path, process)
		}
		for _, probe := range []*corev1.Probe{c.LivenessProbe, c.ReadinessProbe} {
			assert.Equal(t, "ops", probe.HTTPGet.Port.StrVal, process)
		}
	}
}

// TestMigrationRunsFirst checks that the migration and its configuration are hooks, and that the latter comes
// first.
func TestMigrationRunsFirst(t *testing.T) {
	r := open(t, "least.yaml")
	job := find[*batchv1.Job](t, r, name+"-migrate")
	config := find[*corev1.ConfigMap](t, r, name+"-migrate")
	for _, o := range []object{job, config} {
		assert.Equal(t, "pre-install,pre-upgrade", o.GetAnnotations()["helm.sh/hook"])
		assert.Equal(t, "before-hook-creation", o.GetAnnotations()["helm.sh/hook-delete-policy"])
	}
	assert.Equal(t, "-1", config.Annotations["helm.sh/hook-weight"])
	assert.Empty(t, job.Annotations["helm.sh/hook-weight"])
	for _, o := range r.objects {
		if o != object(job) && o != object(config) {
			assert.Empty(t, o.GetAnnotations()["helm.sh/hook"], o.GetName())
		}
	}
	assert.Equal(t, find[*corev1.ConfigMap](t, r, name).Data, config.Data)
}

// TestRightsAreThoseOfTheManifest compares the rights of the runner with those of the manifest
// deploy/kubernetes/rbac.yaml, which the driver's tests use.
func TestRightsAreThoseOfTheManifest(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "deploy", "kubernetes", "rbac.yaml"))
	require.NoError(t, err)
	var role rbacv1.Role
	var nodes rbacv1.ClusterRole
	for document := range bytes.SplitSeq(text, []byte("\n---\n")) {
		if bytes.Contains(document, []byte("\nkind: Role\n")) {
			require.NoError(t, sigsyaml.UnmarshalStrict(document, &role))
		}
		if bytes.Contains(document, []byte("\nkind: ClusterRole\n")) {
			require.NoError(t, sigsyaml.UnmarshalStrict(document, &nodes))
		}
	}
	require.NotEmpty(t, role.Rules)
	require.NotEmpty(t, nodes.Rules)

	r := open(t, "least.yaml")
	account := find[*corev1.ServiceAccount](t, r, name+"-runner")
	assert.Equal(t, account.Name, r.pods()["runner"].Spec.ServiceAccountName)
	own := find[*rbacv1.Role](t, r, name+"-runner")
	assert.Equal(t, role.Rules, own.Rules)
	assert.Equal(t, "bank-a-tasks", own.Namespace)
	list := all[*rbacv1.ClusterRole](r)[0]
	assert.Equal(t, nodes.Rules, list.Rules)
	subject := []rbacv1.Subject{{Kind: "ServiceAccount", Name: account.Name, Namespace: releaseNamespace}}
	bound := find[*rbacv1.RoleBinding](t, r, name+"-runner")
	assert.Equal(t, subject, bound.Subjects)
	assert.Equal(t, own.Name, bound.RoleRef.Name)
	assert.Equal(t, own.Namespace, bound.Namespace)
	everywhere := all[*rbacv1.ClusterRoleBinding](r)[0]
	assert.Equal(t, subject, everywhere.Subjects)
	assert.Equal(t, list.Name, everywhere.RoleRef.Name)
}
