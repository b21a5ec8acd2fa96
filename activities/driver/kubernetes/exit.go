package kubernetes

import (
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"hutong/activities/driver"
)

// isStartFailure reports whether the container ended because its program could not be started.
func isStartFailure(e driver.Exit) bool {
	return e.StartedAt.IsZero() &&
		(e.Code == driver.NotStartedExitCode || e.Code == driver.NotExecutableExitCode)
}

// progress is the result of one inspection of a container.
type progress struct {
	ended bool
	exit  driver.Exit // if ended

	// suspend means that the Job must be suspended, so that an ended container does not continue or start
	// later.
	suspend bool

	// recheck is when to inspect the container again even without an event. 0 means not soon.
	recheck time.Duration
}

// inspect determines from the cluster's objects whether and how a container ended.
func (k *Driver) inspect(s jobState, now time.Time) progress {
	pod := s.pod()
	if pod == nil {
		return inspectWithoutPod(s.job, now)
	}

	status := containerStatus(pod)
	exit := driver.Exit{FinishedAt: now.UTC()}
	if status != nil && status.State.Running != nil {
		exit.StartedAt = status.State.Running.StartedAt.UTC()
	}
	lost := func(reason string) progress {
		exit.Code, exit.Killed, exit.Reason = 128+9, true, reason+podReason(pod)
		return progress{ended: true, exit: exit, suspend: true}
	}

	switch {
	case status != nil && status.State.Terminated != nil:
		return progress{ended: true, exit: terminated(s.job, pod, status.State.Terminated)}
	case pod.Status.Phase == corev1.PodFailed:
		if isEvictedForOwnUse(pod) {
			exit.Code, exit.Reason = 128+9, "evicted"+podReason(pod)
			return progress{ended: true, exit: exit}
		}

		return lost("its pod failed")
	case s.gone[pod.UID]:
		return lost("its pod was deleted")
	case pod.DeletionTimestamp != nil && pod.Spec.NodeName == "":
		exit.Code, exit.Killed = driver.StoppedExitCode, true
		exit.Reason = "its pod was deleted before it was scheduled to a node"
		return progress{ended: true, exit: exit, suspend: true}
	case pod.DeletionTimestamp != nil:
		if left := pod.DeletionTimestamp.Add(k.opts.LostTimeout).Sub(now); left > 0 {
			return progress{recheck: left}
		}

		return lost("its node " + pod.Spec.NodeName + " does not respond")
	case status == nil || status.State.Waiting == nil:
		return progress{}
	}

	failure, timeout := startProblem(*status.State.Waiting, k.opts.PullTimeout)
	if failure == "" {
		return progress{}
	}
	if left := pod.CreationTimestamp.Add(timeout).Sub(now); left > 0 {
		return progress{recheck: left}
	}
	exit.Code, exit.Reason = driver.NotStartedExitCode, driver.StartFailureReason(failure)

	return progress{ended: true, exit: exit, suspend: true}
}

// inspectWithoutPod determines it from a Job that has no pod.
func inspectWithoutPod(job *batchv1.Job, now time.Time) progress {
	exit := driver.Exit{FinishedAt: now.UTC(), StartedAt: startTime(job)}

	switch endCondition(job) {
	case batchv1.JobComplete:
		return progress{ended: true, exit: exit}
	case batchv1.JobFailed:
		exit.Code, exit.Killed = driver.UnknownExitCode, true
		exit.Reason = "its pod was deleted from the cluster before its end was observed"
		return progress{ended: true, exit: exit}
	}

	return progress{} // suspended, or about to get a pod
}

// startProblem returns why a container waits if it cannot recover without help, and how long to tolerate
// that.
func startProblem(w corev1.ContainerStateWaiting,
	pull time.Duration) (failure string, timeout time.Duration) {
	switch w.Reason {
	case "InvalidImageName", "ErrImageNeverPull", "ImageInspectError", "SignatureValidationFailed":
		return "its image is unusable: " + w.Reason + ": " + w.Message, 0
	case "ErrImagePull", "ImagePullBackOff", "RegistryUnavailable":
		return "its image cannot be pulled: " + w.Reason + ": " + w.Message, pull
	case "CreateContainerConfigError", "CreateContainerError", "RunContainerError":
		return w.Reason + ": " + w.Message, pull
	}

	return "", 0
}

