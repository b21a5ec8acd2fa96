package kubernetes

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path"
	"regexp"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	clientset "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"hutong/activities/driver"
	"hutong/internal/httpclient"
)

// Options configure a Driver.
type Options struct {
	// NodeID is the party's node id. The driver only touches what carries it.
	NodeID string

	// Kubeconfig is the file with the cluster's address and the credentials. "" is the cluster in which this
	// process runs as a pod.
	Kubeconfig string

	// Namespace is the namespace of the Jobs. "" is that of the kubeconfig's context or of this pod.
	Namespace string

	// ImagePullSecrets are the names of the namespace's secrets by which nodes pull images.
	ImagePullSecrets []string

	// LogFilesLimit bounds a pod's files below LogPath, in bytes. Its node evicts a pod that exceeds it. 0 is
	// no limit.
	LogFilesLimit int64

	// Proxy chooses the proxy of the connection to the cluster, unless the kubeconfig names one.
	Proxy httpclient.Proxy

	// GPUResource is the name by which nodes offer GPUs. "" is nvidia.com/gpu.
	GPUResource string

	// SharedMemory is the size of /dev/shm in bytes. 0 is the container's memory limit, or what the node
	// allows if it has none.
	SharedMemory int64

	// TmpBytes is the size of /tmp, on the node's disk. 0 is DefaultTmpBytes.
	TmpBytes int64

	// RuntimeClass is the name of the RuntimeClass of the pods. "" is the cluster's default.
	RuntimeClass string

	// UserNamespace gives each pod a user namespace of its own (hostUsers: false). The nodes must support it:
	// Kubernetes 1.33 with Linux 6.3 and a runtime such as containerd 2.
	UserNamespace bool

	// PullTimeout is how long pulling an image may fail before the container fails. 0 is two minutes.
	PullTimeout time.Duration

	// LostTimeout is how long after the deadline of a deleted pod its node counts as lost. 0 is a minute.
	LostTimeout time.Duration
}

// Driver runs Jobs in one namespace of a cluster. Create one with New.
type Driver struct {
	opts   Options
	calls  clientset.Interface // with a timeout, for an API server that hangs
	stream clientset.Interface // without a timeout, for watches and logs
}

// The labels and annotations of Jobs. Values of labels are limited in length, so the driver identifies a
// container by annotations.
const (
	nodeLabel = "hutong/node" // the node id, or its digest if it is not a valid label

	nodeAnnotation      = "hutong/node-id"
	containerAnnotation = "hutong/container"
	labelsAnnotation    = "hutong/labels"  // the spec's labels as JSON
	secretsAnnotation   = "hutong/secrets" // the prefix of the names of the secrets that hold the environment
	startedAnnotation   = "hutong/started" // the time of the start, RFC 3339
	stoppedAnnotation   = "hutong/stopped" // the time of the first Stop of a pod, RFC 3339
	exitAnnotation      = "hutong/exit"    // JSON of an Exit; written once, and authoritative from then on

	containerName = "task"

	requestTimeout     = 2 * time.Minute
	defaultPullTimeout = 2 * time.Minute
	defaultLostTimeout = time.Minute
	namespaceFile      = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"
)

var (
	_ driver.Driver = (*Driver)(nil)
	_ driver.Server = (*Driver)(nil)
)

const (
	// ContainerUID is the user and group of containers, unless their provider has the exception
	// [bfia.Exceptions].Root.
	ContainerUID int64 = 65532

	// DefaultTmpBytes is the default size of a container's /tmp.
	DefaultTmpBytes = 1 << 30
)

// New returns a driver for Kubernetes Jobs. It does not connect to the cluster.
func New(opts Options) (*Driver, error) {
	if opts.NodeID == "" {
		return nil, driver.NonRetryablef("kubernetes driver: the node id is missing")
	}
	if opts.GPUResource == "" {
		opts.GPUResource = "nvidia.com/gpu"
	}
	opts.TmpBytes = cmp.Or(opts.TmpBytes, DefaultTmpBytes)
	if opts.PullTimeout == 0 {
		opts.PullTimeout = defaultPullTimeout
	}
	if opts.LostTimeout == 0 {
		opts.LostTimeout = defaultLostTimeout
	}

	config, err := clusterConfig(&opts)
	if err != nil {
		return nil, fmt.Errorf("kubernetes driver: %w", err)
	}
	if problems := validation.IsDNS1123Label(opts.Namespace); len(problems) > 0 {
		return nil, driver.NonRetryablef("kubernetes driver: the namespace %q: %s",
			opts.Namespace, strings.Join(problems, "; "))
	}
	config.UserAgent = "hutong"
	if config.Proxy == nil { // the kubeconfig has no proxy-url
		config.Proxy = opts.Proxy.For
	}
	config.QPS = -1 // unlimited, because the API server has its own priority and fairness

	k := &Driver{opts: opts}
	if k.stream, err = clientset.NewForConfig(config); err != nil {
		return nil, fmt.Errorf("kubernetes driver: %w", err)
	}

	bounded := rest.CopyConfig(config)
	bounded.Timeout = requestTimeout
	if k.calls, err = clientset.NewForConfig(bounded); err != nil {
		return nil, fmt.Errorf("kubernetes driver: %w", err)
	}

	return k, nil
}

