package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"hutong/activities/driver"
)

// Start resumes the Job. The cluster detects a missing program or image only later. Then Wait reports it, and
// so do further calls of Start.
func (k *Driver) Start(ctx context.Context, name string) error {
	return driver.WrapError("start", name, k.start(ctx, name))
}

func (k *Driver) start(ctx context.Context, name string) error {
	for {
		job, err := k.find(ctx, name)
		if err != nil {
			return err
		}

		if exit, ok := recordedExit(job); ok && isStartFailure(exit) {
			return driver.NonRetryable(errors.New(exit.Reason))
		}
		if stateOf(job) != driver.Created {
			return nil
		}

		started := map[string]any{startedAnnotation: time.Now().UTC().Format(time.RFC3339Nano)}
		err = k.patch(ctx, job, started, map[string]any{"suspend": false})
		if !apierrors.IsConflict(err) {
			return classify(err)
		}
	}
}

// patch changes the annotations and the spec of a Job. The error is a conflict if the Job has changed since
// it was read.
func (k *Driver) patch(ctx context.Context, job *batchv1.Job, annotations, spec map[string]any) error {
	change := map[string]any{"metadata": map[string]any{
		"resourceVersion": job.ResourceVersion, "uid": job.UID, "annotations": annotations,
	}}
	if spec != nil {
		change["spec"] = spec
	}

	body, err := json.Marshal(change)
	if err != nil {
		return err
	}
	_, err = k.calls.BatchV1().Jobs(k.opts.Namespace).Patch(
		ctx, job.Name, types.MergePatchType, body, metav1.PatchOptions{})

	return err
}

// recordExit records how a container ended. With suspend it also prevents the Job from running any pod.
func (k *Driver) recordExit(ctx context.Context, job *batchv1.Job, exit driver.Exit, suspend bool) error {
	text, err := json.Marshal(exit)
	if err != nil {
		return err
	}

	var spec map[string]any
	if suspend && endCondition(job) == "" {
		spec = map[string]any{"suspend": true}
	}

	return k.patch(ctx, job, map[string]any{exitAnnotation: string(text)}, spec)
}

// recordedExit returns the recorded exit of a container, if there is one.
func recordedExit(job *batchv1.Job) (exit driver.Exit, ok bool) {
	text := job.Annotations[exitAnnotation]
	if text == "" {
		return exit, false
	}

	if err := json.Unmarshal([]byte(text), &exit); err != nil {
		exit = driver.Exit{
			Code:   driver.UnknownExitCode,
			Reason: fmt.Sprintf("failed to parse the annotation %s of the Job %s", exitAnnotation, job.Name),
		}
	}

	return exit, true
}
