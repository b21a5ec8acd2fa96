package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"hutong/activities/driver"
)

// Start lets the cluster begin. That a program or an image is not there is known only later: then by Wait, and by further starts.
func (k *Driver) Start(ctx context.Context, name string) error {
	return driver.WrapError("start", name, k.start(ctx, name))
}

func (k *Driver) start(ctx context.Context, name string) error {
	for {
		job, err := k.find(ctx, name)
		if err != nil {
			return err
		}
		if exit, ok := recorded(job); ok && notStarted(exit) {
			return driver.NonRetryable(errors.New(exit.Reason))
		}
		if stateOf(job) != driver.Created {
			return nil
		}
		started := map[string]any{k8sStarted: time.Now().UTC().Format(time.RFC3339Nano)}
		if err := k.patch(ctx, job, started, map[string]any{"suspend": false}); !apierrors.IsConflict(err) {
			return classify(err)
		}
	}
}

// patch changes the annotations and the spec of a Job if it is still as it was read; else the error is a conflict.
func (k *Driver) patch(ctx context.Context, job *batchv1.Job, annotations, spec map[string]any) error {
	change := map[string]any{"metadata": map[string]any{"resourceVersion": job.ResourceVersion, "uid": job.UID, "annotations": annotations}}
	if spec != nil {
		change["spec"] = spec
	}
	body, err := json.Marshal(change)
	if err != nil {
		return err
	}
	_, err = k.calls.BatchV1().Jobs(k.opts.Namespace).Patch(ctx, job.Name, types.MergePatchType, body, metav1.PatchOptions{})
	return err
}

// record writes down how a run ended, unless that has been done. With suspend nothing of it runs any more.
func (k *Driver) record(ctx context.Context, job *batchv1.Job, exit driver.Exit, suspend bool) error {
	text, err := json.Marshal(exit)
	if err != nil {
		return err
	}
	var spec map[string]any
	if suspend && finished(job) == "" {
		spec = map[string]any{"suspend": true}
	}
	return k.patch(ctx, job, map[string]any{k8sExit: string(text)}, spec)
}

// recorded is what was written down of a run's end.
func recorded(job *batchv1.Job) (exit driver.Exit, ok bool) {
	text := job.Annotations[k8sExit]
	if text == "" {
		return exit, false
	}
	if err := json.Unmarshal([]byte(text), &exit); err != nil {
		exit = driver.Exit{Code: driver.UnknownExitCode, Reason: fmt.Sprintf("the annotation %s of the Job %s can't be read", k8sExit, job.Name)}
	}
	return exit, true
}

// Stop deletes the run's pod, which gives its program the grace period, of whole seconds and at least one: without
// any, the cluster would forget a pod that still runs. Its log goes with the pod.
func (k *Driver) Stop(ctx context.Context, name string, grace time.Duration) error {
	err := k.stop(ctx, name, grace)
	if errors.Is(err, driver.ErrNotFound) {
		return nil
	}
	return driver.WrapError("stop", name, err)
}

// unseenStart is how long a stop waits for the cluster to notice a start, before it takes the start back.
const unseenStart = 10 * time.Second

func (k *Driver) stop(ctx context.Context, name string, grace time.Duration) error {
	if _, err := k.find(ctx, name); err != nil {
		return err // an API server that is away now is for the caller to know
	}
	began := time.Now()
	deleted := map[types.UID]bool{}
	_, err := k.watch(ctx, name, func(s jobState) (driver.Exit, bool, time.Duration, error) {
		exit, ended, wake, err := k.settle(ctx, s)
		if err != nil || ended {
			return exit, ended, wake, err
		}
		never := driver.Exit{Code: driver.StoppedExitCode, Reason: driver.ReasonStoppedBeforeStart, FinishedAt: time.Now().UTC()}
		pod := s.pod()
		suspended := s.job.Spec.Suspend != nil && *s.job.Spec.Suspend
		switch {
		case stateOf(s.job) == driver.Created:
			err = k.record(ctx, s.job, never, true)
		case pod != nil && !deleted[pod.UID]:
			if err = k.deletePod(ctx, pod, grace); err == nil {
				deleted[pod.UID] = true
			}
		case pod != nil:
			// It is on its way.
		case suspended && hasCondition(s.job, batchv1.JobSuspended) && s.job.Status.Active == 0:
			err = k.record(ctx, s.job, never, true)
		case suspended:
			// The cluster is about to see that it is not to start.
		case seenStart(s.job) || time.Since(began) > unseenStart:
			err = k.patch(ctx, s.job, nil, map[string]any{"suspend": true})
		default:
			wake = time.Second
		}
		if apierrors.IsConflict(err) {
			return driver.Exit{}, false, 10 * time.Millisecond, errLookAgain
		}
		return driver.Exit{}, false, wake, classify(err)
	})
	return err
}