// clusterConfig returns the configuration of the client, and sets the default namespace.
func clusterConfig(opts *Options) (*rest.Config, error) {
	if opts.Kubeconfig == "" {
		config, err := rest.InClusterConfig()
		if err != nil {
			return nil, driver.NonRetryablef("no kubeconfig is configured, and this process is not a pod: %w",
				err)
		}

		if opts.Namespace == "" {
			b, err := os.ReadFile(namespaceFile)
			if err != nil {
				return nil, fmt.Errorf("failed to read this pod's namespace: %w", err)
			}
			opts.Namespace = strings.TrimSpace(string(b))
		}

		return config, nil
	}

	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		&clientcmd.ClientConfigLoadingRules{ExplicitPath: opts.Kubeconfig}, &clientcmd.ConfigOverrides{})
	config, err := loader.ClientConfig()
	if err != nil {
		return nil, driver.NonRetryablef("the kubeconfig %s: %w", opts.Kubeconfig, err)
	}

	if opts.Namespace == "" {
		if opts.Namespace, _, err = loader.Namespace(); err != nil {
			return nil, driver.NonRetryablef("the namespace of the kubeconfig %s: %w", opts.Kubeconfig, err)
		}
	}

	return config, nil
}

// Device returns "k8s".
func (k *Driver) Device() string { return "k8s" }

// RunnerID returns an id with the uid of the namespace, which is unique across clusters. All workers that use
// the namespace are one runner.
func (k *Driver) RunnerID(ctx context.Context) (string, error) {
	ns, err := k.calls.CoreV1().Namespaces().Get(ctx, k.opts.Namespace, metav1.GetOptions{})
	if err != nil {
		return "", driver.WrapError("get the namespace "+k.opts.Namespace, "", classify(err))
	}

	return "k8s-" + string(ns.UID), nil
}

// StorageRoot returns a path that does not exist. Pods cannot access this machine's files, so Create refuses
// mounts.
func (k *Driver) StorageRoot(string) string { return path.Join(driver.ContainerRoot, "storage") }

// LogPath returns an empty folder on the node's disk that is deleted with the pod.
func (k *Driver) LogPath(string) string { return path.Join(driver.ContainerRoot, "logs") }

// ControlPort returns the default port, because pods have addresses of their own.
func (k *Driver) ControlPort() (int, error) { return driver.ContainerControlPort, nil }

// Address returns the pod's address.
func (k *Driver) Address(ctx context.Context, name string) (string, error) {
	address, err := k.address(ctx, name)

	return address, driver.WrapError("find the address of", name, err)
}

func (k *Driver) address(ctx context.Context, name string) (string, error) {
	job, err := k.find(ctx, name)
	if err != nil {
		return "", err
	}

	pods, err := k.pods(ctx, job.Name)
	if err != nil {
		return "", err
	}

	pod := newest(pods.Items)
	if pod != nil && pod.Status.Phase == corev1.PodRunning && pod.Status.PodIP != "" {
		return pod.Status.PodIP, nil
	}

	return "", fmt.Errorf("it does not run and has no address: %w", driver.ErrNotFound)
}

// Capacity returns the total allocatable resources of the nodes that accept pods. It is unknown if the
// cluster does not permit the party to list its nodes.
func (k *Driver) Capacity(ctx context.Context) (driver.Capacity, error) {
	var c driver.Capacity
	options := metav1.ListOptions{Limit: pageSize}

	for {
		list, err := k.calls.CoreV1().Nodes().List(ctx, options)
		if apierrors.IsForbidden(err) {
			return driver.Capacity{}, nil
		}
		if err != nil {
			return driver.Capacity{}, driver.WrapError("list the cluster's nodes", "", classify(err))
		}

		for _, node := range list.Items {
			if !acceptsPods(node) {
				continue
			}
			c.CPUMilli += node.Status.Allocatable.Cpu().MilliValue()
			c.Memory += node.Status.Allocatable.Memory().Value()
			c.Disk += node.Status.Allocatable.StorageEphemeral().Value()
			gpus := node.Status.Allocatable[corev1.ResourceName(k.opts.GPUResource)]
			c.GPU += gpus.Value()
		}

		if options.Continue = list.Continue; options.Continue == "" {
			return c, nil
		}
	}
}

const pageSize = 500

func acceptsPods(node corev1.Node) bool {
	if node.Spec.Unschedulable {
		return false
	}

	for _, taint := range node.Spec.Taints {
		if taint.Effect != corev1.TaintEffectPreferNoSchedule {
			return false // the pods have no tolerations
		}
	}

	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			return condition.Status == corev1.ConditionTrue
		}
	}

	return false
}

