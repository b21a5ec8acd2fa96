package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"hutong/activities/driver"
)

// Wait waits for the run's end and writes it down at the Job, since pods go.
func (k *Driver) Wait(ctx context.Context, name string) (driver.Exit, error) {
	exit, err := k.watch(ctx, name, func(s jobState) (driver.Exit, bool, time.Duration, error) { return k.settle(ctx, s) })
	return exit, driver.WrapError("wait for", name, err)
}

// A jobState is a Job and the pods that it has or had, as far as was seen.
type jobState struct {
	job  *batchv1.Job
	pods map[types.UID]*corev1.Pod
	gone map[types.UID]bool
}

// pod is the Job's newest; there is only one unless the cluster made another by mistake.
func (s jobState) pod() *corev1.Pod {
	var pods []corev1.Pod
	for _, pod := range s.pods {
		pods = append(pods, *pod)
	}
	return newest(pods)
}

func newest(pods []corev1.Pod) *corev1.Pod {
	if len(pods) == 0 {
		return nil
	}
	pod := slices.MaxFunc(pods, func(a, b corev1.Pod) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
	return &pod
}

// errLookAgain says that what was looked at has changed meanwhile.
var errLookAgain = errors.New("it has changed meanwhile")

// A step looks at a run: has it ended, how, and when is it to be looked at again though nothing has happened; 0 is not soon.
type step func(s jobState) (exit driver.Exit, ended bool, wake time.Duration, err error)

// watch calls step with a run's state at first and at each change, until the run has ended or there is an error. It outlasts
// the API server.
func (k *Driver) watch(ctx context.Context, name string, do step) (driver.Exit, error) {
	seen := map[types.UID]*corev1.Pod{} // outlasts a broken watch: pods go
	for delay := driver.MinReconnectDelay; ; delay = min(2*delay, driver.MaxReconnectDelay) {
		began := time.Now()
		exit, ended, err := k.watchOnce(ctx, name, seen, do)
		again := errors.Is(err, errLookAgain)
		switch {
		case ended:
			return exit, nil
		case ctx.Err() != nil:
			return driver.Exit{}, fmt.Errorf("interrupted: %w", ctx.Err())
		case err != nil && !again && !driver.ShouldReconnect(ctx, err):
			return driver.Exit{}, err
		case err == nil || again || time.Since(began) > driver.MaxReconnectDelay:
			delay = driver.MinReconnectDelay // the API server ends watches after a while
		}
		if err != nil && !again && delay == 2*driver.MinReconnectDelay {
			slog.WarnContext(ctx, "lost the Kubernetes API server while waiting for a Job; trying until it is back",
				"run", name, "node_id", k.opts.NodeID, "error", err)
		}
		if again {
			continue
		}
		if err := driver.Sleep(ctx, delay); err != nil {
			return driver.Exit{}, err
		}
	}
}

// watchOnce lists and then watches, until the end, an error, or the end of a watch.
func (k *Driver) watchOnce(ctx context.Context, name string, seen map[types.UID]*corev1.Pod, do step) (driver.Exit, bool, error) {
	job, err := k.find(ctx, name)
	if err != nil {
		return driver.Exit{}, false, err
	}
	list, err := k.pods(ctx, job.Name)
	if err != nil {
		return driver.Exit{}, false, err
	}
	s := jobState{job: job, pods: seen, gone: map[types.UID]bool{}}
	listed := map[types.UID]bool{}
	for i := range list.Items {
		pod := &list.Items[i]
		seen[pod.UID], listed[pod.UID] = pod, true
	}
	maps.DeleteFunc(seen, func(_ types.UID, pod *corev1.Pod) bool { return !metav1.IsControlledBy(pod, job) })
	for uid := range seen {
		s.gone[uid] = !listed[uid]
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var jobs, pods watch.Interface
	for {
		exit, ended, wake, err := do(s)
		if ended || err != nil {
			return exit, ended, err
		}
		if jobs == nil {
			// Only now: most that is waited for again has ended.
			jobs, err = k.stream.BatchV1().Jobs(k.opts.Namespace).Watch(ctx, metav1.ListOptions{
				FieldSelector: fields.OneTermEqualSelector("metadata.name", job.Name).String(), ResourceVersion: job.ResourceVersion})
			if err != nil {
				return driver.Exit{}, false, fmt.Errorf("watch the Job: %w", err)
			}
			defer jobs.Stop()
			pods, err = k.stream.CoreV1().Pods(k.opts.Namespace).Watch(ctx, metav1.ListOptions{
				LabelSelector: batchv1.JobNameLabel + "=" + job.Name, ResourceVersion: list.ResourceVersion})
			if err != nil {
				return driver.Exit{}, false, fmt.Errorf("watch the Job's pods: %w", err)
			}
			defer pods.Stop()
		}
		if wake == 0 || wake > driver.PollRunning {
			wake = driver.PollRunning
		}
		timer := time.NewTimer(wake)
		select {
		case event, ok := <-jobs.ResultChan():
			timer.Stop()
			if !ok || event.Type == watch.Error {
				return driver.Exit{}, false, watchEnd(event)
			}
			if found, is := event.Object.(*batchv1.Job); is {
				if event.Type == watch.Deleted || found.UID != job.UID || found.DeletionTimestamp != nil {
					return driver.Exit{}, false, fmt.Errorf("the Job was removed: %w", driver.ErrNotFound)
				}
				s.job = found
			}
		case event, ok := <-pods.ResultChan():
			timer.Stop()
			if !ok || event.Type == watch.Error {
				return driver.Exit{}, false, watchEnd(event)
			}
			if pod, is := event.Object.(*corev1.Pod); is && metav1.IsControlledBy(pod, job) {
				s.pods[pod.UID], s.gone[pod.UID] = pod, event.Type == watch.Deleted
			}
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return driver.Exit{}, false, ctx.Err()
		}
	}
}

// watchEnd is nil where a watch has just come to its end, or is too old to go on: the next one begins with a list.
func watchEnd(event watch.Event) error {
	if event.Type != watch.Error {
		return nil
	}
	err := apierrors.FromObject(event.Object)
	if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
		return nil
	}
	return fmt.Errorf("watch: %w", err)
}

// settle tells how a run ended, if it did, and writes that down first.
func (k *Driver) settle(ctx context.Context, s jobState) (exit driver.Exit, ended bool, wake time.Duration, err error) {
	if exit, ok := recorded(s.job); ok {
		return exit, true, 0, nil
	}
	exit, ended, suspend, wake := k.endOf(s, time.Now())
	if !ended {
		return exit, false, wake, nil
	}
	switch err := k.record(ctx, s.job, exit, suspend); {
	case apierrors.IsConflict(err):
		return driver.Exit{}, false, 0, errLookAgain // the Job's state changes at the same time
	case err != nil:
		return driver.Exit{}, false, 0, fmt.Errorf("writing down its end: %w", classify(err))
	}
	return exit, true, 0, nil
}