// terminated returns the exit of a pod's terminated container.
func terminated(job *batchv1.Job, pod *corev1.Pod, t *corev1.ContainerStateTerminated) driver.Exit {
	exit := driver.Exit{
		Code: int(t.ExitCode), StartedAt: t.StartedAt.UTC(), FinishedAt: t.FinishedAt.UTC(),
		Reason: driver.ExitReason(int(t.ExitCode)),
	}
	if t.StartedAt.Unix() <= 0 {
		exit.StartedAt = time.Time{}
	}
	if exit.FinishedAt.Before(exit.StartedAt) {
		exit.FinishedAt = exit.StartedAt
	}

	switch t.Reason {
	case "StartError", "ContainerCannotRun":
		// The code is the container runtime's own, usually 128.
		return driver.Exit{
			Code: driver.NotStartedExitCode, FinishedAt: exit.FinishedAt,
			Reason: driver.StartFailureReason(t.Message),
		}
	case "OOMKilled":
		exit.OOMKilled = true
		exit.Reason = driver.OutOfMemoryReason(pod.Spec.Containers[0].Resources.Limits.Memory().Value())
		return exit
	}

	if isEvictedForOwnUse(pod) {
		exit.Reason = "evicted" + podReason(pod)
		return exit
	}

	deleted := isDeletedByOthers(job, pod, t.FinishedAt.Time)
	exit.Killed = driver.IsKillCode(exit.Code) || exit.Code != 0 && (disruption(pod) != nil || deleted) ||
		t.Reason == "ContainerStatusUnknown"
	if exit.Code != 0 {
		exit.Reason += podReason(pod)
		if deleted && disruption(pod) == nil {
			exit.Reason += ": its pod was deleted"
		}
	}

	return exit
}

// isDeletedByOthers reports whether a container ended because somebody else than Stop deleted its pod. Its
// program may then end with any code. Times of the cluster are whole seconds.
func isDeletedByOthers(job *batchv1.Job, pod *corev1.Pod, finished time.Time) bool {
	if pod.DeletionTimestamp == nil || job.Annotations[stoppedAnnotation] != "" {
		return false
	}

	deleted := pod.DeletionTimestamp.Time
	if pod.DeletionGracePeriodSeconds != nil { // the timestamp is the end of the grace period
		deleted = deleted.Add(-time.Duration(*pod.DeletionGracePeriodSeconds) * time.Second)
	}

	return !finished.Before(deleted)
}

// isEvictedForOwnUse reports whether the pod was evicted because it exceeded its own limits.
func isEvictedForOwnUse(pod *corev1.Pod) bool {
	return pod.Status.Reason == "Evicted" && disruption(pod) == nil
}

// disruption returns the condition with which the cluster ended a pod for a reason outside the pod, such as
// preemption, a drain, a lost node or a node under resource pressure. It returns nil if there is none.
func disruption(pod *corev1.Pod) *corev1.PodCondition {
	i := slices.IndexFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue
	})
	if i < 0 {
		return nil
	}

	return &pod.Status.Conditions[i]
}

// podReason returns the cluster's reason for a pod's end, as a suffix of a message.
func podReason(pod *corev1.Pod) string {
	var parts []string
	for _, part := range []string{pod.Status.Reason, pod.Status.Message} {
		if part != "" {
			parts = append(parts, part)
		}
	}

	if c := disruption(pod); c != nil && pod.Status.Reason == "" {
		parts = append(parts, c.Reason, c.Message)
	}

	if len(parts) == 0 {
		return ""
	}

	return ": " + strings.Join(parts, ": ")
}

func containerStatus(pod *corev1.Pod) *corev1.ContainerStatus {
	for i := range pod.Status.ContainerStatuses {
		if pod.Status.ContainerStatuses[i].Name == containerName {
			return &pod.Status.ContainerStatuses[i]
		}
	}

	return nil
}

func startTime(job *batchv1.Job) time.Time {
	at, err := time.Parse(time.RFC3339Nano, job.Annotations[startedAnnotation])
	if err != nil {
		return time.Time{}
	}

	return at
}
