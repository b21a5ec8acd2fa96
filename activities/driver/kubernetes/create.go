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
)

// Secrets hold a mebibyte at most, and a request to the store behind the API server one and a half.
const secretBytes = 512 << 10

// Create makes the Job, suspended, and the secrets with its environment, which go with it.
func (k *Driver) Create(ctx context.Context, spec driver.Spec) (string, error) {
	id, err := k.create(ctx, spec)
	return id, driver.WrapError("create", spec.Name, err)
}

func (k *Driver) create(ctx context.Context, spec driver.Spec) (string, error) {
	if err := spec.Check(); err != nil {
		return "", err
	}
	switch {
	case spec.Image == "":
		return "", driver.NonRetryablef("the image is missing")
	case len(spec.Mounts) > 0:
		return "", driver.NonRetryablef("mount %q: pods can't see the files of this machine; use an S3 storage (storage.url)", spec.Mounts[0].Target)
	}
	for _, name := range slices.Sorted(maps.Keys(spec.Env)) {
		if strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r > '~' }) {
			return "", driver.NonRetryablef("env %q: Kubernetes takes only names of printable ASCII characters", name)
		}
	}
	job, err := k.job(spec)
	if err != nil {
		return "", err
	}
	jobs := k.calls.BatchV1().Jobs(k.opts.Namespace)
	for {
		made, err := jobs.Create(ctx, job, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			if made, err = k.find(ctx, spec.Name); errors.Is(err, driver.ErrNotFound) {
				// It is being removed, or just was.
				if err := driver.Sleep(ctx, 100*time.Millisecond); err != nil {
					return "", err
				}
				continue
			}
		}
		if err != nil {
			return "", classify(err)
		}
		if stateOf(made) == driver.Created {
			// Also for one that was found: who made it may have come no further.
			err = k.createSecrets(ctx, made, spec)
		}
		return string(made.UID), err
	}
}

func (k *Driver) job(spec driver.Spec) (*batchv1.Job, error) {
	labels, err := json.Marshal(spec.Labels)
	if err != nil {
		return nil, driver.NonRetryable(fmt.Errorf("labels: %w", err))
	}
	limits := corev1.ResourceList{}
	if spec.Resources.CPU > 0 {
		limits[corev1.ResourceCPU] = *resource.NewMilliQuantity(max(int64(spec.Resources.CPU*1000), 1), resource.DecimalSI)
	}
	if spec.Resources.Memory > 0 {
		limits[corev1.ResourceMemory] = *resource.NewQuantity(spec.Resources.Memory, resource.BinarySI)
	}
	if spec.Resources.Disk > 0 {
		limits[corev1.ResourceEphemeralStorage] = *resource.NewQuantity(spec.Resources.Disk, resource.BinarySI)
	}
	var pull []corev1.LocalObjectReference
	for _, name := range k.opts.ImagePullSecrets {
		pull = append(pull, corev1.LocalObjectReference{Name: name})
	}
	secrets := k.jobName(spec.Name) + "-" + strings.ToLower(rand.Text()[:10])
	no, yes, zero, one, failed := false, true, int32(0), int32(1), batchv1.Failed
	nodeLabel := map[string]string{k8sNodeLabel: k.nodeLabel()}
	return &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{
			Name: k.jobName(spec.Name), Labels: nodeLabel,
			Annotations: map[string]string{k8sNode: k.opts.NodeID, k8sRun: spec.Name, k8sLabels: string(labels), k8sSecrets: secrets},
		},
		Spec: batchv1.JobSpec{
			Suspend: &yes, BackoffLimit: &zero, Parallelism: &one, Completions: &one,
			PodReplacementPolicy: &failed, // a pod that is ending is not followed by another
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: nodeLabel, Annotations: map[string]string{k8sRun: spec.Name}},
				Spec: corev1.PodSpec{
					RestartPolicy: corev1.RestartPolicyNever, AutomountServiceAccountToken: &no, EnableServiceLinks: &no, ImagePullSecrets: pull,
					SecurityContext: &corev1.PodSecurityContext{SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}},
					Volumes:         []corev1.Volume{{Name: "logs", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}},
					Containers: []corev1.Container{{
						Name: k8sContainer, Image: spec.Image, Args: literal(spec.Command), Env: envRefs(secrets, spec.Env),
						Resources:    corev1.ResourceRequirements{Limits: limits}, // and asked for: requests are as the limits where none are given
						VolumeMounts: []corev1.VolumeMount{{Name: "logs", MountPath: k.LogPath(spec.Name)}},
						SecurityContext: &corev1.SecurityContext{AllowPrivilegeEscalation: &no, Privileged: &no,
							Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}},
					}},
				},
			},
		},
	}, nil
}

// literal keeps Kubernetes from putting variables in the place of $(NAME).
func literal(command []string) []string {
	var args []string
	for _, arg := range command {
		args = append(args, strings.ReplaceAll(arg, "$", "$$"))
	}
	return args
}

// envKey is under which key of its secret a variable's value is. Keys can't hold all that names can.
func envKey(name string) string { return digest(name)[:40] }

// envChunks divides the variables' names among secrets, always alike for the same environment.
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

// envRefs are the variables by reference, so that no secret stands in a Job or a pod.
func envRefs(secrets string, env map[string]string) (refs []corev1.EnvVar) {
	for i, names := range envChunks(env) {
		for _, name := range names {
			refs = append(refs, corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
				LocalObjectReference: corev1.LocalObjectReference{Name: secretName(secrets, i)}, Key: envKey(name)}}})
		}
	}
	return refs
}

// createSecrets makes the secrets that a Job names. They belong to it and go with it.
func (k *Driver) createSecrets(ctx context.Context, job *batchv1.Job, spec driver.Spec) error {
	yes := true
	for i, names := range envChunks(spec.Env) {
		data := map[string][]byte{}
		for _, name := range names {
			data[envKey(name)] = []byte(spec.Env[name])
		}
		_, err := k.calls.CoreV1().Secrets(k.opts.Namespace).Create(ctx, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{
				Name: secretName(job.Annotations[k8sSecrets], i), Labels: job.Labels,
				OwnerReferences: []metav1.OwnerReference{{APIVersion: "batch/v1", Kind: "Job", Name: job.Name, UID: job.UID, Controller: &yes}},
			},
			Immutable: &yes, Data: data,
		}, metav1.CreateOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("keeping the environment: %w", classify(err))
		}
	}
	return nil
}
