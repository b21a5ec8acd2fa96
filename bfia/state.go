package bfia

import (
	"encoding/json"
	"slices"
	"strings"
)

// JobState is the state of a job (part 2, 3.7). A job that was stopped, or whose task failed, is FINISHED
// too: its tasks say whether it succeeded.
type JobState string

// The states of a job. PENDING waits for approvals, READY is queued, REJECTED and FINISHED are terminal.
const (
	JobPending  JobState = "PENDING"
	JobReady    JobState = "READY"
	JobRejected JobState = "REJECTED"
	JobRunning  JobState = "RUNNING"
	JobFinished JobState = "FINISHED"
)

// UnmarshalJSON reads a state in any case, as FATE-Flow does: some containers and parties write them in lower
// case.
func (s *JobState) UnmarshalJSON(b []byte) error { return unmarshalUpper(b, s) }

// UnmarshalJSON reads a state in any case, as FATE-Flow does.
func (s *TaskState) UnmarshalJSON(b []byte) error { return unmarshalUpper(b, s) }

func unmarshalUpper[T ~string](b []byte, into *T) error {
	text := string(*into) // null leaves it as it is
	if err := json.Unmarshal(b, &text); err != nil {
		return err
	}
	*into = T(strings.ToUpper(text))
	return nil
}

// Terminal reports whether the state never changes again.
func (s JobState) Terminal() bool { return s == JobFinished || s == JobRejected }

// rank orders the states: a job only moves to a higher rank.
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

// Next returns the state after a report. A state only moves forward, and a terminal one never changes.
//
// A running job can't become REJECTED, only stopped. A READY job can: a participant that is READY knows of
// its own approval only. Unknown states change nothing.
func (s JobState) Next(reported JobState) JobState {
	if s.Terminal() || reported.rank() <= s.rank() {
		return s
	}
	if reported == JobRejected && s.rank() > JobReady.rank() {
		return s
	}
	return reported
}

// TaskState is the state of a task, or of one part of it (part 2, 3.8 and 3.9).
type TaskState string

// The states of a task. SUCCESS and FAILED are terminal.
const (
	TaskPending TaskState = "PENDING"
	TaskReady   TaskState = "READY"
	TaskRunning TaskState = "RUNNING"
	TaskSuccess TaskState = "SUCCESS"
	TaskFailed  TaskState = "FAILED"
)

// Terminal reports whether the state never changes again.
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

// Next returns the state after a report. A state only moves forward, and a terminal one never changes,
// whatever arrives late or twice. Unknown states change nothing.
func (s TaskState) Next(reported TaskState) TaskState {
	if s.Terminal() || reported.rank() <= s.rank() {
		return s
	}
	return reported
}

// ParseTaskState reads a state from the wire.
func ParseTaskState(s string) (TaskState, error) {
	if st := TaskState(strings.ToUpper(s)); st.rank() > 0 {
		return st, nil
	}
	return "", Errorf(CodeBadRequest, "status: %q is none of PENDING, READY, RUNNING, SUCCESS, FAILED", s)
}

// MergeTaskStates returns the state of a task from the states of its parts. The first of FAILED, RUNNING,
// READY and PENDING that a part has is the task's state. The task is SUCCESS only if all parts are. Unknown
// states count as PENDING. A task without parts is SUCCESS, since it has nothing to do.
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

// String returns the state for messages.
func (s JobState) String() string { return string(s) }

// String returns the state for messages.
func (s TaskState) String() string { return string(s) }

// Outcome is how a job ended. The state FINISHED does not show whether the job succeeded.
type Outcome string

// The outcomes of a job. A job that was not created at every party is REFUSED: it never existed.
const (
	OutcomeSuccess  Outcome = "SUCCESS"
	OutcomeFailed   Outcome = "FAILED"
	OutcomeStopped  Outcome = "STOPPED"
	OutcomeRejected Outcome = "REJECTED"
	OutcomeRefused  Outcome = "REFUSED"
)

// ParseOutcome reads the outcome of a job that is listed, which is never REFUSED.
func ParseOutcome(s string) (Outcome, error) {
	switch o := Outcome(s); o {
	case OutcomeSuccess, OutcomeFailed, OutcomeStopped, OutcomeRejected:
		return o, nil
	}
	return "", Errorf(CodeBadRequest, "outcome: %q is none of SUCCESS, FAILED, STOPPED, REJECTED", s)
}

// ParseJobState reads the state of a job.
func ParseJobState(s string) (JobState, error) {
	if state := JobState(s); state.rank() > 0 {
		return state, nil
	}
	return "", Errorf(CodeBadRequest,
		"job_status: %q is none of PENDING, READY, RUNNING, REJECTED, FINISHED", s)
}
