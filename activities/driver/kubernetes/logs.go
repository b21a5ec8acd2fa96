package kubernetes

import (
	"context"
	"fmt"
	"io"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"hutong/activities/driver"
)

// Logs writes the pod's log, as far as its node has kept it. The log is lost with the pod, for example after
// Stop.
func (k *Driver) Logs(ctx context.Context, name string, follow bool, w io.Writer) error {
	return driver.WrapError("read the logs of", name, k.logs(ctx, name, follow, w))
}

func (k *Driver) logs(ctx context.Context, name string, follow bool, w io.Writer) error {
	if follow {
		if err := k.waitStarted(ctx, name); err != nil {
			return err
		}
	}

	out := &lineCopier{w: w}
	for delay := time.Duration(0); ; delay = driver.NextReconnectDelay(delay) {
		if err := driver.Sleep(ctx, delay); err != nil {
			return err
		}

		complete, err := k.logsOnce(ctx, name, follow, out)
		switch {
		case out.err != nil:
			return fmt.Errorf("failed to write the log: %w", out.err)
		case err == nil && complete:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("interrupted: %w", ctx.Err())
		case err != nil && (!follow || !driver.ShouldReconnect(ctx, err)):
			return err
		}
	}
}

// waitStarted waits until the program runs or has ended.
func (k *Driver) waitStarted(ctx context.Context, name string) error {
	_, err := k.watch(ctx, name, func(s jobState) (progress, error) {
		if pod := s.pod(); pod != nil {
			if status := containerStatus(pod); status != nil && status.State.Running != nil {
				return progress{ended: true}, nil
			}
		}

		return k.settle(ctx, s)
	})

	return err
}

// logsOnce copies the log from its start, without what was copied before, and reports whether it is complete.
func (k *Driver) logsOnce(ctx context.Context, name string, follow bool, out *lineCopier,
) (complete bool, err error) {
	job, err := k.find(ctx, name)
	if err != nil {
		return false, err
	}
	pods, err := k.pods(ctx, job.Name)
	if err != nil {
		return false, err
	}

	pod := newest(pods.Items)
	_, recorded := recordedExit(job)
	if pod == nil {
		return recorded || !follow || endCondition(job) != "", nil
	}
	status := containerStatus(pod)
	if status == nil || status.State.Waiting != nil {
		return recorded || !follow || pod.Status.Phase == corev1.PodFailed, nil // it never ran
	}

	// Only a log that is opened after the end is certain to be complete.
	ended := status.State.Terminated != nil
	options := &corev1.PodLogOptions{Container: containerName, Timestamps: true, Follow: follow && !ended}
	stream, err := k.stream.CoreV1().Pods(k.opts.Namespace).GetLogs(pod.Name, options).Stream(ctx)
	if apierrors.IsNotFound(err) || recorded && err != nil && ctx.Err() == nil {
		return recorded, nil // the pod, or its log on the node, was deleted in the meantime
	}
	if err != nil {
		return false, fmt.Errorf("open: %w", err)
	}
	defer func() { _ = stream.Close() }()

	if err := out.copyFrom(stream, ended); err != nil {
		return false, fmt.Errorf("read: %w", err)
	}

	return !follow || ended, nil
}

// Unfinished returns at once: Kubernetes returns whole lines only.
func (k *Driver) Unfinished(context.Context, string, func([]byte)) error { return nil }

// ScanLogFiles visits no files: a pod's folder can't be read from outside.
func (k *Driver) ScanLogFiles(context.Context, string, func(driver.LogFile) error) error { return nil }
