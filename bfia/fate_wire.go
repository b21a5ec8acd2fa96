package bfia

// FATE-Flow's own words for the state of a task, or of a party's part of it.
const (
	FateWaiting = "waiting"
	FateRunning = "running"
	FateSuccess = "success"
	FateFailed  = "failed"
)

// FateState is a state in FATE-Flow's words. What was stopped has failed: its own parties say the same.
func FateState(s TaskState) string {
	switch s {
	case TaskRunning:
		return FateRunning
	case TaskSuccess:
		return FateSuccess
	case TaskFailed:
		return FateFailed
	}
	return FateWaiting
}

// FateEnded tells whether a job of this state has ended, in FATE-Flow's words.
func FateEnded(status string) bool {
	switch status {
	case "canceled", "timeout", FateFailed, "pass", FateSuccess, "finished":
		return true
	}
	return false
}

// The codes by which FATE-Flow's scheduler tells answers apart; for all others than these it only knows success and failure.
const (
	// FateNoRoom: no room now; the job keeps waiting.
	FateNoRoom Code = 1005
	// FateNeverRoom: never; the job fails.
	FateNeverRoom Code = 1006
)

// FateReport tells FATE-Flow's scheduler the state of a party's part of a task, and is the data of task/collect.
type FateReport struct {
	JobID       string `json:"job_id"`
	TaskID      string `json:"task_id"`
	TaskVersion int    `json:"task_version"`
	Role        string `json:"role"`
	PartyID     string `json:"party_id"`
	Status      string `json:"status"`
}

// FateStop asks FATE-Flow's scheduler to stop a job.
type FateStop struct {
	JobID  string `json:"job_id"`
	Status string `json:"stop_status"` // in which the job is to end
}

// FateTaskID is FATE-Flow's id of a task, the same in all of its versions.
func FateTaskID(jobID, task string) string { return jobID + "_" + task }

// FateAttempt names a version of FATE-Flow's task as the protocol names an attempt. The first has FATE-Flow's own id; a
// further one has one of its own, which no other task's id can be: no name holds a '.'.
func FateAttempt(jobID, task string, version int) TaskRef {
	ref := TaskRef{JobID: jobID, TaskID: FateTaskID(jobID, task), TaskName: task}
	if version > 0 {
		ref.TaskID += ".v" + itoa(version)
		ref.Attempt = version + 1
	}
	return ref
}

// TaskStateOfFate reads a state in FATE-Flow's words.
func TaskStateOfFate(status string) (TaskState, error) {
	switch status {
	case FateWaiting, "ready":
		return TaskReady, nil
	case FateRunning:
		return TaskRunning, nil
	case FateSuccess, "pass":
		return TaskSuccess, nil
	case FateFailed, "canceled", "timeout":
		return TaskFailed, nil
	}
	return "", Errorf(CodeBadRequest, "status: %q is none of waiting, running, success, failed", status)
}
