package party

import "hutong/activities/driver/kubernetes"

// Open returns the Kubernetes driver. It does not connect to the cluster.
func (c KubernetesConfig) Open(node string) (*kubernetes.Driver, error) {
	return kubernetes.New(kubernetes.Options{NodeID: node, Kubeconfig: c.Kubeconfig, Namespace: c.Namespace,
		ImagePullSecrets: c.ImagePullSecrets})
}
