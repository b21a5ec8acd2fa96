package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/go-logr/logr"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"

	"hutong/activities/driver"
)

// jobState is a Job and its pods, present and past, as far as they were observed.
type jobState struct {
	job  *batchv1.Job
	pods map[types.UID]*corev1.Pod
	gone map[types.UID]bool
}

// pod returns the Job's newest pod, or nil. There is only one unless the cluster created another by mistake.
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

	pod := slices.MaxFunc(pods, func(a, b corev1.Pod) int {
		return a.CreationTimestamp.Compare(b.CreationTimestamp.Time)
	})

	return &pod
}

// errConflict is returned by a step when an object has changed since it was read. The watch lists again at
// once.
var errConflict = errors.New("it has changed since it was read")

// conflictDelay is the pause before the watch lists again after a conflict.
const conflictDelay = 10 * time.Millisecond

// step inspects a container, and may change it.
type step func(s jobState) (progress, error)

// watch calls do with a container's initial state and after each change, until the container has ended or an
// error is final. It survives restarts of the API server.
func (k *Driver) watch(ctx context.Context, name string, do step) (driver.Exit, error) {
	observed := map[types.UID]*corev1.Pod{} // kept when a watch breaks, because pods disappear

	for delay := driver.MinReconnectDelay; ; delay = driver.NextReconnectDelay(delay) {
		began := time.Now()
		exit, ended, err := k.watchOnce(ctx, name, observed, do)
		conflict := errors.Is(err, errConflict)

		switch {
		case ended:
			return exit, nil
		case ctx.Err() != nil:
			return driver.Exit{}, fmt.Errorf("interrupted: %w", ctx.Err())
		case err != nil && !conflict && !driver.ShouldReconnect(ctx, err):
			return driver.Exit{}, err
		case err == nil || conflict || time.Since(began) > driver.MaxReconnectDelay:
			delay = driver.MinReconnectDelay
		}

		if err != nil && !conflict && delay == 2*driver.MinReconnectDelay {
			k.logReconnect(ctx, name, err)
		}

		pause := delay
		if conflict {
			pause = conflictDelay
		}
		if err := driver.Sleep(ctx, pause); err != nil {
			return driver.Exit{}, err
		}
	}
}

// watchOnce lists the Job and its pods, and then watches them. It returns when the container has ended, at an
// error, or when the watch has expired and cannot resume.
func (k *Driver) watchOnce(ctx context.Context, name string, observed map[types.UID]*corev1.Pod, do step,
) (exit driver.Exit, ended bool, err error) {
	s, podsVersion, err := k.list(ctx, name, observed)
	if err != nil {
		return driver.Exit{}, false, err
	}

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	var w watches
	for {
		p, err := do(s)
		if p.ended || err != nil {
			return p.exit, p.ended, err
		}

		if w.jobs == nil {
			// The watches start only now, because most containers that are waited for again have ended.
			if w, err = k.startWatches(ctx, s.job, podsVersion); err != nil {
				return driver.Exit{}, false, err
			}
			defer w.stop()
		}

		interval := p.recheck
		if interval == 0 || interval > driver.PollRunning {
			interval = driver.PollRunning
		}
		expired, err := w.next(ctx, &s, interval)
		if expired || err != nil {
			return driver.Exit{}, false, err
		}
	}
}

// list gets the Job and its pods, and adds the pods to those observed before. It also returns the resource
// version from which to watch pods.
func (k *Driver) list(ctx context.Context, name string, observed map[types.UID]*corev1.Pod,
) (s jobState, podsVersion string, err error) {
	job, err := k.find(ctx, name)
	if err != nil {
		return s, "", err
	}
	list, err := k.pods(ctx, job.Name)
	if err != nil {
		return s, "", err
	}

	s = jobState{job: job, pods: observed, gone: map[types.UID]bool{}}
	listed := map[types.UID]bool{}
	for i := range list.Items {
		pod := &list.Items[i]
		observed[pod.UID], listed[pod.UID] = pod, true
	}

	maps.DeleteFunc(observed,
		func(_ types.UID, pod *corev1.Pod) bool { return !metav1.IsControlledBy(pod, job) })
	for uid := range observed {
		s.gone[uid] = !listed[uid]
	}

	return s, list.ResourceVersion, nil
}