// seenStart tells whether the cluster has begun to act on a start: then a pod of it is there, or soon will be.
func seenStart(job *batchv1.Job) bool { return !hasCondition(job, batchv1.JobSuspended) }

func hasCondition(job *batchv1.Job, kind batchv1.JobConditionType) bool {
	for _, c := range job.Status.Conditions {
		if c.Type == kind {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// deletePod ends a pod after a grace period; an earlier and longer one is cut short.
func (k *Driver) deletePod(ctx context.Context, pod *corev1.Pod, grace time.Duration) error {
	return k.endPod(ctx, pod, max(int64(math.Ceil(grace.Seconds())), 1))
}

// endPod deletes a pod. With 0 seconds the cluster forgets it without the word of its node.
func (k *Driver) endPod(ctx context.Context, pod *corev1.Pod, seconds int64) error {
	err := k.calls.CoreV1().Pods(k.opts.Namespace).Delete(ctx, pod.Name,
		metav1.DeleteOptions{GracePeriodSeconds: &seconds, Preconditions: &metav1.Preconditions{UID: &pod.UID}})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) { // gone, or another one of the name
		return nil
	}
	return err
}

// Remove deletes the run's Job with all that belongs to it, and returns when it is gone. A pod whose node does not end it
// within LostPatience is forgotten; what is not gone even so, after as long again, is an error.
func (k *Driver) Remove(ctx context.Context, name string) error {
	err := k.remove(ctx, name)
	if errors.Is(err, driver.ErrNotFound) {
		return nil
	}
	return driver.WrapError("remove", name, err)
}

// removeMargin is what a busy cluster may take beyond that.
const removeMargin = 30 * time.Second

func (k *Driver) remove(ctx context.Context, name string) error {
	job, err := k.inspectOurs(ctx, name)
	if err != nil {
		return err
	}
	foreground := metav1.DeletePropagationForeground
	err = k.calls.BatchV1().Jobs(k.opts.Namespace).Delete(ctx, job.Name,
		metav1.DeleteOptions{PropagationPolicy: &foreground, Preconditions: &metav1.Preconditions{UID: &job.UID}})
	if err != nil && !apierrors.IsConflict(err) {
		return classify(err)
	}
	deleted, forgotten, began := map[types.UID]bool{}, map[types.UID]bool{}, time.Now()
	for {
		waited := time.Since(began)
		if waited > 2*k.opts.LostPatience+removeMargin {
			return fmt.Errorf("the cluster has not removed the Job for %s", waited.Round(time.Second))
		}
		// What belongs to the Job is deleted with the grace period of pods, half a minute; it has none.
		pods, err := k.pods(ctx, job.Name)
		if err != nil {
			return err
		}
		for i := range pods.Items {
			if pod := &pods.Items[i]; !deleted[pod.UID] {
				if err := k.deletePod(ctx, pod, 0); err != nil {
					return classify(err)
				}
				deleted[pod.UID] = true
			} else if waited > k.opts.LostPatience && !forgotten[pod.UID] { // its node is lost
				if err := k.endPod(ctx, pod, 0); err != nil {
					return classify(err)
				}
				forgotten[pod.UID] = true
			}
		}
		now, err := k.inspectOurs(ctx, name)
		if err != nil || now.UID != job.UID {
			return err
		}
		if err := driver.Sleep(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}
