package kubernetes

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
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
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"hutong/activities/driver"
)

// Options say for which party Jobs run, and where.
type Options struct {
	// NodeID is the party's; only what carries it is ever touched.
	NodeID string

	// Kubeconfig is the file that says which cluster and as whom; "" is the cluster that this process is a pod of.
	Kubeconfig string

	// Namespace is where the Jobs are; "" is that of the kubeconfig's context or of this pod.
	Namespace string

	// ImagePullSecrets are the names of secrets of the namespace by which nodes pull images.
	ImagePullSecrets []string

	// PullPatience is how long an image may fail to be pulled before its run fails; 0 is two minutes.
	PullPatience time.Duration

	// LostPatience is how long after the moment at which a deleted pod should be gone its node counts as lost; 0 is a minute.
	LostPatience time.Duration
}

// Driver runs Jobs of one namespace of a cluster. Make one with New.
type Driver struct {
	opts   Options
	calls  kubernetes.Interface // with a timeout: a hanging API server must not hang us
	stream kubernetes.Interface // without: for watches and logs
}

// The names of what Jobs carry. Values of labels are short, so what Hutong knows a run by stands in annotations.
const (
	k8sNodeLabel = "hutong/node" // the digest of the node id, or itself

	k8sNode    = "hutong/node-id"
	k8sRun     = "hutong/run"
	k8sLabels  = "hutong/labels"  // the spec's, as JSON
	k8sSecrets = "hutong/secrets" // what the names of the secrets with the environment begin with
	k8sStarted = "hutong/started" // when, RFC 3339
	k8sExit    = "hutong/exit"    // how it ended, JSON of an Exit: written once, the truth from then on

	k8sContainer = "task"

	requestTimeout = 2 * time.Minute

	defaultPullPatience = 2 * time.Minute
	defaultLostPatience = time.Minute
	namespaceFile       = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"
)

var _ driver.Driver = (*Driver)(nil)

// New makes a Runner for Kubernetes Jobs. It does not talk to the cluster yet.
func New(opts Options) (*Driver, error) {
	if opts.NodeID == "" {
		return nil, driver.NonRetryablef("kubernetes runner: the node id is missing")
	}
	if opts.PullPatience == 0 {
		opts.PullPatience = defaultPullPatience
	}
	if opts.LostPatience == 0 {
		opts.LostPatience = defaultLostPatience
	}
	config, err := clusterConfig(&opts)
	if err != nil {
		return nil, fmt.Errorf("kubernetes runner: %w", err)
	}
	if problems := validation.IsDNS1123Label(opts.Namespace); len(problems) > 0 {
		return nil, driver.NonRetryablef("kubernetes runner: the namespace %q: %s", opts.Namespace, strings.Join(problems, "; "))
	}
	config.UserAgent = "hutong"
	config.QPS = -1 // the API server has a fairness of its own
	k := &Driver{opts: opts}
	if k.stream, err = kubernetes.NewForConfig(config); err != nil {
		return nil, fmt.Errorf("kubernetes runner: %w", err)
	}
	bounded := rest.CopyConfig(config)
	bounded.Timeout = requestTimeout
	if k.calls, err = kubernetes.NewForConfig(bounded); err != nil {
		return nil, fmt.Errorf("kubernetes runner: %w", err)
	}
	return k, nil
}