// watches are the watches of a Job and of its pods. They reconnect and resume after interruptions. They end
// when the API server has dropped the events in between, or denies access.
type watches struct{ jobs, pods *watchtools.RetryWatcher }

func (k *Driver) startWatches(ctx context.Context, job *batchv1.Job,
	podsVersion string) (w watches, err error) {
	// RetryWatcher logs each failed attempt, which is one per second. watcher logs each outage once instead.
	ctx = logr.NewContext(ctx, logr.Discard())

	name := job.Annotations[containerAnnotation]
	watchJob := func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
		options.FieldSelector = fields.OneTermEqualSelector("metadata.name", job.Name).String()
		return k.stream.BatchV1().Jobs(k.opts.Namespace).Watch(ctx, options)
	}
	w.jobs, err = watchtools.NewRetryWatcherWithContext(ctx, job.ResourceVersion, k.watcher(name, watchJob))
	if err != nil {
		return watches{}, fmt.Errorf("failed to watch the Job: %w", err)
	}

	watchPods := func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
		options.LabelSelector = batchv1.JobNameLabel + "=" + job.Name
		return k.stream.CoreV1().Pods(k.opts.Namespace).Watch(ctx, options)
	}
	w.pods, err = watchtools.NewRetryWatcherWithContext(ctx, podsVersion, k.watcher(name, watchPods))
	if err != nil {
		w.jobs.Stop()
		return watches{}, fmt.Errorf("failed to watch the Job's pods: %w", err)
	}

	return w, nil
}

// watcher adds to a watch function that it logs the start of an outage of the API server.
func (k *Driver) watcher(container string, start cache.WatchFuncWithContext) cache.WatcherWithContext {
	failing := false

	return &cache.ListWatch{
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			w, err := start(ctx, options)
			if err != nil && !failing && ctx.Err() == nil {
				k.logReconnect(ctx, container, err)
			}
			failing = err != nil

			return w, err
		},
	}
}

func (k *Driver) logReconnect(ctx context.Context, container string, err error) {
	slog.WarnContext(ctx,
		"lost the connection to the Kubernetes API server while waiting for a Job; reconnecting", "container",
		container, "node_id", k.opts.NodeID, "error", err)
}

func (w watches) stop() {
	w.jobs.Stop()
	w.pods.Stop()
}

// next waits for one event, which it applies to the state, or for an interval. It reports whether a watch has
// ended, so that the caller must list again.
func (w watches) next(ctx context.Context, s *jobState, interval time.Duration) (expired bool, err error) {
	timer := time.NewTimer(interval)
	defer timer.Stop()

	select {
	case event, ok := <-w.jobs.ResultChan():
		if !ok || event.Type == watch.Error {
			return true, watchError(event)
		}

		if found, is := event.Object.(*batchv1.Job); is {
			if event.Type == watch.Deleted || found.UID != s.job.UID || found.DeletionTimestamp != nil {
				return false, fmt.Errorf("the Job was removed: %w", driver.ErrNotFound)
			}
			s.job = found
		}
	case event, ok := <-w.pods.ResultChan():
		if !ok || event.Type == watch.Error {
			return true, watchError(event)
		}

		if pod, is := event.Object.(*corev1.Pod); is && metav1.IsControlledBy(pod, s.job) {
			s.pods[pod.UID], s.gone[pod.UID] = pod, event.Type == watch.Deleted
		}
	case <-timer.C:
	case <-ctx.Done():
		return false, ctx.Err()
	}

	return false, nil
}

// watchError returns the error with which a watch ended. It returns nil if the watch is only too old to
// resume.
func watchError(event watch.Event) error {
	if event.Type != watch.Error {
		return nil
	}

	err := apierrors.FromObject(event.Object)
	if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
		return nil
	}

	return fmt.Errorf("watch: %w", err)
}
