package fateclient

import "hutong/bfia"

// The words for states that the pipeline knows. With any other word it asks for ever.
const (
	Waiting  = "waiting"
	Running  = "running"
	Success  = "success"
	Failed   = "failed"
	Canceled = "canceled"
)

// StatusOfJob returns the word for a job's state.
//
// FATE-Flow calls every finished BFIA job a success, even if its tasks failed. A party's outcome is the
// truth.
func StatusOfJob(state bfia.JobState, outcome bfia.Outcome) string {
	switch state {
	case bfia.JobRunning:
		return Running
	case bfia.JobRejected:
		return Failed
	case bfia.JobFinished:
		switch outcome {
		case bfia.OutcomeSuccess:
			return Success
		case bfia.OutcomeStopped:
			return Canceled
		}
		return Failed
	}
	return Waiting
}

// StatusOfTask returns the word for the state of a part of a task. stopped reports whether someone stopped
// the job.
func StatusOfTask(state bfia.TaskState, stopped bool) string {
	switch state {
	case bfia.TaskRunning:
		return Running
	case bfia.TaskSuccess:
		return Success
	case bfia.TaskFailed:
		if stopped {
			return Canceled
		}
		return Failed
	}
	return Waiting
}
