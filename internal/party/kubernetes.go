package party

import "hutong/activities/driver/kubernetes"

// OpenKubernetes returns the party's Kubernetes driver. It does not connect to the cluster.
func (c *Config) OpenKubernetes() (*kubernetes.Driver, error) {
	k := c.Runner.K8s

	return kubernetes.New(kubernetes.Options{NodeID: c.NodeID, Kubeconfig: k.Kubeconfig,
		Namespace: k.Namespace, ImagePullSecrets: k.ImagePullSecrets, GPUResource: k.GPUResource,
		SharedMemory: c.Runner.sharedMemory(), Proxy: c.Proxy.Rule(),
		TmpBytes: c.Runner.tmpBytes(), RuntimeClass: k.RuntimeClass, UserNamespace: k.UserNamespace,
		LogFilesLimit: int64(c.Runner.LogFilesMiB) << 20})
}

// sharedMemory returns the configured size of /dev/shm in bytes.
func (c RunnerConfig) sharedMemory() int64 { return int64(c.SharedMemory * (1 << 30)) }

func (c RunnerConfig) tmpBytes() int64 { return int64(c.TmpMiB) << 20 }
