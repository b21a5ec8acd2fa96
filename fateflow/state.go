package fateflow

import "hutong/bfia"

// The states of a task, or of a party's part of it, as FATE-Flow writes them.
const (
	Waiting = "waiting"
	Running = "running"
	Success = "success"
	Failed  = "failed"
)

// StateOf returns FATE-Flow's state for a task state. A stopped part counts as failed, as at FATE-Flow's own
// parties.
func StateOf(s bfia.TaskState) string {
	switch s {
	case bfia.TaskRunning:
		return Running
	case bfia.TaskSuccess:
		return Success
	case bfia.TaskFailed:
		return Failed
	}
	return Waiting
}

// ParseState returns the task state for one of FATE-Flow's states.
func ParseState(status string) (bfia.TaskState, error) {
	switch status {
	case Waiting, "ready":
		return bfia.TaskReady, nil
	case Running:
		return bfia.TaskRunning, nil
	case Success, "pass":
		return bfia.TaskSuccess, nil
	case Failed, "canceled", "timeout":
		return bfia.TaskFailed, nil
	}
	return "", bfia.Errorf(bfia.CodeBadRequest, "status: %q is none of waiting, running, success, failed",
		status)
}

// JobEnded reports whether a job of this FATE-Flow state has ended.
func JobEnded(status string) bool {
	switch status {
	case "canceled", "timeout", Failed, "pass", Success, "finished":
		return true
	}
	return false
}

// The codes that FATE-Flow's scheduler handles in their own way. All other codes are success (0) or failure
// to it.
const (
	// CodeInsufficient: the resources are not available now; the job stays queued.
	CodeInsufficient bfia.Code = 1005
	// CodeNeverAvailable: the resources will never be available; the job fails.
	CodeNeverAvailable bfia.Code = 1006
)
