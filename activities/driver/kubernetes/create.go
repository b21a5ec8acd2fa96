package kubernetes

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hutong/activities/driver"
	"hutong/bfia"
)

// secretBytes limits the values in one secret. A secret holds at most 1 MiB, and a request to etcd 1.5 MiB.
const secretBytes = 512 << 10

// Create creates the Job, suspended, and the secrets with its environment, which the Job owns.
func (k *Driver) Create(ctx context.Context, spec driver.Spec) (string, error) {
	id, err := k.create(ctx, spec)

	return id, driver.WrapError("create", spec.Name, err)
}

func (k *Driver) create(ctx context.Context, spec driver.Spec) (string, error) {
	if err := check(&spec); err != nil {
		return "", err
	}

	job, err := k.job(spec)
	if err != nil {
		return "", err
	}

	jobs := k.calls.BatchV1().Jobs(k.opts.Namespace)
	for {
		created, err := jobs.Create(ctx, job, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			if created, err = k.find(ctx, spec.Name); errors.Is(err, driver.ErrNotFound) {
				// It is being removed, or was removed just now.
				if err := driver.Sleep(ctx, 100*time.Millisecond); err != nil {
					return "", err
				}
				continue
			}
		}
		if err != nil {
			return "", classify(err)
		}

		if stateOf(created) == driver.Created {
			// This also applies to a Job that was found: its creator may have been interrupted.
			err = k.createSecrets(ctx, created, spec)
		}

		return string(created.UID), err
	}
}

func check(spec *driver.Spec) error {
	if err := spec.Check(); err != nil {
		return err
	}

	switch {
	case spec.Image == "":
		return driver.NonRetryablef("the image is missing")
	case len(spec.Mounts) > 0:
		return driver.NonRetryablef(
			"mount %q: pods cannot access the files of this machine; use an S3 storage "+
				"(storage.url)",
			spec.Mounts[0].Target,
		)
	}

	for _, name := range slices.Sorted(maps.Keys(spec.Env)) {
		if strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r > '~' }) {
			return driver.NonRetryablef("env %q: Kubernetes requires names of printable ASCII characters",
				name)
		}
	}

	return nil
}

func (k *Driver) job(spec driver.Spec) (*batchv1.Job, error) {
	labels, err := json.Marshal(spec.Labels)
	if err != nil {
		return nil, driver.NonRetryable(fmt.Errorf("labels: %w", err))
	}

	secrets := k.jobName(spec.Name) + "-" + strings.ToLower(rand.Text()[:10])
	yes, zero, one, failed := true, int32(0), int32(1), batchv1.Failed
	jobLabels := map[string]string{nodeLabel: k.nodeLabelValue()}

	return &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{
			Name: k.jobName(spec.Name), Labels: jobLabels,
			Annotations: map[string]string{
				nodeAnnotation: k.opts.NodeID, containerAnnotation: spec.Name,
				labelsAnnotation: string(labels), secretsAnnotation: secrets,
			},
		},
		Spec: batchv1.JobSpec{
			Suspend: &yes, BackoffLimit: &zero, Parallelism: &one, Completions: &one,
			PodReplacementPolicy: &failed, // no new pod while the old one terminates
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{
					Labels: jobLabels, Annotations: map[string]string{containerAnnotation: spec.Name},
				},
				Spec: k.podSpec(spec, secrets),
			},
		},
	}, nil
}

// podSpec returns the spec of a pod without any privileges, which the Pod Security Standard "restricted"
// admits. With the exception root it runs as the user of its image, which only "baseline" admits.
func (k *Driver) podSpec(spec driver.Spec, secrets string) corev1.PodSpec {
	var pull []corev1.LocalObjectReference
	for _, name := range k.opts.ImagePullSecrets {
		pull = append(pull, corev1.LocalObjectReference{Name: name})
	}
	no := false
	logs := &corev1.EmptyDirVolumeSource{}
	if k.opts.LogFilesLimit > 0 {
		logs.SizeLimit = resource.NewQuantity(k.opts.LogFilesLimit, resource.BinarySI)
	}

	writable := spec.Allow.Writable
	pod := corev1.PodSpec{
		RestartPolicy:                corev1.RestartPolicyNever,
		AutomountServiceAccountToken: &no,
		EnableServiceLinks:           &no,
		ImagePullSecrets:             pull,
		RuntimeClassName:             optional(k.opts.RuntimeClass),
		SecurityContext: &corev1.PodSecurityContext{
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
		Volumes: []corev1.Volume{
			{Name: "logs", VolumeSource: corev1.VolumeSource{EmptyDir: logs}},
			{Name: "shm", VolumeSource: corev1.VolumeSource{EmptyDir: k.sharedMemory(spec.Resources.Memory)}},
			{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{
				SizeLimit: resource.NewQuantity(k.opts.TmpBytes, resource.BinarySI)}}},
		},
		Containers: []corev1.Container{{
			Name: containerName, Image: spec.Image,
			Args: escape(spec.Command), Env: envRefs(secrets, spec.Env),
			// Requests equal the limits where none are set.
			Resources: corev1.ResourceRequirements{Limits: k.limits(spec.Resources)},
			VolumeMounts: []corev1.VolumeMount{
				{Name: "logs", MountPath: k.LogPath(spec.Name)},
				{Name: "shm", MountPath: "/dev/shm"},
				{Name: "tmp", MountPath: "/tmp"},
			},
			SecurityContext: &corev1.SecurityContext{
				AllowPrivilegeEscalation: &no, Privileged: &no,
				ReadOnlyRootFilesystem: new(!writable),
				Capabilities:           &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			},
		}},
	}
	if k.opts.UserNamespace {
		pod.HostUsers = &no
	}
	if !spec.Allow.Root {
		s := pod.SecurityContext
		s.RunAsNonRoot, s.RunAsUser, s.RunAsGroup = new(true), new(ContainerUID), new(ContainerUID)
		s.FSGroup = new(ContainerUID) // lets the user write to the volumes
		if _, given := spec.Env["HOME"]; !given {
			task := &pod.Containers[0]
			task.Env = append(task.Env, corev1.EnvVar{Name: "HOME", Value: "/tmp"})
		}
	}

	return pod
}

