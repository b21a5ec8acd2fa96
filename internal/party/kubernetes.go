package party

import "hutong/activities/driver/kubernetes"

// Open makes the runner of the k8s device. It does not talk to the cluster yet.
func (c KubernetesConfig) Open(node string) (*kubernetes.Driver, error) {
	return kubernetes.New(kubernetes.Options{NodeID: node, Kubeconfig: c.Kubeconfig, Namespace: c.Namespace,
		ImagePullSecrets: c.ImagePullSecrets})
}
