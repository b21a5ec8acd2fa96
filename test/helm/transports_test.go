package helm

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	sigsyaml "sigs.k8s.io/yaml"
)

// dataVolume returns the name of the volume that a pod has its data on.
func dataVolume(pod corev1.PodTemplateSpec) string {
	for _, m := range pod.Spec.Containers[0].VolumeMounts {
		if m.MountPath == "/var/lib/hutong" {
			return m.Name
		}
	}

	return ""
}

// TestTransportsKeepTheirMessages checks that each transport has a volume of its own, which a new pod of the
// same name gets, and that one without its volume keeps no other from starting.
func TestTransportsKeepTheirMessages(t *testing.T) {
	for file, replicas := range map[string]int32{"least.yaml": 2, "full.yaml": 3} {
		set := find[*appsv1.StatefulSet](t, open(t, file), name+"-transport")
		assert.Equal(t, replicas, *set.Spec.Replicas)
		assert.Equal(t, appsv1.ParallelPodManagement, set.Spec.PodManagementPolicy)
		require.Len(t, set.Spec.VolumeClaimTemplates, 1)
		claim := set.Spec.VolumeClaimTemplates[0]
		assert.Equal(t, claim.Name, dataVolume(set.Spec.Template))
		assert.Equal(t, []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, claim.Spec.AccessModes)
		for _, v := range set.Spec.Template.Spec.Volumes {
			assert.NotEqual(t, claim.Name, v.Name)
		}
		if file == "least.yaml" {
			assert.Equal(t, "40Gi", claim.Spec.Resources.Requests.Storage().String())
			assert.Nil(t, claim.Spec.StorageClassName)
			continue
		}
		assert.Equal(t, "100Gi", claim.Spec.Resources.Requests.Storage().String())
		assert.Equal(t, "fast", *claim.Spec.StorageClassName)
	}

	set := find[*appsv1.StatefulSet](t, open(t, "single.yaml"), name+"-transport")
	assert.Equal(t, int32(1), *set.Spec.Replicas)
	assert.Empty(t, set.Spec.VolumeClaimTemplates)
	volumes := set.Spec.Template.Spec.Volumes
	data := dataVolume(set.Spec.Template)
	i := slices.IndexFunc(volumes, func(v corev1.Volume) bool { return v.Name == data })
	require.GreaterOrEqual(t, i, 0)
	assert.Equal(t, "a-messages", volumes[i].PersistentVolumeClaim.ClaimName)
}

// TestTransportsAreFound checks that all processes look for transports in the database, whatever their
// number, and that each transport alone records an address: that of its own pod.
func TestTransportsAreFound(t *testing.T) {
	for _, file := range valueFiles {
		r := open(t, file)
		var party struct {
			Transport map[string]any `json:"transport"`
		}
		text := find[*corev1.ConfigMap](t, r, name).Data["party.yaml"]
		require.NoError(t, sigsyaml.Unmarshal([]byte(text), &party))
		assert.Equal(t, true, party.Transport["several"], file)
		for _, field := range []string{"advertise", "name", "standby"} {
			assert.NotContains(t, party.Transport, field, "all processes would have it")
		}
		for process, pod := range r.pods() {
			i := slices.IndexFunc(pod.Spec.Containers[0].Env, func(e corev1.EnvVar) bool {
				return e.Name == "HUTONG_TRANSPORT_ADVERTISE"
			})
			assert.Equal(t, process == "transport", i >= 0, process)
		}
		governing := find[*corev1.Service](t, r, name+"-transport")
		assert.Equal(t, corev1.ClusterIPNone, governing.Spec.ClusterIP)
		assert.Equal(t, governing.Name, find[*appsv1.StatefulSet](t, r, name+"-transport").Spec.ServiceName)
	}
}

// TestWhoReachesTransports checks that the policy lets all processes of the party that call its transports do
// so: runners with the calls of containers, control workers, which release sessions, other transports, and
// the APIs over the links that a transport holds.
func TestWhoReachesTransports(t *testing.T) {
	for _, file := range valueFiles {
		r := open(t, file)
		policy := find[*networkingv1.NetworkPolicy](t, r, name+"-transport")
		i := slices.IndexFunc(policy.Spec.Ingress, func(rule networkingv1.NetworkPolicyIngressRule) bool {
			return *rule.Ports[0].Port == intstr.FromString("transport")
		})
		require.GreaterOrEqual(t, i, 0)
		var allowed []string
		for process, pod := range r.pods() {
			for _, peer := range policy.Spec.Ingress[i].From {
				require.Nil(t, peer.NamespaceSelector, "pods of other namespaces")
				if labels.SelectorFromSet(peer.PodSelector.MatchLabels).Matches(labels.Set(pod.Labels)) {
					allowed = append(allowed, process)
				}
			}
		}
		slices.Sort(allowed)
		assert.Equal(t, []string{"api", "control", "runner", "transport"}, allowed, file)
	}
}