// optional returns nil for "".
func optional(text string) *string {
	if text == "" {
		return nil
	}

	return &text
}

// sharedMemory returns the volume of /dev/shm. What is in it counts against the container's memory limit.
func (k *Driver) sharedMemory(limit int64) *corev1.EmptyDirVolumeSource {
	volume := &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}
	if k.opts.SharedMemory > 0 {
		limit = k.opts.SharedMemory
	}
	if limit > 0 {
		volume.SizeLimit = resource.NewQuantity(limit, resource.BinarySI)
	}

	return volume
}

func (k *Driver) limits(r bfia.Resources) corev1.ResourceList {
	list := corev1.ResourceList{}
	if r.CPUMilli > 0 {
		list[corev1.ResourceCPU] = *resource.NewMilliQuantity(r.CPUMilli, resource.DecimalSI)
	}
	if r.Memory > 0 {
		list[corev1.ResourceMemory] = *resource.NewQuantity(r.Memory, resource.BinarySI)
	}
	if r.Disk > 0 {
		list[corev1.ResourceEphemeralStorage] = *resource.NewQuantity(r.Disk, resource.BinarySI)
	}
	if r.GPU > 0 {
		list[corev1.ResourceName(k.opts.GPUResource)] = *resource.NewQuantity(r.GPU, resource.DecimalSI)
	}

	return list
}

// escape prevents Kubernetes from expanding $(NAME).
func escape(command []string) []string {
	var args []string
	for _, arg := range command {
		args = append(args, strings.ReplaceAll(arg, "$", "$$"))
	}

	return args
}

// envKey returns the key of a variable's value in its secret. Keys allow fewer characters than names of
// variables.
func envKey(name string) string { return digest(name)[:40] }

// envChunks distributes the variables' names over secrets. The same environment always gives the same result.
func envChunks(env map[string]string) (chunks [][]string) {
	size := secretBytes
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if size += len(env[name]); size > secretBytes {
			chunks, size = append(chunks, nil), len(env[name])
		}
		chunks[len(chunks)-1] = append(chunks[len(chunks)-1], name)
	}

	return chunks
}

func secretName(prefix string, chunk int) string { return fmt.Sprintf("%s-%d", prefix, chunk) }

// envRefs returns references to the variables' values, so that neither Jobs nor pods contain secrets.
func envRefs(secrets string, env map[string]string) (refs []corev1.EnvVar) {
	for i, names := range envChunks(env) {
		for _, name := range names {
			source := &corev1.SecretKeySelector{
				LocalObjectReference: corev1.LocalObjectReference{Name: secretName(secrets, i)},
				Key:                  envKey(name),
			}
			refs = append(refs, corev1.EnvVar{
				Name: name, ValueFrom: &corev1.EnvVarSource{SecretKeyRef: source},
			})
		}
	}

	return refs
}

// createSecrets creates the secrets that a Job references. The Job owns them, so they are deleted with it.
func (k *Driver) createSecrets(ctx context.Context, job *batchv1.Job, spec driver.Spec) error {
	yes := true
	owner := metav1.OwnerReference{
		APIVersion: "batch/v1", Kind: "Job", Name: job.Name, UID: job.UID, Controller: &yes,
	}

	for i, names := range envChunks(spec.Env) {
		data := map[string][]byte{}
		for _, name := range names {
			data[envKey(name)] = []byte(spec.Env[name])
		}

		secret := &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{
				Name: secretName(job.Annotations[secretsAnnotation], i), Labels: job.Labels,
				OwnerReferences: []metav1.OwnerReference{owner},
			},
			Immutable: &yes, Data: data,
		}
		_, err := k.calls.CoreV1().Secrets(k.opts.Namespace).Create(ctx, secret, metav1.CreateOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("failed to store the environment: %w", classify(err))
		}
	}

	return nil
}