// List returns the party's Jobs.
func (k *Driver) List(ctx context.Context) ([]driver.Container, error) {
	var containers []driver.Container
	options := metav1.ListOptions{LabelSelector: nodeLabel + "=" + k.nodeLabelValue(), Limit: pageSize}

	for {
		list, err := k.calls.BatchV1().Jobs(k.opts.Namespace).List(ctx, options)
		if err != nil {
			return nil, driver.WrapError("list Jobs", "", classify(err))
		}

		for i := range list.Items {
			job := &list.Items[i]
			if job.Annotations[nodeAnnotation] != k.opts.NodeID || job.DeletionTimestamp != nil {
				continue
			}

			c := driver.Container{
				Name: job.Annotations[containerAnnotation], ID: string(job.UID),
				State: stateOf(job), CreatedAt: job.CreationTimestamp.UTC(),
			}
			if err := json.Unmarshal([]byte(job.Annotations[labelsAnnotation]), &c.Labels); err != nil {
				err = fmt.Errorf("the annotation %s of the Job %s: %w", labelsAnnotation, job.Name, err)
				return nil, driver.WrapError("list", c.Name, err)
			}
			containers = append(containers, c)
		}

		if options.Continue = list.Continue; options.Continue == "" {
			return containers, nil
		}
	}
}

func stateOf(job *batchv1.Job) driver.State {
	switch {
	case job.Annotations[exitAnnotation] != "" || endCondition(job) != "":
		return driver.Exited
	case job.Annotations[startedAnnotation] != "":
		return driver.Running
	}

	return driver.Created
}

// endCondition returns the condition with which a Job has ended, or "".
func endCondition(job *batchv1.Job) batchv1.JobConditionType {
	for _, c := range job.Status.Conditions {
		if (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) &&
			c.Status == corev1.ConditionTrue {
			return c.Type
		}
	}

	return ""
}

// find gets the container's Job, and returns ErrNotFound if it is being removed.
func (k *Driver) find(ctx context.Context, name string) (*batchv1.Job, error) {
	job, err := k.getOwned(ctx, name)
	if err == nil && job.DeletionTimestamp != nil {
		return nil, fmt.Errorf("the Job is being removed: %w", driver.ErrNotFound)
	}

	return job, err
}

// getOwned gets the container's Job and verifies that the party owns it.
func (k *Driver) getOwned(ctx context.Context, name string) (*batchv1.Job, error) {
	if err := driver.CheckName(name); err != nil {
		return nil, err
	}

	job, err := k.calls.BatchV1().Jobs(k.opts.Namespace).Get(ctx, k.jobName(name), metav1.GetOptions{})
	if err != nil {
		return nil, classify(err)
	}

	if job.Annotations[nodeAnnotation] != k.opts.NodeID || job.Annotations[containerAnnotation] != name {
		return job, driver.NonRetryablef(
			"the Job %q was not created by Hutong for container %s of node %s; remove it",
			job.Name,
			name,
			k.opts.NodeID,
		)
	}

	return job, nil
}

func (k *Driver) pods(ctx context.Context, jobName string) (*corev1.PodList, error) {
	options := metav1.ListOptions{LabelSelector: batchv1.JobNameLabel + "=" + jobName}
	pods, err := k.calls.CoreV1().Pods(k.opts.Namespace).List(ctx, options)

	return pods, classify(err)
}

var invalidInName = regexp.MustCompile(`[^a-z0-9]+`)

// jobName returns the name of a container's Job. It contains as much of the container's name as a Job's name
// permits. It ends in a digest of that name and the party, because case and most special characters are lost.
func (k *Driver) jobName(name string) string {
	readable := invalidInName.ReplaceAllString(strings.ToLower(name), "-")
	readable = strings.Trim(readable[:min(len(readable), 36)], "-")

	return "h-" + strings.Trim(readable+"-"+digest(k.opts.NodeID + "/" + name)[:20], "-")
}

func (k *Driver) nodeLabelValue() string {
	if len(validation.IsValidLabelValue(k.opts.NodeID)) == 0 {
		return k.opts.NodeID
	}

	return digest(k.opts.NodeID)[:40]
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))

	return hex.EncodeToString(sum[:])
}

// IsUnreachable implements [driver.Server].
func (k *Driver) IsUnreachable(err error) bool {
	var unanswered *url.Error // of the HTTP client
	return errors.As(err, &unanswered) || apierrors.IsServiceUnavailable(err) || apierrors.IsTimeout(err) ||
		apierrors.IsServerTimeout(err) || apierrors.IsTooManyRequests(err)
}

// classify maps an error of the API server to ErrNotFound or a non-retryable error.
func classify(err error) error {
	switch {
	case err == nil:
		return nil
	case apierrors.IsNotFound(err):
		return fmt.Errorf("%w: %w", driver.ErrNotFound, err)
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err), apierrors.IsRequestEntityTooLargeError(err):
		return driver.NonRetryable(err)
	}

	return err
}
