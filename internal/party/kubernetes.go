package party

import "hutong/activities/runner"

// Open makes the runner of the k8s device. It does not talk to the cluster yet.
func (c KubernetesConfig) Open(node string) (*runner.Kubernetes, error) {
	return runner.NewKubernetes(runner.KubernetesOptions{NodeID: node, Kubeconfig: c.Kubeconfig, Namespace: c.Namespace,
		ImagePullSecrets: c.ImagePullSecrets})
}
