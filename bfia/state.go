package bfia

import "slices"

// JobState is the state of a job (part 2, 3.7). A job that was stopped, or whose task failed, is FINISHED:
// whether it went well is told by its tasks.
type JobState string

// The states of a job. PENDING waits for approvals, READY is queued, REJECTED and FINISHED are terminal.
const (
	JobPending  JobState = "PENDING"
	JobReady    JobState = "READY"
	JobRejected JobState = "REJECTED"
	JobRunning  JobState = "RUNNING"
	JobFinished JobState = "FINISHED"
)

// Terminal tells whether the state never changes again.
func (s JobState) Terminal() bool { return s == JobFinished || s == JobRejected }

// rank orders the states in which a job moves; it only ever moves up.
func (s JobState) rank() int {
	switch s {
	case JobPending:
		return 1
	case JobReady:
		return 2
	case JobRunning:
		return 3
	case JobRejected, JobFinished:
		return 4
	}
	return 0
}

// Next is the state after a report of reported: states only move forward, a terminal one stays, and what has begun can't
// be REJECTED any more. (A job of which all have approved is not REJECTED either; but a participant that is READY knows
// only of its own approval.) An unknown word changes nothing.
func (s JobState) Next(reported JobState) JobState {
	if s.Terminal() || reported.rank() <= s.rank() {
		return s
	}
	if reported == JobRejected && s.rank() > JobReady.rank() {
		return s // it can be stopped, not rejected
	}
	return reported
}

// TaskState is the state of a task, or of one role's part of it (part 2, 3.8 and 3.9).
type TaskState string

// The states of a task. SUCCESS and FAILED are terminal.
const (
	TaskPending TaskState = "PENDING"
	TaskReady   TaskState = "READY"
	TaskRunning TaskState = "RUNNING"
	TaskSuccess TaskState = "SUCCESS"
	TaskFailed  TaskState = "FAILED"
)

// Terminal tells whether the state never changes again.
func (s TaskState) Terminal() bool { return s == TaskSuccess || s == TaskFailed }

func (s TaskState) rank() int {
	switch s {
	case TaskPending:
		return 1
	case TaskReady:
		return 2
	case TaskRunning:
		return 3
	case TaskSuccess, TaskFailed:
		return 4
	}
	return 0
}

// Next is the state after a report of reported: states only move forward, and a terminal one stays, whatever comes
// late or twice. An unknown word changes nothing.
func (s TaskState) Next(reported TaskState) TaskState {
	if s.Terminal() || reported.rank() <= s.rank() {
		return s
	}
	return reported
}

// ParseTaskState reads a state from the wire.
func ParseTaskState(s string) (TaskState, error) {
	if st := TaskState(s); st.rank() > 0 {
		return st, nil
	}
	return "", Errorf(CodeBadRequest, "status: %q is none of PENDING, READY, RUNNING, SUCCESS, FAILED", s)
}

// MergeTaskStates is the state of a task whose parts are in the given states: any FAILED makes it FAILED, else any
// RUNNING, then READY, then PENDING; only all SUCCESS make it SUCCESS. An unknown word counts as PENDING. No parts at
// all is SUCCESS: there was nothing to do.
func MergeTaskStates(parts ...TaskState) TaskState {
	for _, state := range []TaskState{TaskFailed, TaskRunning, TaskReady} {
		if slices.Contains(parts, state) {
			return state
		}
	}
	if slices.ContainsFunc(parts, func(p TaskState) bool { return p != TaskSuccess }) {
		return TaskPending
	}
	return TaskSuccess
}

// String makes a state readable in messages.
func (s JobState) String() string { return string(s) }

// String makes a state readable in messages.
func (s TaskState) String() string { return string(s) }
