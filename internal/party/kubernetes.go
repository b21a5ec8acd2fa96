package party

import "hutong/activities/driver/kubernetes"

// OpenKubernetes returns the Kubernetes driver. It does not connect to the cluster.
func (c RunnerConfig) OpenKubernetes(node string) (*kubernetes.Driver, error) {
	k := c.K8s

	return kubernetes.New(kubernetes.Options{NodeID: node, Kubeconfig: k.Kubeconfig, Namespace: k.Namespace,
		ImagePullSecrets: k.ImagePullSecrets, GPUResource: k.GPUResource, SharedMemory: c.sharedMemory()})
}

// sharedMemory returns the configured size of /dev/shm in bytes.
func (c RunnerConfig) sharedMemory() int64 { return int64(c.SharedMemory * (1 << 30)) }