// clusterConfig says how to reach the cluster, and fills in the namespace.
func clusterConfig(opts *Options) (*rest.Config, error) {
	if opts.Kubeconfig == "" {
		config, err := rest.InClusterConfig()
		if err != nil {
			return nil, driver.NonRetryablef("no kubeconfig is given, and this process is no pod of a cluster: %w", err)
		}
		if opts.Namespace == "" {
			b, err := os.ReadFile(namespaceFile)
			if err != nil {
				return nil, fmt.Errorf("reading this pod's namespace: %w", err)
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

// Device is "k8s".
func (k *Driver) Device() string { return "k8s" }

// RunnerID is the uid of the namespace, unique among all clusters: all workers that use it are one host.
func (k *Driver) RunnerID(ctx context.Context) (string, error) {
	ns, err := k.calls.CoreV1().Namespaces().Get(ctx, k.opts.Namespace, metav1.GetOptions{})
	if err != nil {
		return "", driver.WrapError("ask the cluster for the namespace "+k.opts.Namespace, "", classify(err))
	}
	return "k8s-" + string(ns.UID), nil
}

// StorageRoot is where nothing is: pods can't see this machine's files, so a spec with mounts is refused.
func (k *Driver) StorageRoot(string) string { return path.Join(driver.ContainerRoot, "storage") }

// LogPath is an empty folder on the node's disk that goes with the pod.
func (k *Driver) LogPath(string) string { return path.Join(driver.ContainerRoot, "logs") }

// ControlPort is the usual port: pods have addresses of their own.
func (k *Driver) ControlPort() (int, error) { return driver.ContainerControlPort, nil }

// Address is the pod's.
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
	if pod := newest(pods.Items); pod != nil && pod.Status.Phase == corev1.PodRunning && pod.Status.PodIP != "" {
		return pod.Status.PodIP, nil
	}
	return "", fmt.Errorf("it has none: %w", driver.ErrNotFound) // it does not run
}

// Capacity is what the nodes that take pods have for them, all together. It is not known where the cluster does not let this
// party list its nodes.
func (k *Driver) Capacity(ctx context.Context) (driver.Capacity, error) {
	var c driver.Capacity
	options := metav1.ListOptions{Limit: k8sPage}
	for {
		list, err := k.calls.CoreV1().Nodes().List(ctx, options)
		if apierrors.IsForbidden(err) {
			return driver.Capacity{}, nil
		}
		if err != nil {
			return driver.Capacity{}, driver.WrapError("list the cluster's nodes", "", classify(err))
		}
		for _, node := range list.Items {
			if !takesPods(node) {
				continue
			}
			c.CPUMilli += node.Status.Allocatable.Cpu().MilliValue()
			c.Memory += node.Status.Allocatable.Memory().Value()
			c.Disk += node.Status.Allocatable.StorageEphemeral().Value()
		}
		if options.Continue = list.Continue; options.Continue == "" {
			return c, nil
		}
	}
}

const k8sPage = 500

func takesPods(node corev1.Node) bool {
	if node.Spec.Unschedulable {
		return false
	}
	for _, taint := range node.Spec.Taints {
		if taint.Effect != corev1.TaintEffectPreferNoSchedule {
			return false // the pods tolerate nothing
		}
	}
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}

// List tells the party's Jobs.
func (k *Driver) List(ctx context.Context) ([]driver.Container, error) {
	var runs []driver.Container
	options := metav1.ListOptions{LabelSelector: k8sNodeLabel + "=" + k.nodeLabel(), Limit: k8sPage}
	for {
		list, err := k.calls.BatchV1().Jobs(k.opts.Namespace).List(ctx, options)
		if err != nil {
			return nil, driver.WrapError("list Jobs", "", classify(err))
		}
		for i := range list.Items {
			job := &list.Items[i]
			if job.Annotations[k8sNode] != k.opts.NodeID || job.DeletionTimestamp != nil {
				continue
			}
			run := driver.Container{Name: job.Annotations[k8sRun], ID: string(job.UID), State: stateOf(job), CreatedAt: job.CreationTimestamp.UTC()}
			if err := json.Unmarshal([]byte(job.Annotations[k8sLabels]), &run.Labels); err != nil {
				return nil, driver.WrapError("list Jobs", run.Name, fmt.Errorf("the annotation %s of the Job %s: %w", k8sLabels, job.Name, err))
			}
			runs = append(runs, run)
		}
		if options.Continue = list.Continue; options.Continue == "" {
			return runs, nil
		}
	}
}

func stateOf(job *batchv1.Job) driver.State {
	switch {
	case job.Annotations[k8sExit] != "" || finished(job) != "":
		return driver.Exited
	case job.Annotations[k8sStarted] != "":
		return driver.Running
	}
	return driver.Created
}

// finished is the condition by which a Job has ended, or "".
func finished(job *batchv1.Job) batchv1.JobConditionType {
	for _, c := range job.Status.Conditions {
		if (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue {
			return c.Type
		}
	}
	return ""
}

// find gets the run's Job, which is there to stay.
func (k *Driver) find(ctx context.Context, name string) (*batchv1.Job, error) {
	job, err := k.inspectOurs(ctx, name)
	if err == nil && job.DeletionTimestamp != nil {
		return nil, fmt.Errorf("the Job is being removed: %w", driver.ErrNotFound)
	}
	return job, err
}

// inspectOurs gets the run's Job and makes sure that it is ours.
func (k *Driver) inspectOurs(ctx context.Context, name string) (*batchv1.Job, error) {
	if err := driver.CheckName(name); err != nil {
		return nil, err
	}
	job, err := k.calls.BatchV1().Jobs(k.opts.Namespace).Get(ctx, k.jobName(name), metav1.GetOptions{})
	if err != nil {
		return nil, classify(err)
	}
	return job, k.ours(job, name)
}

func (k *Driver) ours(job *batchv1.Job, name string) error {
	if job.Annotations[k8sNode] != k.opts.NodeID || job.Annotations[k8sRun] != name {
		return driver.NonRetryablef("the Job %q was not made by Hutong for run %s of node %s; remove it", job.Name, name, k.opts.NodeID)
	}
	return nil
}

func (k *Driver) pods(ctx context.Context, jobName string) (*corev1.PodList, error) {
	pods, err := k.calls.CoreV1().Pods(k.opts.Namespace).List(ctx, metav1.ListOptions{LabelSelector: batchv1.JobNameLabel + "=" + jobName})
	return pods, classify(err)
}

var notInNames = regexp.MustCompile(`[^a-z0-9]+`)

// jobName is what a run's Job is called: as much of the run's name as a Job's can hold, and a digest of all of it and the
// party's, since case and most other characters are lost.
func (k *Driver) jobName(name string) string {
	readable := notInNames.ReplaceAllString(strings.ToLower(name), "-")
	readable = strings.Trim(readable[:min(len(readable), 36)], "-")
	return "h-" + strings.Trim(readable+"-"+digest(k.opts.NodeID + "/" + name)[:20], "-")
}

func (k *Driver) nodeLabel() string {
	if len(validation.IsValidLabelValue(k.opts.NodeID)) == 0 {
		return k.opts.NodeID
	}
	return digest(k.opts.NodeID)[:40]
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// classify sorts an error of the API server.
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
