package kubernetes

import (
	"context"
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

// Stop deletes the container's pod, which gives its program the grace period, in whole seconds and at least
// one. With none, the cluster would forget a pod that still runs. The log is deleted with the pod.
func (k *Driver) Stop(ctx context.Context, name string, grace time.Duration) error {
	err := k.stop(ctx, name, grace)
	if errors.Is(err, driver.ErrNotFound) {
		return nil
	}

	return driver.WrapError("stop", name, err)
}

// startDelay is how long Stop waits for the cluster to react to a start, before it suspends the Job.
const startDelay = 10 * time.Second

func (k *Driver) stop(ctx context.Context, name string, grace time.Duration) error {
	if _, err := k.find(ctx, name); err != nil {
		return err // the caller must know at once if the API server is unreachable
	}

	s := &stopper{k: k, grace: grace, began: time.Now(), deleted: map[types.UID]bool{}}
	_, err := k.watch(ctx, name, func(state jobState) (progress, error) { return s.step(ctx, state) })

	return err
}

// stopper brings a container to its end, step by step.
type stopper struct {
	k       *Driver
	grace   time.Duration
	began   time.Time
	deleted map[types.UID]bool
}

func (s *stopper) step(ctx context.Context, state jobState) (progress, error) {
	p, err := s.k.settle(ctx, state)
	if err != nil || p.ended {
		return p, err
	}

	job, pod := state.job, state.pod()
	suspended := job.Spec.Suspend != nil && *job.Spec.Suspend

	switch {
	case stateOf(job) == driver.Created:
		err = s.recordNeverStarted(ctx, job)
	case pod != nil && job.Annotations[stoppedAnnotation] == "":
		// The observer of the end must know that nobody else has deleted the pod.
		stopped := map[string]any{stoppedAnnotation: time.Now().UTC().Format(time.RFC3339Nano)}
		err = s.k.patch(ctx, job, stopped, nil)
	case pod != nil && !s.deleted[pod.UID]:
		if err = s.k.deletePod(ctx, pod, s.grace); err == nil {
			s.deleted[pod.UID] = true
		}
	case pod != nil:
		// The pod is terminating.
	case suspended && hasCondition(job, batchv1.JobSuspended) && job.Status.Active == 0:
		err = s.recordNeverStarted(ctx, job)
	case suspended:
		// The Job controller has not confirmed the suspension yet.
	case hasReactedToStart(job) || time.Since(s.began) > startDelay:
		err = s.k.patch(ctx, job, nil, map[string]any{"suspend": true})
	default:
		p.recheck = time.Second
	}

	if apierrors.IsConflict(err) {
		return progress{}, errConflict
	}

	return progress{recheck: p.recheck}, classify(err)
}

func (s *stopper) recordNeverStarted(ctx context.Context, job *batchv1.Job) error {
	exit := driver.Exit{
		Code: driver.StoppedExitCode, Reason: driver.ReasonStoppedBeforeStart, FinishedAt: time.Now().UTC(),
	}

	return s.k.recordExit(ctx, job, exit, true)
}

// hasReactedToStart reports whether the Job controller has handled a start. Then the Job has a pod, or will
// have one soon.
func hasReactedToStart(job *batchv1.Job) bool { return !hasCondition(job, batchv1.JobSuspended) }

func hasCondition(job *batchv1.Job, kind batchv1.JobConditionType) bool {
	for _, c := range job.Status.Conditions {
		if c.Type == kind {
			return c.Status == corev1.ConditionTrue
		}
	}

	return false
}

// deletePod deletes a pod with a grace period. It shortens an earlier and longer grace period.
func (k *Driver) deletePod(ctx context.Context, pod *corev1.Pod, grace time.Duration) error {
	return k.deletePodAfter(ctx, pod, max(int64(math.Ceil(grace.Seconds())), 1))
}

// deletePodAfter deletes a pod. With 0 seconds the cluster forgets it without a confirmation of its node.
func (k *Driver) deletePodAfter(ctx context.Context, pod *corev1.Pod, seconds int64) error {
	err := k.calls.CoreV1().Pods(k.opts.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{
		GracePeriodSeconds: &seconds, Preconditions: &metav1.Preconditions{UID: &pod.UID},
	})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) { // it is gone, or another pod has its name
		return nil
	}

	return err
}

// Remove deletes the container's Job with all its dependents, and returns when it is gone. If its node does
// not end a pod within LostTimeout, Remove makes the cluster forget the pod. It fails if that does not help
// within the same time again.
func (k *Driver) Remove(ctx context.Context, name string) error {
	err := k.remove(ctx, name)
	if errors.Is(err, driver.ErrNotFound) {
		return nil
	}

	return driver.WrapError("remove", name, err)
}

// removeMargin is the additional time for a busy cluster.
const removeMargin = 30 * time.Second

func (k *Driver) remove(ctx context.Context, name string) error {
	job, err := k.getOwned(ctx, name)
	if err != nil {
		return err
	}

	foreground := metav1.DeletePropagationForeground
	err = k.calls.BatchV1().Jobs(k.opts.Namespace).Delete(ctx, job.Name, metav1.DeleteOptions{
		PropagationPolicy: &foreground, Preconditions: &metav1.Preconditions{UID: &job.UID},
	})
	if err != nil && !apierrors.IsConflict(err) {
		return classify(err)
	}

	deleted, forgotten, began := map[types.UID]bool{}, map[types.UID]bool{}, time.Now()
	for {
		waited := time.Since(began)
		if waited > 2*k.opts.LostTimeout+removeMargin {
			return fmt.Errorf("the cluster has not removed the Job for %s", waited.Round(time.Second))
		}

		if err := k.removePods(ctx, job, waited > k.opts.LostTimeout, deleted, forgotten); err != nil {
			return err
		}

		now, err := k.getOwned(ctx, name)
		if err != nil || now.UID != job.UID {
			return err
		}

		if err := driver.Sleep(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

// removePods deletes the pods of a Job that is being removed. The cluster would give them a grace period of
// half a minute, but they get none. If their node is lost it makes the cluster forget them.
func (k *Driver) removePods(
	ctx context.Context, job *batchv1.Job, nodeLost bool, deleted, forgotten map[types.UID]bool,
) error {
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
		} else if nodeLost && !forgotten[pod.UID] {
			if err := k.deletePodAfter(ctx, pod, 0); err != nil {
				return classify(err)
			}
			forgotten[pod.UID] = true
		}
	}

	return nil
}
