package party

import "hutong/activities/driver/kubernetes"

// OpenKubernetes returns the Kubernetes driver. It does not connect to the cluster.
func (c RunnerConfig) OpenKubernetes(node string) (*kubernetes.Driver, error) {
	return kubernetes.New(kubernetes.Options{NodeID: node, Kubeconfig: c.K8s.Kubeconfig,
		Namespace: c.K8s.Namespace, ImagePullSecrets: c.K8s.ImagePullSecrets,
		LogFilesLimit: int64(c.LogFilesMiB) << 20})
}
