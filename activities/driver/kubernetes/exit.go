package kubernetes

import (
	"fmt"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"hutong/activities/driver"
)

// notStarted tells whether it ended since its program could not be started.
func notStarted(e driver.Exit) bool {
	return e.StartedAt.IsZero() && (e.Code == driver.NotStartedExitCode || e.Code == driver.NotExecutableExitCode)
}

// endOf tells how a run ended, if it did; whether its Job must be suspended for it, lest it goes on or begins after all; and
// when time alone may change the answer.
func (k *Driver) endOf(s jobState, now time.Time) (exit driver.Exit, ended, suspend bool, wake time.Duration) {
	pod := s.pod()
	if pod == nil {
		exit = driver.Exit{FinishedAt: now.UTC(), StartedAt: startOf(s.job)}
		switch finished(s.job) {
		case batchv1.JobComplete:
			return exit, true, false, 0
		case batchv1.JobFailed:
			exit.Code, exit.Killed, exit.Reason = driver.UnknownExitCode, true, "its pod was deleted from the cluster, and nobody saw how it ended"
			return exit, true, false, 0
		}
		return exit, false, false, 0 // suspended, or about to have one
	}
	status := containerStatus(pod)
	exit = driver.Exit{FinishedAt: now.UTC()}
	if status != nil && status.State.Running != nil {
		exit.StartedAt = status.State.Running.StartedAt.UTC()
	}
	lost := func(reason string) (driver.Exit, bool, bool, time.Duration) {
		exit.Code, exit.Killed, exit.Reason = 128+9, true, reason+podReason(pod)
		return exit, true, true, 0
	}
	switch {
	case status != nil && status.State.Terminated != nil:
		return terminated(pod, status.State.Terminated), true, false, 0
	case pod.Status.Phase == corev1.PodFailed:
		if pod.Status.Reason == "Evicted" && !disrupted(pod) { // for what it used itself, beyond its limit
			exit.Code, exit.Reason = 128+9, "evicted"+podReason(pod)
			return exit, true, false, 0
		}
		return lost("its pod failed")
	case s.gone[pod.UID]:
		return lost("its pod was deleted")
	case pod.DeletionTimestamp != nil && pod.Spec.NodeName == "":
		exit.Code, exit.Killed, exit.Reason = driver.StoppedExitCode, true, "its pod was deleted before a node took it"
		return exit, true, true, 0
	case pod.DeletionTimestamp != nil:
		if left := pod.DeletionTimestamp.Add(k.opts.LostPatience).Sub(now); left > 0 {
			return exit, false, false, left
		}
		return lost("its node " + pod.Spec.NodeName + " does not answer")
	case status == nil || status.State.Waiting == nil:
		return exit, false, false, 0
	}
	failure, patience := startTrouble(*status.State.Waiting, k.opts.PullPatience)
	if failure == "" {
		return exit, false, false, 0
	}
	if left := pod.CreationTimestamp.Add(patience).Sub(now); left > 0 {
		return exit, false, false, left
	}
	exit.Code, exit.Reason = driver.NotStartedExitCode, driver.StartFailureReason(failure)
	return exit, true, true, 0
}

// startTrouble puts into words why a container waits, if that won't end by itself, and how long it is still given.
func startTrouble(w corev1.ContainerStateWaiting, pull time.Duration) (failure string, patience time.Duration) {
	switch w.Reason {
	case "InvalidImageName", "ErrImageNeverPull", "ImageInspectError", "SignatureValidationFailed":
		return "its image is of no use: " + w.Reason + ": " + w.Message, 0
	case "ErrImagePull", "ImagePullBackOff", "RegistryUnavailable":
		return "its image can't be pulled: " + w.Reason + ": " + w.Message, pull
	case "CreateContainerConfigError", "CreateContainerError", "RunContainerError":
		return w.Reason + ": " + w.Message, pull
	}
	return "", 0
}

func terminated(pod *corev1.Pod, t *corev1.ContainerStateTerminated) driver.Exit {
	exit := driver.Exit{Code: int(t.ExitCode), StartedAt: t.StartedAt.UTC(), FinishedAt: t.FinishedAt.UTC(), Reason: driver.ExitReason(int(t.ExitCode))}
	if t.StartedAt.Unix() <= 0 {
		exit.StartedAt = time.Time{}
	}
	if exit.FinishedAt.Before(exit.StartedAt) {
		exit.FinishedAt = exit.StartedAt
	}
	switch t.Reason {
	case "StartError", "ContainerCannotRun":
		// The code is the container runtime's own, 128 of most.
		return driver.Exit{Code: driver.NotStartedExitCode, Reason: driver.StartFailureReason(t.Message), FinishedAt: exit.FinishedAt}
	case "OOMKilled":
		exit.OOMKilled, exit.Reason = true, "out of memory"
		if limit := pod.Spec.Containers[0].Resources.Limits.Memory(); !limit.IsZero() {
			exit.Reason = fmt.Sprintf("out of memory: the limit is %d bytes", limit.Value())
		}
		return exit
	}
	if pod.Status.Reason == "Evicted" && !disrupted(pod) {
		exit.Reason = "evicted" + podReason(pod)
		return exit
	}
	exit.Killed = driver.IsKillCode(exit.Code) || exit.Code != 0 && disrupted(pod) || t.Reason == "ContainerStatusUnknown"
	if exit.Code != 0 {
		exit.Reason += podReason(pod)
	}
	return exit
}

// disrupted tells whether the cluster ended a pod for reasons of its own: preemption, a drain, a lost node, a node short of something.
func disrupted(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue
	})
}

// podReason is what the cluster says of a pod's end, to stand behind other words.
func podReason(pod *corev1.Pod) string {
	var words []string
	for _, word := range []string{pod.Status.Reason, pod.Status.Message} {
		if word != "" {
			words = append(words, word)
		}
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue && pod.Status.Reason == "" {
			words = append(words, c.Reason, c.Message)
		}
	}
	if len(words) == 0 {
		return ""
	}
	return ": " + strings.Join(words, ": ")
}

func containerStatus(pod *corev1.Pod) *corev1.ContainerStatus {
	for i := range pod.Status.ContainerStatuses {
		if pod.Status.ContainerStatuses[i].Name == k8sContainer {
			return &pod.Status.ContainerStatuses[i]
		}
	}
	return nil
}

func startOf(job *batchv1.Job) time.Time {
	at, err := time.Parse(time.RFC3339Nano, job.Annotations[k8sStarted])
	if err != nil {
		return time.Time{}
	}
	return at
}
