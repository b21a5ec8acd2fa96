package party

import "hutong/activities/driver/kubernetes"

// OpenKubernetes returns the party's Kubernetes driver. It does not connect to the cluster.
func (c *Config) OpenKubernetes() (*kubernetes.Driver, error) {
	k := c.Runner.K8s
	return kubernetes.New(kubernetes.Options{NodeID: c.NodeID, Kubeconfig: k.Kubeconfig,
		Namespace: k.Namespace, ImagePullSecrets: k.ImagePullSecrets, Proxy: c.Proxy.Rule()})
}
